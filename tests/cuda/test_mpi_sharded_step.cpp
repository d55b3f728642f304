// Steps on the GPU backend over MPI by way of the host, under mpirun, each rank with a stand-in of its own.
#include <mpi.h>

#include "cuda/one_algorithm.hpp"
#include "cuda/sharded_on_gpu.hpp"
#include "normuon/shards/mpi.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("on the GPU backend ranks over MPI have the bits of one process") {
  const std::vector<spread_parameter> parameters = gpu_model(normuon_options::reference());
  restart_with_one_algorithm();
  const whole_tensors expected = trained_alone_on_gpu<cublas_backend>(parameters, {});
  restart_with_one_algorithm(1);
  const cuda_stream stream = make_stream();
  using engine = through_host<mpi_engine>;
  gpu_trainer<cublas_backend, engine> trainer(parameters, engine(mpi_engine(MPI_COMM_WORLD), stream.get()), {},
                                              cublas_backend({.stream = stream.get()}));
  for (int step = 0; step < varied_steps; ++step) vary_and_step(trainer, step);
  check_held(trainer, expected);
}
