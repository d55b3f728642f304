// Laws of the two doors between a user's matrices and the operands of an iteration.
#ifndef NORMUON_TESTING_CONFORMANCE_DOOR_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_DOOR_LAWS_HPP

#include <limits>

#include "normuon/testing/conformance/operands.hpp"

namespace normuon::testing {

template <tensor_backend B>
void load_divides_by_the_norm(B& b) {
  constexpr norm_formula formulas[] = {{}, {1.02, 1e-3, 0}, {1, 0, 100}};
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    const norm_formula& formula = formulas[variant % 3];
    const auto [s, l] = std::minmax(e.rows, e.cols);
    device_matrices<B> U(b, types_taken<B>(), random_run(e, count, 1), variant);
    device_slots<B> norms(b, matrix(count, 1)), sound(b, matrix(count, 1));
    typename B::operand X;
    b.resize(X, {s, l, count, compute});
    b.load(X, U, formula, norms, {}, sound);
    const std::vector<matrix> x = contents(b, X, {s, l}, count);
    const matrix norm = norms.get();
    const precision p = precision_of<B>(compute);
    const double error = sum_error(s * l, state_roundoff<B>);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = frobenius_norm(U.given(i)), factor = inverse_norm(expected, 1, formula);
      CHECK(std::abs(norm(static_cast<index_t>(i), 0) - expected) <= error * expected);
      const matrix scaled = mapped(short_side_first(U.given(i)), [&](double u) { return factor * u; });
      CHECK_EQ(difference(x[i], scaled,
                          mapped(scaled, [&](double u) { return (error + p.stored) * std::abs(u) + p.least; })),
               "");
    }
    CHECK_EQ(difference(sound.get(), matrix(count, 1, 1)), "");
    CHECK(U.unchanged());
  });
}

// Nothing but one rounding to the iteration's type happens to a number that is multiplied by one: not two, by way of a
// float, which would take what lies just above the middle of two bfloat16 numbers for the middle.
template <tensor_backend B>
void load_rounds_once(B& b) {
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    const auto [s, l] = std::minmax(e.rows, e.cols);
    std::vector<matrix> u = random_run(e, count, 1);
    for (matrix& m : u)
      if (m.size() != 0) m(0, 0) = 1 + 0x1p-8 + 0x1p-40;
    const device_matrices<B> U(b, types_taken<B>(), u, variant);
    device_slots<B> norms(b, matrix(count, 1));
    typename B::operand X;
    b.resize(X, {s, l, count, compute});
    b.load(X, U, as_it_is, norms, {}, {});
    const std::vector<matrix> x = contents(b, X, {s, l}, count);
    const auto stored = [&](double entry) { return stored_in(compute, entry); };
    for (std::size_t i = 0; i < x.size(); ++i)
      CHECK_EQ(difference(x[i], mapped(short_side_first(U.given(i)), stored)), "");
  });
}

// The scale of U leaves no trace: not in a bit, from the smallest to the largest numbers.
template <tensor_backend B>
void load_is_free_of_scale(B& b) {
  using limits = std::numeric_limits<typename B::real>;
  const matrix u = random_matrix(17, 29, 1);
  for (const compute_type compute : types_computed<B>()) {
    CAPTURE(name_of(compute));
    const auto loaded = [&](double scale) {
      const device_matrices<B> U(b, state_type<B>, layout::rows, mapped(u, [&](double x) { return scale * x; }));
      device_slots<B> norms(b, matrix(1, 1)), sound(b, matrix(1, 1));
      typename B::operand X;
      b.resize(X, {17, 29, 1, compute});
      b.load(X, U, {}, norms, {}, sound);
      CHECK(sound.get()(0, 0) == 1);
      return contents(b, X, {17, 29}, 1)[0];
    };
    const matrix expected = loaded(1);
    CHECK_EQ(difference(loaded(std::ldexp(1.0, limits::max_exponent - 1)), expected), "");
    CHECK_EQ(difference(loaded(std::ldexp(1.0, limits::min_exponent + 21)), expected), "");
    CHECK_EQ(difference(loaded(0), matrix(17, 29)), "");
  }
}

