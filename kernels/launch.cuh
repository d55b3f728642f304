// The one way by which kernels are launched. Files in this folder include it first, and never write <<<>>>.
#ifndef NORMUON_KERNELS_LAUNCH_CUH
#define NORMUON_KERNELS_LAUNCH_CUH

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include <standin_launch.hpp>  // compiled by a C++ compiler, kernels run on the stand-in of tests/cuda/standin
#endif

#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

// Puts kernel(arguments...) into the stream. Throws error_code::device where that is refused.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream, const Arguments&... arguments) {
#ifdef __CUDACC__
  const auto put = [&](Parameters... values) {
    void* addresses[] = {&values...};
    return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, addresses, 0, stream);
  };
  const cudaError_t status = put(arguments...);
#else
  const cudaError_t status = standin::launch(kernel, grid, block, stream, arguments...);
#endif
  check(status, "cudaLaunchKernel of ", grid.x, " blocks of ", block.x, " threads");
}

}  // namespace normuon

#endif
