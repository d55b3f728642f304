#include <normuon/backends/eigen.hpp>
#include <normuon/bench/register_backend.hpp>

#include "suites.hpp"

void register_eigen64(const normuon::bench::settings& s) {
  normuon::bench::register_backend<normuon::eigen_backend64>(
      "eigen64", [](int threads) { return normuon::eigen_backend64({.threads = threads}); }, s);
}
