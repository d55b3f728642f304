#include <doctest/doctest.h>

#include "support/random_cases.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr int steps = 3;

double error_of(compute_type compute, const orthogonalizer_options& o, index_t s) {
  return iteration_tolerance(compute, o.table, o.form, s);
}

// Weights of equal runs whose products are rounded in another order. An update's error is that of the iteration,
// divided by the norm of a neuron in O, which in random matrices is rarely below a hundredth.
bool nearly_equal(const matrix& a, const matrix& b) {
  return distance(a, b) <=
         100 * error_of(compute_type::float64, {.table = polar_express_102}, 1) * steps * (1 + norm(b));
}

matrix mirrored_rows(const matrix& A, const std::vector<index_t>& order) {
  return filled(A.rows, A.cols,
                [&](index_t i, index_t j) { return order[static_cast<std::size_t>(i)] % 2 == 0 ? A(i, j) : -A(i, j); });
}

}  // namespace

TEST_CASE_TEMPLATE("scaling all gradients by a power of two scales the momentum and changes nothing else, bit for bit",
                   B, eigen_backend, eigen_backend64) {
  // As far as entries of a millionth of the typical size stay normal numbers.
  const auto [least, most] = std::is_same_v<B, eigen_backend> ? std::pair{-90, 110} : std::pair{-950, 1000};
  CHECK(rc::check([least = least, most = most] {
    random_case c = any_case();
    const normuon_options o = any_preset();
    const double factor = std::ldexp(1.0, *rc::gen::inRange(least, most + 1));
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, steps);
    const auto plain = train<B>(o, W, history);
    const auto scaled_run = train<B>(o, W, each(history, [&](const matrix& G) { return scaled(factor, G); }));
    RC_ASSERT(scaled_run.W == plain.W);
    RC_ASSERT(scaled_run.v == plain.v);
    RC_ASSERT(scaled_run.M == scaled(factor, plain.M));
  }));
}

TEST_CASE_TEMPLATE("turning all signs turns those of the weight and the momentum, bit for bit", B, eigen_backend,
                   eigen_backend64) {
  CHECK(rc::check([] {
    random_case c = any_case();
    const normuon_options o = any_preset();
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, steps);
    const auto plain = train<B>(o, W, history);
    const auto turned = train<B>(o, scaled(-1, W), each(history, [](const matrix& G) { return scaled(-1, G); }));
    RC_ASSERT(turned.W == scaled(-1, plain.W));
    RC_ASSERT(turned.M == scaled(-1, plain.M));
    RC_ASSERT(turned.v == plain.v);
  }));
}

TEST_CASE("turning the signs of some neurons turns theirs alone, bit for bit") {
  CHECK(rc::check([] {
    random_case c = any_case();
    const normuon_options o = any_preset();
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, steps);
    const std::vector<index_t> order = c.random.permutation(c.m);
    const auto mirror = [&](const matrix& A) { return mirrored_rows(A, order); };
    const auto plain = train<eigen_backend>(o, W, history);
    const auto turned = train<eigen_backend>(o, mirror(W), each(history, mirror));
    RC_ASSERT(turned.W == mirror(plain.W));
    RC_ASSERT(turned.v == plain.v);
  }));
}

TEST_CASE("permuting neurons permutes weights and second moments") {
  CHECK(rc::check([] {
    random_case c = any_case();
    const normuon_options o = any_preset();
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, steps);
    const std::vector<index_t> order = c.random.permutation(c.m);
    const auto permute = [&](const matrix& A) { return picked_rows(A, order); };
    const auto plain = train<eigen_backend64>(o, W, history);
    const auto permuted = train<eigen_backend64>(o, permute(W), each(history, permute));
    RC_ASSERT(nearly_equal(permuted.W, permute(plain.W)));
    RC_ASSERT(permuted.M == permute(plain.M));
    if (plain.v.empty()) return;
    const bool by_rows = o.neuron_axis != neuron_axis::longer || c.m >= c.n;
    const matrix v(static_cast<index_t>(plain.v.size()), 1, plain.v);
    RC_ASSERT(nearly_equal({v.rows, 1, permuted.v}, by_rows ? picked_rows(v, order) : v));
  }));
}

