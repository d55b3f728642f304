// Matrices of doubles and plain loops over them, with which tests say what they expect; and random ones.
#ifndef NORMUON_TESTS_SUPPORT_MATRIX_HPP
#define NORMUON_TESTS_SUPPORT_MATRIX_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "normuon/matrix_ref.hpp"

namespace normuon::test {

// Row-major.
struct matrix {
  index_t rows = 0, cols = 0;
  std::vector<double> values = {};

  matrix() = default;
  matrix(index_t m, index_t n) : rows(m), cols(n), values(static_cast<std::size_t>(m * n)) {}
  matrix(index_t m, index_t n, std::vector<double> row_by_row) : rows(m), cols(n), values(std::move(row_by_row)) {}

  double& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i * cols + j)]; }
  double operator()(index_t i, index_t j) const { return values[static_cast<std::size_t>(i * cols + j)]; }
  friend bool operator==(const matrix&, const matrix&) = default;
};

// A matrix whose element (i, j) is f(i, j).
template <class F>
matrix filled(index_t m, index_t n, F&& f) {
  matrix A(m, n);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < n; ++j) A(i, j) = f(i, j);
  return A;
}

inline matrix transposed(const matrix& A) {
  return filled(A.cols, A.rows, [&](index_t i, index_t j) { return A(j, i); });
}
inline matrix scaled(double x, const matrix& A) {
  return filled(A.rows, A.cols, [&](index_t i, index_t j) { return x * A(i, j); });
}
// x A + y B
inline matrix combined(double x, const matrix& A, double y, const matrix& B) {
  return filled(A.rows, A.cols, [&](index_t i, index_t j) { return x * A(i, j) + y * B(i, j); });
}
inline matrix product(const matrix& A, const matrix& B) {
  return filled(A.rows, B.cols, [&](index_t i, index_t j) {
    double sum = 0;
    for (index_t k = 0; k < A.cols; ++k) sum += A(i, k) * B(k, j);
    return sum;
  });
}
inline matrix identity(index_t n) {
  return filled(n, n, [](index_t i, index_t j) { return i == j ? 1.0 : 0.0; });
}

// Rows `rows` of A, in their order.
inline matrix picked_rows(const matrix& A, const std::vector<index_t>& rows) {
  return filled(static_cast<index_t>(rows.size()), A.cols,
                [&](index_t i, index_t j) { return A(rows[static_cast<std::size_t>(i)], j); });
}

// The sum of A_ij B_ij, in long double so that it can judge doubles.
inline long double inner(const matrix& A, const matrix& B) {
  long double sum = 0;
  for (std::size_t k = 0; k < A.values.size(); ++k)
    sum += static_cast<long double>(A.values[k]) * static_cast<long double>(B.values[k]);
  return sum;
}
inline double norm(const matrix& A) { return static_cast<double>(std::sqrt(inner(A, A))); }
inline double distance(const matrix& A, const matrix& B) { return norm(combined(1, A, -1, B)); }

inline double largest(const std::vector<double>& x) {
  double most = 0;
  for (const double value : x) most = std::max(most, std::abs(value));
  return most;
}

// The largest absolute difference over the largest absolute expected value; 0 where nothing differs.
inline double relative_error(const std::vector<double>& got, const std::vector<double>& expected) {
  if (got.size() != expected.size()) return HUGE_VAL;
  double most = 0;
  for (std::size_t k = 0; k < got.size(); ++k) {
    const double difference = std::abs(got[k] - expected[k]);
    if (!(difference <= most)) most = std::isnan(difference) ? HUGE_VAL : difference;
  }
  return most == 0 ? 0 : most / largest(expected);
}

// Random matrices. The same seed gives the same ones.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : engine_(seed) {}

  double normal() { return std::normal_distribution<double>()(engine_); }
  double uniform(double from, double to) { return std::uniform_real_distribution<double>(from, to)(engine_); }
  index_t whole(index_t from, index_t to) { return std::uniform_int_distribution<index_t>(from, to)(engine_); }
  std::uint64_t bits() { return engine_(); }

  // Standard normal numbers, rounded to float so that every type but the 16-bit ones holds them exactly.
  matrix gaussian(index_t m, index_t n) {
    return filled(m, n, [this](index_t, index_t) { return static_cast<double>(static_cast<float>(normal())); });
  }
  // What a gradient looks like: neurons and inputs of very different size.
  matrix gradient(index_t m, index_t n) {
    const matrix row = gaussian(m, 1), col = gaussian(1, n);
    return filled(m, n, [&](index_t i, index_t j) {
      return static_cast<double>(static_cast<float>(std::exp(0.7 * row(i, 0) + 0.5 * col(0, j)) * normal()));
    });
  }
  std::vector<index_t> permutation(index_t n) {
    std::vector<index_t> order(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<index_t>(i);
    std::shuffle(order.begin(), order.end(), engine_);
    return order;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace normuon::test

#endif
