// Laws of the AdamW step, element by element: bit for bit what the formula says.
#ifndef NORMUON_TESTING_CONFORMANCE_ADAMW_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_ADAMW_LAWS_HPP

#include "normuon/testing/conformance/element_laws.hpp"

namespace normuon::testing {

// Matrices of a run may have different shapes here. Some gradients are too small or too large to be squared.
template <tensor_backend B>
void adamw_is_the_formula(B& b) {
  using real = typename B::real;
  constexpr double beta1 = 0.9, beta2 = 0.99, scale = 0.5, rate = 0.01, decay = 0.001, epsilon = 1e-8;
  const device_slots<B> k(b, column({beta1, beta2, scale, rate, decay}));
  const adamw_numbers numbers{k[0], k[1], k[2], k[3], k[4]};
  const std::vector<element_type> state = {state_type<B>};
  const auto run = [](int seed, auto&& f) {
    std::vector<matrix> x;
    for (const extent e : awkward_extents) x.push_back(mapped(random_run(e, 1, seed)[0], f));
    return x;
  };
  const auto as_is = [](double x) { return x; };
  const auto square = [](double x) { return x * x; };
  for (int variant = 0; variant < layout_count * 4; ++variant)
    for (const decay_form form : decay_forms)
      for (const write_form write : write_forms) {
        const update_formula formula{form, write};
        device_matrices<B> W(b, types_taken<B>(), run(1, as_is), variant),
            G(b, types_taken<B>(), run(2, as_is), variant + 1);
        device_matrices<B> M(b, state, run(3, as_is), variant + 2), V(b, state, run(4, square), variant + 3);
        device_matrices<B> change(b, types_taken<B>(), run(5, as_is), variant + 2);
        if (G.type(5) == state_type<B>) {
          matrix g = G.given(5);
          g(0, 0) = static_cast<double>(std::numeric_limits<real>::max());
          g(0, 1) = static_cast<double>(std::numeric_limits<real>::min());
          g(0, 2) = 0;
          G.set(5, g);
        }
        device_slots<B> steps(b, mapped(matrix(9, 1), [n = 0](double) mutable { return ++n; })),
            norms(b, matrix(9, 1, -1));
        device_matrices<B>& out = write == write_form::weight ? W : change;
        b.adamw(out, W, M, V, G, steps, numbers, epsilon, formula, norms, {});
        const matrix norm = norms.get();
        for (std::size_t i = 0; i < W.count(); ++i) {
          CAPTURE(i);
          const auto element = [&](real m, real v, real g) {
            const auto correction = [&](double beta) { return bias_correction<real>(beta, i + 1); };
            return adamw(m, v, static_cast<real>(scale) * g, beta1, beta2, correction(beta1), correction(beta2),
                         static_cast<real>(epsilon));
          };
          const matrix m = M.given(i), v = V.given(i), g = G.given(i);
          const auto part = [&](auto member) {
            return by_formula<real>(
                state_type<B>, [&](real a, real c, real e) { return element(a, c, e).*member; }, m, v, g);
          };
          const matrix d = part(&adamw_element<real>::d);
          const auto step = [&](real w, real x) {
            return updated(w, x, static_cast<real>(rate), static_cast<real>(decay), formula);
          };
          CHECK_EQ(difference(M.get(i), part(&adamw_element<real>::m)), "");
          CHECK_EQ(difference(V.get(i), part(&adamw_element<real>::v)), "");
          CHECK_EQ(difference(out.get(i), by_formula<real>(out.type(i), step, W.given(i), d)), "");
          CHECK(std::abs(norm(static_cast<index_t>(i), 0) - frobenius_norm(d)) <=
                sum_error(d.size(), state_roundoff<B>) * frobenius_norm(d));
        }
        CHECK(G.unchanged());
        if (write == write_form::change) CHECK(W.unchanged());
      }
}

template <tensor_backend B>
void adamw_changes_nothing_where_a_flag_protects(B& b) {
  const std::vector<element_type> state = {state_type<B>};
  device_matrices<B> W(b, types_taken<B>(), random_run({17, 29}, 3, 1)),
      G(b, types_taken<B>(), random_run({17, 29}, 3, 2));
  device_matrices<B> M(b, state, random_run({17, 29}, 3, 3)), V(b, state, std::vector<matrix>(3, matrix(17, 29, 0.5)));
  device_matrices<B> change(b, types_taken<B>(), random_run({17, 29}, 3, 4));
  const device_slots<B> k(b, column({0.9, 0.99, 1, 0.01, 0.001})), ok(b, column({1, 0, 1}));
  device_slots<B> steps(b, column({1, 1, 1})), norms(b, column({-1, -1, -1}));
  const adamw_numbers numbers{k[0], k[1], k[2], k[3], k[4]};
  b.adamw(change, W.without(1), M, V, G.without(1), steps, numbers, 1e-8, {.write = write_form::change}, norms, ok);
  CHECK((W.unchanged() && M.unchanged(1) && V.unchanged(1)));
  CHECK_FALSE((change.unchanged(0) || M.unchanged(0) || V.unchanged(2)));
  CHECK_EQ(difference(change.get(1), matrix(17, 29)), "");
  b.adamw(W, W, M.without(1), V.without(1), G.without(1), steps, numbers, 1e-8, {}, norms, ok);
  CHECK((W.unchanged(1) && !W.unchanged(0)));
  CHECK(norms.get()(1, 0) == -1);
  CHECK_EQ(difference(steps.get(), column({1, 1, 1})), "");
}

}  // namespace normuon::testing

#endif
