#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include "normuon/backends/cpu/host_backend.hpp"
#include "normuon/backends/cpu/packed_operand.hpp"
#include "support/emulated_amx.hpp"
#include "support/matrix.hpp"
#include "support/packed.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

double sum_of(const matrix& A) {
  return std::accumulate(A.values.begin(), A.values.end(), 0.0, [](double s, double x) { return s + std::abs(x); });
}

// What |L| |R| is multiplied by: sums of k products in fp32, and one rounding of the result to the type of the cells.
template <class K>
double bound(index_t k) {
  const double stored = K::depth == 2 ? tolerance<bfloat16>::u : tolerance<float>::u;
  return static_cast<double>(k + 4) * tolerance<float>::u + stored;
}

void check_within(double bound, const matrix& got, const matrix& expected, const matrix& magnitude) {
  for (index_t i = 0; i < got.rows; ++i)
    for (index_t j = 0; j < got.cols; ++j)
      if (!(std::abs(got(i, j) - expected(i, j)) <= bound * magnitude(i, j) + 1e-30)) {
        FAIL_CHECK("at (" << i << ", " << j << ") expected " << expected(i, j) << ", got " << got(i, j));
        return;
      }
}

template <class K>
void check_near(const matrix& got, const matrix& expected, const matrix& magnitude, index_t k) {
  check_within(bound<K>(k), got, expected, magnitude);
}

matrix magnitudes(const matrix& A) {
  return filled(A.rows, A.cols, [&](index_t i, index_t j) { return std::abs(A(i, j)); });
}

// Sizes around a tile and a block of every kernel.
constexpr index_t sizes[] = {1, 3, 8, 15, 17, 24, 33, 48, 49, 97, 200};

template <class K>
bool runs() {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<K, avx2_tile>) return this_processor().runs(cpu_path::avx2);
  if constexpr (std::is_same_v<K, avx512_tile>) return this_processor().runs(cpu_path::avx512);
  if constexpr (std::is_same_v<K, avx512_bf16_tile>) return this_processor().runs(cpu_path::avx512_bf16);
  if constexpr (std::is_same_v<K, emulated_amx_tile>)  // the rest of its kernel is not emulated
    return this_processor().runs(cpu_path::avx512_bf16) && __builtin_cpu_supports("avx512bw");
  if constexpr (std::is_same_v<K, amx_tile<amx_instructions>>) return this_processor().runs(cpu_path::amx);
#endif
  return true;
}

}  // namespace

#if defined(__x86_64__)
TYPE_TO_STRING(avx2_tile);
TYPE_TO_STRING(avx512_tile);
TYPE_TO_STRING(avx512_bf16_tile);
TYPE_TO_STRING(emulated_amx_tile);
TYPE_TO_STRING(amx_tile<amx_instructions>);
#define KERNELS portable_tile, avx2_tile, avx512_tile, avx512_bf16_tile, emulated_amx_tile, amx_tile<amx_instructions>
#else
#define KERNELS portable_tile
#endif

TEST_CASE_TEMPLATE("what is stored is found in both forms, with zeros around it", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(1);
  for (const index_t m : sizes)
    for (const index_t n : {index_t(1), index_t(50), index_t(250)}) {
      const matrix A = random.gaussian(m, n);
      const packed<K> P(A);
      CHECK(P.right() == P.numbers());
      CHECK(P.across() == P.numbers());
      check_near<K>(P.right(), A, magnitudes(A), 0);
      CHECK(P.sum() == sum_of(P.right()));
    }
}

TEST_CASE_TEMPLATE("a packed product is that of plain loops, finished and rounded once", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(2);
  lanes<thread_pool> alone;
  for (const index_t m : sizes)
    for (const index_t n : sizes) {
      const index_t k = sizes[static_cast<std::size_t>(m + n) % std::size(sizes)];
      CAPTURE(m);
      CAPTURE(n);
      CAPTURE(k);
      const packed<K> A(random.gaussian(m, k)), B(random.gaussian(k, n)), C(random.gaussian(m, n));
      packed<K> Y(m, n);
      packed_product<K>(alone, Y.all, A.all, B.all, {.alpha = 2, .beta = -3, .C = &C.all});
      CHECK(Y.right() == Y.across());
      check_near<K>(Y.right(), combined(2, product(A.right(), B.right()), -3, C.right()),
                    combined(2, product(magnitudes(A.right()), magnitudes(B.right())), 3, magnitudes(C.right())), k);
      CHECK(Y.sum() == sum_of(Y.right()));
    }
}

