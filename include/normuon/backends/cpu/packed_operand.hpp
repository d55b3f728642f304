// An operand in packed panels, and the doors by which numbers enter and leave it. Its kernel follows from the path and
// the type of the iteration when it is sized. Real is the type of the user's side, as the host computes it.
#ifndef NORMUON_BACKENDS_CPU_PACKED_OPERAND_HPP
#define NORMUON_BACKENDS_CPU_PACKED_OPERAND_HPP

#include "normuon/backends/cpu/dispatch.hpp"
#include "normuon/backends/cpu/host_memory.hpp"
#include "normuon/backends/cpu/lines.hpp"
#include "normuon/backends/cpu/packed_products.hpp"

namespace normuon {

class packed_operand {
 public:
  const operand_shape& shape() const { return shape_; }
  cpu_path path() const { return path_; }

  static std::size_t bytes(const operand_shape& shape, cpu_path path) {
    return with_kernel(path, shape.compute, [&]<class K> {
      return static_cast<std::size_t>(forms<K> * shape.count * form_cells<K>(shape)) * sizeof(typename K::cell);
    });
  }

  void resize(const operand_shape& shape, cpu_path path) {
    const std::size_t needed = bytes(shape, path);
    if (needed > memory_.size()) memory_ = host_memory(needed);
    shape_ = shape;
    path_ = path;
    symmetric_ = false;
  }

  // Calls f.operator()<K>() with the operand's kernel.
  template <class F>
  decltype(auto) with_kernel_of(F&& f) const {
    return with_kernel(path_, shape_.compute, std::forward<F>(f));
  }

  template <class K>
  packed_matrix<K> matrix(index_t i) const {
    return matrix<K>(i, symmetric_);
  }
  template <class K>
  packed_matrix<K> matrix(index_t i, bool symmetric) const {
    const index_t form = form_cells<K>(shape_);
    auto* const right = reinterpret_cast<typename K::cell*>(memory_.data()) + forms<K> * i * form;
    auto* const across = symmetric ? right : right + form;
    return {right, across, K::has_left_form ? right + 2 * form : across, round_up(shape_.rows, K::width),
            round_up(shape_.cols, K::width)};
  }

  // All that the memory of matrix i holds.
  template <class K>
  index_t cells() const {
    return forms<K> * form_cells<K>(shape_);
  }

  // Whether matrices are symmetric, so that their right form is also the one across. Said by whoever writes them.
  void set_symmetric(bool symmetric) { symmetric_ = symmetric; }

  // True where a float32 kernel stands in for a bfloat16 one.
  template <class K>
  bool rounds() const {
    return shape_.compute == compute_type::bfloat16 && K::depth == 1;
  }

 private:
  template <class K>
  static constexpr index_t forms = K::has_left_form ? 3 : 2;

  template <class K>
  static index_t form_cells(const operand_shape& shape) {
    return round_up(shape.rows, K::width) * round_up(shape.cols, K::width) / K::depth;
  }

  host_memory memory_;
  operand_shape shape_;
  cpu_path path_ = cpu_path::portable;
  bool symmetric_ = false;
};

// Rows of a matrix that enter or leave together, and columns of it: whole tiles of every kernel.
inline constexpr index_t rows_of_door = 32, columns_of_door = 192;

// V <- factor * (unit * U), with V as large as U rounded up, by zeros. A tall U enters a transposed view of its
// operand.
template <tile_kernel K, class Real>
void pack(const packed_matrix<K>& V, const matrix_view& U, double unit, double factor, bool rounds) {
  const bool narrow = rounds || K::depth == 2;  // then a float between must not spoil the rounding to 16 bits
  const line_order order = line_order::of_rows(U);
  chunk<Real> buffer;
  alignas(64) float block[rows_of_door][columns_of_door + K::columns], tile[K::rows * K::columns];
  for (index_t i0 = 0; i0 < V.rows; i0 += rows_of_door) {
    const index_t height = std::min(rows_of_door, V.rows - i0);
    for (index_t j0 = 0; j0 < V.cols; j0 += columns_of_door) {
      const index_t all = std::min(columns_of_door, V.cols - j0), n = std::clamp<index_t>(U.cols - j0, 0, all);
      for (index_t k = 0; k < height; ++k) {
        const index_t live = i0 + k < U.rows ? n : 0;
        if (live > 0) {
          const Real* u = read<Real>({U, order, i0 + k, j0, n}, buffer);
          for (index_t j = 0; j < n; ++j) {
            const double x = static_cast<double>(u[j]) * unit * factor;
            block[k][j] = narrow ? round_to_odd(x) : static_cast<float>(x);
            if (rounds) block[k][j] = static_cast<float>(bfloat16(block[k][j]));
          }
        }
        std::fill(block[k] + live, block[k] + all, 0.0F);
      }
      for (index_t k = 0; k < height; k += K::rows)
        for (index_t j = 0; j < all; j += K::columns) {
          const index_t panels = std::min(K::panels, (all - j) / K::width);
          for (index_t r = 0; r < K::rows; ++r) std::copy_n(block[k + r] + j, K::columns, tile + r * K::columns);
          V.store(tile, i0 + k, j0 + j, panels);
        }
    }
  }
}

// Calls f(i, height, j, n, block) for rows i to i + height - 1, columns j to j + n - 1 of the first rows x cols numbers
// of V, with block[k][c] that of row i + k and column j + c.
template <tile_kernel K, class F>
void for_each_unpacked_block(const packed_matrix<K>& V, index_t rows, index_t cols, F&& f) {
  float block[rows_of_door][columns_of_door];
  for (index_t i0 = 0; i0 < rows; i0 += rows_of_door) {
    const index_t height = std::min(rows_of_door, rows - i0);
    for (index_t j0 = 0; j0 < cols; j0 += columns_of_door) {
      const index_t n = std::min(columns_of_door, cols - j0);
      for (index_t j = 0; j < n; j += K::width)
        for (index_t k = 0; k < height; ++k) {
          const auto* const cells = V.right_at(i0 + k, j0 + j);
          for (index_t c = 0; c < K::width; ++c) block[k][j + c] = K::number(cells[c], i0 + k);
        }
      f(i0, height, j0, n, block);
    }
  }
}

}  // namespace normuon

#endif
