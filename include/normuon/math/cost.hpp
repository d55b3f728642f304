// What a rule costs, to divide work. Pure arithmetic, standard library only.
#ifndef NORMUON_MATH_COST_HPP
#define NORMUON_MATH_COST_HPP

#include <algorithm>
#include <cstdint>

namespace normuon {

// What a matrix costs, to be compared: Newton-Schulz the multiply-adds of one plain step without symmetric refinements,
// s^2 (2 l + s) with short side s and long side l, whatever its form; an element of AdamW, which memory bounds, as many
// as take as long.
inline double cost_of(bool matrix_rule, std::int64_t rows, std::int64_t cols) {
  const auto s = static_cast<double>(std::min(rows, cols)), l = static_cast<double>(std::max(rows, cols));
  return matrix_rule ? s * s * (2 * l + s) : 50 * s * l;
}

}  // namespace normuon

#endif
