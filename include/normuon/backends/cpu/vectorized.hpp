// Lets a build have the vector instructions of the processor that it runs on, whatever its flags are. Without them a
// fused multiply-add is a call of the C library, twenty times slower; the numbers are the same.
#ifndef NORMUON_BACKENDS_CPU_VECTORIZED_HPP
#define NORMUON_BACKENDS_CPU_VECTORIZED_HPP

namespace normuon {

#if defined(__x86_64__) && !(defined(__AVX2__) && defined(__FMA__))

// f(), with all that it calls inlined, for a loop with a call is no vector code, and compiled for AVX2 and FMA; by g++
// also made vector code where -O2 would not.
template <class F>
#if !defined(__clang__)
[[gnu::optimize("O3")]]
#endif
[[gnu::target("avx2,fma"), gnu::flatten, gnu::noinline]] void
run_with_avx2(F& f) {
  f();
}

// Calls f, a function of loops over memory.
template <class F>
void vectorized(F&& f) {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) run_with_avx2(f);
  else f();
}

#else

// The same, for what the build is for.
template <class F>
#if !defined(__clang__)
[[gnu::optimize("O3")]]
#endif
[[gnu::flatten, gnu::noinline]] void
run_inlined(F& f) {
  f();
}

template <class F>
void vectorized(F&& f) {
  run_inlined(f);
}

#endif

}  // namespace normuon

#endif
