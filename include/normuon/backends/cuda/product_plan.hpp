// One product as cuBLASLt is told of it: its descriptors, and the algorithms that it may be made by. Operands are
// row-major and cuBLASLt thinks in columns, so what it is asked for is the transposed product, with the operands
// changed over and nothing transposed.
#ifndef NORMUON_BACKENDS_CUDA_PRODUCT_PLAN_HPP
#define NORMUON_BACKENDS_CUDA_PRODUCT_PLAN_HPP

#include <array>
#include <compare>
#include <vector>

#include "normuon/backends/cuda/kernels.hpp"
#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

// `count` products Y (m x n) of depth k, by the strides between rows and from one to the next; B lies as n x k where
// `transpose` is true, and another matrix is added to each product where `adds` is true.
struct product_shape_key {
  index_t m, n, k, count, leading_a, leading_b, leading_y, stride_a, stride_b, stride_y;
  compute_type compute;
  element_type type;
  bool transpose, adds;
  auto operator<=>(const product_shape_key&) const = default;

  // For messages.
  std::string text() const {
    return message_of(count, " products ", m, " x ", n, " of depth ", k, " in ", name_of(compute));
  }
  // All of it.
  std::string whole_text() const {
    return message_of(text(), ", rows ", leading_a, " ", leading_b, " ", leading_y, ", matrices ", stride_a, " ",
                      stride_b, " ", stride_y, transpose ? ", transposed" : "", adds ? ", added to another" : "");
  }
};

// What is decided once for a product: how it is described to the library, and the algorithm.
struct product_plan {
  matmul_desc desc;
  matrix_layout first, second, result;
  cublasLtMatmulAlgo_t algorithm = {};
  product_shape_key key = {};
};

inline cudaDataType_t data_type_of(element_type type) {
  switch (type) {
    case element_type::float64: return CUDA_R_64F;
    case element_type::float32: return CUDA_R_32F;
    case element_type::bfloat16: return CUDA_R_16BF;
    case element_type::float16: break;
  }
  return CUDA_R_16F;
}

inline cublasComputeType_t sums_of(compute_type compute) {
  if (compute == compute_type::float64) return CUBLAS_COMPUTE_64F;
  return compute == compute_type::tensor_float32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

template <class T>
void set(matmul_desc& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(desc.get(), attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
}
template <class T>
void set(matrix_layout& layout, cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
  check(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof value),
        "cublasLtMatrixLayoutSetAttribute");
}
template <class T>
void set(matmul_preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

// A run of row-major rows x cols matrices as column-major ones.
inline matrix_layout make_layout(element_type type, index_t rows, index_t cols, index_t leading, index_t count,
                                 index_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, data_type_of(type), static_cast<std::uint64_t>(cols),
                                   static_cast<std::uint64_t>(rows), leading),
        "cublasLtMatrixLayoutCreate of ", rows, " x ", cols);
  matrix_layout result(made);
  set(result, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(count));
  set(result, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, std::int64_t{stride});
  return result;
}

// A plan but for its algorithm.
inline product_plan make_plan(const product_shape_key& k) {
  product_plan plan;
  const bool is_double = k.type == element_type::float64;
  cublasLtMatmulDesc_t desc = nullptr;
  check(cublasLtMatmulDescCreate(&desc, sums_of(k.compute), is_double ? CUDA_R_64F : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  plan.desc = matmul_desc(desc);
  set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, k.transpose ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  plan.first = make_layout(k.type, k.transpose ? k.n : k.k, k.transpose ? k.k : k.n, k.leading_b, k.count, k.stride_b);
  plan.second = make_layout(k.type, k.m, k.k, k.leading_a, k.count, k.stride_a);
  plan.result = make_layout(k.type, k.m, k.n, k.leading_y, k.count, k.stride_y);
  plan.key = k;
  return plan;
}

inline bool splits(const cublasLtMatmulAlgo_t& algorithm) {
  std::int32_t parts = 1;
  std::size_t written = 0;
  check(
      cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, &written),
      "cublasLtMatmulAlgoConfigGetAttribute");
  return parts > 1;
}

// Algorithms, best first by the library's own estimate, that do not split the depth of a sum among blocks, so that a
// product has the same bits whenever it is made; one at least. Throws error_code::device where there is none.
inline std::vector<cublasLtMatmulAlgo_t> algorithms_for(cublasLtHandle_t handle, const product_plan& plan,
                                                        std::size_t workspace_bytes) {
  constexpr int considered = 8;
  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  matmul_preference preference(made);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_bytes));
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(preference, attribute, std::uint32_t{16});
  std::array<cublasLtMatmulHeuristicResult_t, considered> results = {};
  int found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle, plan.desc.get(), plan.first.get(), plan.second.get(), plan.result.get(),
                                       plan.result.get(), preference.get(), considered, results.data(), &found),
        "cublasLtMatmulAlgoGetHeuristic of ", plan.key.text());
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < found; ++i) {
    const auto& result = results[static_cast<std::size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS && !splits(result.algo)) algorithms.push_back(result.algo);
  }
  if (algorithms.empty())
    fail(error_code::device, "cublasLtMatmulAlgoGetHeuristic of ", plan.key.text(), ": ", found,
         " algorithms, none without split-K");
  return algorithms;
}

}  // namespace normuon

#endif
