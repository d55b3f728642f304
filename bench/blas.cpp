#include <normuon/backends/blas.hpp>
#include <normuon/bench/register_backend.hpp>

#include "suites.hpp"

void register_blas(const normuon::bench::settings& s) {
  normuon::bench::register_backend<normuon::blas_backend>(
      "blas", [](int threads) { return normuon::blas_backend({.threads = threads}); }, s);
}
