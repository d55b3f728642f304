// Reads a checkpoint, which may be hostile, or any parts of it: what a rank holds. Nothing of a tensor is given out
// before its digest has been found right.
#ifndef NORMUON_IO_CHECKPOINT_READER_HPP
#define NORMUON_IO_CHECKPOINT_READER_HPP

#include <string>
#include <utility>
#include <vector>

#include "normuon/io/checkpoint/writer.hpp"

namespace normuon {

template <file_system System = posix_file_system>
class checkpoint_reader {
 public:
  // Reads the header. Beyond it, what is allocated is bounded by the file's size. Throws error_code::file, naming the
  // file and what is wrong in it.
  explicit checkpoint_reader(const file_path& path, System system = {}) : checkpoint_reader(system.open(path)) {}

  const checkpoint_plan& plan() const { return plan_; }
  std::uint64_t stored_digest(std::size_t tensor) const { return digests_.at(tensor); }
  // The one that the header gives for itself.
  std::uint64_t header_digest() const { return plan_.own_digest(digests_, printed_path()); }
  std::string printed_path() const { return file_.printed_path(); }

  // The index of a tensor. Throws where the file has none of that name.
  std::size_t index_of(std::string_view name) const {
    const std::size_t i = plan_.find(name);
    if (i == digests_.size())
      fail(error_code::file, printed_path(), ": expected a tensor '", printable(name), "', found none");
    return i;
  }

  // Reads the tensor and throws where its digest isn't the one that the header gives. Once for each tensor.
  void verify(std::size_t tensor) {
    if (verified_.at(tensor)) return;
    require_digest(tensor, digest_in(file_, plan_.tensors()[tensor]));
  }
  void verify_all() {
    for (std::size_t i = 0; i < digests_.size(); ++i) verify(i);
  }
  // Another rank has verified it.
  void trust(std::size_t tensor) { verified_.at(tensor) = true; }

  // Reads a part of a tensor, whose element (i, j) goes to data[i row_stride + j col_stride]; strides count elements of
  // the tensor's type. The whole tensor is verified first.
  void read(std::size_t tensor, const tensor_rectangle& part, void* data, std::int64_t row_stride,
            std::int64_t col_stride) {
    const placed_tensor& t = plan_.tensors().at(tensor);
    require_within(printed_path(), t, part);
    verify(tensor);
    if (part.rows == 0 || part.cols == 0) return;
    const auto size = static_cast<std::int64_t>(t.element_size());
    std::vector<std::byte> row(static_cast<std::size_t>(part.cols * size));
    for (std::int64_t i = 0; i < part.rows; ++i) {
      file_.read_at(t.offset(part.first_row + i, part.first_col), row);
      auto* to = static_cast<std::byte*>(data) + i * row_stride * size;
      for (std::int64_t j = 0; j < part.cols; ++j, to += col_stride * size)
        std::memcpy(to, row.data() + j * size, static_cast<std::size_t>(size));
    }
  }

  // The whole tensor. It is read once, and the digest is that of the bytes which are returned.
  std::vector<std::byte> read(std::size_t tensor) {
    const placed_tensor& t = plan_.tensors().at(tensor);
    std::vector<std::byte> bytes(t.end - t.begin);
    file_.read_at(t.begin, bytes);
    require_digest(tensor, xxh3_of(bytes));
    return bytes;
  }

 private:
  explicit checkpoint_reader(typename System::file&& file)
      : checkpoint_reader(std::move(file), checkpoint_plan::read(safetensors::read_header(file), file.printed_path())) {
  }
  checkpoint_reader(typename System::file&& file, std::pair<checkpoint_plan, std::vector<std::uint64_t>>&& read)
      : file_(std::move(file)),
        plan_(std::move(read.first)),
        digests_(std::move(read.second)),
        verified_(digests_.size()) {}

  void require_digest(std::size_t tensor, std::uint64_t found) {
    if (found != digests_[tensor])
      safetensors::refuse_tensor(printed_path(), plan_.tensors()[tensor].name, "expected bytes with the digest ",
                                 digest_text(digests_[tensor]), ", found ", digest_text(found));
    verified_[tensor] = true;
  }

  typename System::file file_;
  checkpoint_plan plan_;
  std::vector<std::uint64_t> digests_;
  std::vector<bool> verified_;
};

}  // namespace normuon

#endif
