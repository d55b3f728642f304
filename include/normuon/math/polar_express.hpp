// Makes coefficient tables: for each step the quintic that brings all singular values nearest to 1, given the interval
// that the steps before have left them in (Polar Express, arXiv 2505.16932; NoahAmsel/PolarExpress).
#ifndef NORMUON_MATH_POLAR_EXPRESS_HPP
#define NORMUON_MATH_POLAR_EXPRESS_HPP

#include <algorithm>
#include <array>
#include <cstddef>

#include "normuon/element_types.hpp"
#include "normuon/errors.hpp"
#include "normuon/math/coefficients.hpp"

namespace normuon {

// The quintic p and the error E with 1 - p(x) = E, -E, E, -E at four ascending points x > 0.
// With y = x^2, p(x) = x s(y) and s is quadratic: its third divided difference, the sum of w_i s(y_i) with w_i the
// reciprocal of the product of y_i - y_j over j != i, is zero. That gives E, and Newton's form through three points s.
struct equioscillating {
  quintic p;
  double error = 0;
};

constexpr equioscillating through(const std::array<double, 4>& x) {
  double w_over_x = 0, w_over_x_signed = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    double product = x[i];
    for (std::size_t j = 0; j < 4; ++j)
      if (j != i) product *= (x[i] - x[j]) * (x[i] + x[j]);
    w_over_x += 1 / product;
    w_over_x_signed += (i % 2 == 0 ? 1 : -1) / product;
  }
  const double error = w_over_x / w_over_x_signed;
  const double y0 = x[0] * x[0], y1 = x[1] * x[1], y2 = x[2] * x[2];
  const double s0 = (1 - error) / x[0], s1 = (1 + error) / x[1], s2 = (1 - error) / x[2];
  const double s01 = (s1 - s0) / (y1 - y0), s12 = (s2 - s1) / (y2 - y1);
  const double s012 = (s12 - s01) / (y2 - y0);
  return {{s0 - y0 * (s01 - y1 * s012), s01 - (y0 + y1) * s012, s012}, error};
}

// The quintic whose largest error |1 - p| on [low, high], 0 < low < high, is least: Remez's exchange of the two inner
// points for the extrema between the ends, until the error settles.
constexpr quintic nearest_to_one(double low, double high) {
  // Where the ends meet, the limit: p(high) = 1 with two vanishing derivatives. The interval is then too short for the
  // exchange to find its inner points in double (NoahAmsel/PolarExpress).
  if (low / high >= 1 - 5e-6)
    return {1.875 / high, -1.25 / (high * high * high), 0.375 / (high * high * high * high * high)};
  std::array<double, 4> x{low, low + (high - low) / 4, high - (high - low) / 4, high};
  equioscillating best = through(x);
  for (int exchange = 0; exchange < 100; ++exchange) {
    const auto [first, second] = critical_points(best.p);
    if (!(low < first && first < second && second < high)) break;  // rounding has merged them: as near as double gets
    x[1] = first;
    x[2] = second;
    const double before = best.error;
    best = through(x);
    if (std::max(before, best.error) - std::min(before, best.error) <= 1e-15) break;
  }
  return best.p;
}

// A table of Steps steps for singular values in [lower, 1].
// cushion: no step looks below cushion times the largest value that enters it, which would cost accuracy above; its row
//   is then scaled so that what it makes of the true ends is centred at 1.
// safety: every step but the last does to [0, (1 + safety) u] what would be right for its range [0, u]: its row is
//   a/s, b/s^3, c/s^5 with s = 1 + safety. The norm factor stays 1, for the rows have all the margin that is asked for.
// polar_express<5>(1e-3, 0.02, 0.02) gives the rows of `polar_express_102`, whose source multiplies the norm as well.
// Throws unless 0 < lower < 1, 0 <= cushion < 1 and safety >= 0. What it returns isn't certified: see `certified`.
template <int Steps>
  requires(Steps >= 1 && Steps <= coefficient_table::max_steps)
constexpr coefficient_table polar_express(double lower, double cushion, double safety) {
  if (!(is_finite(lower) && lower > 0 && lower < 1))
    fail(error_code::option, "polar_express: expected 0 < lower < 1, got ", lower);
  if (!(is_finite(cushion) && cushion >= 0 && cushion < 1))
    fail(error_code::option, "polar_express: expected 0 <= cushion < 1, got ", cushion);
  if (!(is_finite(safety) && safety >= 0))
    fail(error_code::option, "polar_express: expected safety >= 0, got ", safety);
  const auto scaled = [](const quintic& p, double by, double in) {
    return quintic{by * p.a / in, by * p.b / (in * in * in), by * p.c / (in * in * in * in * in)};
  };
  coefficient_table table{.name = "polar_express", .steps = Steps};
  double low = lower, high = 1;
  for (int k = 0; k < Steps; ++k) {
    quintic p = nearest_to_one(std::max(low, cushion * high), high);
    if (low < cushion * high) p = scaled(p, 2 / (p(low) + p(high)), 1);
    if (k + 1 < Steps) p = scaled(p, 1, 1 + safety);
    table.rows[static_cast<std::size_t>(k)] = p;
    low = p(low);
    high = 2 - low;
  }
  return table;
}

}  // namespace normuon

#endif
