#include "data.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

namespace gpt {

std::string bible_text() {
  std::FILE* const pipe = popen("bible -f 'Gen1:1-Rev22:21' 2>/dev/null", "r");
  if (pipe == nullptr) throw std::runtime_error("can't start a program to read the Bible with");
  std::string printed;
  std::array<char, 1 << 16> buffer;
  while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
    printed.append(buffer.data(), count);
  if (pclose(pipe) != 0 || printed.empty())
    throw std::runtime_error("the program `bible` is missing: install Debian's package bible-kjv, or give a --text");

  std::string text;
  for (std::size_t start = 0; start < printed.size();) {  // a line: "Ge1:1 In the beginning ..."
    const std::size_t end = std::min(printed.find('\n', start), printed.size());
    const std::size_t verse = printed.find(' ', start);
    if (verse < end) text.append(printed, verse + 1, end - verse - 1).push_back('\n');
    start = end + 1;
  }
  return text;
}

std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error(fmt::format("can't read the text {}", path.string()));
  return text;
}

corpus tokenize(const std::string& text, std::size_t shortest) {
  std::array<bool, 256> occurs{};
  for (const char c : text) occurs[static_cast<unsigned char>(c)] = true;
  corpus result;
  std::array<token, 256> token_of{};
  for (std::size_t c = 0; c < occurs.size(); ++c) {
    if (!occurs[c]) continue;
    token_of[c] = static_cast<token>(result.alphabet.size());
    result.alphabet.push_back(static_cast<char>(c));
  }
  const std::size_t training = text.size() * 9 / 10;
  if (text.size() - training < shortest)
    throw std::runtime_error(
        fmt::format("the text is too short: expected at least {} characters, got {}", 10 * shortest, text.size()));
  for (std::size_t i = 0; i < text.size(); ++i)
    (i < training ? result.training : result.validation).push_back(token_of[static_cast<unsigned char>(text[i])]);
  return result;
}

namespace {

void append_window(windows& w, const std::vector<token>& text, std::size_t start, std::size_t length) {
  const auto first = text.begin() + static_cast<std::ptrdiff_t>(start),
             last = first + static_cast<std::ptrdiff_t>(length);
  w.inputs.insert(w.inputs.end(), first, last);
  w.targets.insert(w.targets.end(), first + 1, last + 1);
}

}  // namespace

windows random_windows(const std::vector<token>& text, std::size_t count, std::size_t length, std::mt19937_64& random) {
  std::uniform_int_distribution<std::size_t> start(0, text.size() - length - 1);
  windows w;
  for (std::size_t i = 0; i < count; ++i) append_window(w, text, start(random), length);
  return w;
}

windows even_windows(const std::vector<token>& text, std::size_t count, std::size_t length) {
  const std::size_t last = text.size() - length - 1;
  windows w;
  for (std::size_t i = 0; i < count; ++i) append_window(w, text, count < 2 ? 0 : last * i / (count - 1), length);
  return w;
}

}  // namespace gpt
