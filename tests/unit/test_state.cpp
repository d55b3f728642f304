#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"
#include "support/tracing_backend.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// A model in an optimizer, and its first `steps` steps.
template <tensor_backend B, element T>
struct training {
  model<T> m = mixed_model<T>();
  optimizer<B> opt{B({.threads = 1})};

  explicit training(int steps) {
    m.add_to(opt);
    for (int step = 0; step < steps; ++step) make_step(step);
  }
  void make_step(int step) {
    m.make_gradients(step);
    opt.step();
  }
};
using training32 = training<eigen_backend, float>;

}  // namespace

TEST_CASE("state is listed by name and shape: a step, a momentum, and what the rule keeps besides") {
  training32 t(1);
  struct {
    const char* name;
    std::vector<index_t> shape;
  } const expected[] = {{"wide.step", {1}},
                        {"wide.momentum", {5, 12}},
                        {"wide.second_moment", {5}},
                        {"tall.step", {1}},
                        {"tall.momentum", {12, 5}},
                        {"tall.second_moment", {12}},
                        {"batch.step", {1}},
                        {"batch.momentum", {3, 6, 6}},
                        {"batch.second_moment", {3, 6}},
                        {"muon.step", {1}},
                        {"muon.momentum", {4, 7}},
                        {"column.step", {1}},
                        {"column.momentum", {9, 1}},
                        {"empty.step", {1}},
                        {"empty.momentum", {0, 4}},
                        {"empty.second_moment", {0}},
                        {"vector.step", {1}},
                        {"vector.momentum", {1, 11}},
                        {"vector.second_moment", {1, 11}}};
  const std::vector<named_tensor> state = t.opt.export_state();
  const std::vector<listed_tensor> listed = t.opt.list_state();
  REQUIRE(state.size() == std::size(expected));
  REQUIRE(listed.size() == std::size(expected));
  for (std::size_t i = 0; i < state.size(); ++i) {
    CHECK(state[i].name == expected[i].name);
    CHECK(state[i].shape == expected[i].shape);
    std::size_t count = 1;
    for (const index_t extent : expected[i].shape) count *= static_cast<std::size_t>(extent);
    CHECK(state[i].values.size() == count);
    CHECK(listed[i].name == expected[i].name);
    CHECK(listed[i].shape == expected[i].shape);
    CHECK(listed[i].count() == count);
    CHECK(listed[i].type == (listed[i].name.ends_with(".step") ? element_type::float64 : element_type::float32));
  }
}

TEST_CASE("the state of one parameter is listed alone, in the type that the backend keeps, without a look at it") {
  model<float> m = mixed_model<float>();
  optimizer<tracing_backend> opt{};
  m.add_to(opt);
  const std::vector<listed_tensor> batch = opt.list_state("batch");
  REQUIRE(batch.size() == 3);
  CHECK(batch[1].name == "batch.momentum");
  CHECK(batch[1].shape == std::vector<index_t>{3, 6, 6});
  CHECK(opt.list_state().size() == 19);
  CHECK(opt.backend().looks == 0);
  CHECK(refusal_of([&] { opt.list_state("botch"); }).is(error_code::parameter, "no parameter 'botch'"));
  CHECK(training<eigen_backend64, double>(0).opt.list_state("wide")[1].type == element_type::float64);
}

TEST_CASE("exported numbers are the optimizer's own: steps, the momentum, the second moment of each neuron") {
  std::vector<double> w = {1, 2, 3, 4};
  const std::vector<double> g = {8, -16, 32, 64};
  optimizer<eigen_backend64> opt(eigen_backend64({.threads = 1}));
  opt.add_parameter(opt.add_group(adamw_options{.momentum = 0.75, .beta2 = 0.5}), "w", row_major(w.data(), 2, 2),
                    row_major(g.data(), 2, 2));
  opt.step();
  opt.step();
  const std::vector<named_tensor> state = opt.export_state("w");
  REQUIRE(state.size() == 3);
  CHECK(state[0].values == std::vector<double>{2});
  for (std::size_t k = 0; k < 4; ++k) {  // all exact in binary
    CHECK(state[1].values[k] == (0.75 * 0.25 + 0.25) * g[k]);
    CHECK(state[2].values[k] == (0.5 * 0.5 + 0.5) * g[k] * g[k]);
  }
}

