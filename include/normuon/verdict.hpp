// What several ranks decide alike before a step. Standard library only, constexpr: a device may agree by it too.
#ifndef NORMUON_VERDICT_HPP
#define NORMUON_VERDICT_HPP

#include <cstddef>
#include <cstdint>

namespace normuon {

// What a rank says of a parameter before a step.
enum class verdict : std::uint8_t {
  no_part,              // it holds nothing of it, and has no opinion
  no_gradient,          // it has no gradient for its part
  no_replica_gradient,  // it has all of it, as all ranks have, and no gradient
  zero_replica,         // the same where a missing gradient is one of zeros
  moves,
  held_back,  // its gradient is not finite
  frozen,
  differ,  // together: some have frozen it, or have no gradient of a replica, and others not
};

// What a rank says once its gradient has been looked at.
constexpr verdict checked(verdict v, bool finite) { return v == verdict::moves && !finite ? verdict::held_back : v; }

// What two ranks say together.
constexpr verdict agreed(verdict a, verdict b) {
  const auto either = [=](verdict v) { return a == v || b == v; };
  if (a == b) return a;
  if (either(verdict::differ) || either(verdict::frozen) || either(verdict::no_replica_gradient) ||
      either(verdict::zero_replica))
    return verdict::differ;
  return either(verdict::held_back) ? verdict::held_back
         : either(verdict::moves)   ? verdict::moves
                                    : verdict::no_gradient;
}
// What all ranks say together: the first of them at `all`, the next `pitch` behind it, and so on.
constexpr verdict agreed(const verdict* all, std::size_t pitch, int ranks) {
  verdict v = *all;
  for (int r = 1; r < ranks; ++r) v = agreed(v, all[static_cast<std::size_t>(r) * pitch]);
  return v;
}

// Whether a parameter moves of which all ranks together say this.
constexpr bool lets_move(verdict v) { return v == verdict::moves || v == verdict::zero_replica; }

}  // namespace normuon

#endif
