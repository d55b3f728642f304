#include <doctest/doctest.h>

#include <limits>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// A model in an optimizer that has made two steps.
struct trained {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt{eigen_backend({.threads = 1})};

  trained() {
    m.add_to(opt);
    for (int step = 0; step < 2; ++step) {
      m.make_gradients(step);
      opt.step();
    }
  }
  // A refused act leaves weights, gradients, state and what the next step does as they were.
  template <class Act>
  refusal refused(Act&& act) {
    const auto weights = m.weights();
    const auto state = opt.export_state();
    const refusal r = refusal_of(act);
    CHECK(same_bits(m.weights(), weights));
    CHECK(same_bits(opt.export_state(), state));
    m.make_gradients(9);
    const auto gradients = m.parameters[0].gradient;
    opt.step();
    trained same;
    same.m.make_gradients(9);
    same.opt.step();
    CHECK(same_bits(m.weights(), same.m.weights()));
    CHECK(same_bits(m.parameters[0].gradient, gradients));
    m.set_weights(weights);
    opt.import_state(state);
    return r;
  }
};

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
  trained one, all, none;
  one.opt.set_learning_rate(group_id{0}, 0);
  all.opt.set_learning_rate(0);
  const auto before = one.m.weights();
  for (trained* t : {&one, &all, &none}) {
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
  trained t;
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

TEST_CASE("options out of range are refused when a group is added") {
  trained t;
  const auto refuses = [&](const auto& options, group_factors factors, const char* expected, const char* got) {
    CHECK(t.refused([&] { t.opt.add_group(options, factors); }).is(error_code::option, expected, got));
  };
  refuses(normuon_options{.learning_rate = -1}, {}, "learning_rate", "-1");
  refuses(normuon_options{.momentum = 1.5}, {}, "momentum", "1.5");
  refuses(normuon_options{.beta2 = 1}, {}, "beta2", "1");
  refuses(normuon_options{.epsilon = -1e-3}, {}, "epsilon", "-0.001");
  refuses(normuon_options{.weight_decay = not_a_number}, {}, "weight_decay", "nan");
  refuses(muon_options{.momentum = -0.25}, {}, "momentum", "-0.25");
  refuses(adamw_options{.beta2 = infinity}, {}, "beta2", "inf");
  refuses(adamw_options{.epsilon = -1}, {}, "epsilon", "-1");
  refuses(adamw_options{}, {.learning_rate = -2}, "learning_rate factor", "-2");
  refuses(muon_options{}, {.weight_decay = not_a_number}, "weight_decay factor", "nan");
  refuses(muon_options{.orthogonalizer = {.restart = 5}}, {}, "a restart from 1 to 4", "5");
  refuses(muon_options{.orthogonalizer = {.restart = -2}}, {}, "a restart from 1 to 4", "-2");
  refuses(muon_options{.orthogonalizer = {.compute = compute_type::float16}}, {}, "can't compute in", "float16");
}

TEST_CASE("parameters that can't be taken are refused, by name") {
  trained t;
  std::vector<float> w(12), g(12);
  std::vector<double> wide(12);
  const auto refuses = [&](const char* name, auto weight, auto gradient, error_code code, const auto&... pieces) {
    CHECK(t.refused([&] { t.opt.add_parameter(group_id{0}, name, weight, gradient); }).is(code, pieces...));
  };
  const auto fine = row_major(w.data(), 3, 4);
  const auto fine_gradient = row_major(g.data(), 3, 4);
  refuses("", fine, fine_gradient, error_code::parameter, "a name");
  refuses("tall", fine, fine_gradient, error_code::parameter, "'tall' already");
  refuses("a", row_major(w.data(), -3, 4), fine_gradient, error_code::parameter, "weight of 'a'", ">= 0", "-3 x 4");
  refuses("a", row_major(static_cast<float*>(nullptr), 3, 4), fine_gradient, error_code::parameter, "weight of 'a'",
          "memory for 12", "null");
  refuses("a", matrix_ref<float>{w.data(), 3, 4, 4, 0}, fine_gradient, error_code::parameter, "weight of 'a'",
          "a stride of 0");
  refuses("a", matrix_ref<float>{w.data(), 3, 4, 0, 1}, fine_gradient, error_code::parameter, "a stride of 0");
  refuses("a", batched(row_major(w.data(), 3, 2), 2, 0), fine_gradient, error_code::parameter, "a stride of 0");
  refuses("a", row_major(w.data(), index_t{1} << 32, index_t{1} << 31), fine_gradient, error_code::parameter,
          "fit 64 bits", "4294967296 x 2147483648");
  refuses("a", fine, row_major(g.data(), 4, 3), error_code::gradient, "gradient of 'a'", "1 of 3 x 4", "1 of 4 x 3");
  refuses("a", fine, batched(row_major(g.data(), 3, 4), 2, 12), error_code::gradient, "1 of 3 x 4", "2 of 3 x 4");
  refuses("a", fine, row_major(static_cast<float*>(nullptr), 3, 4), error_code::gradient, "gradient of 'a'", "null");
  refuses("a", row_major(wide.data(), 3, 4), fine_gradient, error_code::parameter, "weight of 'a'", "float64");
  refuses("a", fine, row_major(wide.data(), 3, 4), error_code::gradient, "gradient of 'a'", "float64");
  CHECK(t.refused([&] { t.opt.add_parameter(group_id{9}, "a", fine); }).is(error_code::option, "0 to 6", "9"));
}

TEST_CASE("a weight that begins where another parameter's does is refused: tied weights are one parameter") {
  trained t;
  auto& tall = t.m.parameters[1];
  const auto add = [&](auto weight) { t.opt.add_parameter(group_id{0}, "tied", weight); };
  CHECK(t.refused([&] {
           add(row_major(tall.weight.data(), 5, 12));
         }).is(error_code::parameter, "weight of 'tied'", "its own", "'tall'"));
  CHECK(t.refused([&] {
           add(row_major(tall.weight.data(), 12, 5).row_block(0, 2));
         }).is(error_code::parameter, "'tall'"));
  std::vector<float> elsewhere(60);
  t.opt.bind_weight("tall", row_major(elsewhere.data(), 12, 5));
  CHECK(refusal_of([&] { add(row_major(elsewhere.data(), 12, 5)); }).is(error_code::parameter, "'tall'"));
  add(row_major(tall.weight.data(), 12, 5));
  t.opt.remove_parameter("tied");
  add(row_major(tall.weight.data(), 12, 5));
  for (const char* name : {"nothing", "nothing else"})  // no elements, so none are shared
    t.opt.add_parameter(group_id{0}, name, row_major(tall.weight.data(), 0, 5));
  t.opt.step();
}

TEST_CASE("bindings of another shape, and of names that are not there, are refused") {
  trained t;
  std::vector<float> x(60);
  const auto other = row_major(x.data(), 4, 12);
  CHECK(t.refused([&] {
           t.opt.bind_weight("wide", other);
         }).is(error_code::parameter, "weight of 'wide'", "5 x 12", "4 x 12"));
  CHECK(
      t.refused([&] { t.opt.bind_gradient("wide", other); }).is(error_code::gradient, "gradient of 'wide'", "4 x 12"));
  CHECK(t.refused([&] { t.opt.bind_change("wide", other); }).is(error_code::gradient, "change of 'wide'", "4 x 12"));
  CHECK(t.refused([&] {
           t.opt.bind_change("wide", matrix_ref<float>{x.data(), 5, 12, 0, 1});
         }).is(error_code::gradient, "change of 'wide'", "stride of 0"));
  const auto fits = row_major(x.data(), 5, 12);
  const auto unknown = [&](auto act) { CHECK(t.refused(act).is(error_code::parameter, "no parameter 'wode'")); };
  unknown([&] { t.opt.bind_weight("wode", fits); });
  unknown([&] { t.opt.bind_gradient("wode", fits); });
  unknown([&] { t.opt.bind_change("wode", fits); });
  unknown([&] { t.opt.unbind_gradient("wode"); });
  unknown([&] { t.opt.freeze("wode"); });
  unknown([&] { t.opt.unfreeze("wode"); });
  unknown([&] { t.opt.remove_parameter("wode"); });
  unknown([&] { t.opt.export_state("wode"); });
  unknown([&] { t.opt.import_state("wode", {}); });
}

TEST_CASE("a gradient may be read through a stride of 0: one row for all neurons") {
  std::vector<float> w(6, 1), same(6, 1);
  const std::vector<float> row = {1, 2, 3}, whole = {1, 2, 3, 1, 2, 3};
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = opt.add_group(adamw_options{});
  opt.add_parameter(id, "repeated", row_major(w.data(), 2, 3), matrix_ref<const float>{row.data(), 2, 3, 0, 1});
  opt.add_parameter(id, "written out", row_major(same.data(), 2, 3), row_major(whole.data(), 2, 3));
  opt.step();
  CHECK(same_bits(w, same));
}

TEST_CASE("a frozen parameter stays as it is, state included, and goes on from there when it is unfrozen") {
  trained t, reference;
  const auto weights = t.m.weights();
  const auto state = t.opt.export_state("tall");
  t.opt.freeze("tall");
  t.m.make_gradients(5);
  t.opt.step();
  CHECK(same_bits(t.m.parameters[1].weight, weights[1]));
  CHECK(same_bits(t.opt.export_state("tall"), state));
  CHECK(!same_bits(t.m.parameters[0].weight, weights[0]));
  t.opt.unfreeze("tall");
  for (trained* each : {&t, &reference}) {
    each->m.make_gradients(6);
    each->opt.step();
  }
  CHECK(same_bits(t.m.parameters[1].weight, reference.m.parameters[1].weight));
  CHECK(same_bits(t.opt.export_state("tall"), reference.opt.export_state("tall")));
}

TEST_CASE("a parameter that is removed and added again with its state goes on as if it had stayed") {
  for (const std::string name : {"wide", "batch", "empty", "vector"}) {
    CAPTURE(name);
    trained t, reference;
    owned_parameter<float>* p = nullptr;
    for (auto& each : t.m.parameters)
      if (each.name == name) p = &each;
    const std::vector<float> before = p->weight;
    const std::vector<named_tensor> state = t.opt.remove_parameter(name);
    CHECK(refusal_of([&] { t.opt.freeze(name); }).is(error_code::parameter, name));
    for (const auto& other : t.m.parameters)
      if (other.name != name) CHECK(t.opt.export_state(other.name)[0].name == other.name + ".step");
    t.m.make_gradients(5);
    t.opt.step();
    CHECK(same_bits(p->weight, before));

    t.opt.add_parameter(add_group(t.opt, p->options), name, p->view(p->weight.data()), t.m.gradient_of(*p));
    t.opt.import_state(name, state);
    reference.m.make_gradients(5);
    reference.opt.freeze(name);
    reference.opt.step();
    reference.opt.unfreeze(name);
    for (trained* each : {&t, &reference}) {
      each->m.make_gradients(6);
      each->opt.step();
    }
    CHECK(same_bits(t.m.weights(), reference.m.weights()));
    CHECK(same_bits(t.opt.export_state(name), reference.opt.export_state(name)));
  }
}

TEST_CASE("a parameter that is removed and added without its state begins anew") {
  trained t;
  t.opt.remove_parameter("vector");
  auto& p = t.m.parameters.back();
  t.opt.add_parameter(group_id{6}, "vector", p.view(p.weight.data()), t.m.gradient_of(p));
  for (const named_tensor& tensor : t.opt.export_state("vector"))
    for (const double x : tensor.values) CHECK(x == 0);
}
