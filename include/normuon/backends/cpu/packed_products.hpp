// Products of packed matrices. A matrix of the iteration lives in panels only (tiles/tile.hpp), written by the last act
// of the product that makes it, so nothing is ever packed before a product. Each number of a result is summed by one
// thread, over the whole of k in order: bits depend on the kernel, and neither on threads nor on how the work is cut.
#ifndef NORMUON_BACKENDS_CPU_PACKED_PRODUCTS_HPP
#define NORMUON_BACKENDS_CPU_PACKED_PRODUCTS_HPP

#include <algorithm>

#include "normuon/backends/cpu/tiles/tile.hpp"

namespace normuon {

constexpr index_t round_up(index_t n, index_t to) { return (n + to - 1) / to * to; }

// Calls f for the numbers in the first panels of a tile.
template <tile_kernel K, class F>
void for_each_number(float* tile, index_t panels, F&& f) {
  for (index_t r = 0; r < K::rows; ++r)
    for (index_t c = 0; c < panels * K::width; ++c) f(tile[r * K::columns + c]);
}

// One matrix in all forms, its sides rounded up to whole panels with zeros. That of a symmetric one is its right form
// across, too; and a left factor is read across where the kernel has no left form. What rounding to 16 bits takes from
// a symmetric matrix may be kept beside it.
template <tile_kernel K>
struct packed_matrix {
  using cell = typename K::cell;
  cell* right = nullptr;
  cell* across = nullptr;
  cell* left = nullptr;
  index_t rows = 0, cols = 0;  // multiples of K::width
  bool left_is_of_transpose = false;
  cell* remainder = nullptr;  // of a symmetric matrix: right form of its lower triangle; null: not kept
  bool rounds = false;        // to bfloat16, where cells are floats

  packed_matrix transposed() const { return {across, right, left, cols, rows, !left_is_of_transpose, nullptr, rounds}; }
  packed_matrix without_remainder() const {
    packed_matrix m = *this;
    m.remainder = nullptr;
    return m;
  }

  index_t cells_down() const { return rows / K::depth; }  // of a right panel
  index_t cells_across() const { return cols / K::depth; }
  index_t right_stride() const { return cells_down() * K::width; }  // from one right panel to the next
  cell* right_at(index_t i, index_t j) const {
    return right + (j / K::width * cells_down() + i / K::depth) * K::width + j % K::width;
  }
  cell* across_at(index_t i, index_t j) const {
    return across + (i / K::width * cells_across() + j / K::depth) * K::width + i % K::width;
  }

  cell* remainder_at(index_t i, index_t j) const { return remainder + (right_at(i, j) - right); }

  // Stores a tile in every form. That of a symmetric matrix stands for its mirror image, too, but for its remainder.
  void store(float* tile, index_t i, index_t j, index_t panels) const {
    if (remainder) K::pack_remainder(remainder_at(i, j), right_stride(), tile, panels);
    if (rounds) for_each_number<K>(tile, panels, [](float& x) { x = static_cast<float>(bfloat16(x)); });
    K::pack_right(right_at(i, j), right_stride(), tile, panels);
    K::pack_across(across_at(i, j), tile, panels);
    if constexpr (K::has_left_form) {
      if (!left_is_of_transpose) K::pack_left(left + (i * cells_across() + j / K::depth * K::width), tile);
      if (left_is_of_transpose || right == across) {
        alignas(64) float mirrored[K::rows * K::columns];
        for (index_t r = 0; r < K::rows; ++r)
          for (index_t c = 0; c < K::columns; ++c) mirrored[c * K::columns + r] = tile[r * K::columns + c];
        K::pack_left(left + (j * cells_down() + i / K::depth * K::width), mirrored);
      }
    }
  }
};

// What becomes of a sum before it is stored: alpha times it, plus beta C with its remainder.
template <tile_kernel K>
struct finish {
  float alpha = 1, beta = 0;
  const packed_matrix<K>* C = nullptr;

  void operator()(float* tile, index_t i, index_t j, index_t panels) const {
    if (beta != 0) {
      K::combine(tile, alpha, beta, C->right_at(i, j), C->right_stride(), panels);
      if (C->remainder) K::combine(tile, 1, beta, C->remainder_at(i, j), C->right_stride(), panels);
    } else if (alpha != 1) {
      for_each_number<K>(tile, panels, [&](float& x) { x *= alpha; });
    }
  }
};

// Rows that a task takes of a block of columns: enough to use the columns again, few enough to share them out.
inline constexpr index_t rows_of_task = 192;

// Y <- the finished L R, where L is a left factor with as many rows as Y, R a right one with as many columns, both
// `cells` deep. Y is neither. lanes.for_each(count, task) calls task(i) for each i below count, at once or not.
template <tile_kernel K, class Lanes>
void packed_product(Lanes& lanes, const packed_matrix<K>& Y, const typename K::cell* L, const typename K::cell* R,
                    index_t cells, const finish<K>& end) {
  const index_t row_tasks = (Y.rows + rows_of_task - 1) / rows_of_task;
  lanes.for_each((Y.cols + K::columns - 1) / K::columns * row_tasks, [&](index_t task) {
    alignas(64) float tile[K::rows * K::columns];
    const index_t j = task / row_tasks * K::columns, first = task % row_tasks * rows_of_task;
    const index_t panels = std::min(K::panels, (Y.cols - j) / K::width);
    for (index_t i = first; i < std::min(Y.rows, first + rows_of_task); i += K::rows) {
      K::product(tile, cells, L + i / K::width * cells * K::width + i % K::width, R + j * cells, cells * K::width,
                 panels);
      end(tile, i, j, panels);
      Y.store(tile, i, j, panels);
    }
  });
}

// The same for a result known to be symmetric, in one form: the lower triangle is computed and mirrored.
template <tile_kernel K, class Lanes>
void packed_symmetric_product(Lanes& lanes, const packed_matrix<K>& Y, const typename K::cell* L,
                              const typename K::cell* R, index_t cells, const finish<K>& end) {
  const index_t n = Y.rows, row_tasks = (n + rows_of_task - 1) / rows_of_task;
  lanes.for_each((n + K::columns - 1) / K::columns * row_tasks, [&](index_t task) {
    alignas(64) float block[K::columns * K::columns];  // a block on the diagonal, or one tile
    const index_t j = task / row_tasks * K::columns, panels = std::min(K::panels, (n - j) / K::width);
    // Tasks of a block of columns begin at its diagonal.
    const index_t first = j + task % row_tasks * rows_of_task, last = std::min(n, first + rows_of_task);
    const auto compute = [&](float* tile, index_t i, index_t needed) {
      K::product(tile, cells, L + i / K::width * cells * K::width + i % K::width, R + j * cells, cells * K::width,
                 needed);
      end(tile, i, j, needed);
    };
    index_t i = first;
    if (i == j && i < last) {
      // Of each tile as many panels as reach the diagonal. That on it is mirrored here, others when they are stored.
      const auto reaching = [&](index_t row) { return (row - j + K::rows + K::width - 1) / K::width; };
      const index_t side = panels * K::width;
      for (; i < j + side; i += K::rows) compute(block + (i - j) * K::columns, i, reaching(i));
      for (index_t c = 1; c < side; ++c)
        for (index_t r = c / K::width * K::width; r < c; ++r) block[r * K::columns + c] = block[c * K::columns + r];
      for (i = j; i < j + side; i += K::rows) Y.store(block + (i - j) * K::columns, i, j, reaching(i));
    }
    for (; i < last; i += K::rows) {
      compute(block, i, panels);
      Y.store(block, i, j, panels);
    }
  });
}

}  // namespace normuon

#endif
