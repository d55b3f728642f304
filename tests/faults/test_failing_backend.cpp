#include <doctest/doctest.h>

#include <limits>

#include "support/failing_backend.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using bits = std::vector<std::vector<float>>;  // of each parameter

// M and v of each parameter, also when the optimizer refuses to export them.
struct moments_of : registry<failing_backend> {
  static bits all(const registry<failing_backend>& r) {
    bits all;
    for (const auto& p : r.*(&moments_of::parameters_))
      all.emplace_back(p.state.momentum(), p.state.momentum() + p.state.real_count());
    return all;
  }
};

// Parameters that share groups, so that runs of several matrices hold several of them, on a backend that can fail.
struct training {
  std::shared_ptr<operation_counter> counter = std::make_shared<operation_counter>();
  model<float> m{{{"a", normuon_options::paper(), 3, 7},
                  {"frozen", normuon_options::paper(), 3, 7},
                  {"b", normuon_options::paper(), 3, 7},
                  {"tall", normuon_options::paper(), 7, 4},
                  {"batch", muon_options::jordan(), 5, 4, 3},
                  {"absent", muon_options::jordan(), 5, 4},
                  {"vector", adamw_options{}, 1, 9}}};
  optimizer<failing_backend> opt;

  explicit training(int threads = 1, index_t run_length = 1, non_finite_policy policy = non_finite_policy::skip)
      : opt(failing_backend(counter, threads), {.non_finite = policy}) {
    counter->run_length = run_length;
    const group_id groups[] = {opt.add_group(normuon_options::paper()), opt.add_group(muon_options::jordan()),
                               opt.add_group(adamw_options{})};
    for (auto& p : m.parameters) {
      opt.add_parameter(groups[p.options.index()], p.name, p.view(p.weight.data()), m.gradient_of(p));
      opt.bind_change(p.name, p.view(p.change.data()));
    }
    opt.freeze("frozen");
    opt.unbind_gradient("absent");
    m.make_gradients(0);
  }

  void step(write_form form = write_form::weight) {
    if (form == write_form::weight) opt.step();
    else opt.step_changes();
  }
  bits moments() const { return moments_of::all(opt); }
  bits changes() const {
    bits all;
    for (const auto& p : m.parameters) all.push_back(p.change);
    return all;
  }

  // What `act` throws where operation n from now on fails.
  template <class Act>
  refusal failing_at(int n, failure how, Act&& act) {
    counter->how = how;
    counter->done = 0;
    counter->fails_at = n;
    refusal r;
    try {
      r = refusal_of(act);
    } catch (const std::runtime_error& e) {
      r.message = e.what();  // the backend's own
    }
    counter->fails_at = 0;
    return r;
  }
};

// Whether `name` is among the names behind `heading` in the message of a poisoned optimizer.
bool lists(const std::string& message, const std::string& heading, const std::string& name) {
  const std::size_t from = message.find(heading);
  REQUIRE(from != message.npos);
  const std::string list = message.substr(from, message.find(';', from + 1) - from);
  return list.find("'" + name + "'") != list.npos;
}

void check_that_it_refuses(training& t) {
  CHECK(refusal_of([&] { t.opt.step(); }).is(error_code::poisoned, "import state first"));
  CHECK(refusal_of([&] { t.opt.step_changes(); }).is(error_code::poisoned));
  CHECK(refusal_of([&] { t.opt.export_state(); }).is(error_code::poisoned));
  CHECK(t.opt.list_state().size() == 7 + 7 + 5);  // steps, momenta, second moments: what can be imported
  CHECK(refusal_of([&] { t.opt.remove_parameter("a"); }).is(error_code::poisoned));
  CHECK(refusal_of([&] { t.opt.import_state("a", {}); }).is(error_code::poisoned));
  CHECK(refusal_of([&] { t.opt.import_state({}); }).is(error_code::state));
  CHECK(refusal_of([&] { t.opt.step(); }).is(error_code::poisoned));  // what was refused made nothing ready
}

