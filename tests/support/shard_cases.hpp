// Matrices with layouts for tests of shards: each kind of layout beside a definition of its own of who holds an
// element, and random models.
#ifndef NORMUON_TESTS_SUPPORT_SHARD_CASES_HPP
#define NORMUON_TESTS_SUPPORT_SHARD_CASES_HPP

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "normuon/shards/plan/matrices.hpp"

namespace normuon::test {

class shard_random {
 public:
  explicit shard_random(std::uint64_t seed) : engine_(seed) {}
  index_t from(index_t least, index_t most) { return std::uniform_int_distribution<index_t>(least, most)(engine_); }
  // Offsets that cut a length into so many parts, some of them empty.
  std::vector<index_t> offsets(index_t length, int parts) {
    std::vector<index_t> o = {0, length};
    while (o.size() < static_cast<std::size_t>(parts) + 1) o.push_back(from(0, length));
    std::sort(o.begin(), o.end());
    return o;
  }

 private:
  std::mt19937_64 engine_;
};

// A layout for m x n matrices, and which rank holds element (i, j); -1 for all of them.
struct layout_case {
  layout where;
  std::function<int(index_t i, index_t j)> holder;
};

inline index_t chunk(index_t length, index_t parts) { return std::max<index_t>(1, (length + parts - 1) / parts); }

inline int part_of(const std::vector<index_t>& offsets, index_t position) {
  int part = 0;
  while (offsets[static_cast<std::size_t>(part) + 1] <= position) ++part;
  return part;
}

inline constexpr int layout_kinds = 11;

inline layout_case make_layout_case(int kind, index_t m, index_t n, int ranks, shard_random& random) {
  const auto as_rank = [](index_t r) { return static_cast<int>(r); };
  std::vector<int> divisors;
  for (int d = 1; d <= ranks; ++d)
    if (ranks % d == 0) divisors.push_back(d);
  const int tp = divisors[static_cast<std::size_t>(random.from(0, static_cast<index_t>(divisors.size()) - 1))];
  const int fsdp = ranks / tp;
  switch (kind) {
    case 0: return {layout::rows(), [=](index_t i, index_t) { return as_rank(i / chunk(m, ranks)); }};
    case 1: return {layout::cols(), [=](index_t, index_t j) { return as_rank(j / chunk(n, ranks)); }};
    case 2:
      return {layout::flat_slice(), [=](index_t i, index_t j) { return as_rank((i * n + j) / chunk(m * n, ranks)); }};
    case 3: {
      const auto o = random.offsets(m, ranks);
      return {layout::rows(o), [o](index_t i, index_t) { return part_of(o, i); }};
    }
    case 4: {
      const auto o = random.offsets(n, ranks);
      return {layout::cols(o), [o](index_t, index_t j) { return part_of(o, j); }};
    }
    case 5: {
      const auto o = random.offsets(m * n, ranks);
      return {layout::flat_slice(o), [o, n](index_t i, index_t j) { return part_of(o, i * n + j); }};
    }
    case 6:
      return {layout::grid(fsdp, tp),
              [=](index_t i, index_t j) { return as_rank(i / chunk(m, fsdp) * tp + j / chunk(n, tp)); }};
    case 7:
      return {layout::grid(fsdp, tp, tensor_parallel::rows), [=](index_t i, index_t) {
                const index_t t = i / chunk(m, tp), first = t * chunk(m, tp);
                const index_t mine = std::min(m, first + chunk(m, tp)) - first;
                return as_rank((i - first) / chunk(mine, fsdp) * tp + t);
              }};
    case 8: {
      const index_t before = random.from(0, 40), behind = random.from(0, 40);
      const index_t each = chunk(before + m * n + behind, ranks);
      return {layout::flat_slice(before, each),
              [=](index_t i, index_t j) { return as_rank((before + i * n + j) / each); }};
    }
    case 9: {
      const int owner = as_rank(random.from(0, ranks - 1));
      return {layout::owned(owner), [owner](index_t, index_t) { return owner; }};
    }
    default: return {layout::replicated(), [](index_t, index_t) { return -1; }};
  }
}

// A model of up to ten matrices of sides up to eight, most of them sharded, on `ranks` ranks.
inline std::vector<sharded_matrix> random_model(int ranks, shard_random& random) {
  std::vector<sharded_matrix> matrices;
  const index_t count = random.from(0, 10);
  const bool one_kind = random.from(0, 3) == 0;
  const index_t common = random.from(0, layout_kinds - 1);
  for (index_t k = 0; k < count; ++k) {
    const index_t m = random.from(0, 8), n = random.from(0, 8);
    const index_t kind = one_kind ? common : random.from(0, layout_kinds - 1);
    sharded_matrix a;
    a.name = "m" + std::to_string(random.from(0, 99)) + "." + std::to_string(k);
    a.rows = m;
    a.cols = n;
    a.where = make_layout_case(static_cast<int>(kind), m, n, ranks, random).where;
    a.wire = static_cast<element_type>(random.from(0, 3));
    a.matrix_rule = random.from(0, 9) != 0;
    matrices.push_back(std::move(a));
  }
  return matrices;
}

}  // namespace normuon::test

#endif
