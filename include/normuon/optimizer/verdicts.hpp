// What ranks say of a step and of each parameter before it, so that all decide alike whether and which of them move.
#ifndef NORMUON_OPTIMIZER_VERDICTS_HPP
#define NORMUON_OPTIMIZER_VERDICTS_HPP

#include <algorithm>
#include <cstring>
#include <string>

#include "normuon/optimizer/plan.hpp"
#include "normuon/optimizer/together.hpp"
#include "normuon/shards/step_claim.hpp"

namespace normuon {

// In the backend's memory, for each rank one byte for each parameter, then its claim. Nothing on one rank.
template <tensor_backend B>
class rank_verdicts {
 public:
  rank_verdicts() = default;
  rank_verdicts(B& b, const plan<B>& p)
      : rank_(static_cast<std::size_t>(p.rank())), count_(p.first.size()), flags_(count_) {
    if (p.ranks() == 1) return;
    ranks_ = static_cast<std::size_t>(p.ranks());
    memory_ = b.allocate(ranks_ * pitch());
    all_.resize(ranks_ * pitch());
  }

  // Notes what this rank says as far as the host knows. zero_missing: as in `step_settings`.
  void stage(B& b, const std::vector<parameter<B>>& parameters, bool zero_missing, const step_claim& claim) {
    if (ranks_ == 1) return;
    verdict* const mine = all_.data() + rank_ * pitch();
    for (std::size_t i = 0; i < count_; ++i) mine[i] = known_of(parameters[i], zero_missing);
    std::memcpy(mine + count_, &claim, sizeof claim);
    b.write(data() + rank_ * pitch(), mine, pitch());
  }

  // Notes which flags the check has cleared,
  void note(B& b, const plan<B>& p) {
    if constexpr (has_agreement<B>)
      if (ranks_ > 1) b.note_verdicts(data() + rank_ * pitch(), p.parameter_ok);
  }
  // shows it to the others,
  template <shard_engine Engine>
  void gather(Engine& engine) {
    if (ranks_ > 1) engine.all_gather_small(data(), pitch());
  }
  // and sets all flags to what ranks say together.
  void agree(B& b, const plan<B>& p) {
    if constexpr (has_agreement<B>)
      if (ranks_ > 1) b.agree(p.parameter_ok, data(), pitch(), static_cast<int>(ranks_));
  }

  // Copies to the host what all ranks said of the last step.
  template <shard_engine Engine>
  void read(B& b, Engine& engine) {
    if (ranks_ == 1) return;
    read_now(b, engine, all_.data(), data(), all_.size());
  }

  // On one rank, copies to the host which flags the check has left.
  template <shard_engine Engine>
  void read_flags(B& b, Engine& engine, const plan<B>& p) {
    if (ranks_ == 1 && count_ != 0) read_now(b, engine, flags_.data(), p.parameter_ok[0], count_ * sizeof(double));
  }

  // The others are of what was read.
  //
  // What ranks said of parameter i together.
  verdict of(std::size_t i) const { return agreed(all_.data() + i, pitch(), static_cast<int>(ranks_)); }
  // Corrects what this rank staged for parameter i where others have said more.
  void settle(outcome& staged, std::size_t i) const {
    if (ranks_ == 1 || staged == outcome::frozen) return;
    const verdict v = of(i);
    staged = lets_move(v) || v == verdict::held_back ? outcome::moved : outcome::absent;
  }
  // Whether parameter i would move, had it a finite gradient.
  bool holds_back(const plan<B>& p, std::size_t i) const {
    return ranks_ > 1 ? of(i) == verdict::held_back : p.staged_ok(i) != 0 && flags_[i] == 0;
  }
  bool holds_any_back(const plan<B>& p) const {
    for (std::size_t i = 0; i < count_; ++i)
      if (holds_back(p, i)) return true;
    return false;
  }
  // The first parameter of which ranks say what can't be so together; -1 where there is none.
  int first_that_differs() const {
    for (std::size_t i = 0; ranks_ > 1 && i < count_; ++i)
      if (of(i) == verdict::differ) return static_cast<int>(i);
    return -1;
  }
  // The first rank that can't make the step, or -1.
  int first_to_refuse() const {
    for (std::size_t r = 0; ranks_ > 1 && r < ranks_; ++r)
      if (claim_of(r).refuses != 0) return static_cast<int>(r);
    return -1;
  }
  error_code reason_of(int rank) const { return reason_in(claim_of(static_cast<std::size_t>(rank))); }
  bool have_the_same_numbers() const {
    for (std::size_t r = 1; r < ranks_; ++r)
      if (claim_of(r).numbers != claim_of(0).numbers) return false;
    return true;
  }
  bool let_step() const { return first_to_refuse() < 0 && have_the_same_numbers() && first_that_differs() < 0; }

  // For messages, where they differ: what the first rank says and the first that it can't be together with.
  std::string text_of(std::size_t i) const {
    const auto said = [](verdict v) {
      return v == verdict::frozen    ? " has frozen it"
             : v == verdict::no_part ? " has no part of it"
             : v == verdict::no_gradient || v == verdict::no_replica_gradient || v == verdict::zero_replica
                 ? " has no gradient"
                 : " moves it";
    };
    std::size_t other = 1;
    while (other + 1 < ranks_ && agreed(all_[i], all_[other * pitch() + i]) != verdict::differ) ++other;
    return message_of("rank 0", said(all_[i]), " and rank ", other, said(all_[other * pitch() + i]));
  }

 private:
  static verdict known_of(const parameter<B>& p, bool zero_missing) {
    if (p.frozen) return verdict::frozen;
    if (p.elements_here() == 0 && p.elements() != 0) return verdict::no_part;
    if (p.has_gradient) return verdict::moves;
    if (zero_missing) return p.how.is_replicated() ? verdict::zero_replica : verdict::moves;
    return p.how.is_replicated() ? verdict::no_replica_gradient : verdict::no_gradient;
  }

  std::size_t pitch() const { return bytes_said(count_); }  // of a rank
  step_claim claim_of(std::size_t rank) const {
    step_claim claim;
    std::memcpy(&claim, all_.data() + rank * pitch() + count_, sizeof claim);
    return claim;
  }
  verdict* data() const { return address_of<verdict>(memory_.data()); }

  std::size_t rank_ = 0, ranks_ = 1, count_ = 0;
  typename B::memory memory_;
  std::vector<verdict> all_;
  std::vector<double> flags_;  // on one rank
};

}  // namespace normuon

#endif
