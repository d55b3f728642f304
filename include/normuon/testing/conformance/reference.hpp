// What the conformance suite compares with: naive loops in double, the bounds within which a result may differ from
// them, and sentences that say where it does.
#ifndef NORMUON_TESTING_CONFORMANCE_REFERENCE_HPP
#define NORMUON_TESTING_CONFORMANCE_REFERENCE_HPP

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "normuon/math/newton_schulz.hpp"

namespace normuon::testing {

// One matrix, row by row.
struct matrix {
  index_t rows = 0, cols = 0;
  std::vector<double> values = {};

  matrix() = default;
  matrix(index_t m, index_t n, double x = 0) : rows(m), cols(n), values(static_cast<std::size_t>(m * n), x) {}
  double& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i * cols + j)]; }
  double operator()(index_t i, index_t j) const { return values[static_cast<std::size_t>(i * cols + j)]; }
  index_t size() const { return rows * cols; }
};

// f of every entry.
template <class F>
matrix mapped(matrix x, F&& f) {
  for (double& entry : x.values) entry = f(entry);
  return x;
}

// Numbers in (-1, 1) with 20 significant bits: more than 16-bit types hold and less than a float does, so that what
// enters is rounded by one type and not by the other. The same for the same seed, everywhere.
inline matrix random_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  std::uint64_t state = (seed + 1) * 0x9e3779b97f4a7c15u;
  return mapped(matrix(rows, cols), [&](double) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;  // xorshift64 (Marsaglia, J. Stat. Software 2003)
    return (static_cast<double>(state >> 44) - 0x1p19 + 0.5) * 0x1p-19;
  });
}

inline matrix row_of(const matrix& a, index_t i) {
  matrix row(1, a.cols);
  for (index_t j = 0; j < a.cols; ++j) row(0, j) = a(i, j);
  return row;
}

inline matrix transposed(const matrix& a) {
  matrix t(a.cols, a.rows);
  for (index_t i = 0; i < a.rows; ++i)
    for (index_t j = 0; j < a.cols; ++j) t(j, i) = a(i, j);
  return t;
}

inline matrix product(const matrix& a, const matrix& b) {
  matrix c(a.rows, b.cols);
  for (index_t i = 0; i < a.rows; ++i)
    for (index_t j = 0; j < b.cols; ++j)
      for (index_t k = 0; k < a.cols; ++k) c(i, j) += a(i, k) * b(k, j);
  return c;
}

// x A + y B
inline matrix combined(double x, const matrix& a, double y, const matrix& b) {
  matrix c = a;
  for (std::size_t k = 0; k < c.values.size(); ++k) c.values[k] = x * a.values[k] + y * b.values[k];
  return c;
}

inline matrix identity(index_t n) {
  matrix c(n, n);
  for (index_t i = 0; i < n; ++i) c(i, i) = 1;
  return c;
}

inline matrix magnitude(const matrix& a) {
  return mapped(a, [](double x) { return std::abs(x); });
}

inline double frobenius_norm(const matrix& a) {
  double sum = 0;
  for (const double x : a.values) sum += x * x;
  return std::sqrt(sum);
}

// The quintic iteration as it is written, for U of either orientation.
inline matrix orthogonalized(const matrix& u, const iteration& it) {
  const bool tall = u.rows > u.cols;
  const double factor = inverse_norm(frobenius_norm(u), 1, it.norm);
  matrix x = mapped(tall ? transposed(u) : u, [&](double e) { return factor * e; });
  for (const quintic& step : it.table.active()) {
    const matrix a = product(x, transposed(x));
    x = combined(step.a, x, 1, product(combined(step.b, a, step.c, product(a, a)), x));
  }
  return tall ? transposed(x) : x;
}

// The relative error of a sum of n terms of one sign, in whatever order they are added (Higham, "Accuracy and Stability
// of Numerical Algorithms", section 4.2), with four roundings around it.
inline double sum_error(index_t n, double unit) { return static_cast<double>(4 + n) * unit; }

// True for the same bits; any NaN is any other.
inline bool same(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

// Empty where every entry of `got` is within `bound` of `expected`; else a sentence about the first that is not.
inline std::string difference(const matrix& got, const matrix& expected, const matrix& bound) {
  if (got.rows != expected.rows || got.cols != expected.cols) return "another shape";
  for (index_t i = 0; i < got.rows; ++i)
    for (index_t j = 0; j < got.cols; ++j)
      if (!same(got(i, j), expected(i, j)) && !(std::abs(got(i, j) - expected(i, j)) <= bound(i, j))) {
        std::ostringstream text;
        text.precision(17);
        text << "at (" << i << ", " << j << ") expected " << expected(i, j) << " within " << bound(i, j) << ", got "
             << got(i, j);
        return text.str();
      }
  return {};
}
inline std::string difference(const matrix& got, const matrix& expected, double relative = 0) {
  return difference(got, expected, mapped(expected, [&](double x) { return relative * std::abs(x); }));
}

}  // namespace normuon::testing

#endif
