// A benchmark program for a backend of one's own, as docs/benchmarks.md prints it: here the one of the examples.
#include <normuon/bench/register_backend.hpp>

#include "02_custom_backend.hpp"

int main(int argc, char** argv) {
  return normuon::bench::run(argc, argv, [](const normuon::bench::settings& settings) {
    const auto make = [](int threads) { return plain_backend({.threads = threads}); };
    normuon::bench::register_backend<plain_backend>("mine", make, settings);
  });
}
