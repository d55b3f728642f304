// Buckets: which matrices travel together, so that one bucket is computed while its neighbours travel. Pure arithmetic.
// Standard library only.
#ifndef NORMUON_SHARDS_PLAN_BUCKETS_HPP
#define NORMUON_SHARDS_PLAN_BUCKETS_HPP

#include "normuon/shards/plan/owners.hpp"

namespace normuon {

struct shard_options {
  // Of a rank's stages together, two each way for each direction; a matrix that alone takes more still travels.
  std::size_t staging_limit = std::size_t{1} << 30;
  // So many buckets at least, where ranks own so many matrices on average. Of fewer buckets each rank has one matrix in
  // each, and more of them would only make owners of late ones wait.
  int least_buckets = 4;
};

inline void validate(const shard_options& o) {
  if (o.staging_limit < 1) fail(error_code::option, "expected staging_limit >= 1, got ", o.staging_limit);
  if (o.least_buckets < 1) fail(error_code::option, "expected least_buckets >= 1, got ", o.least_buckets);
}

struct bucket {
  std::vector<std::size_t> matrices;  // in reverse order of definition: gradients of the last ones are there first
  bool replicated = false;            // all of them are, or none: D goes whole to everyone, and U nowhere
};

// True where U or D of the matrix moves between ranks.
inline bool travels(const sharded_matrix& a, int ranks) {
  return needs_owner(a) && !a.where.sole_holder(a.rows, a.cols, ranks);
}

// What the matrices of a bucket take in a stage at most, without headers: on any rank what it owns, and what any rank can
// hold of all of them.
class stage_bound {
 public:
  explicit stage_bound(int ranks) : owned_(static_cast<std::size_t>(ranks)), held_(owned_) {}

  void clear() {
    for (const int rank : touched_) owned_[static_cast<std::size_t>(rank)] = held_[static_cast<std::size_t>(rank)] = 0;
    touched_.clear();
    most_owned_ = most_held_ = held_by_many_ = 0;
  }
  void add(const sharded_matrix& a, int owner) {
    most_owned_ = std::max(most_owned_, raise(owned_, owner, a.wire_bytes()));
    const int ranks = static_cast<int>(owned_.size());
    const auto [first, last] = a.where.holders(a.rows, a.cols, ranks);
    const auto bytes = [&](index_t elements) { return static_cast<std::size_t>(elements) * size_of(a.wire); };
    if (last - first >= few) {
      held_by_many_ += bytes(a.where.most_held(a.rows, a.cols, ranks));
      return;
    }
    for (int r = first; r <= last; ++r)
      most_held_ = std::max(most_held_, raise(held_, r, bytes(a.where.held(a.rows, a.cols, r, ranks))));
  }
  std::size_t bytes() const { return most_owned_ + most_held_ + held_by_many_; }

 private:
  static constexpr int few = 8;  // so many holders are looked at one by one: of a slice of a buffer there are few

  std::size_t raise(std::vector<std::size_t>& table, int rank, std::size_t bytes) {
    touched_.push_back(rank);
    return table[static_cast<std::size_t>(rank)] += bytes;
  }

  std::vector<std::size_t> owned_, held_;  // of each rank
  std::vector<int> touched_;
  std::size_t most_owned_ = 0, most_held_ = 0, held_by_many_ = 0;
};

// Buckets of about equal bytes, sharded matrices first. A bucket ends where its share of the bytes does, or where its
// stages would exceed their limit.
inline std::vector<bucket> make_buckets(std::span<const sharded_matrix> matrices, const ownership& owners,
                                        const shard_options& options) {
  validate(options);
  const int ranks = static_cast<int>(owners.load.size());
  std::vector<bucket> buckets;
  stage_bound stages(ranks);
  for (const bool replicated : {false, true}) {
    std::vector<std::size_t> travelling;
    std::size_t total = 0;
    for (std::size_t i = matrices.size(); i-- > 0;)
      if (matrices[i].where.is_replicated() == replicated && travels(matrices[i], ranks))
        travelling.push_back(i), total += matrices[i].wire_bytes();
    const std::size_t P = owners.load.size(), per_rank = (travelling.size() + P - 1) / P;
    const std::size_t shares = std::clamp<std::size_t>(per_rank, 1, static_cast<std::size_t>(options.least_buckets));
    const auto end_of = [&](std::size_t share) { return total / shares * share + total % shares * share / shares; };
    std::size_t share = 0, bytes = 0;
    for (const std::size_t i : travelling) {
      bool ends = false;
      while (bytes >= end_of(share)) ++share, ends = true;
      stages.add(matrices[i], owners.owner[i]);
      if (ends || stages.bytes() > options.staging_limit / 4) {
        buckets.push_back({{}, replicated});
        stages.clear();
        stages.add(matrices[i], owners.owner[i]);
      }
      buckets.back().matrices.push_back(i);
      bytes += matrices[i].wire_bytes();
    }
    stages.clear();
  }
  return buckets;
}

}  // namespace normuon

#endif
