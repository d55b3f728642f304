// Products of operands by cuBLASLt: one call for all matrices of a run. Operands are row-major and cuBLASLt thinks in
// columns, so what it is asked for is the transposed product, with the operands changed over and nothing transposed.
#ifndef NORMUON_BACKENDS_CUDA_PRODUCTS_HPP
#define NORMUON_BACKENDS_CUDA_PRODUCTS_HPP

#include <array>
#include <compare>
#include <map>

#include "normuon/backends/cuda/kernels.hpp"
#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

// Y (m x n) of depth k for all of a run, by the strides between rows; B lies as n x k where `transpose` is true.
struct product_shape_key {
  index_t m, n, k, count, leading_a, leading_b, leading_y;
  compute_type compute;
  element_type type;
  bool transpose, in_place;
  auto operator<=>(const product_shape_key&) const = default;
};

// What is decided once for a product: how it is described to the library, and the algorithm.
struct product_plan {
  matmul_desc desc;
  matrix_layout first, second, result;
  cublasLtMatmulAlgo_t algorithm = {};
  product_shape_key key = {};
};

// Y <- alpha A B + beta C, with B^T where `transpose` is true.
struct product_operation {
  operand_view Y, A, B, C;
  double alpha, beta;
  const product_plan* plan;
};

class cublas_lt_products {
 public:
  // The library may use `workspace_bytes` of memory that is owned here, so one product runs at a time.
  explicit cublas_lt_products(std::size_t workspace_bytes)
      : handle_(make_cublas_lt()), workspace_(make_device_memory(workspace_bytes)), workspace_bytes_(workspace_bytes) {}

  // The plan of a product; made, and its algorithm chosen, where there is none yet.
  const product_plan& plan_for(const operand_view& Y, const operand_view& A, const operand_view& B,
                               compute_type compute, bool transpose, bool in_place) {
    const product_shape_key key{Y.rows,    Y.cols,  A.cols, Y.count,   A.leading, B.leading,
                                Y.leading, compute, Y.type, transpose, in_place};
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    product_plan plan = make_plan(key);  // nothing is kept of one that fails
    return plans_.emplace(key, std::move(plan)).first->second;
  }

  void run(const product_operation& o, cudaStream_t stream) const {
    const product_plan& p = *o.plan;
    const float narrow[] = {static_cast<float>(o.alpha), static_cast<float>(o.beta)};
    const double wide[] = {o.alpha, o.beta};
    const bool is_double = p.key.type == element_type::float64;
    const void* const alpha = is_double ? static_cast<const void*>(wide) : narrow;
    const void* const beta = is_double ? static_cast<const void*>(wide + 1) : narrow + 1;
    check(cublasLtMatmul(handle_.get(), p.desc.get(), alpha, o.B.data, p.first.get(), o.A.data, p.second.get(), beta,
                         o.C.data, p.result.get(), o.Y.data, p.result.get(), &p.algorithm, workspace_.get(),
                         workspace_bytes_, stream),
          "cublasLtMatmul of ", text(p.key));
  }

 private:
  static constexpr int considered = 8;  // algorithms, best first

  static cudaDataType_t data_type(element_type type) {
    switch (type) {
      case element_type::float64: return CUDA_R_64F;
      case element_type::float32: return CUDA_R_32F;
      case element_type::bfloat16: return CUDA_R_16BF;
      case element_type::float16: break;
    }
    return CUDA_R_16F;
  }

  static cublasComputeType_t sums_of(compute_type compute) {
    if (compute == compute_type::float64) return CUBLAS_COMPUTE_64F;
    return compute == compute_type::tensor_float32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  }

  static std::string text(const product_shape_key& k) {
    std::ostringstream s;
    s.imbue(std::locale::classic());
    s << k.count << " products " << k.m << " x " << k.n << " of depth " << k.k << " in " << name_of(k.compute);
    return s.str();
  }

  template <class T>
  static void set(matmul_desc& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(desc.get(), attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }
  template <class T>
  static void set(matrix_layout& layout, cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
    check(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof value),
          "cublasLtMatrixLayoutSetAttribute");
  }
  template <class T>
  static void set(matmul_preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  }

  // A run of row-major rows x cols matrices as column-major ones.
  static matrix_layout layout(element_type type, index_t rows, index_t cols, index_t leading, index_t count) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, data_type(type), static_cast<std::uint64_t>(cols),
                                     static_cast<std::uint64_t>(rows), leading),
          "cublasLtMatrixLayoutCreate of ", rows, " x ", cols);
    matrix_layout result(made);
    set(result, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(count));
    set(result, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, static_cast<std::int64_t>(rows * leading));
    return result;
  }

  product_plan make_plan(const product_shape_key& k) const {
    product_plan plan;
    const bool is_double = k.type == element_type::float64;
    cublasLtMatmulDesc_t desc = nullptr;
    check(cublasLtMatmulDescCreate(&desc, sums_of(k.compute), is_double ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    plan.desc = matmul_desc(desc);
    set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, k.transpose ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    plan.first =
        k.transpose ? layout(k.type, k.n, k.k, k.leading_b, k.count) : layout(k.type, k.k, k.n, k.leading_b, k.count);
    plan.second = layout(k.type, k.m, k.k, k.leading_a, k.count);
    plan.result = layout(k.type, k.m, k.n, k.leading_y, k.count);
    plan.key = k;
    choose_algorithm(plan);
    return plan;
  }

  // The best by the library's own estimate that does not split the depth of a sum among blocks, so that a product has
  // the same bits whenever it is made.
  void choose_algorithm(product_plan& plan) const {
    cublasLtMatmulPreference_t made = nullptr;
    check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
    matmul_preference preference(made);
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_bytes_));
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set(preference, attribute, std::uint32_t{16});
    std::array<cublasLtMatmulHeuristicResult_t, considered> results = {};
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_.get(), plan.desc.get(), plan.first.get(), plan.second.get(),
                                         plan.result.get(), plan.result.get(), preference.get(), considered,
                                         results.data(), &found),
          "cublasLtMatmulAlgoGetHeuristic of ", text(plan.key));
    for (int i = 0; i < found; ++i) {
      const auto& result = results[static_cast<std::size_t>(i)];
      if (result.state != CUBLAS_STATUS_SUCCESS || splits(result.algo)) continue;
      plan.algorithm = result.algo;
      return;
    }
    fail(error_code::device, "cublasLtMatmulAlgoGetHeuristic of ", text(plan.key), ": ", found,
         " algorithms, none without split-K");
  }

  static bool splits(const cublasLtMatmulAlgo_t& algorithm) {
    std::int32_t parts = 1;
    std::size_t written = 0;
    check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts,
                                               &written),
          "cublasLtMatmulAlgoConfigGetAttribute");
    return parts > 1;
  }

  cublas_lt_handle handle_;
  device_memory workspace_;
  std::size_t workspace_bytes_;
  std::map<product_shape_key, product_plan> plans_;
};

}  // namespace normuon

#endif
