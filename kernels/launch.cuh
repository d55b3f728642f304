// The one way by which kernels are launched. Files in this folder include it first, and never write <<<>>>.
#ifndef NORMUON_KERNELS_LAUNCH_CUH
#define NORMUON_KERNELS_LAUNCH_CUH

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include <standin_launch.hpp>  // compiled by a C++ compiler, kernels run on the stand-in of tests/cuda/standin
#endif

#include "normuon/backends/cuda/kernels.hpp"
#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

// Puts kernel(o) into the stream. Throws error_code::device where that is refused.
template <class Operation>
void launch(void (*kernel)(Operation), dim3 grid, dim3 block, cudaStream_t stream, const Operation& o) {
#ifdef __CUDACC__
  void* arguments[] = {const_cast<Operation*>(&o)};
  const cudaError_t status = cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, arguments, 0, stream);
#else
  const cudaError_t status = standin::launch(kernel, grid, block, stream, o);
#endif
  if (status != cudaSuccess)
    check(status, "cudaLaunchKernel for ", operation_text(o), ", ", grid.x, " blocks of ", block.x, " threads");
}

}  // namespace normuon

#endif
