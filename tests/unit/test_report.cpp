#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/reference.hpp"
#include "support/single_matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using single = single_matrix<eigen_backend64>;

parameter_report report_of(single& s) {
  const step_report report = s.opt.report();
  REQUIRE(report.parameters.size() == 1);
  return report.parameters[0];
}

// Standard deviation over mean of the norms of A's rows, or of its columns.
double spread(const matrix& A, bool of_rows) {
  const matrix B = of_rows ? A : transposed(A);
  std::vector<double> norms;
  double mean = 0, variance = 0;
  for (index_t i = 0; i < B.rows; ++i) norms.push_back(norm(picked_rows(B, {i})));
  for (const double x : norms) mean += x / static_cast<double>(B.rows);
  for (const double x : norms) variance += (x - mean) * (x - mean) / static_cast<double>(B.rows);
  return std::sqrt(variance) / mean;
}

// ||O O^T - I||_F / sqrt(s), the short side first.
double residual(const matrix& O) {
  const matrix X = O.rows > O.cols ? transposed(O) : O;
  return distance(product(X, transposed(X)), identity(X.rows)) / std::sqrt(static_cast<double>(X.rows));
}

// In double the table's slope, about 1000, times a few roundings.
doctest::Approx near(double x) { return doctest::Approx(x).epsilon(1e-11); }

}  // namespace

TEST_CASE("a report names every parameter, its rule and what became of it, in the order in which they were added") {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  m.add_to(opt);
  m.make_gradients(0);
  opt.freeze("tall");
  opt.unbind_gradient("muon");
  opt.freeze("column");
  opt.unbind_gradient("column");
  m.parameters[2].gradient[40] = std::numeric_limits<float>::infinity();
  opt.step();
  const step_report report = opt.report();
  struct {
    const char *name, *rule;
    outcome what;
  } const expected[] = {{"wide", "normuon", outcome::moved},
                        {"tall", "normuon", outcome::frozen},
                        {"batch", "normuon", outcome::non_finite_gradient},
                        {"muon", "muon", outcome::absent},
                        {"column", "muon", outcome::frozen},
                        {"empty", "normuon", outcome::moved},
                        {"vector", "adamw", outcome::moved}};
  REQUIRE(report.parameters.size() == std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    const parameter_report& p = report.parameters[i];
    CHECK(p.name == expected[i].name);
    CHECK(p.rule == expected[i].rule);
    CHECK(p.outcome == expected[i].what);
    const bool moves = p.outcome == outcome::moved && p.name != "empty";
    CHECK((p.update_norm > 0) == moves);
    CHECK((p.update_rms > 0) == moves);
  }
  CHECK(report.non_finite() == std::vector<std::string>{"batch"});
}

TEST_CASE("a report tells of the last step, whatever was frozen or bound since") {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  m.add_to(opt);
  m.make_gradients(0);
  opt.freeze("tall");
  opt.unbind_gradient("muon");
  opt.step();
  opt.unfreeze("tall");
  opt.freeze("muon");
  opt.freeze("wide");
  opt.unbind_gradient("vector");
  opt.set_learning_rate(0);
  const step_report report = opt.report();
  CHECK(report.parameters[1].outcome == outcome::frozen);
  CHECK(report.parameters[3].outcome == outcome::absent);
  CHECK(report.parameters[0].outcome == outcome::moved);
  CHECK(report.parameters[0].update_rms == doctest::Approx(0.2 * 1e-3));
  CHECK(report.parameters[6].outcome == outcome::moved);
}

