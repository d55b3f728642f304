// Runs of matrices, the memory that serves them, and which of them workers do together.
#ifndef NORMUON_OPTIMIZER_RUN_HPP
#define NORMUON_OPTIMIZER_RUN_HPP

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <vector>

#include "normuon/math/cost.hpp"
#include "normuon/optimizer/parameter.hpp"
#include "normuon/optimizer/sharing.hpp"

namespace normuon {

// Matrices first to first + count - 1 of a plan's tables: of one group, and for a matrix rule of one shape.
struct run {
  int group = 0;
  int shape = -1;  // index into plan::shapes; -1: an elementwise rule
  index_t first = 0;
  index_t count = 0;
  index_t rows = 0, cols = 0;  // of a matrix; of an elementwise rule, of the first
  double cost = 0;
  int workspace = -1;                       // the one that is its own; -1: that of the worker which takes it
  bool stores_U = false, stores_D = false;  // in the workspace
};

// The entries of a table that are those of a run's matrices.
template <class T>
std::span<const T> entries_of(const std::vector<T>& table, const run& a) {
  return std::span<const T>(table).subspan(static_cast<std::size_t>(a.first), static_cast<std::size_t>(a.count));
}
template <class T>
vectors<T> entries_of(const std::vector<T*>& table, const run& a, index_t length) {
  return {entries_of(table, a), length};
}

// Memory that serves one run of matrices at a time.
template <tensor_backend B>
struct workspace {
  iteration_workspace<B> iteration;
  typename B::memory U, D;
  std::size_t bytes = 0;
};

// Bytes of a workspace's buffers: X and Y;  A and P;  Q and Z;  U;  D.
using buffer_bytes = std::array<std::size_t, 5>;
inline std::size_t sum(const buffer_bytes& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), std::size_t{0});
}

// What a run of matrices needs of them.
template <tensor_backend B>
buffer_bytes bytes_for(B& b, const std::vector<matrix_plan>& shapes, const run& a) {
  const iteration& it = shapes[static_cast<std::size_t>(a.shape)].iteration;
  const auto [XY, AP, QZ] = iteration_workspace<B>::bytes(b, it, a.rows, a.cols, a.count);
  const std::size_t U_or_D = static_cast<std::size_t>(a.rows * a.cols * a.count) * sizeof(typename B::real);
  return {XY, AP, QZ, a.stores_U ? U_or_D : 0, a.stores_D ? U_or_D : 0};
}

// One that can serve each of the runs: each of its buffers is as large as its largest use.
template <tensor_backend B>
workspace<B> workspace_for(B& b, const std::vector<matrix_plan>& shapes, std::span<const run> served) {
  buffer_bytes most = {};
  workspace<B> w;
  for (const run& a : served)
    if (a.shape >= 0) {
      const buffer_bytes bytes = bytes_for(b, shapes, a);
      for (std::size_t k = 0; k < bytes.size(); ++k) most[k] = std::max(most[k], bytes[k]);
      w.iteration.resize(b, shapes[static_cast<std::size_t>(a.shape)].iteration, a.rows, a.cols, a.count);
    }
  w.U = b.allocate(most[3]);
  w.D = b.allocate(most[4]);
  w.bytes = sum(most);
  return w;
}

// Any worker may take any run. Where there are no more runs of matrices than workers, each run has a workspace of its
// own; otherwise each worker has one, for all runs.
template <tensor_backend B>
std::vector<workspace<B>> make_workspaces(B& b, const std::vector<matrix_plan>& shapes, std::span<run> runs) {
  std::vector<workspace<B>> made;
  // Called from two places and large, so it is compiled once.
  const auto add_for = [&](std::span<const run> served) { made.push_back(workspace_for(b, shapes, served)); };
  const std::ptrdiff_t workers = normuon::workers(b);
  if (std::count_if(runs.begin(), runs.end(), [](const run& a) { return a.shape >= 0; }) > workers) {
    for (std::ptrdiff_t worker = 0; worker < workers; ++worker) add_for(runs);
    return made;
  }
  for (run& a : runs)
    if (a.shape >= 0) {
      a.workspace = static_cast<int>(made.size());
      add_for({&a, 1});
    }
  return made;
}

template <tensor_backend B>
compute_type compute_of(const std::vector<matrix_plan>& shapes, int shape) {
  return shape < 0 ? B::default_compute() : shapes[static_cast<std::size_t>(shape)].iteration.compute;
}

// How many of the first runs a backend's workers should do together, one after the other.
template <tensor_backend B>
std::size_t runs_shared_by(const B& b, const std::vector<matrix_plan>& shapes, std::span<const run> runs) {
  if constexpr (has_shared_runs<B>) {
    std::vector<double> costs;
    std::size_t shareable = 0;
    for (const run& a : runs) {
      costs.push_back(a.cost);
      const auto [s, l] = std::minmax(a.rows, a.cols);
      if (shareable + 1 == costs.size() && b.shares({s, l, a.count, compute_of<B>(shapes, a.shape)})) ++shareable;
    }
    return runs_to_share(costs, shareable, normuon::workers(b));
  } else {
    return 0;
  }
}

}  // namespace normuon

#endif
