// The stand-in's cuBLASLt: descriptors, the heuristic, and what cublasLtMatmul refuses.
#include <cstring>
#include <functional>
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

template <class T>
const T* behind(const T* p, std::ptrdiff_t elements) {
  return p + elements;
}
float* floats(const void* p) { return static_cast<float*>(const_cast<void*>(p)); }

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

TEST_CASE("an algorithm is checked against types, and says what it needs") {
  restart();
  call_parts p = small_product();
  p.choose(algorithm::workspace);
  cublasLtMatmulHeuristicResult_t result{};
  const auto check = [&](const cublasLtMatmulAlgo_t& algo) {
    return cublasLtMatmulAlgoCheck(p.handle, p.operation, p.A, p.B, p.C, p.D, &algo, &result);
  };
  CHECK(check(p.chosen.algo) == CUBLAS_STATUS_SUCCESS);
  CHECK(result.workspaceSize == 1 << 20);
  CHECK(check({}) == CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulAlgo_t changed = p.chosen.algo;
  changed.data[1] ^= 1;
  CHECK(check(changed) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(p.multiply(&changed) == CUBLAS_STATUS_INVALID_VALUE);
  p.set(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, std::int32_t{CUBLAS_COMPUTE_32F_FAST_TF32});
  CHECK(check(p.chosen.algo) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(says("other types"));
  p.choose(algorithm::workspace);
  CHECK(check(p.chosen.algo) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasLtMatmulAlgoCheck(p.handle, p.operation, p.A, p.B, p.C, p.D, nullptr, &result) ==
        CUBLAS_STATUS_INVALID_VALUE);
  std::uint32_t value = 0;
  CHECK(cublasLtMatmulAlgoConfigGetAttribute(&p.chosen.algo, CUBLASLT_ALGO_CONFIG_TILE_ID, &value, 8, nullptr) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(cublasLtMatmulAlgoConfigGetAttribute(&p.chosen.algo, CUBLASLT_ALGO_CONFIG_TILE_ID, nullptr, 0, nullptr) ==
        CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("what does not fit together, or is not computed, is refused by cublasLtMatmul") {
  struct mistake {
    const char* what;
    cublasStatus_t status;
    std::function<void(call_parts&)> make;
  };
  const cublasStatus_t invalid = CUBLAS_STATUS_INVALID_VALUE, unsupported = CUBLAS_STATUS_NOT_SUPPORTED;
  static const double not_ours = 1;
  const mistake mistakes[] = {
      {"no handle", CUBLAS_STATUS_NOT_INITIALIZED, [](call_parts& p) { p.handle = nullptr; }},
      {"a handle that was destroyed", CUBLAS_STATUS_NOT_INITIALIZED, [](call_parts& p) { cublasLtDestroy(p.handle); }},
      {"no operation", invalid, [](call_parts& p) { p.operation = nullptr; }},
      {"no layout of A", invalid, [](call_parts& p) { p.A = nullptr; }},
      {"no alpha", invalid, [](call_parts& p) { p.alpha = nullptr; }},
      {"no beta", invalid, [](call_parts& p) { p.beta = nullptr; }},
      {"beta on the device", invalid, [](call_parts& p) { p.beta = p.c; }},
      {"no A", invalid, [](call_parts& p) { p.a = nullptr; }},
      {"no C", invalid, [](call_parts& p) { p.c = nullptr; }},
      {"no D", invalid, [](call_parts& p) { p.d = nullptr; }},
      {"A on the host", invalid, [](call_parts& p) { p.a = &not_ours; }},
      {"A in pinned memory", invalid, [](call_parts& p) { p.a = on_pinned<float>(1000); }},
      {"B freed", invalid, [](call_parts& p) { cudaFree(const_cast<void*>(p.b)); }},
      {"A reaching behind its memory", invalid, [](call_parts& p) { p.a = on_device<float>(8 * 3 + 5); }},
      {"D reaching behind its memory", invalid, [](call_parts& p) { p.d = on_device<float>(8 * 4 + 5); }},
      {"a depth that differs", invalid,
       [](call_parts& p) {
         p.B = shape{3, 5, 4}.layout(CUDA_R_32F);
       }},
      {"rows of D that differ", invalid,
       [](call_parts& p) {
         p.D = shape{5, 5, 8}.layout(CUDA_R_32F);
       }},
      {"columns of C that differ", invalid,
       [](call_parts& p) {
         p.C = shape{6, 4, 6}.layout(CUDA_R_32F);
       }},
      {"A transposed", invalid, [](call_parts& p) { p.set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{CUBLAS_OP_T}); }},
      {"no such transposition", invalid, [](call_parts& p) { p.set(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t{77}); }},
      {"C transposed", unsupported,
       [](call_parts& p) { p.set(CUBLASLT_MATMUL_DESC_TRANSC, std::int32_t{CUBLAS_OP_T}); }},
      {"a leading dimension below the rows", invalid,
       [](call_parts& p) {
         p.A = shape{6, 4, 5}.layout(CUDA_R_32F);
       }},
      {"a negative leading dimension", invalid,
       [](call_parts& p) {
         p.B = shape{4, 5, -4}.layout(CUDA_R_32F);
       }},
      {"an empty matrix", unsupported,
       [](call_parts& p) {
         p.A = shape{6, 0, 8}.layout(CUDA_R_32F);
       }},
      {"row-major order", unsupported,
       [](call_parts& p) {
         const std::int32_t order = CUBLASLT_ORDER_ROW;
         cublasLtMatrixLayoutSetAttribute(p.A, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order);
       }},
      {"half a matrix", unsupported,
       [](call_parts& p) { p.set(CUBLASLT_MATMUL_DESC_FILL_MODE, std::int32_t{CUBLAS_FILL_MODE_LOWER}); }},
      {"an epilogue", unsupported,
       [](call_parts& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{CUBLASLT_EPILOGUE_RELU}); }},
      {"types that don't go together", unsupported,
       [](call_parts& p) {
         p.A = shape{6, 4, 8}.layout(CUDA_R_16BF);
       }},
      {"C and D of two types", unsupported,
       [](call_parts& p) {
         p.C = shape{6, 5, 6}.layout(CUDA_R_16BF);
       }},
      {"a scale of another type", unsupported,
       [](call_parts& p) { p.set(CUBLASLT_MATMUL_DESC_SCALE_TYPE, std::int32_t{CUDA_R_64F}); }},
      {"batches that differ", invalid,
       [](call_parts& p) {
         p.A = shape{6, 4, 8, 2, 0}.layout(CUDA_R_32F);
       }},
      {"a batch of none", invalid,
       [](call_parts& p) {
         p.A = shape{6, 4, 8, 0, 0}.layout(CUDA_R_32F);
       }},
      {"a pointer between elements", unsupported, [](call_parts& p) { p.a = static_cast<const char*>(p.a) + 2; }},
      {"D in A", invalid, [](call_parts& p) { p.d = const_cast<void*>(p.a); }},
      {"D with its last element in B", invalid,
       [](call_parts& p) {
         float* both = on_device<float>(100);
         p.d = both;
         p.b = both + 8 * 4 + 5;
       }},
      {"D in C, but not in its place", invalid, [](call_parts& p) { p.d = floats(p.c) + 1; }},
      {"D is C with another layout", invalid, [](call_parts& p) { p.d = const_cast<void*>(p.c); }},
      {"a stream that is gone", CUBLAS_STATUS_EXECUTION_FAILED, [](call_parts& p) { cudaStreamDestroy(p.stream); }},
      {"an algorithm that was listed without success", unsupported,
       [](call_parts& p) { p.choose(algorithm::unusable); }},
      {"too small a workspace", invalid,
       [](call_parts& p) {
         p.choose(algorithm::workspace);
         p.workspace_bytes = (1 << 20) - 1;
       }},
      {"no workspace", invalid,
       [](call_parts& p) {
         p.choose(algorithm::workspace);
         p.workspace = nullptr;
       }},
      {"a workspace that is not aligned", invalid,
       [](call_parts& p) {
         p.choose(algorithm::workspace);
         p.workspace = static_cast<char*>(p.workspace) + 16;
         p.workspace_bytes -= 16;
       }},
      {"a workspace that ends before its size", invalid,
       [](call_parts& p) {
         p.choose(algorithm::workspace);
         p.workspace = static_cast<char*>(p.workspace) + 256;
       }},
      {"a workspace that is an operand", invalid,
       [](call_parts& p) {
         p.choose(algorithm::workspace);
         p.a = p.workspace;
       }},
  };
  for (const mistake& m : mistakes) {
    restart();
    call_parts p = small_product();
    p.choose(algorithm::plain);
    CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
    CHECK(standin::queued() == 1);
    CAPTURE(m.what);
    m.make(p);
    CHECK(p.multiply() == m.status);
    CHECK(standin::queued() == 1);
    CHECK(cudaPeekAtLastError() == cudaSuccess);
  }
}

TEST_CASE("the aligned algorithm refuses what is not aligned") {
  restart();
  call_parts p = small_product({6, 4, 8}, {4, 5, 4}, {6, 5, 8}, {6, 5, 8});
  p.choose(algorithm::aligned);
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  for (const void** operand : {&p.a, &p.b, &p.c, const_cast<const void**>(&p.d)}) {
    const void* aligned = *operand;
    *operand = floats(aligned) + 2;
    CHECK(p.multiply() == CUBLAS_STATUS_NOT_SUPPORTED);
    CHECK(says("aligned"));
    *operand = floats(aligned) + 4;
    CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
    *operand = aligned;
  }
  p.C = shape{6, 5, 6}.layout(CUDA_R_32F);
  CHECK(p.multiply() == CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_CASE("matrices of a batch of D may lie between each other, and not on each other") {
  restart();
  const auto product_to = [](const shape& d) {
    call_parts p = small_product({2, 3, 2, 3, 6}, {3, 2, 3, 3, 6}, {2, 2, 2, 3, 4}, d);
    p.choose(algorithm::plain);
    return p.multiply();
  };
  CHECK(product_to({2, 2, 2, 3, 4}) == CUBLAS_STATUS_SUCCESS);
  CHECK(product_to({2, 2, 6, 3, 2}) == CUBLAS_STATUS_SUCCESS);   // blocks side by side in six rows
  CHECK(product_to({2, 2, 7, 3, 16}) == CUBLAS_STATUS_SUCCESS);  // blocks along a diagonal
  CHECK(product_to({2, 2, 6, 3, 1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product_to({2, 2, 2, 3, 3}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product_to({2, 2, 6, 3, 6}) == CUBLAS_STATUS_INVALID_VALUE);  // a column of one is a column of the next
  CHECK(product_to({2, 2, 6, 3, 5}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product_to({2, 2, 2, 3, 0}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(product_to({2, 2, 4, 3, 2}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(says("overlap"));
}

TEST_CASE("operands may lie between the columns of D") {
  restart();
  call_parts p = small_product({2, 2, 8}, {2, 2, 8}, {2, 2, 8}, {2, 2, 8});
  p.choose(algorithm::plain);
  const float* all = on_device(std::vector<float>(100));
  p.a = behind(all, 0), p.b = behind(all, 2), p.c = behind(all, 4), p.d = floats(behind(all, 6));
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  for (const void** operand : {&p.a, &p.b, &p.c}) {
    const void* before = *operand;
    for (const int offset : {5, 7, 13, 15}) {
      *operand = all + offset;
      CHECK(p.multiply() == CUBLAS_STATUS_INVALID_VALUE);
    }
    *operand = all + 8;
    CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
    *operand = before;
  }
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
