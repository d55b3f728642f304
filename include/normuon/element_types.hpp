// The number types of weights and gradients: double, float, and two 16-bit types of our own; and the types an iteration
// can be computed in. The 16-bit types store only: arithmetic is done in float or double. Standard library only.
#ifndef NORMUON_ELEMENT_TYPES_HPP
#define NORMUON_ELEMENT_TYPES_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "normuon/errors.hpp"

namespace normuon {

// Narrows to a float by rounding to odd: a second rounding to 16 bits then gives what rounding once would have given
// (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Trans. Computers 2008).
constexpr float round_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const auto bits = std::bit_cast<std::uint32_t>(nearest);
  const auto magnitude = [](double y) { return std::bit_cast<std::uint64_t>(y) & 0x7fffffffffffffffu; };
  // No branch, so that loops become vector code. Of numbers with one sign the bits are ordered as the numbers are.
  const std::uint32_t too_large = magnitude(nearest) > magnitude(x) ? 1 : 0;
  const bool kept = (bits & 0x7f800000u) == 0x7f800000u || static_cast<double>(nearest) == x;
  return std::bit_cast<float>(kept ? bits : (bits - too_large) | 1u);
}

// 8 exponent and 8 significant bits: the upper half of a float. Rounds to nearest, ties to even.
class bfloat16 {
 public:
  constexpr bfloat16() = default;
  constexpr explicit bfloat16(float x) : bits_(round(std::bit_cast<std::uint32_t>(x))) {}
  constexpr explicit bfloat16(double x) : bfloat16(round_to_odd(x)) {}
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16); }

  static constexpr bfloat16 from_bits(std::uint16_t bits) {
    bfloat16 x;
    x.bits_ = bits;
    return x;
  }
  constexpr std::uint16_t bits() const { return bits_; }

 private:
  static constexpr std::uint16_t round(std::uint32_t x) {
    const std::uint32_t rounded = x + 0x7fffu + ((x >> 16) & 1u);
    const bool is_nan = (x & 0x7fffffffu) > 0x7f800000u;  // stays one
    return static_cast<std::uint16_t>((is_nan ? x | 0x00400000u : rounded) >> 16);
  }
  std::uint16_t bits_ = 0;
};

// IEEE 754 binary16: 5 exponent and 11 significant bits. Rounds to nearest, ties to even; overflows to infinity.
class float16 {
 public:
  constexpr float16() = default;
  constexpr explicit float16(float x) : bits_(narrow(std::bit_cast<std::uint32_t>(x))) {}
  constexpr explicit float16(double x) : float16(round_to_odd(x)) {}
  constexpr operator float() const { return std::bit_cast<float>(widen(bits_)); }

  static constexpr float16 from_bits(std::uint16_t bits) {
    float16 x;
    x.bits_ = bits;
    return x;
  }
  constexpr std::uint16_t bits() const { return bits_; }

 private:
  static constexpr std::uint16_t narrow(std::uint32_t x) {
    const auto sign = static_cast<std::uint16_t>((x >> 16) & 0x8000u);
    const std::uint32_t magnitude = x & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
    if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65536 and above
    const int exponent = static_cast<int>(magnitude >> 23) - 112;                     // biased for binary16
    if (exponent < -10) return sign;                                                  // less than half of the smallest
    // A normal value drops 13 of the 24 significant bits, a subnormal one more for every step below exponent 1.
    const std::uint32_t significand = exponent > 0 ? magnitude & 0x7fffffu : (magnitude & 0x7fffffu) | 0x800000u;
    const int drop = exponent > 0 ? 13 : 14 - exponent;
    const std::uint32_t kept = (exponent > 0 ? static_cast<std::uint32_t>(exponent) << 10 : 0u) + (significand >> drop);
    const std::uint32_t rest = significand & ((1u << drop) - 1u);
    const std::uint32_t half = 1u << (drop - 1);
    const bool up = rest > half || (rest == half && (kept & 1u) != 0);
    return static_cast<std::uint16_t>(sign | (kept + (up ? 1u : 0u)));
  }
  static constexpr std::uint32_t widen(std::uint16_t x) {
    const std::uint32_t sign = static_cast<std::uint32_t>(x & 0x8000u) << 16;
    const std::uint32_t exponent = (x >> 10) & 0x1fu;
    std::uint32_t significand = x & 0x3ffu;
    if (exponent == 0x1fu) return sign | 0x7f800000u | (significand << 13);
    if (exponent != 0) return sign | ((exponent + 112u) << 23) | (significand << 13);
    if (significand == 0) return sign;
    const auto shift =
        static_cast<std::uint32_t>(std::countl_zero(significand) - 21);  // to the place of the hidden bit
    significand = (significand << shift) & 0x3ffu;
    return sign | ((113u - shift) << 23) | (significand << 13);
  }
  std::uint16_t bits_ = 0;
};

enum class element_type : std::uint8_t { float64, float32, bfloat16, float16 };

template <class T>
concept element =
    std::is_same_v<T, double> || std::is_same_v<T, float> || std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

template <element T>
inline constexpr element_type element_type_of = std::is_same_v<T, double>     ? element_type::float64
                                                : std::is_same_v<T, float>    ? element_type::float32
                                                : std::is_same_v<T, bfloat16> ? element_type::bfloat16
                                                                              : element_type::float16;

constexpr std::string_view name_of(element_type type) {
  constexpr std::string_view names[] = {"float64", "float32", "bfloat16", "float16"};
  return names[static_cast<std::size_t>(type)];
}

constexpr std::size_t size_of(element_type type) {
  return type == element_type::float64 ? 8 : type == element_type::float32 ? 4 : 2;
}

// Calls f with a value-initialised element of the type, so that a template can be chosen at run time.
template <class F>
constexpr decltype(auto) with_element_type(element_type type, F&& f) {
  switch (type) {
    case element_type::float64: return f(double{});
    case element_type::float32: return f(float{});
    case element_type::bfloat16: return f(bfloat16{});
    case element_type::float16: return f(float16{});
  }
  fail(error_code::parameter, "expected an element type, got the value ", static_cast<int>(type));
}

// True where x is neither infinite nor a NaN. Looks at the bits, so that -ffast-math can't remove the question.
template <element T>
constexpr bool is_finite(T x) {
  if constexpr (std::is_same_v<T, double>)
    return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
  else return (std::bit_cast<std::uint32_t>(static_cast<float>(x)) & 0x7f800000u) != 0x7f800000u;
}

// What the Newton-Schulz iteration is computed in. `automatic`: the backend's own choice for its state type.
// tensor_float32: numbers are stored as floats, and enter products with 11 significant bits, as NVIDIA's TF32 has it.
enum class compute_type : std::uint8_t { automatic, float64, float32, bfloat16, float16, tensor_float32 };

constexpr std::string_view name_of(compute_type type) {
  constexpr std::string_view names[] = {"auto", "float64", "float32", "bfloat16", "float16", "tensor_float32"};
  return names[static_cast<std::size_t>(type)];
}

// The largest relative error of one rounding: half a unit in the last place of 1. Of TF32 a whole one: what is promised
// are the bits that a product keeps of a number, and not that the others are rounded.
constexpr double unit_roundoff(compute_type type) {
  switch (type) {
    case compute_type::float64: return 0x1p-53;
    case compute_type::float32: return 0x1p-24;
    case compute_type::bfloat16: return 0x1p-8;
    case compute_type::float16: return 0x1p-11;
    case compute_type::tensor_float32: return 0x1p-10;
    case compute_type::automatic: break;
  }
  fail(error_code::option, "expected the type of an iteration, got `automatic`");
}

}  // namespace normuon

#endif
