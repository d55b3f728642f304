// NorMuon: Muon whose neurons are brought to one scale (arXiv 2510.05491, Algorithm 1). Options, presets and the rule
// in three verbs. Muon is the same rule with neuron_axis::none.
#ifndef NORMUON_RULES_NORMUON_HPP
#define NORMUON_RULES_NORMUON_HPP

#include "normuon/math/newton_schulz.hpp"
#include "normuon/rules/names.hpp"
#include "normuon/rules/options.hpp"

namespace normuon {

// The default is `paper()`. Every preset is tested against vectors made by the public code that it names; `paper` has
// none, and is tested against vectors made from its formulas.
struct normuon_options {
  double learning_rate = 1e-3;  // >= 0; with the scale rms_02 rates are of AdamW's size
  double momentum = 0.95;       // b1, in [0, 1)
  double beta2 = 0.95;          // b2, in [0, 1)
  double epsilon = 1e-10;       // 0 to 1e100: squares of what is divided by more would vanish
  double weight_decay = 0.1;    // >= 0; what is decayed is learning_rate * weight_decay
  bool nesterov = false;
  normuon::momentum_form momentum_form = normuon::momentum_form::ema;
  orthogonalizer_options orthogonalizer = {};
  normuon::neuron_axis neuron_axis = normuon::neuron_axis::rows;
  normuon::epsilon_form epsilon_form = normuon::epsilon_form::after_root;
  update_scale scale = update_scale::rms_02;  // the two that don't look at a norm are meant for neuron_axis::none
  decay_form decay = decay_form::decoupled;
  published_epsilons published = {};  // used by orthogonalizer.guard = norm_guard::as_published
  normuon::weight_rounding weight_rounding = weight_rounding::stochastic;  // of weights of 16 bits

  static constexpr normuon_options paper() { return {}; }  // Algorithm 1; no public code

  static constexpr normuon_options reference() {  // zichongli5/NorMuon, normuon.py
    return {.learning_rate = 0.02,
            .weight_decay = 0,
            .nesterov = true,
            .scale = update_scale::keep_norm_sqrt_max_1_ratio,
            .published = {.norm_added = 1e-7, .ratio_added = 1e-10}};
  }
  // KellerJordan/modded-nanogpt, train_gpt.py. It decays by lr^2 wd sqrt(max(1, m/n)); choose weight_decay to match.
  static constexpr normuon_options nanogpt() {
    return {.learning_rate = 0.023,
            .beta2 = 0.9,
            .weight_decay = 0,
            .nesterov = true,
            .orthogonalizer = {.table = polar_express_102},
            .neuron_axis = normuon::neuron_axis::longer,
            .epsilon_form = normuon::epsilon_form::floor,
            .scale = update_scale::keep_norm_sqrt_max_1_ratio,
            .decay = decay_form::cautious,
            .published = {.norm_added = 1e-6, .ratio_floor = 1e-10}};
  }
  static constexpr normuon_options dion() {  // microsoft/dion, dion/normuon.py
    return {.learning_rate = 0.01,
            .epsilon = 1e-8,
            .weight_decay = 0.01,
            .momentum_form = normuon::momentum_form::heavy_ball,
            .orthogonalizer = {.table = polar_express_102},
            .scale = update_scale::keep_norm_sqrt_ratio,
            .published = {.norm_added = 1e-8, .ratio_floor = 1e-8}};
  }
};

// Throws where a number is out of the range stated above, or a choice is none.
constexpr void validate(const normuon_options& o) {
  validate_rates(o.learning_rate, o.weight_decay);
  validate_fraction("momentum", o.momentum);
  validate_fraction("beta2", o.beta2);
  validate_not_negative("epsilon", o.epsilon);
  if (o.epsilon > 1e100) fail(error_code::option, "expected epsilon <= 1e100, got ", o.epsilon);
  validate_not_negative("published.norm_added", o.published.norm_added);
  validate_not_negative("published.norm_floor", o.published.norm_floor);
  validate_not_negative("published.ratio_added", o.published.ratio_added);
  validate_not_negative("published.ratio_floor", o.published.ratio_floor);
  validate_choice("momentum_form", o.momentum_form);
  validate_choice("orthogonalizer.form", o.orthogonalizer.form);
  validate_choice("orthogonalizer.guard", o.orthogonalizer.guard);
  validate_choice("orthogonalizer.compute", o.orthogonalizer.compute);
  validate_choice("neuron_axis", o.neuron_axis);
  validate_choice("epsilon_form", o.epsilon_form);
  validate_choice("scale", o.scale);
  validate_choice("decay", o.decay);
  validate_choice("weight_rounding", o.weight_rounding);
}

// What the owner of a run keeps (v) and uses while it makes the update: r, f, norms and flags are read for the report.
template <tensor_backend B>
struct owner {
  vectors<typename B::real> v, f, r;  // one number per neuron
  slots norms;                        // ||U||_F
  flags sound;                        // ok and U is finite; empty: non-finite numbers are let through
  iteration_workspace<B>* work;

  flags obeyed(flags ok) const { return sound.empty() ? ok : sound; }
};

// Products: as many as the iteration has. Memory per parameter, in passes over one matrix:
//   check    reads G
//   advance  reads G and M, writes M, and U with Nesterov
//   load     reads U for its norm (on the host twice where it is double), then again, writes X
//   direct   reads O for r, then again
//   apply    reads and writes W (D is written and read between the two unless they are fused)
template <tensor_backend B>
struct normuon_rule {
  // Where the gradient is.   M <- b1 M + g with g = (1-b1) G or G;   U = b1 M + g (Nesterov) or M.   U may travel.
  static void advance(B& b, bool nesterov, views M, views U, views G, const step_numbers& k, flags ok) {
    if (nesterov) momentum(b, M, U, G, k.keep, k.take, ok);
    else b.blend(M, k.take, G, k.keep, M, ok);
  }

  // On the whole matrix.   O = orthogonalize(U);   D = diag(f) O, rounded to D's type.   D may travel back.
  static void direct(B& b, const matrix_plan& p, owner<B>& s, views D, views U, const step_numbers& k, flags ok) {
    normalise(b, p, s, U, k, ok);
    b.store_scaled(D, s.f, s.work->X, p.neurons(), s.obeyed(ok));
  }

  // Where the weight is.   W <- W - lr wd W - lr D, or that less W into `out`.
  static void apply(B& b, views out, views W, views D, const step_numbers& k, const update_formula& u, flags obeyed,
                    const low_bits& low = {}) {
    b.apply(out, W, D, k.rate, k.decay, u, obeyed, low);
  }

  // direct and apply where the weight is whole and here: D need not be stored.
  static void direct_and_apply(B& b, const matrix_plan& p, owner<B>& s, views out, views W, views D, views U,
                               const step_numbers& k, const update_formula& u, flags ok, const low_bits& low = {}) {
    normalise(b, p, s, U, k, ok);
    neuron_step(b, out, W, D, s.f, s.work->X, p.neurons(), k.rate, k.decay, u, s.obeyed(ok), low);
  }

 private:
  // O = orthogonalize(U);   r_i = mean_j O_ij^2;   v <- b2 v + (1-b2) r;   f_i = c / (sqrt(v_i) + eps)
  static void normalise(B& b, const matrix_plan& p, owner<B>& s, views U, const step_numbers& k, flags ok) {
    newton_schulz(b, *s.work, p.iteration, U, s.norms, ok, s.sound);
    b.mean_squares(s.r, s.work->X, p.neurons());
    b.factors(s.v, s.f, s.r, k.beta2, p.factors, s.obeyed(ok));
  }
};

}  // namespace normuon

#endif
