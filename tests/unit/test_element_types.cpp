#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "support/matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// What a 16-bit type is, in numbers: its significant bits, and the exponents of its smallest and largest normal
// numbers.
template <class T>
struct format;
template <>
struct format<bfloat16> {
  static constexpr int precision = 8, least = -126, greatest = 127;
};
template <>
struct format<float16> {
  static constexpr int precision = 11, least = -14, greatest = 15;
};

// The value of a finite bit pattern, by the definition of IEEE 754.
template <class T>
double value_of(std::uint16_t bits) {
  constexpr int stored = format<T>::precision - 1;
  const int exponent = (bits & 0x7fff) >> stored, significand = bits & ((1 << stored) - 1);
  const double magnitude = exponent == 0
                               ? std::ldexp(significand, format<T>::least - stored)
                               : std::ldexp(significand + (1 << stored), exponent - 1 + format<T>::least - stored);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// x rounded to nearest, ties to even, by exact arithmetic in double: no bits are looked at.
template <class T>
double rounded_reference(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), format<T>::least);
  const int last_place = exponent - (format<T>::precision - 1);
  const double result = std::ldexp(std::nearbyint(std::ldexp(x, -last_place)), last_place);
  const double beyond = std::ldexp(1.0, format<T>::greatest + 1);
  return std::abs(result) >= beyond ? std::copysign(HUGE_VAL, x) : result;
}

template <class T>
constexpr std::uint16_t infinity_bits = std::is_same_v<T, bfloat16> ? 0x7f80 : 0x7c00;

template <class T, class From>
void check_rounding(From x) {
  const T rounded(x);
  CAPTURE(x);
  CHECK(static_cast<double>(static_cast<float>(rounded)) == rounded_reference<T>(static_cast<double>(x)));
  CHECK(((rounded.bits() & 0x8000) != 0) == std::signbit(x));
}

template <class T>
std::uint16_t bits_of(double x) {
  return T(x).bits();
}

}  // namespace

TEST_CASE_TEMPLATE("every bit pattern has the value that its format defines, and comes back from it", T, bfloat16,
                   float16) {
  int nans = 0, finite = 0;
  for (int i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const T x = T::from_bits(bits);
    const auto wide = static_cast<float>(x);
    const auto magnitude = static_cast<std::uint16_t>(bits & 0x7fff);
    if (magnitude > infinity_bits<T>) {
      ++nans;
      if (!std::isnan(wide) || !std::isnan(static_cast<float>(T(wide))) || is_finite(x))
        FAIL_CHECK("NaN pattern " << i);
    } else if (magnitude == infinity_bits<T>) {
      if (!std::isinf(wide) || T(wide).bits() != bits || is_finite(x)) FAIL_CHECK("infinity " << i);
    } else {
      ++finite;
      if (static_cast<double>(wide) != value_of<T>(bits) || !is_finite(x)) FAIL_CHECK("value of pattern " << i);
      if (T(wide).bits() != bits || T(static_cast<double>(wide)).bits() != bits) FAIL_CHECK("round trip of " << i);
    }
  }
  CHECK(finite + nans + 2 == 65536);
}

TEST_CASE_TEMPLATE("between neighbours floats and doubles round to the nearer, and halfway to the even one", T,
                   bfloat16, float16) {
  for (int i = 0; i + 1 < infinity_bits<T>; ++i) {
    const double low = value_of<T>(static_cast<std::uint16_t>(i)),
                 high = value_of<T>(static_cast<std::uint16_t>(i + 1));
    const double middle = (low + high) / 2;
    const int even = i % 2 == 0 ? i : i + 1;
    const double below = std::nextafter(middle, low), above = std::nextafter(middle, high);
    // `below` and `above` are one step of double from the tie: rounding to float first would lose on which side they
    // lie.
    for (const double sign : {1.0, -1.0}) {
      const int bit = sign < 0 ? 0x8000 : 0;
      if (bits_of<T>(sign * middle) != (even | bit)) FAIL_CHECK("halfway above pattern " << i);
      if (bits_of<T>(sign * below) != (i | bit)) FAIL_CHECK("just below halfway above pattern " << i);
      if (bits_of<T>(sign * above) != ((i + 1) | bit)) FAIL_CHECK("just above halfway above pattern " << i);
      if (T(static_cast<float>(sign * middle)).bits() != (even | bit)) FAIL_CHECK("float halfway above pattern " << i);
    }
  }
}

TEST_CASE_TEMPLATE("random floats and doubles of every size round as exact arithmetic does", T, bfloat16, float16) {
  random_source random(1);
  for (int i = 0; i < 20000; ++i) {
    const double x = std::ldexp(random.uniform(-2, 2), static_cast<int>(random.whole(-160, 140)));
    check_rounding<T>(x);
    check_rounding<T>(static_cast<float>(x));
    check_rounding<T>(std::ldexp(random.uniform(-2, 2), static_cast<int>(random.whole(-30, 18))));
  }
}

TEST_CASE_TEMPLATE("overflow goes to infinity from halfway beyond the largest number on", T, bfloat16, float16) {
  const auto last = static_cast<std::uint16_t>(infinity_bits<T> - 1);
  const double largest = value_of<T>(last);
  const double halfway = largest + (largest - value_of<T>(static_cast<std::uint16_t>(last - 1))) / 2;
  CHECK(bits_of<T>(std::nextafter(halfway, 0.0)) == last);
  CHECK(bits_of<T>(halfway) == infinity_bits<T>);
  CHECK(bits_of<T>(-halfway) == (infinity_bits<T> | 0x8000));
  CHECK(bits_of<T>(1e300) == infinity_bits<T>);
  CHECK(T(std::numeric_limits<float>::max()).bits() == infinity_bits<T>);
  CHECK(T(-std::numeric_limits<float>::infinity()).bits() == (infinity_bits<T> | 0x8000));
  CHECK(T(-std::numeric_limits<double>::infinity()).bits() == (infinity_bits<T> | 0x8000));
}