TEST_CASE_TEMPLATE("a packed symmetric product is mirrored exactly", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(3);
  lanes<thread_pool> alone;
  for (const index_t m : sizes)
    for (const index_t k : {index_t(2), index_t(65)}) {
      CAPTURE(m);
      CAPTURE(k);
      const packed<K> X(random.gaussian(m, k));
      packed<K> Y = packed<K>::symmetric(m);
      packed_symmetric_product<K>(alone, Y.all, X.all, X.all.transposed(), {});
      CHECK(Y.right() == transposed(Y.right()));
      const matrix x = magnitudes(X.right());
      check_near<K>(Y.right(), product(X.right(), transposed(X.right())), product(x, transposed(x)), k);
      CHECK(Y.sum() == sum_of(Y.right()));
    }
}

TEST_CASE_TEMPLATE("what rounding to bfloat16 takes from a symmetric result is kept, and added to the next", K,
                   KERNELS) {
  if (!runs<K>()) return;
  random_source random(7);
  lanes<thread_pool> alone;
  for (const index_t m : sizes) {
    CAPTURE(m);
    const packed<K> X(random.gaussian(m, 20));
    const matrix x = X.right(), square = product(x, transposed(x));
    const matrix magnitude = product(magnitudes(x), transposed(magnitudes(x)));
    packed<K> A = packed<K>::with_remainder(m), B = packed<K>::with_remainder(m);
    packed_symmetric_product<K>(alone, A.all, X.all, X.all.transposed(), {});
    const matrix a = A.right();
    CHECK(a == filled(m, m, [&](index_t i, index_t j) { return static_cast<double>(bfloat16(a(i, j))); }));
    CHECK(a == transposed(a));
    // Two numbers of eight bits hold sixteen; sums are of 20 products in fp32.
    const double held = 24 * tolerance<float>::u + tolerance<bfloat16>::u * tolerance<bfloat16>::u;
    check_within(held, A.exact(), square, magnitude);
    packed_symmetric_product<K>(alone, B.all, X.all, X.all.transposed(), {.beta = 3, .C = &A.all});
    check_within(held, B.exact(), combined(1, square, 3, A.exact()), scaled(4, magnitude));
  }
}

TEST_CASE_TEMPLATE("every form of a packed result is fit for the next product", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(6);
  lanes<thread_pool> alone;
  const auto times = [&](const packed<K>& A, const packed<K>& B) {
    packed<K> Y(A.shape.rows, B.shape.cols);
    packed_product<K>(alone, Y.all, A.all, B.all, {});
    return Y;
  };
  const packed<K> A(random.gaussian(70, 50)), B(random.gaussian(50, 40)), C(random.gaussian(40, 30));
  const packed<K> AB = times(A, B), ABC = times(AB, C);
  check_near<K>(ABC.right(), product(AB.right(), C.right()), product(magnitudes(AB.right()), magnitudes(C.right())),
                40);
  packed<K> S = packed<K>::symmetric(70);
  packed_symmetric_product<K>(alone, S.all, A.all, A.all.transposed(), {});
  const packed<K> SA = times(S, A);
  check_near<K>(SA.right(), product(S.right(), A.right()), product(magnitudes(S.right()), magnitudes(A.right())), 70);

  packed<K> T(50, 70);  // A^T by its transposed view, as a tall matrix enters
  store<K>(T.all.transposed(), A.right());
  CHECK(T.right() == transposed(A.right()));
  CHECK(T.across() == T.right());
  const packed<K> TA = times(T, A);
  check_near<K>(TA.right(), product(T.right(), A.right()), product(magnitudes(T.right()), magnitudes(A.right())), 70);
}

