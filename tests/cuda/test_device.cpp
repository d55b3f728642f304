// The GPU backend linked with the vendor's own libraries. Where there is no device it must say so; where there is one,
// it keeps the laws on it.
#include "normuon/backends/cublas.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

bool there_is_a_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

}  // namespace

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
