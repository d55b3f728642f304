#include <doctest/doctest.h>

#include "normuon/io/safetensors_parser.hpp"
#include "support/files.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// One tensor as it stands in a header.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return '"' + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + entry("a", dtype, shape, offsets) + "}";
}

std::string named(const std::string& name) { return "{" + entry(name, "F32", "[1]", "[0,4]") + "}"; }

std::string repeated(int times, const std::string& text) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("a malformed header is refused with what was expected and what was found") {
  struct malformed {
    std::string header;
    std::uint64_t data_size;
    std::string message;
  };
  const std::string good = entry("a", "F32", "[1]", "[0,4]");
  // Depth that would exhaust the stack of a recursive parser.
  const std::string lists = repeated(100000, "["), objects = repeated(100000, R"({"dtype":)");
  const std::vector<malformed> gallery = {
      {"", 0, "expected a header that begins with '{'"},
      {"[]", 0, "begins with '{'"},
      {" {}", 0, "begins with '{'"},
      {"\xef\xbb\xbf{}", 0, "begins with '{'"},
      {std::string("{}\0trailing", 11), 0, "no zero byte"},
      {"{", 0, "valid UTF-8 JSON, found an error at its byte"},
      {"{}}", 0, "valid UTF-8 JSON"},
      {"{} // why not", 0, "valid UTF-8 JSON"},
      {"{" + good + ",}", 4, "valid UTF-8 JSON"},
      {"{'a':1}", 0, "valid UTF-8 JSON"},
      {named("\xff"), 4, "valid UTF-8 JSON"},
      {named("\xc0\x80"), 4, "valid UTF-8 JSON"},
      {named("\\ud800"), 4, "valid UTF-8 JSON"},
      {named("\x1b[2J"), 4, "valid UTF-8 JSON"},
      {named("\\u001b[2J"), 4, "without control characters, found '\\x1b[2J'"},
      {named("\\u0000"), 4, "without control characters, found '\\x00'"},
      {named("\xc2\x9b"
             "2J"),
       4, "without control characters, found '\\xc2\\x9b2J'"},
      {named("\x7f"), 4, "without control characters, found '\\x7f'"},
      {named(std::string(513, 'n')), 4, "nnn...': expected a name of at most 512 bytes, found 513"},
      {"{" + good + "," + good + "}", 4, "tensor 'a': appears twice"},
      {"{" + good + "," + entry("\\u0061", "F32", "[1]", "[4,8]") + "}", 8, "tensor 'a': appears twice"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "'dtype' appears twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4, "tensor 'a': 'shape' appears twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}})", 4,
       "'data_offsets' appears twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]}})", 4, "data_offsets, found 'strides'"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "expected dtype, shape and data_offsets, found fewer"},
      {R"({"a":{}})", 0, "found fewer"},
      {R"({"a":null})", 0, "tensor 'a': expected an object, found null"},
      {R"({"a":[1]})", 0, "tensor 'a': expected an object, found a list"},
      {R"({"a":)" + lists, 0, "tensor 'a': expected an object, found a list"},
      {R"({"a":)" + objects, 0, "tensor 'a': expected dtype to be a string, found an object"},
      {R"({"a":{"shape":)" + lists, 0, "expected shape to be a list of integers of 0 and above, found a list"},
      {R"({"a":{"shape":3}})", 0, "expected shape to be a list of integers of 0 and above, found a number"},
      {R"({"a":{"dtype":32}})", 0, "expected dtype to be a string, found a number"},
      {one("F8_E4M3", "[4]", "[0,4]"), 4,
       "tensor 'a': expected the dtype F64, F32, BF16, F16, I64 or I32, found 'F8_E4M3'"},
      {one("f32", "[1]", "[0,4]"), 4, "found 'f32'"},
      {one("\\u001b", "[1]", "[0,4]"), 4, "found '\\x1b'"},
      {one("F32", "[-1]", "[0,4]"), 4, "expected shape to be a list of integers of 0 and above, found a negative"},
      {one("F32", "[1.0]", "[0,4]"), 4, "found a number that isn't a 64-bit integer"},
      {one("F32", "[\"1\"]", "[0,4]"), 4, "found a string"},
      {one("F32", "[true]", "[0,4]"), 4, "found a boolean"},
      {one("F32", "[{}]", "[0,4]"), 4, "found an object"},
      {one("F32", "[18446744073709551616]", "[0,4]"), 4, "found a number that isn't a 64-bit integer"},
      {one("F32", "[9223372036854775808]", "[0,4]"), 4, "lengths below 2^63 in its shape, found 9223372036854775808"},
      {one("F32", "[4294967296,4294967296]", "[0,4]"), 4, "a shape of less than 2^63 bytes"},
      {one("F64", "[1152921504606846976]", "[0,0]"), 0, "a shape of less than 2^63 bytes"},
      {one("F32", "[0,4294967296,4294967296]", "[0,0]"), 0, "a shape of less than 2^63 bytes"},
      {one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "at most 8 dimensions, found more"},
      {one("F32", "[1]", "[]"), 4, "two data_offsets, found 0"},
      {one("F32", "[1]", "[4]"), 4, "two data_offsets, found 1"},
      {one("F32", "[1]", "[0,4,8]"), 4, "two data_offsets, found more"},
      {one("F32", "[1]", "[-4,0]"), 4, "expected data_offsets to be a list of integers of 0 and above, found a neg"},
      {one("F32", "[1]", "[0,4.0]"), 4, "data_offsets to be a list of integers of 0 and above, found a number that"},
      {one("F32", "[1]", "[0,1e1]"), 4, "found a number that isn't a 64-bit integer"},
      {one("F32", "[1]", "[4,0]"), 4,
       "an end after its begin and within the 4 bytes of data; found data_offsets 4 to 0"},
      {one("F32", "[2]", "[0,8]"), 4, "within the 4 bytes of data; found data_offsets 0 to 8"},
      {one("F32", "[1]", "[18446744073709551612,18446744073709551615]"), 4, "within the 4 bytes of data"},
      {one("F32", "[2]", "[0,4]"), 4,
       "tensor 'a': expected 8 bytes for its shape and dtype; found data_offsets 0 to 4"},
      {one("BF16", "[1]", "[0,4]"), 4, "expected 2 bytes for its shape and dtype"},
      {one("F32", "[1]", "[4,8]"), 8, "tensor 'a': expected no hole after the tensor before, which ends at 0"},
      {"{" + good + "," + entry("b", "F32", "[1]", "[8,12]") + "}", 12, "tensor 'b': expected no hole"},
      {"{" + good + "," + entry("b", "F32", "[2]", "[0,8]") + "}", 8, "tensor 'b': expected no overlap"},
      {"{" + good + "," + entry("b", "F32", "[1]", "[2,6]") + "}", 8,
       "no overlap with the tensor before, which ends at 4"},
      {"{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("e", "F32", "[0]", "[4,4]") + "}", 8,
       "tensor 'e': expected no overlap"},
      {"{" + good + "}", 8, "expected the file to end at byte 4 of its data, found 8"},
      {"{}", 1, "expected the file to end at byte 0 of its data, found 1"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__: appears twice"},
      {R"({"__metadata__":{"k":"1","k":"1"}})", 0, "__metadata__: key 'k' appears twice"},
      {R"({"__metadata__":{"k":1}})", 0, "__metadata__: expected a string for 'k', found a number"},
      {R"({"__metadata__":{"k":{"k":"1"}}})", 0, "__metadata__: expected a string for 'k', found an object"},
      {R"({"__metadata__":[]})", 0, "__metadata__: expected an object, found a list"},
      {R"({"__metadata__":{"\u0007":"1"}})", 0, "__metadata__: expected a name without control characters"},
  };
  for (const malformed& m : gallery) {
    CAPTURE(m.header.substr(0, 200));
    const std::string message = file_refusal([&] { safetensors::parse_header(m.header, m.data_size, "hostile"); });
    CAPTURE(message);
    CHECK(message.starts_with("hostile: "));
    CHECK(message.find(m.message) != message.npos);
    for (const char c : message) CHECK((c >= 0x20 && c < 0x7f));
  }
}
