// Laws of neurons: their mean squares, the factors that bring them to one scale, and the step along what is scaled.
#ifndef NORMUON_TESTING_CONFORMANCE_NEURON_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_NEURON_LAWS_HPP

#include <limits>

#include "normuon/testing/conformance/operands.hpp"

namespace normuon::testing {

// Lines of one number of so few bits that no sum of its squares is rounded have that square; other lines the mean of
// theirs.
template <tensor_backend B>
void mean_squares_are_exact_for_constant_lines(B& b) {
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int) {
    const auto [s, l] = std::minmax(e.rows, e.cols);
    for (const side neurons : sides) {
      const index_t lines = neurons == side::rows ? s : l, length = s + l - lines;
      const auto squares = [&](const std::vector<matrix>& x) {
        device_vectors<B, typename B::real> r(b, matrix(count, lines, -1));
        b.mean_squares(r, operand_of(b, x, compute), neurons);
        return r.get();
      };
      std::vector<matrix> x = random_run({s, l}, count, 1);
      const std::vector<matrix> held = contents(b, operand_of(b, x, compute), {s, l}, count);
      const matrix found = squares(x);
      matrix expected(count, lines), exact(count, lines);
      for (index_t i = 0; i < count; ++i)
        for (index_t row = 0; row < s; ++row)
          for (index_t col = 0; col < l; ++col) {
            const index_t line = neurons == side::rows ? row : col;
            const auto k = static_cast<std::size_t>(i);
            expected(i, line) += held[k](row, col) * held[k](row, col) / static_cast<double>(length);
            x[k](row, col) = std::ldexp((row + col) % 2 == 0 ? 0.75 : -0.75, static_cast<int>(line % 7) - 3);
            exact(i, line) = x[k](row, col) * x[k](row, col);
          }
      const double unit = std::max(state_roundoff<B>, precision_of<B>(compute).sum);
      CHECK_EQ(difference(found, expected, sum_error(length, unit)), "");
      CHECK_EQ(difference(squares(x), exact), "");
    }
  });
  // Divided, not multiplied by a reciprocal: 49 (1/49) is not 1 in double, and 61 (1/61) of 0.75^2 not that in float.
  for (const index_t length : {49, 61})
    for (const double x : {1.0, 0.75}) {
      device_vectors<B, typename B::real> r(b, matrix(1, 2));
      b.mean_squares(r, operand_of(b, {matrix(2, length, x)}, B::default_compute()), side::rows);
      CHECK_EQ(difference(r.get(), matrix(1, 2, x * x)), "");
    }
}

// v, f and r of one matrix, as loops over the formulas in double.
struct neurons_in_double {
  matrix v, f;

  neurons_in_double(const matrix& old_v, const matrix& r, double beta2, const factor_formula& formula, double most)
      : v(old_v), f(r) {
    const bool has_v = formula.axis != neuron_axis::none;
    const auto length = static_cast<double>(formula.axis == neuron_axis::columns ? formula.rows : formula.cols);
    double norm_o = 0, norm_n = 0;
    for (std::size_t k = 0; k < r.values.size(); ++k) {
      if (has_v) v.values[k] = second_moment(v.values[k], r.values[k], beta2);
      f.values[k] = has_v ? inverse_deviation(v.values[k], formula.epsilon, formula.form) : 1;
      norm_o += length * r.values[k];
      norm_n += length * r.values[k] * f.values[k] * f.values[k];
    }
    const double scale = scale_of_update(formula, std::sqrt(norm_o), std::sqrt(norm_n));
    f = mapped(f, [&](double d) { return std::min(scale * d, most); });
  }
};

// All axes, scales and forms of epsilon, with neurons of nothing among the others and with nothing but such.
template <tensor_backend B>
void factors_are_the_formulas(B& b) {
  using real = typename B::real;
  constexpr double beta2 = 0.75;
  const device_slots<B> slot_of_beta2(b, column({beta2}));
  std::vector<factor_formula> formulas;
  for (const auto axis : {neuron_axis::rows, neuron_axis::columns, neuron_axis::none})
    for (int scale = 0; scale <= static_cast<int>(update_scale::match_adamw_rms); ++scale)
      for (const auto form : {epsilon_form::after_root, epsilon_form::floor})
        for (const double epsilon : {0.0, 1e-3})
          for (const double guard : {0.0, 10.0})
            formulas.push_back({axis, epsilon, form, static_cast<update_scale>(scale), guard / 16, guard});
  for (const extent e : {extent{1, 1}, extent{17, 29}, extent{29, 17}, extent{64, 64}})
    for (factor_formula formula : formulas)
      for (const bool nothing : {false, true}) {
        formula.rows = e.rows, formula.cols = e.cols;
        const index_t neurons = formula.axis == neuron_axis::columns ? e.cols : e.rows;
        const auto squares = [&](int seed) {  // as reals hold them
          const double most = nothing ? 0 : 1;
          return mapped(random_matrix(2, neurons, static_cast<std::uint64_t>(seed)), [&](double x) {
            return std::abs(x) < 0.1 ? 0 : static_cast<double>(static_cast<real>(most * x * x));
          });
        };
        const bool has_v = formula.axis != neuron_axis::none;
        const matrix r0 = squares(1), v0 = squares(2);
        device_vectors<B, real> r(b, r0), v(b, v0), f(b, matrix(2, neurons, -1));
        b.factors(has_v ? vectors<real>(v) : vectors<real>{}, f, r, slot_of_beta2[0], formula, {});
        const double error = sum_error(neurons, 2 * state_roundoff<B>);
        for (index_t i = 0; i < 2; ++i) {
          const neurons_in_double expected(row_of(v0, i), row_of(r0, i), beta2, formula,
                                           static_cast<double>(std::numeric_limits<real>::max()));
          CHECK_EQ(difference(row_of(v.get(), i), expected.v, error), "");
          CHECK_EQ(difference(row_of(f.get(), i), expected.f, error), "");
        }
        CHECK_EQ(difference(r.get(), r0), "");
      }
}

