// What all benchmarks share: how one is registered and timed, the counters, and memory full of random numbers.
#ifndef NORMUON_BENCH_MEASURE_HPP
#define NORMUON_BENCH_MEASURE_HPP

#include <benchmark/benchmark.h>

#include <functional>
#include <optional>
#include <string>

#include "normuon/bench/settings.hpp"
#include "normuon/bench/work.hpp"
#include "normuon/math/random.hpp"

namespace normuon::bench {

// Registers body(state) under a name. An exception in it is an error of that benchmark alone, which has no time then.
template <class Body>
void add_benchmark(const std::string& name, const settings& s, Body&& body) {
  const auto guarded = [body, missing = s.missing, skipped = s.skipped, failed = s.failed](benchmark::State& state) {
    if (!missing.empty()) return ++*skipped, state.SkipWithError(missing.c_str());
    try {
      body(state);
    } catch (const std::exception& e) {
      ++*failed;
      state.SkipWithError(e.what());
    }
  };
  benchmark::internal::Benchmark* const made = benchmark::RegisterBenchmark(name.c_str(), guarded);
  made->Unit(benchmark::kMillisecond);
  // Work is done by threads of the backend's own, so only the time on the wall tells; or by a device, which has a
  // clock.
  if (s.device_seconds) made->UseManualTime();
  else made->UseRealTime();
}

// One more than a name: "a/b".
template <class... Parts>
std::string path_of(std::string_view first, const Parts&... parts) {
  std::string name(first);
  ((name += '/', name += parts), ...);
  return name;
}

// The seconds of one call of f, until it is done: wait() is called behind each; or, by a device's own clock, of one
// among many that follow each other.
template <class F, class Wait>
double time_of(benchmark::State& state, const settings& s, F&& f, Wait&& wait) {
  constexpr benchmark::IterationCount many = 8;
  double seconds = 0;
  if (s.device_seconds) {
    while (state.KeepRunningBatch(many)) {
      const double part = s.device_seconds([&] {
        for (benchmark::IterationCount k = 0; k < many; ++k) f();
      });
      state.SetIterationTime(part);
      seconds += part;
    }
  } else {
    const clock::time_point start = clock::now();
    for (auto _ : state) f(), wait();
    seconds = seconds_since(start);
  }
  return seconds / static_cast<double>(state.iterations());
}

// How many inputs of so many bytes take turns.
inline index_t inputs_in_turn(const settings& s, std::size_t bytes) {
  constexpr std::size_t most = 512;
  return static_cast<index_t>(std::clamp<std::size_t>(s.rotated_bytes / std::max<std::size_t>(bytes, 1), 1, most));
}

// An act that is done again and again: recorded once, where the backend can, as a step is. Done once before, so that
// all memory is there.
template <tensor_backend B>
class repeated {
 public:
  template <class Act>
  repeated(B& b, Act&& act) : act_(act) {
    act(b);
    if constexpr (has_capture<B>) program_.emplace(b.record(act));
  }
  void operator()(B& b) {
    if constexpr (has_capture<B>) b.replay(*program_);
    else act_(b);
  }

 private:
  template <class T>
  struct program_of {
    using type = char;  // of a backend that can't record
  };
  template <has_capture T>
  struct program_of<T> {
    using type = typename T::program;
  };

  std::function<void(B&)> act_;
  std::optional<typename program_of<B>::type> program_;
};

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

// Number k of an endless list of numbers that are uniform in [-1, 1).
constexpr float uniform_number(std::uint64_t k) { return static_cast<float>(splitmix(0, k) >> 40) * 0x1p-23F - 1; }

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
  for (const compute_type type : {compute_type::float64, compute_type::float32, compute_type::bfloat16,
                                  compute_type::float16, compute_type::tensor_float32})
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
