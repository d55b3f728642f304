// All ranks' plans of a model, for tests that look at both ends of a leg.
#ifndef NORMUON_TESTS_SUPPORT_SHARD_PLANS_HPP
#define NORMUON_TESTS_SUPPORT_SHARD_PLANS_HPP

#include <vector>

#include "normuon/shards/plan.hpp"
#include "support/shard_cases.hpp"

namespace normuon::test {

inline std::vector<shard_plan> plans_of(const std::vector<sharded_matrix>& matrices, int ranks,
                                        const shard_options& options = {}) {
  std::vector<shard_plan> plans;
  for (int r = 0; r < ranks; ++r) plans.emplace_back(matrices, r, ranks, std::vector<plan_field>{}, options);
  return plans;
}

inline const traffic& traffic_of(const shard_plan& p, std::size_t bucket, direction way) {
  const bucket_plan& b = p.buckets()[bucket];
  return way == direction::gather ? b.gather : b.scatter;
}

inline constexpr direction both_ways[] = {direction::gather, direction::scatter};

}  // namespace normuon::test

#endif
