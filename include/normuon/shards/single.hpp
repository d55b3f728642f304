// The engine of one process: a full model of the concept, so that one process is no special case.
#ifndef NORMUON_SHARDS_SINGLE_HPP
#define NORMUON_SHARDS_SINGLE_HPP

#include "normuon/shards/engine.hpp"

namespace normuon {

struct single_process {
  struct request {};

  int rank() const { return 0; }
  int size() const { return 1; }
  void all_gather_small(void*, std::size_t) {}
  // There is no peer, so there are no legs.
  request start(const exchange& e, const void*, void*) {
    check_exchange(e, 0, 1);
    return {};
  }
  bool test(request&) { return true; }
  void finish(request&) {}
};

static_assert(shard_engine<single_process>);

}  // namespace normuon

#endif