// A neuron that has been nothing for long beside one that is almost nothing: the factor would be infinite.
template <tensor_backend B>
void a_factor_saturates(B& b) {
  using real = typename B::real;
  constexpr double tiny = 16 * static_cast<double>(std::numeric_limits<real>::denorm_min());
  const device_slots<B> beta2(b, column({0.5}));
  matrix second(1, 2, tiny), first(1, 2, 0);
  second(0, 1) = 1, first(0, 1) = tiny;
  device_vectors<B, real> r(b, first), v(b, second), f(b, matrix(1, 2));
  b.factors(v, f, r, beta2[0], {.rows = 2, .cols = 29}, {});
  const matrix found = f.get();
  CHECK(found(0, 0) == static_cast<double>(std::numeric_limits<real>::max()));
  CHECK((is_finite(found(0, 1)) && found(0, 1) > 0));
}

template <tensor_backend B>
void factors_leave_alone_what_a_flag_protects(B& b) {
  using real = typename B::real;
  const device_slots<B> beta2(b, column({0.5})), ok(b, column({1, 0, 1}));
  device_vectors<B, real> r(b, matrix(3, 17, 0.25)), v(b, matrix(3, 17, 1)), f(b, matrix(3, 17, -1));
  std::vector<real*> squares = {r[0], nullptr, r[2]};
  b.factors(v, f, {squares, 17}, beta2[0], {.rows = 17, .cols = 29}, ok);
  CHECK_EQ(difference(row_of(v.get(), 1), matrix(1, 17, 1)), "");
  CHECK_EQ(difference(row_of(f.get(), 1), matrix(1, 17, -1)), "");
  CHECK((v.get()(0, 0) == 0.625 && v.get()(2, 16) == 0.625));
}

template <tensor_backend B>
void fused_neuron_step_has_the_bits_of_its_parts(B& b) {
  const device_slots<B> k(b, column({0.02, 0.002})), one(b, column({1})), three(b, column({1, 0, 1}));
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    const auto [s, l] = std::minmax(e.rows, e.cols);
    const typename B::operand X = operand_of(b, random_run({s, l}, count, 1), compute);
    const update_formula formula{variant % 4 < 2 ? decay_form::decoupled : decay_form::cautious,
                                 variant % 8 < 4 ? write_form::weight : write_form::change};
    const flags ok = count == 1 ? one : three;
    for (const side neurons : sides) {
      const device_vectors<B, typename B::real> f(b, random_matrix(count, neurons == side::rows ? s : l, 2));
      const auto stepped = [&](auto&& step) {
        device_matrices<B> W(b, types_taken<B>(), random_run(e, count, 3), variant);
        device_matrices<B> change(b, types_taken<B>(), random_run(e, count, 4), variant + 1);
        const device_matrices<B> D(b, {state_type<B>}, random_run(e, count, 5));
        device_matrices<B>& out = formula.write == write_form::weight ? W : change;
        step(out, W, D);
        std::vector<matrix> result;
        for (std::size_t i = 0; i < out.count(); ++i) result.push_back(out.get(i));
        return result;
      };
      const std::vector<matrix> whole = stepped(
          [&](views out, views W, views D) { neuron_step(b, out, W, D, f, X, neurons, k[0], k[1], formula, ok); });
      const std::vector<matrix> parts = stepped([&](views out, views W, views D) {
        b.store_scaled(D, f, X, neurons, ok);
        b.apply(out, W, D, k[0], k[1], formula, ok);
      });
      for (std::size_t i = 0; i < whole.size(); ++i) CHECK_EQ(difference(whole[i], parts[i]), "");
    }
  });
}

// The weight that a flag protects isn't read, and its change is nothing.
template <tensor_backend B>
void neuron_step_changes_nothing_where_a_flag_protects(B& b) {
  const typename B::operand X = operand_of(b, random_run({17, 29}, 3, 1), B::default_compute());
  const device_vectors<B, typename B::real> f(b, matrix(3, 17, 0.5));
  const std::vector<typename B::real*> factors = {f[0], nullptr, f[2]};
  const device_slots<B> k(b, column({0.02, 0.002})), ok(b, column({1, 0, 1}));
  device_matrices<B> W(b, types_taken<B>(), random_run({17, 29}, 3, 2)),
      change(b, types_taken<B>(), random_run({17, 29}, 3, 3));
  const device_matrices<B> D(b, {state_type<B>}, random_run({17, 29}, 3, 4));
  neuron_step(b, change, W.without(1), D, {factors, 17}, X, side::rows, k[0], k[1], {.write = write_form::change}, ok);
  CHECK(W.unchanged());
  CHECK_EQ(difference(change.get(1), matrix(17, 29)), "");
  neuron_step(b, W, W, D, {factors, 17}, X, side::rows, k[0], k[1], {}, ok);
  CHECK(W.unchanged(1));
  CHECK_FALSE((W.unchanged(0) || W.unchanged(2)));
}

}  // namespace normuon::testing

#endif
