// Small safetensors files, and what reading one is refused with.
#ifndef SUPPORT_SAFETENSORS_FILES_HPP
#define SUPPORT_SAFETENSORS_FILES_HPP

#include <utility>

#include "normuon/io/safetensors.hpp"
#include "support/files.hpp"

namespace normuon::test {

inline std::string read_refusal(const std::filesystem::path& path) {
  return file_refusal([&] { safetensors::read(path); });
}

template <class T>
safetensors::tensor make(std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return safetensors::make_tensor<T>(std::move(shape), values);
}

inline safetensors::file small_file() {
  safetensors::file f;
  f.tensors["b"] = make<float>({2, 2}, {1, 2, 3, 4});
  f.tensors["a"] = make<bfloat16>({3}, {bfloat16(1.0f), bfloat16(-2.0f), bfloat16(0.5f)});
  f.tensors["step"] = make<std::int64_t>({}, {7});
  f.metadata["k"] = "v";
  return f;
}

}  // namespace normuon::test

#endif
