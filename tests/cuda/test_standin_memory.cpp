// The stand-in's memory: who can touch it, how far it reaches, and for how long.
#include <cmath>
#include <stdexcept>
#include <vector>

#include "standin_support.hpp"

namespace {

__global__ void fill(float* y, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = value;
}
__global__ void write_at(char* y, long offset) { y[offset] = 7; }
__global__ void read_at(const char* x, long offset, char* y) { *y = x[offset]; }

// What becomes of a kernel that writes one byte at `offset` from the beginning of an allocation.
cudaError_t write(char* y, long offset) {
  const cudaStream_t s = new_stream();
  REQUIRE(standin::launch(write_at, 1, 1, s, y, offset) == cudaSuccess);
  return cudaStreamSynchronize(s);
}

}  // namespace

TEST_CASE("the host can't touch device memory, and a kernel can") {
  restart();
  const cudaStream_t s = new_stream();
  float* y = on_device<float>(1000);
  REQUIRE(standin::launch(fill, 4, 256, s, y, 3.0f, 1000) == cudaSuccess);
  CHECK(std::isnan(value_at(y)));
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(standin::peek(y, 1000) == std::vector<float>(1000, 3.0f));
  CHECK(ends_in_a_segmentation_fault([&] { *const_cast<volatile float*>(y) = 1; }));
  CHECK(ends_in_a_segmentation_fault([&] { static_cast<void>(*const_cast<volatile float*>(y)); }));
}

TEST_CASE("new memory holds NaNs") {
  restart();
  for (const double x : standin::peek(on_device<double>(100), 100)) CHECK(std::isnan(x));
  for (const float x : standin::peek(on_device<float>(100), 100)) CHECK(std::isnan(x));
  CHECK(std::isnan(*on_pinned<float>(1)));
}

TEST_CASE("memory is aligned to 256 bytes, and no address comes again") {
  restart();
  std::vector<char*> all;
  for (std::size_t bytes = 1; bytes < 5000; bytes += 97) {
    all.push_back(on_device<char>(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(all.back()) % 256 == 0);
    if (bytes % 2 == 0) CHECK(cudaFree(all.back()) == cudaSuccess);
  }
  std::sort(all.begin(), all.end());
  CHECK(std::unique(all.begin(), all.end()) == all.end());
}

TEST_CASE("a kernel that writes behind an allocation, or before it, fails, wherever the page ends") {
  for (const std::size_t bytes : {1u, 100u, 256u, 1000u, 4095u, 4096u, 4097u, 8192u})
    for (const long offset : {-1L, -200L, -5000L, 0L, 1L, 200L, 4096L}) {
      restart();
      on_device<char>(bytes);  // neighbours
      char* y = on_device<char>(bytes);
      on_device<char>(bytes);
      CAPTURE(bytes);
      CAPTURE(offset);
      const long at = offset < 0 ? offset : static_cast<long>(bytes) + offset;
      CHECK(write(y, at) == cudaErrorIllegalAddress);
      restart();
      CHECK(write(on_device<char>(bytes), static_cast<long>(bytes) - 1) == cudaSuccess);
    }
}

TEST_CASE("what a kernel reads outside an allocation, close to it, is no number") {
  restart();
  const std::vector<float> zeros(3);
  const auto* x = reinterpret_cast<const char*>(on_device(zeros));
  char* y = on_device<char>(1);
  const cudaStream_t s = new_stream();
  for (const long offset : {-1L, 12L}) {
    REQUIRE(standin::launch(read_at, 1, 1, s, x, offset, y) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(s) == cudaSuccess);
    CHECK(value_at(y) == static_cast<char>(0xff));
  }
}

TEST_CASE("a kernel that touches what was freed fails, also where it was queued before") {
  restart();
  char* y = on_device<char>(10);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(write(y, 0) == cudaErrorIllegalAddress);
  restart();
  const cudaStream_t s = new_stream();
  y = on_device<char>(10);
  REQUIRE(standin::launch(write_at, 1, 1, s, y, 0L) == cudaSuccess);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaErrorIllegalAddress);
}

TEST_CASE("a kernel can't touch the memory of another device") {
  restart();
  standin::set_device_count(2);
  float* there = on_device<float>(1);
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  const cudaStream_t s = new_stream();
  float** table = on_device(std::vector<float*>{there});
  REQUIRE(standin::launch(
              +[](float** t) { **t = 1; }, 1, 1, s, table) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaErrorIllegalAddress);
  CHECK(cudaSetDevice(0) == cudaSuccess);  // the other one works on
  CHECK(write(reinterpret_cast<char*>(there), 0) == cudaSuccess);
}

