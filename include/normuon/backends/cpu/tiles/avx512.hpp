// The packed kernels for AVX-512: 8 x 48, 24 sums in the 32 registers, on floats and on pairs of bfloat16.
#ifndef NORMUON_BACKENDS_CPU_TILES_AVX512_HPP
#define NORMUON_BACKENDS_CPU_TILES_AVX512_HPP

#include <immintrin.h>

#include "normuon/backends/cpu/tiles/tile.hpp"

namespace normuon {

// to[j * stride + i] <- from[i * 8 + j] for an 8 x 8 block of 32-bit cells.
[[gnu::target("avx512f")]] inline void transpose_cells(void* to, index_t stride, const void* from) {
  __m256i r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_si256(static_cast<const __m256i*>(from) + i);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  auto* const out = static_cast<std::uint32_t*>(to);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j * stride), _mm256_permute2x128_si256(r[j], r[j + 4], 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (j + 4) * stride),
                        _mm256_permute2x128_si256(r[j], r[j + 4], 0x31));
  }
}

// to[j] <- what rounding to bfloat16 takes from numbers j of two rows.
[[gnu::target("avx512f,avx512vl,avx512bf16")]] inline void pack_remainders(bfloat16_pair* to, const float* row0,
                                                                           const float* row1) {
  const __mmask16 all = 0xffff;  // g++ 12 warns of the forms without a mask
  __m512i bits[2];
#pragma GCC unroll 2
  for (int k = 0; k < 2; ++k) {
    const __m512 x = _mm512_loadu_ps(k == 0 ? row0 : row1);
    const __m512i rounded = _mm512_maskz_cvtepu16_epi32(all, (__m256i)_mm512_cvtneps_pbh(x));
    const __m512 taken = _mm512_maskz_sub_ps(all, x, _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all, rounded, 16)));
    bits[k] = _mm512_maskz_cvtepu16_epi32(all, (__m256i)_mm512_cvtneps_pbh(taken));
  }
  _mm512_storeu_si512(to, _mm512_or_si512(bits[0], _mm512_maskz_slli_epi32(all, bits[1], 16)));
}

struct avx512_tile : float_tile<16, 8, 3> {
  static constexpr const char* name = "avx512";

  static void product(float* tile, index_t cells, const float* left, const float* right, index_t stride, index_t count,
                      bool adds) {
    if (count == 3) product_of<3>(tile, cells, left, right, stride, adds);
    else if (count == 2) product_of<2>(tile, cells, left, right, stride, adds);
    else product_of<1>(tile, cells, left, right, stride, adds);
  }

  [[gnu::target("avx512f")]] static void combine(float* tile, float alpha, float beta, const float* right,
                                                 index_t stride, index_t count) {
    const __m512 a = _mm512_set1_ps(alpha), b = _mm512_set1_ps(beta);
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; ++i)
        _mm512_storeu_ps(tile + i * columns, _mm512_fmadd_ps(a, _mm512_loadu_ps(tile + i * columns),
                                                             _mm512_mul_ps(b, _mm512_loadu_ps(right + i * width))));
  }

  [[gnu::target("avx512f")]] static void pack_across(float* across, const float* tile, index_t count) {
    alignas(64) float block[8 * 8];
    for (index_t j = 0; j < count * width; j += 8, tile += 8, across += 8 * width) {
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) _mm256_store_ps(block + 8 * i, _mm256_loadu_ps(tile + i * columns));
      transpose_cells(across, width, block);
    }
  }

 private:
  // sums += *left b. A number that is broadcast within each instruction spares an instruction, for more loads: done to
  // two rows in eight it is faster by a tenth where the core feeds another thread as well (docs/results.md).
  template <index_t Count>
  [[gnu::target("avx512f"), gnu::always_inline]] static void add_products(__m512* sums, const float* left,
                                                                          const __m512* b, bool within) {
    if (within) {
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h)
        asm("vfmadd231ps {%2%{1to16%}, %1, %0|%0, %1, %2%{1to16%}}" : "+v"(sums[h]) : "v"(b[h]), "m"(*left));
    } else {
      const __m512 a = _mm512_set1_ps(*left);
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) sums[h] = _mm512_fmadd_ps(a, b[h], sums[h]);
    }
  }

  template <index_t Count>
  [[gnu::target("avx512f")]] static void product_of(float* tile, index_t cells, const float* left, const float* right,
                                                    index_t stride, bool adds) {
    __m512 sums[rows][std::size_t{Count}];
#pragma GCC unroll 8
    for (index_t i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h)
        sums[i][h] = adds ? _mm512_loadu_ps(tile + i * columns + h * width) : _mm512_setzero_ps();
    const float* panel[std::size_t{Count}];
#pragma GCC unroll 3
    for (index_t h = 0; h < Count; ++h) panel[h] = right + h * stride;
    for (; cells > 0; cells -= 4, left += 4 * width) {
      // Left alone, clang++ addresses by an index, and Intel's processors then split what is loaded within from its
      // use.
      asm("" : "+r"(left));
#pragma GCC unroll 4
      for (index_t q = 0; q < 4; ++q) {
        __m512 b[std::size_t{Count}];
#pragma GCC unroll 3
        for (index_t h = 0; h < Count; ++h) b[h] = _mm512_loadu_ps(panel[h] + q * width);
#pragma GCC unroll 8
        for (index_t i = 0; i < rows; ++i) add_products<Count>(sums[i], left + q * width + i, b, i % 4 == 3);
      }
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) panel[h] += 4 * width;
    }
