// Lets a build for plain x86-64 have the vector instructions of the processor that it runs on. Without them a fused
// multiply-add is a call of the C library, twenty times slower; the numbers are the same. Builds for AVX2 or AVX-512
// have what they were built for.
//
// What is given is a loop over memory and the formulas in it, and nothing else, for it is compiled once for each kind
// of processor. It captures by value ([=]) and works on a copy of its own, so nothing that it writes to can be one of
// its numbers or pointers. Arrays are better captured by a pointer: a copy waits for what has just been written.
#ifndef NORMUON_BACKENDS_CPU_VECTORIZED_HPP
#define NORMUON_BACKENDS_CPU_VECTORIZED_HPP

#include <cstdlib>
#include <cstring>

namespace normuon {

// run_...(f): f(), with all that it calls inlined; by g++ also made vector code where -O2 would not, and in registers
// as wide as there are, where its tuning prefers half of them.

#if defined(__x86_64__) && (defined(__AVX512VL__) || !(defined(__AVX2__) && defined(__FMA__)))

template <class F>
#if defined(__clang__)
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]]
#else
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"), gnu::optimize("O3")]]
#endif
[[gnu::flatten, gnu::noinline]] auto
run_with_avx512(const F& f) {
  F own = f;
  return own();
}

#endif

#if !defined(__x86_64__) || (defined(__AVX2__) && defined(__FMA__))

template <class F>
#if !defined(__clang__)
[[gnu::optimize("O3")]]
#endif
[[gnu::flatten, gnu::noinline]] auto
run_inlined(const F& f) {
  F own = f;
  return own();
}

// Calls f, a function of loops over memory, and returns its result.
template <class F>
auto vectorized(const F& f) {
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  return run_with_avx512(f);
#else
  return run_inlined(f);
#endif
}

#else

template <class F>
#if !defined(__clang__)
[[gnu::optimize("O3")]]
#endif
[[gnu::target("avx2,fma"), gnu::flatten, gnu::noinline]] auto
run_with_avx2(const F& f) {
  F own = f;
  return own();
}

enum class vector_kind { plain, avx2, avx512 };

// The best kind that the processor has. NORMUON_CPU may lower it to AVX2, for tests.
inline vector_kind detected_vector_kind() {
  const char* const name = std::getenv("NORMUON_CPU");
  const bool lowered = name != nullptr && (std::strcmp(name, "avx2") == 0 || std::strcmp(name, "portable") == 0);
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return vector_kind::plain;
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has_avx512 && !lowered ? vector_kind::avx512 : vector_kind::avx2;
}

inline vector_kind this_vector_kind() {
  static const vector_kind kind = detected_vector_kind();
  return kind;
}

// The same, by the best of what the processor has.
template <class F>
auto vectorized(const F& f) {
  const vector_kind kind = this_vector_kind();
  if (kind == vector_kind::avx512) return run_with_avx512(f);
  if (kind == vector_kind::avx2) return run_with_avx2(f);
  F own = f;
  return own();
}

#endif

}  // namespace normuon

#endif
