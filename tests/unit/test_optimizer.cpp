#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/reference.hpp"
#include "support/refusal.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using optimizer32 = optimizer<eigen_backend>;
using optimizer64 = optimizer<eigen_backend64>;

}  // namespace

TEST_CASE("parameters of several groups each follow their own rule, in double to its last digits") {
  random_source random(2);
  struct {
    index_t m, n;
    normuon_options o;
  } const matrices[] = {{7, 5, normuon_options::reference()},
                        {5, 7, normuon_options::paper()},
                        {1, 9, muon_options::moonlight()},
                        {17, 129, normuon_options::nanogpt()}};
  const adamw_options vector_options{.learning_rate = 0.01, .weight_decay = 0.1};
  optimizer64 opt(eigen_backend64({.threads = 2}));
  std::vector<matrix> W, G;
  std::vector<reference_normuon> references;
  for (const auto& each : matrices) {
    W.push_back(random.gaussian(each.m, each.n));
    G.push_back(matrix(each.m, each.n));
    references.emplace_back(each.o, each.m, each.n);
  }
  W.push_back(random.gaussian(1, 13)), G.push_back(matrix(1, 13));
  reference_adamw vector_reference(vector_options, 1, 13);
  std::vector<matrix> expected = W;
  for (std::size_t i = 0; i < W.size(); ++i)
    opt.add_parameter(i < 4 ? opt.add_group(matrices[i].o) : opt.add_group(vector_options), std::to_string(i),
                      row_major(W[i].values.data(), W[i].rows, W[i].cols),
                      row_major(G[i].values.data(), W[i].rows, W[i].cols));
  for (int step = 0; step < 3; ++step) {
    for (matrix& g : G) {
      const matrix next = random.gradient(g.rows, g.cols);
      std::copy(next.values.begin(), next.values.end(), g.values.begin());  // in place: views stay valid
    }
    opt.step();
    for (std::size_t i = 0; i < 4; ++i) references[i].step(expected[i], G[i]);
    vector_reference.step(expected[4], G[4]);
    for (std::size_t i = 0; i < W.size(); ++i) {
      CAPTURE(i);
      // The slope of the tables, about 1000, times a few roundings of 1e-16 in each of three steps.
      CHECK(relative_error(W[i].values, expected[i].values) < 1e-11);
    }
  }
}

TEST_CASE("a parameter without a gradient is left alone, state and counter too, until one is bound") {
  model<float> m = mixed_model<float>(), whole = mixed_model<float>();
  optimizer32 opt(eigen_backend({.threads = 1})), reference(eigen_backend({.threads = 1}));
  m.add_to(opt);
  whole.add_to(reference);
  const auto& p = m.parameters[0];
  opt.unbind_gradient("wide");
  const auto state = opt.export_state("wide");
  const auto weight = p.weight;
  m.make_gradients(0);
  opt.step();
  CHECK(same_bits(p.weight, weight));
  CHECK(same_bits(opt.export_state("wide"), state));

  opt.bind_gradient("wide", m.gradient_of(p));
  for (auto* each : {&m, &whole}) each->make_gradients(1);
  opt.step();
  reference.step();
  CHECK(same_bits(p.weight, whole.parameters[0].weight));
  CHECK(same_bits(opt.export_state("wide"), reference.export_state("wide")));
}

TEST_CASE("a parameter can be added without a gradient, and an optimizer without parameters steps") {
  optimizer32 opt(eigen_backend({.threads = 1}));
  opt.step();
  opt.step_changes();
  CHECK(opt.report().parameters.empty());
  CHECK(opt.export_state().empty());
  std::vector<float> w = {1, 2};
  opt.add_parameter(opt.add_group(adamw_options{}), "w", vector(w.data(), 2));
  opt.step();
  CHECK(w == std::vector<float>{1, 2});
}

TEST_CASE("memory that is bound anew is what counts, of weights, of gradients and of changes") {
  const auto values = random_elements<float>(3, 12);
  std::vector<float> w = values, moved_w = values, expected = values;
  const auto g1 = random_elements<float>(4, 12), g2 = random_elements<float>(5, 12);
  auto g = g1;
  std::vector<float> change(12), moved_change(12);
  optimizer32 opt(eigen_backend({.threads = 1}));
  const group_id id = opt.add_group(normuon_options::paper());
  opt.add_parameter(id, "w", row_major(w.data(), 3, 4), row_major(g1.data(), 3, 4));
  opt.add_parameter(id, "expected", row_major(expected.data(), 3, 4), row_major(g.data(), 3, 4));
  opt.step();
  moved_w = w;
  opt.bind_weight("w", row_major(moved_w.data(), 3, 4));
  const std::vector<float> left_behind = w;
  opt.bind_gradient("w", row_major(g2.data(), 3, 4));
  g = g2;  // in place
  opt.step();
  CHECK(same_bits(w, left_behind));
  CHECK(same_bits(moved_w, expected));
  CHECK(!same_bits(moved_w, left_behind));

  opt.remove_parameter("expected");
  opt.bind_change("w", row_major(change.data(), 3, 4));
  opt.step_changes();
  opt.bind_change("w", row_major(moved_change.data(), 3, 4));
  const std::vector<float> first_change = change;
  opt.step_changes();
  CHECK(same_bits(change, first_change));
  CHECK(!same_bits(moved_change, first_change));
  CHECK(moved_change != std::vector<float>(12));
}

