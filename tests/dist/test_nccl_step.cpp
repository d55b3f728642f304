// Steps of several GPUs over NCCL, a rank and a thread for each. Linked with the vendor's libraries; runs where there
// are two GPUs or more.
#include <exception>
#include <mutex>
#include <thread>

#include "cuda/sharded_on_gpu.hpp"
#include "normuon/shards/nccl.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

int count_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

whole_tensors trained_over_nccl(int ranks, const std::vector<spread_parameter>& parameters) {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  whole_tensors all;
  std::exception_ptr failure;
  std::mutex one_at_a_time;
  const auto train = [&](int rank) {
    const current_device scope(rank);
    const cuda_stream stream = make_stream();
    gpu_trainer<cublas_backend, nccl_engine> trainer(parameters, nccl_engine(id, ranks, rank, stream.get()), {},
                                                     cublas_backend({.stream = stream.get()}));
    for (int step = 0; step < varied_steps; ++step) vary_and_step(trainer, step);
    trainer.opt.engine().wait();
    const std::lock_guard guard(one_at_a_time);
    trainer.put_into(all);
  };
  const auto run = [&](int rank) {
    try {
      train(rank);
    } catch (...) {
      const std::lock_guard guard(one_at_a_time);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
  for (std::thread& t : threads) t.join();
  if (failure) std::rethrow_exception(failure);
  return all;
}

}  // namespace

TEST_CASE("ranks over NCCL, a GPU each, train as one process does, within rounding" *
          doctest::skip(count_devices() < 2)) {
  const std::vector<spread_parameter> parameters = gpu_model_in_float32();
  const whole_tensors expected = trained_alone_on_gpu<cublas_backend>(parameters, {});
  for (int ranks = 2; ranks <= std::min(count_devices(), 4); ++ranks) {
    CAPTURE(ranks);
    check_within_rounding(parameters, trained_over_nccl(ranks, parameters), expected);
  }
}
