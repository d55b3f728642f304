// What ranks say of each parameter before a step, so that all decide alike which of them move.
#ifndef NORMUON_OPTIMIZER_VERDICTS_HPP
#define NORMUON_OPTIMIZER_VERDICTS_HPP

#include <algorithm>
#include <string>

#include "normuon/optimizer/plan.hpp"
#include "normuon/shards/engine.hpp"

namespace normuon {

// One byte for each rank and parameter, in the backend's memory. Nothing on one rank.
template <tensor_backend B>
class rank_verdicts {
 public:
  rank_verdicts() = default;
  rank_verdicts(B& b, const plan<B>& p) : rank_(static_cast<std::size_t>(p.rank())), count_(p.first.size()) {
    if (p.ranks() == 1) return;
    ranks_ = static_cast<std::size_t>(p.ranks());
    memory_ = b.allocate(ranks_ * count_);
    all_.resize(ranks_ * count_);
    mine_.resize(count_);
    refusals_memory_ = b.allocate(ranks_);
    refusals_.resize(ranks_);
  }

  // Notes on the host what this rank says as far as the host knows: what is staged in `p`.
  void stage(B& b, const plan<B>& p, const std::vector<parameter<B>>& parameters) {
    for (std::size_t i = 0; i < mine_.size(); ++i) mine_[i] = known_of(parameters[i], p.staged_outcome[i]);
    b.write(data() + rank_ * count_, mine_.data(), mine_.size());
  }

  // Shows the others which flags the check has cleared, and sets all flags to what ranks say together.
  template <shard_engine Engine>
  void exchange(B& b, Engine& engine, const plan<B>& p) {
    if (ranks_ == 1) return;
    if constexpr (has_agreement<B>) {
      b.note_verdicts(data() + rank_ * count_, p.parameter_ok);
      engine.all_gather_small(data(), count_);
      b.agree(p.parameter_ok, data(), static_cast<int>(ranks_));
    }
  }

  // The first rank that refuses, or -1; one gather more.
  template <shard_engine Engine>
  int first_to_refuse(B& b, Engine& engine, bool refuses) {
    if (ranks_ == 1) return -1;
    refusals_[rank_] = refuses ? 1 : 0;
    b.write(refusals_memory_.data(), refusals_.data(), ranks_);
    engine.all_gather_small(refusals_memory_.data(), 1);
    b.read(refusals_.data(), refusals_memory_.data(), ranks_);
    b.sync();
    const auto first = std::find(refusals_.begin(), refusals_.end(), std::uint8_t{1});
    return first == refusals_.end() ? -1 : static_cast<int>(first - refusals_.begin());
  }

  // Copies to the host what all ranks said of the last step.
  void read(B& b) {
    b.read(all_.data(), data(), all_.size());
    b.sync();
  }
  // What they said of parameter i together, after `read`.
  verdict of(std::size_t i) const {
    verdict v = all_[i];
    for (std::size_t r = 1; r < ranks_; ++r) v = agreed(v, all_[r * count_ + i]);
    return v;
  }
  // Corrects what this rank staged for parameter i where others have said more.
  void settle(outcome& staged, std::size_t i) const {
    if (ranks_ == 1 || staged == outcome::frozen) return;
    staged = of(i) == verdict::moves || of(i) == verdict::held_back ? outcome::moved : outcome::absent;
  }

  // For messages, where they differ: what the first rank says and the first that says otherwise.
  std::string text_of(std::size_t i) const {
    const auto said = [](verdict v) {
      return v == verdict::frozen                ? "has frozen it"
             : v == verdict::no_replica_gradient ? "has no gradient"
                                                 : "moves it";
    };
    std::size_t other = 1;
    while (other + 1 < ranks_ && all_[other * count_ + i] == all_[i]) ++other;
    return "rank 0 " + std::string(said(all_[i])) + " and rank " + std::to_string(other) + " " +
           said(all_[other * count_ + i]);
  }

 private:
  static verdict known_of(const parameter<B>& p, outcome staged) {
    if (staged == outcome::frozen) return verdict::frozen;
    if (p.elements_here() == 0 && p.elements() != 0) return verdict::no_part;
    if (staged == outcome::moved) return verdict::moves;
    return p.how.is_replicated() ? verdict::no_replica_gradient : verdict::no_gradient;
  }
  verdict* data() const { return address_of<verdict>(memory_.data()); }

  std::size_t rank_ = 0, ranks_ = 1, count_ = 0;
  typename B::memory memory_, refusals_memory_;
  std::vector<std::uint8_t> refusals_;
  std::vector<verdict> mine_, all_;
};

}  // namespace normuon

#endif
