// The device that a test of numbers runs on: a GPU, the stand-in, or none.
#ifndef NORMUON_TESTS_CUDA_THIS_DEVICE_HPP
#define NORMUON_TESTS_CUDA_THIS_DEVICE_HPP

#include <cuda_runtime_api.h>

#include <string_view>

namespace normuon::test {

inline bool there_is_a_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// Where large matrices would take minutes.
inline bool is_standin() {
  cudaDeviceProp properties;
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess &&
         std::string_view(properties.name).find("stand-in") != std::string_view::npos;
}

}  // namespace normuon::test

#endif
