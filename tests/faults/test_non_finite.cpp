#include <doctest/doctest.h>

#include <limits>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

template <element T>
std::vector<T> not_finite() {
  if constexpr (std::is_same_v<T, bfloat16>)  // quiet, negative and signalling NaN, infinities
    return {T::from_bits(0x7fc0), T::from_bits(0xffc0), T::from_bits(0x7f81), T::from_bits(0x7f80),
            T::from_bits(0xff80)};
  else if constexpr (std::is_same_v<T, float16>)
    return {T::from_bits(0x7e00), T::from_bits(0xfe00), T::from_bits(0x7c01), T::from_bits(0x7c00),
            T::from_bits(0xfc00)};
  else
    return {std::numeric_limits<T>::quiet_NaN(), -std::numeric_limits<T>::quiet_NaN(),
            std::numeric_limits<T>::signaling_NaN(), std::numeric_limits<T>::infinity(),
            -std::numeric_limits<T>::infinity()};
}

template <element T>
using backend_for = std::conditional_t<std::is_same_v<T, double>, eigen_backend64, eigen_backend>;

// Two parameters under one rule after two ordinary steps. The first lies in one run, the second in two.
template <element T>
struct pair_of_parameters {
  model<T> m;
  optimizer<backend_for<T>> opt;

  pair_of_parameters(const any_options& o, non_finite_policy policy)
      : m({{"first", o, 3, 5}, {"second", o, 3, 5, 2}}), opt(backend_for<T>({.threads = 1}), {.non_finite = policy}) {
    m.add_to(opt);
    opt.set_learning_rate(0.5);  // large enough to move 16-bit weights
    for (int step = 0; step < 2; ++step) {
      m.make_gradients(step);
      opt.step();
    }
    m.make_gradients(2);
  }
};

}  // namespace

TEST_CASE_TEMPLATE(
    "under `skip` a non-finite element anywhere leaves its parameter bit for bit, and is reported by name", T, float,
    double, bfloat16, float16) {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    pair_of_parameters<T> pair(rule.options, non_finite_policy::skip);
    const std::size_t stride = rule.name == std::string("paper") ? 1 : 7;
    for (std::size_t held = 0; held < 2; ++held) {
      auto &it = pair.m.parameters[held], &other = pair.m.parameters[1 - held];
      for (std::size_t place = 0; place < it.gradient.size(); place += stride)
        for (const T bad : not_finite<T>()) {
          const auto before = it.weight;
          const auto state_before = pair.opt.export_state(it.name), others_state = pair.opt.export_state(other.name);
          const T good = std::exchange(it.gradient[place], bad);
          pair.opt.step();
          it.gradient[place] = good;
          CHECK(same_bits(it.weight, before));
          CHECK(same_bits(pair.opt.export_state(it.name), state_before));
          CHECK_FALSE(same_bits(pair.opt.export_state(other.name), others_state));
          const step_report report = pair.opt.report();
          CHECK(report.non_finite() == std::vector<std::string>{it.name});
          CHECK(report.parameters[held].outcome == outcome::non_finite_gradient);
          CHECK(report.parameters[1 - held].outcome == outcome::moved);
        }
    }
  }
}

TEST_CASE_TEMPLATE("under `raise` a non-finite element throws its parameter's name before anything is written", T,
                   float, double, bfloat16, float16) {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    pair_of_parameters<T> pair(rule.options, non_finite_policy::raise);
    for (auto& it : pair.m.parameters)
      for (std::size_t place = 0; place < it.gradient.size(); place += 7)
        for (const T bad : not_finite<T>()) {
          const auto weights_before = pair.m.weights();
          const auto state_before = pair.opt.export_state();
          const T good = std::exchange(it.gradient[place], bad);
          CHECK(refusal_of([&] { pair.opt.step(); }).is(error_code::non_finite, "'" + it.name + "'"));
          it.gradient[place] = good;
          CHECK(same_bits(pair.m.weights(), weights_before));
          CHECK(same_bits(pair.opt.export_state(), state_before));
        }
    const auto before = pair.m.weights();
    pair.opt.step();  // and it is not poisoned
    CHECK_FALSE(same_bits(pair.m.weights(), before));
  }
}

TEST_CASE_TEMPLATE("under `propagate` a NaN reaches its own weight and no other", T, float, double, bfloat16, float16) {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    pair_of_parameters<T> pair(rule.options, non_finite_policy::propagate);
    pair.m.parameters[1].gradient[4] = not_finite<T>()[0];
    pair.opt.step();
    const auto any_bad = [](const std::vector<T>& w) {
      return std::any_of(w.begin(), w.end(), [](T x) { return !is_finite(x); });
    };
    CHECK(any_bad(pair.m.parameters[1].weight));
    CHECK_FALSE(any_bad(pair.m.parameters[0].weight));
    CHECK(pair.opt.report().non_finite().empty());
  }
}

