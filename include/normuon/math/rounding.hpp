// How a weight of 16 bits takes a step that is smaller than its last place: rounded up or down by chance, or beside a
// master that keeps what the weight has no room for. Standard library only, constexpr.
#ifndef NORMUON_MATH_ROUNDING_HPP
#define NORMUON_MATH_ROUNDING_HPP

#include "normuon/element_types.hpp"

namespace normuon {

// What becomes of the bits for which a weight of 16 bits has no room.
enum class weight_rounding {
  stochastic,  // x is rounded up or down by chance, in the mean to x
  nearest,     // they are lost, and with them steps of less than half a unit in the last place
  master,      // they are kept: state holds the weight in its own type, and the weight is that to nearest
};

// x, rounded away from zero with the probability of its place between the two numbers of type T about it, which is
// the share of `random` below 2^32 times that place. What T holds stays what it is; what is larger than its largest
// number, infinite or a NaN, is rounded to nearest, as is all where T is wider than 16 bits.
template <element T>
constexpr T stochastically_rounded(double x, std::uint32_t random) {
  if constexpr (sizeof(T) > 2) {
    return static_cast<T>(x);
  } else {
    constexpr bool brain = std::is_same_v<T, bfloat16>;
    constexpr int fraction_bits = brain ? 7 : 10, least = brain ? -126 : -14;  // exponent of the smallest normal number
    constexpr double largest = brain ? 0x1.fep127 : 0x1.ffcp15;
    const auto bits = std::bit_cast<std::uint64_t>(x), magnitude = bits & 0x7fffffffffffffffu;
    if (magnitude > std::bit_cast<std::uint64_t>(largest)) return static_cast<T>(x);
    const int biased = static_cast<int>(magnitude >> 52);
    const std::uint64_t significand = (magnitude & 0xfffffffffffffu) | (biased != 0 ? std::uint64_t{1} << 52 : 0);
    const int exponent = (biased != 0 ? biased : 1) - 1023;
    const int dropped = 52 - fraction_bits + (exponent < least ? least - exponent : 0);
    const std::uint64_t kept = dropped < 64 ? significand >> dropped : 0;
    const std::uint64_t rest = dropped < 64 ? significand & ((std::uint64_t{1} << dropped) - 1) : significand;
    const std::uint64_t chance = dropped < 96 ? rest >> (dropped - 32) : 0;  // of 2^32
    // The hidden bit of a normal number counts as one of the exponent.
    const auto from = static_cast<std::uint64_t>(exponent > least ? exponent - least : 0) << fraction_bits;
    return T::from_bits(static_cast<std::uint16_t>((bits >> 63 << 15) | (from + kept + (random < chance ? 1 : 0))));
  }
}

// The same, quicker where a bfloat16 is the upper half of x.
template <element T>
constexpr T stochastically_rounded(float x, std::uint32_t random) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f7f0000u) return T(x);
    return T::from_bits(static_cast<std::uint16_t>((bits + (0xffffu - (random >> 16))) >> 16));
  } else {
    return stochastically_rounded<T>(static_cast<double>(x), random);
  }
}

// Where the step of a weight begins that has a master: at the master, or at the weight where that is not what the
// master rounds to, for then somebody else has written it. So a master of zeros begins as the weight.
template <element T, class Real>
constexpr Real where_step_begins(Real master, T weight) {
  using bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  return std::bit_cast<bits>(static_cast<T>(master)) == std::bit_cast<bits>(weight) ? master
                                                                                    : static_cast<Real>(weight);
}

}  // namespace normuon

#endif
