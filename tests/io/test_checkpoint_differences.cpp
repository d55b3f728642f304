#include <doctest/doctest.h>

#include "normuon/io/checkpoint.hpp"
#include "support/failing_backend.hpp"
#include "support/files.hpp"
#include "support/trained_model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// A small model whose groups and parameters a test can make otherwise before they are added.
struct described {
  normuon_options first = normuon_options::paper();
  adamw_options second = {};
  group_factors factors = {};
  std::string name = "w";
  index_t rows = 4, batch = 1;
  bool third_group = false, third_parameter = false, muon = false, swapped = false;
  cpu_path path = cpu_path::portable;
  optimizer_options all = {};  // of all groups
};

template <class T = float>
struct instance {
  std::vector<T> w = std::vector<T>(200, T(1.0f)), b = std::vector<T>(6, T(2.0f)), g = std::vector<T>(200, T(0.5f));
  optimizer<eigen_backend> opt;

  explicit instance(const described& d) : opt(eigen_backend({.threads = 1, .path = d.path}), d.all) {
    muon_options as_muon;
    as_muon.learning_rate = d.first.learning_rate;
    const group_id one = d.muon ? opt.add_group(as_muon, d.factors) : opt.add_group(d.first, d.factors);
    const group_id two = opt.add_group(d.second);
    if (d.third_group) opt.add_group(adamw_options{});
    const auto W = batched(row_major(w.data(), d.rows, 6), d.batch, d.rows * 6);
    const auto G = batched(row_major(static_cast<const T*>(g.data()), d.rows, 6), d.batch, d.rows * 6);
    opt.add_parameter(d.swapped ? two : one, d.name, W, G);
    opt.add_parameter(two, "b", normuon::vector(b.data(), 6), normuon::vector(static_cast<const T*>(g.data()), 6));
    if (d.third_parameter) opt.add_parameter(one, "more", row_major(w.data() + 150, 2, 6));
  }
};

struct saved {
  scratch_folder folder;
  saved() {
    instance<> i(described{});
    i.opt.step();
    save_checkpoint(folder / "f", i.opt);
  }
};

// Two parameters that have made a step, on a device that can be made to fail.
struct failing_run {
  std::shared_ptr<operation_counter> counter = std::make_shared<operation_counter>();
  model<float> m{{{"a", normuon_options::paper(), 3, 7}, {"b", adamw_options{}, 1, 5}}};
  optimizer<failing_backend> opt{failing_backend(counter, 1)};

  failing_run() {
    m.add_to(opt);
    m.make_gradients(0);
    opt.step();
  }
  void fail_in(int operations) { counter->fails_at = counter->done + operations; }
};

// What an optimizer that is made otherwise refuses to load the file with; it must stay as it is.
template <class T = float, class Change>
refusal refusal_after(Change&& change, load_options options = {}) {
  const saved s;
  described d;
  change(d);
  instance<T> i(d);
  i.opt.step();
  const auto w = i.w;
  const auto state = i.opt.export_state();
  const refusal r = refusal_of([&] { load_checkpoint(s.folder / "f", i.opt, options); });
  if (r.code) {
    CHECK(same_bits(i.w, w));
    CHECK(same_bits(i.opt.export_state(), state));
    CHECK(i.opt.groups()[0].numbers().learning_rate == d.first.learning_rate);
  }
  return r;
}

}  // namespace

