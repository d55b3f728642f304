// The square root as a constant expression, which std::sqrt is not in C++20. Standard library only.
#ifndef NORMUON_MATH_SQUARE_ROOT_HPP
#define NORMUON_MATH_SQUARE_ROOT_HPP

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace normuon {

// sqrt(x) for a finite x >= 0: rounded correctly at run time, to within one unit in the last place at compile time,
// where a subnormal x is too small for the start that is taken here and gives a coarser root.
constexpr double square_root(double x) {
  if (!std::is_constant_evaluated()) return std::sqrt(x);
  if (!(x > 0)) return 0;
  // Halving the exponent gives a start within 10 % or so; Newton's iteration then squares the error at every turn.
  double root = std::bit_cast<double>((std::bit_cast<std::uint64_t>(x) + std::bit_cast<std::uint64_t>(1.0)) / 2);
  for (int turn = 0; turn < 5; ++turn) root = 0.5 * (root + x / root);
  return root;
}

}  // namespace normuon

#endif
