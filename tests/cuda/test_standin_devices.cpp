// The stand-in with no device, with several, and in several threads.
#include <cublasLt.h>

#include <string>
#include <thread>
#include <vector>

#include "standin_support.hpp"

namespace {

__global__ void append(int* log, int digit) { *log = 10 * *log + digit; }
__global__ void put(int* y, int value) { *y = value; }

cudaError_t append_in(cudaStream_t s, int* log, int digit) { return standin::launch(append, 1, 1, s, log, digit); }

int* new_log() { return on_device(std::vector<int>{0}); }

}  // namespace

TEST_CASE("without a device every call says so") {
  restart();
  standin::set_device_count(0);
  int count = 7;
  void* p = nullptr;
  cudaStream_t s{};
  cublasLtHandle_t handle{};
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  CHECK(cudaSetDevice(0) == cudaErrorNoDevice);
  CHECK(cudaMalloc(&p, 4) == cudaErrorNoDevice);
  CHECK(cudaStreamCreateWithFlags(&s, 0) == cudaErrorNoDevice);
  CHECK(cublasLtCreate(&handle) == CUBLAS_STATUS_NOT_INITIALIZED);
  CHECK(cudaGetLastError() == cudaErrorNoDevice);
  CHECK(cudaDriverGetVersion(&count) == cudaSuccess);
  CHECK(count == 0);
  CHECK(cudaRuntimeGetVersion(&count) == cudaSuccess);
  CHECK(count == CUDART_VERSION);
  cublasLtMatrixLayout_t layout{};  // descriptors need none
  CHECK(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 1, 1, 1) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("devices say what they are") {
  restart();
  standin::set_device_count(2);
  int value = 0;
  CHECK(cudaGetDeviceCount(&value) == cudaSuccess);
  CHECK(value == 2);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 1) == cudaSuccess);
  CHECK(value == 132);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 2) == cudaErrorInvalidDevice);
  CHECK(cudaDeviceGetAttribute(nullptr, cudaDevAttrMultiProcessorCount, 0) == cudaErrorInvalidValue);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(properties.major == 9);
  CHECK(properties.warpSize == 32);
  CHECK(std::string(properties.name).size() > 0);
  CHECK(cudaGetDeviceProperties(&properties, 2) == cudaErrorInvalidDevice);
}

TEST_CASE("a launch needs a stream of the current device, a copy and a wait don't, a record needs one device") {
  restart();
  standin::set_device_count(2);
  const cudaStream_t s = new_stream();
  const cudaEvent_t e = new_event(cudaEventDefault);
  int *log = new_log(), *h = on_pinned<int>(1);
  CHECK(append_in(s, log, 1) == cudaSuccess);
  CHECK(cudaEventRecord(e, s) == cudaSuccess);
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  const cudaStream_t t = new_stream();
  CHECK(append_in(s, log, 2) == cudaErrorInvalidResourceHandle);
  CHECK(cudaMemcpyAsync(h, log, 4, cudaMemcpyDeviceToHost, s) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(t, e, 0) == cudaSuccess);
  CHECK(cudaEventRecord(e, t) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventSynchronize(e) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(*h == 1);
}

TEST_CASE("the current device, and the last error, are each thread's own") {
  restart();
  standin::set_device_count(2);
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  REQUIRE(cudaSetDevice(5) == cudaErrorInvalidDevice);
  std::thread([] {
    int device = -1;
    CHECK(cudaGetDevice(&device) == cudaSuccess);
    CHECK(device == 0);
    CHECK(cudaPeekAtLastError() == cudaSuccess);
  }).join();
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("several threads may use the stand-in at once") {
  restart();
  std::vector<int*> logs(4);
  std::vector<cudaStream_t> streams(4);
  for (std::size_t i = 0; i < logs.size(); ++i) logs[i] = new_log(), streams[i] = new_stream();
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < logs.size(); ++i)
    threads.emplace_back([log = logs[i], s = streams[i]] {
      for (int n = 1; n <= 200; ++n) {
        standin::launch(put, 2, 64, s, log, n);
        if (n % 10 == 0) cudaStreamSynchronize(s);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (int* log : logs) CHECK(value_at(log) == 200);
}
