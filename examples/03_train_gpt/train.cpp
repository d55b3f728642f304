#include "train.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace gpt {

namespace {

class stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double finite(double loss, method m, int step) {
  if (!std::isfinite(loss))
    throw std::runtime_error(fmt::format("{}: the loss is not finite at step {}: {}", name_of(m), step, loss));
  return loss;
}

double median(std::vector<double> x) {
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}

// Draws character after character from softmax(logits / temperature), given up to `context` that went before. The text
// starts with what follows the end of a line.
std::string sample_text(const parameters<float>& weights, const shape& s, const std::string& alphabet,
                        std::uint64_t seed) {
  network<float> net(s);
  std::mt19937_64 random(seed);
  std::vector<token> seen{static_cast<token>(alphabet.find('\n') == alphabet.npos ? 0 : alphabet.find('\n'))};
  std::string text;
  for (int i = 0; i < sample_length; ++i) {
    const auto context = static_cast<std::size_t>(s.context), known = std::min(seen.size(), context);
    std::vector<token> window(seen.end() - static_cast<std::ptrdiff_t>(known), seen.end());
    window.resize(context);  // what comes after the last known token has no influence on it
    const auto logits = net.forward(weights, window).col(static_cast<index_t>(known) - 1).cast<double>().array();
    const Eigen::ArrayXd odds = ((logits - logits.maxCoeff()) / sample_temperature).exp();
    seen.push_back(static_cast<token>(std::discrete_distribution<int>(odds.begin(), odds.end())(random)));
    text.push_back(alphabet[seen.back()]);
  }
  return text;
}

}  // namespace

training_run train(const corpus& text, const shape& s, const recipe& r, method m, std::uint64_t seed, workers& team,
                   const std::function<void(const step_record&)>& watch) {
  const auto context = static_cast<std::size_t>(s.context);
  const windows few = even_windows(text.validation, few_windows, context);
  const windows many = even_windows(text.validation, many_windows, context);
  const normuon::warm_up schedule{normuon::cosine{1, 0.1, r.steps}, r.steps / 20};

  parameters<float> weights(s), gradient(s);
  weights.initialise(seed, r.initial);
  const std::unique_ptr<model_optimizer> optimizer = make_optimizer(m, r, weights, gradient, team.threads());
  std::mt19937_64 random(seed);

  training_run run{.method = m, .seed = seed, .state_bytes = optimizer->state_bytes()};
  run.steps.push_back({.validation_loss = finite(team.loss(weights, few), m, 0)});
  std::vector<double> optimizer_ms;
  for (int step = 1; step <= r.steps; ++step) {
    const double factor = schedule(step - 1);
    step_record record{.step = step, .learning_rate = factor * r.of(m).learning_rate};
    const windows batch = random_windows(text.training, sequences_per_step, context, random);

    const stopwatch all;
    record.training_loss = finite(team.gradient(weights, batch, gradient), m, step);
    const stopwatch move;
    optimizer->step(factor);
    optimizer_ms.push_back(1000 * move.seconds());
    record.seconds = run.steps.back().seconds + all.seconds();

    if (step % evaluation_interval == 0 || step == r.steps)
      record.validation_loss = finite(team.loss(weights, few), m, step);
    run.steps.push_back(record);
    watch(record);
  }
  run.final_validation_loss = finite(team.loss(weights, many), m, r.steps);
  run.optimizer_ms = median(optimizer_ms);
  run.sample = sample_text(weights, s, text.alphabet, seed);
  return run;
}

}  // namespace gpt
