// Inputs for the program: golden starts, and small files of made-up numbers.
#ifndef NORMUON_TESTS_REPLAY_CASES_HPP
#define NORMUON_TESTS_REPLAY_CASES_HPP

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "replay/program.hpp"

namespace normuon::test {

inline const std::vector<std::string> all_presets = {"paper",  "reference", "nanogpt",    "dion",
                                                     "jordan", "moonlight", "torch_muon", "adamw"};

// The start of a golden trajectory: the file's M and v are those of the end.
inline safetensors::file golden_input(const std::string& file) {
  safetensors::file input = safetensors::read(std::filesystem::path(NORMUON_GOLDEN_DIR) / file);
  std::erase_if(input.tensors, [](const auto& named) { return named.first != "W" && !named.first.starts_with("G."); });
  input.metadata.clear();
  return input;
}

// The tensor with its numbers rounded to T.
template <safetensors::number T>
safetensors::tensor rounded_to(const safetensors::tensor& t) {
  return safetensors::make_tensor<T>(t.shape, safetensors::values<T>(t));
}
template <safetensors::number T>
safetensors::file rounded_to(safetensors::file f) {
  for (auto& [name, t] : f.tensors) t = rounded_to<T>(t);
  return f;
}

// m x n numbers in (-1, 1), exact in float16 and bfloat16; another `seed`, other numbers.
template <safetensors::number T = double>
safetensors::tensor matrix(std::int64_t m, std::int64_t n, std::uint32_t seed) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < m * n; ++i) {
    seed = seed * 1664525u + 1013904223u;  // Numerical Recipes, section 7.1
    values.push_back(static_cast<T>(static_cast<float>(static_cast<int>(seed >> 25) - 64) / 64));
  }
  return safetensors::make_tensor<T>({m, n}, values);
}

// W and `steps` gradients, m x n.
template <safetensors::number T = double>
safetensors::file small_case(std::int64_t m, std::int64_t n, std::uint32_t steps) {
  safetensors::file f;
  f.tensors["W"] = matrix<T>(m, n, 0);
  for (std::uint32_t k = 0; k < steps; ++k) f.tensors["G." + std::to_string(k)] = matrix<T>(m, n, k + 1);
  return f;
}

}  // namespace normuon::test

#endif
