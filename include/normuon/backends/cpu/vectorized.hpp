// Lets a build for plain x86-64 have the vector instructions of the processor that it runs on. Without them a fused
// multiply-add is a call of the C library, twenty times slower; the numbers are the same. Builds for AVX2 or AVX-512
// have what they were built for.
#ifndef NORMUON_BACKENDS_CPU_VECTORIZED_HPP
#define NORMUON_BACKENDS_CPU_VECTORIZED_HPP

#include <cstdlib>
#include <cstring>

namespace normuon {

// run_...(f): f(), with all that it calls inlined, for a loop with a call is no vector code; by g++ also made vector
// code where -O2 would not, and in registers as wide as there are, where its tuning prefers half of them.

#if defined(__x86_64__) && (defined(__AVX512VL__) || !(defined(__AVX2__) && defined(__FMA__)))

template <class F>
#if defined(__clang__)
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma")]]
#else
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"), gnu::optimize("O3")]]
#endif
[[gnu::flatten, gnu::noinline]] void
run_with_avx512(F& f) {
  f();
}

#endif

#if !defined(__x86_64__) || (defined(__AVX2__) && defined(__FMA__))

template <class F>
#if !defined(__clang__)
[[gnu::optimize("O3")]]
#endif
[[gnu::flatten, gnu::noinline]] void
run_inlined(F& f) {
  f();
}

// Calls f, a function of loops over memory.
template <class F>
void vectorized(F&& f) {
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  run_with_avx512(f);
#else
  run_inlined(f);
#endif
}

#else

template <class F>
#if !defined(__clang__)
[[gnu::optimize("O3")]]
#endif
[[gnu::target("avx2,fma"), gnu::flatten, gnu::noinline]] void
run_with_avx2(F& f) {
  f();
}

// Whether the processor has what run_with_avx512 is compiled for, and NORMUON_CPU doesn't lower it, as tests do.
inline bool chooses_avx512() {
  const char* const name = std::getenv("NORMUON_CPU");
  if (name != nullptr && (std::strcmp(name, "avx2") == 0 || std::strcmp(name, "portable") == 0)) return false;
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

// The same, by the best of what the processor has.
template <class F>
void vectorized(F&& f) {
  static const bool has_avx512 = chooses_avx512(),
                    has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx512) run_with_avx512(f);
  else if (has_avx2) run_with_avx2(f);
  else f();
}

#endif

}  // namespace normuon

#endif
