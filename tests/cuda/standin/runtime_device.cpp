// Entry points of the runtime: devices, versions, errors. Signatures and codes are those of cuda_runtime_api.h, where
// "quotes" come from; the function that says so is named.
#include <cuda_runtime_api.h>

#include <cstring>

#include "world.hpp"

namespace standin {

cudaError_t take_last_error(const char* name, bool reset);

namespace {

struct attribute {
  cudaDeviceAttr name;
  int value;
};
// The likeness of a large GPU of compute capability 9.0.
constexpr attribute attributes[] = {
    {cudaDevAttrMaxThreadsPerBlock, 1024},
    {cudaDevAttrMaxBlockDimX, 1024},
    {cudaDevAttrMaxBlockDimY, 1024},
    {cudaDevAttrMaxBlockDimZ, 64},
    {cudaDevAttrMaxGridDimX, 2147483647},
    {cudaDevAttrMaxGridDimY, 65535},
    {cudaDevAttrMaxGridDimZ, 65535},
    {cudaDevAttrMaxSharedMemoryPerBlock, 48 * 1024},
    {cudaDevAttrWarpSize, 32},
    {cudaDevAttrMultiProcessorCount, 132},
    {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
    {cudaDevAttrL2CacheSize, 50 * 1024 * 1024},
    {cudaDevAttrComputeCapabilityMajor, 9},
    {cudaDevAttrComputeCapabilityMinor, 0},
    {cudaDevAttrConcurrentKernels, 1},
    {cudaDevAttrUnifiedAddressing, 1},
    {cudaDevAttrTextureAlignment, 512},
};

int value_of(cudaDeviceAttr name) {
  for (const attribute& a : attributes)
    if (a.name == name) return a.value;
  refuse(cudaErrorInvalidValue, "the stand-in does not know device attribute ", static_cast<int>(name));
}

// "the device ordinal supplied by the user does not correspond to a valid CUDA device" (cudaErrorInvalidDevice).
void must_exist(int device) {
  if (device < 0 || static_cast<std::size_t>(device) >= devices().size())
    refuse(cudaErrorInvalidDevice, "there is no device ", device);
}

}  // namespace
}  // namespace standin

using namespace standin;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  return runtime_call(
      "cudaGetDeviceCount",
      [&] {
        if (count == nullptr) refuse(cudaErrorInvalidValue, "no place for the count");
        *count = static_cast<int>(devices().size());
        if (devices().empty()) refuse(cudaErrorNoDevice, "there is no device");
      },
      needs::nothing);
}

cudaError_t cudaGetDevice(int* device) {
  return runtime_call("cudaGetDevice", [&] {
    if (device == nullptr) refuse(cudaErrorInvalidValue, "no place for the device");
    *device = current_device();
  });
}

// Answered also while the current device has failed: another one may work.
cudaError_t cudaSetDevice(int device) {
  return runtime_call(
      "cudaSetDevice",
      [&] {
        if (devices().empty()) refuse(cudaErrorNoDevice, "there is no device");
        must_exist(device);
        device_must_work(device);
        select_device(device);
      },
      needs::nothing);
}

cudaError_t cudaDeviceGetAttribute(int* value, enum cudaDeviceAttr attr, int device) {
  return runtime_call("cudaDeviceGetAttribute", [&] {
    must_exist(device);
    if (value == nullptr) refuse(cudaErrorInvalidValue, "no place for the value");
    *value = value_of(attr);
  });
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp* prop, int device) {
  return runtime_call("cudaGetDeviceProperties", [&] {
    must_exist(device);
    if (prop == nullptr) refuse(cudaErrorInvalidValue, "no place for the properties");
    std::memset(prop, 0, sizeof *prop);
    std::strncpy(prop->name, "normuon's stand-in for a GPU", sizeof prop->name - 1);
    prop->totalGlobalMem = memory_limit();
    prop->sharedMemPerBlock = static_cast<std::size_t>(value_of(cudaDevAttrMaxSharedMemoryPerBlock));
    prop->warpSize = value_of(cudaDevAttrWarpSize);
    prop->maxThreadsPerBlock = value_of(cudaDevAttrMaxThreadsPerBlock);
    prop->major = value_of(cudaDevAttrComputeCapabilityMajor);
    prop->minor = value_of(cudaDevAttrComputeCapabilityMinor);
    prop->multiProcessorCount = value_of(cudaDevAttrMultiProcessorCount);
    prop->l2CacheSize = value_of(cudaDevAttrL2CacheSize);
    prop->pciBusID = device + 1;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return runtime_call(
      "cudaRuntimeGetVersion",
      [&] {
        if (version == nullptr) refuse(cudaErrorInvalidValue, "no place for the version");
        *version = CUDART_VERSION;
      },
      needs::nothing);
}

// "If no driver is installed, then 0 is returned as the driver version" (cudaDriverGetVersion).
cudaError_t cudaDriverGetVersion(int* version) {
  return runtime_call(
      "cudaDriverGetVersion",
      [&] {
        if (version == nullptr) refuse(cudaErrorInvalidValue, "no place for the version");
        *version = devices().empty() ? 0 : driver_version();
      },
      needs::nothing);
}

cudaError_t cudaGetLastError() { return take_last_error("cudaGetLastError", true); }

cudaError_t cudaPeekAtLastError() { return take_last_error("cudaPeekAtLastError", false); }

}  // extern "C"
