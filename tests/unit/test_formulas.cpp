#include <doctest/doctest.h>

#include <bit>
#include <limits>

#include "normuon/element_types.hpp"
#include "normuon/math/formulas.hpp"
#include "support/matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double u64 = 0x1p-53, u32 = 0x1p-24;

bool close(double got, double expected, double relative) {
  return std::abs(got - expected) <= relative * std::abs(expected);
}

// Calls f in a constant expression and at run time.
template <class F>
constexpr auto at_compile_time = F()();
template <class F>
bool same_at_run_time(F f, double relative) {
  F* volatile hidden = &f;  // or the call would be folded too
  return close((*hidden)(), at_compile_time<F>, relative);
}

factor_formula shape(index_t rows, index_t cols, update_scale scale) {
  factor_formula f;
  f.rows = rows, f.cols = cols, f.scale = scale;
  return f;
}

// Finite floats of every size and sign, by their bits.
float any_finite(random_source& random) {
  for (;;) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
    if (is_finite(x)) return x;
  }
}

}  // namespace

TEST_CASE("formulas give the same number in a constant expression and at run time, but for the last bit of an fma") {
  CHECK(same_at_run_time([] { return blend(0.1, 0.3, 0.7, -1.1); }, 4 * u64));
  CHECK(same_at_run_time([] { return gradient_share(momentum_form::ema, 0.95, 3.0); }, 0));
  CHECK(same_at_run_time([] { return inverse_norm(3.0, 0.5, {1.02, 1e-6, 0}); }, 0));
  CHECK(same_at_run_time([] { return second_moment(0.3, 0.4, 0.95); }, 2 * u64));
  CHECK(same_at_run_time([] { return inverse_deviation(0.3, 1e-8, epsilon_form::after_root); }, 4 * u64));
  CHECK(same_at_run_time([] { return inverse_deviation(0.3, 1e-8, epsilon_form::floor); }, 4 * u64));
  CHECK(same_at_run_time([] { return updated(0.3, 0.5, 0.01, 0.001, {}); }, 4 * u64));
  CHECK(same_at_run_time([] { return power(0.999, 1000); }, 0));
  CHECK(same_at_run_time([] { return adamw(0.1, 0.2, 0.3, 0.9, 0.999, 10.0, 1000.0, 1e-8).d; }, 8 * u64));
  CHECK(same_at_run_time(
      [] {
        factor_formula f;
        f.rows = 30, f.cols = 7;
        return scale_of_update(f, 2.0, 3.0);
      },
      4 * u64));
}

TEST_CASE("the square root in a constant expression is right to the last bit or the one beside it, at any size") {
  constexpr double x[] = {0x1p-1022, 1e-300, 1e-10, 0.1, 0.5, 1, 2, 3, 4, 1e10, 1e300, 0x1.fffffffffffffp1023};
  constexpr double root[] = {square_root(x[0]), square_root(x[1]), square_root(x[2]),  square_root(x[3]),
                             square_root(x[4]), square_root(x[5]), square_root(x[6]),  square_root(x[7]),
                             square_root(x[8]), square_root(x[9]), square_root(x[10]), square_root(x[11])};
  for (std::size_t i = 0; i < std::size(x); ++i) CHECK(close(root[i], std::sqrt(x[i]), 2 * u64));
  static_assert(square_root(0) == 0 && square_root(-1) == 0 && square_root(1) == 1 && square_root(4) == 2);
  CHECK(square_root(2) == std::sqrt(2.0));
}

TEST_CASE("a fused product and sum are rounded once") {
  volatile double x = 1 + 0x1p-30;
  CHECK(fused_multiply_add<double>(x, x, -(1 + 0x1p-29)) == 0x1p-60);
  volatile float y = 1 + 0x1p-13f;
  CHECK(fused_multiply_add<float>(y, y, -(1 + 0x1p-12f)) == 0x1p-26f);
}

