// The stand-in's schedule of failures, its counts, and errors as the vendor names them.
#include <cublasLt.h>

#include <string>
#include <vector>

#include "standin_support.hpp"

namespace {

__global__ void increment(int* y) { ++*y; }

}  // namespace

TEST_CASE("any call can be made to fail once, and then has done nothing") {
  restart();
  void* p = nullptr;
  standin::fail_call("cudaMalloc", 2, cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&p, 4) == cudaSuccess);
  CHECK(cudaMalloc(&p, 4) == cudaErrorMemoryAllocation);
  CHECK(says("as scheduled"));
  CHECK(cudaMalloc(&p, 4) == cudaSuccess);
  CHECK(standin::memory_in_use() == 8);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);

  int* y = on_device(std::vector<int>{0});
  const cudaStream_t s = new_stream();
  standin::fail_call("cudaLaunchKernel", 1, cudaErrorLaunchOutOfResources);
  CHECK(standin::launch(increment, 1, 1, s, y) == cudaErrorLaunchOutOfResources);
  CHECK(standin::launch(increment, 1, 1, s, y) == cudaSuccess);
  standin::fail_call("cudaStreamSynchronize", 1, cudaErrorUnknown);
  CHECK(cudaStreamSynchronize(s) == cudaErrorUnknown);
  CHECK(value_at(y) == 0);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(value_at(y) == 1);

  cublasLtHandle_t handle{};
  standin::fail_call("cublasLtCreate", 1, CUBLAS_STATUS_ALLOC_FAILED);
  CHECK(cublasLtCreate(&handle) == CUBLAS_STATUS_ALLOC_FAILED);
  CHECK(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("work can be made to fail on the device, which then fails for good, while others work on") {
  restart();
  standin::set_device_count(2);
  int* y = on_device(std::vector<int>{0});
  const cudaStream_t s = new_stream();
  standin::fail_work(2, cudaErrorECCUncorrectable);
  for (int i = 0; i < 3; ++i) CHECK(standin::launch(increment, 1, 1, s, y) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaErrorECCUncorrectable);
  CHECK(value_at(y) == 1);
  void* p = nullptr;
  int device = 0;
  CHECK(cudaMalloc(&p, 4) == cudaErrorECCUncorrectable);
  CHECK(cudaGetLastError() == cudaErrorECCUncorrectable);
  CHECK(cudaStreamDestroy(s) == cudaErrorECCUncorrectable);
  CHECK(cudaSetDevice(0) == cudaErrorECCUncorrectable);
  CHECK(cudaGetDevice(&device) == cudaErrorECCUncorrectable);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  CHECK(cudaMalloc(&p, 4) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaErrorECCUncorrectable);  // a stream of the other one
  restart();
  CHECK(cudaMalloc(&p, 4) == cudaSuccess);
}

TEST_CASE("calls are counted and listed by name, and so are handles, memory and work") {
  restart();
  int* y = on_device(std::vector<int>{0});
  const cudaStream_t s = new_stream();
  const cudaEvent_t e = new_event();
  CHECK(standin::handles_in_use() == 2);
  standin::forget_calls();
  CHECK(standin::launch(increment, 1, 1, s, y) == cudaSuccess);
  CHECK(standin::launch(increment, 0, 1, s, y) == cudaErrorInvalidConfiguration);
  CHECK(cudaEventRecord(e, s) == cudaSuccess);
  CHECK(cudaEventSynchronize(e) == cudaSuccess);
  CHECK(standin::calls("cudaLaunchKernel") == 2);
  CHECK(standin::calls("cudaMalloc") == 0);
  CHECK(standin::calls("cudaGetLastError") == 0);
  CHECK(standin::allocations() == 0);
  CHECK(standin::waits() == 1);
  CHECK(standin::work_done() == 1);
  CHECK(standin::trace() ==
        std::vector<std::string>{"cudaLaunchKernel", "cudaLaunchKernel", "cudaEventRecord", "cudaEventSynchronize"});
  CHECK(cudaEventDestroy(e) == cudaSuccess);
  CHECK(standin::handles_in_use() == 1);
  restart();
  CHECK(standin::handles_in_use() == 0);
  CHECK(standin::memory_in_use() == 0);
  CHECK(cudaStreamDestroy(s) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("errors have the vendor's names") {
  CHECK(std::string(cudaGetErrorName(cudaErrorMemoryAllocation)) == "cudaErrorMemoryAllocation");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  CHECK(std::string(cudaGetErrorName(static_cast<cudaError_t>(9999))) == "unrecognized error code");
  CHECK(std::string(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED)) == "CUBLAS_STATUS_NOT_SUPPORTED");
  CHECK(std::string(cublasLtGetStatusString(CUBLAS_STATUS_SUCCESS)) == "success");
  CHECK(std::string(cublasLtGetStatusName(static_cast<cublasStatus_t>(2))) == "unrecognized status");
  CHECK(cublasLtGetVersion() == CUBLAS_VERSION);
}

TEST_CASE("NotReady is remembered as the last error, as a launch that is looked at afterwards finds") {
  restart();
  int* y = on_device(std::vector<int>{0});
  const cudaStream_t s = new_stream();
  const cudaEvent_t e = new_event();
  for (int i = 0; i < 9; ++i) CHECK(standin::launch(increment, 1, 1, s, y) == cudaSuccess);
  CHECK(cudaEventRecord(e, s) == cudaSuccess);
  CHECK(cudaEventQuery(e) == cudaErrorNotReady);
  CHECK(cudaPeekAtLastError() == cudaErrorNotReady);
  CHECK(cudaGetLastError() == cudaErrorNotReady);
  CHECK(cudaGetLastError() == cudaSuccess);
}