// The same kernel, which sums products in as many parts as there can be, or in one.
template <class K>
struct in_parts : K {
  static constexpr index_t cells_at_once() { return cells_of_part; }
};
template <class K>
struct in_one_part : K {
  static constexpr index_t cells_at_once() { return 256; }
};

TEST_CASE_TEMPLATE("a product that is summed in parts has the same bits", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(8);
  lanes<thread_pool> alone;
  const matrix a = random.gaussian(130, 70), b = random.gaussian(70, 60), c = random.gaussian(130, 60);
  const auto made = [&]<class Kernel> {
    const packed<Kernel> A(a), B(b), C(c);
    packed<Kernel> Y(a.rows, b.cols), S = packed<Kernel>::with_remainder(a.rows);
    packed_product<Kernel>(alone, Y.all, A.all, B.all, {.alpha = 2, .beta = -3, .C = &C.all});
    packed_symmetric_product<Kernel>(alone, S.all, A.all, A.all.transposed(), {});
    return std::pair(Y.numbers(), S.exact());
  };
  CHECK(made.template operator()<in_parts<K>>() == made.template operator()<in_one_part<K>>());
  CHECK(made.template operator()<K>() == made.template operator()<in_one_part<K>>());
}

TEST_CASE_TEMPLATE("a product of several tasks, summed in parts, is that of plain loops", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(9);
  lanes<thread_pool> alone;
  using in_many = in_parts<K>;
  const index_t m = most_rows_of_task + 50, k = 600;
  const packed<in_many> A(random.gaussian(m, k)), B(random.gaussian(k, 50));
  packed<in_many> Y(m, 50), S = packed<in_many>::symmetric(m);
  packed_product<in_many>(alone, Y.all, A.all, B.all, {});
  packed_symmetric_product<in_many>(alone, S.all, A.all, A.all.transposed(), {});
  const matrix x = A.numbers(), magnitude = magnitudes(x);
  check_near<K>(Y.numbers(), product(x, B.numbers()), product(magnitude, magnitudes(B.numbers())), k);
  check_near<K>(S.numbers(), product(x, transposed(x)), product(magnitude, transposed(magnitude)), k);
}

TEST_CASE_TEMPLATE("a product without numbers is none", K, KERNELS) {
  if (!runs<K>()) return;
  lanes<thread_pool> alone;
  const packed<K> A(0, 0);
  packed_product<K>(alone, A.all, A.all, A.all, {});
  packed_symmetric_product<K>(alone, A.all, A.all, A.all, {});
  CHECK(A.sum() == 0);
}

TEST_CASE_TEMPLATE("a packed product has the same bits on any number of lanes", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(4);
  const packed<K> A(random.gaussian(450, 70)), B(random.gaussian(70, 130));
  const auto made = [&](int threads) {
    thread_pool pool(threads);
    lanes<thread_pool> several{&pool};
    packed<K> Y(450, 130), S = packed<K>::symmetric(450);
    packed_product<K>(several, Y.all, A.all, B.all, {});
    packed_symmetric_product<K>(several, S.all, A.all, A.all.transposed(), {});
    return std::pair(Y.right(), S.right());
  };
  const auto one = made(1);
  for (const int threads : {2, 3, 8}) CHECK(made(threads) == one);
}

TEST_CASE_TEMPLATE("a zero factor ignores what it multiplies", K, KERNELS) {
  if (!runs<K>()) return;
  random_source random(5);
  lanes<thread_pool> alone;
  const packed<K> A(random.gaussian(9, 20)), B(random.gaussian(20, 30));
  packed<K> C(9, 30), Y(9, 30), Z(9, 30);
  std::memset(C.cells.data(), 0xff, C.cells.size() * sizeof(typename K::cell));  // NaN
  packed_product<K>(alone, Y.all, A.all, B.all, {.beta = 0, .C = &C.all});
  packed_product<K>(alone, Z.all, A.all, B.all, {});
  CHECK(Y.right() == Z.right());
}
