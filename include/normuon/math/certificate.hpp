// What a coefficient table is guaranteed to do, by interval arithmetic, and the refusal of tables that aren't safe for
// the iteration's type: in a constant expression a compile error, at run time an exception.
#ifndef NORMUON_MATH_CERTIFICATE_HPP
#define NORMUON_MATH_CERTIFICATE_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "normuon/element_types.hpp"
#include "normuon/errors.hpp"
#include "normuon/math/coefficients.hpp"

namespace normuon {

struct interval {
  double low = 0, high = 0;
};

constexpr interval hull(const interval& x, const interval& y) {
  return {std::min(x.low, y.low), std::max(x.high, y.high)};
}

// Bounds of p(x) in exact arithmetic, x >= 0. Horner's scheme rounds seven times, each by at most 2^-53 of the sum of
// the terms' magnitudes; twice that is allowed for, so that other orders of evaluation (-ffast-math) are covered.
constexpr interval enclose(const quintic& p, double x) {
  const auto magnitude = [](double t) { return t < 0 ? -t : t; };
  const double slack = 16 * 0x1p-53 * quintic{magnitude(p.a), magnitude(p.b), magnitude(p.c)}(x);
  return {p(x) - slack, p(x) + slack};
}

// Bounds of p over [r.low, r.high], 0 <= r.low, from the ends and the critical points between them; one that lies
// elsewhere is moved to the nearer end. That critical points are rounded is of second order, far within the slack.
constexpr interval image(const quintic& p, const interval& r) {
  interval bounds = hull(enclose(p, r.low), enclose(p, r.high));
  for (const double x : critical_points(p)) bounds = hull(bounds, enclose(p, std::clamp(x, r.low, r.high)));
  return bounds;
}

// A lower bound, up to `farthest`, of the largest x such that p maps all of (0, x] into (0, limit].
constexpr double reach(const quintic& p, double limit) {
  const auto safe = [&](double x) {
    const interval value = enclose(p, x);
    return value.low > 0 && value.high <= limit;
  };
  const auto [first, second] = critical_points(p);
  double good = 0;
  for (const double end : {first, second, farthest}) {
    if (end == good || safe(end)) {  // p is monotone from `good` to `end`, so all between is as safe as the two
      good = end;
      continue;
    }
    double bad = end;
    for (int turn = 0; turn < 60; ++turn) {
      const double middle = good + (bad - good) / 2;
      (safe(middle) ? good : bad) = middle;
    }
    break;
  }
  return good;
}

// Upper bounds of the values that enter each step, and of the results, when all of (0, 1] enters the iteration.
constexpr std::array<double, coefficient_table::max_steps + 1> entering(const coefficient_table& table) {
  std::array<double, coefficient_table::max_steps + 1> top{};
  top[0] = 1 / table.norm_factor * (1 + 0x1p-51);
  for (std::size_t k = 0; k < table.active().size(); ++k) top[k + 1] = image(table.rows[k], {0, top[k]}).high;
  return top;
}

// The step at which a value of (0, 1] first turns zero or negative, or the number of steps if none ever does. Maps are
// odd and composed: a value that has passed zero can't come back without crossing it again.
constexpr std::size_t first_negative_step(const coefficient_table& table) {
  const auto top = entering(table);
  std::size_t k = 0;
  while (k < table.active().size() && reach(table.rows[k], std::numeric_limits<double>::max()) >= top[k]) ++k;
  return k;
}

// A result above it has escaped: sqrt(7/3), the repelling fixed point of the classical quintic (15, -10, 3)/8, which
// brings everything in (0, sqrt(7/3)) nearer to 1 and drives everything above it away.
inline constexpr double escape_limit = 1.5275252316519467;

struct certificate {
  bool positive = false;               // all of (0, 1] maps to positive values; if not, the rest is zero
  double band_low = 0, band_high = 0;  // where singular values from [lower, 1] end
  double slope = 0;                    // of all steps at zero: what noise in X's null space is multiplied by
  double margin = 0;                   // see certify
};

// Certifies the map that all steps make, one after the other, in exact arithmetic, of a table that passes `check`.
// Singular values are relative to ||U||_F: they lie in [0, 1], and the norm factor divides them before step 0.
// band: those in [lower, 1], 0 < lower <= 1, end in [band_low, band_high].
// margin: let h be the largest value that can enter step k, and e the largest number such that everything in
//   (0, h (1 + e)], entering step k, ends in (0, escape_limit] after the remaining steps. The margin is the least e of
//   all steps, negative where the table escapes without help. Both are bounds: at worst this much holds.
// A step takes (0, x] to an interval that begins at 0. So e follows from the last step back: where the remaining steps
// are safe up to some limit, this one is as far as its values stay below it.
constexpr certificate certify(const coefficient_table& table, double lower = 1e-3) {
  if (first_negative_step(table) < table.active().size()) return {};
  const auto top = entering(table);
  certificate found{.positive = true, .slope = 1, .margin = farthest - 1};
  interval band{lower / table.norm_factor * (1 - 0x1p-51), top[0]};
  for (const quintic& step : table.active()) {
    band = image(step, band);
    found.slope *= step.a;
  }
  found.band_low = band.low;
  found.band_high = band.high;
  double limit = escape_limit;
  for (std::size_t k = table.active().size(); k-- > 0;) {
    limit = reach(table.rows[k], limit);
    found.margin = std::min(found.margin, limit / top[k] - 1);
  }
  return found;
}

// In unit roundoffs. Measured with constant matrices of 516,031 shapes in bfloat16: without a safety factor half of the
// shapes escape, with a margin of 2.8 unit roundoffs 42 when every operation rounds, with 5.6 none.
inline constexpr double margin_needed = 5;

// The message for a table that `certified` refuses. Not constexpr: a compiler that gets here names it.
[[noreturn]] inline void refuse_unsafe_table(const coefficient_table& table, compute_type type) {
  const std::size_t step = first_negative_step(table);
  if (step < table.active().size())
    fail(error_code::option, "table '", table.name,
         "' is unsafe: expected a map that is positive on (0, 1], but values up to ", entering(table)[step],
         " enter step ", step, ", which is positive only up to ",
         reach(table.rows[step], std::numeric_limits<double>::max()));
  fail(error_code::option, "table '", table.name, "' is unsafe for ", name_of(type), ": expected a margin of at least ",
       margin_needed * unit_roundoff(type), " (", margin_needed, " unit roundoffs), got ", certify(table).margin);
}

// Throws where a table isn't well formed: 1 to 16 steps, finite rows, a norm factor >= 1, restarts at its own steps.
constexpr void check(const coefficient_table& table) {
  if (table.steps < 1 || table.steps > coefficient_table::max_steps)
    fail(error_code::option, "table '", table.name, "': expected 1 to ", coefficient_table::max_steps, " steps, got ",
         table.steps);
  for (const quintic& step : table.active())
    if (!is_finite(step.a) || !is_finite(step.b) || !is_finite(step.c))
      fail(error_code::option, "table '", table.name, "': expected finite coefficients, got ", step.a, ", ", step.b,
           ", ", step.c);
  if (!is_finite(table.norm_factor) || table.norm_factor < 1)
    fail(error_code::option, "table '", table.name, "': expected a finite norm factor >= 1, got ", table.norm_factor);
  for (const auto& restarts : {table.gram_restarts_fp32, table.gram_restarts_bf16, table.gram_restarts_compensated})
    if (restarts && restarts->last() >= table.steps)
      fail(error_code::option, "table '", table.name, "': expected Gram restarts before steps below ", table.steps,
           ", got ", restarts->last());
}

// The table itself, if it is safe for an iteration computed in the type: positive on (0, 1], and with a margin of at
// least five unit roundoffs. Otherwise throws error_code::option; in a constant expression that doesn't compile.
constexpr const coefficient_table& certified(const coefficient_table& table, compute_type type) {
  check(table);
  // A map that isn't positive has a margin of zero. Written so that a margin that isn't a number is refused.
  if (!(certify(table).margin >= margin_needed * unit_roundoff(type))) refuse_unsafe_table(table, type);
  return table;
}

}  // namespace normuon

#endif
