// Memory of the host that backends on the CPU own: zeroed, and aligned for any vector instruction.
#ifndef NORMUON_BACKENDS_CPU_HOST_MEMORY_HPP
#define NORMUON_BACKENDS_CPU_HOST_MEMORY_HPP

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace normuon {

class host_memory {
 public:
  host_memory() = default;
  explicit host_memory(std::size_t bytes) : bytes_(new(alignment) std::byte[bytes]), size_(bytes) {
    std::memset(bytes_.get(), 0, bytes);
  }

  std::byte* data() const { return bytes_.get(); }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::align_val_t alignment{64};  // a cache line, and the widest vector
  struct release {
    void operator()(std::byte* p) const { ::operator delete[](p, alignment); }
  };
  std::unique_ptr<std::byte[], release> bytes_;
  std::size_t size_ = 0;
};

}  // namespace normuon

#endif
