// What several ranks decide alike before a step. Standard library only, constexpr: devices agree by it too.
#ifndef NORMUON_VERDICT_HPP
#define NORMUON_VERDICT_HPP

#include <cstdint>

namespace normuon {

// What a rank says of a parameter before a step.
enum class verdict : std::uint8_t {
  no_part,              // it holds nothing of it, and has no opinion
  no_gradient,          // it has no gradient for its part
  no_replica_gradient,  // it has all of it, as all ranks have, and no gradient
  moves,
  held_back,  // its gradient is not finite
  frozen,
  differ,  // together: some have frozen it, or have no gradient of a replica, and others not
};

// What two ranks say together.
constexpr verdict agreed(verdict a, verdict b) {
  const auto either = [=](verdict v) { return a == v || b == v; };
  if (a == b) return a;
  if (either(verdict::differ) || either(verdict::frozen) || either(verdict::no_replica_gradient))
    return verdict::differ;
  return either(verdict::held_back) ? verdict::held_back
         : either(verdict::moves)   ? verdict::moves
                                    : verdict::no_gradient;
}

}  // namespace normuon

#endif
