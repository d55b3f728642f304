#include <doctest/doctest.h>

#include "support/random_cases.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

normuon_options any_options() {
  using rc::gen::element;
  normuon_options o;
  o.learning_rate = *element(1e-3, 0.02, 0.3);
  o.momentum = *element(0.0, 0.5, 0.95);
  o.beta2 = *element(0.0, 0.9, 0.99);
  o.epsilon = *element(0.0, 1e-10, 1e-3);
  o.weight_decay = *element(0.0, 0.1);
  o.nesterov = *rc::gen::arbitrary<bool>();
  o.momentum_form = *element(momentum_form::ema, momentum_form::heavy_ball);
  o.orthogonalizer.table = *element(jordan, you, polar_express_102, polar_express_dao);
  o.orthogonalizer.form = *element(iteration_form::automatic, iteration_form::plain, iteration_form::gram);
  o.orthogonalizer.guard = *element(norm_guard::exact, norm_guard::as_published);
  o.neuron_axis = *element(neuron_axis::rows, neuron_axis::columns, neuron_axis::longer, neuron_axis::none);
  o.epsilon_form = *element(epsilon_form::after_root, epsilon_form::floor);
  o.scale = *element(update_scale::rms_02, update_scale::keep_norm, update_scale::keep_norm_sqrt_max_1_ratio,
                     update_scale::keep_norm_sqrt_ratio, update_scale::sqrt_max_1_ratio, update_scale::match_adamw_rms);
  o.decay = *element(decay_form::decoupled, decay_form::cautious);
  o.published = {*element(0.0, 1e-3), *element(0.0, 1.0), *element(0.0, 1e-3), *element(0.0, 1.0)};
  return o;
}

// The first `cut` steps in one optimizer, the others in a new one that is given the state of the first.
template <class Options>
trained train_in_two(const Options& o, const matrix& W, const std::vector<matrix>& history, std::size_t cut) {
  single_matrix<eigen_backend> before(o, W);
  for (std::size_t k = 0; k < cut; ++k) before.step(history[k]);
  single_matrix<eigen_backend> after(o, before.weight());
  after.opt.import_state(before.opt.export_state());
  for (std::size_t k = cut; k < history.size(); ++k) after.step(history[k]);
  return {after.weight(), after.momentum(), after.second_moment()};
}

template <class Options>
void check_split_run(const Options& o) {
  random_case c = any_case();
  const matrix W = c.random.gaussian(c.m, c.n);
  const std::vector<matrix> history = any_history(c, 4);
  const auto cut = *rc::gen::inRange<std::size_t>(0, 5);
  RC_ASSERT(train_in_two(o, W, history, cut) == train<eigen_backend>(o, W, history));
}

template <class Options>
trained train_scaled(const Options& o, const matrix& W, const std::vector<matrix>& history, double scale) {
  single_matrix<eigen_backend> w(o, W);
  w.opt.set_gradient_scale(scale);
  for (const matrix& G : history) w.step(G);
  return {w.weight(), w.momentum(), w.second_moment()};
}

template <class Options>
void check_gradient_scale(const Options& o) {
  random_case c = any_case();
  const double scale = std::ldexp(1.0, *rc::gen::inRange(-20, 21));
  const matrix W = c.random.gaussian(c.m, c.n);
  const std::vector<matrix> history = any_history(c, 3);
  const auto larger = each(history, [&](const matrix& G) { return scaled(1 / scale, G); });
  RC_ASSERT(train_scaled(o, W, larger, scale) == train<eigen_backend>(o, W, history));
}

}  // namespace

TEST_CASE("any combination of options is what the formulas say") {
  CHECK(rc::check([] {
    random_case c = any_case();
    const normuon_options o = any_options();
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, 3);
    reference_normuon reference(o, c.m, c.n);
    matrix expected = W;
    for (const matrix& G : history) reference.step(expected, G);
    const trained got = train<eigen_backend64>(o, W, history);
    // The golden vectors' tolerance; it leaves room for neurons of small norm, whose relative error is larger.
    RC_ASSERT(distance(got.W, expected) <= 1e-10 * (1 + norm(expected)));
    RC_ASSERT(relative_error(got.M.values, reference.M.values) <= 1e-14);
    RC_ASSERT(relative_error(got.v, reference.v) <= 1e-10);
  }));
}

TEST_CASE("AdamW is what its formulas say, also with cautious decay") {
  CHECK(rc::check([] {
    random_case c = any_case();
    adamw_options o;
    o.learning_rate = 0.01, o.weight_decay = 0.5;
    o.momentum = *rc::gen::element(0.0, 0.9);
    o.beta2 = *rc::gen::element(0.0, 0.95, 0.999);
    o.decay = *rc::gen::element(decay_form::decoupled, decay_form::cautious);
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, 4);
    reference_adamw reference(o, c.m, c.n);
    matrix expected = W;
    for (const matrix& G : history) reference.step(expected, G);
    const trained got = train<eigen_backend64>(o, W, history);
    RC_ASSERT(relative_error(got.W.values, expected.values) <= 1e-12);  // 1 - b2 of 0.999 loses three digits
    RC_ASSERT(relative_error(got.v, reference.V.values) <= 1e-12);
  }));
}

TEST_CASE_TEMPLATE("weights and gradients of every type are moved as doubles would be, and rounded", T, double, float,
                   bfloat16, float16) {
  CHECK(rc::check([] {
    random_case c = any_case();
    const matrix W = matrix_of(c.m, c.n, elements_of<T>(c.random.gaussian(c.m, c.n)));
    const auto rounded = [&](const matrix& A) { return matrix_of(c.m, c.n, elements_of<T>(A)); };
    const std::vector<matrix> history = each(any_history(c, 2), rounded);
    using backend = std::conditional_t<std::is_same_v<T, double>, eigen_backend64, eigen_backend>;
    normuon_options o = normuon_options::paper();
    o.weight_rounding = weight_rounding::nearest;
    single_matrix<backend, T> w(o, W);
    reference_normuon reference(o, c.m, c.n);
    matrix expected = W;
    for (const matrix& G : history) {
      w.step(G);
      reference.step(expected, G);
    }
    // Two steps round the weight; an update's error is the iteration's, whose neurons have norms of a hundredth and
    // more.
    const double update = 100 * iteration_tolerance(backend::default_compute(), jordan, iteration_form::automatic, 1);
    RC_ASSERT(largest(combined(1, w.weight(), -1, expected).values) <=
              2 * (tolerance<T>::elementwise * largest(expected.values) + o.learning_rate * update));
  }));
}

TEST_CASE("a run that is interrupted and goes on from its state has the bits of one that was not") {
  CHECK(rc::check([] { check_split_run(any_options()); }));
  CHECK(rc::check([] { check_split_run(adamw_options{}); }));
}

TEST_CASE("a gradient scale is as good as scaled gradients, bit for bit where it is a power of two") {
  CHECK(rc::check([] { check_gradient_scale(any_options()); }));
  CHECK(rc::check([] { check_gradient_scale(adamw_options{}); }));
}

TEST_CASE("a gradient scale of zero is a zero gradient") {
  random_source random(13);
  const matrix W = random.gaussian(5, 7), G = random.gradient(5, 7);
  CHECK(train_scaled(normuon_options::paper(), W, {G}, 0) ==
        train<eigen_backend>(normuon_options::paper(), W, {matrix(5, 7)}));
  CHECK(train_scaled(adamw_options{}, W, {G}, 0) == train<eigen_backend>(adamw_options{}, W, {matrix(5, 7)}));
}
