#include <doctest/doctest.h>

#include "normuon/io/checkpoint.hpp"
#include "support/files.hpp"
#include "support/host_backends.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Four matrices of one rule, one of them a batch, and a vector.
template <element T>
model<T> model_of(const any_options& options) {
  return model<T>({{"wide", options, 5, 12},
                   {"tall", options, 12, 5},
                   {"batch", options, 6, 6, 3},
                   {"empty", options, 0, 4},
                   {"vector", adamw_options{}, 1, 11}});
}

template <tensor_backend B, element T>
struct training {
  model<T> m;
  optimizer<B> opt;

  explicit training(const any_options& options, int threads = 1)
      : m(model_of<T>(options)), opt(B({.threads = threads})) {
    m.add_to(opt);
  }
  void make_steps(int first, int end) {
    for (int step = first; step < end; ++step) {
      m.make_gradients(step);
      opt.step();
    }
  }
};

template <tensor_backend B, element T>
void check_continuation() {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    const scratch_folder folder;
    training<B, T> whole(rule.options), first(rule.options), second(rule.options);
    whole.make_steps(0, 5);
    first.make_steps(0, 2);
    save_checkpoint(folder / "f", first.opt);
    CHECK(load_checkpoint(folder / "f", second.opt).step == 2);
    CHECK(same_bits(second.m.weights(), first.m.weights()));
    second.make_steps(2, 5);
    CHECK(same_bits(second.m.weights(), whole.m.weights()));
    CHECK(same_bits(second.opt.export_state(), whole.opt.export_state()));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("a run that is saved and goes on elsewhere is bit for bit the whole run, by every rule", T, float,
                   normuon::bfloat16, float16) {
  check_continuation<eigen_backend, T>();
}

TEST_CASE("a run in double that is saved and goes on elsewhere is bit for bit the whole run, by every rule") {
  check_continuation<eigen_backend64, double>();
}

TEST_CASE(
    "a checkpoint's bytes depend on the run alone: not on threads, on how weights lie, or on what was there before") {
  const scratch_folder folder;
  training<eigen_backend, float> one(normuon_options::paper()), three(normuon_options::paper(), 3);
  for (auto* t : {&one, &three}) t->make_steps(0, 3);
  save_checkpoint(folder / "one", one.opt);
  save_checkpoint(folder / "three", three.opt);
  const std::string expected = get(folder / "one");
  CHECK((get(folder / "three") == expected));
  save_checkpoint(folder / "three", three.opt);
  CHECK((get(folder / "three") == expected));
  training<eigen_backend, float> loaded(normuon_options::paper());
  load_checkpoint(folder / "one", loaded.opt);
  save_checkpoint(folder / "three", loaded.opt);
  CHECK((get(folder / "three") == expected));

  // The same matrix by rows, by columns, with gaps, backwards, and with gaps on both sides of each element.
  const index_t m = 5, n = 7;
  std::vector<float> memory(300);
  const matrix_ref<float> layouts[] = {row_major(memory.data(), m, n), column_major(memory.data(), m, n),
                                       {memory.data(), m, n, 11, 1},   {memory.data() + 200, m, n, -n, 1},
                                       {memory.data(), m, n, 1, 9},    {memory.data(), m, n, 40, 3}};
  std::string bytes;
  for (const matrix_ref<float>& W : layouts) {
    std::fill(memory.begin(), memory.end(), -5.0f);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) W(i, j) = static_cast<float>(10 * i + j);
    optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
    opt.add_parameter(opt.add_group(normuon_options::paper()), "W", W);
    save_checkpoint(folder / "layout", opt);
    if (bytes.empty()) bytes = get(folder / "layout");
    CHECK((get(folder / "layout") == bytes));
    std::vector<float> before = memory;
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) W(i, j) = 0;
    load_checkpoint(folder / "layout", opt);
    CHECK(memory == before);  // gaps too
  }
}

