// What nvcc gives device code and g++ does not: included by .cu files (through kernels/launch.cuh) where they are
// compiled for the stand-in. Only what is listed here is at hand: no atomics, no cooperative groups, no fast math.
// Kernels of ours shuffle by xor only; the other shuffles and votes are lines over the one meeting of a warp's lanes,
// whose tests they serve.
#ifndef NORMUON_TESTS_CUDA_STANDIN_THREADS_HPP
#define NORMUON_TESTS_CUDA_STANDIN_THREADS_HPP

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "../blocks.hpp"

// The toolkit's own definitions of these are for other compilers, or empty.
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
// One block runs at a time, so that shared memory can be static. Where the compiler puts it into a section of its own,
// also in templates (clang++, g++ from 14 on), it holds NaNs when a block begins; elsewhere what the block before has
// left there, so that reading it before it is written does not show.
#ifdef STANDIN_SHARED_SECTION
#define __shared__ static __attribute__((section("standin_shared")))
#else
#define __shared__ static
#endif
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

inline const uint3& threadIdx = standin::here.thread;
inline const uint3& blockIdx = standin::here.block;
inline const dim3& blockDim = standin::here.threads;
inline const dim3& gridDim = standin::here.blocks;
constexpr int warpSize = 32;

inline void __syncthreads(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
  standin::block_barrier(file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { standin::warp_meeting(standin::warp_act::sync, mask, {0, 0}); }

namespace standin {

// The value that lane `from` gives, if that is in [first, last), and else the caller's own.
template <class T>
T shuffled(unsigned mask, T value, int from, int first, int last) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const unsigned source = from >= first && from < last ? static_cast<unsigned>(from) : lane_number();
  return std::bit_cast<T>(
      static_cast<bits>(warp_meeting(warp_act::shuffle, mask, {std::bit_cast<bits>(value), source})));
}
// Lanes are divided into segments of `width`.
inline int lane() { return static_cast<int>(lane_number()); }
inline int segment(int width) { return lane() / width * width; }

}  // namespace standin

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  const int first = standin::segment(width);
  return standin::shuffled(mask, value, first + (lane % width + width) % width, first, first + width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int first = standin::segment(width);
  return standin::shuffled(mask, value, standin::lane() + static_cast<int>(delta), first, first + width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int first = standin::segment(width);
  return standin::shuffled(mask, value, standin::lane() - static_cast<int>(delta), first, first + width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits,
                  int width = 32) {  // earlier segments can be reached, later ones not
  return standin::shuffled(mask, value, standin::lane() ^ bits, 0, standin::segment(width) + width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(standin::warp_meeting(standin::warp_act::vote, mask, {predicate != 0, 0}));
}

#endif
