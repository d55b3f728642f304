// Products of packed matrices. A matrix of the iteration lives in panels only (tiles/tile.hpp), written by the last act
// of the product that makes it, so no operand is packed before a product; of one in one form, parts are put into
// another order just before they are used. Each number of a result is summed by one thread, over the whole of k in
// order: bits depend on the kernel, and neither on threads nor on how the work is cut.
#ifndef NORMUON_BACKENDS_CPU_PACKED_PRODUCTS_HPP
#define NORMUON_BACKENDS_CPU_PACKED_PRODUCTS_HPP

#include <algorithm>

#include "normuon/backends/cpu/packed_matrix.hpp"

namespace normuon {

// What becomes of a sum before it is stored: alpha times it, plus beta C with its remainder.
template <tile_kernel K>
struct finish {
  float alpha = 1, beta = 0;
  const packed_matrix<K>* C = nullptr;

  void operator()(float* tile, index_t i, index_t j, index_t panels) const {
    if (beta != 0) C->add_to(tile, alpha, beta, i, j, panels);
    else if (alpha != 1) for_each_number<K>(tile, panels, [&](float& x) { x *= alpha; });
  }
};

// Rows of a left factor that are multiplied by one block of columns after the other: few enough for a second-level
// cache to keep them meanwhile, in whole blocks.
inline constexpr index_t most_rows_of_task = 384;
template <tile_kernel K>
constexpr index_t rows_of_task(index_t cells) {
  constexpr index_t cached = (index_t{1} << 20) / static_cast<index_t>(sizeof(typename K::cell));
  return std::clamp(cached / std::max<index_t>(cells, 1), 2 * K::columns, most_rows_of_task) / K::columns * K::columns;
}

// A B, tile by tile, where A has columns: calls done(tile, i) for each tile of rows first to last - 1, of columns j on;
// panels_of(i) says how many of its panels are needed. Of the first `kept` rows, tiles lie row by row in `block` until
// the end. It has room for most_rows_of_task rows.
template <tile_kernel K, class Panels, class Done>
void for_each_sum(float* block, const packed_matrix<K>& A, const packed_matrix<K>& B, index_t j, index_t first,
                  index_t last, index_t kept, Panels&& panels_of, Done&& done) {
  [[maybe_unused]] const typename K::registers registers;
  static_assert(!K::has_one_form || K::cells_at_once() % cells_of_part == 0, "there is room for a part");
  alignas(64) typename K::cell made[K::has_one_form ? K::cells_at_once() * K::width : 1];
  const index_t cells = A.cells_across(), at_once = K::cells_at_once();
  const index_t parts = std::max<index_t>(1, (cells + at_once - 1) / at_once);
  const index_t depth = round_up((cells + parts - 1) / parts, cells_of_part);
  for (index_t q = 0; q < cells; q += depth) {
    const index_t n = std::min(depth, cells - q);
    const typename K::cell* const right = B.right_factor_at(made, j, q, n);
    for (index_t i = first; i < last; i += K::rows) {
      float* const tile = block + (parts > 1 ? i - first : std::min(i - first, kept)) * K::columns;
      K::product(tile, n, A.left_factor_at(i, q), right, B.right_stride(), panels_of(i), q > 0);
      if (q + n == cells) done(tile, i);
    }
  }
}

// Y <- the finished A B. Y is neither of them. lanes.for_each(count, task) calls task(i) for each i below count, at
// once or not.
template <tile_kernel K, class Lanes>
void packed_product(Lanes& lanes, const packed_matrix<K>& Y, const packed_matrix<K>& A, const packed_matrix<K>& B,
                    const finish<K>& end) {
  const index_t height = rows_of_task<K>(A.cells_across()), blocks = (Y.cols + K::columns - 1) / K::columns;
  lanes.for_each((Y.rows + height - 1) / height * blocks, [&](index_t task) {
    alignas(64) float sums[most_rows_of_task * K::columns];
    const index_t first = task / blocks * height, j = task % blocks * K::columns;
    const index_t panels = std::min(K::panels, (Y.cols - j) / K::width);
    for_each_sum<K>(
        sums, A, B, j, first, std::min(Y.rows, first + height), 0, [&](index_t) { return panels; },
        [&](float* tile, index_t i) {
          end(tile, i, j, panels);
          Y.store(tile, i, j, panels);
        });
  });
}

// The same for a result known to be symmetric, and stored as such: the lower triangle is computed and mirrored.
template <tile_kernel K, class Lanes>
void packed_symmetric_product(Lanes& lanes, const packed_matrix<K>& Y, const packed_matrix<K>& A,
                              const packed_matrix<K>& B, const finish<K>& end) {
  const index_t n = Y.rows, height = rows_of_task<K>(A.cells_across()), blocks = (n + K::columns - 1) / K::columns;
  lanes.for_each((n + height - 1) / height * blocks, [&](index_t task) {
    alignas(64) float sums[most_rows_of_task * K::columns];
    const index_t j = task % blocks * K::columns, panels = std::min(K::panels, (n - j) / K::width);
    const index_t first = std::max(task / blocks * height, j), last = std::min(n, task / blocks * height + height);
    if (first >= last) return;
    // Of tiles on the diagonal as many panels are computed as reach it. What is above it is mirrored here once all are
    // there; tiles below are mirrored when they are stored.
    const index_t side = panels * K::width, diagonal = first == j ? side : 0;
    const auto reaching = [&](index_t i) { return std::min(panels, (i - j + K::rows + K::width - 1) / K::width); };
    for_each_sum<K>(sums, A, B, j, first, last, diagonal, reaching, [&](float* tile, index_t i) {
      end(tile, i, j, reaching(i));
      if (i - first >= diagonal) Y.store(tile, i, j, panels);
      if (i - first + K::rows != diagonal) return;
      for (index_t c = 1; c < side; ++c)
        for (index_t r = c / K::width * K::width; r < c; ++r) sums[r * K::columns + c] = sums[c * K::columns + r];
      for (index_t r = 0; r < side; r += K::rows) Y.store(sums + r * K::columns, j + r, j, reaching(j + r));
    });
  });
}

}  // namespace normuon

#endif