TEST_CASE("the state of a column-major weight is exported by rows") {
  std::vector<float> w(6);
  const std::vector<float> g = {1, 4, 2, 5, 3, 6};  // by columns: 1 2 3 over 4 5 6
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  opt.add_parameter(opt.add_group(muon_options{.momentum_form = momentum_form::heavy_ball}), "w",
                    column_major(w.data(), 2, 3), column_major(g.data(), 2, 3));
  opt.step();
  CHECK(opt.export_state("w")[1].values == std::vector<double>{1, 2, 3, 4, 5, 6});
}

TEST_CASE_TEMPLATE("state does not know how weights lie: what steps by rows goes on by columns, and by rows again", T,
                   float, bfloat16) {
  const any_options all[] = {normuon_options{}, adamw_options{},
                             normuon_options{.weight_rounding = weight_rounding::master},
                             adamw_options{.weight_rounding = weight_rounding::master}};
  for (const any_options& o : all) {
    constexpr index_t m = 5, n = 37, count = 2 * m * n;
    const auto by_rows = [&](T* p) { return batched(row_major(p, m, n), 2, m * n); };
    const auto by_columns = [&](T* p) { return batched(column_major(p, m, n), 2, m * n); };
    const auto copy = [](const matrix_ref<T>& to, const matrix_ref<T>& from) {
      for (index_t b = 0; b < 2; ++b)
        for (index_t i = 0; i < m; ++i)
          for (index_t j = 0; j < n; ++j) to.one(b)(i, j) = from.one(b)(i, j);
    };
    auto w = random_elements<T>(1, count), g = random_elements<T>(2, count), columns = w, rows = w;
    const auto opt_of = [&](const matrix_ref<T>& weight) {
      optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
      const group_id id = std::visit([&](const auto& options) { return opt.add_group(options); }, o);
      opt.add_parameter(id, "w", weight, by_rows(g.data()));
      return opt;
    };
    optimizer whole = opt_of(by_rows(w.data())), first = opt_of(by_rows(rows.data()));
    for (int step = 0; step < 6; ++step) whole.step();
    first.step(), first.step();
    copy(by_columns(columns.data()), by_rows(rows.data()));
    optimizer second = opt_of(by_columns(columns.data()));
    second.import_state(first.export_state());
    second.step(), second.step();
    copy(by_rows(rows.data()), by_columns(columns.data()));
    second.bind_weight("w", by_rows(rows.data()));
    second.step(), second.step();
    CHECK(same_bits(rows, w));
    const auto expected = whole.export_state(), got = second.export_state();
    for (std::size_t k = 0; k < expected.size(); ++k) CHECK(got[k].values == expected[k].values);
  }
}

TEST_CASE("exported state is a copy, which later steps leave alone") {
  training32 t(2);
  const auto state = t.opt.export_state(), copy = state;
  t.make_step(2);
  CHECK(same_bits(state, copy));
  CHECK(!same_bits(t.opt.export_state(), copy));
}

TEST_CASE_TEMPLATE("a run that is cut at any step and goes on elsewhere is bit for bit the whole run", T, float,
                   bfloat16, float16) {
  constexpr int steps = 4;
  training<eigen_backend, T> whole(steps);
  for (int cut = 0; cut <= steps; ++cut) {
    CAPTURE(cut);
    training<eigen_backend, T> first(cut), second(0);
    second.m.set_weights(first.m.weights());
    second.opt.import_state(first.opt.export_state());
    for (int step = cut; step < steps; ++step) second.make_step(step);
    CHECK(same_bits(second.m.weights(), whole.m.weights()));
    CHECK(same_bits(second.opt.export_state(), whole.opt.export_state()));
  }
}