TEST_CASE_TEMPLATE("a blend is exact where a coefficient is 0 or 1, and ignores what a zero multiplies", T, float,
                   double) {
  const T nan = std::numeric_limits<T>::quiet_NaN(), x = T(0.1), y = T(-7.3), a = T(0.3);
  CHECK(blend(T(1), x, T(0), nan) == x);
  CHECK(blend(T(0), nan, T(1), y) == y);
  CHECK(blend(a, x, T(0), nan) == a * x);
  CHECK(blend(T(0), nan, a, y) == a * y);
  CHECK(blend(T(0), nan, T(0), nan) == T(0));
  CHECK(blend(T(1), x, T(1), y) == x + y);
  CHECK(std::signbit(blend(T(0), nan, T(1), T(-0.0))));
  CHECK(std::isnan(blend(T(1), nan, T(1), y)));
  CHECK(std::isnan(blend(T(1), x, T(1), nan)));
  CHECK(blend(T(2), T(3), T(5), T(7)) == T(41));
}

TEST_CASE("the share of a gradient is what the momentum's form says, times the gradient scale") {
  CHECK(gradient_share(momentum_form::ema, 0.75, 1) == 0.25);
  CHECK(gradient_share(momentum_form::ema, 0.75, 8) == 2);
  CHECK(gradient_share(momentum_form::heavy_ball, 0.75, 1) == 1);
  CHECK(gradient_share(momentum_form::heavy_ball, 0.75, 8) == 8);
  CHECK(gradient_share(momentum_form::ema, 0, 1) == 1);
}

TEST_CASE(
    "the inverse norm has its factor, its added number and its floor in units of the input, and is 0 for nothing") {
  CHECK(inverse_norm(4, 1, {}) == 0.25);
  CHECK(inverse_norm(4, 1, {.factor = 2}) == 0.125);
  CHECK(inverse_norm(4, 1, {.added = 4}) == 0.125);
  CHECK(inverse_norm(4, 1, {.floor = 16}) == 0.0625);
  CHECK(inverse_norm(4, 1, {.floor = 2}) == 0.25);
  CHECK(inverse_norm(0, 1, {}) == 0);
  CHECK(inverse_norm(0, 1, {.added = 0.5}) == 2);
  CHECK(inverse_norm(0, 1, {.floor = 0.5}) == 2);
  // ||U|| = 4, seen as ||U / 8|| = 0.5: the guards are divided too.
  for (const norm_formula& f : {norm_formula{}, {1.5, 0, 0}, {1, 4, 0}, {1, 0, 16}})
    CHECK(inverse_norm(0.5, 0.125, f) == 8 * inverse_norm(4, 1, f));
}

TEST_CASE("the second moment is a moving average that ends where its input is constant") {
  CHECK(second_moment(3, 5, 0) == 5);
  CHECK(second_moment(0, 4, 0.75) == 1);
  CHECK(second_moment(8, 4, 0.75) == 7);
  double v = 0;
  for (int i = 0; i < 1000; ++i) v = second_moment(v, 0.3, 0.9);
  CHECK(close(v, 0.3, 16 * u64));
}

TEST_CASE("the inverse deviation has its epsilon after the root or as a floor of v, and is 0 for nothing") {
  CHECK(inverse_deviation(4, 0, epsilon_form::after_root) == 0.5);
  CHECK(inverse_deviation(4, 2, epsilon_form::after_root) == 0.25);
  CHECK(inverse_deviation(0, 0.5, epsilon_form::after_root) == 2);
  CHECK(inverse_deviation(4, 1, epsilon_form::floor) == 0.5);
  CHECK(inverse_deviation(4, 16, epsilon_form::floor) == 0.25);
  CHECK(inverse_deviation(0, 0.25, epsilon_form::floor) == 2);
  CHECK(inverse_deviation(0, 0, epsilon_form::after_root) == 0);
  CHECK(inverse_deviation(0, 0, epsilon_form::floor) == 0);
}

TEST_CASE("every scale of the update is its formula") {
  // ||O|| = 6, ||N|| = 3; 16 x 4 and 4 x 16.
  CHECK(close(scale_of_update(shape(16, 4, update_scale::rms_02), 6, 3), 0.2 * 8 / 3, 4 * u64));
  CHECK(close(scale_of_update(shape(4, 16, update_scale::rms_02), 6, 3), 0.2 * 8 / 3, 4 * u64));
  CHECK(scale_of_update(shape(16, 4, update_scale::keep_norm), 6, 3) == 2);
  CHECK(scale_of_update(shape(16, 4, update_scale::keep_norm_sqrt_max_1_ratio), 6, 3) == 4);
  CHECK(scale_of_update(shape(4, 16, update_scale::keep_norm_sqrt_max_1_ratio), 6, 3) == 2);
  CHECK(scale_of_update(shape(16, 4, update_scale::keep_norm_sqrt_ratio), 6, 3) == 4);
  CHECK(scale_of_update(shape(4, 16, update_scale::keep_norm_sqrt_ratio), 6, 3) == 1);
  CHECK(scale_of_update(shape(16, 4, update_scale::sqrt_max_1_ratio), 6, 3) == 2);
  CHECK(scale_of_update(shape(4, 16, update_scale::sqrt_max_1_ratio), 6, 3) == 1);
  CHECK(close(scale_of_update(shape(16, 4, update_scale::match_adamw_rms), 6, 3), 0.8, 4 * u64));
  CHECK(close(scale_of_update(shape(4, 16, update_scale::match_adamw_rms), 6, 3), 0.8, 4 * u64));
}

