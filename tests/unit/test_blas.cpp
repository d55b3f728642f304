#include <doctest/doctest.h>

#include <array>

#include "normuon/backends/blas.hpp"
#include "support/matrix.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr index_t too_long = (index_t(1) << 31) + 5;

template <class T>
std::vector<T> column_major_of(const matrix& A) {
  std::vector<T> elements;
  for (index_t j = 0; j < A.cols; ++j)
    for (index_t i = 0; i < A.rows; ++i) elements.push_back(static_cast<T>(A(i, j)));
  return elements;
}

// Small whole numbers: their products and sums are exact in every order.
matrix whole_numbers(random_source& random, index_t m, index_t n) {
  return filled(m, n, [&](index_t, index_t) { return static_cast<double>(random.whole(-8, 8)); });
}

}  // namespace

TEST_CASE_TEMPLATE("BLAS adds alpha A B, or alpha A B^T, to Y", T, float, double) {
  random_source random(1);
  blas_products products;
  for (const auto& sizes : {std::array<index_t, 3>{1, 1, 1}, {3, 70, 3}, {17, 5, 29}, {64, 65, 66}})
    for (const bool transpose : {false, true}) {
      const index_t m = sizes[0], n = sizes[1], k = sizes[2];
      CAPTURE(m);
      CAPTURE(transpose);
      const matrix A = whole_numbers(random, m, k), B = whole_numbers(random, k, n), Y = whole_numbers(random, m, n);
      std::vector<T> y = column_major_of<T>(Y);
      products.multiply(y.data(), m, n, k, T(2), column_major_of<T>(A).data(),
                        column_major_of<T>(transpose ? transposed(B) : B).data(), transpose);
      CHECK(y == column_major_of<T>(combined(1, Y, 2, product(A, B))));
    }
}

// Symmetric products: A A^T ('s'), which is BLAS's syrk, A B^T ('t'), and A A of an antisymmetric A ('n'), which is
// not A A^T. These two are cut into gemms.
TEST_CASE_TEMPLATE("BLAS adds the lower triangle of a product, and next to nothing above it", T, float, double) {
  random_source random(2);
  blas_products products;
  for (const index_t n : {1, 63, 64, 65, 130, 301})
    for (const char form : {'s', 't', 'n'}) {
      CAPTURE(n);
      CAPTURE(form);
      const index_t k = form == 'n' ? n : 37;
      matrix A = whole_numbers(random, n, k), B = A;
      if (form == 'n') A = B = combined(1, A, -1, transposed(A));
      if (form == 't') B = filled(n, k, [&](index_t i, index_t j) { return static_cast<double>(j % 5) * A(i, j); });
      const std::vector<T> a = column_major_of<T>(A), b = column_major_of<T>(B);
      const matrix product_of_them = product(A, form == 'n' ? B : transposed(B));
      const matrix Y = whole_numbers(random, n, n), expected = combined(1, Y, -2, product_of_them);
      std::vector<T> y = column_major_of<T>(Y);
      products.multiply_lower(y.data(), n, k, T(-2), a.data(), form == 't' ? b.data() : a.data(), form != 'n');
      index_t wrong = 0, above = 0;
      for (index_t j = 0; j < n; ++j)
        for (index_t i = 0; i < n; ++i) {
          const auto got = static_cast<double>(y[static_cast<std::size_t>(j * n + i)]);
          if (i >= j) wrong += got != expected(i, j);
          else above += got != Y(i, j);
        }
      CHECK(wrong == 0);
      CHECK(above <= n * 32);  // the upper halves of squares of at most 64 on the diagonal
    }
}

TEST_CASE("sizes that CBLAS can't count are refused by their number before anything is made or written") {
  blas_products products;
  float y = 1;
  const float a = 2, b = 3;
  const auto refused = [&](auto&& act) {
    return refusal_of(act).is(error_code::parameter, "2147483647", "2147483653") && y == 1;
  };
  CHECK(refused([&] { products.reserve<float>(too_long, 1); }));
  CHECK(refused([&] { products.reserve<double>(1, too_long); }));
  CHECK(refused([&] { products.multiply(&y, too_long, 1, 1, 1.0f, &a, &b, false); }));
  CHECK(refused([&] { products.multiply(&y, 1, too_long, 1, 1.0f, &a, &b, false); }));
  CHECK(refused([&] { products.multiply(&y, 1, 1, too_long, 1.0f, &a, &b, false); }));
  CHECK(refused([&] { products.multiply_lower(&y, too_long, 1, 1.0f, &a, &b, true); }));
  CHECK(refused([&] { products.multiply_lower(&y, 1, too_long, 1.0f, &a, &b, true); }));
}

TEST_CASE("a BLAS backend refuses an operand that is too long before there is memory for it") {
  blas_backend b({.threads = 1});
  blas_backend::operand X;
  constexpr index_t so_many_that_no_machine_has_them = index_t(1) << 20;
  for (const compute_type compute : {compute_type::float32, compute_type::bfloat16, compute_type::float64})
    CHECK(refusal_of([&] {
            b.resize(X, {so_many_that_no_machine_has_them, too_long, 1, compute});
          }).is(error_code::parameter, "2147483653"));
  CHECK(X.shape().rows == 0);
}
