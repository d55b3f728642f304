// Memory of the host that backends on the CPU own: zeroed, and aligned for any vector instruction.
#ifndef NORMUON_BACKENDS_CPU_HOST_MEMORY_HPP
#define NORMUON_BACKENDS_CPU_HOST_MEMORY_HPP

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace normuon {

class host_memory {
 public:
  host_memory() = default;
  explicit host_memory(std::size_t bytes)
      : bytes_(new(alignment_for(bytes)) std::byte[rounded(bytes)], release{alignment_for(bytes)}), size_(bytes) {
#if defined(__linux__)
    // Products walk through all of it, for which a processor has too few entries of 4 KiB pages: a quarter of their
    // time on one of Intel's. A kernel that has no larger ones refuses, and nothing is lost.
    if (bytes >= huge_page) madvise(bytes_.get(), rounded(bytes), MADV_HUGEPAGE);
#endif
    std::memset(bytes_.get(), 0, bytes);
  }

  std::byte* data() const { return bytes_.get(); }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t cache_line = 64, huge_page = std::size_t{2} << 20;

  static constexpr std::align_val_t alignment_for(std::size_t bytes) {
    return std::align_val_t{bytes >= huge_page ? huge_page : cache_line};  // a line is the widest vector as well
  }
  // What would be the last and smaller part is a whole page as well.
  static constexpr std::size_t rounded(std::size_t bytes) {
    return bytes >= huge_page ? (bytes + huge_page - 1) / huge_page * huge_page : bytes;
  }

  struct release {
    std::align_val_t alignment;
    void operator()(std::byte* p) const { ::operator delete[](p, alignment); }
  };
  std::unique_ptr<std::byte[], release> bytes_;
  std::size_t size_ = 0;
};

}  // namespace normuon

#endif
