// What the tests of the stand-in share: memory and streams in a line, and programs that end badly.
#ifndef NORMUON_TESTS_CUDA_STANDIN_SUPPORT_HPP
#define NORMUON_TESTS_CUDA_STANDIN_SUPPORT_HPP

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <string>
#include <vector>

#include "standin.hpp"
#include "standin_launch.hpp"

// Called first in every test: nothing is left of the one before.
inline void restart(std::uint64_t seed = 0) {
  standin::restart();
  standin::seed(seed);
}

inline cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream{};
  REQUIRE(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess);
  return stream;
}

inline cudaEvent_t new_event(unsigned flags = cudaEventDisableTiming) {
  cudaEvent_t event{};
  REQUIRE(cudaEventCreateWithFlags(&event, flags) == cudaSuccess);
  return event;
}

template <class T>
T* on_device(std::size_t count) {
  void* p = nullptr;
  REQUIRE(cudaMalloc(&p, count * sizeof(T)) == cudaSuccess);
  return static_cast<T*>(p);
}
template <class T>
T* on_device(const std::vector<T>& values) {
  T* p = on_device<T>(values.size());
  standin::poke(p, values.data(), values.size() * sizeof(T));
  return p;
}
template <class T>
T* on_pinned(std::size_t count) {
  void* p = nullptr;
  REQUIRE(cudaMallocHost(&p, count * sizeof(T)) == cudaSuccess);
  return static_cast<T*>(p);
}

template <class T>
T value_at(const T* p) {
  return standin::peek(p, 1).front();
}

// True where `body` ends a process by a wild access.
template <class Body>
bool ends_in_a_segmentation_fault(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

// How many of the seeds 0 to count - 1 make `outcome` true.
template <class Outcome>
int seeds_with(int count, Outcome outcome) {
  int true_ones = 0;
  for (int seed = 0; seed < count; ++seed) {
    restart(static_cast<std::uint64_t>(seed));
    true_ones += outcome() ? 1 : 0;
  }
  return true_ones;
}

// Runs a kernel by itself, and says what became of it.
template <class... Parameters, class... Arguments>
cudaError_t run(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments) {
  const cudaStream_t s = new_stream();
  const cudaError_t launched = standin::launch(kernel, grid, block, s, arguments...);
  return launched != cudaSuccess ? launched : cudaStreamSynchronize(s);
}

inline bool says(const std::string& words) { return standin::last_refusal().find(words) != std::string::npos; }

#endif
