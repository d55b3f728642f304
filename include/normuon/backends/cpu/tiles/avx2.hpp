// The packed kernel for AVX2 and FMA: 4 x 24 floats, twelve sums in the sixteen registers.
#ifndef NORMUON_BACKENDS_CPU_TILES_AVX2_HPP
#define NORMUON_BACKENDS_CPU_TILES_AVX2_HPP

#include <immintrin.h>

#include "normuon/backends/cpu/tiles/tile.hpp"

namespace normuon {

struct avx2_tile : float_tile<8, 4, 3> {
  static constexpr const char* name = "avx2";

  static void product(float* tile, index_t cells, const float* left, const float* right, index_t stride, index_t count,
                      bool adds) {
    if (count == 3) product_of<3>(tile, cells, left, right, stride, adds);
    else if (count == 2) product_of<2>(tile, cells, left, right, stride, adds);
    else product_of<1>(tile, cells, left, right, stride, adds);
  }

  [[gnu::target("avx2,fma")]] static void combine(float* tile, float alpha, float beta, const float* right,
                                                  index_t stride, index_t count) {
    const __m256 a = _mm256_set1_ps(alpha), b = _mm256_set1_ps(beta);
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; ++i)
        _mm256_storeu_ps(tile + i * columns, _mm256_fmadd_ps(a, _mm256_loadu_ps(tile + i * columns),
                                                             _mm256_mul_ps(b, _mm256_loadu_ps(right + i * width))));
  }

  // Four rows of four floats at a time, transposed.
  [[gnu::target("avx2,fma")]] static void pack_across(float* across, const float* tile, index_t count) {
    for (index_t j = 0; j < count * width; j += 4, tile += 4, across += 4 * width) {
      __m128 r0 = _mm_loadu_ps(tile), r1 = _mm_loadu_ps(tile + columns);
      __m128 r2 = _mm_loadu_ps(tile + 2 * columns), r3 = _mm_loadu_ps(tile + 3 * columns);
      _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
      _mm_storeu_ps(across, r0);
      _mm_storeu_ps(across + width, r1);
      _mm_storeu_ps(across + 2 * width, r2);
      _mm_storeu_ps(across + 3 * width, r3);
    }
  }

 private:
  template <index_t Count>
  [[gnu::target("avx2,fma")]] static void product_of(float* tile, index_t cells, const float* left, const float* right,
                                                     index_t stride, bool adds) {
    __m256 sums[rows][std::size_t{Count}];
#pragma GCC unroll 4
    for (index_t i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h)
        sums[i][h] = adds ? _mm256_loadu_ps(tile + i * columns + h * width) : _mm256_setzero_ps();
    for (; cells > 0; --cells, left += width, right += width) {
      __m256 b[std::size_t{Count}];
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) b[h] = _mm256_loadu_ps(right + h * stride);
#pragma GCC unroll 4
      for (index_t i = 0; i < rows; ++i) {
        const __m256 a = _mm256_broadcast_ss(left + i);
#pragma GCC unroll 3
        for (index_t h = 0; h < Count; ++h) sums[i][h] = _mm256_fmadd_ps(a, b[h], sums[i][h]);
      }
    }
#pragma GCC unroll 4
    for (index_t i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) _mm256_storeu_ps(tile + i * columns + h * width, sums[i][h]);
  }
};

}  // namespace normuon

#endif
