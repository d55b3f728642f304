// How long products take on the device, by events, as a captured step has them: one behind the other.
#ifndef NORMUON_BACKENDS_CUDA_TIMING_HPP
#define NORMUON_BACKENDS_CUDA_TIMING_HPP

#include <algorithm>
#include <limits>
#include <vector>

#include "normuon/backends/cuda/capture.hpp"
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
  if (bytes != 0) {
    check(cudaMemcpyAsync(to, piece.data(), piece.size(), cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");  // before the piece goes away
  }
  for (std::size_t done = piece.size(); done < bytes; done *= 2)
    check(cudaMemcpyAsync(to + done, to, std::min(done, bytes - done), cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync");
  return memory;
}

// Operands for products of a shape. C is a matrix of its own where products are added to one.
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
    if (k.adds) c_ = make(k.m, k.leading_y, k.stride_y);
  }
  const std::byte* A() const { return static_cast<const std::byte*>(a_.get()); }
  const std::byte* B() const { return static_cast<const std::byte*>(b_.get()); }
  std::byte* Y() const { return static_cast<std::byte*>(y_.get()); }
  const std::byte* C() const { return static_cast<const std::byte*>(c_ ? c_.get() : y_.get()); }
  double beta() const { return c_ ? 1 : 0; }

 private:
  device_memory a_, b_, y_, c_;
};

// Milliseconds that run(stream) takes, the shortest of some rounds. Several are captured as one graph, and rounds are
// put in behind a first one that does not count: a host that takes longer for a call than the device for a small
// product does not show. The host waits.
template <class Run>
double milliseconds_of(cudaStream_t stream, Run&& run) {
  constexpr int rounds = 3, repeats = 8;
  run(stream);  // which loads what is loaded at a first call
  const cuda_stream aside = make_stream();
  const cuda_graph_exec round = captured(aside.get(), [&](cudaStream_t s) {
    for (int i = 0; i < repeats; ++i) run(s);
  });
  std::vector<cuda_event> ends;
  for (int i = 0; i <= rounds; ++i) {
    ends.push_back(make_timed_event());
    check(cudaGraphLaunch(round.get(), stream), "cudaGraphLaunch");
    check(cudaEventRecord(ends.back().get(), stream), "cudaEventRecord");
  }
  check(cudaEventSynchronize(ends.back().get()), "cudaEventSynchronize");
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 1; i < ends.size(); ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, ends[i - 1].get(), ends[i].get()), "cudaEventElapsedTime");
    least = std::min(least, static_cast<double>(milliseconds) / repeats);
  }
  return least;
}

}  // namespace normuon

#endif
