// The engine of one process: a full model of the concept, so that one process is no special case.
#ifndef NORMUON_SHARDS_SINGLE_HPP
#define NORMUON_SHARDS_SINGLE_HPP

#include "normuon/shards/engine.hpp"

namespace normuon {

struct single_process {
  int rank() const { return 0; }
  int size() const { return 1; }
  void all_gather_small(void*, std::size_t) {}
};

}  // namespace normuon

#endif
