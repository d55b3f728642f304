// Which rank owns which matrix: the heaviest first to the least loaded rank, over all matrices at once. Integers only,
// so that all ranks and compilers agree. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_OWNERS_HPP
#define NORMUON_SHARDS_PLAN_OWNERS_HPP

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "normuon/shards/plan/first_fit.hpp"
#include "normuon/shards/plan/matrices.hpp"

namespace normuon {

struct ownership {
  std::vector<int> owner;           // of each matrix; no_owner where nothing is to be computed as a whole
  std::vector<std::uint64_t> load;  // of each rank: the costs of what it owns
  std::uint64_t makespan = 0;       // the largest load
  std::uint64_t lower_bound = 0;    // of the makespan, whoever owns what
};

// What no assignment can fall below, the largest of: the mean load, which is a multiple of what divides all costs; the
// largest matrix; the P-th and (P + 1)-th largest, as some rank must take two of the first P + 1; and what one rank has
// to do since it alone holds it. `heaviest`: costs in descending order.
inline std::uint64_t makespan_bound(std::span<const std::uint64_t> heaviest, std::span<const std::uint64_t> placed) {
  if (heaviest.empty()) return 0;
  const std::size_t P = placed.size();
  const std::uint64_t total = std::accumulate(heaviest.begin(), heaviest.end(), std::uint64_t{0});
  const std::uint64_t unit = std::accumulate(heaviest.begin(), heaviest.end(), std::uint64_t{0},
                                             [](std::uint64_t a, std::uint64_t b) { return std::gcd(a, b); });
  const std::uint64_t mean = (total / unit + P - 1) / P * unit;
  const std::uint64_t pair = heaviest.size() > P ? heaviest[P - 1] + heaviest[P] : 0;
  return std::max({mean, heaviest[0], pair, *std::max_element(placed.begin(), placed.end())});
}

// Ranks by their load; those of one load in ascending order.
class rank_loads {
 public:
  explicit rank_loads(std::span<const std::uint64_t> load) {
    for (std::size_t r = 0; r < load.size(); ++r) ranks_[load[r]].push_back(static_cast<int>(r));
  }

  // Gives the cost to one of the least loaded ranks: to the one that holds most of the matrix, and of such to the
  // first.
  int take(const sharded_matrix& a, std::uint64_t cost, int ranks) {
    const auto least = ranks_.begin();
    std::vector<int>& tied = least->second;
    const auto chosen = tied.begin() + holder_of_most(a, least->first, tied, ranks);
    const int rank = *chosen;
    std::vector<int>& heavier = ranks_[least->first + cost];
    tied.erase(chosen);
    heavier.insert(std::lower_bound(heavier.begin(), heavier.end(), rank), rank);
    if (tied.empty()) ranks_.erase(least);
    return rank;
  }

 private:
  // Which of the tied it is. Of matrices alike in a row, the next one need not look before the place of the last: those
  // there hold less.
  std::ptrdiff_t holder_of_most(const sharded_matrix& a, std::uint64_t load, const std::vector<int>& tied, int ranks) {
    const bool again =
        like_ && load == load_ && a.rows == like_->rows && a.cols == like_->cols && a.where == like_->where;
    auto found = std::pair(tied.end(), index_t{0});
    if (again) found = a.where.holder_of_most(tied.begin() + place_, tied.end(), a.rows, a.cols, ranks, most_);
    if (!again || found.second < most_) {
      const index_t enough = a.where.most_held(a.rows, a.cols, ranks);
      found = a.where.holder_of_most(tied.begin(), tied.end(), a.rows, a.cols, ranks, enough);
    }
    like_ = &a;
    load_ = load;
    most_ = found.second;
    place_ = found.first == tied.end() ? 0 : found.first - tied.begin();
    return place_;
  }

  std::map<std::uint64_t, std::vector<int>> ranks_;

  const sharded_matrix* like_ = nullptr;  // the last one that was taken, among ranks of which load
  std::uint64_t load_ = 0;
  index_t most_ = 0;
  std::ptrdiff_t place_ = 0;
};

// Owners by longest processing time first (Graham, doi:10.1137/0117039), and by MULTIFIT where that leaves more than a
// hundredth above the bound and MULTIFIT less. What one rank alone holds is its own,
// and who owns a matrix already keeps it.
inline ownership assign_owners(std::span<const sharded_matrix> matrices, int ranks) {
  check_matrices(matrices, ranks);
  ownership result{std::vector<int>(matrices.size(), no_owner),
                   std::vector<std::uint64_t>(static_cast<std::size_t>(ranks))};
  std::vector<std::uint64_t> cost(matrices.size());
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < matrices.size(); ++i)
    if (needs_owner(matrices[i])) cost[i] = exact_cost_of(matrices[i]), order.push_back(i);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (cost[a] != cost[b]) return cost[a] > cost[b];
    if (const int names = matrices[a].name.compare(matrices[b].name); names != 0) return names < 0;
    return std::pair(matrices[a].entry, a) < std::pair(matrices[b].entry, b);
  });
  std::vector<std::uint64_t> heaviest;
  for (const std::size_t i : order) heaviest.push_back(cost[i]);

  std::vector<std::size_t> free;
  std::vector<std::uint64_t> held_alone = result.load;
  for (const std::size_t i : order) {
    const sharded_matrix& a = matrices[i];
    const std::optional<int> holder = a.where.sole_holder(a.rows, a.cols, ranks);
    if (holder) held_alone[static_cast<std::size_t>(*holder)] += cost[i];
    if (!holder && a.owner == no_owner) {
      free.push_back(i);
      continue;
    }
    result.owner[i] = holder ? *holder : a.owner;
    result.load[static_cast<std::size_t>(result.owner[i])] += cost[i];
  }
  result.lower_bound = makespan_bound(heaviest, held_alone);
  const std::vector<std::uint64_t> placed = result.load;
  rank_loads loads(placed);
  const auto give = [&](std::size_t i, int rank) {
    result.owner[i] = rank;
    result.load[static_cast<std::size_t>(rank)] += cost[i];
  };
  for (const std::size_t i : free) give(i, loads.take(matrices[i], cost[i], ranks));
  result.makespan = *std::max_element(result.load.begin(), result.load.end());

  if ((result.makespan - result.lower_bound) > result.lower_bound / 100) {
    std::vector<std::uint64_t> costs;
    for (const std::size_t i : free) costs.push_back(cost[i]);
    const std::vector<int> fitted = multifit(costs, placed, result.lower_bound, result.makespan);
    if (!fitted.empty()) {
      result.load = placed;
      for (std::size_t k = 0; k < free.size(); ++k) give(free[k], fitted[k]);
      result.makespan = *std::max_element(result.load.begin(), result.load.end());
    }
  }
  return result;
}

}  // namespace normuon

#endif
