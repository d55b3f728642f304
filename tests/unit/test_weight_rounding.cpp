// Weights of 16 bits in whole steps: rounded by chance, to nearest, or beside a master.
#include <doctest/doctest.h>

#include <cmath>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"
#include "support/single_matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

adamw_options tiny_steps(weight_rounding rounding) {  // each moves a weight of 1 by 2^-14
  return {.learning_rate = 0x1p-14,
          .momentum = 0,
          .beta2 = 0,
          .epsilon = 0,
          .weight_decay = 0,
          .weight_rounding = rounding};
}

// Weights of one after so many steps against a gradient of minus one.
template <element T>
matrix moved(weight_rounding rounding, int steps, optimizer_options settings = {}) {
  matrix ones(64, 64);
  for (double& x : ones.values) x = 1;
  single_matrix<eigen_backend, T> w(tiny_steps(rounding), ones, settings);
  for (int step = 0; step < steps; ++step) w.step(scaled(-1, ones));
  return w.weight();
}

double mean(const matrix& A) {
  double sum = 0;
  for (const double x : A.values) sum += x;
  return sum / static_cast<double>(A.values.size());
}

// Two steps of a model of every rule in bfloat16, by so many threads, in parameters that are added in this order.
std::vector<std::vector<bfloat16>> two_steps(int threads, bool backwards, std::uint64_t seed = 0,
                                             weight_rounding rounding = weight_rounding::stochastic) {
  std::vector<owned_parameter<bfloat16>> all;
  for (const named_rule& rule : all_rules())
    all.emplace_back(rule.name, with_rounding(rounding, rule.options), 9, 70, 2);
  model<bfloat16> m(std::move(all));
  m.make_gradients(0);
  optimizer<eigen_backend> opt(eigen_backend({.threads = threads}), {.seed = seed});
  const auto add = [&](owned_parameter<bfloat16>& p) {
    opt.add_parameter(add_group(opt, p.options), p.name, p.view(p.weight.data()), m.gradient_of(p));
  };
  if (backwards)
    for (std::size_t i = m.parameters.size(); i-- > 0;) add(m.parameters[i]);
  else
    for (auto& p : m.parameters) add(p);
  opt.step();
  opt.step();
  return m.weights();
}

}  // namespace

TEST_CASE_TEMPLATE("by default a step that is too small for a weight of 16 bits moves it in the mean", T, bfloat16,
                   float16) {
  CHECK(normuon_options().weight_rounding == weight_rounding::stochastic);
  CHECK(adamw_options().weight_rounding == weight_rounding::stochastic);
  constexpr int steps = 16;
  CHECK(mean(moved<T>(weight_rounding::nearest, steps)) == 1);
  const double unit = std::is_same_v<T, bfloat16> ? 0x1p-7 : 0x1p-10;
  const matrix W = moved<T>(weight_rounding::stochastic, steps);
  // A rounding of a step s has a variance of at most u s: five standard deviations of the mean of all.
  CHECK(std::abs(mean(W) - 1 - steps * 0x1p-14) <= 5 * std::sqrt(steps * unit * 0x1p-14 / 4096));
  CHECK_FALSE(moved<T>(weight_rounding::stochastic, steps, {.seed = 1}) == W);
  CHECK(moved<T>(weight_rounding::stochastic, steps) == W);
}

TEST_CASE("what is rounded by chance depends on no thread, order or grouping, and on the seed") {
  const auto expected = two_steps(1, false);
  CHECK(same_bits(two_steps(3, false), expected));
  auto backwards = two_steps(1, true);
  CHECK(same_bits(backwards, expected));
  CHECK_FALSE(same_bits(two_steps(1, false, 7), expected));
  CHECK_FALSE(same_bits(two_steps(1, false, 0, weight_rounding::nearest), expected));
}

TEST_CASE("the rows of a weight are rounded alike however it lies in memory") {
  const any_options all[] = {normuon_options{}, adamw_options{},
                             normuon_options{.weight_rounding = weight_rounding::master},
                             adamw_options{.weight_rounding = weight_rounding::master}};
  for (const any_options& o : all)
    for (const index_t n : {300, 301}) {  // four numbers are drawn at once
      const auto cols = static_cast<std::size_t>(n);
      std::vector<bfloat16> rows = random_elements<bfloat16>(1, 6 * cols), columns(6 * cols);
      const std::vector<bfloat16> g = random_elements<bfloat16>(2, 6 * cols);
      for (std::size_t i = 0; i < 6; ++i)
        for (std::size_t j = 0; j < cols; ++j) columns[j * 6 + i] = rows[i * cols + j];
      make_steps<eigen_backend>(o, 2, [&](auto& opt, group_id id) {
        opt.add_parameter(id, "w", row_major(rows.data(), 6, n), row_major(g.data(), 6, n));
      });
      make_steps<eigen_backend>(o, 2, [&](auto& opt, group_id id) {
        opt.add_parameter(id, "w", column_major(columns.data(), 6, n), row_major(g.data(), 6, n));
      });
      for (std::size_t i = 0; i < 6; ++i)
        for (std::size_t j = 0; j < cols; ++j) CHECK(rows[i * cols + j].bits() == columns[j * 6 + i].bits());
    }
}

