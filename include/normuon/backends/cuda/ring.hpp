// Small data on its way to the device: copied into one of a few pinned buffers, from which the device takes it when it
// comes to it. The host waits only when all buffers are on their way.
#ifndef NORMUON_BACKENDS_CUDA_RING_HPP
#define NORMUON_BACKENDS_CUDA_RING_HPP

#include <vector>

#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

class pinned_ring {
 public:
  explicit pinned_ring(std::size_t buffers) {
    for (std::size_t k = 0; k < buffers; ++k) buffers_.push_back({{}, make_event(), 0, false});
  }

  // Makes every buffer at least so large, once none is on its way.
  void reserve(std::size_t bytes) {
    for (buffer& b : buffers_) {
      if (b.bytes >= bytes) continue;
      wait_for(b);
      pinned_memory larger = make_pinned_memory(bytes);
      b.memory = std::move(larger);
      b.bytes = bytes;
    }
  }

  // fill(address) writes `bytes` into a buffer, no more than there was made room for; they are copied to `to` in the
  // stream.
  template <class Fill>
  void send(void* to, std::size_t bytes, cudaStream_t stream, Fill&& fill) {
    buffer& b = buffers_[next_];
    wait_for(b);
    fill(static_cast<std::byte*>(b.memory.get()));
    check(cudaMemcpyAsync(to, b.memory.get(), bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync of ", bytes,
          " pinned bytes");
    next_ = (next_ + 1) % buffers_.size();
    const cudaError_t recorded = cudaEventRecord(b.sent.get(), stream);
    if (recorded != cudaSuccess) (void)cudaStreamSynchronize(stream);  // nothing else would tell when it is free
    check(recorded, "cudaEventRecord");
    b.on_its_way = true;
  }

 private:
  struct buffer {
    pinned_memory memory;
    cuda_event sent;
    std::size_t bytes;
    bool on_its_way;
  };

  static void wait_for(buffer& b) {
    if (!b.on_its_way) return;
    if (!has_happened(b.sent)) check(cudaEventSynchronize(b.sent.get()), "cudaEventSynchronize");
    b.on_its_way = false;
  }

  std::vector<buffer> buffers_;
  std::size_t next_ = 0;
};

}  // namespace normuon

#endif
