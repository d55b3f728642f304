// How the GPT's weights reach the library: hidden matrices in one group, moved by the method that is compared, all
// others in a second one, moved by the same AdamW whatever the method.
#ifndef TRAIN_GPT_OPTIMIZERS_HPP
#define TRAIN_GPT_OPTIMIZERS_HPP

#include <array>
#include <memory>
#include <normuon/backends/cpu/executor.hpp>
#include <normuon/normuon.hpp>
#include <string_view>

#include "parameters.hpp"

namespace gpt {

enum class method { adamw, muon, normuon };
inline constexpr std::array all_methods{method::adamw, method::muon, method::normuon};

constexpr std::string_view name_of(method m) {
  return std::array<std::string_view, 3>{"adamw", "muon", "normuon"}[static_cast<std::size_t>(m)];
}

enum class backend { eigen, cublas };
inline constexpr std::array all_backends{backend::eigen, backend::cublas};

constexpr std::string_view name_of(backend b) { return b == backend::eigen ? "eigen" : "cublas"; }

// What each method has of its own: the peaks of two learning rates, and the momentum of hidden matrices.
struct tuning {
  double learning_rate;        // of hidden matrices
  double other_learning_rate;  // of everything else
  double momentum;
};

// What the methods are given. docs/results.md tells how each number was chosen.
struct recipe {
  int steps = 300;
  std::array<tuning, 3> tunings{{{8e-3, 1.2e-2, 0.8}, {3.2e-2, 2.4e-2, 0.8}, {3.2e-2, 2.4e-2, 0.8}}};
  double beta2 = 0.999;  // of AdamW
  double weight_decay = 0.1;
  initial_deviations initial = {};
  double clip_norm = 1;  // a longer gradient, all of it as one vector, is scaled down to this
  gpt::backend backend = gpt::backend::eigen;
  normuon::compute_type compute = normuon::compute_type::automatic;  // of the iteration

  const tuning& of(method m) const { return tunings[static_cast<std::size_t>(m)]; }
};

// Moves a model's weights, wherever its own matrices lie.
class model_optimizer {
 public:
  virtual ~model_optimizer() = default;
  // Learning rates are `factor` times their peaks.
  virtual void step(double factor) = 0;
  virtual std::size_t state_bytes() const = 0;
};

// One on the recipe's backend; on the host it works on `threads`. All must stay where they are; `gradient` is read at
// each step. Throws where the backend is not there.
std::unique_ptr<model_optimizer> make_optimizer(method m, const recipe& r, parameters<float>& weights,
                                                parameters<float>& gradient, normuon::thread_pool& threads);

// By what the recipe's iteration is computed. Throws where the backend is not there.
std::string path_of(const recipe& r, normuon::thread_pool& threads);

// The same two for a device: in device.cpp, or in no_device.cpp, which refuses, in a program that knows no device.
std::unique_ptr<model_optimizer> make_device_optimizer(method m, const recipe& r, parameters<float>& weights,
                                                       parameters<float>& gradient);
std::string device_path_of(const recipe& r);

}  // namespace gpt

#endif
