// The golden trajectories on the GPU backend, run on the stand-in for the vendor's libraries.
#include "normuon/backends/cublas.hpp"
#include "standin.hpp"
#include "support/trajectories.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("the cuBLAS backend meets every published trajectory in double") {
  standin::restart();
  check_trajectories_in_double<cublas_backend64>(norm_guard::as_published);
}

TEST_CASE("the cuBLAS backend meets every scale-free trajectory in double") {
  standin::restart();
  check_trajectories_in_double<cublas_backend64>(norm_guard::exact);
}

TEST_CASE("the cuBLAS backend meets every published trajectory in float within what rounding can do") {
  standin::restart();
  check_trajectories_in_float<cublas_backend>();
}
