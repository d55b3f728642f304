// What stands for owners, plan and step of matrices that travel where one process is all: it owns what there is, and
// nothing travels. So that who needs no ranks does not compile what they need.
#ifndef NORMUON_OPTIMIZER_UNSHARDED_HPP
#define NORMUON_OPTIMIZER_UNSHARDED_HPP

#include "normuon/optimizer/sharded_step.hpp"
#include "normuon/shards/single.hpp"

namespace normuon {

// The owner_choice of one process.
inline std::vector<int> one_owner(std::span<const sharded_matrix> matrices, int) {
  std::vector<int> owners;
  for (const sharded_matrix& a : matrices) owners.push_back(needs_owner(a) ? 0 : no_owner);
  return owners;
}
// That of an optimizer over an engine: this alone compiles how ranks divide the work.
template <shard_engine Engine>
constexpr owner_choice owner_choice_of() {
  if constexpr (std::same_as<Engine, single_process>) return one_owner;
  else return owners_among_ranks;
}

template <tensor_backend B>
class sharded_plan<B, single_process> {
 public:
  std::size_t bytes() const { return 0; }
  std::vector<exchange> exchanges() const { return {}; }  // for who instantiates a whole optimizer explicitly

  shard_plan shards;
  std::array<sharded_bucket<B, single_process>, 0> buckets;
};

template <tensor_backend B>
class sharded_stepper<B, single_process> {
 public:
  sharded_stepper(plan<B>&, sharded_plan<B, single_process>&, single_process&, step_parts<B>&,
                  const std::vector<group>&, const step_settings&, std::uint64_t) {}
  void stage(const std::vector<parameter<B>>&) {}
  void expect_updates(B&) {}
  void check(B&) {}
  template <class Meanwhile>
  void move(B& b, std::span<std::uint8_t>, Meanwhile&& meanwhile) {
    meanwhile(b, hook());
  }
};

}  // namespace normuon

#endif
