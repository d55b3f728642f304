// Laws of what is done element by element: the check of gradients, blends, momentum and the step. They follow from
// formulas with stated rounding, so results are compared bit for bit.
#ifndef NORMUON_TESTING_CONFORMANCE_ELEMENT_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_ELEMENT_LAWS_HPP

#include <limits>

#include "normuon/testing/conformance/device_memory.hpp"

namespace normuon::testing {

inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

inline constexpr decay_form decay_forms[] = {decay_form::decoupled, decay_form::cautious};
inline constexpr write_form write_forms[] = {write_form::weight, write_form::change};

// f(entry of x, entry of y, ...) for all entries, each as a real, rounded to `type`.
template <class Real, class F, class... Matrices>
matrix by_formula(element_type type, F&& f, const matrix& x, const Matrices&... more) {
  matrix result = x;
  for (std::size_t k = 0; k < x.values.size(); ++k)
    result.values[k] =
        rounded_to(type, static_cast<double>(f(static_cast<Real>(x.values[k]), static_cast<Real>(more.values[k])...)));
  return result;
}

// A NaN or an infinity at every place of small matrices, at every 61st of others, and at the last.
template <tensor_backend B>
void all_finite_finds_what_is_not(B& b) {
  constexpr double odd_ones[] = {nan, infinity, -infinity};
  const device_slots<B> scale(b, column({1}));
  for_each_awkward_run<B>([&](extent e, index_t, int variant) {
    matrix x = random_matrix(e.rows, e.cols, 1);
    device_matrices<B> G(b, types_taken<B>(), {x}, variant);
    device_slots<B> ok(b, column({1}));
    b.all_finite(ok, G, scale[0]);
    CHECK_EQ(difference(ok.get(), column({1})), "");
    CHECK(G.unchanged());
    const std::size_t step = x.values.size() > 600 ? 61 : 1;
    index_t missed = 0;
    for (std::size_t place = 0; place < x.values.size(); place += step) {
      if (place + step >= x.values.size()) place = x.values.size() - 1;
      matrix odd = x;
      odd.values[place] = odd_ones[place % 3];
      G.set(0, odd);
      ok.set(column({1}));
      b.all_finite(ok, G, scale[0]);
      if (ok.get()(0, 0) != 0) ++missed;
    }
    CHECK(missed == 0);
  });
}

// The largest numbers are finite; what the scale makes too large is not. Signs and zeros don't matter.
template <tensor_backend B>
void all_finite_looks_at_scaled_numbers(B& b) {
  const double half = static_cast<double>(std::numeric_limits<typename B::real>::max()) / 2;
  const device_slots<B> scale(b, column({1, half, 0}));
  const auto verdict = [&](device_matrices<B>& G, number s) {
    device_slots<B> ok(b, column({1}));
    b.all_finite(ok, G, s);
    return ok.get()(0, 0);
  };
  for (const element_type type : types_taken<B>()) {
    CAPTURE(name_of(type));
    matrix x = random_matrix(17, 29, 1);
    device_matrices<B> G(b, type, layout::spread, x);
    CHECK(verdict(G, scale[1]) == 1);
    x(11, 13) = -4;
    G.set(0, x);
    CHECK(verdict(G, scale[0]) == 1);
    CHECK(verdict(G, scale[1]) == 0);
    CHECK(verdict(G, scale[2]) == 1);
    x(11, 13) = nan;
    G.set(0, x);
    CHECK(verdict(G, scale[2]) == 0);
  }
}

// A flag may belong to several matrices of a run, and what a 0 protects may be absent. Shapes may differ.
template <tensor_backend B>
void all_finite_clears_flags_and_never_sets_them(B& b) {
  std::vector<matrix> x = random_run({5, 7}, 5, 1);
  x[1](4, 6) = nan;  // between two that are finite
  const device_matrices<B> G(b, types_taken<B>(), x);
  const device_slots<B> scale(b, column({1}));
  device_slots<B> ok(b, column({1, 1, 0}));
  const std::vector<slot> shared = {ok[0], ok[0], ok[0], ok[1], ok[2]};
  b.all_finite(shared, G.without(4), scale[0]);
  CHECK_EQ(difference(ok.get(), column({0, 1, 0})), "");
  const std::vector<slot> one = {ok[2]};
  b.all_finite(one, views(G).first(1), scale[0]);
  CHECK_EQ(difference(ok.get(), column({0, 1, 0})), "");
  x = {random_matrix(3, 301, 2), random_matrix(1, 1, 3), random_matrix(70, 64, 4)};
  for (std::size_t odd = 0; odd < 3; ++odd) {
    std::vector<matrix> y = x;
    y[odd].values.back() = infinity;
    const device_matrices<B> mixed(b, types_taken<B>(), y);
    matrix expected = column({1, 1, 1});
    ok.set(expected);
    b.all_finite(ok, mixed, scale[0]);
    expected.values[odd] = 0;
    CHECK_EQ(difference(ok.get(), expected), "");
  }
}

// Every pair of zero, one and other numbers; an input that is multiplied by zero is full of NaN.
template <tensor_backend B>
void blend_is_the_formula(B& b) {
  using real = typename B::real;
  constexpr double pairs[][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0.9, 0.1}, {-2.5, 0}, {0, 0.3}};
  for_each_awkward_run<B>([&](extent e, index_t count, int variant) {
    for (const auto& pair : pairs) {
      const double x = pair[0], y = pair[1];
      CAPTURE(x);
      CAPTURE(y);
      const auto input = [&](double coefficient, int seed, int shift) {
        std::vector<matrix> run = random_run(e, count, seed);
        if (coefficient == 0)
          for (matrix& m : run) m = matrix(e.rows, e.cols, nan);
        return device_matrices<B>(b, types_taken<B>(), run, variant + shift);
      };
      device_matrices<B> A = input(x, 1, 1), C = input(y, 2, 2), out = input(1, 3, 0);
      const device_slots<B> k(b, column({x, y}));
      const auto formula = [&](real a, real c) { return blend(static_cast<real>(x), a, static_cast<real>(y), c); };
      b.blend(out, k[0], A, k[1], C, {});
      for (std::size_t i = 0; i < out.count(); ++i)
        CHECK_EQ(difference(out.get(i), by_formula<real>(out.type(i), formula, A.given(i), C.given(i))), "");
      CHECK(A.unchanged());
      CHECK(C.unchanged());
      b.blend(A, k[0], A, k[1], C, {});  // out is an input
      for (std::size_t i = 0; i < out.count(); ++i)
        CHECK_EQ(difference(A.get(i), by_formula<real>(A.type(i), formula, A.given(i), C.given(i))), "");
      A.set(0, A.given(0));
      b.blend(views(C).first(1), k[0], views(A).first(1), k[1], views(C).first(1), {});
      CHECK_EQ(difference(C.get(0), by_formula<real>(C.type(0), formula, A.given(0), C.given(0))), "");
    }
  });
}