TEST_CASE_TEMPLATE("with a master a weight of 16 bits is at every step what a float weight rounds to", T, bfloat16,
                   float16) {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    std::vector<T> narrow = random_elements<T>(1, 54);
    std::vector<float> wide(narrow.begin(), narrow.end());
    optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
    const group_id id = add_group(opt, with_rounding(weight_rounding::master, rule.options));
    std::vector<T> gradient;
    opt.add_parameter(id, "narrow", row_major(narrow.data(), 6, 9));
    opt.add_parameter(id, "wide", row_major(wide.data(), 6, 9));
    for (std::uint64_t step = 0; step < 4; ++step) {
      gradient = random_elements<T>(10 + step, 54);
      opt.bind_gradient("narrow", row_major<const T>(gradient.data(), 6, 9));
      opt.bind_gradient("wide", row_major<const T>(gradient.data(), 6, 9));
      opt.step();
      for (std::size_t k = 0; k < 54; ++k) CHECK(narrow[k].bits() == T(wide[k]).bits());
    }
    const named_tensor master = opt.export_state("narrow").back();
    CHECK(master.name == "narrow.master");
    CHECK(master.shape == std::vector<index_t>{6, 9});
    CHECK(same_bits(master.values, std::vector<double>(wide.begin(), wide.end())));
    CHECK_FALSE(opt.export_state("wide").back().name.ends_with(".master"));
  }
}

TEST_CASE("a weight that somebody has written is where the next step begins, element by element") {
  std::vector<bfloat16> w(8, bfloat16(1.0f)), g(8, bfloat16(-1.0f));
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = opt.add_group(tiny_steps(weight_rounding::master));
  opt.add_parameter(id, "w", row_major(w.data(), 2, 4), row_major<const bfloat16>(g.data(), 2, 4));
  opt.step();
  w[3] = bfloat16(2.0f);
  opt.step();
  const std::vector<double> masters = opt.export_state("w").back().values;
  for (std::size_t k = 0; k < 8; ++k) CHECK(masters[k] == (k == 3 ? 2 + 0x1p-14 : 1 + 2 * 0x1p-14));
}

TEST_CASE("masters are state: a run that is cut, saved and resumed has the bits of one that was not") {
  const auto run = [](bool cut) {
    std::vector<bfloat16> w = random_elements<bfloat16>(1, 40);
    std::vector<named_tensor> saved;
    for (int part = 0; part < 2; ++part) {
      const std::vector<bfloat16> g = random_elements<bfloat16>(2, 40);
      optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
      normuon_options o;
      o.weight_rounding = weight_rounding::master;
      opt.add_parameter(opt.add_group(o), "w", row_major(w.data(), 5, 8), row_major(g.data(), 5, 8));
      if (!saved.empty()) opt.import_state(saved);
      for (int step = 0; step < (cut ? 3 : 6); ++step) opt.step();
      saved = opt.export_state();
      if (!cut) break;
    }
    return std::pair(w, saved);
  };
  const auto whole = run(false), resumed = run(true);
  CHECK(same_bits(whole.first, resumed.first));
  CHECK(same_bits(whole.second, resumed.second));
}

TEST_CASE("what masters can't do is refused: changes, and weights of another width") {
  std::vector<bfloat16> w(4), g(4);
  std::vector<float> wide(4);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  normuon_options o;
  o.weight_rounding = weight_rounding::master;
  const group_id id = opt.add_group(o);
  opt.add_parameter(id, "w", row_major(w.data(), 2, 2), row_major<const bfloat16>(g.data(), 2, 2));
  opt.add_parameter(id, "wide", row_major(wide.data(), 2, 2));
  CHECK(refusal_of([&] { opt.step_changes(); }).is(error_code::option, "'w'", "expected no master"));
  CHECK(refusal_of([&] {
          opt.bind_weight("w", row_major(wide.data(), 2, 2));
        }).is(error_code::parameter, "weight of 'w'", "expected one of 16 bits", "got float32"));
  CHECK(refusal_of([&] {
          opt.bind_weight("wide", row_major(w.data(), 2, 2));
        }).is(error_code::parameter, "expected one wider than 16 bits", "got bfloat16"));
}

TEST_CASE("a weight that is bound anew in another type is rounded as that type is") {
  std::vector<float> wide(64 * 64, 1.0f);
  std::vector<bfloat16> narrow(64 * 64, bfloat16(1.0f));
  const std::vector<float> g(64 * 64, -1.0f);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = opt.add_group(tiny_steps(weight_rounding::stochastic));
  opt.add_parameter(id, "w", row_major(wide.data(), 64, 64), row_major(g.data(), 64, 64));
  opt.step();
  CHECK(wide[0] == 1 + 0x1p-14f);
  opt.bind_weight("w", row_major(narrow.data(), 64, 64));
  opt.step();
  CHECK(std::any_of(narrow.begin(), narrow.end(), [](bfloat16 x) { return x == 1 + 0x1p-7f; }));
}

TEST_CASE("changes of 16 bits are rounded by chance as weights are") {
  std::vector<float> w(64 * 64, 1.0f);
  const std::vector<float> g(64 * 64, -1.0f);
  std::vector<bfloat16> change(64 * 64);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  adamw_options o = tiny_steps(weight_rounding::stochastic);
  o.learning_rate = 0x1p-14f * (1 + 0x1p-9f);  // a quarter of a unit above a number of bfloat16
  opt.add_parameter(opt.add_group(o), "w", row_major(w.data(), 64, 64), row_major(g.data(), 64, 64));
  opt.bind_change("w", row_major(change.data(), 64, 64));
  opt.step_changes();
  const auto up = std::count_if(change.begin(), change.end(), [](bfloat16 x) { return x > 0x1p-14f; });
  CHECK(std::abs(static_cast<double>(up) - 1024) < 5 * std::sqrt(4096 * 0.25 * 0.75));
}