TEST_CASE("a run in double is cut and goes on bit for bit too") {
  training<eigen_backend64, double> whole(4), first(2), second(1);
  second.m.set_weights(first.m.weights());
  second.opt.import_state(first.opt.export_state());
  second.make_step(2);
  second.make_step(3);
  CHECK(same_bits(second.m.weights(), whole.m.weights()));
}

TEST_CASE("a run whose state is not finite is cut and goes on bit for bit too, until zeros are imported") {
  struct {
    any_options options;
    non_finite_policy policy;
    float gradient;
  } const cases[] = {{normuon_options::dion(), non_finite_policy::skip, 3e38f},  // the second one overflows M
                     {normuon_options::paper(), non_finite_policy::propagate, std::nanf("")},
                     {adamw_options{}, non_finite_policy::propagate, std::nanf("")}};
  for (const auto& c : cases) {
    model<float> whole({{"w", c.options, 3, 5}, {"other", c.options, 4, 4}}),
        rest({{"w", c.options, 3, 5}, {"other", c.options, 4, 4}});
    optimizer<eigen_backend> opt(eigen_backend({.threads = 1}), {.non_finite = c.policy});
    optimizer<eigen_backend> second(eigen_backend({.threads = 1}), {.non_finite = c.policy});
    whole.add_to(opt);
    rest.add_to(second);
    for (int step = 0; step < 2; ++step) {
      whole.make_gradients(step);
      std::fill(whole.parameters[0].gradient.begin(), whole.parameters[0].gradient.end(), c.gradient);
      opt.step();
    }
    const std::vector<named_tensor> state = opt.export_state();
    CHECK(!is_finite(state[1].values[0]));
    rest.set_weights(whole.weights());
    second.import_state(state);
    CHECK(same_bits(second.export_state(), state));
    for (auto* each : {&whole, &rest}) each->make_gradients(2);
    opt.step();
    second.step();
    CHECK(same_bits(rest.weights(), whole.weights()));
    CHECK(same_bits(second.export_state(), opt.export_state()));

    std::vector<named_tensor> zeros = state;
    for (named_tensor& t : zeros) t.values.assign(t.values.size(), 0);
    rest.parameters[0].weight.assign(15, 1);
    second.import_state(zeros);
    second.step();
    CHECK(second.report().parameters[0].outcome == outcome::moved);
    for (const float w : rest.parameters[0].weight) CHECK((is_finite(w) && w != 1));
  }
}

TEST_CASE("state is taken in any order, and comes out as it went in") {
  training32 from(3), to(1);
  std::vector<named_tensor> state = from.opt.export_state();
  const auto expected = state;
  std::reverse(state.begin(), state.end());
  std::swap(state[2], state[9]);
  to.opt.import_state(state);
  CHECK(same_bits(to.opt.export_state(), expected));
}

TEST_CASE("one parameter's state can be replaced alone") {
  training32 from(3), to(1);
  const auto tall = to.opt.export_state("tall");
  to.opt.import_state("wide", from.opt.export_state("wide"));
  CHECK(same_bits(to.opt.export_state("wide"), from.opt.export_state("wide")));
  CHECK(same_bits(to.opt.export_state("tall"), tall));
}

