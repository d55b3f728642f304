// Independent oracles. The rules are written here once more, in double and plain loops, from docs/algorithm.md; of the
// library only option structs, as lists of numbers, and the rows of coefficient tables are used.
#ifndef NORMUON_TESTS_SUPPORT_REFERENCE_HPP
#define NORMUON_TESTS_SUPPORT_REFERENCE_HPP

#include <Eigen/QR>
#include <Eigen/SVD>

#include "normuon/rules/adamw.hpp"
#include "normuon/rules/normuon.hpp"
#include "support/matrix.hpp"

namespace normuon::test {

using eigen_matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline eigen_matrix as_eigen(const matrix& A) {
  return Eigen::Map<const eigen_matrix>(A.values.data(), A.rows, A.cols);
}
inline matrix as_matrix(const eigen_matrix& A) {
  return {A.rows(), A.cols(), std::vector<double>(A.data(), A.data() + A.size())};
}

// Singular values, largest first; by Jacobi rotations, which find small ones to high relative accuracy.
inline std::vector<double> singular_values(const matrix& A) {
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(as_eigen(A));
  return {svd.singularValues().begin(), svd.singularValues().end()};
}

inline matrix random_orthogonal(random_source& random, index_t n) {
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(as_eigen(random.gaussian(n, n)));
  return as_matrix(qr.householderQ());
}

// A random m x n matrix with the given min(m, n) singular values.
inline matrix with_spectrum(random_source& random, index_t m, index_t n, const std::vector<double>& sigma) {
  matrix diagonal(m, n);
  for (std::size_t i = 0; i < sigma.size(); ++i) diagonal(static_cast<index_t>(i), static_cast<index_t>(i)) = sigma[i];
  return product(product(random_orthogonal(random, m), diagonal), random_orthogonal(random, n));
}

// What a table makes of one singular value of X.
inline double polynomial_of(const coefficient_table& table, double x) {
  for (const quintic& row : table.active()) x = row.a * x + row.b * x * x * x + row.c * x * x * x * x * x;
  return x;
}

// How fast the map of a table rises at zero. No table rises faster anywhere on [0, 1], so errors grow at most so much.
inline double slope_of(const coefficient_table& table) {
  double slope = 1;
  for (const quintic& row : table.active()) slope *= row.a;
  return slope;
}

// O from the singular value decomposition of U and the scalar polynomial: no iteration on matrices at all. In long
// double, for errors of small singular values grow by the slope of the table here too.
inline matrix orthogonalized_by_svd(const matrix& U, const coefficient_table& table) {
  const double divisor = table.norm_factor * norm(U);
  if (divisor == 0) return U;
  using wide = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
  const Eigen::JacobiSVD<wide> svd(as_eigen(U).cast<long double>(), Eigen::ComputeThinU | Eigen::ComputeThinV);
  wide sigma = svd.singularValues();
  for (long double& x : sigma.reshaped()) x = polynomial_of(table, static_cast<double>(x) / divisor);
  const wide O = svd.matrixU() * sigma.col(0).asDiagonal() * svd.matrixV().transpose();
  return as_matrix(O.cast<double>());
}

// O by the iteration X <- a X + (b A + c A^2) X, A = X X^T, with plain loops.
inline matrix orthogonalized_by_loops(const matrix& U, const coefficient_table& table, double divisor) {
  if (divisor == 0) return matrix(U.rows, U.cols);
  matrix X = scaled(1 / divisor, U.rows > U.cols ? transposed(U) : U);
  for (const quintic& row : table.active()) {
    const matrix A = product(X, transposed(X));
    X = combined(row.a, X, 1, product(combined(row.b, A, row.c, product(A, A)), X));
  }
  return U.rows > U.cols ? transposed(X) : X;
}

// NorMuon, or Muon where there is no neuron axis.
struct reference_normuon {
  normuon_options o;
  matrix M;
  std::vector<double> v;  // one number per neuron

  reference_normuon(const normuon_options& options, index_t m, index_t n) : o(options), M(m, n) {
    if (o.neuron_axis == neuron_axis::longer) o.neuron_axis = m >= n ? neuron_axis::rows : neuron_axis::columns;
    if (o.neuron_axis != neuron_axis::none) v.resize(static_cast<std::size_t>(by_rows() ? m : n));
  }

