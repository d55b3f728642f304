// What came of all runs: the table, the files and the picture.
#ifndef TRAIN_GPT_RESULTS_HPP
#define TRAIN_GPT_RESULTS_HPP

#include <filesystem>

#include "train.hpp"

namespace gpt {

using runs = std::vector<training_run>;

// Validation loss while training.
struct curve_point {
  double step, seconds, loss;
};
using curve = std::vector<curve_point>;

// The runs of one method: all numbers are means over their seeds.
struct summary {
  curve validation;
  double final_validation_loss = 0;
  std::optional<double> steps_to_adamw_loss = {};  // absent where AdamW's loss was not reached, or AdamW not run
  double optimizer_ms_per_step = 0;
  std::size_t state_bytes = 0;
};

// The step at which a curve, straight between its points, first comes down to `loss`.
std::optional<double> first_crossing(const curve& c, double loss);

// The methods that ran, each once.
std::vector<method> methods_of(const runs& all);

// AdamW's loss is where its own mean curve ends.
summary summarize(const runs& all, method m);

void print_table(const runs& all);
void print_samples(const runs& all);  // of the first seed

// Into a folder that is there. All throw where a file can't be written, and draw_losses where gnuplot is missing.
void write_steps(const runs& all, const std::filesystem::path& folder);    // steps.csv, steps.jsonl
void write_summary(const runs& all, const std::filesystem::path& folder);  // summary.json
void draw_losses(const runs& all, const std::filesystem::path& folder);    // loss.gnuplot; loss.svg, by gnuplot
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace gpt

#endif
