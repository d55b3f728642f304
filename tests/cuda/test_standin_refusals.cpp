// What the stand-in's cublasLtMatmul refuses.
#include <functional>
#include <vector>

#include "standin_products.hpp"

using standin::algorithm;

namespace {

template <class T>
const T* behind(const T* p, std::ptrdiff_t elements) {
  return p + elements;
}
float* floats(const void* p) { return static_cast<float*>(const_cast<void*>(p)); }

}  // namespace

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
