// A benchmark program for a backend of one's own, as docs/benchmarks.md prints it: here the one of the examples.
#include <normuon/bench/register_backend.hpp>

#include "02_custom_backend.hpp"

int main(int argc, char** argv) {
  const auto settings = normuon::bench::settings_from(argc, argv);
  const auto make = [](int threads) { return plain_backend({.threads = threads}); };
  normuon::bench::register_backend<plain_backend>("plain", make, settings);
  benchmark::Initialize(&argc, argv);
  return benchmark::RunSpecifiedBenchmarks() == 0;
}