TEST_CASE(
    "there is nothing to report before the first step, nor of what has changed since the last, nor after a throw") {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  m.add_to(opt);
  CHECK(opt.report().parameters.empty());
  opt.prepare();
  CHECK(opt.report().parameters.empty());
  opt.step();
  CHECK(opt.report().parameters.size() == 7);
  opt.remove_parameter("wide");
  CHECK(opt.report().parameters.empty());
  opt.step();
  CHECK(opt.report().parameters.size() == 6);
  opt.set_diagnostics(false);  // as it was
  CHECK(opt.report().parameters.size() == 6);
  opt.set_diagnostics(true);
  CHECK(opt.report().parameters.empty());
  opt.step();
  opt.add_group(adamw_options{});
  CHECK(opt.report().parameters.empty());

  optimizer<eigen_backend> raising(eigen_backend({.threads = 1}), {.non_finite = non_finite_policy::raise});
  m.add_to(raising);
  raising.step();
  CHECK(raising.report().parameters.size() == 7);
  m.parameters[1].gradient[0] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(raising.step(), error);
  CHECK(raising.report().parameters.empty());
}

TEST_CASE("norms in a report are those of the update and of the direction, by every rule and shape") {
  random_source random(30);
  for (named_rule rule : all_rules()) {
    if (std::string(rule.name) == "bfloat16") continue;  // not near what is computed here in double
    std::visit([](auto& o) { o.weight_decay = 0; }, rule.options);
    for (const auto& shape : {std::pair<index_t, index_t>{5, 9}, {9, 5}, {6, 6}, {1, 7}, {7, 1}, {1, 1}}) {
      const auto m = shape.first, n = shape.second;
      CAPTURE(rule.name);
      CAPTURE(m);
      CAPTURE(n);
      matrix W = random.gaussian(m, n), G = random.gradient(m, n);
      std::vector<double> w = W.values;
      optimizer<eigen_backend64> opt(eigen_backend64({.threads = 1}));
      opt.add_parameter(add_group(opt, rule.options), "w", row_major(w.data(), m, n), row_major(G.values.data(), m, n));
      opt.step();
      const parameter_report p = opt.report().parameters[0];
      const double update = distance({m, n, w}, W);
      CHECK(p.update_norm == near(update).epsilon(1e-9));  // subtracting weights costs digits
      CHECK(p.update_rms == near(p.update_norm / std::sqrt(static_cast<double>(m * n))));
      if (rule.is_matrix_rule()) {
        const auto o = std::visit(
            [](const auto& any) -> normuon_options {
              if constexpr (std::is_convertible_v<decltype(any), normuon_options>) return any;
              return {};
            },
            rule.options);
        const double take = o.momentum_form == momentum_form::ema ? 1 - o.momentum : 1;
        const double direction = o.nesterov ? take * (1 + o.momentum) : take;
        CHECK(p.direction_norm == near(direction * norm(G)));
      } else {
        CHECK(p.direction_norm == 0);
      }
    }
  }
}

TEST_CASE("norms of a batch are those of all its matrices together, and parts of it are the mean over them") {
  random_source random(31);
  const normuon_options o{.weight_decay = 0};
  std::vector<double> w(60), g;
  for (std::size_t k = 0; k < w.size(); ++k) g.push_back(random.normal());
  optimizer<eigen_backend64> opt(eigen_backend64({.threads = 1}));
  const group_id id = opt.add_group(o);
  opt.add_parameter(id, "batch", batched(row_major(w.data(), 4, 5), 3, 20), batched(row_major(g.data(), 4, 5), 3, 20));
  opt.set_diagnostics(true);
  opt.step();
  double before = 0, after = 0, orthogonality = 0, rms = 0, direction = 0;
  for (index_t b = 0; b < 3; ++b) {
    const matrix G(4, 5, {g.begin() + 20 * b, g.begin() + 20 * (b + 1)});
    single alone(o, matrix(4, 5));
    alone.opt.set_diagnostics(true);
    alone.step(G);
    const parameter_report p = report_of(alone);
    before += *p.spread_before / 3, after += *p.spread_after / 3, orthogonality += *p.orthogonality_residual / 3;
    rms += p.update_rms / 3, direction += p.direction_norm * p.direction_norm;
  }
  const parameter_report p = opt.report().parameters[0];
  CHECK(*p.spread_before == near(before));
  CHECK(std::abs(*p.spread_after - after) < 1e-12);  // about 0: after one step all neurons have the same norm
  CHECK(*p.orthogonality_residual == near(orthogonality));
  CHECK(p.update_rms == near(rms));
  CHECK(p.direction_norm == near(std::sqrt(direction)));
}

