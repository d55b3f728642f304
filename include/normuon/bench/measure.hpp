// What all benchmarks share: how one is registered and timed, the counters, and memory full of random numbers.
#ifndef NORMUON_BENCH_MEASURE_HPP
#define NORMUON_BENCH_MEASURE_HPP

#include <benchmark/benchmark.h>

#include <string>

#include "normuon/bench/settings.hpp"
#include "normuon/bench/work.hpp"

namespace normuon::bench {

// Registers body(state) under a name. An exception in it is an error of that benchmark alone.
template <class Body>
void add_benchmark(const std::string& name, Body&& body) {
  const auto guarded = [body](benchmark::State& state) {
    try {
      body(state);
    } catch (const std::exception& e) {
      state.SkipWithError(e.what());
    }
  };
  // Work is done by threads of the backend's own, so only the time on the wall tells.
  benchmark::RegisterBenchmark(name.c_str(), guarded)->UseRealTime()->Unit(benchmark::kMillisecond);
}

// One more than a name: "a/b".
template <class... Parts>
std::string path_of(std::string_view first, const Parts&... parts) {
  std::string name(first);
  ((name += '/', name += parts), ...);
  return name;
}

// The seconds of one iteration of f.
template <class F>
double time_of(benchmark::State& state, F&& f) {
  const clock::time_point start = clock::now();
  for (auto _ : state) f();
  return seconds_since(start) / static_cast<double>(state.iterations());
}

// FLOP/s, and of the machine's peak.
inline void count_flops(benchmark::State& state, double flop, double seconds, double peak) {
  state.counters["flops"] = benchmark::Counter(flop, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_peak"] = flop / seconds / peak;
}

// Bytes/s, and of the machine's triad.
inline void count_bytes(benchmark::State& state, double bytes, double seconds, double bandwidth) {
  state.counters["bytes"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_triad"] = bytes / seconds / bandwidth;
}

inline void count_memory(benchmark::State& state, const std::string& what, std::size_t bytes) {
  state.counters[what] = static_cast<double>(bytes);
}

// Number k of an endless list of numbers that are uniform in [-1, 1): splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
constexpr float uniform_number(std::uint64_t k) {
  std::uint64_t z = (k + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<float>(z >> 40) * 0x1p-23F - 1;
}

// `count` reals in the backend's memory, beginning with number `first` of that list.
template <tensor_backend B>
typename B::memory random_reals(B& b, index_t count, std::uint64_t first) {
  using real = typename B::real;
  typename B::memory memory = b.allocate(static_cast<std::size_t>(count) * sizeof(real));
  std::vector<real> part(static_cast<std::size_t>(std::min<index_t>(count, 1 << 20)));
  for (index_t done = 0; done < count;) {
    const index_t n = std::min(count - done, static_cast<index_t>(part.size()));
    for (index_t k = 0; k < n; ++k)
      part[static_cast<std::size_t>(k)] = uniform_number(first + static_cast<std::uint64_t>(done + k));
    b.write(address_of<real>(memory.data()) + done, part.data(), static_cast<std::size_t>(n) * sizeof(real));
    done += n;
  }
  return memory;
}

// The types whose iteration is benchmarked: the backend's own, and the narrow ones that it has.
template <tensor_backend B>
std::vector<compute_type> compute_types() {
  std::vector<compute_type> types;
  for (const compute_type type : {compute_type::float64, compute_type::float32, compute_type::bfloat16})
    if (B::computes(type) && (type != compute_type::float64 || B::default_compute() == type)) types.push_back(type);
  return types;
}

// A backend without workers does not know of threads.
template <tensor_backend B>
std::vector<int> thread_counts(const settings& s) {
  if constexpr (has_workers<B>) return s.threads;
  else return {1};
}

}  // namespace normuon::bench

#endif
