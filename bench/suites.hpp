// What normuon_bench registers. Each in a source file of its own: together they would take one compiler minutes.
#ifndef NORMUON_BENCH_SUITES_HPP
#define NORMUON_BENCH_SUITES_HPP

#include <normuon/bench/settings.hpp>

void register_eigen(const normuon::bench::settings& s);    // as it is, then by each path that runs here
void register_eigen64(const normuon::bench::settings& s);  // state in double
void register_blas(const normuon::bench::settings& s);     // where a BLAS was found
void register_cublas(const normuon::bench::settings& s);   // where a CUDA toolkit was found; skipped without a device
void register_plain(const normuon::bench::settings& s);    // examples/02_custom_backend.hpp

#endif
