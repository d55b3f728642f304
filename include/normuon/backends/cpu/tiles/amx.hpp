// The packed kernel for AMX: 32 x 32, four accumulators of 16 x 16, on pairs of bfloat16. An instruction multiplies 16
// x 32 by 32 x 16 numbers. `Instructions` are the processor's, or in tests an emulation of them.
#ifndef NORMUON_BACKENDS_CPU_TILES_AMX_HPP
#define NORMUON_BACKENDS_CPU_TILES_AMX_HPP

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
  // Set up for as long as this lives: that takes as long as some four blocks of a product.
  struct registers {
    [[gnu::target("amx-tile")]] registers() {
      static constexpr amx_configuration configuration;
      _tile_loadconfig(&configuration);
    }
    [[gnu::target("amx-tile")]] ~registers() { _tile_release(); }
    registers(const registers&) = delete;
    registers& operator=(const registers&) = delete;
  };

  // Four accumulators, which are the quarters of a 32 x 32 tile of floats, <- sums over blocks of 16 cells, of which
  // there is one at least; left tiles are 1 KiB each, one after the other; a right tile's rows are 128 bytes apart.
  // Registers are loaded while others multiply. Left tiles, which are not used again soon, leave the first-level cache
  // to right ones.
  [[gnu::target("amx-tile,amx-bf16")]] static void product(float* tile, index_t blocks, const bfloat16_pair* left,
                                                           const bfloat16_pair* right, bool adds) {
    asm volatile("" ::: "memory");  // g++ 12 does not know that the next instructions read memory
    _tile_loadd(6, right, 128);
    _tile_stream_loadd(4, left, 64);
    _tile_loadd(7, right + 16, 128);
    _tile_stream_loadd(5, left + 256, 64);
    if (adds) {
      _tile_loadd(0, tile, 128);
      _tile_loadd(1, tile + 16, 128);
      _tile_loadd(2, tile + 512, 128);
      _tile_loadd(3, tile + 528, 128);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    while (--blocks > 0) {
      left += 512, right += 512;
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(2, 5, 6);
      _tile_loadd(6, right, 128);
      _tile_dpbf16ps(1, 4, 7);
      _tile_stream_loadd(4, left, 64);
      _tile_dpbf16ps(3, 5, 7);
      _tile_loadd(7, right + 16, 128);
      _tile_stream_loadd(5, left + 256, 64);
    }
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
    _tile_stored(0, tile, 128);
    _tile_stored(2, tile + 512, 128);
    _tile_stored(1, tile + 16, 128);
    _tile_stored(3, tile + 528, 128);
  }
};

// to[j * to_stride + i] <- from[i * from_stride + j] for a 16 x 16 block of 32-bit cells. Loads bring quarters of rows
// together, which spares the one unit that shuffles half of its work.
[[gnu::target("avx512f")]] inline void transpose_block(bfloat16_pair* to, index_t to_stride, const bfloat16_pair* from,
                                                       index_t from_stride) {
  const __mmask16 all = 0xffff;  // g++ 12 warns of the forms without a mask
  for (index_t j = 0; j < 16; j += 4) {
    __m512i r[4], t[4];  // columns j to j + 3 of rows i, i + 4, i + 8 and i + 12
#pragma GCC unroll 4
    for (index_t i = 0; i < 4; ++i) {
      const bfloat16_pair* const at = from + i * from_stride + j;
      r[i] = _mm512_maskz_broadcast_i32x4(0x000f, _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
#pragma GCC unroll 3
      for (index_t k = 1; k < 4; ++k)
        r[i] = _mm512_mask_broadcast_i32x4(r[i], static_cast<__mmask16>(0xf << (4 * k)),
                                           _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 4 * k * from_stride)));
    }
    t[0] = _mm512_maskz_unpacklo_epi32(all, r[0], r[1]);
    t[1] = _mm512_maskz_unpackhi_epi32(all, r[0], r[1]);
    t[2] = _mm512_maskz_unpacklo_epi32(all, r[2], r[3]);
    t[3] = _mm512_maskz_unpackhi_epi32(all, r[2], r[3]);
    _mm512_storeu_si512(to + j * to_stride, _mm512_maskz_unpacklo_epi64(0xff, t[0], t[2]));
    _mm512_storeu_si512(to + (j + 1) * to_stride, _mm512_maskz_unpackhi_epi64(0xff, t[0], t[2]));
    _mm512_storeu_si512(to + (j + 2) * to_stride, _mm512_maskz_unpacklo_epi64(0xff, t[1], t[3]));
    _mm512_storeu_si512(to + (j + 3) * to_stride, _mm512_maskz_unpackhi_epi64(0xff, t[1], t[3]));
  }
}

