#include <doctest/doctest.h>

#include <limits>

#include "support/trained_model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// Makes a step of a 2 x 3 weight by `options` after `change` of the optimizer.
template <class Options, class Change>
std::vector<float> stepped(const Options& options, group_factors factors, Change&& change) {
  std::vector<float> w = {1, -2, 3, 4, -5, 6};
  const std::vector<float> g = {0.5f, 1, -1, 2, 0.25f, -3};
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = opt.add_group(options, factors);
  opt.add_parameter(id, "w", row_major(w.data(), 2, 3), row_major(g.data(), 2, 3));
  change(opt, id);
  for (int step = 0; step < 3; ++step) opt.step();
  return w;
}
template <class Options>
std::vector<float> stepped(const Options& options) {
  return stepped(options, {}, [](auto&, group_id) {});
}

}  // namespace

TEST_CASE_TEMPLATE("a group whose numbers are set steps like one that was made with them", Options, normuon_options,
                   adamw_options) {
  Options made;
  made.learning_rate = 0.03, made.weight_decay = 0.2, made.momentum = 0.6, made.beta2 = 0.7;
  const std::vector<float> expected = stepped(made);
  CHECK(stepped(Options{}) != expected);
  CHECK(stepped(Options{}, {}, [](auto& opt, group_id id) {
          opt.set_learning_rate(id, 0.03);
          opt.set_weight_decay(id, 0.2);
          opt.set_momentum(id, 0.6);
          opt.set_beta2(id, 0.7);
        }) == expected);
}

TEST_CASE("Muon's numbers can be set like NorMuon's") {
  muon_options made;
  made.learning_rate = 0.03, made.weight_decay = 0.2, made.momentum = 0.6;
  CHECK(stepped(muon_options{}, {}, [](auto& opt, group_id id) {
          opt.set_learning_rate(id, 0.03);
          opt.set_weight_decay(id, 0.2);
          opt.set_momentum(id, 0.6);
        }) == stepped(made));
}

TEST_CASE_TEMPLATE("a group's factors multiply its rate and its decay, also those that are set later", Options,
                   normuon_options, muon_options, adamw_options) {
  Options made;
  made.learning_rate = 0.03 * 0.5, made.weight_decay = 0.2 * 4;
  Options plain;
  plain.learning_rate = 0.03, plain.weight_decay = 0.2;
  const group_factors factors{.learning_rate = 0.5, .weight_decay = 4};
  CHECK(stepped(plain, factors, [](auto&, group_id) {}) == stepped(made));
  CHECK(stepped(Options{}, factors, [](auto& opt, group_id id) {
          opt.set_learning_rate(0.03);
          opt.set_weight_decay(id, 0.2);
        }) == stepped(made));
}

TEST_CASE("setting one group's rate leaves other groups alone, setting all groups' does not") {
  trained_model one, all, none;
  one.opt.set_learning_rate(group_id{0}, 0);
  all.opt.set_learning_rate(0);
  const auto before = one.m.weights();
  for (trained_model* t : {&one, &all, &none}) {
    t->m.make_gradients(2);
    t->opt.step();
  }
  for (std::size_t i = 0; i < before.size(); ++i) {
    CAPTURE(one.m.parameters[i].name);
    CHECK(same_bits(one.m.parameters[i].weight, i == 0 ? before[i] : none.m.parameters[i].weight));
    CHECK(same_bits(all.m.parameters[i].weight, before[i]));
  }
}

