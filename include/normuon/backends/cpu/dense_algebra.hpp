// The operations of the iteration on plain matrices, for host_backend: a third party's `multiply` is all it needs.
#ifndef NORMUON_BACKENDS_CPU_DENSE_ALGEBRA_HPP
#define NORMUON_BACKENDS_CPU_DENSE_ALGEBRA_HPP

#include "normuon/backends/cpu/dense_operand.hpp"
#include "normuon/backends/cpu/options.hpp"

namespace normuon {

// Products on column-major matrices of T, float or double, leading dimensions as short as they can be:
//   multiply(Y, m, n, k, alpha, A, B, transpose): Y (m x n) += alpha A (m x k) B (k x n), where `transpose` says that B
//   lies there as n x k and B^T is meant. Y is neither A nor B.
//   reserve<T>(n, k): memory for products of up to n columns and depth k is made now, so that multiply makes none.
template <class Products>
concept host_products =
    std::copyable<Products> && requires(Products& p, float* y, const float* a, double* z, const double* b) {
      p.multiply(y, index_t{}, index_t{}, index_t{}, float{}, a, a, bool{});
      p.multiply(z, index_t{}, index_t{}, index_t{}, double{}, b, b, bool{});
      p.template reserve<float>(index_t{}, index_t{});
      p.template reserve<double>(index_t{}, index_t{});
    };

// multiply_lower: the same for a square Y, of which only the lower triangle has to be computed.
template <class Products>
concept has_lower_products = requires(Products& p, float* y, const float* a, double* z, const double* b) {
  p.multiply_lower(y, index_t{}, index_t{}, float{}, a, a, bool{});
  p.multiply_lower(z, index_t{}, index_t{}, double{}, b, b, bool{});
};

// Which iterations come to plain matrices: all, or those in float64 alone, where others are packed and need not be
// compiled for plain ones.
enum class dense_types { all, float64 };

template <host_products Products, dense_types Types = dense_types::all>
class dense_algebra {
 public:
  using operand = dense_operand;

  explicit dense_algebra(const cpu_options& = {}) {}
  dense_algebra(const Products& products) : products_(products) {}

  std::size_t bytes(const operand_shape& shape) const { return operand::bytes(shape); }
  std::string_view kernel_path(compute_type) const { return "plain"; }
  bool shares(const operand_shape&) const { return false; }
  void resize(operand& X, const operand_shape& shape) { X.resize(shape); }
  void reserve(const operand_shape& shape) {
    with_stored_type(shape, [&]<class T>(T) { products_.template reserve<T>(shape.cols, shape.rows); });
  }

  void begin_load(operand&) {}

  template <class Real>
  void load(operand& X, index_t i, const matrix_view& U, const band& rows, double unit, double factor) {
    with_stored_type(X.shape(), [&]<class T>(T) { load_rows<Real>(X.matrix<T>(i), X.shape(), U, rows, unit, factor); });
  }

  void clear(operand& X, index_t i) {
    with_stored_type(X.shape(),
                     [&]<class T>(T) { std::fill_n(X.matrix<T>(i), X.shape().rows * X.shape().cols, T(0)); });
  }

  template <class Lanes>
  void multiply(Lanes&, operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    for_each_stored<false>(Y, [&]<class T>(index_t i, T* y) {
      start_sum(y, T(beta), C.matrix<T>(i), Y.shape().rows * Y.shape().cols);
      products_.multiply(y, Y.shape().rows, Y.shape().cols, A.shape().cols, T(alpha), A.matrix<T>(i), B.matrix<T>(i),
                         transpose);
    });
  }

  // Y <- alpha A B + beta C for a product known to be symmetric.
  template <class Lanes>
  void multiply_symmetric(Lanes&, operand& Y, double alpha, const operand& A, const operand& B, bool transpose,
                          double beta, const operand& C)
    requires has_lower_products<Products>
  {
    const index_t s = Y.shape().rows;
    for_each_stored<true>(Y, [&]<class T>(index_t i, T* y) {
      start_sum(y, T(beta), C.matrix<T>(i), s * s);
      products_.multiply_lower(y, s, A.shape().cols, T(alpha), A.matrix<T>(i), B.matrix<T>(i), transpose);
    });
  }

  void add_identity(operand& P, double x) {
    const index_t n = P.shape().rows;
    for_each_stored<false>(P, [&]<class T>(index_t, T* p) {
      for (index_t k = 0; k < n; ++k) p[k * n + k] += T(x);
    });
  }

  template <class Real>
  void mean_squares(Real* r, const operand& X, index_t i, side neurons, const band& lines) const {
    with_stored_type(X.shape(), [&]<class T>(T) {
      normuon::mean_squares(r, static_cast<const T*>(X.matrix<T>(i)), X.shape(), neurons, lines);
    });
  }

  // Calls f(scaled_block) for all of a band of rows of D = diag(factor) X_i, or X_i diag(factor), which has the user's
  // shape or its transpose's.
  template <class Real, class F>
  void for_each_scaled_block(const operand& X, index_t i, bool transposed, side neurons, const Real* factor,
                             const band& rows, F&& f) const {
    with_stored_type(X.shape(), [&]<class T>(T) {
      const T* const x = X.matrix<T>(i);
      normuon::for_each_scaled_block(x, X.shape(), transposed, neurons, factor, rows, f);
    });
  }

 private:
  // Calls f with a value of the type that an operand's numbers are stored in.
  template <class F>
  static decltype(auto) with_stored_type(const operand_shape& shape, F&& f) {
    if constexpr (Types == dense_types::all)
      if (shape.compute != compute_type::float64) return f(float{});
    return f(double{});
  }

  // Calls f(i, y) for every matrix y of Y, then rounds y to the type of the iteration; mirrors it first where asked.
  template <bool mirrored, class F>
  void for_each_stored(operand& Y, F&& f) {
    const operand_shape& shape = Y.shape();
    with_stored_type(Y.shape(), [&]<class T>(T) {
      for (index_t i = 0; i < shape.count; ++i) {
        T* const y = Y.matrix<T>(i);
        f(i, y);
        if (shape.compute == compute_type::bfloat16)
          for (index_t k = 0; k < shape.rows * shape.cols; ++k) y[k] = rounded<T>(y[k], shape.compute);
        if constexpr (mirrored)
          for (index_t c = 0; c < shape.rows; ++c)
            for (index_t r = c + 1; r < shape.rows; ++r) y[r * shape.rows + c] = y[c * shape.rows + r];
      }
    });
  }

  template <class T>
  static void start_sum(T* y, T beta, const T* c, index_t count) {
    if (beta == T(0)) std::fill_n(y, count, T(0));
    else
      for (index_t k = 0; k < count; ++k) y[k] = beta * c[k];
  }

  Products products_;
};

}  // namespace normuon

#endif