TEST_CASE("an optimizer that was made otherwise refuses a checkpoint by the first field that differs") {
  struct {
    void (*change)(described&);
    const char *key, *expected, *found;
  } const cases[] = {
      {[](described& d) { d.first.learning_rate = 0.5; }, "group.0.learning_rate", "0.5", "0.001"},
      {[](described& d) { d.first.momentum = 0.9; }, "group.0.momentum", "0.9", "0.95"},
      {[](described& d) { d.first.beta2 = 0.9; }, "group.0.beta2", "0.9", "0.95"},
      {[](described& d) { d.first.weight_decay = 0; }, "group.0.weight_decay", "0", "0.1"},
      {[](described& d) { d.factors.learning_rate = 2; }, "group.0.learning_rate_factor", "2", "1"},
      {[](described& d) { d.factors.weight_decay = 2; }, "group.0.weight_decay_factor", "2", "1"},
      {[](described& d) { d.first.epsilon = 1e-8; }, "group.0.epsilon", "1e-08", "1e-10"},
      {[](described& d) { d.first.nesterov = true; }, "group.0.nesterov", "true", "false"},
      {[](described& d) { d.first = normuon_options::reference(); }, "group.0.nesterov", "true", "false"},
      {[](described& d) { d.muon = true; }, "group.0.rule", "muon", "normuon"},
      {[](described& d) { d.second.epsilon = 0; }, "group.1.epsilon", "0", "1e-08"},
      {[](described& d) { d.second.beta2 = 0.9; }, "group.1.beta2", "0.9", "0.999"},
      {[](described& d) { d.first.weight_rounding = weight_rounding::nearest; }, "group.0.weight_rounding", "nearest",
       "stochastic"},
      {[](described& d) { d.third_group = true; }, "groups", "3", "2"},
      {[](described& d) { d.all.missing_gradient = missing_gradient_policy::zero; }, "missing_gradient", "zero",
       "skip"},
      {[](described& d) { d.all.wire = element_type::bfloat16; }, "wire", "bfloat16", "float32"},
      {[](described& d) { d.all.seed = 1; }, "seed", "1", "0"},
      {[](described& d) { d.rows = 5; }, "parameter.w", "group 0, float32, 5 x 6", "group 0, float32, 4 x 6"},
      {[](described& d) { d.batch = 2; }, "parameter.w", "group 0, float32, 2 of 4 x 6", "group 0, float32, 4 x 6"},
      {[](described& d) { d.swapped = true; }, "parameter.w", "group 1, float32, 4 x 6", "group 0, float32, 4 x 6"},
  };
  for (const auto& c : cases) {
    const refusal r = refusal_after(c.change);
    CAPTURE(r.message);
    CHECK(r.is(error_code::state,
               std::string("/f: ") + c.key + ": expected '" + c.expected + "', found '" + c.found + "'"));
  }
  CHECK(refusal_after([](described& d) {
          d.name = "u";
        }).is(error_code::state, "parameter.u: expected 'group 0, float32, 4 x 6', found none"));
  CHECK(refusal_after([](described& d) {
          d.third_parameter = true;
        }).is(error_code::state, "parameter.more: expected 'group 0, float32, 2 x 6', found none"));
  CHECK(refusal_after<bfloat16>([](described&) {
        }).is(error_code::state, "parameter.w: expected 'group 0, bfloat16, 4 x 6', found 'group 0, float32, 4 x 6'"));
}

TEST_CASE("what becomes of non-finite gradients may be another where a run goes on") {
  const refusal r = refusal_after([](described& d) { d.all.non_finite = non_finite_policy::raise; });
  CHECK_MESSAGE(!r.code, r.message);
}

TEST_CASE("every choice of a rule is compared under its own name") {
  struct {
    void (*change)(normuon_options&);
    const char *field, *text;
  } const cases[] = {
      {[](auto& o) { o.epsilon = 0.5; }, "epsilon", "0.5"},
      {[](auto& o) { o.epsilon_form = epsilon_form::floor; }, "epsilon_form", "floor"},
      {[](auto& o) { o.nesterov = true; }, "nesterov", "true"},
      {[](auto& o) { o.momentum_form = momentum_form::heavy_ball; }, "momentum_form", "heavy_ball"},
      {[](auto& o) { o.neuron_axis = neuron_axis::longer; }, "neuron_axis", "longer"},
      {[](auto& o) { o.scale = update_scale::keep_norm; }, "scale", "keep_norm"},
      {[](auto& o) { o.decay = decay_form::cautious; }, "decay", "cautious"},
      {[](auto& o) { o.orthogonalizer.table = you; }, "orthogonalizer", "you"},
      {[](auto& o) { o.orthogonalizer.form = iteration_form::gram; }, "form", "gram"},
      {[](auto& o) {
         o.orthogonalizer.restarts = restart_steps{1, 3};
       },
       "restart", "1,3"},
      {[](auto& o) { o.orthogonalizer.restarts = restart_steps{}; }, "restart", "none"},
      {[](auto& o) { o.orthogonalizer.guard = norm_guard::as_published; }, "norm_guard", "as_published"},
      {[](auto& o) { o.orthogonalizer.compute = compute_type::bfloat16; }, "compute", "bfloat16"},
      {[](auto& o) { o.published.norm_added = 0.5; }, "norm_added", "0.5"},
      {[](auto& o) { o.published.norm_floor = 0.5; }, "norm_floor", "0.5"},
      {[](auto& o) { o.published.ratio_added = 0.5; }, "ratio_added", "0.5"},
      {[](auto& o) { o.published.ratio_floor = 0.5; }, "ratio_floor", "0.5"},
      {[](auto& o) { o.orthogonalizer.table.rows[4].c += 0x1p-40; }, "coefficients", nullptr},
      {[](auto& o) { o.orthogonalizer.table.rows[0].a += 0x1p-40; }, "coefficients", nullptr},
      {[](auto& o) { o.orthogonalizer.table.norm_factor = 1.01; }, "coefficients", nullptr},
      {[](auto& o) { o.orthogonalizer.table.gram_restarts_fp32 = restart_steps{1}; }, "coefficients", nullptr},
      {[](auto& o) { o.orthogonalizer.table.gram_restarts_bf16 = {}; }, "coefficients", nullptr},
      {[](auto& o) { o.orthogonalizer.table.gram_restarts_compensated = {}; }, "coefficients", nullptr},
  };
  const auto fields_of = [](const normuon_options& o) {
    eigen_backend b({.threads = 1, .path = cpu_path::portable});
    const described_fields fields = describe(b, group{o, "normuon", {}, o});
    return metadata_map(fields.begin(), fields.end());
  };
  const metadata_map plain = fields_of(normuon_options::paper());
  for (const auto& c : cases) {
    normuon_options o = normuon_options::paper();
    c.change(o);
    const metadata_map changed = fields_of(o);
    CAPTURE(c.field);
    if (c.text != nullptr) CHECK(changed.at(c.field) == c.text);
    for (const auto& [key, text] : changed) {
      const bool may_differ =
          key == c.field || key == "preset" || (key == "coefficients" && c.field == std::string("orthogonalizer"));
      CHECK((may_differ || plain.at(key) == text));
    }
    CHECK(changed.at(c.field) != plain.at(c.field));
  }
}

