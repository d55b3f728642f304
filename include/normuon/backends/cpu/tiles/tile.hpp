// What a packed kernel is: how numbers lie in panels, and a few functions on one tile of a product. The loops that call
// them are in packed_products.hpp. A kernel is compiled for its own instruction set by target attributes, so a plain
// build has all of them; for that its functions stand out of line, take no vector types and contain no lambdas.
//
// A matrix lies in panels of `width` lines. In its right form, for use as a right factor, a panel is `width` columns
// and k runs along its rows; across, which is the right form of its transpose, a panel is `width` rows and k runs along
// its columns. A cell holds `depth` neighbours along k: one float, or two bfloat16. Line i of cell q of panel p is at
// (p * cells + q) * width + i. A left factor is read across. A kernel that `has_one_form` reads left factors from a
// form of its own, panels of rows in which the cells of a tile are together, row by row; it keeps that form alone, and
// makes the right form of a part of a right factor just before it is used. A tile is `rows` x (`panels` * `width`)
// floats, row by row; the last of its panels may be missing.
#ifndef NORMUON_BACKENDS_CPU_TILES_TILE_HPP
#define NORMUON_BACKENDS_CPU_TILES_TILE_HPP

#include <concepts>
#include <cstddef>
#include <cstring>

#include "normuon/backends/cpu/processor.hpp"
#include "normuon/element_types.hpp"
#include "normuon/matrix_ref.hpp"

namespace normuon {

// product(tile, cells, left, right, stride, panels, adds): tile <- the sum over `cells` cells of rows x panels * width
//   products, begun with what the tile holds where it adds to that, else with 0. `stride` is from one right panel to
//   the next. `left` may begin at any multiple of `rows` inside its panel. `cells` are those of whole panels, so a
//   multiple of width / depth.
// cells_at_once(): how deep a part of a product is whose right panels stay in a first-level cache, or all_cells where a
//   second-level one feeds the kernel as well. Parts are multiples of cells_of_part. What is summed in parts has the
//   same bits.
// registers: lives in a thread for as long as it calls product(); AMX has registers to be set up.
// combine(tile, alpha, beta, right, stride, panels): tile <- alpha tile + beta C, where C lies in right form.
// pack_right(right, stride, tile, panels), pack_across(across, tile, panels): the tile's numbers, rounded, as cells of
//   that form; pack_remainder(right, stride, tile, panels): in right form what rounding to bfloat16 takes from them.
// combine(tile, alpha, beta, own), pack(own, tile), pack_remainder(own, tile): the same of a kernel's own form.
// to_right(right, own), to_across(across, own), transpose(own, own): a tile's cells in right form, in that of its
//   transpose, and its transpose's in the kernel's own.
// number(cell, k), with_number(cell, k, x): reads and replaces the number of a cell whose place along k is k.
inline constexpr index_t cells_of_part = 16, all_cells = index_t{1} << 40;
template <class K>
concept tile_kernel =
    K::width % K::rows == 0 && K::rows % K::depth == 0 &&
    requires(float* tile, const typename K::cell* cells, index_t n) {
      typename K::registers;
      { K::cells_at_once() } -> std::same_as<index_t>;
      K::product(tile, n, cells, cells, n, n, true);
      { K::number(typename K::cell{}, n) } -> std::same_as<float>;
      { K::with_number(typename K::cell{}, n, float{}) } -> std::same_as<typename K::cell>;
    } && (K::has_one_form ? requires(float* tile, typename K::cell* to, const typename K::cell* from) {
      K::combine(tile, float{}, float{}, from);
      K::pack(to, tile);
      K::pack_remainder(to, tile);
      K::to_right(to, from);
      K::to_across(to, from);
      K::transpose(to, from);
    } : requires(float* tile, typename K::cell* to, const typename K::cell* from, index_t n) {
      K::combine(tile, float{}, float{}, from, n, n);
      K::pack_right(to, n, tile, n);
      K::pack_across(to, tile, n);
      K::pack_remainder(to, n, tile, n);
    });

// Two bfloat16 that are neighbours along k, the first in the lower half.
struct bfloat16_pair {
  std::uint32_t bits;
};

// cells_at_once() of kernels whose cells have 32 bits. 48 columns of 64 are 12 KiB, and of 128 they are 24: each the
// better one for caches of 32 and 48 KiB. On AMD's Zen 5 a tile's product is as fast out of the second-level cache;
// Intel's processors save 6 to 15 % of an iteration by parts, and 1 to 2 % by their depth (docs/results.md).
inline index_t cells_in_first_level(const processor& p = this_processor()) {
  if (p.maker != processor_maker::intel) return all_cells;
  return p.first_level_bytes < 48 * 1024 ? 64 : 128;
}

// Packing and unpacking in plain loops, for kernels that have no instructions for it.
template <index_t Width, index_t Rows, index_t Panels>
struct float_tile {
  using cell = float;
  struct registers {};
  static constexpr index_t depth = 1, width = Width, rows = Rows, panels = Panels, columns = panels * width;
  static constexpr bool has_one_form = false;

  static index_t cells_at_once() { return cells_in_first_level(); }
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
