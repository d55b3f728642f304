// The operands of the GPU backend: how the matrices of an iteration lie in device memory.
#ifndef NORMUON_BACKENDS_CUDA_OPERAND_HPP
#define NORMUON_BACKENDS_CUDA_OPERAND_HPP

#include "normuon/backends/cuda/device.hpp"
#include "normuon/backends/cuda/kernels.hpp"

namespace normuon {

// What numbers of an iteration are stored as.
constexpr element_type stored_as(compute_type compute) {
  switch (compute) {
    case compute_type::float64: return element_type::float64;
    case compute_type::float32:
    case compute_type::tensor_float32: return element_type::float32;
    case compute_type::bfloat16: return element_type::bfloat16;
    case compute_type::float16: return element_type::float16;
    case compute_type::automatic: break;
  }
  fail(error_code::option, "expected the type of an iteration, got `auto`");
}

// Row-major matrices one after the other. Rows begin on 16 bytes, which is what cuBLASLt's fast kernels ask for.
class cublas_operand {
 public:
  static constexpr operand_view view_of(const operand_shape& s, std::byte* data) {
    const element_type type = stored_as(s.compute);
    const auto of_16_bytes = static_cast<index_t>(16 / size_of(type));
    return {data, type, s.rows, s.cols, s.count, (s.cols + of_16_bytes - 1) / of_16_bytes * of_16_bytes};
  }
  static constexpr std::size_t bytes(const operand_shape& s) {
    const operand_view v = view_of(s, nullptr);
    return static_cast<std::size_t>(v.stride() * v.count) * size_of(v.type);
  }
  operand_view view() const { return view_of(shape, memory.data()); }

  cuda_memory memory;
  operand_shape shape;
};

}  // namespace normuon

#endif
