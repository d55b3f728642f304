// The CPU backend whose products are a BLAS's, called through CBLAS, for those who must use one. Include this, name
// `blas_backend`, or `blas_backend64` for double weights, and link a library that brings <cblas.h>.
//
// BLAS itself must run one thread and stand calls from several: an OpenMP build with OMP_NUM_THREADS=1, as Debian's
// libopenblas-openmp-dev, or a serial one that locks (OpenBLAS: USE_LOCKING=1; Debian's serial one does not). The
// backend gives each of its threads a matrix of its own; threads of BLAS would compete with them, and bits might follow
// their number. An OpenMP build keeps to one thread by itself where the executor that is lent is an OpenMP loop.
//
// OpenBLAS's <cblas.h> declares a `bfloat16` outside of any namespace: write `normuon::bfloat16` beside it.
#ifndef NORMUON_BACKENDS_BLAS_HPP
#define NORMUON_BACKENDS_BLAS_HPP

#include <cblas.h>

#include <limits>

#include "normuon/backends/cpu/host_backend.hpp"

namespace normuon {

// gemm and syrk as products of a dense_algebra. BLAS packs its operands in memory of its own.
class blas_products {
 public:
  // Refuses sizes that CBLAS, which counts in int, can't be told.
  template <class T>
  void reserve(index_t n, index_t k) {
    counted(n);
    counted(k);
  }

  template <class T>
  void multiply(T* Y, index_t m, index_t n, index_t k, T alpha, const T* A, const T* B, bool transpose) {
    const product<T> whole{Y, counted(m), counted(n), counted(k), alpha, A, B, transpose};
    if (m != 0 && n != 0 && k != 0) whole.block(0, 0, whole.rows, whole.cols);
  }

  template <class T>
  void multiply_lower(T* Y, index_t n, index_t k, T alpha, const T* A, const T* B, bool transpose) {
    const product<T> whole{Y, counted(n), counted(n), counted(k), alpha, A, B, transpose};
    if (n == 0 || k == 0) return;
    if (A == B && transpose) whole.lower_of_square();
    else whole.lower(0, whole.rows);
  }

 private:
  // Y (rows x cols) += alpha A (rows x depth) B, of which parts are computed.
  template <class T>
  struct product {
    T* Y;
    int rows, cols, depth;
    T alpha;
    const T *A, *B;
    bool transpose;

    // m x n numbers of Y from (row, col) on.
    void block(index_t row, index_t col, int m, int n) const {
      const int height = transpose ? cols : depth;  // of B as it lies there
      const T* const b = B + (transpose ? col : index_t{col} * height);
      const auto with = [&](auto gemm) {
        gemm(CblasColMajor, CblasNoTrans, transpose ? CblasTrans : CblasNoTrans, m, n, depth, alpha, A + row, rows, b,
             height, T(1), Y + index_t{col} * rows + row, rows);
      };
      if constexpr (std::is_same_v<T, float>) with(cblas_sgemm);
      else with(cblas_dgemm);
    }

    // The lower triangle of the n x n numbers from (first, first) on: what is below and left of the middle is one
    // product, so that BLAS packs long operands seldom, and is fast. On the diagonal small squares are computed whole.
    void lower(int first, int n) const {
      if (n <= whole_square) return block(first, first, n, n);
      const int half = n / 2;
      lower(first, half);
      block(first + half, first, n - half, half);
      lower(first + half, n - half);
    }

    // The lower triangle where B is A^T.
    void lower_of_square() const {
      const auto with = [&](auto syrk) {
        syrk(CblasColMajor, CblasLower, CblasNoTrans, rows, depth, alpha, A, rows, T(1), Y, rows);
      };
      if constexpr (std::is_same_v<T, float>) with(cblas_ssyrk);
      else with(cblas_dsyrk);
    }
  };

  // OpenBLAS was no faster with 32, and slower with 128, where more is computed above the diagonal.
  static constexpr int whole_square = 64;

  static int counted(index_t size) {
    constexpr int most = std::numeric_limits<int>::max();
    if (size > most)
      fail(error_code::parameter, "expected a matrix of at most ", most,
           " rows and columns, as CBLAS counts in int, got ", size);
    return static_cast<int>(size);
  }
};

// Executor: what runs its threads, to be lent by a trainer that has threads of its own (cpu/executor.hpp).
template <std::floating_point Real, executor Executor = thread_pool>
using basic_blas_backend = basic_host_backend<Real, dense_algebra<blas_products>, Executor>;

using blas_backend = basic_blas_backend<float>;     // weights float, bfloat16 or float16; state and iteration float
using blas_backend64 = basic_blas_backend<double>;  // weights of any type; state and iteration double

}  // namespace normuon

#endif
