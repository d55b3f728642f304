// The stand-in's cuBLASLt: handles, descriptors and the heuristic.
#include <cstring>
#include <vector>

#include "standin_products.hpp"

using standin::algorithm;

namespace {

int splits_of(const cublasLtMatmulAlgo_t& algo) {
  std::int32_t splits = -1;
  std::size_t written = 0;
  CHECK(cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits,
                                             &written) == CUBLAS_STATUS_SUCCESS);
  CHECK(written == sizeof splits);
  return splits;
}

std::uint32_t reduction_of(const cublasLtMatmulAlgo_t& algo) {
  std::uint32_t scheme = 99;
  CHECK(cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme,
                                             nullptr) == CUBLAS_STATUS_SUCCESS);
  return scheme;
}

}  // namespace

TEST_CASE("attributes of descriptors are taken in their own size only") {
  restart();
  cublasLtMatrixLayout_t layout{};
  cublasLtMatmulDesc_t operation{};
  cublasLtMatmulPreference_t preference{};
  CHECK(cublasLtMatrixLayoutCreate(nullptr, CUDA_R_32F, 1, 1, 1) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulDescCreate(nullptr, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulPreferenceCreate(nullptr) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 4, 4, 2) == CUBLAS_STATUS_SUCCESS);  // looked at later
  CHECK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
  const std::int64_t value = 1;
  const auto set_layout = [&](auto attribute, const void* p, std::size_t bytes) {
    return cublasLtMatrixLayoutSetAttribute(layout, attribute, p, bytes);
  };
  CHECK(set_layout(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &value, 4) == CUBLAS_STATUS_SUCCESS);
  CHECK(set_layout(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &value, 8) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(set_layout(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, nullptr, 4) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(set_layout(CUBLASLT_MATRIX_LAYOUT_LD, &value, 8) == CUBLAS_STATUS_SUCCESS);
  CHECK(set_layout(static_cast<cublasLtMatrixLayoutAttribute_t>(14), &value, 8) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &value, 4) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &value, 8) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &value, 8) ==
        CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &value, 4) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(standin::handles_in_use() == 3);
  CHECK(cublasLtMatrixLayoutDestroy(layout) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtMatrixLayoutDestroy(layout) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatrixLayoutDestroy(nullptr) == CUBLAS_STATUS_SUCCESS);
  CHECK(set_layout(CUBLASLT_MATRIX_LAYOUT_LD, &value, 8) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulDescDestroy(operation) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtMatmulPreferenceDestroy(preference) == CUBLAS_STATUS_SUCCESS);
  CHECK(standin::handles_in_use() == 0);
}

