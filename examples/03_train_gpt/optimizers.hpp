// How the GPT's weights reach the library: hidden matrices in one group, moved by the method that is compared, all
// others in a second one, moved by the same AdamW whatever the method.
#ifndef TRAIN_GPT_OPTIMIZERS_HPP
#define TRAIN_GPT_OPTIMIZERS_HPP

#include <array>
#include <normuon/backends/eigen.hpp>
#include <normuon/normuon.hpp>
#include <string_view>

#include "parameters.hpp"

namespace gpt {

enum class method { adamw, muon, normuon };
inline constexpr std::array all_methods{method::adamw, method::muon, method::normuon};

constexpr std::string_view name_of(method m) {
  return std::array<std::string_view, 3>{"adamw", "muon", "normuon"}[static_cast<std::size_t>(m)];
}

// What the methods are given. docs/results.md tells how each number was chosen.
struct recipe {
  int steps = 300;
  std::array<double, 3> learning_rates{8e-3, 1.6e-2, 1.6e-2};  // of hidden matrices: peak, one a method
  double other_learning_rate = 6e-3;                           // of everything else: peak
  double beta2 = 0.999;                                        // of AdamW
  double weight_decay = 0.1;
  initial_deviations initial = {};
  double clip_norm = 1;  // a longer gradient, all of it as one vector, is scaled down to this
};

class model_optimizer {
 public:
  // Works on `threads`. All must stay where they are; `gradient` is read at each step.
  model_optimizer(method m, const recipe& r, parameters<float>& weights, parameters<float>& gradient,
                  normuon::thread_pool& threads);

  // Moves the weights; learning rates are `factor` times their peaks.
  void step(double factor);

  double learning_rate(double factor) const {
    return factor * recipe_.learning_rates[static_cast<std::size_t>(method_)];
  }
  std::size_t state_bytes() const { return optimizer_.state_bytes(); }

 private:
  method method_;
  recipe recipe_;
  std::vector<named_block<float>> gradient_;
  normuon::optimizer<normuon::eigen_backend> optimizer_;
  normuon::group_id hidden_, others_;
};

}  // namespace gpt

#endif
