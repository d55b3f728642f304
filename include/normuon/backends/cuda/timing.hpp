// How long products take on the device, by events.
#ifndef NORMUON_BACKENDS_CUDA_TIMING_HPP
#define NORMUON_BACKENDS_CUDA_TIMING_HPP

#include <algorithm>
#include <limits>
#include <vector>

#include "normuon/backends/cuda/product_plan.hpp"
#include "normuon/math/random.hpp"

namespace normuon {

// Device memory full of random numbers between -1 and 1: a device computes zeros faster than it ever will a gradient.
// The same numbers every time; a piece of them is repeated.
inline device_memory make_random_memory(element_type type, std::size_t bytes, cudaStream_t stream) {
  device_memory memory = make_device_memory(bytes);
  std::vector<std::byte> piece(std::min(bytes, std::size_t{1} << 20));
  with_element_type(type, [&]<element T>(T) {
    const std::size_t count = piece.size() / sizeof(T);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t random = random_bits(1, 0, static_cast<std::int64_t>(i / 4))[i % 4];
      const T x = static_cast<T>(static_cast<double>(random) * 0x1p-31 - 1);
      std::copy_n(reinterpret_cast<const std::byte*>(&x), sizeof x, piece.data() + i * sizeof x);
    }
  });
  auto* const to = static_cast<std::byte*>(memory.get());
  if (bytes != 0)
    check(cudaMemcpyAsync(to, piece.data(), piece.size(), cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  for (std::size_t done = piece.size(); done < bytes; done *= 2)
    check(cudaMemcpyAsync(to + done, to, std::min(done, bytes - done), cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync");
  return memory;
}

// Operands for products of a shape.
class timed_operands {
 public:
  timed_operands(const product_shape_key& k, cudaStream_t stream) {
    const auto make = [&](index_t rows, index_t leading, index_t stride) {
      const index_t elements = (k.count - 1) * stride + rows * leading;
      return make_random_memory(k.type, static_cast<std::size_t>(elements) * size_of(k.type), stream);
    };
    a_ = make(k.m, k.leading_a, k.stride_a);
    b_ = make(k.transpose ? k.n : k.k, k.leading_b, k.stride_b);
    y_ = make(k.m, k.leading_y, k.stride_y);
  }
  const std::byte* A() const { return static_cast<const std::byte*>(a_.get()); }
  const std::byte* B() const { return static_cast<const std::byte*>(b_.get()); }
  std::byte* Y() const { return static_cast<std::byte*>(y_.get()); }

 private:
  device_memory a_, b_, y_;
};

// Milliseconds that run() takes in the stream, the shortest of some rounds after one that does not count. The host
// waits.
template <class Run>
double milliseconds_of(cudaStream_t stream, Run&& run) {
  constexpr int rounds = 3, repeats = 4;
  const cuda_event start = make_timed_event(), end = make_timed_event();
  run();
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < rounds; ++round) {
    check(cudaEventRecord(start.get(), stream), "cudaEventRecord");
    for (int i = 0; i < repeats; ++i) run();
    check(cudaEventRecord(end.get(), stream), "cudaEventRecord");
    check(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.get(), end.get()), "cudaEventElapsedTime");
    least = std::min(least, static_cast<double>(milliseconds) / repeats);
  }
  return least;
}

}  // namespace normuon

#endif
