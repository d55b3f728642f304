// The GPU's part of normuon_bench, on the stand-in: what it measures means nothing, but all of it runs.
#include "bench/suites.hpp"
#include "normuon/bench/run.hpp"

int main(int argc, char** argv) {
  return normuon::bench::run(argc, argv, [](normuon::bench::settings settings) {
    settings.probe_elements = 4096;  // it is no device's rate anyway
    register_cublas(settings);
  });
}
