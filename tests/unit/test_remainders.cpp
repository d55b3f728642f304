// The iteration in bfloat16, number by number: what is rounded, what is kept of it, and when fewer restarts do.
#include <doctest/doctest.h>

#include "support/single_matrix.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("an iteration in bfloat16 rounds the input and every stored product once, and nothing else") {
  // By plain loops. Sums in another order differ by 2^-24 or so, which moves a rounding to eight bits hardly ever.
  const auto stored = [](const matrix& A) { return matrix_of(A.rows, A.cols, elements_of<bfloat16>(A)); };
  coefficient_table one = simple_12, two = simple_12;
  one.steps = 1, two.steps = 2;
  one.gram_restarts_fp32 = two.gram_restarts_fp32 = restart_steps{};
  const auto [a, b, c] = one.rows[0];
  random_source random(14);
  const matrix U = random.gaussian(5, 9), X = stored(scaled(1 / norm(U), U));
  const auto made = [&](const coefficient_table& table, iteration_form form) {
    return orthogonalized<eigen_backend>(U, {table, form, restart_steps{}, norm_guard::exact, compute_type::bfloat16});
  };
  const matrix A = stored(product(X, transposed(X)));
  const matrix F = stored(combined(b, A, c, product(A, A)));
  CHECK(made(one, iteration_form::plain) == stored(combined(1, product(F, X), a, X)));

  // The Gram form keeps what is taken from X X^T and what A becomes, and adds it again to the next.
  struct kept {
    matrix rounded, exact;
  };
  const auto mirrored = [](const matrix& S) {
    return filled(5, 5, [&](index_t i, index_t j) { return S(std::max(i, j), std::min(i, j)); });
  };
  const auto keep = [&](const matrix& S) {
    const matrix lower = mirrored(S), rounded = stored(lower);
    return kept{rounded, combined(1, rounded, 1, stored(combined(1, lower, -1, rounded)))};
  };
  const auto factor = [&, b = b, c = c](const kept& S) {
    return stored(combined(b, S.exact, c, product(S.rounded, S.rounded)));
  };
  const kept A0 = keep(product(X, transposed(X)));
  const matrix F0 = factor(A0), Q0 = stored(combined(1, F0, a, identity(5)));
  const kept Z = keep(combined(1, product(A0.rounded, F0), a, A0.exact));
  const kept A1 = keep(combined(1, product(Z.rounded, F0), a, Z.exact));
  const matrix Q1 = stored(mirrored(combined(1, product(Q0, factor(A1)), a, Q0)));
  CHECK(made(one, iteration_form::gram) == stored(combined(1, product(F0, X), a, X)));
  CHECK(made(two, iteration_form::gram) == stored(product(Q1, X)));
}

TEST_CASE("a backend with remainders does with fewer restarts, but for matrices that are concentrated") {
  const auto in_bfloat16 = [](const coefficient_table& table, std::optional<restart_steps> restarts = {}) {
    return decide<eigen_backend>({.table = table, .restarts = restarts, .compute = compute_type::bfloat16}, {}, 10,
                                 100);
  };
  CHECK(in_bfloat16(jordan).restarts == restart_steps{3});
  CHECK(in_bfloat16(jordan).careful_restarts == restart_steps{2, 4});
  CHECK(in_bfloat16(polar_express_dao).restarts == restart_steps{2, 3});
  CHECK(in_bfloat16(polar_express_dao).careful_restarts == restart_steps{1, 2, 3, 4});
  CHECK(in_bfloat16(you).restarts == restart_steps{2, 4});
  CHECK(in_bfloat16(you).careful_restarts == restart_steps{1, 2, 3, 4});
  for (const restart_steps& asked : {restart_steps{3}, restart_steps{1, 2}}) {  // what is asked for is not changed
    CHECK(in_bfloat16(jordan, asked).restarts == asked);
    CHECK(in_bfloat16(jordan, asked).careful_restarts == asked);
  }
  CHECK(decide<eigen_backend>({.table = jordan}, {}, 10, 100).careful_restarts.empty());

  // Four live rows are iterated with the careful restarts, many with the others.
  random_source random(15);
  const auto orthogonal = [](const matrix& U, std::optional<restart_steps> restarts) {
    return orthogonalized<eigen_backend>(U, {.restarts = restarts, .compute = compute_type::bfloat16});
  };
  const matrix many = random.gaussian(120, 200),
               few = filled(120, 200, [&](index_t i, index_t j) { return i < 4 ? many(i, j) : 0.0; });
  CHECK(orthogonal(many, {}) == orthogonal(many, restart_steps{3}));
  CHECK(orthogonal(many, {}) != orthogonal(many, restart_steps{2, 4}));
  CHECK(orthogonal(few, {}) == orthogonal(few, restart_steps{2, 4}));
  CHECK(orthogonal(few, {}) != orthogonal(few, restart_steps{3}));
  // So are many that are alike: here no row is long, but all together are.
  const matrix alike = combined(1, filled(120, 200, [](index_t, index_t) { return 1.0; }), 0.1, many);
  CHECK(orthogonal(alike, {}) == orthogonal(alike, restart_steps{2, 4}));
  CHECK(orthogonal(alike, {}) != orthogonal(alike, restart_steps{3}));
}
