// The laws of the concept on the GPU backend, run on the stand-in for the vendor's libraries.
#include "normuon/backends/cublas.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "standin.hpp"

using namespace normuon;

TEST_CASE("the cuBLAS backend keeps the laws in float") {
  standin::restart();
  testing::check_backend([] { return cublas_backend(); });
}

TEST_CASE("the cuBLAS backend keeps the laws in double") {
  standin::restart();
  testing::check_backend([] { return cublas_backend64(); });
}
