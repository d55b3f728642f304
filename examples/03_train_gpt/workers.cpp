#include "workers.hpp"

#include <array>
#include <numeric>

namespace gpt {

workers::workers(const shape& s, int threads)
    : pool_(threads),
      networks_(static_cast<std::size_t>(pool_.size()), network<float>(s)),
      gradients_(parts, parameters<float>(s)) {}

template <class Task>
double workers::mean_over_parts(const windows& w, Task task) {
  const std::size_t tokens = w.inputs.size() / parts;
  std::array<double, parts> losses{};
  pool_.for_each(parts, [&](int worker, std::int64_t i) {
    const auto part = static_cast<std::size_t>(i);
    losses[part] =
        task(networks_[static_cast<std::size_t>(worker)], part, std::span(w.inputs).subspan(part * tokens, tokens),
             std::span(w.targets).subspan(part * tokens, tokens));
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0) / parts;
}

double workers::loss(const parameters<float>& weights, const windows& text) {
  return mean_over_parts(
      text, [&](network<float>& n, std::size_t, std::span<const token> inputs, std::span<const token> targets) {
        n.forward(weights, inputs);
        return n.loss(targets);
      });
}

double workers::gradient(const parameters<float>& weights, const windows& batch, parameters<float>& gradient) {
  const double loss = mean_over_parts(
      batch, [&](network<float>& n, std::size_t part, std::span<const token> inputs, std::span<const token> targets) {
        n.forward(weights, inputs);
        const double mean = n.loss(targets);
        n.backward(weights, inputs, gradients_[part]);
        return mean;
      });

  std::array<std::vector<named_block<float>>, parts> blocks;
  for (std::size_t i = 0; i < parts; ++i) blocks[i] = gradients_[i].blocks();
  const std::vector<named_block<float>> sums = gradient.blocks();
  pool_.for_each(static_cast<std::int64_t>(sums.size()), [&](int, std::int64_t k) {
    const auto numbers = [&](const std::vector<named_block<float>>& of) {
      const auto& view = of[static_cast<std::size_t>(k)].view;
      return Eigen::Map<Eigen::ArrayXf>(view.data, view.rows * view.cols);
    };
    const auto g = [&](std::size_t i) { return numbers(blocks[i]); };
    numbers(sums) = (((g(0) + g(1)) + (g(2) + g(3))) + ((g(4) + g(5)) + (g(6) + g(7)))) / float(parts);
  });
  return loss;
}

}  // namespace gpt
