// The tables that operations name, gathered into one piece that a single copy takes to the device. Tables are the
// host's and looked at whenever they are packed: what has moved since then is where it is now.
#ifndef NORMUON_BACKENDS_CUDA_TABLES_HPP
#define NORMUON_BACKENDS_CUDA_TABLES_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "normuon/backends/cuda/kernels.hpp"

namespace normuon {

// Copies a table to where it travels from. Bytes between the fields of a view, which equal views need not share, become
// zero: tables that say the same are the same bytes.
template <class T>
void pack_table(std::byte* to, const void* entries, std::size_t bytes) {
  std::memcpy(to, entries, bytes);
  if constexpr (!std::has_unique_object_representations_v<T>) {
    static_assert(std::is_same_v<T, matrix_view>);
    constexpr std::size_t gap = offsetof(matrix_view, type) + sizeof(element_type), end = offsetof(matrix_view, rows);
    static_assert(offsetof(matrix_view, type) == sizeof(void*) && sizeof(matrix_view) == end + 4 * sizeof(index_t));
    for (std::size_t entry = 0; entry < bytes; entry += sizeof(T)) std::memset(to + entry + gap, 0, end - gap);
  }
}

class table_set {
 public:
  // A table that stays the caller's; two of the same memory are one.
  template <class T>
  table<T> add(std::span<const T> entries) {
    if (entries.empty()) return {};
    const std::size_t bytes = entries.size_bytes();
    for (const part& p : parts_)
      if (p.entries == entries.data() && p.bytes == bytes) return {static_cast<std::int64_t>(p.offset)};
    return {append(entries.data(), bytes, pack_table<T>)};
  }
  // The same of pointers to reals of any type.
  template <class Real>
  table<std::byte*> add_vectors(std::span<Real* const> entries) {
    return {add(entries).offset};
  }
  // A table that is kept here.
  table<index_t> keep(std::vector<index_t> entries) {
    for (const std::vector<index_t>& kept : kept_)
      if (kept == entries) return add(std::span<const index_t>(kept));
    kept_.push_back(std::move(entries));  // what it holds stays where it is when kept_ grows
    return add(std::span<const index_t>(kept_.back()));
  }

  std::size_t bytes() const { return bytes_; }
  void pack(std::byte* to) const {
    for (const part& p : parts_) p.copy(to + p.offset, p.entries, p.bytes);
  }
  void clear() {
    parts_.clear();
    kept_.clear();
    bytes_ = 0;
  }

 private:
  struct part {
    const void* entries;
    std::size_t bytes, offset;
    void (*copy)(std::byte* to, const void* entries, std::size_t bytes);
  };
  std::int64_t append(const void* entries, std::size_t bytes, decltype(part::copy) copy) {
    const std::size_t offset = bytes_;
    parts_.push_back({entries, bytes, offset, copy});
    bytes_ += (bytes + 15) / 16 * 16;
    return static_cast<std::int64_t>(offset);
  }

  std::vector<part> parts_;
  std::vector<std::vector<index_t>> kept_;
  std::size_t bytes_ = 0;
};

// The numbers of blocks before each matrix, and of all.
inline std::vector<index_t> first_blocks(views run) {
  std::vector<index_t> first(1, 0);
  for (const matrix_view& v : run) first.push_back(first.back() + blocks_for(v.rows * v.cols, block_elements));
  return first;
}

}  // namespace normuon

#endif
