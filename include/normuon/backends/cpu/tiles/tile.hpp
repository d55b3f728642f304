// What a packed kernel is: how numbers lie in panels, and a few functions on one tile of a product. The loops that call
// them are in packed_products.hpp. A kernel is compiled for its own instruction set by target attributes, so a plain
// build has all of them; for that its functions stand out of line, take no vector types and contain no lambdas.
//
// A matrix lies in panels of `width` lines. In its right form, for use as a right factor, a panel is `width` columns
// and k runs along its rows; across, which is the right form of its transpose, a panel is `width` rows and k runs along
// its columns. A cell holds `depth` neighbours along k: one float, or two bfloat16. Line i of cell q of panel p is at
// (p * cells + q) * width + i. A left factor is read across, or where `has_left_form` from a form of its own. A tile is
// `rows` x (`panels` * `width`) floats, row by row; the last of its panels may be missing.
#ifndef NORMUON_BACKENDS_CPU_TILES_TILE_HPP
#define NORMUON_BACKENDS_CPU_TILES_TILE_HPP

#include <concepts>
#include <cstddef>
#include <cstring>

#include "normuon/element_types.hpp"
#include "normuon/matrix_ref.hpp"

namespace normuon {

// product(tile, cells, left, right, stride, panels): tile <- the sum over `cells` cells of rows x panels * width
// products;
//   `stride` is from one right panel to the next. `left` may begin at any multiple of `rows` inside its panel.
// combine(tile, alpha, beta, right, stride, panels): tile <- alpha tile + beta C, where C lies in right form.
// pack_right(right, stride, tile, panels), pack_across(across, tile, panels), pack_left(left, tile): the tile's
// numbers, rounded, as cells of that form.
// pack_remainder(right, stride, tile, panels): the same in right form of what rounding to bfloat16 takes from them.
// number(cell, k), with_number(cell, k, x): reads and replaces the number of a cell whose place along k is k.
template <class K>
concept tile_kernel =
    K::width % K::rows == 0 && K::rows % K::depth == 0 &&
    requires(float* tile, const float* from, typename K::cell* to, const typename K::cell* cells, index_t n) {
      K::product(tile, n, cells, cells, n, n);
      K::combine(tile, float{}, float{}, cells, n, n);
      K::pack_right(to, n, from, n);
      K::pack_across(to, from, n);
      K::pack_remainder(to, n, from, n);
      { K::number(typename K::cell{}, n) } -> std::same_as<float>;
      { K::with_number(typename K::cell{}, n, float{}) } -> std::same_as<typename K::cell>;
    } && (!K::has_left_form || requires(const float* from, typename K::cell* to) { K::pack_left(to, from); });

// Two bfloat16 that are neighbours along k, the first in the lower half.
struct bfloat16_pair {
  std::uint32_t bits;
};

// Packing and unpacking in plain loops, for kernels that have no instructions for it.
template <index_t Width, index_t Rows, index_t Panels>
struct float_tile {
  using cell = float;
  static constexpr index_t depth = 1, width = Width, rows = Rows, panels = Panels, columns = panels * width;
  static constexpr bool has_left_form = false;

  static float number(cell c, index_t) { return c; }
  static cell with_number(cell, index_t, float x) { return x; }

  static void combine(float* tile, float alpha, float beta, const cell* right, index_t stride, index_t count) {
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < width; ++j)
          tile[i * columns + j] = alpha * tile[i * columns + j] + beta * right[i * width + j];
  }

  static void pack_right(cell* right, index_t stride, const float* tile, index_t count) {
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; ++i) std::memcpy(right + i * width, tile + i * columns, width * sizeof(float));
  }

  static void pack_remainder(cell* right, index_t stride, const float* tile, index_t count) {
    for (index_t h = 0; h < count; ++h, right += stride, tile += width)
      for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < width; ++j) {
          const float x = tile[i * columns + j];
          right[i * width + j] = static_cast<float>(bfloat16(x - static_cast<float>(bfloat16(x))));
        }
  }

  static void pack_across(cell* across, const float* tile, index_t count) {
    for (index_t j = 0; j < count * width; ++j)
      for (index_t i = 0; i < rows; ++i) across[j * width + i] = tile[i * columns + j];
  }
};

}  // namespace normuon

#endif