TEST_CASE("other kernels refuse to go on unless they are allowed to") {
  const auto change = [](described& d) { d.path = cpu_path::automatic; };
  if (best_path() == cpu_path::portable) return;
  CHECK(refusal_after(change).is(error_code::state, "group.0.kernel_path: expected 'avx", "', found 'portable'",
                                 "load_options::other_kernel_path"));
  CHECK(!refusal_after(change, {.other_kernel_path = true}).code);
}

TEST_CASE("other rates refuse to go on unless the optimizer's are to be kept") {
  const saved s;
  described d;
  d.first.learning_rate = 0.5;
  d.factors.weight_decay = 3;
  instance<> i(d);
  i.opt.set_momentum(group_id{0}, 0.25);
  load_checkpoint(s.folder / "f", i.opt, {.other_numbers = true});
  CHECK(i.opt.groups()[0].numbers().learning_rate == 0.5);
  CHECK(i.opt.groups()[0].numbers().momentum == 0.25);
  CHECK(i.opt.steps_made() == 1);
}

TEST_CASE("weights that the file lacks are asked for by name") {
  const scratch_folder folder;
  instance<> i(described{});
  save_checkpoint(folder / "f", i.opt, {}, {.weights = false});
  CHECK(
      refusal_of([&] {
        load_checkpoint(folder / "f", i.opt);
      }).is(error_code::state, "tensor 'w.weight': expected F32 [4, 6], found none", "load_options::weights = false"));
}

TEST_CASE("a poisoned optimizer saves nothing, and is ready again when it has loaded a checkpoint") {
  const scratch_folder folder;
  failing_run r;
  save_checkpoint(folder / "f", r.opt);
  const auto weights = r.m.weights();
  const auto state = r.opt.export_state();
  r.fail_in(3);
  CHECK(refusal_of([&] { r.opt.step(); }).is(error_code::backend));
  CHECK(refusal_of([&] { save_checkpoint(folder / "g", r.opt); }).is(error_code::poisoned));
  CHECK(folder.entries() == 1);
  load_checkpoint(folder / "f", r.opt);
  CHECK(same_bits(r.m.weights(), weights));
  CHECK(same_bits(r.opt.export_state(), state));
  r.opt.step();
}

TEST_CASE(
    "a backend that fails while a checkpoint is loaded leaves the optimizer poisoned, while one is saved as it was") {
  const scratch_folder folder;
  failing_run r;
  save_checkpoint(folder / "f", r.opt);
  const std::string bytes = get(folder / "f");
  const int before = r.counter->done;
  save_checkpoint(folder / "f", r.opt);
  const int to_save = r.counter->done - before;
  for (int k = 1; k <= to_save; ++k) {
    r.fail_in(k);
    CHECK_THROWS_WITH(save_checkpoint(folder / "f", r.opt), "the device is gone");
    CHECK((get(folder / "f") == bytes));
  }
  CHECK(folder.entries() == 2);
  const int start = r.counter->done;
  load_checkpoint(folder / "f", r.opt);
  const int to_load = r.counter->done - start;
  CHECK(to_load >= 8);
  for (int k = 1; k <= to_load; ++k) {
    r.fail_in(k);
    CHECK_THROWS_WITH(load_checkpoint(folder / "f", r.opt), "the device is gone");
    CHECK(refusal_of([&] { r.opt.step(); }).is(error_code::poisoned, "an import of state failed in the middle"));
    load_checkpoint(folder / "f", r.opt);
  }
}

TEST_CASE("names that a file can't hold are refused before anything is written") {
  const scratch_folder folder;
  for (const std::string& name : {std::string(500, 'n'), std::string("\x1b[31m"), std::string("\xff")}) {
    described d;
    d.name = name;
    instance<> i(d);
    CHECK(!file_refusal([&] { save_checkpoint(folder / "f", i.opt); }).empty());
    CHECK(folder.entries() == 0);
  }
}
