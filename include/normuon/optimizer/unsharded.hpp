// What stands for plan and step of matrices that travel where one process is all: there are none. So that who needs no
// ranks does not compile what they need.
#ifndef NORMUON_OPTIMIZER_UNSHARDED_HPP
#define NORMUON_OPTIMIZER_UNSHARDED_HPP

#include "normuon/optimizer/sharded_step.hpp"
#include "normuon/shards/single.hpp"

namespace normuon {

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
