// Launches of kernels that g++ or clang++ has compiled: kernels/launch.cuh includes this where there is no nvcc.
#ifndef NORMUON_TESTS_CUDA_STANDIN_LAUNCH_HPP
#define NORMUON_TESTS_CUDA_STANDIN_LAUNCH_HPP

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "standin_threads.hpp"

namespace standin {

// Puts `thread_body` into the stream as a kernel. `addresses` are its arguments that are pointers: they must be of
// memory that a device can reach. Counted and failed as "cudaLaunchKernel".
cudaError_t enqueue_kernel(dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> thread_body,
                           std::vector<const void*> addresses);

// kernel<<<grid, block, 0, stream>>>(arguments...), with the arguments converted and kept by value.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream, Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel arguments are copied as bytes");
  const std::tuple<std::remove_cv_t<Parameters>...> kept(std::move(arguments)...);
  std::vector<const void*> addresses;
  [[maybe_unused]] const auto note = [&](const auto& parameter) {
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(parameter)>>) addresses.push_back(parameter);
  };
  std::apply([&](const auto&... parameters) { (note(parameters), ...); }, kept);
  return enqueue_kernel(
      grid, block, stream, [kernel, kept] { std::apply(kernel, kept); }, std::move(addresses));
}

}  // namespace standin

#endif
