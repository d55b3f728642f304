// Text as tokens, one a character: where it comes from, and the windows that a model is trained and judged on.
#ifndef TRAIN_GPT_DATA_HPP
#define TRAIN_GPT_DATA_HPP

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace gpt {

using token = std::uint8_t;

// The first 90 % of a text to train on, the rest to judge by. Token t stands for the character alphabet[t].
struct corpus {
  std::vector<token> training, validation;
  std::string alphabet;
};

// The King James Bible as Debian's package bible-kjv prints it, without references. Throws where that program is
// missing.
std::string bible_text();

// Throws where the file can't be read.
std::string file_text(const std::filesystem::path& path);

// The alphabet is made of the characters (bytes) that occur. Throws where a part has less than `shortest` tokens.
corpus tokenize(const std::string& text, std::size_t shortest);

// Windows of equal length, one after the other; the target of a token is the one that follows it in the text.
struct windows {
  std::vector<token> inputs, targets;
};
windows random_windows(const std::vector<token>& text, std::size_t count, std::size_t length, std::mt19937_64& random);
windows even_windows(const std::vector<token>& text, std::size_t count, std::size_t length);  // from first to last

}  // namespace gpt

#endif
