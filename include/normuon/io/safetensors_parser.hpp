// Reads the header of a safetensors file, which may be hostile. Needs nlohmann-json, whose event interface shows a
// duplicate key (its tree hides one) and reads nested text without recursion.
#ifndef NORMUON_IO_SAFETENSORS_PARSER_HPP
#define NORMUON_IO_SAFETENSORS_PARSER_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "normuon/errors.hpp"
#include "normuon/io/printable.hpp"
#include "normuon/io/safetensors_header.hpp"

namespace normuon::safetensors {

// Receives nlohmann-json's events and accepts exactly {name: {dtype, shape, data_offsets} ..., __metadata__: {key: text
// ...}}, each key once. Anything else throws error_code::file at once, so nothing nests deeper than that.
class header_events {
 public:
  header_events(std::string_view where, header& out) : where_(where), out_(out) {}

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a boolean"); }
  bool number_integer(std::int64_t) { unexpected("a negative number"); }
  bool number_float(double, const std::string&) { unexpected("a number that isn't a 64-bit integer"); }
  bool binary(nlohmann::json::binary_t&) { unexpected("binary data"); }

  bool number_unsigned(std::uint64_t number) {
    if (place_ == place::offsets) {
      if (offsets_.size() == 2) refuse("expected two data_offsets, found more");
      offsets_.push_back(number);
    } else if (place_ == place::shape) {
      if (number > std::numeric_limits<std::int64_t>::max())
        refuse("expected lengths below 2^63 in its shape, found ", number);
      if (entry_->shape.size() == limits::rank) refuse("expected at most ", limits::rank, " dimensions, found more");
      entry_->shape.push_back(static_cast<std::int64_t>(number));
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool string(std::string& text) {
    if (place_ == place::metadata) {
      out_.metadata[key_] = std::move(text);
    } else if (place_ == place::tensor && key_ == "dtype") {
      const auto* found = std::find_if(std::begin(dtypes), std::end(dtypes), [&](auto& d) { return d.name == text; });
      if (found == std::end(dtypes))
        refuse("expected the dtype F64, F32, BF16, F16, I64 or I32, found '", printable(text), "'");
      entry_->type = static_cast<dtype>(found - std::begin(dtypes));
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == place::outside) place_ = place::names;
    else if (place_ == place::names) place_ = subject_ == metadata_name ? place::metadata : place::tensor;
    else unexpected("an object");
    fields_.clear();
    return true;
  }

  bool key(std::string& name) {
    key_ = name;
    if (place_ == place::tensor) {
      if (name != "dtype" && name != "shape" && name != "data_offsets")
        refuse("expected dtype, shape and data_offsets, found '", printable(name), "'");
      if (std::count(fields_.begin(), fields_.end(), name) != 0) refuse("'", name, "' appears twice");
      fields_.push_back(name);
      return true;
    }
    if (place_ == place::names) subject_ = name;
    check_name(name);
    if (place_ == place::metadata) {
      if (out_.metadata.size() == limits::metadata_entries)
        refuse("expected at most ", limits::metadata_entries, " keys, found more");
      if (!out_.metadata.try_emplace(name).second) refuse("key '", printable(name), "' appears twice");
    } else if (name == metadata_name) {
      if (has_metadata_) refuse("appears twice");
      has_metadata_ = true;
    } else {
      if (out_.tensors.size() == limits::tensors) refuse("expected at most ", limits::tensors, " tensors, found more");
      const auto [at, fresh] = out_.tensors.try_emplace(name);
      if (!fresh) refuse("appears twice");
      entry_ = &at->second;
    }
    return true;
  }

  bool end_object() {
    if (place_ == place::tensor && fields_.size() != 3) refuse("expected dtype, shape and data_offsets, found fewer");
    place_ = place_ == place::names ? place::outside : place::names;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != place::tensor || key_ == "dtype") unexpected("a list");
    place_ = key_ == "shape" ? place::shape : place::offsets;
    offsets_.clear();
    return true;
  }

  bool end_array() {
    if (place_ == place::offsets) {
      if (offsets_.size() != 2) refuse("expected two data_offsets, found ", offsets_.size());
      entry_->begin = offsets_[0];
      entry_->end = offsets_[1];
    }
    place_ = place::tensor;
    return true;
  }

  // The library's own message quotes raw bytes of the text, so only the position is taken from it.
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    fail(error_code::file, where_, ": expected a header of valid UTF-8 JSON, found an error at its byte ", position);
  }

