// The stand-in's executor: blocks, threads, barriers, and what a kernel may not do.
#include <algorithm>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <vector>

#include "standin_support.hpp"

namespace {

// An address that nothing is at, which the compiler can't see.
volatile std::uintptr_t nowhere = 8;
volatile int* wild() { return reinterpret_cast<volatile int*>(nowhere); }

__device__ unsigned linear(uint3 at, dim3 of) { return (at.z * of.y + at.y) * of.x + at.x; }

__global__ void count_visits(int* visits) {
  const unsigned block = linear(blockIdx, gridDim), thread = linear(threadIdx, blockDim);
  ++visits[block * blockDim.x * blockDim.y * blockDim.z + thread];
}
__global__ void log_order(unsigned* log, unsigned* count) { log[(*count)++] = blockIdx.x * blockDim.x + threadIdx.x; }

// Sums x over a block of 64 threads, by a tree, with or without the barriers that it needs.
template <bool with_barriers>
__global__ void sum(const float* x, float* y) {
  __shared__ float partial[64];
  const unsigned t = threadIdx.x;
  partial[t] = x[t];
  if (with_barriers) __syncthreads();
  for (unsigned half = 32; half > 0; half /= 2) {
    if (t < half) partial[t] += partial[t + half];
    if (with_barriers) __syncthreads();
  }
  if (t == 0) *y = partial[0];
}

float sum_of_64(bool with_barriers) {
  std::vector<float> x(64);
  for (std::size_t i = 0; i < 64; ++i) x[i] = static_cast<float>(i);
  float* y = on_device<float>(1);
  CHECK(run(with_barriers ? sum<true> : sum<false>, 1, 64, on_device(x), y) == cudaSuccess);
  return value_at(y);
}

}  // namespace

TEST_CASE("every thread of every block runs once and knows where it is") {
  restart();
  const dim3 shapes[][2] = {{1, 1}, {3, 70}, {dim3(2, 3, 4), dim3(4, 3, 2)}, {dim3(1, 1, 5), dim3(1, 1, 64)}};
  for (const auto& [grid, block] : shapes) {
    const std::size_t all = std::size_t{grid.x} * grid.y * grid.z * block.x * block.y * block.z;
    int* visits = on_device(std::vector<int>(all));
    CHECK(run(count_visits, grid, block, visits) == cudaSuccess);
    CHECK(standin::peek(visits, all) == std::vector<int>(all, 1));
  }
}

TEST_CASE("blocks and threads run in an order that the seed decides") {
  std::set<std::vector<unsigned>> orders;
  const auto order = [](std::uint64_t seed) {
    restart(seed);
    unsigned *log = on_device<unsigned>(64), *count = on_device(std::vector<unsigned>{0});
    CHECK(run(log_order, 8, 8, log, count) == cudaSuccess);
    return standin::peek(log, 64);
  };
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    orders.insert(order(seed));
    CHECK(order(seed) == order(seed));
  }
  CHECK(orders.size() == 10);
  std::set<unsigned> first_blocks, first_threads;
  for (const auto& o : orders) first_blocks.insert(o[0] / 8), first_threads.insert(o[0] % 8);
  CHECK(first_blocks.size() > 2);
  CHECK(first_threads.size() > 2);
}

TEST_CASE("a kernel without the barriers that it needs gives a wrong sum for some seed, with them never") {
  const float right = 63 * 32;
  CHECK(seeds_with(10, [&] { return sum_of_64(false) == right; }) < 10);
  CHECK(seeds_with(10, [&] { return sum_of_64(true) == right; }) == 10);
}

TEST_CASE("arguments are converted and kept when the kernel is launched") {
  restart();
  float* y = on_device<float>(2);
  struct pair {
    float a, b;
  };
  pair p{1, 2};
  const cudaStream_t s = new_stream();
  const auto kernel = +[](pair q, double d, const float*, float* to) {
    q.a += static_cast<float>(d);  // each thread has its own
    to[threadIdx.x] = q.a + q.b;
  };
  CHECK(standin::launch(kernel, 1, 2, s, p, 4, y, y) == cudaSuccess);
  p.a = 100;
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(standin::peek(y, 2) == std::vector<float>{7, 7});
}

