// The benchmark suite, for any backend: register it by one line, in a program that uses Google Benchmark
// (docs/benchmarks.md).
#ifndef NORMUON_BENCH_REGISTER_BACKEND_HPP
#define NORMUON_BENCH_REGISTER_BACKEND_HPP

#include "normuon/bench/elementwise.hpp"
#include "normuon/bench/newton_schulz.hpp"
#include "normuon/bench/run.hpp"
#include "normuon/bench/step.hpp"

namespace normuon::bench {

// Registers the families newton_schulz, step and elementwise for backend B, by the name that stands in theirs.
// make(threads) returns one that uses so many threads; of a backend without workers only one thread is asked. It is
// called once here, to ask what the backend shares among its workers, and once for every run of a benchmark. Throws
// where the name has a slash or none.
template <tensor_backend B, class Make>
  requires std::convertible_to<std::invoke_result_t<const Make&, int>, B>
void register_backend(const std::string& name, const Make& make, const settings& s = {}) {
  if (name.empty() || name.find('/') != std::string::npos)
    fail(error_code::option, "expected a backend's name without slashes, got '", name, "'");
  register_newton_schulz<B>(name, make, s);
  register_step<B>(name, make, s);
  register_elementwise<B>(name, make, s);
}

}  // namespace normuon::bench

#endif
