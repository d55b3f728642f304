// AdamW (Loshchilov and Hutter, arXiv 1711.05101) for everything that is not a matrix: embeddings, heads, vectors.
#ifndef NORMUON_RULES_ADAMW_HPP
#define NORMUON_RULES_ADAMW_HPP

#include "normuon/backend.hpp"
#include "normuon/rules/names.hpp"
#include "normuon/rules/options.hpp"

namespace normuon {

// The defaults are those of torch.optim.AdamW.
struct adamw_options {
  double learning_rate = 1e-3;  // >= 0
  double momentum = 0.9;        // b1, in [0, 1)
  double beta2 = 0.999;         // b2, in [0, 1)
  double epsilon = 1e-8;        // >= 0, added after the bias correction of v
  double weight_decay = 0.01;   // >= 0; what is decayed is learning_rate * weight_decay
  decay_form decay = decay_form::decoupled;
  normuon::weight_rounding weight_rounding = weight_rounding::stochastic;  // of weights of 16 bits
};

// Throws where a number is out of the range stated above, or a choice is none.
constexpr void validate(const adamw_options& o) {
  validate_rates(o.learning_rate, o.weight_decay);
  validate_fraction("momentum", o.momentum);
  validate_fraction("beta2", o.beta2);
  validate_not_negative("epsilon", o.epsilon);
  validate_choice("decay", o.decay);
  validate_choice("weight_rounding", o.weight_rounding);
}

// Element by element, so nothing ever travels: `advance` and `direct` have nothing to do. Memory per parameter, in one
// pass: read G; read and write M, V and W.
template <tensor_backend B>
struct adamw_rule {
  // m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  W <- W - lr wd W - lr m^ / (sqrt(v^) + eps), hats: bias-corrected
  static void apply(B& b, const adamw_options& o, views out, views W, views M, views V, views G, slots counters,
                    slots norms, const step_numbers& k, const update_formula& u, flags ok, const low_bits& low = {}) {
    const adamw_numbers numbers{k.keep, k.beta2, k.gradient_scale, k.rate, k.decay};
    b.adamw(out, W, M, V, G, counters, numbers, o.epsilon, u, norms, ok, low);
  }
};

}  // namespace normuon

#endif
