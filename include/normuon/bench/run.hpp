// The main function of a benchmark program.
#ifndef NORMUON_BENCH_RUN_HPP
#define NORMUON_BENCH_RUN_HPP

#include <benchmark/benchmark.h>

#include <concepts>
#include <cstdio>
#include <exception>

#include "normuon/bench/settings.hpp"

namespace normuon::bench {

inline void print_options() {
  std::printf(
      "options of the benchmarks themselves:\n"
      "          [--shapes=<m>x<n>[x<count>],...]   matrices of newton_schulz\n"
      "          [--threads=<n>,...]                of all three families\n"
      "          [--probe=<floats>]                 by which a device's rates are measured\n\n");
  benchmark::PrintDefaultHelp();
}

// Measures the backends that register_backends(settings) registers, by a program's arguments, and returns its exit
// status: 0, or 1 where an option is unknown or can't be read, the filter leaves nothing, or a benchmark has failed.
// What can't be measured here is skipped. Says why on the standard error.
template <class Register>
  requires std::invocable<Register&, const settings&>
int run(int argc, char** argv, Register&& register_backends) {
  try {
    const settings s = settings_from(argc, argv);
    register_backends(s);
    benchmark::Initialize(&argc, argv, print_options);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    const bool none = benchmark::RunSpecifiedBenchmarks() == 0;
    benchmark::Shutdown();
    if (*s.skipped != 0) std::fprintf(stderr, "%td skipped, each with its reason\n", *s.skipped);
    if (*s.failed != 0) std::fprintf(stderr, "%td failed, each with its reason\n", *s.failed);
    return none || *s.failed != 0 ? 1 : 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 1;
  }
}

}  // namespace normuon::bench

#endif
