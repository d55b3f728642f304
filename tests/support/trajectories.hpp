// The golden trajectories on any backend: what public optimizers computed, step by step, against what the rules make of
// the same weights and gradients.
#ifndef NORMUON_TESTS_SUPPORT_TRAJECTORIES_HPP
#define NORMUON_TESTS_SUPPORT_TRAJECTORIES_HPP

#include <doctest/doctest.h>

#include <variant>

#include "support/golden.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

namespace normuon::test {

using preset_options = std::variant<normuon_options, muon_options, adamw_options>;

inline const std::map<std::string, preset_options> presets = {
    {"paper", normuon_options::paper()},        {"reference", normuon_options::reference()},
    {"nanogpt", normuon_options::nanogpt()},    {"dion", normuon_options::dion()},
    {"jordan", muon_options::jordan()},         {"moonlight", muon_options::moonlight()},
    {"torch_muon", muon_options::torch_muon()}, {"adamw", adamw_options{}}};

inline const std::map<std::string, update_scale> scales = {
    {"rms_0.2", update_scale::rms_02},
    {"keep_norm*sqrt_max_1_ratio", update_scale::keep_norm_sqrt_max_1_ratio},
    {"keep_norm*sqrt_ratio", update_scale::keep_norm_sqrt_ratio},
    {"sqrt_max_1_ratio", update_scale::sqrt_max_1_ratio},
    {"0.2*sqrt_max_side", update_scale::match_adamw_rms}};
inline const std::map<std::string, decay_form> decays = {{"decoupled", decay_form::decoupled},
                                                         {"cautious", decay_form::cautious}};
inline const std::map<std::string, momentum_form> forms = {{"ema", momentum_form::ema},
                                                           {"heavy_ball", momentum_form::heavy_ball}};

inline std::vector<golden_case> trajectories() {
  std::vector<golden_case> all;
  for (const auto& [preset, options] : presets)
    for (const std::string& file : golden_files(preset)) all.push_back(load_golden(file));
  return all;
}

// What a case changes in its preset. Momentum and rates are set at every step.
inline void adjust(normuon_options& o, const golden_case& c) {
  o.nesterov = c.flag("nesterov");
  o.decay = decays.at(c.text("decay"));
  o.beta2 = c.number("beta2");
}
inline void adjust(muon_options& o, const golden_case& c) {
  o.nesterov = c.flag("nesterov");
  o.scale = scales.at(c.text("scale"));
}
inline void adjust(adamw_options& o, const golden_case& c) {
  o.beta2 = c.number("beta2");
  o.epsilon = c.number("epsilon");
}

struct trajectory {
  std::vector<matrix> W;  // after each step
  matrix M;
  std::vector<double> v;
};

// In the iteration's type that state has.
template <tensor_backend B, class Options>
trajectory follow(const golden_case& c, Options o, norm_guard guard) {
  adjust(o, c);
  if constexpr (!std::is_same_v<Options, adamw_options>) {
    o.orthogonalizer.guard = guard;
    o.orthogonalizer.compute = std::is_same_v<typename B::real, double> ? compute_type::float64 : compute_type::float32;
  }
  const auto tensor = [&](const std::string& name) {
    const golden_tensor& t = c.tensor(name);
    return matrix(t.rows(), t.cols(), t.values);
  };
  single_matrix<B> w(o, tensor("W"));
  const std::vector<double> rates = c.per_step("learning_rate", "learning_rates");
  const std::vector<double> momenta = c.per_step("momentum", "momenta");
  const std::vector<double> weight_decays = c.per_step("weight_decay", "weight_decay_equivalent");
  trajectory t;
  for (std::size_t k = 0; k < c.step_count(); ++k) {
    w.opt.set_learning_rate(w.group, rates[k]);
    w.opt.set_momentum(w.group, momenta[k]);
    w.opt.set_weight_decay(w.group, weight_decays[k]);
    w.step(tensor("G." + std::to_string(k)));
    t.W.push_back(w.weight());
  }
  t.M = w.momentum();
  t.v = w.second_moment();
  return t;
}

template <tensor_backend B>
trajectory follow(const golden_case& c, norm_guard guard) {
  return std::visit([&](const auto& o) { return follow<B>(c, o, guard); }, presets.at(c.text("preset")));
}

// The expected tensor under a guard: what differs without epsilons before the iteration is stored as `noeps.*`.
inline const golden_tensor& expected(const golden_case& c, const std::string& name, norm_guard guard) {
  const std::string without = "noeps." + name;
  return c.tensor(guard == norm_guard::exact && c.has(without) ? without : name);
}

// Where there are epsilons, only the last weight without them is stored; the weights on the way are of the published
// run.
inline bool has_expectation(const golden_case& c, std::size_t k, norm_guard guard) {
  const std::string name = "W." + std::to_string(k);
  const bool last = k + 1 == c.step_count();
  return c.has(name) &&
         (last || guard == norm_guard::as_published || !c.has("noeps.W." + std::to_string(c.step_count() - 1)));
}

// In double, iteration and all.
template <tensor_backend B>
void check_trajectories_in_double(norm_guard guard) {
  const std::vector<golden_case> all = trajectories();
  CHECK(all.size() == 93);
  for (const golden_case& c : all) {
    CAPTURE(c.file);
    const trajectory t = follow<B>(c, guard);
    // The golden vectors' own authors agree to 1.1e-14; the rest is room for any order of sums
    // (tests/golden/README.md).
    const double most = 1e-10;
    for (std::size_t k = 0; k < t.W.size(); ++k)
      if (has_expectation(c, k, guard))
        CHECK(relative_error(t.W[k].values, expected(c, "W." + std::to_string(k), guard).values) <= most);
    CHECK(relative_error(t.M.values, c.tensor("M").values) <= most);
    if (c.has("v")) CHECK(relative_error(t.v, expected(c, "v", guard).values) <= most);
    else CHECK(t.v.empty());
  }
}

// In float, within what rounding can do.
template <tensor_backend B>
void check_trajectories_in_float() {
  for (const norm_guard guard : {norm_guard::as_published, norm_guard::exact})
    for (const golden_case& c : trajectories()) {
      CAPTURE(c.file);
      const trajectory t = follow<B>(c, guard);
      const auto steps = static_cast<double>(t.W.size());
      const double elementwise = steps * tolerance<float>::elementwise;
      // Of an update: a rounding of X grows by at most the table's slope (see iteration_tolerance), and normalising the
      // neurons divides by norms of about one. AdamW's is elementwise.
      double update = elementwise;
      if (c.has_text("orthogonalizer")) {
        const coefficient_table& table = c.text("orthogonalizer") == "jordan" ? jordan : polar_express_102;
        update += iteration_tolerance(compute_type::float32, table, iteration_form::automatic, 1);
      }
      // Of a weight: what is stored is rounded at every step; what it moved by carries the error of the updates.
      const std::vector<double>& start = c.tensor("W").values;
      for (std::size_t k = 0; k < t.W.size(); ++k) {
        if (!has_expectation(c, k, guard)) continue;
        const std::vector<double>& wanted = expected(c, "W." + std::to_string(k), guard).values;
        const matrix moved = combined(1, {1, static_cast<index_t>(start.size()), wanted}, -1,
                                      {1, static_cast<index_t>(start.size()), start});
        CHECK(relative_error(t.W[k].values, wanted) * largest(wanted) <=
              elementwise * largest(start) + update * largest(moved.values));
      }
      CHECK(relative_error(t.M.values, c.tensor("M").values) <= elementwise);
      if (c.has("v")) CHECK(relative_error(t.v, expected(c, "v", guard).values) <= 2 * update);  // v is a square
    }
}

}  // namespace normuon::test

#endif
