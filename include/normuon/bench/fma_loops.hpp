// Loops of multiply-adds on registers alone, one for each unit that products are made of. Each does `rounds` rounds
// of as many independent sums as hide the latency, and returns something of them, so that it can't be left out.
#ifndef NORMUON_BENCH_FMA_LOOPS_HPP
#define NORMUON_BENCH_FMA_LOOPS_HPP

#include "normuon/backends/cpu/dispatch.hpp"

namespace normuon::bench {

// FLOP of a round of the loop below that has its name.
struct flop_per_round {
  static constexpr double amx_bf16 = 4 * 16 * 16 * 32 * 2;
  static constexpr double avx512_float = 24 * 16 * 2, avx512_double = 24 * 8 * 2, avx512_bf16 = 24 * 32 * 2;
  static constexpr double avx2_float = 12 * 8 * 2, avx2_double = 12 * 4 * 2;
  static constexpr double portable_float = 8 * 4 * 2, portable_double = 8 * 2 * 2;
};

// Every sum begins elsewhere, so that none can be left out as equal to another; none overflows or becomes subnormal.
#if defined(__x86_64__)
[[gnu::target("avx512f")]] inline double avx512_float_loop(index_t rounds) {
  __m512 sums[24];
  const __m512 half = _mm512_set1_ps(0.5F);
  for (int j = 0; j < 24; ++j) sums[j] = _mm512_set1_ps(static_cast<float>(j));
  for (; rounds > 0; --rounds)
#pragma GCC unroll 24
    for (int j = 0; j < 24; ++j) sums[j] = _mm512_fmadd_ps(sums[j], half, half);
  float lanes[16], sum = 0;
  for (int j = 0; j < 24; ++j) _mm512_storeu_ps(lanes, sums[j]), sum += lanes[0];
  return static_cast<double>(sum);
}

[[gnu::target("avx512f")]] inline double avx512_double_loop(index_t rounds) {
  __m512d sums[24];
  const __m512d half = _mm512_set1_pd(0.5);
  for (int j = 0; j < 24; ++j) sums[j] = _mm512_set1_pd(j);
  for (; rounds > 0; --rounds)
#pragma GCC unroll 24
    for (int j = 0; j < 24; ++j) sums[j] = _mm512_fmadd_pd(sums[j], half, half);
  double lanes[8], sum = 0;
  for (int j = 0; j < 24; ++j) _mm512_storeu_pd(lanes, sums[j]), sum += lanes[0];
  return sum;
}

// Two products are added to each sum.
[[gnu::target("avx512f,avx512bf16")]] inline double avx512_bf16_loop(index_t rounds) {
  __m512 sums[24];
  const __m512i halves = _mm512_set1_epi32(0x3f003f00);
  for (int j = 0; j < 24; ++j) sums[j] = _mm512_set1_ps(static_cast<float>(j));
  for (; rounds > 0; --rounds)
#pragma GCC unroll 24
    for (int j = 0; j < 24; ++j) sums[j] = _mm512_dpbf16_ps(sums[j], (__m512bh)halves, (__m512bh)halves);
  float lanes[16], sum = 0;
  for (int j = 0; j < 24; ++j) _mm512_storeu_ps(lanes, sums[j]), sum += lanes[0];
  return static_cast<double>(sum);
}

// Four accumulators of 16 x 16. Numbers are not all alike: how fast the unit may run depends on what it multiplies.
[[gnu::target("amx-tile,amx-bf16")]] inline double amx_loop(index_t rounds) {
  alignas(64) bfloat16_pair numbers[4][256];
  std::uint32_t random = 1;
  for (auto& tile : numbers)
    for (bfloat16_pair& pair : tile) {
      random = random * 1664525U + 1013904223U;               // Numerical Recipes
      pair.bits = 0x3f003f00U | (random >> 8 & 0x807f807fU);  // of either sign, 0.5 to 1
    }
  const amx_instructions::registers registers;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  asm volatile("" ::: "memory");  // g++ 12 does not know that the next instructions read memory
  _tile_loadd(4, numbers[0], 64);
  _tile_loadd(5, numbers[1], 64);
  _tile_loadd(6, numbers[2], 64);
  _tile_loadd(7, numbers[3], 64);
  for (; rounds > 0; --rounds) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  float sums[256], sum = 0;
  _tile_stored(0, sums, 64);
  sum += sums[0];
  _tile_stored(1, sums, 64);
  sum += sums[0];
  _tile_stored(2, sums, 64);
  sum += sums[0];
  _tile_stored(3, sums, 64);
  return static_cast<double>(sum + sums[0]);
}

[[gnu::target("avx2,fma")]] inline double avx2_float_loop(index_t rounds) {
  __m256 sums[12];
  const __m256 half = _mm256_set1_ps(0.5F);
  for (int j = 0; j < 12; ++j) sums[j] = _mm256_set1_ps(static_cast<float>(j));
  for (; rounds > 0; --rounds)
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sums[j] = _mm256_fmadd_ps(sums[j], half, half);
  float lanes[8], sum = 0;
  for (int j = 0; j < 12; ++j) _mm256_storeu_ps(lanes, sums[j]), sum += lanes[0];
  return static_cast<double>(sum);
}

[[gnu::target("avx2,fma")]] inline double avx2_double_loop(index_t rounds) {
  __m256d sums[12];
  const __m256d half = _mm256_set1_pd(0.5);
  for (int j = 0; j < 12; ++j) sums[j] = _mm256_set1_pd(j);
  for (; rounds > 0; --rounds)
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sums[j] = _mm256_fmadd_pd(sums[j], half, half);
  double lanes[4], sum = 0;
  for (int j = 0; j < 12; ++j) _mm256_storeu_pd(lanes, sums[j]), sum += lanes[0];
  return sum;
}
#endif

// Vectors of 16 bytes, which the compiler maps to what there is; where it has no fused instruction, a product and a
// sum.
template <class T>
double portable_loop(index_t rounds) {
  typedef T vector __attribute__((vector_size(16)));  // `using` would lose the attribute in a template
  vector sums[8];
  for (int j = 0; j < 8; ++j) sums[j] = vector{} + static_cast<T>(j);
  for (; rounds > 0; --rounds)
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) sums[j] = sums[j] * T(0.5) + T(0.5);
  double sum = 0;
  for (int j = 0; j < 8; ++j) sum += static_cast<double>(sums[j][0]);
  return sum;
}

}  // namespace normuon::bench

#endif
