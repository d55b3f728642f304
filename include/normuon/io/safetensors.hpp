// Opt-in reading and writing of safetensors files: named tensors of numbers, with text beside them, which most tools of
// the field open. A file that is read may be hostile; one that is written is whole or absent. Needs nlohmann-json.
#ifndef NORMUON_IO_SAFETENSORS_HPP
#define NORMUON_IO_SAFETENSORS_HPP

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "normuon/element_types.hpp"
#include "normuon/errors.hpp"
#include "normuon/io/files.hpp"
#include "normuon/io/safetensors_header.hpp"
#include "normuon/io/safetensors_parser.hpp"

namespace normuon::safetensors {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

// A number that can be stored: an element of weights, or an integer, such as a step.
template <class T>
concept number = element<T> || std::same_as<T, std::int64_t> || std::same_as<T, std::int32_t>;

template <number T>
inline constexpr dtype dtype_of = std::same_as<T, double>         ? dtype::f64
                                  : std::same_as<T, float>        ? dtype::f32
                                  : std::same_as<T, bfloat16>     ? dtype::bf16
                                  : std::same_as<T, float16>      ? dtype::f16
                                  : std::same_as<T, std::int64_t> ? dtype::i64
                                                                  : dtype::i32;

// Row-major numbers of one type; an empty shape is a single number.
struct tensor {
  dtype type = dtype::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
  friend bool operator==(const tensor&, const tensor&) = default;
};

struct file {
  std::map<std::string, tensor> tensors;
  std::map<std::string, std::string> metadata;
  friend bool operator==(const file&, const file&) = default;
};

// A tensor of the values, in their own type. That there are as many as the shape says is checked where it is written.
template <number T>
tensor make_tensor(std::vector<std::int64_t> shape, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return {dtype_of<T>, std::move(shape), {bytes.begin(), bytes.end()}};
}

// The tensor's numbers as T, in row-major order. Rounds to nearest where T is narrower. Throws error_code::file where
// integers are asked for and the stored numbers are none, or one is out of their range.
template <number T>
std::vector<T> values(const tensor& t) {
  std::vector<T> out(t.bytes.size() / facts_of(t.type).size);
  const auto convert_from = [&]<class Stored>(Stored x) {
    if constexpr (std::integral<T> && !std::integral<Stored>) {
      fail(error_code::file, "expected a tensor of integers, found ", facts_of(t.type).name);
    } else {
      for (std::size_t i = 0; i < out.size(); ++i) {
        std::memcpy(&x, t.bytes.data() + i * sizeof(x), sizeof(x));
        if constexpr (std::integral<T>) {
          if (!std::in_range<T>(x)) fail(error_code::file, "expected integers of ", 8 * sizeof(T), " bits, found ", x);
          out[i] = static_cast<T>(x);
        } else if constexpr (std::same_as<T, Stored>) {
          out[i] = x;
        } else {
          out[i] = static_cast<T>(static_cast<double>(x));
        }
      }
    }
  };
  switch (t.type) {
    case dtype::f64: convert_from(double{}); break;
    case dtype::f32: convert_from(float{}); break;
    case dtype::bf16: convert_from(bfloat16{}); break;
    case dtype::f16: convert_from(float16{}); break;
    case dtype::i64: convert_from(std::int64_t{}); break;
    case dtype::i32: convert_from(std::int32_t{}); break;
  }
  return out;
}

// A file's header, and where the data behind it begins.
struct located_header {
  std::string text;
  header contents;
  std::uint64_t data_begin = 0;
};

// Reads the header of an open file: of a file_system, or anything that has a size and is read at offsets. Every size is
// checked before anything is allocated. Throws error_code::file, naming the file and the tensor.
template <class File>
located_header read_header(const File& in) {
  const std::string where = in.printed_path();
  std::uint64_t length = 0;
  if (in.size() < sizeof(length)) fail(error_code::file, where, ": expected at least 8 bytes, found ", in.size());
  in.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  const std::uint64_t room = in.size() - sizeof(length);
  if (length > limits::header_bytes || length > room) {
    fail(error_code::file, where, ": expected a header of at most ", std::min(limits::header_bytes, room),
         " bytes, found a length of ", length);
  }
  std::string text(length, '\0');
  in.read_at(sizeof(length), std::as_writable_bytes(std::span(text)));
  header contents = parse_header(text, room - length, where);
  return {std::move(text), std::move(contents), sizeof(length) + length};
}

// Reads a whole file that is open. Beyond the tensors' bytes, which are no more than the file's, memory stays within
// what `limits` allows. Throws error_code::file, naming the file and the tensor.
template <class File>
file read_from(const File& in) {
  located_header h = read_header(in);
  file out;
  out.metadata = std::move(h.contents.metadata);
  for (auto& [name, e] : h.contents.tensors) {
    tensor& t = out.tensors[name];
    t = {e.type, std::move(e.shape), std::vector<std::byte>(e.end - e.begin)};
    in.read_at(h.data_begin + e.begin, t.bytes);
  }
  return out;
}

// The same of the file at a path.
inline file read(const std::filesystem::path& path) { return read_from(posix_file_system().open(path)); }

// Writes the file whole, or leaves what was there (replacement_file has the exceptions): the bytes go to a temporary
// file in the same folder, then to the disk, then to their name. They depend on the content alone. Throws
// error_code::file where a tensor's bytes don't fit its shape, where `read` would refuse the file, or where the system
// fails, with its reason.
inline void write(const std::filesystem::path& path, const file& contents) {
  const std::string where = printable_path(path);
  header h;
  h.metadata = contents.metadata;
  for (const auto& [name, t] : contents.tensors) h.tensors.emplace(name, entry{t.type, t.shape, 0, 0});
  const std::uint64_t data_size = place_tensors(h, where);
  for (const auto& [name, t] : contents.tensors) {
    const entry& e = h.tensors.at(name);
    if (t.bytes.size() != e.end - e.begin)
      refuse_tensor(where, name, "expected ", e.end - e.begin, " bytes for its shape, found ", t.bytes.size());
  }
  const std::string text = header_text(h, where);
  parse_header(text, data_size, where);

  replacement_file<> out(path);
  std::uint64_t at = 0;
  const auto append = [&](const_bytes bytes) {
    out.file().write_at(at, bytes);
    at += bytes.size();
  };
  const std::uint64_t length = text.size();
  append(std::as_bytes(std::span(&length, 1)));
  append(std::as_bytes(std::span(text)));
  for (const auto* named : by_offset(h)) append(contents.tensors.at(named->first).bytes);
  out.commit();
}

}  // namespace normuon::safetensors

#endif