TEST_CASE("what cudaFree and cudaFreeHost can't free is refused") {
  restart();
  float *y = on_device<float>(100), *h = on_pinned<float>(100), host = 0;
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(cudaFreeHost(nullptr) == cudaSuccess);
  CHECK(cudaFree(y + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(&host) == cudaErrorInvalidValue);
  CHECK(cudaFree(h) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(y) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(&host) == cudaErrorInvalidValue);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(cudaFree(y) == cudaErrorInvalidValue);
  CHECK(says("freed before"));
  CHECK(cudaFreeHost(h) == cudaSuccess);
  CHECK(cudaFreeHost(h) == cudaErrorInvalidValue);
  CHECK(standin::memory_in_use() == 0);
  CHECK(standin::pinned_memory_in_use() == 0);
}

TEST_CASE("beyond the limit there is no memory, which is no failure of the device") {
  restart();
  standin::set_memory_limit(1000);
  void *p = nullptr, *q = nullptr;
  CHECK(cudaMalloc(&p, 600) == cudaSuccess);
  CHECK(cudaMalloc(&q, 600) == cudaErrorMemoryAllocation);
  CHECK(q == nullptr);
  CHECK(cudaMalloc(&q, 400) == cudaSuccess);
  CHECK(standin::memory_in_use() == 1000);
  CHECK(cudaFree(p) == cudaSuccess);
  CHECK(cudaMalloc(&p, 600) == cudaSuccess);
  CHECK(standin::allocations() == 3);
  CHECK(cudaMalloc(nullptr, 1) == cudaErrorInvalidValue);
  CHECK(cudaMalloc(&p, 0) == cudaSuccess);
  CHECK(p == nullptr);
}

TEST_CASE("pinned memory belongs to the host too, until it is freed") {
  restart();
  float* h = on_pinned<float>(10);
  h[9] = 5;
  const cudaStream_t s = new_stream();
  REQUIRE(standin::launch(fill, 1, 32, s, h, 3.0f, 9) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(h[8] == 3);
  CHECK(h[9] == 5);
  CHECK(cudaFreeHost(h) == cudaSuccess);
  CHECK(ends_in_a_segmentation_fault([&] { *const_cast<volatile float*>(h) = 1; }));
}

TEST_CASE("copies go where they are told to, and are refused where the pointers don't fit") {
  restart();
  const cudaStream_t s = new_stream();
  float *x = on_device(std::vector<float>{1, 2, 3, 4}), *y = on_device<float>(4), *h = on_pinned<float>(4);
  float host[4] = {5, 6, 7, 8};
  const auto copy = [&](void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, s);
  };
  CHECK(copy(y, x, 16, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(copy(h, y, 16, cudaMemcpyDefault) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(h[3] == 4);
  CHECK(copy(y + 1, host, 12, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(copy(h, host, 16, cudaMemcpyHostToHost) == cudaSuccess);
  CHECK(h[3] == 8);  // "fully synchronous"
  CHECK(cudaMemsetAsync(x + 1, 0, 8, s) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(standin::peek(y, 4) == std::vector<float>{1, 5, 6, 7});
  CHECK(standin::peek(x, 4) == std::vector<float>{1, 0, 0, 4});
  CHECK(copy(nullptr, nullptr, 0, cudaMemcpyDeviceToDevice) == cudaSuccess);

  CHECK(copy(y, x, 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(y, host, 16, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copy(host, h, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(copy(y, x, 16, static_cast<cudaMemcpyKind>(7)) == cudaErrorInvalidMemcpyDirection);
  CHECK(copy(y, x, 17, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copy(y + 1, x, 16, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copy(y - 1, x, 4, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copy(h, x, 17, cudaMemcpyDefault) == cudaErrorInvalidValue);
  CHECK(copy(x + 1, x, 12, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(says("overlap"));
  CHECK(copy(nullptr, x, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(x, 0, 17, s) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(host, 0, 16, s) == cudaErrorInvalidValue);
  CHECK(cudaFree(x) == cudaSuccess);
  CHECK(copy(y, x, 16, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(says("has been freed"));
  CHECK(standin::queued() == 0);
}

TEST_CASE("a copy whose memory was freed while it waited fails") {
  restart();
  const cudaStream_t s = new_stream();
  float *x = on_device<float>(4), *y = on_device<float>(4), *h = on_pinned<float>(4);
  REQUIRE(cudaMemcpyAsync(x, h, 16, cudaMemcpyHostToDevice, s) == cudaSuccess);
  CHECK(cudaFreeHost(h) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaErrorIllegalAddress);
  restart();
  const cudaStream_t t = new_stream();
  x = on_device<float>(4);
  y = on_device<float>(4);
  REQUIRE(cudaMemcpyAsync(y, x, 16, cudaMemcpyDeviceToDevice, t) == cudaSuccess);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(cudaStreamSynchronize(t) == cudaErrorIllegalAddress);
}

TEST_CASE("tests look into device memory, and not beside it") {
  restart();
  float* y = on_device(std::vector<float>{1, 2});
  CHECK(standin::peek(y, 2) == std::vector<float>{1, 2});
  CHECK_THROWS_AS(standin::peek(y, 3), std::out_of_range);
  CHECK_THROWS_AS(standin::peek(y - 1, 1), std::out_of_range);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK_THROWS_AS(standin::peek(y, 1), std::out_of_range);
}
