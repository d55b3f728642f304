// What the stand-in keeps for cuBLASLt: descriptors, the product that they describe, and the algorithms for it.
#ifndef NORMUON_TESTS_CUDA_STANDIN_CUBLAS_LT_HPP
#define NORMUON_TESTS_CUDA_STANDIN_CUBLAS_LT_HPP

#include <cublasLt.h>

#include <cstdint>
#include <vector>

#include "standin.hpp"
#include "world.hpp"

namespace standin {

struct library_state {
  int device;
};
struct layout_state {
  cudaDataType type;
  std::uint64_t rows, cols;
  std::int64_t ld;
  std::int32_t order = CUBLASLT_ORDER_COL;
  std::int32_t batch = 1;
  std::int64_t stride = 0;  // from matrix to matrix of a batch, in elements
  bool operator==(const layout_state&) const = default;
};
struct operation_state {
  cublasComputeType_t compute;
  cudaDataType scale;
  std::int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  std::int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, transpose_c = CUBLAS_OP_N;
  std::int32_t fill = CUBLAS_FILL_MODE_FULL;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
};
struct preference_state {
  std::uint32_t search = CUBLASLT_SEARCH_BEST_FIT;
  std::uint64_t workspace = 0;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

handle_table<library_state>& libraries();
handle_table<layout_state>& layouts();
handle_table<operation_state>& operations();
handle_table<preference_state>& preferences();

// D = alpha op(A) op(B) + beta C, for a batch of `batch`. op(A) is m x k, op(B) k x n.
struct product {
  cublasComputeType_t compute;
  cudaDataType in, out, scale;
  bool transpose_a, transpose_b;
  std::int64_t m, n, k, batch;
  layout_state a, b, c, d;
};
// Refuses what does not fit together, and what cuBLASLt does not compute.
product described(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                  cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D);
std::size_t element_bytes(cudaDataType type);

struct algorithm_traits {
  int splits;  // parts that k is cut into
  cublasLtReductionScheme_t reduction;
  std::size_t alignment;  // of pointers, leading dimensions and strides; 1: the element's own
};
const algorithm_traits& traits_of(algorithm a);
std::size_t workspace_of(algorithm a, const product& p);
bool strides_aligned(algorithm a, const product& p);
algorithm decoded(const cublasLtMatmulAlgo_t& algo, const product& p);  // refuses what no heuristic has returned
void set_default_algorithms();
double time_of(algorithm a, const product& p);  // milliseconds, see set_time
algorithm best_algorithm(const product& p);     // with default preferences

// Computes the product in plain loops, in memory that is open.
struct product_data {
  double alpha, beta;
  const char *a, *b, *c;
  char* d;
};
void compute(const product& p, algorithm a, const product_data& data);

void forget_blas();
std::size_t blas_handles_in_use();

}  // namespace standin

#endif
