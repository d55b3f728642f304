// Muon: the NorMuon rule with neurons left as they come out of the iteration (kellerjordan.github.io/posts/muon, and
// Moonlight, arXiv 2502.16982). Options and presets; the rule itself stands in rules/normuon.hpp.
#ifndef NORMUON_RULES_MUON_HPP
#define NORMUON_RULES_MUON_HPP

#include "normuon/rules/normuon.hpp"

namespace normuon {

// The default is `jordan()`. Every preset is tested against vectors made by the public code that it names.
struct muon_options {
  double learning_rate = 0.02;  // >= 0
  double momentum = 0.95;       // b1, in [0, 1)
  double weight_decay = 0;      // >= 0; what is decayed is learning_rate * weight_decay
  bool nesterov = true;
  normuon::momentum_form momentum_form = normuon::momentum_form::ema;
  orthogonalizer_options orthogonalizer = {};
  update_scale scale = update_scale::sqrt_max_1_ratio;
  decay_form decay = decay_form::decoupled;
  published_epsilons published = {.norm_added = 1e-7};                     // used by norm_guard::as_published
  normuon::weight_rounding weight_rounding = weight_rounding::stochastic;  // of weights of 16 bits

  static constexpr muon_options jordan() { return {}; }  // KellerJordan/Muon, muon.py

  static constexpr muon_options moonlight() {  // MoonshotAI/Moonlight, examples/toy_train.py
    return {.learning_rate = 1e-3,
            .weight_decay = 0.1,
            .momentum_form = normuon::momentum_form::heavy_ball,
            .scale = update_scale::match_adamw_rms};
  }
  static constexpr muon_options torch_muon() {  // torch.optim.Muon: documented as heavy ball, coded as EMA
    return {.learning_rate = 1e-3, .weight_decay = 0.1, .published = {.norm_floor = 1e-7}};
  }

  // The same rule in NorMuon's words.
  constexpr operator normuon_options() const {
    return {.learning_rate = learning_rate,
            .momentum = momentum,
            .beta2 = 0,
            .epsilon = 0,
            .weight_decay = weight_decay,
            .nesterov = nesterov,
            .momentum_form = momentum_form,
            .orthogonalizer = orthogonalizer,
            .neuron_axis = neuron_axis::none,
            .scale = scale,
            .decay = decay,
            .published = published,
            .weight_rounding = weight_rounding};
  }
};

}  // namespace normuon

#endif
