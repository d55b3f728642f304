// Ranks that share a device, by way of the host's memory: on a GPU, and on the stand-in, so that the test itself is
// tested without one.
#include "cuda/sharded_on_gpu.hpp"
#include "cuda/this_device.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("three ranks that share a device train as one process does there, within rounding" *
          doctest::skip(!there_is_a_device())) {
  const std::vector<spread_parameter> parameters = gpu_model_in_float32();
  check_within_rounding(parameters, trained_on_gpus<cublas_backend>(3, parameters, {}),
                        trained_alone_on_gpu<cublas_backend>(parameters, {}));
}