TEST_CASE("a finite gradient that overflows when it is scaled is non-finite") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    pair_of_parameters<float> pair(rule.options, non_finite_policy::skip);
    pair.m.parameters[0].gradient[2] = 1e30f;
    pair.opt.set_gradient_scale(1e10);
    const auto before = pair.m.parameters[0].weight;
    const auto state_before = pair.opt.export_state("first");
    pair.opt.step();
    CHECK(same_bits(pair.m.parameters[0].weight, before));
    CHECK(same_bits(pair.opt.export_state("first"), state_before));
    CHECK(pair.opt.report().non_finite() == std::vector<std::string>{"first"});
  }
}

TEST_CASE("where a finite gradient makes U overflow, M moves, W and v do not, and it is reported") {
  model<float> m({{"w", normuon_options::dion(), 4, 6}});
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  m.add_to(opt);
  std::fill(m.parameters[0].gradient.begin(), m.parameters[0].gradient.end(), 3e38f);
  opt.step();
  REQUIRE(opt.report().parameters[0].outcome == outcome::moved);
  const auto weight_before = m.parameters[0].weight;
  const auto before = opt.export_state();
  opt.step();  // a heavy ball of 3e38 and 0.95 of it is beyond the largest float
  const auto after = opt.export_state();
  CHECK(opt.report().parameters[0].outcome == outcome::non_finite_update);
  CHECK(opt.report().non_finite() == std::vector<std::string>{"w"});
  CHECK(same_bits(m.parameters[0].weight, weight_before));
  REQUIRE(after[1].name == "w.momentum");
  CHECK_FALSE(same_bits(after[1].values, before[1].values));
  REQUIRE(after[2].name == "w.second_moment");
  CHECK(same_bits(after[2].values, before[2].values));
}

TEST_CASE_TEMPLATE("AdamW's step is finite for every finite gradient", T, float, double) {
  const T most = std::numeric_limits<T>::max(), least = std::numeric_limits<T>::denorm_min();
  const T extremes[] = {most, -most, most / 2, std::sqrt(most), least, -least, std::numeric_limits<T>::min(),
                        T(0), T(1)};
  for (const double beta2 : {0.0, 0.95, 0.999})
    for (const double epsilon : {0.0, 1e-8}) {
      model<T> m({{"v", adamw_options{.beta2 = beta2, .epsilon = epsilon}, 1, 9}});
      optimizer<backend_for<T>> opt(backend_for<T>({.threads = 1}));
      m.add_to(opt);
      for (std::size_t step = 0; step < 30; ++step) {
        for (std::size_t k = 0; k < 9; ++k) m.parameters[0].gradient[k] = extremes[(k + step * step) % 9];
        opt.step();
        for (const T w : m.parameters[0].weight) CHECK(is_finite(w));
        for (const named_tensor& t : opt.export_state())
          for (const double x : t.values) CHECK(is_finite(x));
      }
    }
}

TEST_CASE_TEMPLATE("weights narrower than their gradients stay finite too, where AdamW forgets the mean no slower", T,
                   float16, bfloat16, float) {
  // With beta1^2 > beta2 the direction itself has no bound: v forgets a large gradient while m still holds it.
  using gradient_type = std::conditional_t<std::is_same_v<T, float>, double, float>;
  constexpr gradient_type most = std::numeric_limits<gradient_type>::max();
  const gradient_type extremes[] = {most, -most, 1, 0, std::sqrt(most), std::numeric_limits<gradient_type>::min()};
  for (const double beta1 : {0.0, 0.3, 0.9})
    for (const double beta2 : {0.0, 0.5, 0.95, 0.999}) {
      if (beta1 * beta1 > beta2) continue;
      std::vector<T> w(6, T(1.0f));
      std::vector<gradient_type> g(6);
      optimizer<backend_for<gradient_type>> opt(backend_for<gradient_type>({.threads = 1}));
      opt.add_parameter(opt.add_group(adamw_options{.momentum = beta1, .beta2 = beta2, .epsilon = 0}), "w",
                        vector(w.data(), 6), vector(g.data(), 6));
      for (std::size_t step = 0; step < 30; ++step) {
        for (std::size_t k = 0; k < 6; ++k) g[k] = extremes[(k + step * step) % 6];
        opt.step();
        for (const T x : w) CHECK(is_finite(x));
      }
    }
}

TEST_CASE("a NaN in a weight stays where it is and does not reach its neighbours") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    pair_of_parameters<float> pair(rule.options, non_finite_policy::skip);
    pair.m.parameters[0].weight[7] = std::numeric_limits<float>::quiet_NaN();
    pair.opt.step();
    for (std::size_t k = 0; k < pair.m.parameters[0].weight.size(); ++k)
      CHECK(is_finite(pair.m.parameters[0].weight[k]) == (k != 7));
  }
}