TEST_CASE("a gradient may change its type from one step to the next") {
  const auto narrow = random_elements<bfloat16>(6, 12);
  const std::vector<float> same(narrow.begin(), narrow.end());
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    auto w = random_elements<float>(7, 12), expected = w;
    make_steps<eigen_backend>(rule.options, 2, [&](auto& opt, group_id id) {
      opt.add_parameter(id, "w", row_major(w.data(), 3, 4), row_major(same.data(), 3, 4));
      opt.add_parameter(id, "expected", row_major(expected.data(), 3, 4), row_major(same.data(), 3, 4));
      opt.step();
      opt.bind_gradient("w", row_major(narrow.data(), 3, 4));
    });
    CHECK(same_bits(w, expected));
  }
}

TEST_CASE("gradients are used at gradient_scale, by every rule") {
  for (const named_rule& rule : all_rules())
    for (const double scale : {0.0, 0.125, 1.0, 512.0}) {
      CAPTURE(rule.name);
      CAPTURE(scale);
      auto w = random_elements<float>(8, 12), expected = w;
      const auto g = random_elements<float>(9, 12);
      std::vector<float> scaled_g;
      for (const float x : g) scaled_g.push_back(static_cast<float>(scale) * x);  // exact
      make_steps<eigen_backend>(rule.options, 2, [&](auto& opt, group_id id) {
        opt.set_gradient_scale(scale);
        opt.add_parameter(id, "w", row_major(w.data(), 3, 4), row_major(g.data(), 3, 4));
      });
      make_steps<eigen_backend>(rule.options, 2, [&](auto& opt, group_id id) {
        opt.add_parameter(id, "w", row_major(expected.data(), 3, 4), row_major(scaled_g.data(), 3, 4));
      });
      CHECK(same_bits(w, expected));
    }
}

TEST_CASE("a gradient that is finite only as scaled is taken, one that overflows as scaled is held back") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    std::vector<float> w(4, 1);
    const std::vector<float> g = {1e38f, 1, 2, 3};
    make_steps<eigen_backend>(rule.options, 1, [&](auto& opt, group_id id) {
      opt.add_parameter(id, "w", row_major(w.data(), 2, 2), row_major(g.data(), 2, 2));
      opt.set_gradient_scale(4);
      opt.step();
      CHECK(opt.report().parameters[0].outcome == outcome::non_finite_gradient);
      CHECK(w == std::vector<float>(4, 1));
      opt.set_gradient_scale(0x1p-120);
    });
    CHECK(w != std::vector<float>(4, 1));
    for (const float x : w) CHECK(is_finite(x));
  }
}

TEST_CASE("an optimizer that is moved goes on where it was") {
  model<float> m = mixed_model<float>(), reference = mixed_model<float>();
  optimizer32 first(eigen_backend({.threads = 2})), stays(eigen_backend({.threads = 2}));
  m.add_to(first);
  reference.add_to(stays);
  for (auto* each : {&m, &reference}) each->make_gradients(0);
  first.step();
  stays.step();
  optimizer32 second = std::move(first);
  for (int step = 1; step < 3; ++step) {
    for (auto* each : {&m, &reference}) each->make_gradients(step);
    second.step();
    stays.step();
  }
  CHECK(same_bits(m.weights(), reference.weights()));
  CHECK(same_bits(second.export_state(), stays.export_state()));
  CHECK(second.report().parameters.size() == 7);
}

TEST_CASE("parameters and groups may be added between steps") {
  model<float> m = mixed_model<float>(), alone = mixed_model<float>();
  optimizer32 opt(eigen_backend({.threads = 1})), reference(eigen_backend({.threads = 1}));
  for (auto* each : {&m, &alone}) each->make_gradients(0);
  for (auto& p : m.parameters) {
    opt.add_parameter(add_group(opt, p.options), p.name, p.view(p.weight.data()), m.gradient_of(p));
    opt.step();
  }
  const std::size_t late = m.parameters.size() - 2;
  for (std::size_t i = late; i < m.parameters.size(); ++i) {
    auto& p = alone.parameters[i];
    reference.add_parameter(add_group(reference, p.options), p.name, p.view(p.weight.data()), alone.gradient_of(p));
    reference.step();
  }
  for (std::size_t i = late; i < m.parameters.size(); ++i)
    CHECK(same_bits(m.parameters[i].weight, alone.parameters[i].weight));
}
