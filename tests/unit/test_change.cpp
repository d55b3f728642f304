#include <doctest/doctest.h>

#include <limits>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

template <class T>
double at(const std::vector<T>& x, std::size_t k) {
  return static_cast<double>(x[k]);
}

template <class T>
bool all_zero(const std::vector<T>& x) {
  return std::all_of(x.begin(), x.end(), [](T each) { return static_cast<double>(each) == 0; });
}

}  // namespace

TEST_CASE_TEMPLATE("a change is the difference that the step in place makes, up to its roundings", T, double, float,
                   bfloat16, float16) {
  using backend = basic_eigen_backend<std::conditional_t<std::is_same_v<T, double>, double, float>>;
  constexpr double u = tolerance<T>::u, u_of_state = tolerance<typename backend::real>::u;
  for (const named_rule& rule : all_rules())
    for (const auto& shape : {std::pair<index_t, index_t>{3, 5}, {5, 3}, {1, 7}, {17, 300}}) {
      const index_t rows = shape.first, cols = shape.second;
      CAPTURE(rule.name);
      CAPTURE(rows);
      const any_options o = with_rounding(weight_rounding::nearest, rule.options);
      model<T> in_place({{"w", o, rows, cols, 2}}), apart({{"w", o, rows, cols, 2}});
      optimizer<backend> opt(backend({.threads = 1})), changing(backend({.threads = 1}));
      in_place.add_to(opt);
      apart.add_to(changing);
      for (int step = 0; step < 3; ++step) {
        for (auto* each : {&in_place, &apart}) each->make_gradients(step);
        apart.set_weights(in_place.weights());
        const std::vector<T> before = apart.parameters[0].weight;
        opt.step();
        changing.step_changes();
        const auto& p = apart.parameters[0];
        CHECK(same_bits(p.weight, before));
        double worst = 0;
        for (std::size_t k = 0; k < p.weight.size(); ++k) {
          const double after = at(in_place.parameters[0].weight, k);
          // The new weight is rounded once to T and twice in state's type, the change as often.
          const double bound = (u + 2 * u_of_state) * (std::abs(after) + std::abs(at(p.change, k))) +
                               2 * u_of_state * std::abs(at(before, k));
          worst = std::max(worst, std::abs(after - at(before, k) - at(p.change, k)) / bound);
        }
        CHECK(worst <= 1.001);
        CHECK(!all_zero(p.change));
        // What is kept between steps does not depend on where the result goes.
        CHECK(same_bits(opt.export_state(), changing.export_state()));
      }
    }
}

TEST_CASE("a change holds the decay, where the gradient is zero that alone") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    model<double> m({{"w", rule.options, 3, 5}});
    optimizer<eigen_backend64> opt(eigen_backend64({.threads = 1}));
    m.add_to(opt);
    opt.set_learning_rate(0.25);
    opt.set_weight_decay(group_id{0}, 0.5);
    opt.step_changes();  // gradients are zero
    for (std::size_t k = 0; k < 15; ++k) CHECK(m.parameters[0].change[k] == -0.125 * m.parameters[0].weight[k]);
  }
}

TEST_CASE("a change can be of another type and layout than its weight") {
  std::vector<float> w = random_elements<float>(40, 12), same = w, plain(12);
  std::vector<bfloat16> narrow(12);
  const std::vector<float> g = random_elements<float>(41, 12);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = add_group(opt, with_rounding(weight_rounding::nearest, normuon_options::paper()));
  opt.add_parameter(id, "w", row_major(w.data(), 3, 4), row_major(g.data(), 3, 4));
  opt.add_parameter(id, "same", row_major(same.data(), 3, 4), row_major(g.data(), 3, 4));
  opt.bind_change("w", column_major(narrow.data(), 3, 4));
  opt.bind_change("same", row_major(plain.data(), 3, 4));
  opt.step_changes();
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 4; ++j) CHECK(narrow[j * 3 + i].bits() == bfloat16(plain[i * 4 + j]).bits());
}

TEST_CASE("the change of a parameter that is held back is zero, and its state stays") {
  model<float> m = mixed_model<float>();
  for (auto& p : m.parameters) p.change.assign(p.change.size(), 99);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  m.add_to(opt);
  m.make_gradients(0);
  opt.freeze("wide");
  opt.unbind_gradient("tall");
  m.parameters[2].gradient[50] = std::numeric_limits<float>::quiet_NaN();  // of the batch's second matrix
  opt.unbind_gradient("vector");
  const auto state = opt.export_state();
  opt.step_changes();
  const auto after = opt.export_state();
  for (std::size_t i = 0; i < m.parameters.size(); ++i) {
    const auto& p = m.parameters[i];
    CAPTURE(p.name);
    const bool moves = p.name == "muon" || p.name == "column";
    if (p.name != "empty") CHECK(all_zero(p.change) == !moves);
    for (std::size_t k = 0; k < state.size(); ++k)
      if (state[k].name.starts_with(p.name + ".") && p.name != "empty")
        CHECK(same_bits(state[k].values, after[k].values) == !moves);
  }
}

TEST_CASE("steps in place and changes can be mixed") {
  model<float> mixed = mixed_model<float>(), plain = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1})), reference(eigen_backend({.threads = 1}));
  mixed.add_to(opt);
  plain.add_to(reference);
  for (int step = 0; step < 4; ++step) {
    for (auto* each : {&mixed, &plain}) each->make_gradients(step);
    reference.step();
    if (step % 2 == 0) {
      opt.step();
    } else {
      opt.step_changes();
      mixed.set_weights(plain.weights());
    }
    CHECK(same_bits(mixed.weights(), plain.weights()));
    CHECK(same_bits(opt.export_state(), reference.export_state()));
  }
}

TEST_CASE("changes without a buffer for each parameter are refused by name, before anything is written") {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  m.add_to(opt);
  std::vector<float> w(6), g(6, 1);
  opt.add_parameter(group_id{0}, "late", row_major(w.data(), 2, 3), row_major(g.data(), 2, 3));
  m.make_gradients(0);
  opt.step();
  CHECK(!opt.report().parameters.empty());
  const auto state = opt.export_state();
  const std::vector<float> before = w;
  CHECK(refusal_of([&] { opt.step_changes(); }).is(error_code::gradient, "'late'", "change buffer", "none"));
  CHECK(opt.report().parameters.empty());  // of a step that threw
  CHECK(same_bits(opt.export_state(), state));
  for (const auto& p : m.parameters) CHECK(all_zero(p.change));
  CHECK(same_bits(w, before));
  opt.step();
  CHECK(!same_bits(w, before));
}
