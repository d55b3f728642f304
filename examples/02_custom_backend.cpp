// Trains with a backend of one's own (02_custom_backend.hpp): y = B tanh(A x) is fitted to samples, in plain loops.
#include "02_custom_backend.hpp"

#include <cstdio>
#include <normuon/normuon.hpp>
#include <random>
#include <vector>

int main() {
  constexpr int inputs = 8, hidden = 24, outputs = 4, samples = 256;
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0, 0.5f);
  const auto random = [&](int count) {
    std::vector<float> x(static_cast<std::size_t>(count));
    for (float& value : x) value = normal(engine);
    return x;
  };
  std::vector<float> A = random(hidden * inputs), B = random(outputs * hidden), x = random(samples * inputs);
  std::vector<float> y = random(samples * outputs), grad_A(A.size()), grad_B(B.size());
  for (std::size_t s = 0; s < samples; ++s)  // something to learn: a product of two inputs
    for (std::size_t o = 0; o < outputs; ++o) y[s * outputs + o] = 4 * x[s * inputs + o] * x[s * inputs + o + 1];

  normuon::optimizer<plain_backend> opt;
  const auto group = opt.add_group(normuon::normuon_options{});
  opt.add_parameter(group, "A", normuon::row_major(A.data(), hidden, inputs),
                    normuon::row_major(grad_A.data(), hidden, inputs));
  opt.add_parameter(group, "B", normuon::row_major(B.data(), outputs, hidden),
                    normuon::row_major(grad_B.data(), outputs, hidden));

  float first = 0, loss = 0;
  for (int step = 0; step <= 400; ++step) {
    loss = 0;
    grad_A.assign(A.size(), 0);
    grad_B.assign(B.size(), 0);
    for (std::size_t s = 0; s < samples; ++s) {
      float h[hidden], grad_h[hidden] = {};
      for (std::size_t i = 0; i < hidden; ++i) {
        float sum = 0;
        for (std::size_t j = 0; j < inputs; ++j) sum += A[i * inputs + j] * x[s * inputs + j];
        h[i] = std::tanh(sum);
      }
      for (std::size_t o = 0; o < outputs; ++o) {
        float error = -y[s * outputs + o];
        for (std::size_t i = 0; i < hidden; ++i) error += B[o * hidden + i] * h[i];
        loss += error * error / samples;
        for (std::size_t i = 0; i < hidden; ++i) {
          grad_B[o * hidden + i] += error * h[i];
          grad_h[i] += error * B[o * hidden + i];
        }
      }
      for (std::size_t i = 0; i < hidden; ++i)
        for (std::size_t j = 0; j < inputs; ++j)
          grad_A[i * inputs + j] += grad_h[i] * (1 - h[i] * h[i]) * x[s * inputs + j];
    }
    if (step == 0) first = loss;
    if (step % 80 == 0) std::printf("step %3d  loss %.4f\n", step, static_cast<double>(loss));
    opt.set_learning_rate(group, normuon::cosine{0.1, 0, 400}(step));
    opt.step();
  }
  return loss < first / 4 ? 0 : 1;
}