TEST_CASE("rates, decays, betas, the gradient scale and what is frozen come back as they were set") {
  const scratch_folder folder;
  training<eigen_backend, float> whole(normuon_options::nanogpt()), second(normuon_options::nanogpt());
  const group_id of_wide{0}, of_vector{4};
  const auto set = [&](auto& t) {
    t.opt.set_learning_rate(of_wide, 0.0625);
    t.opt.set_momentum(of_wide, 0.5);
    t.opt.set_beta2(of_vector, 0.75);
    t.opt.set_weight_decay(of_vector, 0.3);
    t.opt.set_gradient_scale(0.1);
    t.opt.freeze("tall");
  };
  whole.make_steps(0, 2);
  set(whole);
  whole.make_steps(2, 3);
  save_checkpoint(folder / "f", whole.opt);
  second.opt.freeze("batch");
  load_checkpoint(folder / "f", second.opt);
  CHECK(second.opt.gradient_scale() == 0.1);
  for (auto* t : {&whole, &second}) t->make_steps(3, 5);
  CHECK(same_bits(second.m.weights(), whole.m.weights()));
  CHECK(second.opt.report().parameters[1].outcome == outcome::frozen);
  CHECK(second.opt.report().parameters[2].outcome == outcome::moved);
}

TEST_CASE("a trainer's own tensors and text come back, whatever their names") {
  const scratch_folder folder;
  training<eigen_backend, float> t(muon_options::jordan());
  checkpoint_extras extras;
  extras.tensors["random"] = safetensors::make_tensor<std::int64_t>({3}, std::vector<std::int64_t>{1, -2, 3});
  extras.tensors["wide.momentum"] = safetensors::make_tensor<float>({}, std::vector<float>{0.5f});
  extras.tensors[""] = safetensors::make_tensor<double>({0}, {});
  extras.text = {{"place", "epoch 3, \"batch\" 12\n"}, {"", "nameless"}, {"group.0.rule", "mine"}};
  save_checkpoint(folder / "f", t.opt, extras);
  const loaded_checkpoint back = load_checkpoint(folder / "f", t.opt);
  CHECK(back.step == 0);
  CHECK(back.extras.tensors == extras.tensors);
  CHECK(back.extras.text == extras.text);

  extras.tensors["random"].bytes.pop_back();
  CHECK(file_refusal([&] {
          save_checkpoint(folder / "g", t.opt, extras);
        }).find("tensor 'extra.random': expected 24 bytes for its shape, got 23") != std::string::npos);
  CHECK(folder.entries() == 1);
}

TEST_CASE("weights are left out and left alone where one asks for it") {
  const scratch_folder folder;
  training<eigen_backend, float> t(normuon_options::dion()), other(normuon_options::dion());
  t.make_steps(0, 2);
  const auto fresh = other.m.weights();
  save_checkpoint(folder / "with", t.opt);
  save_checkpoint(folder / "without", t.opt, {}, {.weights = false});
  CHECK(safetensors::read(folder / "with").tensors.contains("wide.weight"));
  CHECK(!safetensors::read(folder / "without").tensors.contains("wide.weight"));
  for (const char* file : {"with", "without"}) {
    other.opt.import_state(training<eigen_backend, float>(normuon_options::dion()).opt.export_state());
    load_checkpoint(folder / file, other.opt, {.weights = false});
    CHECK(same_bits(other.m.weights(), fresh));
    CHECK(same_bits(other.opt.export_state(), t.opt.export_state()));
  }
}

TEST_CASE("the file holds what the optimizer exports, under the same names, in the type of its state") {
  const scratch_folder folder;
  training<eigen_backend, normuon::bfloat16> t(normuon_options::reference());
  t.make_steps(0, 2);
  save_checkpoint(folder / "f", t.opt);
  const safetensors::file f = safetensors::read(folder / "f");
  for (const named_tensor& s : t.opt.export_state()) {
    CHECK(safetensors::values<double>(f.tensors.at(s.name)) == s.values);
    CHECK(f.tensors.at(s.name).shape == s.shape);
  }
  CHECK(f.tensors.at("wide.momentum").type == safetensors::dtype::f32);
  CHECK(f.tensors.at("wide.step").type == safetensors::dtype::f64);
  const auto weight = safetensors::values<normuon::bfloat16>(f.tensors.at("batch.weight"));
  CHECK(same_bits(weight, t.m.parameters[2].weight));
  CHECK(f.tensors.at("batch.weight").shape == std::vector<std::int64_t>{3, 6, 6});
  CHECK(f.metadata.at("step") == "2");
  CHECK(f.metadata.at("group.0.preset") == "reference");
  CHECK(f.metadata.at("group.4.preset") == "adamw");
  CHECK(f.metadata.at("parameter.batch") == "group 2, bfloat16, 3 of 6 x 6");
}

#ifdef NORMUON_HAS_BLAS
TEST_CASE("a run on another backend goes on bit for bit too") { check_continuation<blas_backend, float>(); }
#endif
