#include <doctest/doctest.h>

#include "03_train_gpt/model.hpp"

using namespace gpt;

TEST_CASE("the gradient of every block of the GPT is that of finite differences, in double") {
  const shape small{.vocabulary = 7, .layers = 2, .width = 12, .heads = 3, .context = 6};
  parameters<double> weights(small), gradient(small);
  std::mt19937 random(3);
  std::normal_distribution<double> normal(0, 0.4);  // nothing at zero, where parts of the gradient would be zero too
  for (const auto& block : weights.blocks())
    for (index_t k = 0; k < block.view.rows * block.view.cols; ++k)
      block.view.data[k] = (block.role == role::vector ? 1 : 0) + normal(random);
  std::vector<token> inputs(12), targets(12);  // two sequences
  for (token& t : inputs) t = static_cast<token>(random() % 7);
  for (token& t : targets) t = static_cast<token>(random() % 7);

  network<double> net(small);
  const auto loss = [&] {
    net.forward(weights, inputs);
    return net.loss(targets);
  };
  loss();
  net.backward(weights, inputs, gradient);
  const auto blocks = weights.blocks(), slopes = gradient.blocks();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CAPTURE(blocks[i].name);
    double error = 0, size = 0;
    for (index_t k = 0; k < blocks[i].view.rows * blocks[i].view.cols; ++k) {
      double& w = blocks[i].view.data[k];
      const double kept = w, h = 1e-5;  // errs by h^2 and by roundoff / h, both about 1e-10
      w = kept + h;
      const double above = loss();
      w = kept - h;
      const double below = loss();
      w = kept;
      const double slope = (above - below) / (2 * h);
      error += std::pow(slope - slopes[i].view.data[k], 2);
      size += slope * slope;
    }
    CHECK(size > 0);
    CHECK(std::sqrt(error) < 1e-7 * std::sqrt(size));
  }
}
