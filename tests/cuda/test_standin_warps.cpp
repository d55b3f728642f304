// The stand-in's executor: threads that wait for each other, and lanes that exchange values.
#include <cstdint>
#include <vector>

#include "standin_support.hpp"

namespace {

constexpr unsigned everyone = 0xffffffffu;

}  // namespace

TEST_CASE("threads that have ended are not waited for") {
  restart();
  int* y = on_device(std::vector<int>(40));
  const auto kernel = +[](int* to) {
    if (threadIdx.x >= 30) return;
    __syncthreads();
    to[threadIdx.x] = 1;
    if (threadIdx.x % 2 == 0) return;
    __syncthreads();
    to[threadIdx.x] = 2;
  };
  CHECK(run(kernel, 1, 40, y) == cudaSuccess);
  const std::vector<int> got = standin::peek(y, 40);
  for (std::size_t i = 0; i < 40; ++i) CHECK(got[i] == (i >= 30 ? 0 : i % 2 == 0 ? 1 : 2));
}

TEST_CASE("threads that meet at two barriers fail, and so do those that wait for ever") {
  const auto two_barriers = +[] {
    if (threadIdx.x < 7) __syncthreads();
    if (threadIdx.x >= 7) __syncthreads();
  };
  const auto barrier_and_warp = +[] {
    if (threadIdx.x < 7) __syncthreads();
    else __syncwarp();
  };
  const auto two_masks = +[] { __syncwarp(threadIdx.x < 7 ? everyone : 0xffffff80u); };
  const auto not_in_mask = +[] { __syncwarp(1); };
  const auto two_acts = +[] {
    if (threadIdx.x < 7) __syncwarp();
    else __ballot_sync(everyone, 1);
  };
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    restart(seed);
    CHECK(run(two_barriers, 1, 32) == cudaErrorLaunchFailure);
    CHECK(says("two barriers"));
    restart(seed);
    CHECK(run(barrier_and_warp, 1, 32) == cudaErrorLaunchTimeout);
    restart(seed);
    CHECK(run(two_masks, 1, 32) == cudaErrorLaunchFailure);
    restart(seed);
    CHECK(run(two_acts, 1, 32) == cudaErrorLaunchFailure);
    restart(seed);
    CHECK(run(not_in_mask, 1, 32) == cudaErrorLaunchFailure);
    CHECK(says("its own mask"));
  }
}

TEST_CASE("shuffles move values between the lanes of a warp") {
  restart();
  int* y = on_device<int>(6 * 70);
  const auto kernel = +[](int* to) {
    const int t = static_cast<int>(threadIdx.x);
    const unsigned mask = t < 64 ? everyone : 0x3fu;  // the last warp has six lanes
    to[t] = __shfl_down_sync(mask, t, 3);
    to[70 + t] = __shfl_up_sync(mask, t, 2);
    to[140 + t] = __shfl_xor_sync(mask, t, 1);
    to[210 + t] = __shfl_sync(mask, t, 5);
    to[280 + t] = __shfl_down_sync(mask, t, 1, 2);
    to[350 + t] = __shfl_up_sync(mask, t, 1, 2);
  };
  CHECK(run(kernel, 1, 70, y) == cudaSuccess);
  const std::vector<int> got = standin::peek(y, 6 * 70);
  for (int t = 0; t < 70; ++t) {
    CAPTURE(t);
    const int lane = t % 32, warp = t - lane, lanes = t < 64 ? 32 : 6;
    const auto at = [&](int row) { return got[static_cast<std::size_t>(70 * row + t)]; };
    if (lane + 3 < lanes || lane + 3 >= 32) CHECK(at(0) == (lane + 3 < 32 ? t + 3 : t));
    else CHECK(at(0) == -1);  // from a lane that takes no part
    CHECK(at(1) == (lane >= 2 ? t - 2 : t));
    CHECK(at(2) == (t ^ 1));
    CHECK(at(3) == warp + 5);
    CHECK(at(4) == (t % 2 == 0 ? t + 1 : t));
    CHECK(at(5) == (t % 2 == 0 ? t : t - 1));
  }
}

TEST_CASE("lanes that have ended are not waited for, and give nothing") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    restart(seed);
    int* y = on_device<int>(32);
    const auto kernel = +[](int* to) {
      const int t = static_cast<int>(threadIdx.x);
      const int first = __shfl_xor_sync(everyone, t, 1);
      if (t % 8 == 0) return;
      to[t] = first + 100 * __shfl_xor_sync(everyone, t, 1);
    };
    CHECK(run(kernel, 1, 32, y) == cudaSuccess);
    const std::vector<int> got = standin::peek(y, 32);
    for (int t = 0; t < 32; ++t)
      if (t % 8 != 0) CHECK(got[static_cast<std::size_t>(t)] == (t ^ 1) + 100 * (t % 8 == 1 ? -1 : t ^ 1));
  }
}

TEST_CASE("every type is shuffled whole, in disjoint masks, and votes are counted") {
  restart();
  double* y = on_device<double>(32);
  unsigned* votes = on_device<unsigned>(32);
  const auto kernel = +[](double* to, unsigned* ballots) {
    const unsigned t = threadIdx.x, mask = t < 16 ? 0xffffu : 0xffff0000u;
    double x = 1.0 + t * 0x1p-50;
    for (int bits = 8; bits > 0; bits /= 2) x += __shfl_xor_sync(mask, x, bits);
    to[t] = x + static_cast<double>(__shfl_xor_sync(mask, 0.25f, 1));
    ballots[t] = __ballot_sync(mask, t % 3 == 0);
  };
  CHECK(run(kernel, 1, 32, y, votes) == cudaSuccess);
  for (std::size_t t = 0; t < 32; ++t) {
    CHECK(standin::peek(y, 32)[t] == 16.25 + (t < 16 ? 120 : 376) * 0x1p-50);
    CHECK(standin::peek(votes, 32)[t] == (t < 16 ? 0x9249u : 0x49240000u));
  }
}

TEST_CASE("all threads of large blocks wait at many barriers") {
  restart();
  int* y = on_device<int>(8);
  const auto kernel = +[](int* to) {
    __shared__ int x;
    if (threadIdx.x == 0) x = 0;
    for (unsigned turn = 0; turn < blockDim.x; turn += 64) {
      __syncthreads();
      if (threadIdx.x == turn) x += 1;
    }
    __syncthreads();
    if (threadIdx.x == 5) to[blockIdx.x] = x;
  };
  CHECK(run(kernel, 8, 1024, y) == cudaSuccess);
  CHECK(standin::peek(y, 8) == std::vector<int>(8, 16));
}
