// A plain operand on the host: column-major matrices of float or double, one after the other; and the doors by which
// numbers enter and leave it. bfloat16 is computed as floats that are rounded to bfloat16 after every stored product.
#ifndef NORMUON_BACKENDS_CPU_DENSE_OPERAND_HPP
#define NORMUON_BACKENDS_CPU_DENSE_OPERAND_HPP

#include "normuon/backend.hpp"
#include "normuon/backends/cpu/bands.hpp"
#include "normuon/backends/cpu/host_memory.hpp"
#include "normuon/backends/cpu/lines.hpp"

namespace normuon {

class dense_operand {
 public:
  const operand_shape& shape() const { return shape_; }

  static std::size_t bytes(const operand_shape& shape) {
    const std::size_t size = shape.compute == compute_type::float64 ? sizeof(double) : sizeof(float);
    return static_cast<std::size_t>(shape.rows * shape.cols * shape.count) * size;
  }

  void resize(const operand_shape& shape) {
    if (bytes(shape) > memory_.size()) memory_ = host_memory(bytes(shape));
    shape_ = shape;
  }

  // Matrix i. T is double for an iteration in float64, else float.
  template <class T>
  T* matrix(index_t i) const {
    return reinterpret_cast<T*>(memory_.data()) + i * shape_.rows * shape_.cols;
  }

 private:
  host_memory memory_;
  operand_shape shape_;
};

// x as an iteration in `compute` stores it.
template <class T, class From>
T rounded(From x, compute_type compute) {
  return compute == compute_type::bfloat16 ? static_cast<T>(static_cast<float>(bfloat16(x))) : static_cast<T>(x);
}

// The Frobenius norm of unit * U, where the power of two `unit` keeps the squares in range whatever U's scale is.
struct scaled_norm {
  double norm, unit;
};

// The largest magnitude in U.
inline double largest_in(const matrix_view& U) {
  const line_order order = joined<double>(line_order::of_rows(U), U);
  chunk<double> buffer;
  double most = 0;
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    const double* u = read<double>({U, order, line, first, n}, buffer);
    most = vectorized([=] {
      double all = most;
      for (index_t k = 0; k < n; ++k) all = std::max(all, std::abs(u[k]));
      return all;
    });
  });
  return most;
}

// The sum of the squares in unit * U, by rows whatever the strides are: they don't change the bits.
template <class Real>
double sum_of_squares(const matrix_view& U, Real unit) {
  const line_order order = in_stretches<Real>(line_order::of_rows(U), U);
  chunk<Real> buffer;
  ordered_sum squares;
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    const Real* u = read<Real>({U, order, line, first, n}, buffer);
    squares = vectorized([=] {
      ordered_sum sum = squares;
      if (unit == Real(1)) {  // of floats always
        sum.add_squares(u, n);
        return sum;
      }
      Real scaled[chunk_length];
      for (index_t k = 0; k < n; k += chunk_length) {
        const index_t length = std::min(n - k, chunk_length);
        for (index_t j = 0; j < length; ++j) scaled[j] = unit * u[k + j];
        sum.add_squares(scaled, length);
      }
      return sum;
    });
  });
  return squares.value();
}

template <class Real, class Lanes>
scaled_norm norm_of(Lanes& lanes, const matrix_view& U) {
  Real unit = 1;
  if constexpr (std::is_same_v<Real, double>) {  // the square of a float is in range as a double
    const auto largest = values_of_bands<double>(lanes, U.rows, [&](const band& b) { return largest_in(part(U, b)); });
    const double most = *std::max_element(largest.begin(), largest.end());
    if (most > 0 && is_finite(most)) unit = std::ldexp(1.0, -std::clamp(std::ilogb(most), -1000, 1000));
  }
  const double squares =
      sum_over_bands(lanes, U.rows, [&](const band& b) { return sum_of_squares<Real>(part(U, b), unit); });
  return {std::sqrt(squares), static_cast<double>(unit)};
}

// Rows of a matrix that are moved together between row order and column order: a cache line of floats.
inline constexpr index_t block_rows = 16;

