// Writes a checkpoint, on one rank or on many: every rank plans the same file, and writes the rectangles that it holds.
//
//   rank 0                      the others
//   number = create()           join(number)            the number travels
//   write(...), flush()         write(...), flush()     each rectangle by its lowest holder; then a barrier
//   digest(...)                 digest(...)             each tensor by its owner; the digests travel
//   commit(digests)
//
// The ranks' machines must see one another's bytes once these are flushed; NFS does not promise that. A file that is
// not committed is never seen at its path. One job at a time may save to a path: what another is writing there is taken
// for what a killed one left, and removed.
#ifndef NORMUON_IO_CHECKPOINT_WRITER_HPP
#define NORMUON_IO_CHECKPOINT_WRITER_HPP

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "normuon/io/checkpoint/plan.hpp"
#include "normuon/io/files.hpp"

namespace normuon {

// How many bytes pass through memory at a time: enough for few calls, and little beside the tensors.
inline constexpr std::size_t file_chunk = std::size_t{1} << 20;

// Throws where the rectangle isn't within the tensor.
inline void require_within(std::string_view where, const placed_tensor& t, const tensor_rectangle& part) {
  const auto fits = [](std::int64_t first, std::int64_t count, std::int64_t all) {
    return first >= 0 && count >= 0 && first <= all && count <= all - first;
  };
  if (!fits(part.first_row, part.rows, t.rows) || !fits(part.first_col, part.cols, t.cols))
    safetensors::refuse_tensor(where, t.name, "expected a rectangle within ", t.rows, " x ", t.cols, ", got ",
                               part.rows, " x ", part.cols, " at row ", part.first_row, " and column ", part.first_col);
}

// The digest of a tensor's bytes as the file has them now.
template <class File>
std::uint64_t digest_in(const File& file, const placed_tensor& t) {
  running_digest digest;
  std::vector<std::byte> chunk(std::min<std::uint64_t>(file_chunk, t.end - t.begin));
  for (std::uint64_t at = t.begin; at < t.end; at += chunk.size()) {
    chunk.resize(std::min<std::uint64_t>(chunk.size(), t.end - at));
    file.read_at(at, chunk);
    digest.add(chunk);
  }
  return digest.value();
}

// Elements that lie `stride` apart, behind one another.
inline void gather(std::byte* to, const std::byte* from, std::int64_t count, std::int64_t stride, std::size_t size) {
  if (stride == 1) return static_cast<void>(std::memcpy(to, from, static_cast<std::size_t>(count) * size));
  for (std::int64_t k = 0; k < count; ++k, to += size)
    std::memcpy(to, from + k * stride * static_cast<std::int64_t>(size), size);
}

template <file_system System = posix_file_system>
class checkpoint_writer {
 public:
  checkpoint_writer(file_path path, checkpoint_plan plan, System system = {})
      : plan_(std::move(plan)), path_(std::move(path)), system_(std::move(system)) {}

  const checkpoint_plan& plan() const { return plan_; }

  // Makes the file, in its full size, and removes what killed processes left of others. Returns what `join` takes.
  std::uint64_t create() {
    discard_partial_files(system_, path_);
    own_.emplace(path_, system_);
    own_->file().resize(plan_.file_bytes());
    return own_->number();
  }
  void join(std::uint64_t from_create) {
    joined_.emplace(system_.open_to_write(partial_path(path_, from_create), path_));
  }

  // Writes a part of a tensor, whose element (i, j) lies at data[i row_stride + j col_stride]; strides count elements
  // of the tensor's type.
  void write(std::size_t tensor, const tensor_rectangle& part, const void* data, std::int64_t row_stride,
             std::int64_t col_stride) {
    const placed_tensor& t = plan_.tensors().at(tensor);
    require_within(printable_path(path_), t, part);
    if (part.rows == 0 || part.cols == 0) return;
    const std::size_t size = t.element_size();
    const auto* const from = static_cast<const std::byte*>(data);
    const auto width = static_cast<std::size_t>(part.cols) * size;
    if (col_stride == 1 && row_stride == part.cols && part.cols == t.cols)
      return file().write_at(t.offset(part.first_row, 0), {from, width * static_cast<std::size_t>(part.rows)});
    // Rows that follow one another in the file are written together.
    const std::int64_t together =
        part.cols == t.cols ? std::max<std::int64_t>(1, static_cast<std::int64_t>(file_chunk / width)) : 1;
    std::vector<std::byte> rows(static_cast<std::size_t>(std::min(together, part.rows)) * width);
    for (std::int64_t i = 0; i < part.rows; i += together) {
      const std::int64_t count = std::min(together, part.rows - i);
      for (std::int64_t k = 0; k < count; ++k)
        gather(rows.data() + static_cast<std::size_t>(k) * width,
               from + (i + k) * row_stride * static_cast<std::int64_t>(size), part.cols, col_stride, size);
      file().write_at(t.offset(part.first_row + i, part.first_col),
                      const_bytes(rows).first(static_cast<std::size_t>(count) * width));
    }
  }
  // The whole tensor, row-major.
  void write(std::size_t tensor, const void* data) {
    const placed_tensor& t = plan_.tensors().at(tensor);
    write(tensor, t.whole(), data, t.cols, 1);
  }

  // Puts what this rank has written on the disk.
  void flush() { file().sync(); }

  // Reads a tensor back.
  std::uint64_t digest(std::size_t tensor) { return digest_in(file(), plan_.tensors().at(tensor)); }

  // Writes the header and puts the file at its path, keeping what was there under previous_generation unless told
  // otherwise. Takes the digest of each tensor, in the plan's order. For the rank that has created the file.
  void commit(const std::vector<std::uint64_t>& digests, bool keep_previous = true) {
    if (!own_)
      fail(error_code::file, printable_path(path_), ": expected a file that was created here before its commit");
    own_->file().write_at(0, bytes_of(plan_.header(digests, printable_path(path_))));
    own_->commit(keep_previous);
  }

 private:
  typename System::file& file() {
    if (own_) return own_->file();
    if (!joined_) fail(error_code::file, printable_path(path_), ": expected a file that was created or joined");
    return *joined_;
  }

  checkpoint_plan plan_;
  file_path path_;
  System system_;
  std::optional<replacement_file<System>> own_;
  std::optional<typename System::file> joined_;
};

}  // namespace normuon

#endif
