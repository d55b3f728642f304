// Where the runs of sharded_runs.hpp take place: on the Eigen backend, ranks in a loopback.
#ifndef NORMUON_TESTS_DIST_RANKS_ON_HOST_HPP
#define NORMUON_TESTS_DIST_RANKS_ON_HOST_HPP

#include "dist/sharded_model.hpp"
#include "normuon/backends/eigen.hpp"
#include "normuon/shards/loopback.hpp"

namespace normuon::test {

template <element T>
using rank_backend = basic_eigen_backend<std::conditional_t<std::is_same_v<T, double>, double, float>>;
using rank_engine = loopback;

inline void begin_run() {}

// body(trainer) of one process, and of a rank.
template <element T, class Body>
void train_alone(const std::vector<spread_parameter>& parameters, const optimizer_options& options, int threads,
                 Body&& body) {
  spread_trainer<rank_backend<T>, single_process, T> trainer(parameters, {}, options,
                                                             rank_backend<T>({.threads = threads}));
  body(trainer);
}
template <element T, class Body>
void train_as_rank(loopback engine, const std::vector<spread_parameter>& parameters, const optimizer_options& options,
                   int threads, Body&& body) {
  spread_trainer<rank_backend<T>, rank_engine, T> trainer(parameters, std::move(engine), options,
                                                          rank_backend<T>({.threads = threads}));
  body(trainer);
}

}  // namespace normuon::test

#endif
