// What most tests are made of, compiled once: a header to precompile, and templates that instantiated.cpp holds. Tests
// are compiled without it just as well, as tests/mutations/run does.
#ifndef NORMUON_TESTS_SUPPORT_INSTANTIATED_HPP
#define NORMUON_TESTS_SUPPORT_INSTANTIATED_HPP

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "normuon/backends/eigen.hpp"
#include "normuon/normuon.hpp"

#ifndef NORMUON_INSTANTIATES
#define NORMUON_INSTANTIATES extern
#endif

namespace normuon {
NORMUON_INSTANTIATES template class basic_host_backend<float, mixed_algebra<eigen_products>, thread_pool>;
NORMUON_INSTANTIATES template class basic_host_backend<double, mixed_algebra<eigen_products>, thread_pool>;
NORMUON_INSTANTIATES template class optimizer<eigen_backend>;
NORMUON_INSTANTIATES template class optimizer<eigen_backend64>;
}  // namespace normuon

#endif
