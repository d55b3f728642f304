#include "02_custom_backend.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "support/host_backends.hpp"

using namespace normuon;

static_assert(has_gram<eigen_backend> && has_symmetric_polynomial<eigen_backend> &&
              has_symmetric_multiply<eigen_backend> && has_remainders<eigen_backend>);
static_assert(has_fused_momentum<eigen_backend> && has_fused_neuron_step<eigen_backend> && has_workers<eigen_backend>);
static_assert(!has_gram<plain_backend> && !has_capture<eigen_backend>);

TEST_CASE("the Eigen backend keeps the laws in float") {
  testing::check_backend([] { return eigen_backend({.threads = 2}); });
}

TEST_CASE("the Eigen backend keeps the laws in double") {
  testing::check_backend([] { return eigen_backend64({.threads = 2}); });
}

TEST_CASE("a third party's products in plain loops make a backend that keeps the laws") {
  testing::check_backend([] { return plain_backend({.threads = 1}); });
}

#ifdef NORMUON_HAS_BLAS
static_assert(has_gram<blas_backend> && has_symmetric_polynomial<blas_backend> && has_symmetric_multiply<blas_backend>);

TEST_CASE("the BLAS backend keeps the laws in float") {
  testing::check_backend([] { return blas_backend({.threads = 2}); });
}

TEST_CASE("the BLAS backend keeps the laws in double") {
  testing::check_backend([] { return blas_backend64({.threads = 2}); });
}
#else
TEST_CASE("the BLAS backend keeps the laws" * doctest::skip()) {}
#endif
