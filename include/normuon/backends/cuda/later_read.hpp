// A copy from the device that nobody waits for: the host asks whether it has come.
#ifndef NORMUON_BACKENDS_CUDA_LATER_READ_HPP
#define NORMUON_BACKENDS_CUDA_LATER_READ_HPP

#include <memory>

#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

class cuda_later_read {
 public:
  // Copies `bytes` at `from` when the stream comes to it. A copy into this object that is on its way is waited for.
  void begin(const void* from, std::size_t bytes, cudaStream_t stream) {
    if (!body_) body_ = std::make_unique<body>();
    body_->wait();
    if (body_->bytes < bytes) {
      pinned_memory larger = make_pinned_memory(bytes);
      body_->memory = std::move(larger);
      body_->bytes = bytes;
    }
    if (bytes != 0)
      check(cudaMemcpyAsync(body_->memory.get(), from, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync of ",
            bytes, " bytes to pinned memory");
    const cudaError_t recorded = cudaEventRecord(body_->done.get(), stream);
    if (recorded != cudaSuccess) (void)cudaStreamSynchronize(stream);  // nothing else would tell when it has come
    check(recorded, "cudaEventRecord");
    body_->on_its_way = true;
  }

  bool is_there() const {
    if (!body_ || !body_->on_its_way) return true;
    body_->on_its_way = !has_happened(body_->done);
    return !body_->on_its_way;
  }
  const std::byte* data() const { return body_ ? static_cast<const std::byte*>(body_->memory.get()) : nullptr; }

 private:
  struct body {
    pinned_memory memory;
    std::size_t bytes = 0;
    cuda_event done = make_event();
    bool on_its_way = false;

    body() = default;
    body(const body&) = delete;
    body& operator=(const body&) = delete;
    ~body() { wait(); }  // the device may still write there
    void wait() {
      if (on_its_way) (void)cudaEventSynchronize(done.get());
      on_its_way = false;
    }
  };
  std::unique_ptr<body> body_;
};

}  // namespace normuon

#endif