// Rows of a matrix of an operand <- those of factor * (unit * U), transposed where U is tall.
template <class Real, class T>
void load_rows(T* to, const operand_shape& shape, const matrix_view& U, const band& rows_of_u, double unit,
               double factor) {
  const index_t s = shape.rows;
  const compute_type compute = shape.compute;
  const bool tall = U.rows > U.cols;
  const line_order order = line_order::of_rows(U);
  chunk<Real> buffers[block_rows];
  const Real* lines[block_rows];
  for (index_t i0 = rows_of_u.first; i0 < rows_of_u.end; i0 += block_rows) {
    const index_t height = std::min(block_rows, rows_of_u.end - i0);
    for (index_t j0 = 0; j0 < U.cols; j0 += chunk_length) {
      const index_t n = std::min(chunk_length, U.cols - j0);
      for (index_t k = 0; k < height; ++k) lines[k] = read<Real>({U, order, i0 + k, j0, n}, buffers[k]);
      vectorized([=, rows = &lines[0]] {
        const auto enter = [&](Real u) { return rounded<T>(static_cast<double>(u) * unit * factor, compute); };
        if (tall)
          for (index_t k = 0; k < height; ++k)
            for (index_t j = 0; j < n; ++j) to[(i0 + k) * s + j0 + j] = enter(rows[k][j]);
        else
          for (index_t j = 0; j < n; ++j)
            for (index_t k = 0; k < height; ++k) to[(j0 + j) * s + i0 + k] = enter(rows[k][j]);
      });
    }
  }
}

// d <- that block of diag(factor) X, or X diag(factor), as the user has them.
template <class Real, class T>
void scale_block(const scaled_block<Real>& d, const T* X, const operand_shape& shape, bool transposed, side neurons,
                 const Real* factor) {
  const bool factor_by_row = (neurons == side::rows) != transposed;
  vectorized([=, s = shape.rows] {
    const auto scaled = [&](T x, index_t row, index_t col) {
      using wide = std::common_type_t<T, Real>;
      return static_cast<Real>(static_cast<wide>(factor[factor_by_row ? row : col]) * static_cast<wide>(x));
    };
    if (transposed)
      for (index_t k = 0; k < d.height; ++k)
        for (index_t j = 0; j < d.width; ++j)
          d.numbers[k][j] = scaled(X[(d.row + k) * s + d.col + j], d.row + k, d.col + j);
    else
      for (index_t j = 0; j < d.width; ++j)
        for (index_t k = 0; k < d.height; ++k)
          d.numbers[k][j] = scaled(X[(d.col + j) * s + d.row + k], d.row + k, d.col + j);
  });
}

// Calls f(scaled_block) for all of a band of rows of D = diag(factor) X, or X diag(factor), which has the user's shape
// or its transpose's.
template <class Real, class T, class F>
void for_each_scaled_block(const T* X, const operand_shape& shape, bool transposed, side neurons, const Real* factor,
                           const band& rows, F&& f) {
  const index_t user_cols = transposed ? shape.rows : shape.cols;
  chunk<Real> numbers[block_rows];
  for (index_t i0 = rows.first; i0 < rows.end; i0 += block_rows)
    for (index_t j0 = 0; j0 < user_cols; j0 += chunk_length) {
      const index_t height = std::min(block_rows, rows.end - i0), n = std::min(chunk_length, user_cols - j0);
      const scaled_block<Real> d{i0, height, j0, n, numbers};
      scale_block(d, X, shape, transposed, neurons, factor);
      f(d);
    }
}

// r_k <- the mean square of line k of a matrix of an operand, for a band of lines, summed in order in double.
template <class Real, class T>
void mean_squares(Real* r, const T* x, const operand_shape& shape, side neurons, const band& lines) {
  const index_t s = shape.rows, l = shape.cols;
  if (neurons == side::cols) {
    for (index_t k = lines.first; k < lines.end; ++k) {
      const double squares = vectorized([=] {
        ordered_sum of_line;
        of_line.add_squares(x + k * s, s);
        return of_line.value();
      });
      r[k] = static_cast<Real>(squares / static_cast<double>(s));
    }
    return;
  }
  for (index_t k0 = lines.first; k0 < lines.end; k0 += block_rows) {
    const index_t height = std::min(block_rows, lines.end - k0);
    double sums[block_rows];
    vectorized([=, to = &sums[0]] {
      double all[block_rows] = {};
      for (index_t j = 0; j < l; ++j)
        for (index_t k = 0; k < height; ++k) all[k] = ordered_sum::add_square(all[k], x[j * s + k0 + k]);
      std::copy_n(all, block_rows, to);
    });
    for (index_t k = 0; k < height; ++k) r[k0 + k] = static_cast<Real>(sums[k] / static_cast<double>(l));
  }
}

}  // namespace normuon

#endif