TEST_CASE("numbers out of range are refused, with what was expected and what came") {
  trained_model t;
  const group_id id{0}, missing{7};
  const auto refuses = [&](auto set, double x, const char* expected, const char* got) {
    CHECK(t.refused([&] { set(x); }).is(error_code::option, expected, got));
  };
  refuses([&](double x) { t.opt.set_learning_rate(id, x); }, -0.5, "learning_rate >= 0", "-0.5");
  refuses([&](double x) { t.opt.set_learning_rate(id, x); }, not_a_number, "learning_rate >= 0", "nan");
  refuses([&](double x) { t.opt.set_learning_rate(x); }, infinity, "learning_rate >= 0", "inf");
  refuses([&](double x) { t.opt.set_weight_decay(id, x); }, -1, "weight_decay >= 0", "-1");
  refuses([&](double x) { t.opt.set_momentum(id, x); }, 1, "momentum in [0, 1)", "1");
  refuses([&](double x) { t.opt.set_momentum(id, x); }, not_a_number, "momentum in [0, 1)", "nan");
  refuses([&](double x) { t.opt.set_beta2(id, x); }, -0.1, "beta2 in [0, 1)", "-0.1");
  refuses([&](double x) { t.opt.set_gradient_scale(x); }, -1, "gradient_scale >= 0", "-1");
  refuses([&](double x) { t.opt.set_gradient_scale(x); }, infinity, "gradient_scale >= 0", "inf");
  refuses([&](double x) { t.opt.set_learning_rate(missing, x); }, 1, "a group of 0 to 6", "7");
  refuses([&](double x) { t.opt.set_learning_rate(group_id{-1}, x); }, 1, "a group of 0 to 6", "-1");
}

TEST_CASE("numbers that the backend's type can't hold are refused, also as products") {
  trained_model t;
  const group_id id{0};
  const auto refuses = [&](auto act, const char* expected, const char* got) {
    CHECK(t.refused(act).is(error_code::option, expected, "expected a number that fits float32", got));
  };
  refuses([&] { t.opt.set_gradient_scale(1e39); }, "gradient_scale", "1e+39");
  refuses([&] { t.opt.set_learning_rate(id, 1e39); }, "learning_rate", "1e+39");
  refuses([&] { t.opt.set_weight_decay(id, 1e300); }, "weight_decay", "1e+297");
  refuses([&] { t.opt.set_weight_decay(id, std::numeric_limits<double>::max()); }, "weight_decay", "e+305");
  refuses([&] { t.opt.add_group(normuon_options{.learning_rate = 1e39}); }, "learning_rate", "1e+39");
  refuses([&] { t.opt.add_group(muon_options{}, {.learning_rate = 1e300}); }, "learning_rate", "2e+298");
  refuses([&] { t.opt.add_group(adamw_options{.epsilon = 1e39}); }, "epsilon", "1e+39");
  refuses([&] { t.opt.add_group(adamw_options{.learning_rate = 1e30, .weight_decay = 1e10}); }, "weight_decay",
          "1e+40");
  t.opt.set_learning_rate(1e38);
  t.opt.set_learning_rate(1e-3);

  optimizer<eigen_backend64> wide(eigen_backend64({.threads = 1}));
  const group_id plain = wide.add_group(adamw_options{.learning_rate = 1e39, .epsilon = 1e39});
  wide.set_gradient_scale(1e39);
  const auto too_large = [&](auto act) { CHECK(refusal_of(act).is(error_code::option, "fits float64", "inf")); };
  too_large([&] { wide.add_group(adamw_options{.learning_rate = 1e200}, {.learning_rate = 1e200}); });
  too_large([&] { wide.set_weight_decay(plain, 1e300); });
}

TEST_CASE("numbers that would vanish in the backend's type are refused, for they would undo the update") {
  trained_model t;
  const auto refuses = [&](auto act, const char* what, const char* got) {
    CHECK(t.refused(act).is(error_code::option, what, "expected a number that fits float32", got));
  };
  refuses([&] { t.opt.set_gradient_scale(1e-46); }, "gradient_scale", "1e-46");
  refuses([&] { t.opt.set_gradient_scale(2e-45); }, "gradient_scale, times 1 - momentum", "1e-46");
  refuses([&] { t.opt.add_group(adamw_options{.epsilon = 1e-50}); }, "epsilon", "1e-50");
  t.opt.set_gradient_scale(1e-40);
  const auto near_one = [&] { t.opt.set_momentum(group_id{0}, 1 - 1e-7); };
  CHECK(refusal_of(near_one).is(error_code::option, "gradient_scale, times 1 - momentum"));
  const auto new_group = [&] { t.opt.add_group(muon_options{.momentum = 1 - 1e-7}); };
  CHECK(refusal_of(new_group).is(error_code::option, "gradient_scale, times 1 - momentum"));
  t.opt.set_gradient_scale(0);  // which is meant
  t.opt.set_gradient_scale(1);
  t.opt.set_learning_rate(1e-300);  // a schedule may end there
  t.opt.step();

  optimizer<eigen_backend64> wide(eigen_backend64({.threads = 1}));
  wide.add_group(adamw_options{.epsilon = 1e-50});
  wide.set_gradient_scale(1e-46);
}

