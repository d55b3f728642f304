// The operations of the iteration on packed operands, for host_backend. float64 has no packed kernel.
#ifndef NORMUON_BACKENDS_CPU_PACKED_ALGEBRA_HPP
#define NORMUON_BACKENDS_CPU_PACKED_ALGEBRA_HPP

#include "normuon/backend.hpp"
#include "normuon/backends/cpu/host_algebra.hpp"
#include "normuon/backends/cpu/packed_operand.hpp"

namespace normuon {

class packed_algebra {
 public:
  using operand = packed_operand;

  explicit packed_algebra(const cpu_options& options = {}) : path_(chosen_path(options.path)) {}

  std::size_t bytes(const operand_shape& shape) const { return operand::bytes(shape, path_); }
  std::string_view kernel_path(compute_type compute) const {
    return with_kernel(path_, compute, []<class K> { return std::string_view(K::name); });
  }
  bool shares(const operand_shape&) const { return true; }
  void resize(operand& X, const operand_shape& shape) { X.resize(shape, path_); }
  void reserve(const operand_shape&) {}

  void begin_load(operand& X) { X.set_symmetric(false); }

  template <class Real>
  void load(operand& X, index_t i, const matrix_view& U, const band& rows, double unit, double factor) {
    load_rows<Real>(X, i, U, rows, unit, factor);
  }

  void clear(operand& X, index_t i) { X.clear(i); }

  template <class Lanes>
  void multiply(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    Y.with_kernel_of([&]<class K> {
      for (index_t i = 0; i < Y.shape().count; ++i) {
        const packed_matrix<K> a = A.matrix<K>(i), b = B.matrix<K>(i), c = C.matrix<K>(i).without_remainder();
        const finish<K> end{.alpha = float(alpha), .beta = float(beta), .C = &c};
        packed_product<K>(lanes, Y.matrix<K>(i, false), a, transpose ? b.transposed() : b, end);
      }
    });
    Y.set_symmetric(false);
  }

  template <class Lanes>
  void multiply_symmetric(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B, bool transpose,
                          double beta, const operand& C) {
    multiply_symmetric(lanes, Y, alpha, A, B, transpose, beta, C, false);
  }
  template <class Lanes>
  void multiply_symmetric_with_remainder(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B,
                                         bool transpose, double beta, const operand& C) {
    multiply_symmetric(lanes, Y, alpha, A, B, transpose, beta, C, true);
  }
  bool has_remainder(const operand& A) const { return A.has_remainder(); }

  void add_identity(operand& P, double x) {
    P.with_kernel_of([&]<class K> {
      for (index_t i = 0; i < P.shape().count; ++i) {
        const packed_matrix<K> p = P.matrix<K>(i);
        for (index_t k = 0; k < P.shape().rows; ++k) p.set_diagonal(k, p.number(k, k) + static_cast<float>(x));
      }
    });
  }

  row_squares squares_of_rows(const operand& A, index_t i, const band& rows) const {
    row_squares of;
    for_each_square_sum(A, i, false, rows, [&](index_t, double squares) {
      of.longest = std::max(of.longest, squares);
      of.together += squares;
    });
    return of;
  }

  double trace(const operand& X, index_t i) const {
    double sum = 0;
    X.with_kernel_of([&]<class K> {
      const packed_matrix<K> x = X.matrix<K>(i);
      for (index_t k = 0; k < X.shape().rows; ++k) sum += static_cast<double>(x.number(k, k));
    });
    return sum;
  }

  template <class Real>
  void mean_squares(Real* r, const operand& X, index_t i, side neurons, const band& lines) const {
    const bool of_columns = neurons == side::cols;
    const auto length = static_cast<double>(of_columns ? X.shape().rows : X.shape().cols);
    for_each_square_sum(X, i, of_columns, lines,
                        [&](index_t line, double squares) { r[line] = static_cast<Real>(squares / length); });
  }

  // Calls f(scaled_block) for all of a band of rows of D = diag(factor) X_i, or X_i diag(factor), which has the user's
  // shape or its transpose's.
  template <class Real, class F>
  void for_each_scaled_block(const operand& X, index_t i, bool transposed, side neurons, const Real* factor,
                             const band& rows, F&& f) const {
    const bool factor_by_row = (neurons == side::rows) != transposed;
    const index_t cols = transposed ? X.shape().rows : X.shape().cols;
    alignas(64) leaving_block<Real> block;
    for (index_t i0 = rows.first; i0 < rows.end; i0 += rows_of_door) {
      const index_t height = std::min(rows_of_door, rows.end - i0);
      for (index_t j0 = 0; j0 < cols; j0 += columns_leaving) {
        const index_t n = std::min(columns_leaving, cols - j0);
        X.unpack(block, i, transposed, i0, height, j0, n, factor, factor_by_row);
        f(scaled_block<Real>{i0, height, j0, n, block});
      }
    }
  }

 private:
  template <class Lanes>
  static void multiply_symmetric(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B,
                                 bool transpose, double beta, const operand& C, bool keeps_remainder) {
    Y.set_symmetric(true, keeps_remainder);
    Y.with_kernel_of([&]<class K> {
      for (index_t i = 0; i < Y.shape().count; ++i) {
        const packed_matrix<K> a = A.matrix<K>(i), b = B.matrix<K>(i), c = C.matrix<K>(i);
        const finish<K> end{float(alpha), float(beta), &c};
        packed_symmetric_product<K>(lanes, Y.matrix<K>(i), a, transpose ? b.transposed() : b, end);
      }
    });
  }

  // Calls f(line, the sum of its squares) for a band of lines, of rows or of columns.
  template <class F>
  static void for_each_square_sum(const operand& X, index_t i, bool of_columns, const band& lines, F&& f) {
    double sums[rows_of_door];
    for (index_t line = lines.first; line < lines.end; line += rows_of_door) {
      const index_t n = std::min(rows_of_door, lines.end - line);
      X.sum_squares(sums, i, of_columns, line, n);
      for (index_t k = 0; k < n; ++k) f(line + k, sums[k]);
    }
  }

  cpu_path path_;
};

}  // namespace normuon

#endif
