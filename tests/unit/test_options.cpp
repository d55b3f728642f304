#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "normuon/rules/adamw.hpp"
#include "normuon/rules/muon.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

// The message that `o` is refused with; empty where it is taken.
template <class Options>
std::string why_not(const Options& o) {
  const refusal r = refusal_of([&] { validate(o); });
  CHECK(r.code.value_or(error_code::option) == error_code::option);
  return r.message;
}

template <class Options>
std::string why_not(double Options::*option, double x) {
  Options o;
  o.*option = x;
  return why_not(o);
}

}  // namespace

TEST_CASE_TEMPLATE("rates are at least 0 and finite", Options, normuon_options, muon_options, adamw_options) {
  for (const auto& [option, name] :
       {std::pair{&Options::learning_rate, "learning_rate"}, std::pair{&Options::weight_decay, "weight_decay"}}) {
    CHECK(why_not(option, 0) == "");
    CHECK(why_not(option, 1e6) == "");
    CHECK(why_not(option, -1e-9) == std::string("expected ") + name + " >= 0 and finite, got -1e-09");
    CHECK(why_not(option, infinity) == std::string("expected ") + name + " >= 0 and finite, got inf");
    CHECK(why_not(option, nan_value) == std::string("expected ") + name + " >= 0 and finite, got nan");
  }
}

TEST_CASE_TEMPLATE("a momentum is at least 0 and below 1", Options, normuon_options, muon_options, adamw_options) {
  CHECK(why_not(&Options::momentum, 0) == "");
  CHECK(why_not(&Options::momentum, std::nextafter(1.0, 0.0)) == "");
  CHECK(why_not(&Options::momentum, 1) == "expected momentum in [0, 1), got 1");
  CHECK(why_not(&Options::momentum, -0.5) == "expected momentum in [0, 1), got -0.5");
  CHECK(why_not(&Options::momentum, nan_value) == "expected momentum in [0, 1), got nan");
}

TEST_CASE_TEMPLATE("so is beta2, and an epsilon is at least 0", Options, normuon_options, adamw_options) {
  CHECK(why_not(&Options::beta2, 0) == "");
  CHECK(why_not(&Options::beta2, 1) == "expected beta2 in [0, 1), got 1");
  CHECK(why_not(&Options::beta2, -0.5) == "expected beta2 in [0, 1), got -0.5");
  CHECK(why_not(&Options::epsilon, 0) == "");
  CHECK(why_not(&Options::epsilon, -1) == "expected epsilon >= 0 and finite, got -1");
  CHECK(why_not(&Options::epsilon, nan_value) == "expected epsilon >= 0 and finite, got nan");
}

TEST_CASE("published epsilons are at least 0 and finite") {
  for (const auto& [epsilon, name] : {std::pair{&published_epsilons::norm_added, "published.norm_added"},
                                      {&published_epsilons::norm_floor, "published.norm_floor"},
                                      {&published_epsilons::ratio_added, "published.ratio_added"},
                                      {&published_epsilons::ratio_floor, "published.ratio_floor"}})
    for (const double x : {-1.0, nan_value, infinity}) {
      normuon_options o;
      muon_options muon;
      o.published.*epsilon = muon.published.*epsilon = x;
      CHECK(why_not(o).starts_with(std::string("expected ") + name + " >= 0 and finite, got "));
      CHECK(why_not(muon) == why_not(o));
    }
}

TEST_CASE("every preset is valid") {
  for (const normuon_options& o :
       {normuon_options::paper(), normuon_options::reference(), normuon_options::nanogpt(), normuon_options::dion()})
    CHECK(why_not(o) == "");
  for (const muon_options& o : {muon_options::jordan(), muon_options::moonlight(), muon_options::torch_muon()})
    CHECK(why_not(o) == "");
  CHECK(why_not(adamw_options{}) == "");
}

TEST_CASE("presets have the hyperparameters that their sources ship as defaults") {
  // The golden trajectories fix what changes the mathematics; these numbers are what a user gets without setting any.
  const normuon_options reference = normuon_options::reference();
  CHECK(reference.learning_rate == 0.02);
  CHECK(reference.momentum == 0.95);
  CHECK(reference.beta2 == 0.95);
  CHECK(reference.weight_decay == 0);
  const normuon_options dion = normuon_options::dion();
  CHECK(dion.learning_rate == 0.01);
  CHECK(dion.momentum == 0.95);
  CHECK(dion.beta2 == 0.95);
  CHECK(dion.weight_decay == 0.01);
  const muon_options first = muon_options::jordan();
  CHECK(first.learning_rate == 0.02);
  CHECK(first.weight_decay == 0);
  for (const muon_options& o : {muon_options::moonlight(), muon_options::torch_muon()}) {
    CHECK(o.learning_rate == 1e-3);
    CHECK(o.weight_decay == 0.1);
    CHECK(o.momentum == 0.95);
  }
  const adamw_options elements;
  CHECK(elements.learning_rate == 1e-3);
  CHECK(elements.momentum == 0.9);
  CHECK(elements.beta2 == 0.999);
  CHECK(elements.epsilon == 1e-8);
  CHECK(elements.weight_decay == 0.01);
}

TEST_CASE("Muon in NorMuon's words keeps every option and has no neurons") {
  muon_options muon = muon_options::moonlight();
  muon.learning_rate = 0.125, muon.momentum = 0.5, muon.weight_decay = 0.25;
  muon.decay = decay_form::cautious, muon.published.norm_floor = 3;
  muon.orthogonalizer = {.table = polar_express_102,
                         .form = iteration_form::gram,
                         .restarts = restart_steps{2},
                         .guard = norm_guard::as_published,
                         .compute = compute_type::bfloat16};
  const normuon_options o = muon;
  CHECK(o.learning_rate == 0.125);
  CHECK(o.momentum == 0.5);
  CHECK(o.weight_decay == 0.25);
  CHECK(o.nesterov);
  CHECK(o.momentum_form == momentum_form::heavy_ball);
  CHECK(o.neuron_axis == neuron_axis::none);
  CHECK(o.scale == update_scale::match_adamw_rms);
  CHECK(o.decay == decay_form::cautious);
  CHECK(o.published.norm_added == 1e-7);
  CHECK(o.published.norm_floor == 3);
  CHECK(o.orthogonalizer.table.name == polar_express_102.name);
  CHECK(o.orthogonalizer.form == iteration_form::gram);
  CHECK(o.orthogonalizer.restarts == restart_steps{2});
  CHECK(o.orthogonalizer.guard == norm_guard::as_published);
  CHECK(o.orthogonalizer.compute == compute_type::bfloat16);
  CHECK(why_not(o) == "");
}

TEST_CASE("the neurons of a matrix lie on the side of the operand that its short side leaves them") {
  CHECK(side_of_neurons(neuron_axis::rows, 2, 3) == side::rows);  // wide: X lies as the weight does
  CHECK(side_of_neurons(neuron_axis::columns, 2, 3) == side::cols);
  CHECK(side_of_neurons(neuron_axis::rows, 3, 2) == side::cols);  // tall: X is transposed
  CHECK(side_of_neurons(neuron_axis::columns, 3, 2) == side::rows);
  CHECK(side_of_neurons(neuron_axis::rows, 3, 3) == side::rows);
  CHECK(side_of_neurons(neuron_axis::columns, 3, 3) == side::cols);
  CHECK(side_of_neurons(neuron_axis::none, 2, 3) == side::rows);
  CHECK(side_of_neurons(neuron_axis::none, 3, 2) == side::cols);
}
