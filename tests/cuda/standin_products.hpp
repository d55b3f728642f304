// A product of cublasLtMatmul with everything that it takes, of which a test changes one part.
#ifndef NORMUON_TESTS_CUDA_STANDIN_PRODUCTS_HPP
#define NORMUON_TESTS_CUDA_STANDIN_PRODUCTS_HPP

#include <cublasLt.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "normuon/element_types.hpp"
#include "standin_support.hpp"

template <class T>
constexpr cudaDataType data_type = std::is_same_v<T, double>              ? CUDA_R_64F
                                   : std::is_same_v<T, float>             ? CUDA_R_32F
                                   : std::is_same_v<T, normuon::bfloat16> ? CUDA_R_16BF
                                                                          : CUDA_R_16F;

// A stack of column-major matrices.
struct shape {
  std::int64_t rows, cols, ld, batch = 1, stride = 0;

  std::size_t elements() const { return static_cast<std::size_t>((batch - 1) * stride + (cols - 1) * ld + rows); }
  std::size_t at(std::int64_t i, std::int64_t j, std::int64_t b = 0) const {
    return static_cast<std::size_t>(b * stride + j * ld + i);
  }
  cublasLtMatrixLayout_t layout(cudaDataType type) const {
    cublasLtMatrixLayout_t l{};
    REQUIRE(cublasLtMatrixLayoutCreate(&l, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols),
                                       ld) == CUBLAS_STATUS_SUCCESS);
    const auto count = static_cast<std::int32_t>(batch);
    REQUIRE(cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count) ==
            CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride) ==
            CUBLAS_STATUS_SUCCESS);
    return l;
  }
};

struct call_parts {
  cublasLtHandle_t handle{};
  cublasLtMatmulDesc_t operation{};
  cublasLtMatmulPreference_t preference{};
  cublasLtMatrixLayout_t A{}, B{}, C{}, D{};
  const void *a{}, *b{}, *c{};
  void* d{};
  const void *alpha{}, *beta{};
  cublasLtMatmulHeuristicResult_t chosen{};
  void* workspace{};
  std::size_t workspace_bytes = std::size_t{32} << 20;
  cudaStream_t stream{};

  cublasStatus_t multiply(const cublasLtMatmulAlgo_t* algo) const {
    return cublasLtMatmul(handle, operation, alpha, a, A, b, B, beta, c, C, d, D, algo, workspace, workspace_bytes,
                          stream);
  }
  cublasStatus_t multiply() const { return multiply(&chosen.algo); }
  cublasStatus_t ask(std::vector<cublasLtMatmulHeuristicResult_t>& results) const {
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, operation, A, B, C, D, preference, static_cast<int>(results.size()), results.data(), &count);
    results.resize(static_cast<std::size_t>(count));
    return status;
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) const {
    REQUIRE(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) const {
    REQUIRE(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS);
  }
  void choose(standin::algorithm wanted) {  // which must be possible
    standin::set_algorithms({wanted});
    std::vector<cublasLtMatmulHeuristicResult_t> results(1);
    REQUIRE(ask(results) == CUBLAS_STATUS_SUCCESS);
    chosen = results.at(0);
  }
};

// op(A) op(B) of float, 6 x 5 x 4 unless said otherwise, C apart from D, with algorithm `plain`.
inline call_parts small_product(shape a = {6, 4, 8}, shape b = {4, 5, 4}, shape c = {6, 5, 6}, shape d = {6, 5, 8},
                                cudaDataType in = CUDA_R_32F, cudaDataType out = CUDA_R_32F,
                                cublasComputeType_t compute = CUBLAS_COMPUTE_32F, cudaDataType scale = CUDA_R_32F) {
  static const float ones_float[2] = {1, 1};
  call_parts p;
  REQUIRE(cublasLtCreate(&p.handle) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatmulDescCreate(&p.operation, compute, scale) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatmulPreferenceCreate(&p.preference) == CUBLAS_STATUS_SUCCESS);
  p.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{p.workspace_bytes});
  p.A = a.layout(in), p.B = b.layout(in), p.C = c.layout(out), p.D = d.layout(out);
  const auto memory = [](const shape& s) { return on_device(std::vector<float>(2 * s.elements() + 8)); };
  p.a = memory(a), p.b = memory(b), p.c = memory(c), p.d = memory(d);
  p.alpha = &ones_float[0], p.beta = &ones_float[1];
  p.workspace = on_device<char>(p.workspace_bytes);
  p.stream = new_stream();
  return p;
}

#endif
