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