TEST_CASE("the heuristic offers what the preferences allow, in the order that the test has chosen") {
  restart();
  const call_parts p = small_product({8, 4, 8}, {4, 8, 4}, {8, 8, 8}, {8, 8, 8});
  std::vector<cublasLtMatmulHeuristicResult_t> all(10);
  CHECK(p.ask(all) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(all.size() == 6);
  CHECK(splits_of(all[0].algo) == 4);
  CHECK(reduction_of(all[0].algo) == CUBLASLT_REDUCTION_SCHEME_INPLACE);
  CHECK(reduction_of(all[1].algo) == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  CHECK(all[1].workspaceSize == 4 * 64 * sizeof(float));
  CHECK(all[2].state != CUBLAS_STATUS_SUCCESS);
  CHECK(splits_of(all[3].algo) == 1);
  CHECK(all[4].workspaceSize == 1 << 20);
  CHECK(all[5].workspaceSize == 0);

  const auto offered = [&] {
    std::vector<cublasLtMatmulHeuristicResult_t> some(10);
    REQUIRE(p.ask(some) == CUBLAS_STATUS_SUCCESS);
    return some.size();
  };
  p.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  CHECK(offered() == 5);
  p.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  CHECK(offered() == 4);
  p.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{4096});
  CHECK(offered() == 3);
  p.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, std::uint32_t{4});
  CHECK(offered() == 2);
  standin::set_algorithms({algorithm::plain, algorithm::unusable});
  std::vector<cublasLtMatmulHeuristicResult_t> one(1);
  CHECK(p.ask(one) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(one.size() == 1);
  CHECK(std::memcmp(&one[0].algo, &all[5].algo, sizeof all[5].algo) == 0);
  standin::set_algorithms({algorithm::aligned});
  CHECK(p.ask(one) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(one.empty());
  CHECK(p.ask(one) == CUBLAS_STATUS_INVALID_VALUE);  // none was asked for
}

TEST_CASE("the aligned algorithm is offered only where leading dimensions and strides are aligned too") {
  restart();
  standin::set_algorithms({algorithm::aligned});
  std::vector<cublasLtMatmulHeuristicResult_t> some(1);
  CHECK(small_product({6, 4, 8}, {4, 5, 4}, {6, 5, 8}, {6, 5, 8}).ask(some) == CUBLAS_STATUS_SUCCESS);
  CHECK(small_product({6, 4, 8}, {4, 5, 5}, {6, 5, 8}, {6, 5, 8}).ask(some) == CUBLAS_STATUS_NOT_SUPPORTED);
  some.resize(1);
  CHECK(small_product({6, 4, 8, 2, 34}, {4, 5, 4, 2, 20}, {6, 5, 8, 2, 40}, {6, 5, 8, 2, 40}).ask(some) ==
        CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_CASE("an algorithm is taken for the types that it was suggested for, and only as it was given") {
  restart();
  call_parts p = small_product();
  p.choose(algorithm::workspace);
  CHECK(p.chosen.workspaceSize == 1 << 20);
  cublasLtMatmulAlgo_t changed = p.chosen.algo;
  changed.data[1] ^= 1;
  CHECK(p.multiply(&changed) == CUBLAS_STATUS_INVALID_VALUE);
  changed = {};
  CHECK(p.multiply(&changed) == CUBLAS_STATUS_INVALID_VALUE);
  p.set(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, std::int32_t{CUBLAS_COMPUTE_32F_FAST_TF32});
  CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(says("other types"));
  p.choose(algorithm::workspace);
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  std::uint32_t value = 0;
  CHECK(cublasLtMatmulAlgoConfigGetAttribute(&p.chosen.algo, CUBLASLT_ALGO_CONFIG_TILE_ID, &value, 8, nullptr) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulAlgoConfigGetAttribute(&p.chosen.algo, CUBLASLT_ALGO_CONFIG_TILE_ID, nullptr, 0, nullptr) ==
        CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("a library handle belongs to a device") {
  restart();
  standin::set_device_count(2);
  call_parts p = small_product();
  p.choose(algorithm::plain);
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtCreate(&p.handle) == CUBLAS_STATUS_SUCCESS);
  CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);  // the stream is of the other one
  p.stream = new_stream();
  CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);  // and so is the memory
  CHECK(says("memory of device 1"));
  CHECK(cublasLtCreate(nullptr) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtDestroy(nullptr) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtDestroy(p.handle) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtDestroy(p.handle) == CUBLAS_STATUS_NOT_INITIALIZED);
}

TEST_CASE("a library handle is neither made nor destroyed while a stream is capturing") {
  restart();
  call_parts p = small_product();
  cublasLtHandle_t handle{};
  cudaGraph_t graph{};
  REQUIRE(cudaStreamBeginCapture(p.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(cublasLtCreate(&handle) != CUBLAS_STATUS_SUCCESS);
  CHECK(cudaStreamEndCapture(p.stream, &graph) == cudaErrorStreamCaptureInvalidated);
  REQUIRE(cudaStreamBeginCapture(p.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(cublasLtDestroy(p.handle) != CUBLAS_STATUS_SUCCESS);
  CHECK(cudaStreamEndCapture(p.stream, &graph) == cudaErrorStreamCaptureInvalidated);
}