TEST_CASE("rotating the inputs rotates the updates and leaves second moments of rows") {
  CHECK(rc::check([] {
    random_case c = any_case();
    const normuon_options o = any_preset();
    if (o.decay == decay_form::cautious) return;  // looks at signs of entries
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, steps);
    const matrix Q = random_orthogonal(c.random, c.n);
    const auto rotate = [&](const matrix& A) { return product(A, Q); };
    const auto plain = train<eigen_backend64>(o, W, history);
    const auto rotated = train<eigen_backend64>(o, rotate(W), each(history, rotate));
    RC_ASSERT(nearly_equal(rotated.W, rotate(plain.W)));
    RC_ASSERT(nearly_equal({1, static_cast<index_t>(plain.v.size()), rotated.v},
                           {1, static_cast<index_t>(plain.v.size()), plain.v}));
  }));
}

TEST_CASE("the iteration commutes with rotations on both sides") {
  CHECK(rc::check([] {
    random_case c = any_case();
    const matrix U = c.random.gradient(c.m, c.n);
    const matrix P = random_orthogonal(c.random, c.m), Q = random_orthogonal(c.random, c.n);
    const matrix turned = orthogonalized<eigen_backend64>(product(product(P, U), Q), {});
    const matrix expected = product(product(P, orthogonalized<eigen_backend64>(U, {})), Q);
    // Two iterations, and before one of them the rounding of P U Q, sums of m and of n products.
    const double before = static_cast<double>(c.m + c.n) * tolerance<double>::u * slope_of(jordan);
    RC_ASSERT(distance(turned, expected) <= 2 * error_of(compute_type::float64, {}, c.m) + before);
  }));
}

TEST_CASE_TEMPLATE("the transpose of a matrix is orthogonalized to the transpose", B, eigen_backend, eigen_backend64) {
  CHECK(rc::check([] {
    random_case c = any_case();
    const orthogonalizer_options o{.table = polar_express_102};
    const matrix U = c.random.gradient(c.m, c.n);
    const matrix O = orthogonalized<B>(U, o), other = transposed(orthogonalized<B>(transposed(U), o));
    RC_ASSERT(distance(O, other) <= 2 * error_of(B::default_compute(), o, c.m));
    // Whole numbers, whose norm is exact in every order: the short side comes first either way, so the bits are the
    // same.
    if (c.m == c.n) return;
    const matrix whole =
        filled(c.m, c.n, [&](index_t, index_t) { return static_cast<double>(c.random.whole(-99, 99)); });
    RC_ASSERT(orthogonalized<B>(whole, o) == transposed(orthogonalized<B>(transposed(whole), o)));
  }));
}

TEST_CASE_TEMPLATE("padding with zeros gives zeros there, and what there was without it elsewhere", B, eigen_backend,
                   eigen_backend64) {
  CHECK(rc::check([] {
    random_case c = any_case();
    const index_t m = c.m + *rc::gen::inRange<index_t>(0, 9), n = c.n + *rc::gen::inRange<index_t>(0, 9);
    const auto form = *rc::gen::element(iteration_form::plain, iteration_form::gram);
    const orthogonalizer_options o{.table = you, .form = form};
    const matrix U = c.random.gradient(c.m, c.n);
    const matrix padded = filled(m, n, [&](index_t i, index_t j) { return i < c.m && j < c.n ? U(i, j) : 0; });
    const matrix O = orthogonalized<B>(U, o), got = orthogonalized<B>(padded, o);
    const matrix inside = filled(c.m, c.n, [&](index_t i, index_t j) { return got(i, j); });
    RC_ASSERT(distance(inside, O) <= 2 * error_of(B::default_compute(), o, c.m));
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) RC_ASSERT((i < c.m && j < c.n) || got(i, j) == 0);
  }));
}