TEST_CASE("a scale that keeps a norm obeys its epsilons, and is 0 where there is nothing to keep") {
  factor_formula f = shape(5, 5, update_scale::keep_norm);
  CHECK(scale_of_update(f, 0, 0) == 0);
  f.ratio_added = 1;
  CHECK(scale_of_update(f, 6, 3) == 1.5);
  f.ratio_added = 0, f.ratio_floor = 12;
  CHECK(scale_of_update(f, 6, 3) == 0.5);
  CHECK(scale_of_update(f, 0, 0) == 0);
  f.ratio_floor = 1;
  CHECK(scale_of_update(f, 6, 3) == 2);
  CHECK(scale_of_update(shape(5, 5, update_scale::rms_02), 0, 0) == 0);
}

TEST_CASE("a weight decays everywhere, or only where its update agrees with it, zero included") {
  const update_formula decoupled{}, cautious{decay_form::cautious, write_form::weight};
  const double rate = 0.5, decay = 0.25;
  CHECK(updated(8.0, 2.0, rate, decay, decoupled) == 5);
  CHECK(updated(8.0, -2.0, rate, decay, decoupled) == 7);
  CHECK(updated(8.0, 2.0, rate, decay, cautious) == 5);
  CHECK(updated(8.0, -2.0, rate, decay, cautious) == 9);
  CHECK(updated(-8.0, -2.0, rate, decay, cautious) == -5);
  CHECK(updated(-8.0, 2.0, rate, decay, cautious) == -9);
  CHECK(updated(8.0, 0.0, rate, decay, cautious) == 6);
  CHECK(updated(8.0, -0.0, rate, decay, cautious) == 6);
  CHECK(updated(0.0, 2.0, rate, decay, cautious) == -1);
  CHECK(std::isnan(updated(8.0, nan_value, rate, decay, cautious)));
}

TEST_CASE("the change that is written is the new weight less the old one") {
  for (const decay_form decay : {decay_form::decoupled, decay_form::cautious})
    for (const double d : {-2.0, 0.0, 2.0})
      for (const double w : {-8.0, 0.0, 8.0})
        CHECK(updated(w, d, 0.5, 0.25, {decay, write_form::change}) ==
              updated(w, d, 0.5, 0.25, {decay, write_form::weight}) - w);
}

TEST_CASE("powers of a beta are those of multiplying it again and again") {
  CHECK(power(0.9, 0) == 1);
  CHECK(power(0.0, 0) == 1);
  CHECK(power(0.0, 3) == 0);
  CHECK(power(0.9, 1) == 0.9);
  CHECK(power(0.5, 60) == 0x1p-60);
  double product = 1;
  for (std::uint64_t t = 1; t <= 300; ++t) {
    product *= 0.95;
    CHECK(close(power(0.95, t), product, 600 * u64));  // t roundings on either side
  }
  CHECK(power(0.999, std::uint64_t{1} << 60) == 0);
}

TEST_CASE("a bias correction undoes what a moment lacks that began as zero") {
  for (const double beta : {0.0, 0.9, 0.999})
    for (std::uint64_t t = 1; t <= 50; ++t) {
      double moment = 0;
      for (std::uint64_t k = 0; k < t; ++k) moment = beta * moment + (1 - beta);
      CHECK(close(bias_correction<double>(beta, t) * moment, 1, 1e5 * u64));  // 1 - 0.999^t loses three digits
      CHECK(close(static_cast<double>(bias_correction<float>(beta, t)), 1 / moment, u32 + 1e5 * u64));
    }
}

