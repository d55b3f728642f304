// The Eigen backend on one thread, with a trace of its products, of the memory that it makes and of the host's looks.
#ifndef NORMUON_TESTS_SUPPORT_TRACING_BACKEND_HPP
#define NORMUON_TESTS_SUPPORT_TRACING_BACKEND_HPP

#include <vector>

#include "normuon/backends/eigen.hpp"

namespace normuon::test {

enum class product_kind { general, gram, polynomial, symmetric };

// A product of rows x depth by depth x cols.
struct traced_product {
  product_kind kind;
  index_t rows, cols, depth;
  friend bool operator==(const traced_product&, const traced_product&) = default;
};

struct tracing_backend : eigen_backend {
  std::vector<traced_product> products;
  int allocations = 0, looks = 0;

  tracing_backend() : eigen_backend({.threads = 1}) {}

  memory allocate(std::size_t bytes) {
    ++allocations;
    return eigen_backend::allocate(bytes);
  }
  void read(void* to, const void* from, std::size_t bytes) {
    ++looks;
    eigen_backend::read(to, from, bytes);
  }
  void sync() { ++looks; }

  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    trace(product_kind::general, Y, A);
    eigen_backend::multiply(Y, alpha, A, B, transpose, beta, C);
  }
  void gram(operand& A, const operand& X) {
    trace(product_kind::gram, A, X);
    eigen_backend::gram(A, X);
  }
  void polynomial(operand& P, double y, double z, const operand& A) {
    trace(product_kind::polynomial, P, A);
    eigen_backend::polynomial(P, y, z, A);
  }
  void multiply_symmetric(operand& Y, const operand& A, const operand& B, double beta) {
    trace(product_kind::symmetric, Y, A);
    eigen_backend::multiply_symmetric(Y, A, B, beta);
  }

  int workers() const { return 1; }
  void for_each(index_t count, auto&& task) {
    for (index_t i = 0; i < count; ++i) task(*this, 0, i);
  }

 private:
  void trace(product_kind kind, const operand& Y, const operand& left) {
    products.push_back({kind, Y.shape().rows, Y.shape().cols, left.shape().cols});
  }
};

static_assert(tensor_backend<tracing_backend> && has_gram<tracing_backend> && has_workers<tracing_backend>);

}  // namespace normuon::test

#endif
