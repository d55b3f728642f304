// How text from outside (names in a file, paths) is put into messages: no byte of it reaches a terminal unescaped.
// Standard library only.
#ifndef NORMUON_IO_PRINTABLE_HPP
#define NORMUON_IO_PRINTABLE_HPP

#include <cstddef>
#include <string>
#include <string_view>

namespace normuon {

// The text with every byte outside printable ASCII, and the backslash, written as \xNN; what is longer than `longest`
// bytes ends in "...". The default keeps a message with two names on one screen line or two.
inline std::string printable(std::string_view text, std::size_t longest = 100) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') out += c;
    else out.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
  }
  return text.size() > longest ? out + "..." : out;
}

}  // namespace normuon

#endif
