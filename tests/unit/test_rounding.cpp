#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "normuon/math/random.hpp"
#include "normuon/math/rounding.hpp"
#include "support/matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr std::uint32_t never = 0xffffffff, always = 0;  // to be rounded away from zero

template <class T>
double value_of(T x) {
  return static_cast<double>(static_cast<float>(x));
}

// Numbers between any two of type T, from below the smallest to the largest, and both signs.
template <class T>
std::vector<double> awkward_numbers() {
  std::vector<double> all;
  random_source random(3);
  for (int exponent = std::is_same_v<T, bfloat16> ? -160 : -50; exponent < (std::is_same_v<T, bfloat16> ? 127 : 15);
       ++exponent)
    for (int k = 0; k < 4; ++k) {
      const double x = std::ldexp(1 + std::abs(std::fmod(random.normal(), 1.0)), exponent);
      all.push_back(k % 2 == 0 ? x : -x);
    }
  return all;
}

// The two numbers of T next to |x|: found from rounding to nearest and the order of bits.
template <class T>
std::pair<double, double> neighbours(double x) {
  const T nearest(std::abs(x));
  const auto next = [](T y, int by) { return value_of(T::from_bits(static_cast<std::uint16_t>(y.bits() + by))); };
  if (value_of(nearest) > std::abs(x)) return {next(nearest, -1), value_of(nearest)};
  return {value_of(nearest), next(nearest, 1)};
}

}  // namespace

TEST_CASE_TEMPLATE("stochastic rounding leaves what the type holds, whatever the random number", T, bfloat16, float16) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const T x = T::from_bits(static_cast<std::uint16_t>(bits));
    if (!is_finite(x)) continue;
    for (const std::uint32_t random : {always, 0x12345678u, never}) {
      CHECK(stochastically_rounded<T>(static_cast<float>(x), random).bits() == x.bits());
      CHECK(stochastically_rounded<T>(value_of(x), random).bits() == x.bits());
    }
  }
}

TEST_CASE_TEMPLATE("stochastic rounding goes to one of the two neighbours, away from zero as often as x is near to it",
                   T, bfloat16, float16) {
  for (const double x : awkward_numbers<T>()) {
    CAPTURE(x);
    const auto [low, high] = neighbours<T>(x);
    const double share = (std::abs(x) - low) / (high - low);
    // Exactly the random numbers below share 2^32 round away from zero.
    const auto bound = static_cast<std::uint32_t>(share * 0x1p32);
    const auto magnitude = [&](std::uint32_t random) {
      const T rounded = stochastically_rounded<T>(x, random);
      CHECK(std::signbit(value_of(rounded)) == std::signbit(x));
      return std::abs(value_of(rounded));
    };
    if (bound != 0) CHECK(magnitude(bound - 1) == high);
    CHECK(magnitude(bound) == low);
    CHECK(magnitude(never) == low);
  }
}

TEST_CASE_TEMPLATE("a float is rounded as the double of the same value", T, bfloat16, float16) {
  std::int64_t n = 0;
  for (const double x : awkward_numbers<T>()) {
    const auto f = static_cast<float>(x);
    for (const std::uint32_t random : random_bits(1, 2, n++))
      CHECK(stochastically_rounded<T>(f, random).bits() ==
            stochastically_rounded<T>(static_cast<double>(f), random).bits());
  }
}

TEST_CASE_TEMPLATE("what is no number of the type's range is rounded to nearest", T, bfloat16, float16) {
  const double beyond = std::is_same_v<T, bfloat16> ? 0x1.ff8p127 : 65519;
  for (const double x : {beyond, 0x1p200, std::numeric_limits<double>::infinity()})
    for (const double sign : {1.0, -1.0})
      for (const std::uint32_t random : {always, never}) {
        CHECK(stochastically_rounded<T>(sign * x, random).bits() == T(sign * x).bits());
        const auto f = static_cast<float>(sign * x);
        CHECK(stochastically_rounded<T>(f, random).bits() == T(f).bits());
      }
  CHECK(std::isnan(value_of(stochastically_rounded<T>(std::numeric_limits<double>::quiet_NaN(), never))));
  CHECK(std::isnan(value_of(stochastically_rounded<T>(std::numeric_limits<float>::quiet_NaN(), always))));
}

