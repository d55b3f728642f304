// What the machine can do at most, measured once in the process that benchmarks: products of a type, and bytes.
#ifndef NORMUON_BENCH_MACHINE_HPP
#define NORMUON_BENCH_MACHINE_HPP

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <vector>

#include "normuon/backends/cpu/host_memory.hpp"
#include "normuon/backends/cpu/vectorized.hpp"
#include "normuon/bench/fma_loops.hpp"

namespace normuon::bench {

using clock = std::chrono::steady_clock;

inline double seconds_since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

// The best rate, in units a second, of `threads` threads that each do amount(rounds) units in task(thread, rounds).
// Samples of 20 ms, long against the start of threads; the best of seven, as other programs only take away.
template <class Amount, class Task>
double best_rate(int threads, Amount&& amount, Task&& task) {
  const auto seconds = [&](index_t rounds) {
    const clock::time_point start = clock::now();
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back([&, thread] { task(thread, rounds); });
    task(0, rounds);
    for (std::thread& other : others) other.join();
    return seconds_since(start);
  };
  index_t rounds = 1;
  while (seconds(rounds) < 0.02) rounds *= 2;
  double best = 0;
  for (int sample = 0; sample < 7; ++sample) best = std::max(best, threads * amount(rounds) / seconds(rounds));
  return best;
}

// FLOP/s of products in the type, by the fastest loop that the processor has for it: bfloat16 may be computed in
// float32.
inline double measured_product_peak(compute_type type, int threads) {
  double best = 0;
  const auto probe = [&](double flop, double (*loop)(index_t)) {
    best = std::max(best, best_rate(
                              threads, [&](index_t rounds) { return flop * static_cast<double>(rounds); },
                              [&](index_t, index_t rounds) {
                                volatile double kept = loop(rounds);
                                static_cast<void>(kept);
                              }));
  };
  using flop = flop_per_round;
  const bool is_double = type == compute_type::float64;
  if (is_double) probe(flop::portable_double, portable_loop<double>);
  else probe(flop::portable_float, portable_loop<float>);
#if defined(__x86_64__)
  const processor& p = this_processor();
  if (p.runs(cpu_path::avx2))
    probe(is_double ? flop::avx2_double : flop::avx2_float, is_double ? avx2_double_loop : avx2_float_loop);
  if (p.runs(cpu_path::avx512))
    probe(is_double ? flop::avx512_double : flop::avx512_float, is_double ? avx512_double_loop : avx512_float_loop);
  if (type == compute_type::bfloat16 && p.runs(cpu_path::avx512_bf16)) probe(flop::avx512_bf16, avx512_bf16_loop);
  if (type == compute_type::bfloat16 && p.runs(cpu_path::amx)) probe(flop::amx_bf16, amx_loop);
#endif
  return best;
}

// a <- b + 3 c, n floats of each.
inline void triad_loop(float* a, const float* b, const float* c, index_t n) {
  vectorized([=] {
    for (index_t i = 0; i < n; ++i) a[i] = b[i] + 3 * c[i];
  });
}

// Bytes/s of a STREAM triad (McCalpin, cs.virginia.edu/stream) whose three arrays together are `bytes` large: of a
// cache, where they fit into one. Each thread has a part of its own; a write counts once, as in STREAM.
inline double measured_triad(std::size_t bytes, int threads) {
  const auto floats = static_cast<index_t>(bytes / (3 * sizeof(float)));
  const index_t part = std::max<index_t>(16, floats / threads / 16 * 16);  // whole cache lines
  host_memory memory[3];
  for (host_memory& m : memory) m = host_memory(static_cast<std::size_t>(part * threads) * sizeof(float));
  float* const a = reinterpret_cast<float*>(memory[0].data());
  const float* const b = reinterpret_cast<const float*>(memory[1].data());
  const float* const c = reinterpret_cast<const float*>(memory[2].data());
  const double moved = static_cast<double>(part) * 3 * sizeof(float);
  return best_rate(
      threads, [&](index_t rounds) { return moved * static_cast<double>(rounds); },
      [&](index_t thread, index_t rounds) {
        const index_t first = thread * part;
        for (; rounds > 0; --rounds) triad_loop(a + first, b + first, c + first, part);
      });
}

// The same, measured when it is first asked for.
inline double product_peak(compute_type type, int threads) {
  static std::map<std::pair<compute_type, int>, double> known;
  const auto [place, is_new] = known.try_emplace({type, threads});
  if (is_new) place->second = measured_product_peak(type, threads);
  return place->second;
}

inline double triad(std::size_t bytes, int threads) {
  static std::map<std::pair<std::size_t, int>, double> known;
  const auto [place, is_new] = known.try_emplace({bytes, threads});
  if (is_new) place->second = measured_triad(bytes, threads);
  return place->second;
}

}  // namespace normuon::bench

#endif