template <tensor_backend B>
void blend_leaves_alone_what_a_flag_protects(B& b) {
  device_matrices<B> out(b, types_taken<B>(), random_run({17, 29}, 3, 1)),
      A(b, types_taken<B>(), random_run({17, 29}, 3, 2));
  const device_slots<B> k(b, column({0.5, 0.25})), ok(b, column({1, 0, 1}));
  b.blend(out, k[0], A.without(1), k[1], A.without(1), ok);
  CHECK(out.unchanged(1));
  CHECK_FALSE(out.unchanged(0));
  CHECK_FALSE(out.unchanged(2));
  b.blend(out.without(1), k[0], A.without(1), k[1], A.without(1), ok);
}

template <tensor_backend B>
void fused_momentum_has_the_bits_of_two_blends(B& b) {
  constexpr double pairs[][2] = {{0.95, 0.05}, {0.95, 1}, {0, 1}, {0.95, 0}, {0, 0}};
  const std::vector<element_type> state = {state_type<B>};
  for_each_awkward_run<B>([&](extent e, index_t count, int variant) {
    for (const auto& [keep, take] : pairs) {
      const device_matrices<B> G(b, types_taken<B>(), random_run(e, count, 1), variant);
      device_matrices<B> M(b, state, random_run(e, count, 2), variant + 1),
          U(b, state, random_run(e, count, 3), variant);
      device_matrices<B> M2(b, state, random_run(e, count, 2)), U2(b, state, random_run(e, count, 3));
      const device_slots<B> k(b, column({keep, take})), flags(b, matrix(count, 1, 1));
      momentum(b, M, U, G, k[0], k[1], flags);
      b.blend(M2, k[1], G, k[0], M2, flags);
      b.blend(U2, k[1], G, k[0], M2, flags);
      for (std::size_t i = 0; i < M.count(); ++i) {
        CHECK_EQ(difference(M.get(i), M2.get(i)), "");
        CHECK_EQ(difference(U.get(i), U2.get(i)), "");
      }
    }
  });
  device_matrices<B> M(b, state, random_run({17, 29}, 3, 1)), U(b, state, random_run({17, 29}, 3, 2));
  const device_matrices<B> G(b, types_taken<B>(), random_run({17, 29}, 3, 3));
  const device_slots<B> k(b, column({0.95, 0.05})), ok(b, column({0, 1, 0}));
  momentum(b, M, U, G.without(0), k[0], k[1], ok);
  CHECK((M.unchanged(0) && U.unchanged(0) && M.unchanged(2) && U.unchanged(2)));
  CHECK_FALSE(M.unchanged(1));
}

