// The shard plan: who owns which matrix, in which bucket it travels, and with which legs, as one rank sees it. Pure
// arithmetic on what all ranks know, so that no rank asks another. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_HPP
#define NORMUON_SHARDS_PLAN_HPP

#include "normuon/shards/plan/agreement.hpp"
#include "normuon/shards/plan/fields.hpp"
#include "normuon/shards/plan/legs.hpp"

namespace normuon {

// Bytes of the stages that serve all buckets in turn; there are two of each.
struct stage_sizes {
  std::size_t gather_send = 0, gather_receive = 0, scatter_send = 0, scatter_receive = 0;
  std::size_t total() const { return 2 * (gather_send + gather_receive + scatter_send + scatter_receive); }
};

class shard_plan {
 public:
  shard_plan() = default;

  // Of this rank, `rank` of `ranks`. `others`: what ranks must agree on besides, such as rules with their options and
  // the kernel path. Throws where a matrix, a layout or an option can't be.
  shard_plan(std::vector<sharded_matrix> matrices, int rank, int ranks, std::vector<plan_field> others = {},
             const shard_options& options = {})
      : matrices_(std::move(matrices)), rank_(rank), ranks_(ranks), options_(options), others_(std::move(others)) {
    if (rank < 0 || rank >= std::max(ranks, 1))
      fail(error_code::option, "expected a rank of 0 to ", ranks - 1, ", got ", rank);
    owners_ = assign_owners(matrices_, ranks);
    for (const bucket& b : make_buckets(matrices_, owners_, options_))
      buckets_.push_back(make_bucket_plan(b, matrices_, owners_, rank));
    for (std::size_t i = 0; i < matrices_.size(); ++i)
      if (owners_.owner[i] == rank && !travels(matrices_[i], ranks)) at_home_.push_back(i);
    for (const bucket_plan& b : buckets_) {
      stages_.gather_send = std::max(stages_.gather_send, b.gather.send_stage);
      stages_.gather_receive = std::max(stages_.gather_receive, b.gather.receive_stage);
      stages_.scatter_send = std::max(stages_.scatter_send, b.scatter.send_stage);
      stages_.scatter_receive = std::max(stages_.scatter_receive, b.scatter.receive_stage);
    }
    digest_ = prefix_digests(fields()).back();
  }

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  std::span<const sharded_matrix> matrices() const { return matrices_; }
  const ownership& owners() const { return owners_; }
  bool owns(std::size_t matrix) const { return owners_.owner[matrix] == rank_; }

  // What this rank holds of a matrix, whatever its rule.
  rectangle_list held(std::size_t matrix) const {
    const sharded_matrix& a = matrices_[matrix];
    return a.where.rectangles(a.rows, a.cols, rank_, ranks_);
  }

  // On all ranks the same number, in the same order, with the same matrices.
  const std::vector<bucket_plan>& buckets() const { return buckets_; }
  // What this rank owns and alone holds: in no bucket, so that it can be computed at any time.
  const std::vector<std::size_t>& at_home() const { return at_home_; }
  const stage_sizes& stages() const { return stages_; }

  // Of all that ranks must agree on, as `fields` lists it; see require_agreement.
  std::uint64_t digest() const { return digest_; }
  std::vector<plan_field> fields() const { return fields_of(matrices_, ranks_, options_, others_); }

  // What headers say, but for the step and who sends to whom.
  leg_label label(std::uint64_t step, std::size_t bucket, direction way) const {
    return {.plan = digest_, .step = step, .bucket = bucket, .way = way};
  }
  // The labels of a packet that this rank sends, and of one that it receives.
  leg_label sent(leg_label l, const packet& p) const {
    l.sender = rank_;
    l.receiver = p.peer;
    return l;
  }
  leg_label received(leg_label l, const packet& p) const {
    l.sender = p.peer;
    l.receiver = buckets_[l.bucket].replicated ? everyone : rank_;
    return l;
  }

 private:
  std::vector<sharded_matrix> matrices_;
  int rank_ = 0, ranks_ = 1;
  shard_options options_;
  std::vector<plan_field> others_;
  ownership owners_;
  std::vector<bucket_plan> buckets_;
  std::vector<std::size_t> at_home_;
  stage_sizes stages_;
  std::uint64_t digest_ = 0;
};

}  // namespace normuon

#endif
