// What a shard plan is made of: the matrices of a model in the order of their definition. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_MATRICES_HPP
#define NORMUON_SHARDS_PLAN_MATRICES_HPP

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "normuon/element_types.hpp"
#include "normuon/math/cost.hpp"
#include "normuon/shards/layout.hpp"

namespace normuon {

inline constexpr int no_owner = -1;

// Matrix `entry` of the batch `name`, or the matrix `name`.
struct sharded_matrix {
  std::string name;
  index_t rows = 0, cols = 0;
  layout where = layout::replicated();
  element_type wire = element_type::float32;  // of the elements of U and D while they travel
  bool matrix_rule = true;                    // false: an elementwise rule, of which nothing travels
  index_t entry = 0;
  int owner = no_owner;  // who owns it already

  index_t elements() const { return rows * cols; }
  std::size_t wire_bytes() const { return static_cast<std::size_t>(elements()) * size_of(wire); }
  std::string text() const { return entry == 0 ? name : name + "[" + std::to_string(entry) + "]"; }
};

// False where nobody has anything to compute on the matrix as a whole, so that it has no owner.
inline bool needs_owner(const sharded_matrix& a) { return a.matrix_rule && a.elements() != 0; }

// Multiply-adds of Newton-Schulz up to a factor, exactly.
inline std::uint64_t exact_cost_of(const sharded_matrix& a) {
  return static_cast<std::uint64_t>(cost_of(true, a.rows, a.cols));
}

// Throws where a number of ranks, a size or a layout can't be, the cost of a matrix is not exact in double, or all
// costs or bytes together don't fit 62 bits.
inline void check_matrices(std::span<const sharded_matrix> matrices, int ranks) {
  if (ranks < 1) fail(error_code::option, "expected at least 1 rank, got ", ranks);
  std::uint64_t costs = 0, bytes = 0;
  for (const sharded_matrix& a : matrices) {
    const auto refuse = [&](const auto&... why) { fail(error_code::parameter, "'", a.text(), "': ", why...); };
    if (a.rows < 0 || a.cols < 0) refuse("expected sizes >= 0, got ", a.rows, " x ", a.cols);
    index_t elements = 0;
    if (__builtin_mul_overflow(a.rows, a.cols, &elements) || elements > std::numeric_limits<index_t>::max() / 16)
      refuse("expected sizes that fit 64 bits, got ", a.rows, " x ", a.cols);
    a.where.check(a.text(), a.rows, a.cols, ranks);
    if (!needs_owner(a)) continue;
    if (cost_of(true, a.rows, a.cols) > 0x1p53) refuse("expected a cost below 2^53, got ", a.rows, " x ", a.cols);
    costs += exact_cost_of(a);
    bytes += a.wire_bytes();
    if ((costs | bytes) >> 62 != 0) refuse("expected matrices whose costs and bytes fit 62 bits together, got more");
  }
}

}  // namespace normuon

#endif
