// Device memory for the laws of an engine (normuon/testing/engine_conformance.hpp).
#ifndef NORMUON_TESTS_CUDA_DEVICE_STAGE_HPP
#define NORMUON_TESTS_CUDA_DEVICE_STAGE_HPP

#include <vector>

#include "normuon/backends/cuda/resources.hpp"

namespace normuon::test {

class device_stage {
 public:
  explicit device_stage(const std::vector<std::byte>& bytes) : size_(bytes.size()), memory_(make_device_memory(size_)) {
    write(bytes);
  }
  void* data() { return memory_.get(); }
  void write(const std::vector<std::byte>& bytes) { copy(memory_.get(), bytes.data(), cudaMemcpyHostToDevice); }
  std::vector<std::byte> read() const {
    std::vector<std::byte> bytes(size_);
    copy(bytes.data(), memory_.get(), cudaMemcpyDeviceToHost);
    return bytes;
  }

 private:
  void copy(void* to, const void* from, cudaMemcpyKind kind) const {
    if (size_ != 0) check(cudaMemcpyAsync(to, from, size_, kind, stream_.get()), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
  }

  cuda_stream stream_ = make_stream();
  std::size_t size_;
  device_memory memory_;
};

}  // namespace normuon::test

#endif
