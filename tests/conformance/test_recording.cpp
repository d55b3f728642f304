#include <doctest/doctest.h>

#include <limits>

#include "normuon/testing/backend_conformance.hpp"
#include "support/model.hpp"
#include "support/recording_backend.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Trains the mixed model in both optimizers; `between(step, model, optimizer)` may change what it likes before each
// step.
template <class Between>
void check_same_bits(Between&& between) {
  model<float> m = mixed_model<float>(), other = mixed_model<float>();
  optimizer<recording_backend> recorded;
  optimizer<direct_backend> direct(direct_backend({.threads = 1}));
  m.add_to(recorded);
  other.add_to(direct);
  for (int step = 0; step < 5; ++step) {
    m.make_gradients(step);
    other.make_gradients(step);
    between(step, m, recorded);
    between(step, other, direct);
    recorded.step();
    direct.step();
    CHECK(same_bits(m.weights(), other.weights()));
    CHECK(same_bits(recorded.export_state(), direct.export_state()));
  }
  CHECK(recorded.backend().recorded == 1);
  CHECK(recorded.backend().replayed == 5);
}

}  // namespace

TEST_CASE("a backend that records keeps the laws") {
  normuon::testing::check_backend([] { return recording_backend(); });
}

TEST_CASE("a step that is recorded once replays with new gradients, bit for bit what a direct step does") {
  check_same_bits([](int, auto&, auto&) {});
}

TEST_CASE("a recorded step obeys rates, decays, momenta and gradient scales that are set later") {
  check_same_bits([](int step, auto&, auto& opt) {
    opt.set_learning_rate(0.01 * (step + 1));
    opt.set_weight_decay(group_id(0), 0.1 * step);
    opt.set_momentum(group_id(1), 0.9 - 0.1 * step);
    opt.set_beta2(group_id(2), 0.5 + 0.1 * step);
    opt.set_gradient_scale(1.0 / (step + 1));
  });
}

TEST_CASE(
    "a recorded step reads gradients where they are bound now, and leaves out absent, frozen and non-finite ones") {
  std::vector<std::vector<float>> moved;
  moved.reserve(100);  // gradients stay where they are bound
  check_same_bits([&](int step, auto& m, auto& opt) {
    auto& wide = m.parameters[0];
    moved.push_back(wide.gradient);
    opt.bind_gradient("wide", row_major(moved.back().data(), 5, 12));
    if (step == 1) opt.unbind_gradient("tall");
    if (step == 2) m.parameters[2].gradient[40] = std::numeric_limits<float>::quiet_NaN();
    if (step == 2) opt.freeze("vector");
    if (step == 3) opt.unfreeze("vector");
  });
}

TEST_CASE("a parameter that has no gradient or is frozen when a step is recorded moves when that is over") {
  check_same_bits([](int step, auto& m, auto& opt) {
    if (step == 0) opt.unbind_gradient("tall");
    if (step == 0) opt.freeze("vector");
    if (step == 2) opt.bind_gradient("tall", m.gradient_of(m.parameters[1]));
    if (step == 3) opt.unfreeze("vector");
    if (step == 4) m.parameters[1].gradient[0] = std::numeric_limits<float>::infinity();  // checked, too
  });
}

TEST_CASE("a recorded step never waits for the host, and tells of a non-finite gradient when it is asked") {
  model<float> m = mixed_model<float>();
  optimizer<recording_backend> opt(recording_backend(), {.non_finite = non_finite_policy::raise});
  m.add_to(opt);
  m.make_gradients(0);
  opt.step();
  opt.report();
  m.parameters[1].gradient[0] = std::numeric_limits<float>::infinity();
  const auto before = m.weights();
  const int syncs = opt.backend().syncs;
  opt.step();
  CHECK(opt.backend().syncs == syncs);
  CHECK(same_bits(m.parameters[1].weight, before[1]));
  CHECK_FALSE(same_bits(m.parameters[0].weight, before[0]));
  CHECK(refusal_of([&] { opt.report(); }).is(error_code::non_finite, "in the gradient of 'tall'"));
  CHECK(opt.export_state("tall")[0].values[0] == 1);  // it was held back, so its state is sound
  m.make_gradients(1);
  opt.step();
  CHECK(opt.report().parameters[1].outcome == outcome::moved);
}

TEST_CASE("under `raise` a recorded step, like any other, reports a finite gradient whose update overflows") {
  model<float> m({{"w", normuon_options::dion(), 4, 6}});
  std::fill(m.parameters[0].gradient.begin(), m.parameters[0].gradient.end(), 3e38f);  // two of them overflow M
  const auto check = [&](auto&& opt) {
    m.add_to(opt);
    opt.step();
    opt.step();
    CHECK(opt.report().parameters[0].outcome == outcome::non_finite_update);
  };
  const optimizer_options raise{.non_finite = non_finite_policy::raise};
  check(optimizer<recording_backend>(recording_backend(), raise));
  check(optimizer<direct_backend>(direct_backend({.threads = 1}), raise));
}

TEST_CASE("a step and a change are recorded each, and parameters that are added are recorded anew") {
  model<float> m = mixed_model<float>();
  optimizer<recording_backend> opt;
  m.add_to(opt);
  m.make_gradients(0);
  opt.step();
  opt.step_changes();
  opt.step();
  opt.step_changes();
  CHECK(opt.backend().recorded == 2);
  std::vector<float> w(4, 1), g(4, 1);
  opt.add_parameter(group_id(0), "late", row_major(w.data(), 2, 2), row_major(g.data(), 2, 2));
  opt.step();
  CHECK(opt.backend().recorded == 3);
  CHECK(w != std::vector<float>(4, 1));
}

TEST_CASE("a recording that fails changes nothing, and the next step is made as if it had not been tried") {
  model<float> m = mixed_model<float>(), other = mixed_model<float>();
  optimizer<recording_backend> opt;
  optimizer<direct_backend> direct(direct_backend({.threads = 1}));
  m.add_to(opt);
  other.add_to(direct);
  m.make_gradients(0);
  other.make_gradients(0);
  const auto weights = m.weights();
  const auto state = opt.export_state();
  opt.backend().has_room = false;
  CHECK_THROWS_AS(opt.step(), std::bad_alloc);
  CHECK(same_bits(m.weights(), weights));
  CHECK(same_bits(opt.export_state(), state));
  opt.backend().has_room = true;
  opt.step();
  direct.step();
  CHECK(same_bits(m.weights(), other.weights()));
}