template <class Instructions>
struct amx_tile {
  using cell = bfloat16_pair;
  using registers = typename Instructions::registers;
  static constexpr index_t depth = 2, width = 32, rows = 32, panels = 1, columns = 32;
  static constexpr bool has_one_form = true;
  static constexpr const char* name = "amx";

  static constexpr index_t cells_at_once() { return 256; }

  static float number(cell c, index_t k) { return avx512_bf16_tile::number(c, k); }
  static cell with_number(cell c, index_t k, float x) { return avx512_bf16_tile::with_number(c, k, x); }

  static void product(float* tile, index_t cells, const cell* left, const cell* right, index_t, index_t, bool adds) {
    Instructions::product(tile, cells / 16, left, right, adds);
  }

  // A row of 32 numbers is a row of a register, and lies in 16 cells.
  [[gnu::target("avx512f")]] static void combine(float* tile, float alpha, float beta, const cell* own) {
    const __m512 a = _mm512_set1_ps(alpha), b = _mm512_set1_ps(beta);
    const __mmask16 all = 0xffff;  // g++ 12 warns of the forms without a mask
    for (index_t i = 0; i < 2 * rows; ++i, tile += 16, own += 8) {
      const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(own));
      const __m512i wide = _mm512_maskz_slli_epi32(all, _mm512_maskz_cvtepu16_epi32(all, half), 16);
      const __m512 c = _mm512_castsi512_ps(wide);
      _mm512_storeu_ps(tile, _mm512_fmadd_ps(a, _mm512_loadu_ps(tile), _mm512_mul_ps(b, c)));
    }
  }

  [[gnu::target("avx512f,avx512bf16")]] static void pack(cell* own, const float* tile) {
    for (index_t i = 0; i < rows; ++i, own += 16, tile += columns)
      _mm512_storeu_si512(own, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(tile + 16), _mm512_loadu_ps(tile)));
  }

  [[gnu::target("avx512f,avx512bf16")]] static void pack_remainder(cell* own, const float* tile) {
    const __mmask16 all = 0xffff;
    for (index_t i = 0; i < rows; ++i, own += 16, tile += columns) {
      __m512 taken[2];
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k) {
        const __m512 x = _mm512_loadu_ps(tile + 16 * k);
        const __m512i rounded = _mm512_maskz_cvtepu16_epi32(all, (__m256i)_mm512_cvtneps_pbh(x));
        taken[k] = _mm512_maskz_sub_ps(all, x, _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all, rounded, 16)));
      }
      _mm512_storeu_si512(own, (__m512i)_mm512_cvtne2ps_pbh(taken[1], taken[0]));
    }
  }

  // Numbers of two rows alternate.
  [[gnu::target("avx512f,avx512bw")]] static void to_right(cell* right, const cell* own) {
    const __m512i first = _mm512_set_epi32(0x002f000f, 0x002e000e, 0x002d000d, 0x002c000c, 0x002b000b, 0x002a000a,
                                           0x00290009, 0x00280008, 0x00270007, 0x00260006, 0x00250005, 0x00240004,
                                           0x00230003, 0x00220002, 0x00210001, 0x00200000);
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    for (index_t i = 0; i < rows; i += 2, own += 32, right += width) {
      const __m512i row0 = _mm512_loadu_si512(own), row1 = _mm512_loadu_si512(own + 16);
      _mm512_storeu_si512(right, _mm512_permutex2var_epi16(row0, first, row1));
      _mm512_storeu_si512(right + 16, _mm512_permutex2var_epi16(row0, second, row1));
    }
  }

  static void to_across(cell* across, const cell* own) {
    transpose_block(across, width, own, 16);
    transpose_block(across + 16, width, own + 256, 16);
  }

  static void transpose(cell* to, const cell* own) {
    alignas(64) cell right[rows * columns / depth];
    to_right(right, own);
    transpose_block(to, 16, right, width);
    transpose_block(to + 256, 16, right + 16, width);
  }
};

}  // namespace normuon

#endif
