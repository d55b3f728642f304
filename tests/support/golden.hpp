// Loads the golden vectors of tests/golden: what public optimizers computed, step by step. The build defines
// NORMUON_GOLDEN_DIR as that folder.
#ifndef NORMUON_TESTS_SUPPORT_GOLDEN_HPP
#define NORMUON_TESTS_SUPPORT_GOLDEN_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "normuon/io/safetensors.hpp"

namespace normuon::test {

// Row-major numbers; stored float32 is widened exactly.
struct golden_tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> values;

  std::int64_t rows() const { return shape.at(0); }
  std::int64_t cols() const { return shape.at(1); }
};

struct golden_case {
  std::string file;
  std::map<std::string, golden_tensor> tensors;
  std::map<std::string, std::string> metadata;

  bool has(const std::string& name) const { return tensors.contains(name); }
  const golden_tensor& tensor(const std::string& name) const { return found(tensors, name); }
  // How many gradients there are: G.0, G.1 ... one per step of the optimizer.
  std::size_t step_count() const {
    std::size_t count = 0;
    while (has("G." + std::to_string(count))) ++count;
    return count;
  }

  bool has_text(const std::string& key) const { return metadata.contains(key); }
  const std::string& text(const std::string& key) const { return found(metadata, key); }
  double number(const std::string& key) const { return nlohmann::json::parse(text(key)).get<double>(); }
  bool flag(const std::string& key) const { return nlohmann::json::parse(text(key)).get<bool>(); }
  // A list of numbers; a single number is a list of one.
  std::vector<double> numbers(const std::string& key) const {
    const auto value = nlohmann::json::parse(text(key));
    return value.is_array() ? value.get<std::vector<double>>() : std::vector<double>{value.get<double>()};
  }
  // One number per step: from `many` where the case has such a list, otherwise from `one`; a single number is repeated.
  std::vector<double> per_step(const std::string& one, const std::string& many = {}) const {
    auto out = numbers(has_text(many) ? many : one);
    if (out.size() == 1) out.resize(step_count(), out[0]);
    return out;
  }

 private:
  template <class Value>
  const Value& found(const std::map<std::string, Value>& all, const std::string& name) const {
    const auto at = all.find(name);
    if (at == all.end()) throw std::runtime_error(file + " has no '" + name + "'");
    return at->second;
  }
};

inline golden_case load_golden(std::string_view file) {
  const safetensors::file stored = safetensors::read(std::filesystem::path(NORMUON_GOLDEN_DIR) / file);
  golden_case out{std::string(file), {}, stored.metadata};
  for (const auto& [name, t] : stored.tensors) out.tensors[name] = {t.shape, safetensors::values<double>(t)};
  return out;
}

// The trajectory files of one preset, sorted: <preset>.<case>.safetensors. Never empty: a test over nothing would pass.
inline std::vector<std::string> golden_files(std::string_view preset) {
  std::vector<std::string> out;
  for (const auto& at : std::filesystem::directory_iterator(NORMUON_GOLDEN_DIR)) {
    const std::string name = at.path().filename().string();
    if (name.starts_with(std::string(preset) + ".") && name.ends_with(".safetensors")) out.push_back(name);
  }
  if (out.empty()) throw std::runtime_error("no golden files of the preset " + std::string(preset));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace normuon::test

#endif
