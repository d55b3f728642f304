// Where everything stands in a checkpoint: pure arithmetic on names, types and shapes, so every rank plans the same
// file. A checkpoint is a safetensors file whose header depends on its content alone and is written last; its digests
// have a fixed width, so that its size is known first.
#ifndef NORMUON_IO_CHECKPOINT_PLAN_HPP
#define NORMUON_IO_CHECKPOINT_PLAN_HPP

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "normuon/io/checkpoint/digest.hpp"
#include "normuon/io/safetensors.hpp"

namespace normuon {

using metadata_map = std::map<std::string, std::string>;

// A tensor of a checkpoint, whole and row-major.
struct logical_tensor {
  std::string name;
  safetensors::dtype type = safetensors::dtype::f32;
  std::vector<std::int64_t> shape;
};

// A part of a tensor, whose rows are all of its dimensions but the last: matrix b of a batch begins at row b m. A
// tensor of one dimension is one row.
struct tensor_rectangle {
  std::int64_t first_row = 0, first_col = 0, rows = 0, cols = 0;
};

// A tensor with its place: its bytes are those of the file from `begin` up to `end`.
struct placed_tensor : logical_tensor {
  std::int64_t rows = 1, cols = 1;
  std::uint64_t begin = 0, end = 0;

  std::size_t element_size() const { return safetensors::facts_of(type).size; }
  tensor_rectangle whole() const { return {0, 0, rows, cols}; }
  std::uint64_t offset(std::int64_t row, std::int64_t col) const {
    return begin + static_cast<std::uint64_t>(row * cols + col) * element_size();
  }
};

class checkpoint_plan {
 public:
  // What a file with these tensors and this text beside them is. Throws error_code::file, with `where` before the
  // message, where a name is there twice, or `safetensors::write` would refuse it.
  checkpoint_plan(const std::vector<logical_tensor>& tensors, metadata_map metadata, std::string_view where)
      : metadata_(std::move(metadata)) {
    for (const logical_tensor& t : tensors)
      if (!header_.tensors.emplace(t.name, safetensors::entry{t.type, t.shape, 0, 0}).second)
        safetensors::refuse_tensor(where, t.name, "is there twice");
    for (const auto& [key, text] : metadata_)
      if (key == format_key || key == version_key || key.starts_with(digest_key))
        fail(error_code::file, where, ": expected a key of metadata that is not the format's, got '", printable(key),
             "'");
    const std::uint64_t data_bytes = safetensors::place_tensors(header_, where);
    const std::string text = text_with(std::vector<std::uint64_t>(header_.tensors.size()), 0, where);
    safetensors::parse_header(text, data_bytes, where);  // what a reader would refuse is not planned
    place(text.size());
  }

  // What a header, read from a file, says of it, and the digests that it gives, one for each tensor. Throws
  // error_code::file where it isn't the header of a checkpoint, to the last byte.
  static std::pair<checkpoint_plan, std::vector<std::uint64_t>> read(const safetensors::located_header& h,
                                                                     std::string_view where) {
    checkpoint_plan plan;
    plan.header_.tensors = h.contents.tensors;
    metadata_map given = h.contents.metadata;
    const auto take = [&](const std::string& key) {
      const auto found = given.find(key);
      if (found == given.end())
        fail(error_code::file, where, ": expected '", printable(key), "' in its metadata, found none");
      std::string text = std::move(found->second);
      given.erase(found);
      return text;
    };
    const auto expect = [&](const char* key, std::string_view expected) {
      if (const std::string text = take(key); text != expected)
        fail(error_code::file, where, ": ", key, ": expected '", expected, "', found '", printable(text), "'");
    };
    const auto take_digest = [&](const std::string& key) {
      const std::string text = take(key);
      const auto digest = read_digest(text);
      if (!digest)
        fail(error_code::file, where, ": ", printable(key), ": expected 16 digits, found '", printable(text), "'");
      return *digest;
    };
    expect(format_key, format);
    expect(version_key, format_version);
    const std::uint64_t own = take_digest(std::string(digest_key));
    std::vector<std::uint64_t> digests;
    for (const auto& [name, e] : plan.header_.tensors) digests.push_back(take_digest(tensor_digest_key(name)));
    plan.metadata_ = std::move(given);
    const std::string text = plan.text_with(digests, own, where);
    if (text != h.text) {
      fail(error_code::file, where,
           ": expected a header as this library writes it, found another order, other spaces or ", "other offsets");
    }
    if (const std::uint64_t computed = plan.own_digest(digests, where); computed != own)
      fail(error_code::file, where, ": header: expected the digest ", digest_text(own), " that it gives, found ",
           digest_text(computed));
    plan.place(text.size());
    return {std::move(plan), std::move(digests)};
  }

