#include "support/host_backends.hpp"
#include "support/trajectories.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE_TEMPLATE_DEFINE(
    "every published trajectory is met in double, with the epsilons that its code adds to the norm", B, with_epsilons) {
  check_trajectories_in_double<B>(norm_guard::as_published);
}
TEST_CASE_TEMPLATE_APPLY(with_epsilons, host_backends64);

TEST_CASE_TEMPLATE_DEFINE("without these epsilons every trajectory is that of a scale-free rule", B, without_epsilons) {
  check_trajectories_in_double<B>(norm_guard::exact);
}
TEST_CASE_TEMPLATE_APPLY(without_epsilons, host_backends64);

TEST_CASE_TEMPLATE_DEFINE("every published trajectory is met in float within what rounding can do", B,
                          trajectory_in_float) {
  check_trajectories_in_float<B>();
}
TEST_CASE_TEMPLATE_APPLY(trajectory_in_float, host_backends);

TEST_CASE("each preset is what its public code does") {
  for (const auto& preset : presets) {
    const std::string& name = preset.first;
    CAPTURE(name);
    const golden_case c = load_golden(name + ".16x16.safetensors");
    const auto agrees = [&](const auto& o) {
      CHECK(o.decay == decays.at(c.text("decay")));
      if constexpr (std::is_same_v<decltype(o), const adamw_options&>) {
        CHECK(o.epsilon == c.number("epsilon"));
        CHECK(o.momentum == c.number("momentum"));
        CHECK(o.beta2 == c.number("beta2"));
      } else {
        CHECK(o.nesterov == c.flag("nesterov"));
        CHECK(o.momentum == c.number("momentum"));
        CHECK(o.momentum_form == forms.at(c.text("momentum_form")));
        CHECK(o.orthogonalizer.table.name == c.text("orthogonalizer"));
        CHECK(o.orthogonalizer.table.steps == c.number("steps"));
        CHECK(o.orthogonalizer.guard == norm_guard::exact);
        CHECK(o.scale == scales.at(c.text("scale")));
        if constexpr (std::is_same_v<decltype(o), const normuon_options&>) {
          CHECK(o.epsilon == c.number("epsilon"));
          CHECK((o.neuron_axis == neuron_axis::longer) == (c.text("neuron_axis") == "longer"));
        }
      }
    };
    std::visit(agrees, preset.second);
  }
}