// Makes every operation of a step fail once. Returns how many there are.
int fail_at_each(int threads, index_t run_length, failure how, write_form form) {
  training t(threads, run_length), undisturbed(threads, run_length);
  for (training* each : {&t, &undisturbed}) {
    each->step();
    each->m.make_gradients(1);
  }
  const bits weights = t.m.weights(), moments = t.moments();
  const auto state = t.opt.export_state();
  undisturbed.step(form);
  for (int n = 1;; ++n) {
    CAPTURE(n);
    const refusal failed = t.failing_at(n, how, [&] { t.step(form); });
    if (failed.message.empty()) return n - 1;
    CHECK(failed.is(error_code::backend, "the device is gone"));
    int in_part = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::string& name = t.m.parameters[i].name;
      CAPTURE(name);
      const bool whole = lists(failed.message, "; done:", name), part = lists(failed.message, "; begun:", name);
      CHECK_FALSE((whole && part));
      CHECK_FALSE(((whole || part) && (name == "frozen" || name == "absent")));
      in_part += part;
      if (part) continue;
      const training& like = undisturbed;
      CHECK(same_bits(t.m.parameters[i].weight, whole ? like.m.parameters[i].weight : weights[i]));
      CHECK(same_bits(t.moments()[i], whole ? like.moments()[i] : moments[i]));
      if (whole && form == write_form::change) CHECK(same_bits(t.m.parameters[i].change, like.m.parameters[i].change));
    }
    CHECK(in_part <= threads * run_length);  // no more than the workers had begun
    check_that_it_refuses(t);
    t.m.set_weights(weights);
    t.opt.import_state(state);
    t.step(form);
    CHECK(same_bits(t.m.weights(), undisturbed.m.weights()));
    CHECK(same_bits(t.moments(), undisturbed.moments()));
    CHECK(same_bits(t.changes(), undisturbed.changes()));
    t.m.set_weights(weights);
    t.opt.import_state(state);
  }
}

}  // namespace

TEST_CASE(
    "any operation that fails poisons the optimizer, which names what it has done and continues from imported state") {
  // Seven matrices of five steps of Newton-Schulz, each with products, besides what surrounds them.
  CHECK(fail_at_each(1, 1, failure::before, write_form::weight) > 150);
  CHECK(fail_at_each(1, 3, failure::after, write_form::weight) > 70);
  CHECK(fail_at_each(2, 1, failure::after, write_form::change) > 150);
  CHECK(fail_at_each(2, 3, failure::before, write_form::weight) > 70);
}

TEST_CASE("a failure does not say of a parameter that its gradient held back, or in a change, that it has moved") {
  for (const write_form form : {write_form::weight, write_form::change}) {
    training t;
    t.opt.prepare();
    t.m.parameters[3].gradient[0] = std::numeric_limits<float>::quiet_NaN();  // of "tall", the most expensive
    const bits weights = t.m.weights(), moments = t.moments();
    const refusal failed = t.failing_at(70, failure::before, [&] { t.step(form); });
    CHECK(lists(failed.message, "; done:", "tall"));
    CHECK(failed.message.find("moved") == failed.message.npos);
    CHECK(same_bits(t.m.weights()[3], weights[3]));
    CHECK(same_bits(t.moments()[3], moments[3]));
    if (form == write_form::change) CHECK(same_bits(t.m.weights(), weights));
  }
}

TEST_CASE("what is thrown need not be a std::exception") {
  training t;
  t.step();
  const auto state = t.opt.export_state();
  CHECK(t.failing_at(20, failure::unnamed, [&] { t.step(); }).is(error_code::backend, "; done:"));
  check_that_it_refuses(t);
  t.opt.import_state(state);
  t.step();
}

TEST_CASE("a failure while gradients are checked says that nothing has begun") {
  for (const auto policy : {non_finite_policy::skip, non_finite_policy::raise}) {
    training t(1, 1, policy);
    t.opt.prepare();
    const bits weights = t.m.weights(), moments = t.moments();
    // The write of numbers, and under `raise` five checks, a read and a sync. Under `skip` the check and the count of
    // what lies in several runs, and those of the first run.
    for (int n = 1; n <= (policy == non_finite_policy::raise ? 8 : 5); ++n) {
      CAPTURE(n);
      const auto state = t.opt.export_state();
      CHECK(
          t.failing_at(n, failure::after, [&] { t.step(); }).is(error_code::backend, "done: nothing; begun: nothing"));
      CHECK(same_bits(t.m.weights(), weights));
      CHECK(same_bits(t.moments(), moments));
      t.opt.import_state(state);
    }
  }
}

