// What the rules share: the numbers of a step, what is decided once for a shape, and the checks of options.
#ifndef NORMUON_RULES_OPTIONS_HPP
#define NORMUON_RULES_OPTIONS_HPP

#include <limits>
#include <string_view>

#include "normuon/math/newton_schulz.hpp"

namespace normuon {

// The numbers of a group that may change from step to step, as they are written into slots.
struct step_values {
  double keep = 0;  // b1
  double take = 0;  // gradient_share: what of the gradient enters the momentum
  double beta2 = 0;
  double rate = 0;            // lr
  double decay = 0;           // lr wd
  double gradient_scale = 1;  // s: gradients are s times what is bound
};

// Where they lie on the device: `base` is the address of a step_values there.
struct step_numbers {
  number keep, take, beta2, rate, decay, gradient_scale;

  static constexpr index_t count = 6;
  static_assert(sizeof(step_values) == count * sizeof(double));

  explicit step_numbers(number base)
      : keep(base), take(base + 1), beta2(base + 2), rate(base + 3), decay(base + 4), gradient_scale(base + 5) {}
};

// What a matrix rule decides once for all matrices of a shape.
struct matrix_plan {
  normuon::iteration iteration;
  factor_formula factors;

  side neurons() const { return side_of_neurons(factors.axis, factors.rows, factors.cols); }
};

// Throws where x is NaN, infinite or negative.
constexpr void validate_not_negative(std::string_view option, double x) {
  if (!(x >= 0) || !is_finite(x)) fail(error_code::option, "expected ", option, " >= 0 and finite, got ", x);
}

// Throws where x is too large for Real, the type of state, in which steps use it.
template <class Real>
constexpr void validate_fits(std::string_view what, double x) {
  if (!is_finite(x) || x > static_cast<double>(std::numeric_limits<Real>::max()))
    fail(error_code::option, what, ": expected a number that fits ", name_of(element_type_of<Real>), ", got ", x);
}

// Throws where x would be 0 in Real although it is not.
template <class Real>
constexpr void validate_not_lost(std::string_view what, double x) {
  if (x != 0 && static_cast<Real>(x) == Real(0))
    fail(error_code::option, what, ": expected a number that fits ", name_of(element_type_of<Real>), ", got ", x);
}

// Throws where x is not in [0, 1).
constexpr void validate_fraction(std::string_view option, double x) {
  if (!(x >= 0 && x < 1) || !is_finite(x)) fail(error_code::option, "expected ", option, " in [0, 1), got ", x);
}

constexpr void validate_rates(double learning_rate, double weight_decay) {
  validate_not_negative("learning_rate", learning_rate);
  validate_not_negative("weight_decay", weight_decay);
}

}  // namespace normuon

#endif
