// What launchers share: kernels for a real type that is a value, and grids.
#ifndef NORMUON_KERNELS_LAUNCHERS_CUH
#define NORMUON_KERNELS_LAUNCHERS_CUH

#include "launch.cuh"
#include "normuon/backends/cuda/kernels.hpp"

namespace normuon {

// A grid has at most 2^31 - 1 blocks.
inline dim3 grid_of(index_t blocks) {
  if (blocks > 0x7fffffff) fail(error_code::device, "expected a launch of at most 2^31 - 1 blocks, got ", blocks);
  return dim3(static_cast<unsigned>(blocks));
}

// Launches kernel_of(Real()) for the operation's real type. Nothing where there are no blocks.
template <class Operation, class KernelOf>
void launch_in_real(const Operation& o, index_t blocks, cudaStream_t stream, KernelOf&& kernel_of) {
  if (blocks == 0) return;
  const dim3 block(block_threads);
  if (o.work.real == element_type::float64) launch(kernel_of(double{}), grid_of(blocks), block, stream, o);
  else launch(kernel_of(float{}), grid_of(blocks), block, stream, o);
}

// Launches kernel_of(Real(), keeps), where `keeps` is a constant: whether there are low bits to keep.
template <class Operation, class KernelOf>
void launch_keeping(const Operation& o, index_t blocks, cudaStream_t stream, KernelOf&& kernel_of) {
  if (o.low.empty()) launch_in_real(o, blocks, stream, [&](auto real) { return kernel_of(real, std::false_type()); });
  else launch_in_real(o, blocks, stream, [&](auto real) { return kernel_of(real, std::true_type()); });
}

}  // namespace normuon

#endif