 private:
  enum class place { outside, names, metadata, tensor, shape, offsets };

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    if (subject_ == metadata_name) fail(error_code::file, where_, ": ", metadata_name, ": ", parts...);
    refuse_tensor(where_, subject_, parts...);
  }

  [[noreturn]] void unexpected(const char* found) const {
    switch (place_) {
      case place::outside: fail(error_code::file, where_, ": expected the header to be an object, found ", found);
      case place::names: refuse("expected an object, found ", found);
      case place::metadata: refuse("expected a string for '", printable(key_), "', found ", found);
      case place::tensor:
        if (key_ == "dtype") refuse("expected dtype to be a string, found ", found);
        break;
      case place::shape:
      case place::offsets: break;
    }
    refuse("expected ", key_, " to be a list of integers of 0 and above, found ", found);
  }

  // UTF-8 is sure here: the parser refuses everything else. Control characters are those of ASCII and of Latin-1.
  void check_name(std::string_view name) const {
    if (name.size() > limits::name_bytes)
      refuse("expected a name of at most ", limits::name_bytes, " bytes, found ", name.size());
    unsigned char before = 0;
    for (const char c : name) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7f || (before == 0xc2 && byte < 0xa0))
        refuse("expected a name without control characters, found '", printable(name), "'");
      before = byte;
    }
  }

  std::string_view where_;
  header& out_;
  place place_ = place::outside;
  std::string subject_;  // the name of the tensor being read, or __metadata__
  std::string key_;
  entry* entry_ = nullptr;
  std::vector<std::string> fields_;  // of this tensor, so far
  std::vector<std::uint64_t> offsets_;
  bool has_metadata_ = false;
};

// What a header's text says, whatever follows it. Throws error_code::file, beginning with `where` and naming the
// tensor.
inline header parse_entries(std::string_view text, std::string_view where) {
  // The parser would skip a byte-order mark and take a zero byte for the end of the text.
  if (text.empty() || text.front() != '{' || text.find('\0') != text.npos)
    fail(error_code::file, where, ": expected a header that begins with '{' and has no zero byte");
  header out;
  header_events events(where, out);
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  return out;
}

// Reads a header's text. `data_size` is the number of bytes that follow it: the tensors must cover them exactly, in any
// order, without holes or overlaps. Throws as parse_entries does.
inline header parse_header(std::string_view text, std::uint64_t data_size, std::string_view where) {
  header out = parse_entries(text, where);
  std::uint64_t covered = 0;
  for (const auto* named : by_offset(out)) {
    const auto& [name, e] = *named;
    const auto refuse = [&, &name = name, &e = e](const auto&... expected) {
      refuse_tensor(where, name, "expected ", expected..., "; found data_offsets ", e.begin, " to ", e.end);
    };
    const std::uint64_t size = byte_size(e, where, name);
    if (e.end < e.begin || e.end > data_size)
      refuse("an end after its begin and within the ", data_size, " bytes of data");
    if (e.end - e.begin != size) refuse(size, " bytes for its shape and dtype");
    if (e.begin < covered) refuse("no overlap with the tensor before, which ends at ", covered);
    if (e.begin > covered) refuse("no hole after the tensor before, which ends at ", covered);
    covered = e.end;
  }
  if (covered != data_size)
    fail(error_code::file, where, ": expected the file to end at byte ", covered, " of its data, found ", data_size);
  return out;
}

}  // namespace normuon::safetensors

#endif
