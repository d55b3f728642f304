// The matrices of a model, from safetensors files of which only the header is read, or from a list.
#ifndef NORMUON_EXAMPLES_PLAN_SHAPES_HPP
#define NORMUON_EXAMPLES_PLAN_SHAPES_HPP

#include <fmt/format.h>

#include <charconv>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

#include "normuon/io/safetensors.hpp"
#include "normuon/routing.hpp"

namespace plan_example {

using namespace normuon;

// `batch` matrices of rows x cols.
struct model_matrix {
  std::string name;
  index_t rows = 0, cols = 0, batch = 1;
};

inline constexpr index_t most_matrices = 1'000'000;  // a model has thousands: more is a slip of the finger

// A safetensors file, or one that ends with its header, as it is fetched to look at a model without its weights: then
// its size is what the header says.
class model_file {
 public:
  explicit model_file(const std::string& path) : in_(posix_file_system().open(path)), size_(in_.size()) {
    std::uint64_t length = 0;
    if (size_ < sizeof(length)) return;
    in_.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
    if (length != size_ - sizeof(length) || length > safetensors::limits::header_bytes) return;
    std::string text(length, '\0');
    in_.read_at(sizeof(length), std::as_writable_bytes(std::span(text)));
    std::uint64_t data = 0;
    for (const auto& [name, e] : safetensors::parse_entries(text, printed_path()).tensors) data = std::max(data, e.end);
    size_ = data > ~size_ ? size_ : size_ + data;
  }
  std::uint64_t size() const { return size_; }
  std::string printed_path() const { return in_.printed_path(); }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const { in_.read_at(offset, out); }

 private:
  posix_file in_;
  std::uint64_t size_;
};

// The tensors that a matrix rule would move (normuon/routing.hpp), in the order of their bytes.
inline void add_safetensors(std::vector<model_matrix>& matrices, const std::string& path) {
  const safetensors::located_header h = safetensors::read_header(model_file(path));
  for (const auto* named : safetensors::by_offset(h.contents)) {
    const std::vector<std::int64_t>& shape = named->second.shape;
    if (propose_route({named->first, shape}).rule != route_to::matrix_rule) continue;
    model_matrix a{named->first, shape[0], shape[1], 1};
    if (shape.size() == 3) a = {named->first, shape[1], shape[2], shape[0]};
    for (std::size_t k = 2; shape.size() > 3 && k < shape.size(); ++k) a.cols *= shape[k];
    matrices.push_back(std::move(a));
  }
}

// Lines "name rows cols [batch]"; what is behind a # is a comment.
inline void add_list(std::vector<model_matrix>& matrices, std::istream& in, std::string_view where) {
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    std::vector<std::string_view> words;
    const std::string_view text = std::string_view(line).substr(0, line.find('#'));
    for (std::size_t begin = 0, end = 0; (begin = text.find_first_not_of(" \t\r", end)) != text.npos;) {
      end = std::min(text.find_first_of(" \t\r", begin), text.size());
      words.push_back(text.substr(begin, end - begin));
    }
    if (words.empty()) continue;
    const auto refuse = [&] {
      fail(error_code::file, where, ": line ", number, ": expected name, rows, columns and perhaps a batch, got '",
           printable(text), "'");
    };
    if (words.size() < 3 || words.size() > 4) refuse();
    model_matrix a{std::string(words[0])};
    index_t* const sizes[] = {&a.rows, &a.cols, &a.batch};
    for (std::size_t k = 1; k < words.size(); ++k) {
      const auto read = std::from_chars(words[k].data(), words[k].data() + words[k].size(), *sizes[k - 1]);
      if (read.ec != std::errc() || read.ptr != words[k].data() + words[k].size() || *sizes[k - 1] < 1) refuse();
    }
    matrices.push_back(std::move(a));
  }
  if (in.bad()) fail(error_code::file, where, ": can't be read");
}

// Throws where there is no matrix, there are too many, or two have one name.
inline void check(const std::vector<model_matrix>& matrices) {
  if (matrices.empty()) fail(error_code::parameter, "expected at least one matrix, got none");
  index_t count = 0;
  std::vector<std::string_view> names;
  for (const model_matrix& a : matrices) {
    if (a.batch > most_matrices || (count += a.batch) > most_matrices)
      fail(error_code::parameter, "expected at most ", most_matrices, " matrices, got more");
    names.push_back(a.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail(error_code::parameter, "matrix '", printable(*twice), "' is there twice");
}

}  // namespace plan_example

#endif
