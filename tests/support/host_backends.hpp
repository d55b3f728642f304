// The backends on the host that are built here, for tests that hold for each of them: BLAS's where there is one.
#ifndef NORMUON_TESTS_SUPPORT_HOST_BACKENDS_HPP
#define NORMUON_TESTS_SUPPORT_HOST_BACKENDS_HPP

#include <doctest/doctest.h>

#include <tuple>

#include "normuon/backends/eigen.hpp"

TYPE_TO_STRING(normuon::eigen_backend);
TYPE_TO_STRING(normuon::eigen_backend64);

#ifdef NORMUON_HAS_BLAS
#include "normuon/backends/blas.hpp"
TYPE_TO_STRING(normuon::blas_backend);
TYPE_TO_STRING(normuon::blas_backend64);
#endif

namespace normuon::test {

#ifdef NORMUON_HAS_BLAS
using host_backends = std::tuple<eigen_backend, blas_backend>;
using host_backends64 = std::tuple<eigen_backend64, blas_backend64>;
#else
using host_backends = std::tuple<eigen_backend>;
using host_backends64 = std::tuple<eigen_backend64>;
#endif

}  // namespace normuon::test

#endif