  bool by_rows() const { return o.neuron_axis != neuron_axis::columns; }
  bool published() const { return o.orthogonalizer.guard == norm_guard::as_published; }

  // D, what is subtracted from W times the learning rate.
  matrix direction(const matrix& G) {
    const double take = o.momentum_form == momentum_form::ema ? 1 - o.momentum : 1;
    M = combined(o.momentum, M, take, G);
    const matrix U = o.nesterov ? combined(o.momentum, M, take, G) : M;
    const coefficient_table& table = o.orthogonalizer.table;
    double divisor = table.norm_factor * norm(U);
    if (published()) divisor = std::max(divisor + o.published.norm_added, o.published.norm_floor);
    const matrix O = orthogonalized_by_loops(U, table, divisor);
    const matrix N = v.empty() ? O : normalised(O);
    return scaled(scale(O, N), N);
  }

  void step(matrix& W, const matrix& G) {
    const matrix D = direction(G);
    for (std::size_t k = 0; k < W.values.size(); ++k) {
      const bool decays = o.decay == decay_form::decoupled || D.values[k] * W.values[k] >= 0;
      W.values[k] -= o.learning_rate * (decays ? o.weight_decay * W.values[k] : 0) + o.learning_rate * D.values[k];
    }
  }

 private:
  matrix normalised(const matrix& O) {
    const index_t length = by_rows() ? O.cols : O.rows;
    std::vector<double> sums(v.size());
    for (index_t i = 0; i < O.rows; ++i)
      for (index_t j = 0; j < O.cols; ++j) sums[neuron(i, j)] += O(i, j) * O(i, j);
    std::vector<double> divisors(v.size());
    for (std::size_t k = 0; k < v.size(); ++k) {
      v[k] = o.beta2 * v[k] + (1 - o.beta2) * sums[k] / static_cast<double>(length);
      const bool after_root = o.epsilon_form == epsilon_form::after_root;
      divisors[k] = after_root ? std::sqrt(v[k]) + o.epsilon : std::sqrt(std::max(v[k], o.epsilon));
    }
    return filled(O.rows, O.cols,
                  [&](index_t i, index_t j) { return O(i, j) == 0 ? 0 : O(i, j) / divisors[neuron(i, j)]; });
  }
  std::size_t neuron(index_t i, index_t j) const { return static_cast<std::size_t>(by_rows() ? i : j); }

  double scale(const matrix& O, const matrix& N) const {
    const auto m = static_cast<double>(O.rows), n = static_cast<double>(O.cols);
    double divisor = norm(N);
    if (o.scale == update_scale::rms_02) return divisor == 0 ? 0 : 0.2 * std::sqrt(m * n) / divisor;
    if (published()) divisor = std::max(divisor + o.published.ratio_added, o.published.ratio_floor);
    const double kept = divisor == 0 ? 0 : norm(O) / divisor;
    switch (o.scale) {
      case update_scale::keep_norm: return kept;
      case update_scale::keep_norm_sqrt_max_1_ratio: return kept * std::sqrt(std::max(1.0, m / n));
      case update_scale::keep_norm_sqrt_ratio: return kept * std::sqrt(m / n);
      case update_scale::sqrt_max_1_ratio: return std::sqrt(std::max(1.0, m / n));
      default: return 0.2 * std::sqrt(std::max(m, n));  // match_adamw_rms
    }
  }
};

struct reference_adamw {
  adamw_options o;
  matrix M, V;
  int t = 0;

  reference_adamw(const adamw_options& options, index_t m, index_t n) : o(options), M(m, n), V(m, n) {}

  void step(matrix& W, const matrix& G) {
    ++t;
    for (std::size_t k = 0; k < W.values.size(); ++k) {
      double &m = M.values[k], &v = V.values[k], &w = W.values[k];
      const double g = G.values[k];
      m = o.momentum * m + (1 - o.momentum) * g;
      v = o.beta2 * v + (1 - o.beta2) * g * g;
      const double divisor = std::sqrt(v / (1 - std::pow(o.beta2, t))) + o.epsilon;
      const double d = divisor == 0 ? 0 : m / (1 - std::pow(o.momentum, t)) / divisor;
      const bool decays = o.decay == decay_form::decoupled || d * w >= 0;
      w -= o.learning_rate * (decays ? o.weight_decay * w : 0) + o.learning_rate * d;
    }
  }
};

}  // namespace normuon::test

#endif