TEST_CASE("a matrix rule takes no epsilon so large that factors of neurons vanish, and no choice that is none") {
  trained_model t;
  const auto refuses = [&](const auto& options, const char* what, const char* got) {
    CHECK(t.refused([&] { t.opt.add_group(options); }).is(error_code::option, what, got));
  };
  refuses(normuon_options{.epsilon = 1e170}, "epsilon", "1e+170");
  t.opt.add_group(normuon_options{.epsilon = 1e100});
  const auto none = [](auto choice) { return static_cast<decltype(choice)>(99); };
  refuses(normuon_options{.scale = none(update_scale{})}, "scale", "99");
  refuses(normuon_options{.momentum_form = none(momentum_form{})}, "momentum_form", "99");
  refuses(normuon_options{.neuron_axis = none(neuron_axis{})}, "neuron_axis", "99");
  refuses(normuon_options{.epsilon_form = none(epsilon_form{})}, "epsilon_form", "99");
  refuses(normuon_options{.decay = none(decay_form{})}, "decay", "99");
  refuses(normuon_options{.weight_rounding = none(weight_rounding{})}, "weight_rounding", "99");
  refuses(muon_options{.orthogonalizer = {.form = none(iteration_form{})}}, "form", "99");
  refuses(muon_options{.orthogonalizer = {.guard = none(norm_guard{})}}, "guard", "99");
  refuses(muon_options{.orthogonalizer = {.compute = none(compute_type{})}}, "compute", "99");
  refuses(adamw_options{.decay = none(decay_form{})}, "decay", "99");
  refuses(adamw_options{.weight_rounding = none(weight_rounding{})}, "weight_rounding", "99");
}

TEST_CASE("a rate for all groups that does not fit one of them is set in none") {
  const adamw_options o{.learning_rate = 0.25};
  CHECK(stepped(o, {}, [](auto& opt, group_id) {
          opt.add_group(adamw_options{}, {.learning_rate = 1e10});
          CHECK(refusal_of([&] { opt.set_learning_rate(1e30); }).is(error_code::option, "float32", "1e+40"));
        }) == stepped(o));
}

TEST_CASE("options out of range are refused when a group is added") {
  trained_model t;
  const auto refuses = [&](const auto& options, group_factors factors, const char* expected, const char* got) {
    CHECK(t.refused([&] { t.opt.add_group(options, factors); }).is(error_code::option, expected, got));
  };
  refuses(normuon_options{.learning_rate = -1}, {}, "learning_rate", "-1");
  refuses(normuon_options{.momentum = 1.5}, {}, "momentum", "1.5");
  refuses(normuon_options{.beta2 = 1}, {}, "beta2", "1");
  refuses(normuon_options{.epsilon = -1e-3}, {}, "epsilon", "-0.001");
  refuses(normuon_options{.weight_decay = not_a_number}, {}, "weight_decay", "nan");
  refuses(normuon_options{.published = {.ratio_floor = -1}}, {}, "published.ratio_floor", "-1");
  refuses(muon_options{.momentum = -0.25}, {}, "momentum", "-0.25");
  refuses(muon_options{.published = {.norm_added = not_a_number}}, {}, "published.norm_added", "nan");
  refuses(adamw_options{.beta2 = infinity}, {}, "beta2", "inf");
  refuses(adamw_options{.epsilon = -1}, {}, "epsilon", "-1");
  refuses(adamw_options{}, {.learning_rate = -2}, "learning_rate factor", "-2");
  refuses(muon_options{}, {.weight_decay = not_a_number}, "weight_decay factor", "nan");
  refuses(muon_options{.orthogonalizer = {.restarts = restart_steps{5}}}, {}, "restarts before steps below 5", "5");
  refuses(muon_options{.orthogonalizer = {.compute = compute_type::float16}}, {}, "can't compute in", "float16");
}
