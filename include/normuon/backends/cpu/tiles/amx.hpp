// The packed kernel for AMX: 32 x 32, four accumulators of 16 x 16, on pairs of bfloat16. An instruction multiplies 16
// x 32 by 32 x 16 numbers. `Instructions` are the processor's, or in tests an emulation of them.
#ifndef NORMUON_BACKENDS_CPU_TILES_AMX_HPP
#define NORMUON_BACKENDS_CPU_TILES_AMX_HPP

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "normuon/backends/cpu/tiles/avx512.hpp"

namespace normuon {

// The layout of the eight tile registers that the kernel uses, all of 16 rows of 64 bytes (Intel SDM, LDTILECFG).
struct alignas(64) amx_configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tile registers are numbered by literals: 0 to 3 accumulate, 4 and 5 hold left tiles, 6 and 7 right ones.
struct amx_instructions {
  // Asks the system for the registers, which a process has to do once. False where there are none, or it refuses.
  static bool permitted() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned bf16 = 1U << 22, tile = 1U << 24, needed = bf16 | tile;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & needed) != needed) return false;
    constexpr long request_permission = 0x1023, tile_data = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }

  // Four accumulators <- sums over blocks of 16 cells; left tiles are 1 KiB each, one after the other; a right tile's
  // rows are 128 bytes apart. Then accumulators go to the quarters of a 32 x 32 tile of floats.
  [[gnu::target("amx-tile,amx-bf16")]] static void product(float* tile, index_t blocks, const bfloat16_pair* left,
                                                           const bfloat16_pair* right) {
    static constexpr amx_configuration configuration;
    _tile_loadconfig(&configuration);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; blocks > 0; --blocks, left += 512, right += 512) {
      _tile_loadd(4, left, 64);
      _tile_loadd(5, left + 256, 64);
      _tile_loadd(6, right, 128);
      _tile_loadd(7, right + 16, 128);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, tile, 128);
    _tile_stored(1, tile + 16, 128);
    _tile_stored(2, tile + 512, 128);
    _tile_stored(3, tile + 528, 128);
    _tile_release();
  }
};

template <class Instructions>
struct amx_tile {
  using cell = bfloat16_pair;
  static constexpr index_t depth = 2, width = 32, rows = 32, panels = 1, columns = 32;
  static constexpr bool has_left_form = true;
  static constexpr const char* name = "amx";

  static float number(cell c, index_t k) { return avx512_bf16_tile::number(c, k); }
  static cell with_number(cell c, index_t k, float x) { return avx512_bf16_tile::with_number(c, k, x); }

  // Where cell q of line i lies in a panel of the left form: each 16 cells of a line are together.
  static index_t left_place(index_t i, index_t q) { return (q / 16 * width + i) * 16 + q % 16; }

  static void product(float* tile, index_t cells, const cell* left, const cell* right, index_t, index_t) {
    Instructions::product(tile, cells / 16, left, right);
  }

  [[gnu::target("avx512f")]] static void combine(float* tile, float alpha, float beta, const cell* right, index_t,
                                                 index_t) {
    const __m512 a = _mm512_set1_ps(alpha), b = _mm512_set1_ps(beta);
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
    const __mmask16 all = 0xffff;
    for (index_t i = 0; i < rows; i += 2)
      for (index_t j = 0; j < columns; j += 16) {
        const __m512i pair = _mm512_loadu_si512(right + i / 2 * width + j);
        float* const t0 = tile + i * columns + j;
        float* const t1 = t0 + columns;
        const __m512 c0 = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all, pair, 16));
        const __m512 c1 = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
        _mm512_storeu_ps(t0, _mm512_fmadd_ps(a, _mm512_loadu_ps(t0), _mm512_mul_ps(b, c0)));
        _mm512_storeu_ps(t1, _mm512_fmadd_ps(a, _mm512_loadu_ps(t1), _mm512_mul_ps(b, c1)));
      }
  }

  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_right(cell* right, index_t, const float* tile,
                                                                        index_t) {
    const __mmask16 all = 0xffff;
    for (index_t i = 0; i < rows; i += 2)
      for (index_t j = 0; j < columns; j += 16) {
        const auto r0 = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + i * columns + j));
        const auto r1 = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + (i + 1) * columns + j));
        const __m512i low = _mm512_maskz_cvtepu16_epi32(all, r0);
        const __m512i high = _mm512_maskz_slli_epi32(all, _mm512_maskz_cvtepu16_epi32(all, r1), 16);
        _mm512_storeu_si512(right + i / 2 * width + j, _mm512_or_si512(low, high));
      }
  }

  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_remainder(cell* right, index_t, const float* tile,
                                                                            index_t) {
    for (index_t i = 0; i < rows; i += 2)
      for (index_t j = 0; j < columns; j += 16)
        pack_remainders(right + i / 2 * width + j, tile + i * columns + j, tile + (i + 1) * columns + j);
  }

  // As a right factor: eight rows of 16 columns at a time are eight cells of eight lines.
  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_across(cell* across, const float* tile, index_t) {
    alignas(64) __m256i block[8];
    for (index_t i = 0; i < rows; i += 8)
      for (index_t j = 0; j < columns; j += 16) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k)
          block[k] = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + (i + k) * columns + j));
        transpose_cells(across + j / 2 * width + i, width, block);
      }
  }

  // As a left factor: a row of 32 numbers is a row of a register.
  [[gnu::target("avx512f,avx512vl,avx512bf16")]] static void pack_left(cell* left, const float* tile) {
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < columns; j += 16)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(left + i * 16 + j / 2),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + i * columns + j)));
  }
};

}  // namespace normuon

#endif
