// A run of matrices, and the memory that serves it.
#ifndef NORMUON_OPTIMIZER_RUN_HPP
#define NORMUON_OPTIMIZER_RUN_HPP

#include "normuon/optimizer/parameter.hpp"

namespace normuon {

// Matrices first to first + count - 1 of a plan's tables: of one group, and for a matrix rule of one shape.
struct run {
  int group = 0;
  int shape = -1;  // index into plan::shapes; -1: an elementwise rule
  index_t first = 0;
  index_t count = 0;
  double cost = 0;
  int workspace = -1;  // the one that is its own; -1: that of the worker which takes it
};

// Memory that serves one run of matrices at a time.
template <tensor_backend B>
struct workspace {
  iteration_workspace<B> iteration;
  typename B::memory U, D;
  std::size_t bytes = 0;
};

}  // namespace normuon

#endif
