#include "training.hpp"

#include <cstdint>
#include <string>

#include "normuon/backends/eigen.hpp"
#include "normuon/optimizer.hpp"

using namespace normuon;

std::vector<float> BUILT_AS() {
  optimizer<eigen_backend> opt(eigen_backend({.threads = 3}));
  const group_id neurons = opt.add_group(normuon_options::paper());
  const group_id matrices = opt.add_group(muon_options::moonlight());
  const group_id vectors = opt.add_group(adamw_options{});
  struct {
    group_id group;
    index_t rows, cols;
  } const parameters[] = {// the first so deep that Eigen, run in parallel, would split its sums
                          {neurons, 512, 640},
                          {neurons, 129, 17},
                          {matrices, 256, 192},
                          {matrices, 17, 129},
                          {vectors, 1, 300}};

  std::size_t size = 0;
  for (const auto& p : parameters) size += static_cast<std::size_t>(p.rows * p.cols);
  std::vector<float> weights(size), gradients(size);
  float *weight = weights.data(), *gradient = gradients.data();
  for (const auto& p : parameters) {
    const std::string name = std::to_string(weight - weights.data());
    opt.add_parameter(p.group, name, row_major(weight, p.rows, p.cols), row_major(gradient, p.rows, p.cols));
    weight += p.rows * p.cols;
    gradient += p.rows * p.cols;
  }

  std::uint64_t state = 1;
  for (int step = 0; step < 3; ++step) {
    for (float& g : gradients) {  // in [-1, 1), exact: the upper bits of Knuth's 64-bit linear congruence
      state = state * 6364136223846793005u + 1442695040888963407u;
      g = static_cast<float>(static_cast<std::int32_t>(state >> 40) - (1 << 23)) * 0x1p-23f;
    }
    opt.step();
  }
  return weights;
}