TEST_CASE_TEMPLATE("wider types are rounded to nearest", T, float, double) {
  for (const std::uint32_t random : {always, never}) {
    CHECK(stochastically_rounded<T>(0.1, random) == static_cast<T>(0.1));
    CHECK(stochastically_rounded<T>(0.1f, random) == static_cast<T>(0.1f));
  }
}

TEST_CASE_TEMPLATE("the mean of many roundings is the number that was rounded", T, bfloat16, float16) {
  constexpr int count = 4 * 25000;
  for (const double x : {1.0 + 0x1p-12, -3.14159, 1e-6, 0.3}) {
    CAPTURE(x);
    const auto [low, high] = neighbours<T>(x);
    double sum = 0;
    for (int block = 0; block < count / 4; ++block)
      for (const std::uint32_t random : random_bits(random_key(5, "w"), 1, block))
        sum += value_of(stochastically_rounded<T>(x, random));
    // A rounding has the variance p (1 - p) u^2 <= u^2 / 4: five standard deviations of the mean.
    CHECK(std::abs(sum / count - x) <= 5 * 0.5 * (high - low) / std::sqrt(count));
  }
}

TEST_CASE_TEMPLATE("a step that rounding to nearest would lose moves a weight in the mean", T, bfloat16, float16) {
  const float step = static_cast<float>(static_cast<T>(1.0f)) * 0x1p-14f;
  double moved = 0;
  constexpr int weights = 4 * 500, steps = 64;
  for (int block = 0; block < weights / 4; ++block) {
    T w[4] = {T(1.0f), T(1.0f), T(1.0f), T(1.0f)};
    for (std::uint64_t k = 0; k < steps; ++k) {
      const random_block random = random_bits(random_key(0, "w"), k, block);
      for (std::size_t e = 0; e < 4; ++e) {
        CHECK(static_cast<float>(T(1.0f + step)) == 1.0f);
        w[e] = stochastically_rounded<T>(static_cast<float>(w[e]) + step, random[e]);
      }
    }
    for (const T x : w) moved += value_of(x) - 1;
  }
  const double expected = steps * static_cast<double>(step), unit = std::is_same_v<T, bfloat16> ? 0x1p-7 : 0x1p-10;
  // Each step adds a variance of at most u step; five standard deviations of the mean over all weights.
  CHECK(std::abs(moved / weights - expected) <= 5 * std::sqrt(steps * unit * static_cast<double>(step) / weights));
}

TEST_CASE_TEMPLATE("a step begins at the master, and at the weight where somebody else has written it", T, bfloat16,
                   float16) {
  for (const float master : {0.1f, -3.7f, 1e-9f, 0.0f, -0.0f}) {
    CHECK(where_step_begins(master, T(master)) == master);
    CHECK(std::signbit(where_step_begins(master, T(master))) == std::signbit(master));
    CHECK(where_step_begins(static_cast<double>(master), T(master)) == static_cast<double>(master));
    CHECK(where_step_begins(master, T(5.0f)) == 5.0f);
  }
  CHECK(std::signbit(where_step_begins(0.0f, T(-0.0f))));
  CHECK(where_step_begins(std::numeric_limits<float>::quiet_NaN(), T(2.0f)) == 2.0f);
  CHECK(std::isnan(where_step_begins(2.0f, T(std::numeric_limits<float>::quiet_NaN()))));
  constexpr float at_compile_time = where_step_begins(0.25f, 0.5f);
  CHECK(at_compile_time == 0.5f);
}