  // Sorted by name.
  const std::vector<placed_tensor>& tensors() const { return tensors_; }
  // Without what belongs to the format.
  const metadata_map& metadata() const { return metadata_; }
  std::uint64_t header_bytes() const { return header_bytes_; }
  std::uint64_t file_bytes() const { return file_bytes_; }

  // The index of a tensor; tensors().size() where there is none of that name.
  std::size_t find(std::string_view name) const {
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const placed_tensor& t, std::string_view n) { return t.name < n; });
    const bool found = at != tensors_.end() && at->name == name;
    return found ? static_cast<std::size_t>(at - tensors_.begin()) : tensors_.size();
  }

  // The first bytes of the file, all before the tensors'. Takes the digest of each tensor.
  std::string header(const std::vector<std::uint64_t>& digests, std::string_view where) const {
    const std::string text = text_with(digests, own_digest(digests, where), where);
    const std::uint64_t length = text.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + text;
  }
  // Of the header's text in which it stands as zeros itself.
  std::uint64_t own_digest(const std::vector<std::uint64_t>& digests, std::string_view where) const {
    return xxh3_of(bytes_of(text_with(digests, 0, where)));
  }

 private:
  static constexpr const char* format_key = "format";
  static constexpr const char* version_key = "format_version";
  static constexpr std::string_view format = "normuon-checkpoint", format_version = "1", digest_key = "xxh3";
  static std::string tensor_digest_key(const std::string& name) { return std::string(digest_key) + ":" + name; }

  checkpoint_plan() = default;

  std::string text_with(const std::vector<std::uint64_t>& digests, std::uint64_t own, std::string_view where) const {
    safetensors::header h = header_;
    h.metadata = metadata_;
    h.metadata[format_key] = format;
    h.metadata[version_key] = format_version;
    h.metadata[std::string(digest_key)] = digest_text(own);
    std::size_t i = 0;
    for (const auto& [name, e] : h.tensors) h.metadata[tensor_digest_key(name)] = digest_text(digests.at(i++));
    safetensors::place_tensors(h, where);
    return safetensors::header_text(h, where);
  }

  void place(std::size_t text_bytes) {
    header_bytes_ = sizeof(std::uint64_t) + text_bytes;
    file_bytes_ = header_bytes_;
    for (const auto& [name, e] : header_.tensors) {
      placed_tensor t{{name, e.type, e.shape}, 1, 1, header_bytes_ + e.begin, header_bytes_ + e.end};
      if (!e.shape.empty()) t.cols = e.shape.back();
      for (std::size_t k = 0; k + 1 < e.shape.size(); ++k) t.rows *= e.shape[k];
      file_bytes_ = std::max(file_bytes_, t.end);
      tensors_.push_back(std::move(t));
    }
  }

  safetensors::header header_;  // names, types, shapes and offsets
  metadata_map metadata_;
  std::vector<placed_tensor> tensors_;
  std::uint64_t header_bytes_ = 0, file_bytes_ = 0;
};

}  // namespace normuon

#endif
