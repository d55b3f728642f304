#include <doctest/doctest.h>

#include "support/trained_model.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("parameters that can't be taken are refused, by name") {
  trained_model t;
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
  refuses("a", fine, row_major(g.data(), 4, 3), error_code::gradient, "gradient of 'a'", "expected 3 x 4, got 4 x 3");
  refuses("a", fine, batched(row_major(g.data(), 3, 4), 2, 12), error_code::gradient, "expected 3 x 4, got 2 of 3 x 4");
  refuses("a", fine, row_major(static_cast<float*>(nullptr), 3, 4), error_code::gradient, "gradient of 'a'", "null");
  refuses("a", row_major(wide.data(), 3, 4), fine_gradient, error_code::parameter, "weight of 'a'",
          "expected one of float32, bfloat16, float16, got float64");
  refuses("a", fine, row_major(wide.data(), 3, 4), error_code::gradient, "gradient of 'a'", "got float64");
  CHECK(t.refused([&] { t.opt.add_parameter(group_id{9}, "a", fine); }).is(error_code::option, "0 to 6", "9"));
}

TEST_CASE("a weight that begins where another parameter's does is refused: tied weights are one parameter") {
  trained_model t;
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

TEST_CASE("a gradient that begins where its weight does is refused, when it is added and when it is bound") {
  trained_model t;
  std::vector<float> w(12);
  const auto view = row_major(w.data(), 3, 4);
  const char* const why = "expected memory of its own, got that of the weight";
  CHECK(t.refused([&] {
           t.opt.add_parameter(group_id{0}, "own", view, view);
         }).is(error_code::gradient, "gradient of 'own'", why));
  auto& tall = t.m.parameters[1];
  CHECK(t.refused([&] {
           t.opt.bind_gradient("tall", row_major<const float>(tall.weight.data(), 12, 5));
         }).is(error_code::gradient, "gradient of 'tall'", why));
  t.opt.add_parameter(group_id{0}, "nothing", view.row_block(0, 0), view.row_block(0, 0));  // so nothing is shared
  t.opt.step();
}

TEST_CASE("without a group there is none to name") {
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const auto act = [&] { opt.set_learning_rate(group_id{0}, 1); };
  CHECK(refusal_of(act).is(error_code::option, "expected a group that was added, got 0, and there is none yet"));
}

TEST_CASE("bindings of another shape, and of names that are not there, are refused") {
  trained_model t;
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
  trained_model t, reference;
  const auto weights = t.m.weights();
  const auto state = t.opt.export_state("tall");
  t.opt.freeze("tall");
  t.m.make_gradients(5);
  t.opt.step();
  CHECK(same_bits(t.m.parameters[1].weight, weights[1]));
  CHECK(same_bits(t.opt.export_state("tall"), state));
  CHECK(!same_bits(t.m.parameters[0].weight, weights[0]));
  t.opt.unfreeze("tall");
  for (trained_model* each : {&t, &reference}) {
    each->m.make_gradients(6);
    each->opt.step();
  }
  CHECK(same_bits(t.m.parameters[1].weight, reference.m.parameters[1].weight));
  CHECK(same_bits(t.opt.export_state("tall"), reference.opt.export_state("tall")));
}

TEST_CASE("a parameter that is removed and added again with its state goes on as if it had stayed") {
  for (const std::string name : {"wide", "batch", "empty", "vector"}) {
    CAPTURE(name);
    trained_model t, reference;
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
    for (trained_model* each : {&t, &reference}) {
      each->m.make_gradients(6);
      each->opt.step();
    }
    CHECK(same_bits(t.m.weights(), reference.m.weights()));
    CHECK(same_bits(t.opt.export_state(name), reference.opt.export_state(name)));
  }
}

TEST_CASE("a parameter that is removed and added without its state begins anew") {
  trained_model t;
  t.opt.remove_parameter("vector");
  auto& p = t.m.parameters.back();
  t.opt.add_parameter(group_id{6}, "vector", p.view(p.weight.data()), t.m.gradient_of(p));
  for (const named_tensor& tensor : t.opt.export_state("vector"))
    for (const double x : tensor.values) CHECK(x == 0);
}
