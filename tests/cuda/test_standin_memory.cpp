// The stand-in's memory: who can touch it, how far it reaches, and for how long.
#include <doctest/doctest.h>

#include <vector>

#include "standin.hpp"
#include "standin_launch.hpp"

namespace {

__global__ void fill(float* y, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = value;
}

}  // namespace

TEST_CASE("smoke") {
  standin::restart();
  cudaStream_t s{};
  REQUIRE(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
  void* p = nullptr;
  REQUIRE(cudaMalloc(&p, 1000 * 4) == cudaSuccess);
  float* y = static_cast<float*>(p);
  REQUIRE(standin::launch(fill, 4, 256, s, y, 3.0f, 1000) == cudaSuccess);
  CHECK(standin::peek(y, 1)[0] != 3.0f);
  REQUIRE(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(standin::peek(y, 1000) == std::vector<float>(1000, 3.0f));
}
