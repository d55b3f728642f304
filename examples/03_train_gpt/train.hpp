// One training run: a method, a seed, and what came of it.
#ifndef TRAIN_GPT_TRAIN_HPP
#define TRAIN_GPT_TRAIN_HPP

#include <functional>
#include <optional>

#include "optimizers.hpp"
#include "workers.hpp"

namespace gpt {

struct step_record {
  int step = 0;        // counted from 1; 0 is before the first
  double seconds = 0;  // spent on training until then, evaluation left out
  double learning_rate = 0;
  std::optional<double> training_loss = {};    // of this step's batch, before the step
  std::optional<double> validation_loss = {};  // after the step, on few windows; every fifth step
};

struct training_run {
  gpt::method method;
  std::uint64_t seed;
  std::vector<step_record> steps = {};
  double final_validation_loss = 0;  // on many windows
  double optimizer_ms = 0;           // of a step: the median
  std::size_t state_bytes = 0;
  std::string sample = {};
};

constexpr std::size_t sequences_per_step = 32;
constexpr int evaluation_interval = 5;                       // steps
constexpr std::size_t few_windows = 64, many_windows = 512;  // of validation text
constexpr int sample_length = 300;
constexpr double sample_temperature = 0.8;

// Trains a model whose initial weights and batches depend on the seed alone, not on the method. `watch` sees each step
// as it is done. Throws where a loss is not finite.
training_run train(const corpus& text, const shape& s, const recipe& r, method m, std::uint64_t seed, workers& team,
                   const std::function<void(const step_record&)>& watch);

}  // namespace gpt

#endif
