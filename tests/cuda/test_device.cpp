// The GPU backend linked with the vendor's own libraries. Where there is no device it must say so; where there is one,
// it keeps the laws on it.
#include "cuda/direct_backend.hpp"
#include "cuda/placed_model.hpp"
#include "cuda/this_device.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "support/refusal.hpp"
#include "support/trajectories.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("where there is no CUDA device the backend says so by a typed error that names the call" *
          doctest::skip(there_is_a_device())) {
  CHECK(refusal_of([] { cublas_backend(); }).is(error_code::device, "cudaGetDeviceCount: cudaError"));
  CHECK(refusal_of([] { cublas_backend64(); }).is(error_code::device, "cudaGetDeviceCount: cudaError"));
}

TEST_CASE("the cuBLAS backend keeps the laws in float on this machine's device" * doctest::skip(!there_is_a_device())) {
  testing::check_backend([] { return cublas_backend(); });
}

TEST_CASE("the cuBLAS backend keeps the laws in double on this machine's device" *
          doctest::skip(!there_is_a_device())) {
  testing::check_backend([] { return cublas_backend64(); });
}

TEST_CASE("on a device the published trajectories are met" * doctest::skip(!there_is_a_device())) {
  check_trajectories_in_double<cublas_backend64>(norm_guard::as_published);
  check_trajectories_in_double<cublas_backend64>(norm_guard::exact);
  check_trajectories_in_float<cublas_backend>();
}

TEST_CASE("on a device a hundred recorded steps have the bits of direct ones, and of a second training" *
          doctest::skip(!there_is_a_device())) {
  placed_model<cublas_backend> recorded(std::move(mixed_model<float>().parameters)),
      again(std::move(mixed_model<float>().parameters));
  placed_model<direct_cublas_backend> direct(std::move(mixed_model<float>().parameters));
  for (int step = 0; step < 100; ++step) {
    for (auto* m : {&recorded, &again}) {
      m->make_gradients(step);
      m->opt.step();
    }
    direct.make_gradients(step);
    direct.opt.step();
  }
  CHECK(same_bits(recorded.weights(), direct.weights()));
  CHECK(same_bits(recorded.weights(), again.weights()));
  CHECK(same_bits(recorded.opt.export_state(), direct.opt.export_state()));
}
