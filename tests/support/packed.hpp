// Matrices in the panels of a kernel, with memory of their own.
#ifndef NORMUON_TESTS_SUPPORT_PACKED_HPP
#define NORMUON_TESTS_SUPPORT_PACKED_HPP

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "normuon/backends/cpu/packed_matrix.hpp"
#include "support/matrix.hpp"

namespace normuon::test {

// V <- A, tile by tile, with zeros around it.
template <class K>
void store(const packed_matrix<K>& V, const matrix& A) {
  alignas(64) float tile[K::rows * K::columns];
  for (index_t i = 0; i < V.rows; i += K::rows)
    for (index_t j = 0; j < V.cols; j += K::columns) {
      for (index_t r = 0; r < K::rows; ++r)
        for (index_t c = 0; c < K::columns; ++c) {
          const bool inside = i + r < A.rows && j + c < A.cols;
          tile[r * K::columns + c] = inside ? static_cast<float>(A(i + r, j + c)) : 0.0f;
        }
      V.store(tile, i, j, std::min(K::panels, (V.cols - j) / K::width));
    }
}

// A matrix in all forms, made of numbers in double.
template <class K>
struct packed {
  explicit packed(const packed_shape& s)
      : shape(s), cells(static_cast<std::size_t>(packed_matrix<K>::cells_of(s))), all(cells.data(), s) {}
  packed(index_t rows, index_t cols) : packed(packed_shape{.rows = rows, .cols = cols}) {}
  explicit packed(const matrix& A) : packed(A.rows, A.cols) { store<K>(all, A); }
  packed(packed&&) = default;

  matrix numbers() const {
    return filled(shape.rows, shape.cols, [&](index_t i, index_t j) { return static_cast<double>(all.number(i, j)); });
  }
  // As a right factor reads them.
  static matrix right(const packed_matrix<K>& M, index_t rows, index_t cols) {
    const index_t cells = M.rows / K::depth;
    std::vector<typename K::cell> made(static_cast<std::size_t>(cells * K::width));
    matrix A(rows, cols);
    for (index_t j0 = 0; j0 < cols; j0 += K::width) {
      const auto* const panel = M.right_factor_at(made.data(), j0, 0, cells);
      for (index_t i = 0; i < rows; ++i)
        for (index_t j = j0; j < std::min(cols, j0 + K::width); ++j)
          A(i, j) = static_cast<double>(K::number(panel[i / K::depth * K::width + j - j0], i));
    }
    return A;
  }
  matrix right() const { return right(all, shape.rows, shape.cols); }
  matrix across() const { return transposed(right(all.transposed(), shape.cols, shape.rows)); }
  // Square, and written as symmetric matrices are.
  static packed symmetric(index_t n) { return packed(packed_shape{.rows = n, .cols = n, .symmetric = true}); }
  // The same, rounded to bfloat16, with what that takes.
  static packed with_remainder(index_t n) {
    return packed(
        packed_shape{.rows = n, .cols = n, .symmetric = true, .has_remainder = true, .rounds = K::depth == 1});
  }
  // Both together, of the lower triangle, which alone has remainders.
  matrix exact() const {
    matrix M = filled(shape.rows, shape.cols, [](index_t, index_t) { return 0.0; });
    alignas(64) float tile[K::rows * K::columns];
    for (index_t i = 0; i < all.rows; i += K::rows)
      for (index_t j = 0; j <= i; j += K::columns) {
        const index_t panels = std::min(K::panels, (all.cols - j) / K::width);
        std::fill(std::begin(tile), std::end(tile), 0.0F);
        all.add_to(tile, 1, 1, i, j, panels);
        for (index_t r = i; r < std::min(i + K::rows, shape.rows); ++r)
          for (index_t c = j; c <= std::min(r, j + panels * K::width - 1); ++c)
            M(r, c) = M(c, r) = static_cast<double>(tile[(r - i) * K::columns + c - j]);
      }
    return M;
  }
  // The sum of the magnitudes of all numbers, padding included.
  double sum() const {
    double s = 0;
    for (index_t i = 0; i < all.rows; ++i)
      for (index_t j = 0; j < all.cols; ++j) s += std::abs(static_cast<double>(all.number(i, j)));
    return s;
  }

  packed_shape shape;
  std::vector<typename K::cell> cells;
  packed_matrix<K> all;
};

}  // namespace normuon::test

#endif
