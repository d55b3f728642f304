// Where the runs of dist/sharded_runs.hpp take place with NORMUON_TEST_RANKS_ON_GPUS: on the GPU backend and the
// stand-in, ranks in a loopback by way of the host's memory.
#ifndef NORMUON_TESTS_CUDA_RANKS_ON_GPUS_HPP
#define NORMUON_TESTS_CUDA_RANKS_ON_GPUS_HPP

#include "cuda/in_device_memory.hpp"
#include "cuda/one_algorithm.hpp"
#include "dist/sharded_model.hpp"
#include "normuon/shards/loopback.hpp"
#include "normuon/shards/through_host.hpp"

namespace normuon::test {

template <element T>
using rank_backend = basic_cublas_backend<std::conditional_t<std::is_same_v<T, double>, double, float>>;
using rank_engine = through_host<loopback>;

inline void begin_run() { restart_with_one_algorithm(); }

// body(trainer) of one process, and of a rank.
template <element T, class Body>
void train_alone(const std::vector<spread_parameter>& parameters, const optimizer_options& options, int, Body&& body) {
  spread_trainer<rank_backend<T>, single_process, T, in_device_memory> trainer(parameters, {}, options);
  body(trainer);
}
template <element T, class Body>
void train_as_rank(loopback engine, const std::vector<spread_parameter>& parameters, const optimizer_options& options,
                   int, Body&& body) {
  const cuda_stream stream = make_stream();
  spread_trainer<rank_backend<T>, rank_engine, T, in_device_memory> trainer(
      parameters, rank_engine(std::move(engine), stream.get()), options, rank_backend<T>({.stream = stream.get()}));
  body(trainer);
}

}  // namespace normuon::test

#endif
