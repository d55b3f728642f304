// Sums and largest values over the threads of a block, in an order that depends on nothing but their number.
#ifndef NORMUON_KERNELS_REDUCE_CUH
#define NORMUON_KERNELS_REDUCE_CUH

#include "launch.cuh"
#include "normuon/backends/cuda/kernels.hpp"

namespace normuon {

// x_0 op x_1 op ..., as a tree, for all threads. All threads of the block must call it.
template <class Op>
__device__ double over_block(double x, Op op) {
  __shared__ double values[block_threads];
  const int t = static_cast<int>(threadIdx.x);
  values[t] = x;
  __syncthreads();
  for (int half = block_threads / 2; half > 0; half /= 2) {
    if (t < half) values[t] = op(values[t], values[t + half]);
    __syncthreads();
  }
  const double result = values[0];
  __syncthreads();  // before the values of a next call
  return result;
}

__device__ inline double sum_over_block(double x) {
  return over_block(x, [](double a, double b) { return a + b; });
}
__device__ inline double largest_over_block(double x) {
  return over_block(x, [](double a, double b) { return a < b ? b : a; });  // passes over a NaN in b, keeps one in a
}

}  // namespace normuon

#endif