TEST_CASE("launches beyond the limits of the hardware are refused") {
  restart();
  const auto nothing = +[] {};
  CHECK(run(nothing, 1, 1024) == cudaSuccess);
  CHECK(run(nothing, dim3(1, 65535, 1), 1) == cudaSuccess);
  const dim3 wrong[][2] = {{0, 1},
                           {1, 0},
                           {dim3(1, 0, 1), 1},
                           {1, 1025},
                           {1, dim3(32, 33)},
                           {1, dim3(1, 1, 65)},
                           {dim3(1, 65536, 1), 1},
                           {dim3(1, 1, 65536), 1},
                           {2147483648u, 1}};
  for (const auto& [grid, block] : wrong) CHECK(run(nothing, grid, block) == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(run(nothing, 1, 1) == cudaSuccess);
}

TEST_CASE("a kernel that does what no program may do ends, its device has failed, and the program goes on") {
  struct bad {
    void (*kernel)(int*);
    cudaError_t code;
  };
  const bad all[] = {
      {+[](int*) { *wild() = 1; }, cudaErrorIllegalAddress},
      {+[](int* y) { *reinterpret_cast<volatile char**>(y)[0] = 1; },
       cudaErrorIllegalAddress},  // an address of all ones
      {+[](int* y) { y[1] = (y + 1)[1 << 30]; }, cudaErrorIllegalAddress},
      {+[](int* y) { reinterpret_cast<uint4*>(y + 1)->x = 1; }, cudaErrorLaunchFailure},  // 16 bytes at 4
      {+[](int* y) {
         __shared__ int small[4];
         small[y[0] + 11] = 1;
         y[1] = small[y[0] + 1];
       },
       cudaErrorLaunchFailure},
      {+[](int* y) { y[1] = 7 / (*const_cast<volatile int*>(y) + 1); }, cudaErrorLaunchFailure},
      {+[](int*) { throw std::runtime_error("no"); }, cudaErrorLaunchFailure},
  };
  for (const bad& b : all) {
    restart();
    CAPTURE(&b - all);
    int* y = on_device<int>(8);  // -1 each
    const cudaStream_t s = new_stream();
    CHECK(standin::launch(b.kernel, 3, 40, s, y) == cudaSuccess);
    CHECK(cudaStreamSynchronize(s) == b.code);
    CHECK(standin::launch(b.kernel, 3, 40, s, y) == b.code);
    CHECK(cudaFree(y) == b.code);
    CHECK(cudaGetLastError() == b.code);
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(cudaFree(y) == b.code);  // the device stays as it is
    restart();
    CHECK(sum_of_64(true) == 63 * 32);
  }
}

TEST_CASE("a fault among threads that wait at a barrier, or a very deep stack, is a fault like any other") {
  restart();
  CHECK(run(
            +[] {
              if (threadIdx.x == 100) *wild() = 1;
              __syncthreads();
            },
            2, 256) == cudaErrorIllegalAddress);
  restart();
  CHECK(run(
            +[] {
              volatile char large[1 << 20];
              for (std::size_t i = sizeof large; i-- > 0;) large[i] = 1;
            },
            1, 1) == cudaErrorIllegalAddress);
  restart();
  CHECK(sum_of_64(true) == 63 * 32);
}

TEST_CASE("a kernel can't be given an address of pageable memory, or of memory that was freed") {
  restart();
  int host = 0;
  CHECK(run(
            +[](int*) {}, 1, 1, &host) == cudaErrorIllegalAddress);
  CHECK(says("argument"));
  restart();
  CHECK(run(
            +[](int*) {}, 1, 1, static_cast<int*>(nullptr)) == cudaSuccess);
  CHECK(run(
            +[](int*) {}, 1, 1, on_pinned<int>(1)) == cudaSuccess);
  int* y = on_device<int>(1);
  CHECK(run(
            +[](int*) {}, 1, 1, y + 1) == cudaSuccess);  // behind the last one
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(run(
            +[](int*) {}, 1, 1, y) == cudaErrorIllegalAddress);
}

#ifdef STANDIN_SHARED_SECTION
TEST_CASE("shared memory that a block has not written is no number") {
  restart();
  float* y = on_device<float>(4);
  const auto kernel = +[](float* to) {
    __shared__ float x;
    to[blockIdx.x] = x;
    x = 1;
  };
  CHECK(run(kernel, 4, 1, y) == cudaSuccess);
  for (const float x : standin::peek(y, 4)) CHECK(x != x);
}
#endif