TEST_CASE_TEMPLATE("an AdamW element is its formula", T, float, double) {
  const double u = std::is_same_v<T, float> ? u32 : u64;
  random_source random(3);
  for (int i = 0; i < 2000; ++i) {
    const double m = T(random.normal()), g = T(random.normal()), v = T(std::abs(random.normal()));
    const double b1 = random.uniform(0, 1), b2 = random.uniform(0.9, 1), c1 = T(random.uniform(1, 10));
    const double c2 = T(random.uniform(1, 10)), epsilon = T(1e-8);
    const adamw_element<T> e = adamw(T(m), T(v), T(g), b1, b2, T(c1), T(c2), T(epsilon));
    const double new_m = b1 * m + (1 - b1) * g, new_v = b2 * v + (1 - b2) * g * g;
    const double terms = std::abs(b1 * m) + std::abs((1 - b1) * g);  // what new_m's roundings are relative to
    const double divisor = std::sqrt(new_v * c2) + epsilon;
    CHECK(std::abs(static_cast<double>(e.m) - new_m) <= 4 * u * terms);
    CHECK(close(static_cast<double>(e.v), new_v, 6 * u));
    CHECK(std::abs(static_cast<double>(e.d) - new_m * c1 / divisor) <= 12 * u * terms * c1 / divisor);
  }
}

TEST_CASE("1 - beta2 is not rounded to float before it is used") {
  const adamw_element<float> e = adamw(0.0f, 0.0f, 1.0f, 0.9, 0.9999, 10.0f, 10000.0f, 0.0f);
  CHECK(close(static_cast<double>(e.v), 1 - 0.9999, 2 * u32));
  CHECK(close(static_cast<double>(e.d), 1, 8 * u32));
}

TEST_CASE("the first direction of AdamW is the sign of the gradient, from the smallest gradient to 2^63") {
  for (const double b2 : {0.0, 0.95, 0.999})
    for (const float g : {0x1p-60f, 1e-10f, 1.0f, 1e10f, 0x1p63f})
      for (const float sign : {1.0f, -1.0f}) {
        const adamw_element<float> e =
            adamw(0.0f, 0.0f, sign * g, 0.9, b2, bias_correction<float>(0.9, 1), bias_correction<float>(b2, 1), 0.0f);
        CHECK(close(static_cast<double>(e.d), static_cast<double>(sign), 16 * u32));
      }
}

TEST_CASE("an AdamW element that has seen nothing stays, also without an epsilon") {
  const adamw_element<float> e = adamw(0.0f, 0.0f, 0.0f, 0.9, 0.999, 10.0f, 1000.0f, 0.0f);
  CHECK(e.m == 0);
  CHECK(e.v == 0);
  CHECK(e.d == 0);
}

TEST_CASE("AdamW is finite for every finite gradient, through any history of them") {
  random_source random(4);
  for (int history = 0; history < 2000; ++history) {
    const double b1 = random.uniform(0, 1), b2 = random.uniform(0, 1);
    const float epsilon = history % 2 == 0 ? 0.0f : 1e-8f;
    float m = 0, v = 0;
    const float constant = any_finite(random);
    for (std::uint64_t t = 1; t <= 20; ++t) {
      const float g = history % 3 == 0   ? constant
                      : history % 3 == 1 ? any_finite(random)
                                         : std::numeric_limits<float>::max();
      const adamw_element<float> e =
          adamw(m, v, g, b1, b2, bias_correction<float>(b1, t), bias_correction<float>(b2, t), epsilon);
      if (!is_finite(e.m) || !is_finite(e.v) || !is_finite(e.d))
        FAIL_CHECK("betas " << b1 << ", " << b2 << " at " << g);
      m = e.m, v = e.v;
    }
  }
  const double most = std::numeric_limits<double>::max();
  const adamw_element<double> e = adamw(most, most, -most, 0.9, 0.999, 1.0, 1.0, 0.0);
  CHECK(is_finite(e.m));
  CHECK(is_finite(e.v));
  CHECK(is_finite(e.d));
}

TEST_CASE("a NaN goes through AdamW, for those who let it in") {
  const adamw_element<double> e = adamw(0.0, 0.0, nan_value, 0.9, 0.999, 10.0, 1000.0, 1e-8);
  CHECK(std::isnan(e.m));
  CHECK(std::isnan(e.v));
  CHECK(std::isnan(updated(1.0, e.d, 0.1, 0.0, {})));
}