// Steps in place and into a buffer for the change, of another type and layout.
template <tensor_backend B>
void apply_is_the_formula(B& b) {
  using real = typename B::real;
  constexpr double rate = 0.02, decay = 0.002;
  const device_slots<B> k(b, column({rate, decay}));
  for_each_awkward_run<B>([&](extent e, index_t count, int variant) {
    for (const decay_form form : decay_forms)
      for (const write_form write : write_forms) {
        const update_formula formula{form, write};
        device_matrices<B> W(b, types_taken<B>(), random_run(e, count, 1), variant);
        device_matrices<B> change(b, types_taken<B>(), random_run(e, count, 2), variant + 3);
        device_matrices<B> D(b, {state_type<B>}, random_run(e, count, 3), variant + 2);
        device_matrices<B>& out = write == write_form::weight ? W : change;
        b.apply(out, W, D, k[0], k[1], formula, {});
        for (std::size_t i = 0; i < out.count(); ++i)
          CHECK_EQ(difference(out.get(i), by_formula<real>(
                                              out.type(i),
                                              [&](real w, real d) {
                                                return updated(w, d, static_cast<real>(rate), static_cast<real>(decay),
                                                               formula);
                                              },
                                              W.given(i), D.given(i))),
                   "");
        CHECK(D.unchanged());
        if (write == write_form::change) CHECK(W.unchanged());
      }
  });
}

template <tensor_backend B>
void apply_changes_nothing_where_a_flag_protects(B& b) {
  device_matrices<B> W(b, types_taken<B>(), random_run({17, 29}, 3, 1)),
      D(b, {state_type<B>}, random_run({17, 29}, 3, 2));
  device_matrices<B> change(b, types_taken<B>(), random_run({17, 29}, 3, 3), 1);
  const device_slots<B> k(b, column({0.02, 0.002})), ok(b, column({1, 0, 1}));
  b.apply(change, W.without(1), D.without(1), k[0], k[1], {.write = write_form::change}, ok);
  CHECK(W.unchanged());
  CHECK_FALSE(change.unchanged(0));
  CHECK_EQ(difference(change.get(1), matrix(17, 29)), "");
  b.apply(W, W, D.without(1), k[0], k[1], {}, ok);
  CHECK(W.unchanged(1));
  CHECK_FALSE(W.unchanged(2));
}

}  // namespace normuon::testing

#endif
