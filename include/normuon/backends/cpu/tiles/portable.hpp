// The packed kernel for any processor: vectors of four floats, which the compiler maps to what there is.
#ifndef NORMUON_BACKENDS_CPU_TILES_PORTABLE_HPP
#define NORMUON_BACKENDS_CPU_TILES_PORTABLE_HPP

#include "normuon/backends/cpu/tiles/tile.hpp"

namespace normuon {

struct portable_tile : float_tile<8, 4, 1> {
  static constexpr const char* name = "portable";

  // 4 x 8: eight sums in registers.
  static void product(float* tile, index_t cells, const float* left, const float* right, index_t, index_t, bool adds) {
    using four = float __attribute__((vector_size(16), aligned(4), may_alias));
    four sums[rows][2] = {};
    if (adds) std::memcpy(sums, tile, sizeof sums);
    for (; cells > 0; --cells, left += width, right += width) {
      const four b0 = *reinterpret_cast<const four*>(right), b1 = *reinterpret_cast<const four*>(right + 4);
#pragma GCC unroll 4
      for (index_t i = 0; i < rows; ++i) {
        const four a = {left[i], left[i], left[i], left[i]};
        sums[i][0] += a * b0;
        sums[i][1] += a * b1;
      }
    }
    std::memcpy(tile, sums, sizeof sums);
  }
};

}  // namespace normuon

#endif
