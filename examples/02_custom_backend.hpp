// A backend of one's own in the quickest way: plain loops for the product, and `host_backend` for the rest. Where the
// loops are, a call of a BLAS or of a vendor's library would do as well.
#ifndef NORMUON_EXAMPLES_CUSTOM_BACKEND_HPP
#define NORMUON_EXAMPLES_CUSTOM_BACKEND_HPP

#include <normuon/backends/cpu/host_backend.hpp>

struct plain_products {
  // Products need no memory of their own, so there is none to make beforehand.
  template <class T>
  void reserve(normuon::index_t, normuon::index_t) {}

  // Y (m x n) += alpha A (m x k) B (k x n), all column-major; or B^T, where B lies there as n x k.
  template <class T>
  void multiply(T* Y, normuon::index_t m, normuon::index_t n, normuon::index_t k, T alpha, const T* A, const T* B,
                bool transpose) {
    for (normuon::index_t j = 0; j < n; ++j)
      for (normuon::index_t p = 0; p < k; ++p) {
        const T b = alpha * (transpose ? B[p * n + j] : B[j * k + p]);
        for (normuon::index_t i = 0; i < m; ++i) Y[j * m + i] += A[p * m + i] * b;
      }
  }
};

using plain_backend = normuon::host_backend<float, plain_products>;

#endif