#pragma GCC unroll 8
    for (index_t i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) _mm512_storeu_ps(tile + i * columns + h * width, sums[i][h]);
  }
};

// Two products an instruction and lane (vdpbf16ps); subnormal numbers count as zero in it, and when a float is rounded.
struct avx512_bf16_tile {
  using cell = bfloat16_pair;
  struct registers {};
  static constexpr index_t depth = 2, width = 16, rows = 8, panels = 3, columns = panels * width;
  static constexpr bool has_one_form = false;
  static constexpr const char* name = "avx512_bf16";

  static index_t cells_at_once() { return cells_in_first_level(); }
  static float number(cell c, index_t k) {
    return std::bit_cast<float>(k % 2 == 0 ? c.bits << 16 : c.bits & 0xffff0000U);
  }
  static cell with_number(cell c, index_t k, float x) {
    const auto rounded = static_cast<std::uint32_t>(std::bit_cast<std::uint16_t>(bfloat16(x)));
    return {k % 2 == 0 ? (c.bits & 0xffff0000U) | rounded : (c.bits & 0xffffU) | rounded << 16};
  }

  static void product(float* tile, index_t cells, const cell* left, const cell* right, index_t stride, index_t count,
                      bool adds) {
    if (count == 3) product_of<3>(tile, cells, left, right, stride, adds);
    else if (count == 2) product_of<2>(tile, cells, left, right, stride, adds);
    else product_of<1>(tile, cells, left, right, stride, adds);
  }

  [[gnu::target("avx512f")]] static void combine(float* tile, float alpha, float beta, const cell* right,
                                                 index_t stride, index_t count) {
    const __m512 a = _mm512_set1_ps(alpha), b = _mm512_set1_ps(beta);
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
    const __mmask16 all = 0xffff;  // g++ 12 warns of the forms without a mask
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; i += 2) {
        const __m512i pair = _mm512_loadu_si512(right + i / 2 * width);
        const __m512 c0 = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all, pair, 16));
        const __m512 c1 = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
        float* const t0 = tile + i * columns;
        float* const t1 = t0 + columns;
        _mm512_storeu_ps(t0, _mm512_fmadd_ps(a, _mm512_loadu_ps(t0), _mm512_mul_ps(b, c0)));
        _mm512_storeu_ps(t1, _mm512_fmadd_ps(a, _mm512_loadu_ps(t1), _mm512_mul_ps(b, c1)));
      }
  }

  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_right(cell* right, index_t stride, const float* tile,
                                                                        index_t count) {
    const __mmask16 all = 0xffff;
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; i += 2) {
        const auto r0 = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + i * columns));
        const auto r1 = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + (i + 1) * columns));
        const __m512i low = _mm512_maskz_cvtepu16_epi32(all, r0);
        const __m512i high = _mm512_maskz_slli_epi32(all, _mm512_maskz_cvtepu16_epi32(all, r1), 16);
        _mm512_storeu_si512(right + i / 2 * width, _mm512_or_si512(low, high));
      }
  }

  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_remainder(cell* right, index_t stride,
                                                                            const float* tile, index_t count) {
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; i += 2)
        pack_remainders(right + i / 2 * width, tile + i * columns, tile + (i + 1) * columns);
  }

  // 16 columns are eight cells a row.
  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_across(cell* across, const float* tile,
                                                                         index_t count) {
    alignas(64) __m256i block[8];
    for (index_t h = 0; h < count; ++h, tile += width, across += 8 * width) {
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) block[i] = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + i * columns));
      transpose_cells(across, width, block);
    }
  }

 private:
  template <index_t Count>
  [[gnu::target("avx512f,avx512bf16")]] static void product_of(float* tile, index_t cells, const cell* left,
                                                               const cell* right, index_t stride, bool adds) {
    __m512 sums[rows][std::size_t{Count}];
#pragma GCC unroll 8
    for (index_t i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h)
        sums[i][h] = adds ? _mm512_loadu_ps(tile + i * columns + h * width) : _mm512_setzero_ps();
    for (; cells > 0; --cells, left += width, right += width) {
      __m512i b[std::size_t{Count}];
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) b[h] = _mm512_loadu_si512(right + h * stride);
#pragma GCC unroll 8
      for (index_t i = 0; i < rows; ++i) {
        const __m512i a = _mm512_set1_epi32(static_cast<int>(left[i].bits));
#pragma GCC unroll 3
        for (index_t h = 0; h < Count; ++h) sums[i][h] = _mm512_dpbf16_ps(sums[i][h], (__m512bh)a, (__m512bh)b[h]);
      }
    }
#pragma GCC unroll 8
    for (index_t i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (index_t h = 0; h < Count; ++h) _mm512_storeu_ps(tile + i * columns + h * width, sums[i][h]);
  }
};

}  // namespace normuon

#endif
