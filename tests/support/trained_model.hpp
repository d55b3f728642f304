// The mixed model in an optimizer that has made two steps, and what becomes of it when an act is refused.
#ifndef NORMUON_TESTS_SUPPORT_TRAINED_MODEL_HPP
#define NORMUON_TESTS_SUPPORT_TRAINED_MODEL_HPP

#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"

namespace normuon::test {

struct trained_model {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt{eigen_backend({.threads = 1})};

  trained_model() {
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
    trained_model same;
    same.m.make_gradients(9);
    same.opt.step();
    CHECK(same_bits(m.weights(), same.m.weights()));
    CHECK(same_bits(m.parameters[0].gradient, gradients));
    m.set_weights(weights);
    opt.import_state(state);
    return r;
  }
};

}  // namespace normuon::test

#endif
