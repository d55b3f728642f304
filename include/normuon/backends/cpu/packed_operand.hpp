// An operand in packed panels, and the doors by which numbers enter and leave it. Its kernel follows from the path and
// the type of the iteration when it is sized. Real is the type of the user's side, as the host computes it.
#ifndef NORMUON_BACKENDS_CPU_PACKED_OPERAND_HPP
#define NORMUON_BACKENDS_CPU_PACKED_OPERAND_HPP

#include <cstring>

#include "normuon/backends/cpu/bands.hpp"
#include "normuon/backends/cpu/dispatch.hpp"
#include "normuon/backends/cpu/host_memory.hpp"
#include "normuon/backends/cpu/lines.hpp"
#include "normuon/backends/cpu/packed_products.hpp"
#include "normuon/backends/cpu/vectorized.hpp"
#include "normuon/operation_types.hpp"

namespace normuon {

// Rows of a matrix that enter or leave together, and columns of it: whole panels of every kernel. What enters is
// scattered over panels, for which a first-level cache needs room; what leaves is better read and written in long
// lines.
inline constexpr index_t rows_of_door = bands::door, columns_entering = 96, columns_leaving = chunk_length;
static_assert(columns_entering <= chunk_length, "what enters is read chunk by chunk");
using entering_block = float[rows_of_door][columns_entering];
template <class Real>
using leaving_block = Real[rows_of_door][columns_leaving];

class packed_operand {
 public:
  const operand_shape& shape() const { return shape_; }

  static std::size_t bytes(const operand_shape& shape, cpu_path path) {
    return with_kernel(path, shape.compute, [&]<class K> {
      return static_cast<std::size_t>(shape.count * cells<K>(shape)) * sizeof(typename K::cell);
    });
  }

  void resize(const operand_shape& shape, cpu_path path) {
    const std::size_t needed = bytes(shape, path);
    if (needed > memory_.size()) memory_ = host_memory(needed);
    shape_ = shape;
    path_ = path;
    set_symmetric(false);
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
    const bool narrow = shape_.compute == compute_type::bfloat16;
    return {reinterpret_cast<typename K::cell*>(memory_.data()) + i * cells<K>(shape_),
            {.rows = shape_.rows,
             .cols = shape_.cols,
             .symmetric = symmetric,
             .has_remainder = symmetric && has_remainder_ && narrow,
             .rounds = narrow && K::depth == 1}};  // where a float32 kernel stands in for a bfloat16 one
  }

  void clear(index_t i) {
    with_kernel_of([&]<class K> {
      const index_t n = cells<K>(shape_) * static_cast<index_t>(sizeof(typename K::cell));
      std::fill_n(memory_.data() + i * n, n, std::byte{});
    });
  }

  // Whether matrices are symmetric, which are stored otherwise, and keep remainders. Said by whoever writes them.
  void set_symmetric(bool symmetric, bool with_remainder = false) {
    symmetric_ = symmetric;
    has_remainder_ = with_remainder;
  }
  bool has_remainder() const { return has_remainder_; }

  // Rows i0 on and columns j0 on of matrix i, or of its transpose, from and to a block of height x n numbers. Sides of
  // what is packed are whole panels. Out of line, so that what loops over blocks is compiled once and not for each
  // kernel.
  [[gnu::noinline]] void pack(const entering_block& block, index_t i, bool transposed, index_t i0, index_t height,
                              index_t j0, index_t n) {
    with_kernel_of([&]<class K> {
      static_assert(rows_of_door % K::width == 0 && columns_entering % K::width == 0);
      const packed_matrix<K> M = matrix<K>(i), V = transposed ? M.transposed() : M;
      alignas(64) float tile[K::rows * K::columns];
      for (index_t k = 0; k < height; k += K::rows)
        for (index_t j = 0; j < n; j += K::columns) {
          const index_t panels = std::min(K::panels, (n - j) / K::width);
          for (index_t r = 0; r < K::rows; ++r)
            for (index_t c = 0; c < panels * K::width; c += K::width)  // of a size that is known: a few instructions
              std::memcpy(tile + r * K::columns + c, block[k + r] + j + c, K::width * sizeof(float));
          V.store(tile, i0 + k, j0 + j, panels);
        }
    });
  }
  // What leaves is multiplied by the factor of its row, or of its column.
  template <class Real>
  [[gnu::noinline]] void unpack(leaving_block<Real>& block, index_t i, bool transposed, index_t i0, index_t height,
                                index_t j0, index_t n, const Real* factor, bool factor_by_row) const {
    with_kernel_of([&]<class K> {
      static_assert(rows_of_door % K::width == 0 && columns_leaving % K::width == 0 && columns_leaving >= rows_of_door);
      using cell = typename K::cell;
      const packed_matrix<K> M = matrix<K>(i), V = transposed ? M.transposed() : M;
      alignas(64) cell made[columns_leaving / K::width][K::has_one_form ? rows_of_door / K::depth * K::width : 1];
      const cell* panels[columns_leaving / K::width];
      const index_t count = round_up(height, K::width) / K::depth;  // cells of a panel
      for (index_t j = 0; j < n; j += K::width) {
        const index_t p = j / K::width;
        panels[p] = V.right_factor_at(made[p], j0 + j, i0 / K::depth, count);
      }
      Real factors[columns_leaving] = {};  // zeros around the matrix
      std::copy_n(factor + (factor_by_row ? i0 : j0), factor_by_row ? height : n, factors);
      vectorized([=, to = &block[0][0], panel = &panels[0], f = &factors[0]] {
        const auto leave = [&](auto factor_at) {
          for (index_t j = 0; j < n; j += K::width)
            for (index_t q = 0; q < count; ++q)
              for (index_t d = 0; d < K::depth; ++d) {
                const index_t k = q * K::depth + d;
                Real line[K::width];  // which tells compilers that they may read all of it before they write
                for (index_t c = 0; c < K::width; ++c)
                  line[c] =
                      factor_at(k, j + c) * static_cast<Real>(K::number(panel[j / K::width][q * K::width + c], d));
                std::copy_n(line, K::width, to + k * columns_leaving + j);
              }
        };
        if (factor_by_row) leave([&](index_t k, index_t) { return f[k]; });
        else leave([&](index_t, index_t c) { return f[c]; });
      });
    });
  }