TEST_CASE("on request the neurons' spread and the orthogonality are measured, as plain loops in double measure them") {
  random_source random(32);
  normuon_options rows = normuon_options::paper(), columns = rows, longer = normuon_options::nanogpt();
  columns.neuron_axis = neuron_axis::columns;
  const normuon_options muon = muon_options::jordan();
  for (const normuon_options& o : {rows, columns, longer, muon})
    for (const auto& shape : {std::pair<index_t, index_t>{5, 9}, {9, 5}, {17, 40}, {40, 17}, {6, 6}}) {
      const auto m = shape.first, n = shape.second;
      CAPTURE(static_cast<int>(o.neuron_axis));
      CAPTURE(m);
      CAPTURE(n);
      single s(o, matrix(m, n));
      s.opt.set_diagnostics(true);
      reference_normuon reference(o, m, n);
      for (int step = 0; step < 3; ++step) {
        const matrix G = random.gradient(m, n);
        s.step(G);
        const matrix D = reference.direction(G);
        const double take = 1 - o.momentum;
        const matrix U = o.nesterov ? combined(o.momentum, reference.M, take, G) : reference.M;
        const auto& table = o.orthogonalizer.table;
        const matrix O = orthogonalized_by_loops(U, table, table.norm_factor * norm(U));
        const bool of_rows = reference.by_rows();
        const parameter_report p = report_of(s);
        CHECK(*p.spread_before == doctest::Approx(spread(O, of_rows)).epsilon(1e-7));  // a square root of a difference
        CHECK(std::abs(*p.spread_after - spread(D, of_rows)) < 1e-7);
        CHECK(*p.orthogonality_residual == doctest::Approx(residual(O)).epsilon(1e-9));
      }
    }
}

TEST_CASE("measuring does not change a bit of the step, and what is not asked for is not there") {
  model<float> m = mixed_model<float>(), measured = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1})), measuring(eigen_backend({.threads = 1}));
  m.add_to(opt);
  measured.add_to(measuring);
  for (int step = 0; step < 3; ++step) {
    measuring.set_diagnostics(step != 1);
    for (auto* each : {&m, &measured}) each->make_gradients(step);
    opt.step();
    measuring.step();
    CHECK(same_bits(m.weights(), measured.weights()));
    for (const parameter_report& p : opt.report().parameters) CHECK(!p.orthogonality_residual);
    for (const parameter_report& p : measuring.report().parameters) {
      const bool there = step != 1 && p.rule != "adamw" && p.name != "empty";
      CHECK(p.spread_before.has_value() == there);
      CHECK(p.spread_after.has_value() == there);
      CHECK(p.orthogonality_residual.has_value() == there);
    }
  }
}

TEST_CASE("what is measured does not depend on when measuring began") {
  model<float> m = mixed_model<float>(), late = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1})), beginning_late(eigen_backend({.threads = 1}));
  m.add_to(opt);
  late.add_to(beginning_late);
  opt.set_diagnostics(true);
  for (int step = 0; step < 2; ++step) {
    for (auto* each : {&m, &late}) each->make_gradients(step);
    beginning_late.set_diagnostics(step == 1);
    opt.step();
    beginning_late.step();
  }
  CHECK(same_bits(m.weights(), late.weights()));
  for (std::size_t i = 0; i < m.parameters.size(); ++i) {
    const parameter_report p = opt.report().parameters[i], q = beginning_late.report().parameters[i];
    CHECK(p.spread_before == q.spread_before);
    CHECK(p.spread_after == q.spread_after);
    CHECK(p.orthogonality_residual == q.orthogonality_residual);
    CHECK(p.update_norm == q.update_norm);
  }
}

TEST_CASE("outcomes have names") {
  CHECK(name_of(outcome::moved) == "moved");
  CHECK(name_of(outcome::frozen) == "frozen");
  CHECK(name_of(outcome::absent) == "absent");
  CHECK(name_of(outcome::non_finite_gradient) == "non-finite gradient");
  CHECK(name_of(outcome::non_finite_update) == "non-finite update");
}