TEST_CASE_TEMPLATE("zeros keep their sign, and half of the smallest number rounds to zero", T, bfloat16, float16) {
  const double smallest = value_of<T>(1);
  CHECK(bits_of<T>(0.0) == 0);
  CHECK(bits_of<T>(-0.0) == 0x8000);
  CHECK(T(-0.0f).bits() == 0x8000);
  CHECK(bits_of<T>(smallest / 2) == 0);
  CHECK(bits_of<T>(-smallest / 2) == 0x8000);
  CHECK(bits_of<T>(std::nextafter(smallest / 2, 1.0)) == 1);
  CHECK(bits_of<T>(std::numeric_limits<double>::denorm_min()) == 0);
  CHECK(bits_of<T>(-std::numeric_limits<double>::denorm_min()) == 0x8000);  // a float of it is -0
  CHECK(T().bits() == 0);
}

TEST_CASE_TEMPLATE("a NaN stays one, whatever its payload", T, bfloat16, float16) {
  for (const std::uint32_t payload : {0x00400000u, 0x00000001u, 0x00001fffu, 0x007fffffu})
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
      const auto x = std::bit_cast<float>(sign | 0x7f800000u | payload);
      CHECK(std::isnan(static_cast<float>(T(x))));
      CHECK_FALSE(is_finite(T(x)));
    }
  CHECK(std::isnan(static_cast<float>(T(std::numeric_limits<double>::quiet_NaN()))));
}

TEST_CASE("rounding to odd keeps exact floats and leaves the others with an odd last bit, next to the double") {
  random_source random(2);
  for (int i = 0; i < 20000; ++i) {
    const double x = std::ldexp(random.uniform(-2, 2), static_cast<int>(random.whole(-140, 126)));
    const float odd = round_to_odd(x);
    const double step = std::abs(static_cast<double>(std::nextafter(odd, HUGE_VALF)) - static_cast<double>(odd));
    CHECK(std::abs(static_cast<double>(odd) - x) < step);
    if (static_cast<double>(odd) != x) CHECK((std::bit_cast<std::uint32_t>(odd) & 1u) == 1);
    CHECK(round_to_odd(static_cast<double>(odd)) == odd);
  }
}

TEST_CASE("16-bit numbers are made in constant expressions") {
  static_assert(bfloat16(1.0f).bits() == 0x3f80 && float16(1.0f).bits() == 0x3c00);
  static_assert(static_cast<float>(float16(0.333251953125)) == 0.333251953125f);
  static_assert(is_finite(float16::from_bits(1)) && !is_finite(bfloat16::from_bits(0x7f80)));
  static_assert(sizeof(bfloat16) == 2 && sizeof(float16) == 2);
}

TEST_CASE("finiteness of floats and doubles is told apart at the very ends of their range") {
  CHECK(is_finite(std::numeric_limits<double>::max()));
  CHECK(is_finite(std::numeric_limits<double>::denorm_min()));
  CHECK(is_finite(std::numeric_limits<float>::lowest()));
  CHECK_FALSE(is_finite(std::numeric_limits<double>::infinity()));
  CHECK_FALSE(is_finite(-std::numeric_limits<double>::infinity()));
  CHECK_FALSE(is_finite(std::numeric_limits<float>::infinity()));
  CHECK_FALSE(is_finite(-std::numeric_limits<float>::infinity()));
  CHECK_FALSE(is_finite(std::numeric_limits<double>::signaling_NaN()));
  CHECK_FALSE(is_finite(-std::numeric_limits<float>::quiet_NaN()));
}

TEST_CASE_TEMPLATE("an element type as a value leads back to the type, its size and its name", T, double, float,
                   bfloat16, float16) {
  const element_type type = element_type_of<T>;
  CHECK(size_of(type) == sizeof(T));
  CHECK(with_element_type(type, []<class Same>(Same) { return std::is_same_v<Same, T>; }));
  const std::string name(name_of(type));
  CHECK(name == (std::is_same_v<T, double>     ? "float64"
                 : std::is_same_v<T, float>    ? "float32"
                 : std::is_same_v<T, bfloat16> ? "bfloat16"
                                               : "float16"));
  CHECK(name_of(type == element_type::float64    ? compute_type::float64
                : type == element_type::float32  ? compute_type::float32
                : type == element_type::bfloat16 ? compute_type::bfloat16
                                                 : compute_type::float16) == name);
}

TEST_CASE("the unit roundoff is the largest relative error of one rounding near 1") {
  CHECK(1.0 + unit_roundoff(compute_type::float64) == 1.0);
  CHECK(1.0 + 2 * unit_roundoff(compute_type::float64) > 1.0);
  CHECK(static_cast<float>(1 + unit_roundoff(compute_type::float32)) == 1.0f);
  CHECK(static_cast<float>(1 + 2 * unit_roundoff(compute_type::float32)) > 1.0f);
  CHECK(bits_of<bfloat16>(1 + unit_roundoff(compute_type::bfloat16)) == 0x3f80);
  CHECK(bits_of<bfloat16>(1 + 2 * unit_roundoff(compute_type::bfloat16)) == 0x3f81);
  CHECK(bits_of<float16>(1 + unit_roundoff(compute_type::float16)) == 0x3c00);
  CHECK(bits_of<float16>(1 + 2 * unit_roundoff(compute_type::float16)) == 0x3c01);
  CHECK_THROWS_WITH_AS(unit_roundoff(compute_type::automatic), "expected the type of an iteration, got `automatic`",
                       error);
}
