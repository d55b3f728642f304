// The CPU backend on Eigen (3.4 or newer), the default one. Include this and name `eigen_backend`, or `eigen_backend64`
// for double weights. Eigen computes float64; float32 and bfloat16 go through packed kernels.
#ifndef NORMUON_BACKENDS_EIGEN_HPP
#define NORMUON_BACKENDS_EIGEN_HPP

#include <Eigen/Core>

#include "normuon/backends/cpu/host_backend.hpp"
#include "normuon/backends/cpu/mixed_algebra.hpp"
#include "normuon/backends/eigen_view.hpp"

namespace normuon {

static_assert(EIGEN_VERSION_AT_LEAST(3, 4, 0), "normuon needs Eigen 3.4 or newer");

// Eigen's product kernels with a blocking of our own: block sizes are constants and the memory is ours, so that nothing
// depends on the caches that Eigen finds, on its global settings or on OpenMP (its own parallel path changes bits with
// the number of threads), and nothing is allocated in a product.
class eigen_products {
 public:
  eigen_products() = default;
  eigen_products(const eigen_products&) {}  // packing memory is never shared
  eigen_products& operator=(const eigen_products&) { return *this; }

  template <class T>
  void reserve(index_t n, index_t k) {
    const auto bytes = [](index_t count) { return static_cast<std::size_t>(count) * sizeof(T); };
    const std::size_t left = bytes(depth<T> * height), right = bytes(depth<T> * (std::max(n, k) + margin));
    if (left > left_.size()) left_ = host_memory(left);
    if (right > right_.size()) right_ = host_memory(right);
  }

  template <class T>
  void multiply(T* Y, index_t m, index_t n, index_t k, T alpha, const T* A, const T* B, bool transpose) {
    if (m == 0 || n == 0 || k == 0) return;
    if (transpose) general<T, Eigen::RowMajor>(Y, m, n, k, alpha, A, B, n);
    else general<T, Eigen::ColMajor>(Y, m, n, k, alpha, A, B, k);
  }

  template <class T>
  void multiply_lower(T* Y, index_t n, index_t k, T alpha, const T* A, const T* B, bool transpose) {
    if (n == 0 || k == 0) return;
    if (transpose) lower<T, Eigen::RowMajor>(Y, n, k, alpha, A, B, n);
    else lower<T, Eigen::ColMajor>(Y, n, k, alpha, A, B, k);
  }

 private:
  // Depth of a packed block: both operands of the innermost loop in 32 KiB of first-level cache; height: the left block
  // in 256 KiB of second-level cache. The right block is as wide as the product.
  template <class T>
  static constexpr index_t depth = 1024 / static_cast<index_t>(sizeof(T));
  static constexpr index_t height = 192;
  static constexpr index_t margin = 64;  // Eigen packs whole vectors of columns

  template <class T>
  struct blocking : Eigen::internal::level3_blocking<T, T> {
    blocking(eigen_products& p, index_t m, index_t n, index_t k) {
      this->m_mc = std::min(m, height);
      this->m_nc = n;
      this->m_kc = std::min(k, depth<T>);
      this->m_blockA = reinterpret_cast<T*>(p.left_.data());
      this->m_blockB = reinterpret_cast<T*>(p.right_.data());
    }
  };

  template <class T, int Order>
  void general(T* Y, index_t m, index_t n, index_t k, T alpha, const T* A, const T* B, index_t b_stride) {
    blocking<T> blocks(*this, m, n, k);
    Eigen::internal::general_matrix_matrix_product<index_t, T, Eigen::ColMajor, false, T, Order, false, Eigen::ColMajor,
                                                   1>::run(m, n, k, A, m, B, b_stride, Y, 1, m, alpha, blocks, nullptr);
  }

  template <class T, int Order>
  void lower(T* Y, index_t n, index_t k, T alpha, const T* A, const T* B, index_t b_stride) {
    blocking<T> blocks(*this, n, n, k);
    Eigen::internal::general_matrix_matrix_triangular_product<index_t, T, Eigen::ColMajor, false, T, Order, false,
                                                              Eigen::ColMajor, 1, Eigen::Lower>::run(n, k, A, n, B,
                                                                                                     b_stride, Y, 1, n,
                                                                                                     alpha, blocks);
  }

  host_memory left_, right_;
};

// Executor: what runs its threads, to be lent by a trainer that has threads of its own (cpu/executor.hpp).
template <std::floating_point Real, executor Executor = thread_pool>
using basic_eigen_backend = basic_host_backend<Real, mixed_algebra<eigen_products>, Executor>;

using eigen_backend = basic_eigen_backend<float>;     // weights float, bfloat16 or float16; state and iteration float
using eigen_backend64 = basic_eigen_backend<double>;  // weights of any type; state and iteration double

}  // namespace normuon

#endif