// What a flag protects isn't read, and enters as zero; so does what isn't finite, unless there is no place to say so.
template <tensor_backend B>
void load_holds_back_what_is_not_sound(B& b) {
  for (const extent e : {extent{17, 29}, extent{29, 17}})
    for (const compute_type compute : types_computed<B>()) {
      std::vector<matrix> x = random_run(e, 4, 1);
      x[1](e.rows - 1, e.cols - 1) = std::numeric_limits<double>::quiet_NaN();
      x[3](3, 5) = -std::numeric_limits<double>::infinity();
      const device_matrices<B> U(b, types_taken<B>(), x);
      const device_slots<B> ok(b, column({1, 1, 0, 1}));
      device_slots<B> norms(b, column({-1, -1, -1, -1})), sound(b, column({1, 1, 1, 1}));
      typename B::operand X = operand_of(b, std::vector<matrix>(4, matrix(17, 29, 5)), compute);
      b.load(X, U.without(2), {}, norms, ok, sound);
      CHECK_EQ(difference(sound.get(), column({1, 0, 0, 0})), "");
      const std::vector<matrix> held = contents(b, X, {17, 29}, 4);
      CHECK(frobenius_norm(held[0]) > 0.9);
      for (const std::size_t i : {1u, 2u, 3u}) CHECK_EQ(difference(held[i], matrix(17, 29)), "");
      const matrix norm = norms.get();
      CHECK((norm(0, 0) > 0 && !is_finite(norm(1, 0)) && norm(2, 0) == -1 && !is_finite(norm(3, 0))));
      b.load(X, U.without(2), {}, norms, ok, {});
      const std::vector<matrix> let_through = contents(b, X, {17, 29}, 4);
      CHECK(std::isnan(short_side_first(let_through[1])(16, 28)));
      CHECK_EQ(difference(let_through[2], matrix(17, 29)), "");
    }
}

// D is rounded to its own type: exactly where the factor is a power of two, within the product's rounding elsewhere.
template <tensor_backend B>
void store_scaled_multiplies_neurons(B& b) {
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    const auto [s, l] = std::minmax(e.rows, e.cols);
    std::vector<matrix> x = random_run({s, l}, count, 1);
    for (matrix& m : x)
      m = mapped(m, [](double entry) { return entry + std::copysign(0.25, entry); });  // none subnormal
    const typename B::operand X = operand_of(b, x, compute);
    const std::vector<matrix> held = contents(b, X, {s, l}, count);
    for (const side neurons : sides)
      for (const bool exact : {true, false}) {
        const index_t lines = neurons == side::rows ? s : l;
        matrix factors(count, lines);
        for (std::size_t k = 0; k < factors.values.size(); ++k)
          factors.values[k] = exact ? (k % 5 == 0 ? 0 : std::ldexp(1.0, static_cast<int>(k % 3) - 1))
                                    : static_cast<double>(static_cast<float>(0.6 + 0.01 * static_cast<double>(k % 70)));
        device_vectors<B, typename B::real> f(b, factors);
        device_matrices<B> D(b, types_taken<B>(), random_run(e, count, 2), variant);
        b.store_scaled(D, f, X, neurons, {});
        for (std::size_t i = 0; i < D.count(); ++i) {
          matrix d = held[i];
          for (index_t row = 0; row < s; ++row)
            for (index_t col = 0; col < l; ++col)
              d(row, col) *= factors(static_cast<index_t>(i), neurons == side::rows ? row : col);
          if (e.rows > e.cols) d = transposed(d);
          const auto own = [&](double entry) { return rounded_to(D.type(i), entry); };
          if (exact) CHECK_EQ(difference(D.get(i), mapped(d, own)), "");
          else CHECK_EQ(difference(D.get(i), d, 1.01 * (roundoff_of(D.type(i)) + 2 * state_roundoff<B>)), "");
        }
        CHECK_EQ(difference(f.get(), factors), "");
      }
  });
  const typename B::operand X = operand_of(b, random_run({17, 29}, 3, 1), B::default_compute());
  device_matrices<B> D(b, types_taken<B>(), random_run({29, 17}, 3, 2));
  device_vectors<B, typename B::real> f(b, matrix(3, 29, 0.5));
  const device_slots<B> ok(b, column({1, 0, 1}));
  std::vector<typename B::real*> factors = {f[0], nullptr, f[2]};
  b.store_scaled(D, {factors, 29}, X, side::cols, ok);
  CHECK(D.unchanged(1));
  CHECK_FALSE((D.unchanged(0) || D.unchanged(2)));
}

}  // namespace normuon::testing

#endif