TEST_CASE("what is held back is as if it were frozen, however many matrices and parameters a run has") {
  for (const index_t run_length : {1, 2, 3, 100})
    for (const int threads : {1, 2})
      for (const std::string held : {"a", "b", "tall", "batch", "vector"})
        for (const write_form form : {write_form::weight, write_form::change}) {
          CAPTURE(run_length);
          CAPTURE(threads);
          CAPTURE(held);
          training t(threads, run_length), frozen(threads, run_length);
          for (auto& p : t.m.parameters)
            if (p.name == held) p.gradient.back() = std::numeric_limits<float>::infinity();
          frozen.opt.freeze(held);
          for (training* each : {&t, &frozen}) each->step(form), each->step(form);
          CHECK(t.opt.report().non_finite() == std::vector{held});
          CHECK(same_bits(t.m.weights(), frozen.m.weights()));
          CHECK(same_bits(t.changes(), frozen.changes()));
          CHECK(same_bits(t.opt.export_state(), frozen.opt.export_state()));
        }
}

TEST_CASE("a failure while memory is made changes nothing, and the next step is as if it had not been") {
  training undisturbed;
  undisturbed.step();
  bool failed = true;
  int n = 0;
  while (failed) {
    ++n;
    CAPTURE(n);
    training t;
    const bits weights = t.m.weights();
    const refusal r = t.failing_at(n, failure::before, [&] { t.opt.prepare(); });
    failed = !r.message.empty();
    CHECK(r.code == std::nullopt);
    CHECK(t.opt.workspace_bytes() == (failed ? 0 : undisturbed.opt.workspace_bytes()));
    CHECK(same_bits(t.m.weights(), weights));
    t.step();
    CHECK(same_bits(t.m.weights(), undisturbed.m.weights()));
  }
  CHECK(n > 10);
}

TEST_CASE("a parameter whose state can't be allocated is not there") {
  training t;
  const auto state = t.opt.export_state();
  std::vector<float> w(6);
  const auto add = [&] { t.opt.add_parameter(group_id{0}, "late", row_major(w.data(), 2, 3)); };
  CHECK(t.failing_at(1, failure::before, add).message == "the device is gone");
  CHECK(same_bits(t.opt.export_state(), state));
  add();
  CHECK(t.opt.export_state("late").size() == 3);
}

TEST_CASE("an export that fails changes nothing, and what was to be removed stays") {
  training t, undisturbed;
  t.step();
  undisturbed.step();
  const auto state = t.opt.export_state();
  for (int n = 1; n <= 3; ++n) {  // two reads and a sync
    CHECK(t.failing_at(n, failure::before, [&] { t.opt.export_state("b"); }).message == "the device is gone");
    CHECK(t.failing_at(n, failure::before, [&] { t.opt.remove_parameter("b"); }).message == "the device is gone");
  }
  CHECK(same_bits(t.opt.export_state(), state));
  t.step();
  undisturbed.step();
  CHECK(same_bits(t.m.weights(), undisturbed.m.weights()));
}

TEST_CASE("an import that fails in the middle poisons the optimizer until one passes") {
  training t, from;
  t.step();
  from.step();
  from.step();
  const auto state = from.opt.export_state();
  int n = 1;
  for (; !t.failing_at(n, failure::before, [&] { t.opt.import_state(state); }).message.empty(); ++n)
    check_that_it_refuses(t);
  CHECK(n > 3 * 7);
  CHECK(same_bits(t.opt.export_state(), state));
  const auto one = from.opt.export_state("b");
  CHECK(t.failing_at(2, failure::before, [&] { t.opt.import_state("b", one); }).message == "the device is gone");
  check_that_it_refuses(t);
  t.opt.import_state(state);
  t.m.set_weights(from.m.weights());
  t.step();
  from.step();
  CHECK(same_bits(t.m.weights(), from.m.weights()));
}
