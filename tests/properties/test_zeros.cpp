#include <doctest/doctest.h>

#include "support/random_cases.hpp"
#include "support/single_matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Every preset, and each without its epsilon and in bfloat16.
normuon_options any_options() {
  normuon_options o = any_preset();
  if (*rc::gen::arbitrary<bool>()) o.epsilon = 0;
  o.orthogonalizer.compute = *rc::gen::element(compute_type::automatic, compute_type::bfloat16);
  o.orthogonalizer.guard = *rc::gen::element(norm_guard::exact, norm_guard::as_published);
  return o;
}

// W - decay W, rounded once.
matrix decayed(const matrix& W, float decay) {
  return filled(W.rows, W.cols, [&](index_t i, index_t j) {
    const auto w = static_cast<float>(W(i, j));
    return static_cast<double>(std::fma(-decay, w, w));
  });
}

}  // namespace

TEST_CASE("a zero gradient from a zero state leaves weights as they are, or only decays them") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = any_options();
    o.weight_decay = *rc::gen::element(0.0, 0.1);
    const matrix W = c.random.gaussian(c.m, c.n), zero(c.m, c.n);
    const trained got = train<eigen_backend>(o, W, {zero, zero});
    const auto decay = static_cast<float>(o.learning_rate * o.weight_decay);
    RC_ASSERT(got.W == decayed(decayed(W, decay), decay));
    RC_ASSERT(got.M == zero);
    RC_ASSERT(got.v == std::vector<double>(got.v.size()));
  }));
}

TEST_CASE("a zero gradient without momentum halves a second moment of beta2 one half, and moves nothing") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = any_options();
    o.momentum = 0, o.beta2 = 0.5, o.weight_decay = 0;
    const matrix W = c.random.gaussian(c.m, c.n), G = c.random.gradient(c.m, c.n), zero(c.m, c.n);
    const trained before = train<eigen_backend>(o, W, {G}), after = train<eigen_backend>(o, W, {G, zero});
    RC_ASSERT(after.W == before.W);
    for (std::size_t i = 0; i < after.v.size(); ++i) RC_ASSERT(after.v[i] == before.v[i] / 2);
  }));
}

TEST_CASE("neurons and inputs that never see a gradient are never moved, bit for bit") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = any_options();
    o.weight_decay = 0;
    const index_t dead_row = *rc::gen::inRange<index_t>(0, c.m), dead_col = *rc::gen::inRange<index_t>(0, c.n);
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = each(any_history(c, 3), [&](const matrix& G) {
      return filled(c.m, c.n, [&](index_t i, index_t j) { return i == dead_row || j == dead_col ? 0 : G(i, j); });
    });
    const trained got = train<eigen_backend>(o, W, history);
    for (index_t j = 0; j < c.n; ++j) RC_ASSERT(got.W(dead_row, j) == W(dead_row, j));
    for (index_t i = 0; i < c.m; ++i) RC_ASSERT(got.W(i, dead_col) == W(i, dead_col));
    if (got.v.empty()) return;
    const bool by_rows = o.neuron_axis != neuron_axis::longer || c.m >= c.n;
    RC_ASSERT(got.v[static_cast<std::size_t>(by_rows ? dead_row : dead_col)] == 0);
  }));
}

TEST_CASE("matrices of any shape are taken by every preset, also those without an element") {
  random_source random(11);
  for (const shape& s : awkward_shapes)
    for (const normuon_options& o : matrix_presets()) {
      CAPTURE(s.m);
      CAPTURE(s.n);
      const trained got =
          train<eigen_backend>(o, matrix(s.m, s.n), {random.gradient(s.m, s.n), random.gradient(s.m, s.n)});
      const bool moved = std::all_of(got.W.values.begin(), got.W.values.end(), [](double w) { return w != 0; });
      CHECK(moved);
      CHECK(largest(got.W.values) < 1);
    }
}

TEST_CASE("AdamW leaves what has no gradient, also without an epsilon") {
  adamw_options o;
  o.epsilon = 0, o.weight_decay = 0;
  random_source random(12);
  const matrix W = random.gaussian(3, 4), zero(3, 4);
  const trained got = train<eigen_backend>(o, W, {zero, zero});
  CHECK(got.W == W);
  CHECK(got.M == zero);
  CHECK(got.v == zero.values);
}
