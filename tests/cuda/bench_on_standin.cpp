// The GPU's part of normuon_bench, on the stand-in: what it measures means nothing, but all of it runs.
#include <benchmark/benchmark.h>

#include <cstdio>

#include "bench/suites.hpp"

int main(int argc, char** argv) {
  try {
    normuon::bench::settings settings = normuon::bench::settings_from(argc, argv);
    settings.probe_elements = 4096;  // it is no device's rate anyway
    register_cublas(settings);
    benchmark::Initialize(&argc, argv);
    const bool none = benchmark::RunSpecifiedBenchmarks() == 0;
    if (*settings.skipped != 0) std::fprintf(stderr, "%td skipped, each with its reason\n", *settings.skipped);
    return none ? 1 : 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_on_standin: %s\n", e.what());
    return 1;
  }
}