TEST_CASE("state that does not fit is refused by name, and none of it is written") {
  training32 from(3), to(1);
  const auto before = to.opt.export_state();
  const auto weights = to.m.weights();
  const auto refuses = [&](auto spoil, const auto&... pieces) {
    std::vector<named_tensor> state = from.opt.export_state();
    spoil(state);
    CHECK(refusal_of([&] { to.opt.import_state(state); }).is(error_code::state, pieces...));
    CHECK(same_bits(to.opt.export_state(), before));
    CHECK(same_bits(to.m.weights(), weights));
  };
  constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  // Index 4 is tall.momentum, 5 tall.second_moment, 18 the last tensor: all before it must stay unwritten.
  refuses([](auto& s) { s.erase(s.begin() + 4); }, "expected state 'tall.momentum'", "none");
  refuses([](auto& s) { s.pop_back(); }, "vector.second_moment");
  refuses([](auto& s) { s.push_back(s[4]); }, "'tall.momentum' is there twice");
  refuses([](auto& s) { s[4].name = "talk.momentum"; }, "tall.momentum");
  refuses([](auto& s) { s.push_back({"stray.momentum", {1}, {0}}); }, "expected 19 tensors", "got 20");
  refuses([](auto& s) { s[4].shape = {5, 12}; }, "tall.momentum", "[12, 5]", "[5, 12]");
  refuses([](auto& s) { s[4].shape = {60}; }, "tall.momentum", "[12, 5]", "[60]");
  refuses([](auto& s) { s[4].values.pop_back(); }, "tall.momentum", "with 60 values", "with 59");
  refuses([](auto& s) { s[18].values[3] = -infinity; }, "vector.second_moment", ">= 0", "-inf");
  refuses([](auto& s) { s[16].values[0] = not_a_number; }, "vector.step", "finite", "nan");
  refuses([](auto& s) { s[16].values[0] = infinity; }, "vector.step", "finite", "inf");
  refuses([](auto& s) { s[17].values[10] = 1e300; }, "vector.momentum", "1e+300", "out of range");
  refuses([](auto& s) { s[5].values[11] = -1e-3; }, "tall.second_moment", ">= 0", "-0.001");
  refuses([](auto& s) { s[16].values[0] = -1; }, "vector.step", ">= 0", "-1");
  refuses([](auto& s) { s[16].values[0] = 2.5; }, "vector.step", "whole number", "2.5");
  refuses([](auto& s) { s[16].values[0] = 1e16; }, "vector.step", "whole number", "1e+16");
  refuses([](auto& s) { s.clear(); }, "wide.step");
}

TEST_CASE("the state of one parameter is refused where it is another's, or more than its own") {
  training32 t(2);
  const auto before = t.opt.export_state();
  const auto wide = t.opt.export_state("wide");
  CHECK(refusal_of([&] { t.opt.import_state("tall", wide); }).is(error_code::state, "tall.step", "none"));
  CHECK(refusal_of([&] { t.opt.import_state("wide", before); }).is(error_code::state, "expected 3 tensors", "got 19"));
  CHECK(same_bits(t.opt.export_state(), before));
}

TEST_CASE("state takes one number an element and one a neuron, or two an element for AdamW, beside a counter") {
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  CHECK(opt.state_bytes() == 0);
  std::vector<bfloat16> w(5 * 600);
  bfloat16* own = w.data();
  std::size_t before = 0;
  const auto added = [&](const auto& options, index_t batch) {
    const std::string name = std::to_string(opt.state_bytes());
    opt.add_parameter(opt.add_group(options), name, batched(row_major(own, 10, 20), batch, 200));
    own += 600;
    const std::size_t bytes = opt.state_bytes() - before;
    before = opt.state_bytes();
    return bytes - 64;  // the counter has a cache line to itself
  };
  CHECK(added(normuon_options::paper(), 1) == 4 * (200 + 10));
  CHECK(added(normuon_options::nanogpt(), 1) == 4 * (200 + 20));
  CHECK(added(normuon_options::paper(), 3) == 4 * (600 + 30));
  CHECK(added(muon_options{}, 1) == 4 * 200);
  CHECK(added(adamw_options{}, 1) == 4 * 400);
  opt.remove_parameter("0");
  CHECK(opt.state_bytes() == before - 4 * (200 + 10) - 64);

  optimizer<eigen_backend64> wide(eigen_backend64({.threads = 1}));
  std::vector<double> w64(200);
  wide.add_parameter(wide.add_group(muon_options{}), "w", row_major(w64.data(), 10, 20));
  CHECK(wide.state_bytes() == 8 * 200 + 64);
}
