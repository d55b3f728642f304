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
          "strides of 4 and 0");
  refuses("a", matrix_ref<float>{w.data(), 3, 4, 0, 1}, fine_gradient, error_code::parameter, "of their own");
  refuses("a", batched(row_major(w.data(), 3, 2), 2, 0), fine_gradient, error_code::parameter, "of their own");
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

TEST_CASE("weight, gradient and change that begin at one place are refused, whichever of them is bound last") {
  trained_model t;
  std::vector<float> w(12), g(60);
  const auto view = row_major(w.data(), 3, 4);
  const auto own = [](const char* other) {
    return std::string("expected memory of its own, got that of the ").append(other);
  };
  CHECK(t.refused([&] {
           t.opt.add_parameter(group_id{0}, "own", view, view);
         }).is(error_code::gradient, "gradient of 'own'", own("weight")));
  auto& tall = t.m.parameters[1];
  const auto at = [](auto& numbers) { return row_major(numbers.data(), 12, 5); };
  const auto refuses = [&](auto act, error_code code, const char* which, const char* other) {
    CHECK(t.refused(act).is(code, which, own(other)));
  };
  refuses([&] { t.opt.bind_gradient("tall", at(tall.weight)); }, error_code::gradient, "gradient of 'tall'", "weight");
  refuses([&] { t.opt.bind_gradient("tall", at(tall.change)); }, error_code::gradient, "gradient of 'tall'", "change");
  refuses([&] { t.opt.bind_change("tall", at(tall.weight)); }, error_code::gradient, "change of 'tall'", "weight");
  refuses([&] { t.opt.bind_change("tall", at(tall.gradient)); }, error_code::gradient, "change of 'tall'", "gradient");
  refuses([&] { t.opt.bind_weight("tall", at(tall.gradient)); }, error_code::parameter, "weight of 'tall'", "gradient");
  refuses([&] { t.opt.bind_weight("tall", at(tall.change)); }, error_code::parameter, "weight of 'tall'", "change");
  t.opt.bind_gradient("tall", at(g));  // and what nothing is bound to any more is free
  t.opt.bind_change("tall", at(tall.gradient));
  t.opt.unbind_gradient("tall");
  t.opt.bind_weight("tall", at(g));
  t.opt.add_parameter(group_id{0}, "nothing", view.row_block(0, 0), view.row_block(0, 0));  // so nothing is shared
  t.opt.step();
}

TEST_CASE("a gradient of no matrices is a gradient of the wrong shape, but for a weight of none") {
  trained_model t;
  std::vector<float> w(12), g(81);
  const matrix_ref<const float> none{.data = g.data(), .rows = 9, .cols = 9, .row_stride = 9, .batch = 0};
  CHECK(t.refused([&] {
           t.opt.add_parameter(group_id{0}, "a", row_major(w.data(), 3, 4), none);
         }).is(error_code::gradient, "gradient of 'a'", "expected 3 x 4, got 0 of 9 x 9"));
  t.opt.add_parameter(group_id{0}, "a", batched(row_major(w.data(), 9, 9), 0, 81), none);
  t.opt.step();
  CHECK(t.opt.report().parameters.back().outcome == outcome::moved);
}

TEST_CASE("views that can't be walked are refused, and those whose elements lie interleaved are not") {
  std::vector<float> x(48), g(12);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = opt.add_group(adamw_options{});
  const auto refuses = [&](const matrix_ref<float>& weight, const auto&... pieces) {
    const auto add = [&] { opt.add_parameter(id, "a", weight); };
    CHECK(refusal_of(add).is(error_code::parameter, "weight of 'a'", pieces...));
  };
  float* const w = x.data();
  for (const index_t far : {index_t{1} << 62, index_t{1} << 61, index_t{-1} << 62, index_t{-1} << 63}) {
    refuses({w, 3, 4, far, 1}, "64 bits", "stride");
    refuses({w, 3, 4, 1, far}, "64 bits");
    refuses({w, 3, 4, 4, 1, 3, far}, "64 bits");
    const matrix_ref<const float> gradient{g.data(), 3, 4, far, 1};
    CHECK(refusal_of([&] {
            opt.add_parameter(id, "a", row_major(w, 3, 4), gradient);
          }).is(error_code::gradient, "64 bits"));
  }
  refuses({w, 2, 2, index_t{1} << 60, index_t{-1} << 60}, "64 bits");  // together
  refuses({w, 3, 4, 1, 1}, "elements of their own", "strides of 1 and 1");
  refuses({w, 3, 4, -3, 1}, "elements of their own");
  refuses({w, 3, 4, 4, 0}, "elements of their own");
  refuses({w, 3, 4, 4, 1, 2, 11}, "elements of their own", "of 4 and 1, and 11 from matrix to matrix");
  int added = 0;
  const auto takes = [&](const matrix_ref<float>& weight) {
    opt.add_parameter(id, std::to_string(++added), weight);
    opt.remove_parameter(std::to_string(added));
  };
  takes({w, 3, 4, 4, 1, 2, 12});
  takes({w, 3, 4, 8, 1, 2, 4});   // the rows of two matrices in turn
  takes({w, 3, 4, 8, 2, 2, 1});   // their elements in turn
  takes({w + 11, 3, 4, -4, -1});  // backwards
  takes({w, 1, 4, 0, 1, 2, 4});   // of one row the stride doesn't matter
  takes({w, 1, 1, index_t{1} << 62, 1});
  takes({w, 0, 4, index_t{1} << 62, 0});
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
         }).is(error_code::gradient, "change of 'wide'", "of their own"));
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

TEST_CASE("a gradient may be read through a stride of 0: one row for all neurons, or one number for each") {
  const any_options all[] = {adamw_options{}, normuon_options{}, normuon_options{.nesterov = true}};
  for (const any_options& options : all)
    for (const auto& shape : {std::pair<index_t, index_t>{2, 3}, {40, 200}, {40, 1100}, {1100, 40}})
      for (const bool by_columns : {false, true})
        for (const bool repeats_rows : {false, true}) {
          const index_t m = shape.first, n = shape.second;
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(by_columns);
          CAPTURE(repeats_rows);
          const auto count = static_cast<std::size_t>(m * n);
          auto w = random_elements<float>(1, count), same = w;
          const auto line = random_elements<float>(2, static_cast<std::size_t>(repeats_rows ? n : m));
          const matrix_ref<const float> repeated{line.data(), m, n, repeats_rows ? 0 : 1, repeats_rows ? 1 : 0};
          std::vector<float> whole;
          for (index_t i = 0; i < m; ++i)
            for (index_t j = 0; j < n; ++j) whole.push_back(repeated(i, j));
          const auto view = [&](float* p) { return by_columns ? column_major(p, m, n) : row_major(p, m, n); };
          make_steps<eigen_backend>(options, 2, [&](auto& opt, group_id id) {
            opt.add_parameter(id, "repeated", view(w.data()), repeated);
            opt.add_parameter(id, "written out", view(same.data()), row_major(whole.data(), m, n));
          });
          CHECK(same_bits(w, same));
        }
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
