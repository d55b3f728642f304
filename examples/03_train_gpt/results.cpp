#include "results.hpp"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace gpt {

namespace {

runs select(const runs& all, auto wanted) {
  runs some;
  std::copy_if(all.begin(), all.end(), std::back_inserter(some), wanted);
  return some;
}

// Point by point the mean over runs of one method.
curve mean_curve(const runs& some) {
  curve mean;
  for (std::size_t i = 0; i < some.front().steps.size(); ++i) {
    if (!some.front().steps[i].validation_loss) continue;
    curve_point p{static_cast<double>(some.front().steps[i].step), 0, 0};
    for (const training_run& run : some) {
      p.seconds += run.steps[i].seconds / static_cast<double>(some.size());
      p.loss += *run.steps[i].validation_loss / static_cast<double>(some.size());
    }
    mean.push_back(p);
  }
  return mean;
}

nlohmann::ordered_json as_json(const summary& s) {
  return {{"final_validation_loss", s.final_validation_loss},
          {"steps_to_adamw_loss", s.steps_to_adamw_loss ? nlohmann::json(*s.steps_to_adamw_loss) : nullptr},
          {"optimizer_ms_per_step", s.optimizer_ms_per_step},
          {"state_bytes", s.state_bytes}};
}

}  // namespace

std::optional<double> first_crossing(const curve& c, double loss) {
  for (std::size_t i = 0; i < c.size(); ++i) {
    if (c[i].loss > loss) continue;
    if (i == 0) return c[i].step;
    const curve_point &a = c[i - 1], &b = c[i];
    return a.step + (b.step - a.step) * (a.loss - loss) / (a.loss - b.loss);
  }
  return {};
}

std::vector<method> methods_of(const runs& all) {
  std::vector<method> methods;
  for (const training_run& run : all)
    if (std::find(methods.begin(), methods.end(), run.method) == methods.end()) methods.push_back(run.method);
  return methods;
}

summary summarize(const runs& all, method m) {
  const auto of = [&](method wanted) { return select(all, [=](const training_run& r) { return r.method == wanted; }); };
  const runs own = of(m), adamw = of(method::adamw);
  summary s{.validation = mean_curve(own), .state_bytes = own.front().state_bytes};
  for (const training_run& run : own) {
    s.final_validation_loss += run.final_validation_loss / static_cast<double>(own.size());
    s.optimizer_ms_per_step += run.optimizer_ms / static_cast<double>(own.size());
  }
  if (!adamw.empty()) s.steps_to_adamw_loss = first_crossing(s.validation, mean_curve(adamw).back().loss);
  return s;
}

void print_table(const runs& all) {
  fmt::print("\n{:<10}{:>12}{:>14}{:>13}{:>15}{:>13}\n", "", "final", "steps to", "efficiency", "optimizer",
             "optimizer");
  fmt::print("{:<10}{:>12}{:>14}{:>13}{:>15}{:>13}\n", "", "validation", "AdamW's", "1 - steps /", "milliseconds",
             "state");
  fmt::print("{:<10}{:>12}{:>14}{:>13}{:>15}{:>13}\n", "", "loss", "final loss", "all steps", "per step", "bytes");
  for (const method m : methods_of(all)) {
    const summary s = summarize(all, m);
    const std::string steps = s.steps_to_adamw_loss ? fmt::format("{:.0f}", *s.steps_to_adamw_loss) : "-";
    const std::string saved =
        s.steps_to_adamw_loss ? fmt::format("{:.0f} %", 100 * (1 - *s.steps_to_adamw_loss / s.validation.back().step))
                              : "-";
    fmt::print("{:<10}{:>12.4f}{:>14}{:>13}{:>15.1f}{:>13}\n", name_of(m), s.final_validation_loss, steps, saved,
               s.optimizer_ms_per_step, s.state_bytes);
  }
  fmt::print(
      "\nSteps to AdamW's final loss: where a method's own curve of validation loss first comes down to the end of\n"
      "AdamW's, in a run whose learning rate has most of its decay still to come at that step. Runs planned to end\n"
      "there are in docs/results.md. Curves are measured on {} windows of the validation text and the final loss on\n"
      "{}, so the two differ a little. Milliseconds are medians.\n",
      few_windows, many_windows);
}

void print_samples(const runs& all) {
  for (const training_run& run : all) {
    if (run.seed != all.front().seed) continue;
    fmt::print("\n--- {} wrote, at temperature {}:\n{}\n", name_of(run.method), sample_temperature, run.sample);
  }
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (!file) throw std::runtime_error(fmt::format("can't write {}", path.string()));
}

void write_steps(const runs& all, const std::filesystem::path& folder) {
  const auto cell = [](const std::optional<double>& x) { return x ? fmt::format("{}", *x) : ""; };
  std::string csv = "optimizer,seed,step,seconds,learning_rate,training_loss,validation_loss\n", lines;
  for (const training_run& run : all) {
    for (const step_record& s : run.steps) {
      csv += fmt::format("{},{},{},{:.4f},{},{},{}\n", name_of(run.method), run.seed, s.step, s.seconds,
                         s.learning_rate, cell(s.training_loss), cell(s.validation_loss));
      nlohmann::ordered_json line{{"optimizer", name_of(run.method)},
                                  {"seed", run.seed},
                                  {"step", s.step},
                                  {"seconds", s.seconds},
                                  {"learning_rate", s.learning_rate}};
      if (s.training_loss) line["training_loss"] = *s.training_loss;
      if (s.validation_loss) line["validation_loss"] = *s.validation_loss;
      lines += line.dump() + '\n';
    }
  }
  write_file(folder / "steps.csv", csv);
  write_file(folder / "steps.jsonl", lines);
}

void write_summary(const runs& all, const std::filesystem::path& folder) {
  nlohmann::ordered_json optimizers;
  for (const method m : methods_of(all)) {
    nlohmann::ordered_json& mean = optimizers[std::string(name_of(m))] = as_json(summarize(all, m));
    const runs own = select(all, [=](const training_run& r) { return r.method == m; });
    if (own.size() == 1) continue;
    for (const training_run& run : own) {
      nlohmann::ordered_json one{{"seed", run.seed}};
      one.update(as_json(summarize(select(all, [&](const training_run& r) { return r.seed == run.seed; }), m)));
      mean["seeds"].push_back(one);
    }
  }
  write_file(folder / "summary.json", nlohmann::ordered_json{{"optimizers", optimizers}}.dump(2) + '\n');
}

}  // namespace gpt
