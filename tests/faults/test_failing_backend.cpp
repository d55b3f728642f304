#include <doctest/doctest.h>

#include "support/failing_backend.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Whether `name` is among the names behind `heading` in the message of a poisoned optimizer.
bool lists(const std::string& message, const std::string& heading, const std::string& name) {
  const std::size_t from = message.find(heading);
  REQUIRE(from != message.npos);
  const std::string list = message.substr(from, message.find(';', from + 1) - from);
  return list.find("'" + name + "'") != list.npos;
}

// Steps a model on a backend that fails at operation `n` of the third step. Returns false where the step has fewer.
bool fail_at(int n, int threads, const std::vector<std::vector<float>>& undisturbed) {
  auto counter = std::make_shared<operation_counter>();
  model<float> m = mixed_model<float>();
  optimizer<failing_backend> opt(failing_backend(counter, threads));
  m.add_to(opt);
  for (int step = 0; step < 2; ++step) {
    m.make_gradients(step);
    opt.step();
  }
  const auto weights = m.weights();
  const auto state = opt.export_state();
  m.make_gradients(2);
  counter->done = 0;
  counter->fails_at = n;
  const refusal failed = refusal_of([&] { opt.step(); });
  counter->fails_at = 0;
  if (!failed.code) return false;

  CHECK(failed.is(error_code::backend, "the device is gone"));
  for (std::size_t i = 0; i < m.parameters.size(); ++i) {
    const std::string& name = m.parameters[i].name;
    CAPTURE(name);
    const bool whole = lists(failed.message, "; moved:", name), part = lists(failed.message, "; moved in part:", name);
    const bool moved = !same_bits(m.parameters[i].weight, weights[i]);
    CHECK_FALSE((whole && part));
    if (moved) CHECK((whole || part));
    if (whole) CHECK(moved);
  }

  CHECK(refusal_of([&] { opt.step(); }).is(error_code::poisoned, "the device is gone"));
  CHECK(refusal_of([&] { opt.step_changes(); }).is(error_code::poisoned));
  CHECK(refusal_of([&] { opt.export_state(); }).is(error_code::poisoned));
  CHECK(refusal_of([&] { opt.import_state("wide", {}); }).is(error_code::poisoned));

  m.set_weights(weights);
  opt.import_state(state);
  opt.step();
  CHECK(same_bits(m.weights(), undisturbed));
  return true;
}

std::vector<std::vector<float>> undisturbed_weights() {
  model<float> m = mixed_model<float>();
  optimizer<failing_backend> opt(failing_backend(std::make_shared<operation_counter>(), 1));
  m.add_to(opt);
  for (int step = 0; step < 3; ++step) {
    m.make_gradients(step);
    opt.step();
  }
  return m.weights();
}

}  // namespace

TEST_CASE(
    "any operation that fails poisons the optimizer, which names what has moved and continues from imported state") {
  const auto undisturbed = undisturbed_weights();
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    int n = 1;
    while (fail_at(n, threads, undisturbed)) ++n;
    CHECK(n > 100);  // six matrices of five steps, three products each, besides what surrounds them
  }
}

TEST_CASE("a failure while gradients are checked says that nothing has moved") {
  auto counter = std::make_shared<operation_counter>();
  model<float> m = mixed_model<float>();
  optimizer<failing_backend> opt(failing_backend(counter, 1));
  m.add_to(opt);
  const auto weights = m.weights();
  counter->fails_at = 2;  // after the write of the numbers
  CHECK(refusal_of([&] { opt.step(); }).is(error_code::backend, "moved: nothing; moved in part: nothing"));
  CHECK(same_bits(m.weights(), weights));
}
