// The header of a safetensors file: its limits, its layout and its text. Needs nlohmann-json, for the quoting of text.
// The format: https://huggingface.co/docs/safetensors
#ifndef NORMUON_IO_SAFETENSORS_HEADER_HPP
#define NORMUON_IO_SAFETENSORS_HEADER_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "normuon/errors.hpp"
#include "normuon/io/printable.hpp"

namespace normuon::safetensors {

// What a file may ask for; reader and writer refuse more. Together they bound what is allocated beyond the tensors'
// bytes (150 MB at worst, measured). The official reader takes headers of up to 100 MB and names of any length.
struct limits {
  static constexpr std::uint64_t header_bytes = 16u << 20;
  static constexpr std::size_t name_bytes = 512;
  static constexpr std::size_t tensors = 100000;
  static constexpr std::size_t metadata_entries = 100000;
  static constexpr std::size_t rank = 8;
};

// The header's key for the metadata; no tensor can have this name.
inline constexpr std::string_view metadata_name = "__metadata__";

// The types of stored numbers that are read and written; the format knows more.
enum class dtype : std::uint8_t { f64, f32, bf16, f16, i64, i32 };

struct dtype_facts {
  std::string_view name;
  std::uint64_t size;
};
inline constexpr dtype_facts dtypes[] = {{"F64", 8}, {"F32", 4}, {"BF16", 2}, {"F16", 2}, {"I64", 8}, {"I32", 4}};
constexpr const dtype_facts& facts_of(dtype type) { return dtypes[static_cast<std::size_t>(type)]; }

// What the header says about one tensor: its bytes are those from `begin` up to `end`, counted from the header's end.
struct entry {
  dtype type = dtype::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct header {
  std::map<std::string, entry> tensors;
  std::map<std::string, std::string> metadata;
};

// Throws error_code::file, naming the file and the tensor.
template <class... Parts>
[[noreturn]] void refuse_tensor(std::string_view where, std::string_view name, const Parts&... parts) {
  fail(error_code::file, where, ": tensor '", printable(name), "': ", parts...);
}

// The size in bytes of a tensor. Throws error_code::file where a length is negative, there are too many, or the product
// of those that aren't zero doesn't fit 63 bits: strides made from such a shape would overflow.
inline std::uint64_t byte_size(const entry& e, std::string_view where, std::string_view name) {
  if (e.shape.size() > limits::rank)
    refuse_tensor(where, name, "expected at most ", limits::rank, " dimensions, found ", e.shape.size());
  auto bytes = static_cast<std::int64_t>(facts_of(e.type).size);
  bool empty = false;
  for (const std::int64_t length : e.shape) {
    if (length < 0) refuse_tensor(where, name, "expected lengths of 0 and above in its shape, found ", length);
    if (length == 0) empty = true;
    else if (__builtin_mul_overflow(bytes, length, &bytes))
      refuse_tensor(where, name, "expected a shape of less than 2^63 bytes, found more");
  }
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

// Gives every tensor its offsets: widest type first, so that each begins at a multiple of its element's size, then by
// name. Returns the size of all data. `where` begins the message where a shape is refused.
inline std::uint64_t place_tensors(header& h, std::string_view where) {
  std::uint64_t covered = 0;
  for (const std::uint64_t width : {8u, 4u, 2u}) {
    for (auto& [name, e] : h.tensors) {
      if (facts_of(e.type).size != width) continue;
      e.begin = covered;
      if (__builtin_add_overflow(covered, byte_size(e, where, name), &covered))
        refuse_tensor(where, name, "expected less than 2^64 bytes of data up to its end, found more");
      e.end = covered;
    }
  }
  return covered;
}

// The tensors in the order of their bytes.
inline std::vector<const std::pair<const std::string, entry>*> by_offset(const header& h) {
  std::vector<const std::pair<const std::string, entry>*> order;
  for (const auto& named : h.tensors) order.push_back(&named);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  return order;
}

// The header's text, the same for the same content: names sorted, no spaces but those that fill it up to a multiple of
// 8 bytes. Throws error_code::file where it is too long, or a name or the metadata is not UTF-8.
inline std::string header_text(const header& h, std::string_view where) {
  std::string text = "{";
  const auto add = [&](std::string_view name, const auto& value) {
    try {
      if (text.size() > 1) text += ',';
      text.append(nlohmann::json(name).dump()).append(":").append(value.dump());
    } catch (const nlohmann::json::exception&) {
      fail(error_code::file, where, ": expected UTF-8 in '", printable(name), "'");
    }
  };
  if (!h.metadata.empty()) add(metadata_name, nlohmann::json(h.metadata));
  for (const auto& [name, e] : h.tensors) {
    add(name, nlohmann::ordered_json{
                  {"dtype", facts_of(e.type).name}, {"shape", e.shape}, {"data_offsets", {e.begin, e.end}}});
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > limits::header_bytes) {
    fail(error_code::file, where, ": expected names, shapes and metadata that fit a header of ", limits::header_bytes,
         " bytes, found ", text.size());
  }
  return text;
}

}  // namespace normuon::safetensors

#endif
