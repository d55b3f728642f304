// What was chosen by timing, as a table of texts: hashed for reports and checkpoints, and kept in a file where one is
// named.
#ifndef NORMUON_BACKENDS_CUDA_CHOICES_HPP
#define NORMUON_BACKENDS_CUDA_CHOICES_HPP

#include <map>
#include <optional>

#include "normuon/io/files.hpp"
#include "normuon/math/random.hpp"

namespace normuon {

// A file of choices is text: a title, where they were made, a line "key = value" for each, and a hash of all before it.
class product_choices {
 public:
  // `made_on`: the device and the versions of its libraries, as one line. Takes what a file that was made there holds;
  // one of another device or version is replaced when the next choice is made. Throws error_code::file where it can't
  // be read or is no whole file of choices.
  product_choices(std::string made_on, std::filesystem::path file)
      : made_on_(std::move(made_on)), file_(std::move(file)), known_(in_file()) {}

  // The value of a key that was chosen before, here or where the file was made.
  std::optional<std::string> find(const std::string& key) const {
    const auto found = known_.find(key);
    return found == known_.end() ? std::nullopt : std::optional(found->second);
  }
  // Keeps a choice, beside those that other processes have put into the file meanwhile. Throws error_code::file where
  // it can't be read or written.
  void add(const std::string& key, const std::string& value) {
    known_[key] = value;
    if (file_.empty()) return;
    known_.merge(in_file());
    const std::string text = text_of(known_);
    replacement_file<> out(file_);
    out.file().write_at(0, std::as_bytes(std::span(text)));
    out.commit();
  }

  // Of all choices, also of those that nothing has used yet: so it is known before a step, from the file alone.
  std::uint64_t hash() const { return hash_of(text_of(known_)); }

  static std::string hexadecimal(std::uint64_t x) {
    std::string text(16, '0');
    for (std::size_t i = 16; x != 0; x >>= 4) text[--i] = "0123456789abcdef"[x & 15];
    return text;
  }
  // The number that 16 digits are, if they are.
  static std::optional<std::uint64_t> number_in(std::string_view digits) {
    std::uint64_t x = 0;
    for (const char c : digits) {
      const std::size_t digit = std::string_view("0123456789abcdef").find(c);
      if (digit == std::string_view::npos) return {};
      x = x << 4 | digit;
    }
    return digits.size() == 16 ? std::optional(x) : std::nullopt;
  }

 private:
  using table = std::map<std::string, std::string>;
  static constexpr std::size_t most_bytes = std::size_t{1} << 20;
  static constexpr std::string_view title = "normuon's choices of products, format 1\n", between = " = ",
                                    hash_is = "hash = ";

  std::string text_of(const table& choices) const {
    std::string text = std::string(title) + made_on_ + "\n";
    for (const auto& [key, value] : choices) text.append(key).append(between).append(value).append("\n");
    return text + std::string(hash_is) + hexadecimal(hash_of(text)) + "\n";
  }

  [[noreturn]] void refuse(const char* why) const {
    fail(error_code::file, printable_path(file_), ": no file of choices: ", why, "; remove it to choose again");
  }

  table in_file() const {
    if (file_.empty() || !std::filesystem::exists(file_)) return {};
    const posix_file in = posix_file_system().open(file_);
    if (in.size() > most_bytes) refuse("expected at most 1 MiB");
    std::string text(in.size(), '\0');
    in.read_at(0, std::as_writable_bytes(std::span(text)));
    return parsed(text);
  }

  // Empty where the file is of another place. What follows a good hash is what was written.
  table parsed(std::string_view text) const {
    if (!text.starts_with(title)) refuse("expected its title");
    const std::size_t end = text.rfind(hash_is);
    if (end == std::string_view::npos || end == 0 || text[end - 1] != '\n') refuse("expected its hash");
    if (text.substr(end + hash_is.size()) != hexadecimal(hash_of(text.substr(0, end))) + "\n")
      refuse("its hash is another one");
    std::string_view lines = text.substr(title.size(), end - title.size());
    const auto next_line = [&] {
      const std::string_view line = lines.substr(0, lines.find('\n'));
      lines.remove_prefix(line.size() + 1);
      return line;
    };
    if (lines.empty() || next_line() != made_on_) return {};
    table choices;
    while (!lines.empty()) {
      const std::string_view line = next_line();
      const std::size_t middle = line.find(between);
      if (middle == std::string_view::npos) refuse("expected lines of a key and a value");
      choices.emplace(line.substr(0, middle), line.substr(middle + between.size()));
    }
    return choices;
  }

  std::string made_on_;
  std::filesystem::path file_;
  table known_;
};

}  // namespace normuon

#endif