  // sums <- the sums of the squares of n lines of matrix i, of rows or of columns, in order. `first` begins a panel.
  // Cells become floats before they are added, a few at a time, so that compilers make vector code of both.
  [[gnu::noinline]] void sum_squares(double* sums, index_t i, bool of_columns, index_t first, index_t n) const {
    with_kernel_of([&]<class K> {
      constexpr index_t at_once = K::width / K::depth;  // cells; sides are whole panels
      constexpr index_t most = (K::has_one_form ? chunk_length : stretch_length) / K::depth;
      const packed_matrix<K> M = matrix<K>(i), V = of_columns ? M : M.transposed();
      const index_t all = V.rows / K::depth;
      alignas(64) typename K::cell made[K::has_one_form ? most * K::width : 1];
      for (index_t j = 0; j < n; j += K::width) {
        double of_panel[K::width] = {};
        for (index_t q = 0; q < all; q += most) {
          const index_t count = std::min(most, all - q);
          const auto* const cells = V.right_factor_at(made, first + j, q, count);
          vectorized([=, to = &of_panel[0]] {
            double sum[K::width];
            std::copy_n(to, K::width, sum);
            for (index_t p = 0; p < count; p += at_once) {
              float x[K::width][K::width];
              for (index_t k = 0; k < at_once; ++k)
                for (index_t d = 0; d < K::depth; ++d)
                  for (index_t c = 0; c < K::width; ++c)
                    x[k * K::depth + d][c] = K::number(cells[(p + k) * K::width + c], d);
              for (index_t c = 0; c < K::width; ++c)
                for (const auto& row : x) sum[c] = ordered_sum::add_square(sum[c], row[c]);
            }
            std::copy_n(sum, K::width, to);
          });
        }
        std::copy_n(of_panel, std::min(K::width, n - j), sums + j);
      }
    });
  }

  // To how much a side is rounded up.
  index_t panel() const {
    return with_kernel_of([]<class K> { return K::width; });
  }

 private:
  // All that the memory of a matrix holds.
  template <class K>
  static index_t cells(const operand_shape& shape) {
    return packed_matrix<K>::cells_of({.rows = shape.rows, .cols = shape.cols});
  }

  host_memory memory_;
  operand_shape shape_;
  cpu_path path_ = cpu_path::portable;
  bool symmetric_ = false, has_remainder_ = false;
};

// Rows of matrix i <- those of factor * (unit * U), transposed where U is tall. The last ones bring the zeros around
// it.
template <class Real>
void load_rows(packed_operand& X, index_t i, const matrix_view& U, const band& rows_of_u, double unit, double factor) {
  const bool narrow = X.shape().compute == compute_type::bfloat16, tall = U.rows > U.cols;
  const index_t rows = rows_of_u.end == U.rows ? round_up(U.rows, X.panel()) : rows_of_u.end;
  const index_t cols = round_up(U.cols, X.panel());
  const line_order order = line_order::of_rows(U);
  chunk<Real> buffers[rows_of_door];
  const Real* lines[rows_of_door];
  alignas(64) entering_block block;
  for (index_t i0 = rows_of_u.first; i0 < rows; i0 += rows_of_door) {
    const index_t height = std::min(rows_of_door, rows - i0), live = std::clamp<index_t>(U.rows - i0, 0, height);
    for (index_t j0 = 0; j0 < cols; j0 += columns_entering) {
      const index_t all = std::min(columns_entering, cols - j0), n = std::clamp<index_t>(U.cols - j0, 0, all);
      for (index_t k = 0; k < live; ++k) lines[k] = read<Real>({U, order, i0 + k, j0, n}, buffers[k]);
      vectorized([=, to = &block[0][0], u = &lines[0]]() mutable {
        for (index_t k = 0; k < live; ++k, to += columns_entering)
          if (narrow)  // a float between must not spoil the rounding to 16 bits that packing does
            for (index_t j = 0; j < n; ++j) to[j] = round_to_odd(static_cast<double>(u[k][j]) * unit * factor);
          else
            for (index_t j = 0; j < n; ++j) to[j] = static_cast<float>(static_cast<double>(u[k][j]) * unit * factor);
      });
      for (index_t k = 0; k < height; ++k) std::fill(block[k] + (k < live ? n : 0), block[k] + all, 0.0F);
      X.pack(block, i, tall, i0, height, j0, all);
    }
  }
}

}  // namespace normuon

#endif
