// What a CUDA device lends, each as a move-only owner, and the check of every status that its libraries return. Owners
// that are destroyed say nothing: what fails then has failed before.
#ifndef NORMUON_BACKENDS_CUDA_RESOURCES_HPP
#define NORMUON_BACKENDS_CUDA_RESOURCES_HPP

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "normuon/errors.hpp"

namespace normuon {

// True for the failures after which no call of the process on this device can succeed. Some are numbers, since not
// every toolkit from 12.0 on has their names.
constexpr bool is_sticky(cudaError_t status) {
  constexpr int contained = 226, tensor_memory_leak = 721, mps_client_terminated = 810, external_device = 911;
  switch (static_cast<int>(status)) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case contained:
    case tensor_memory_leak:
    case mps_client_terminated:
    case external_device: return true;
    default: return false;
  }
}

// What a call failed with: error_code::device, and whether the device is lost with it.
class device_error : public error {
 public:
  device_error(const std::string& message, bool is_lost) : error(error_code::device, message), is_lost_(is_lost) {}
  bool is_lost() const noexcept { return is_lost_; }

 private:
  bool is_lost_;
};

// Throws a device_error where a call failed, with the call and what it was about, and the library's name of the code.
template <class... Parts>
void check(cudaError_t status, const Parts&... call) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // the next call shall not be blamed for it
  throw device_error(message_of(call..., ": ", cudaGetErrorName(status), ", ", cudaGetErrorString(status)),
                     is_sticky(status));
}
template <class... Parts>
void check(cublasStatus_t status, const Parts&... call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw device_error(
      message_of(call..., ": ", cublasLtGetStatusName(status), ", ", cublasLtGetStatusString(status)),
      is_sticky(cudaGetLastError()));  // of a call inside the library, which the next shall not be blamed for
}

// True for "not yet", which is no error, and is forgotten as the last one.
inline bool is_pending(cudaError_t answer) {
  if (answer != cudaErrorNotReady) return false;
  (void)cudaGetLastError();
  return true;
}

// Owns what `destroy` takes back. Empty: holds a value-initialised handle.
template <class Handle, auto destroy>
class owned {
 public:
  owned() = default;
  explicit owned(Handle handle) : handle_(handle) {}
  owned(owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle())) {}
  owned& operator=(owned&& other) noexcept {
    if (this != &other) reset(), handle_ = std::exchange(other.handle_, Handle());
    return *this;
  }
  ~owned() { reset(); }

  Handle get() const { return handle_; }
  Handle release() { return std::exchange(handle_, Handle()); }
  explicit operator bool() const { return handle_ != Handle(); }

 private:
  void reset() {
    if (handle_ != Handle()) (void)destroy(handle_);
    handle_ = Handle();
  }
  Handle handle_ = Handle();
};

using cuda_stream = owned<cudaStream_t, cudaStreamDestroy>;
using cuda_event = owned<cudaEvent_t, cudaEventDestroy>;
using cuda_graph = owned<cudaGraph_t, cudaGraphDestroy>;
using cuda_graph_exec = owned<cudaGraphExec_t, cudaGraphExecDestroy>;
using device_memory = owned<void*, static_cast<cudaError_t (*)(void*)>(cudaFree)>;
using pinned_memory = owned<void*, cudaFreeHost>;
using cublas_lt_handle = owned<cublasLtHandle_t, cublasLtDestroy>;
using matmul_desc = owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using matrix_layout = owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using matmul_preference = owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// Works on no stream but those that it is told to: never with the legacy default stream.
inline cuda_stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return cuda_stream(stream);
}
inline cuda_event make_event(unsigned kind = cudaEventDisableTiming) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, kind), "cudaEventCreateWithFlags");
  return cuda_event(event);
}
inline cuda_event make_timed_event() { return make_event(cudaEventDefault); }
inline bool has_happened(const cuda_event& event) {
  const cudaError_t answer = cudaEventQuery(event.get());
  if (is_pending(answer)) return false;
  check(answer, "cudaEventQuery");
  return true;
}
inline device_memory make_device_memory(std::size_t bytes) {
  void* memory = nullptr;
  if (bytes != 0) check(cudaMalloc(&memory, bytes), "cudaMalloc of ", bytes, " bytes");
  return device_memory(memory);
}
inline pinned_memory make_pinned_memory(std::size_t bytes) {
  void* memory = nullptr;
  if (bytes != 0) check(cudaMallocHost(&memory, bytes), "cudaMallocHost of ", bytes, " bytes");
  return pinned_memory(memory);
}
inline cublas_lt_handle make_cublas_lt() {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  return cublas_lt_handle(handle);
}

// A piece of memory, whoever owns it.
struct byte_range {
  const std::byte* first = nullptr;
  std::size_t bytes = 0;

  // Whether two share any; sharing all is sharing.
  bool overlaps(const byte_range& other) const {
    return bytes != 0 && other.bytes != 0 && first < other.first + other.bytes && other.first < first + bytes;
  }
};

// Makes a device the current one, and the caller's again when it goes away.
class current_device {
 public:
  explicit current_device(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ == device) before_ = none;
    else check(cudaSetDevice(device), "cudaSetDevice ", device);
  }
  current_device(const current_device&) = delete;
  current_device& operator=(const current_device&) = delete;
  ~current_device() {
    if (before_ != none) (void)cudaSetDevice(before_);
  }

 private:
  static constexpr int none = -1;
  int before_ = none;
};

}  // namespace normuon

#endif
