#include <doctest/doctest.h>

#include "support/host_backends.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Weights after three steps of the mixed model on so many threads, parameters added in the order given.
template <tensor_backend B>
std::vector<std::vector<float>> train(int threads, bool backwards = false) {
  model<float> m = mixed_model<float>();
  optimizer<B> opt(B({.threads = threads}));
  for (std::size_t k = 0; k < m.parameters.size(); ++k) {
    auto& p = m.parameters[backwards ? m.parameters.size() - 1 - k : k];
    opt.add_parameter(add_group(opt, p.options), p.name, p.view(p.weight.data()), m.gradient_of(p));
  }
  for (int step = 0; step < 3; ++step) {
    m.make_gradients(step);
    opt.step();
  }
  return m.weights();
}

// Weight and momentum of one 33 x 65 matrix after two steps, weight and gradient `w` and `g` floats off a cache line.
std::vector<float> train_at(std::size_t w, std::size_t g) {
  constexpr index_t rows = 33, cols = 65;
  constexpr std::size_t size = rows * cols;
  const host_memory weights((size + 16) * sizeof(float)), gradients((size + 16) * sizeof(float));
  float* const W = address_of<float>(weights.data()) + w;
  float* const G = address_of<float>(gradients.data()) + g;
  const auto start = random_elements<float>(1, size), slope = random_elements<float>(2, size);
  std::copy(start.begin(), start.end(), W);
  std::copy(slope.begin(), slope.end(), G);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  opt.add_parameter(opt.add_group(normuon_options::reference()), "w", row_major(W, rows, cols),
                    row_major(G, rows, cols));
  opt.step();
  opt.step();
  return {W, W + size};
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("the bits of a step don't depend on the number of threads, nor on the run", B, threads) {
  const auto expected = train<B>(1);
  for (const int threads : {1, 2, 3, 4})
    for (int repeat = 0; repeat < 5; ++repeat) CHECK(same_bits(train<B>(threads), expected));
}
TEST_CASE_TEMPLATE_APPLY(threads, host_backends);

TEST_CASE("the bits of a step don't depend on the order in which parameters were added") {
  CHECK(same_bits(train<eigen_backend>(2, true), train<eigen_backend>(2, false)));
}

TEST_CASE("the bits of a step don't depend on the alignment of weights and gradients") {
  const auto expected = train_at(0, 0);
  for (std::size_t offset = 0; offset < 16; ++offset) {
    CHECK(same_bits(train_at(offset, 0), expected));
    CHECK(same_bits(train_at(0, offset), expected));
  }
}

TEST_CASE("a matrix moves by the same bits alone, in a batch, and beside others of its shape") {
  constexpr index_t rows = 20, cols = 31;
  constexpr std::size_t size = rows * cols;
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    const auto start = random_elements<float>(3, 4 * size), slope = random_elements<float>(4, 4 * size);
    auto batch = start, apart = start;
    optimizer<eigen_backend> opt(eigen_backend({.threads = 2}));
    const group_id group = add_group(opt, rule.options);
    const auto stack = [&](auto* data) { return batched(row_major(data, rows, cols), 4, rows * cols); };
    opt.add_parameter(group, "batch", stack(batch.data()), stack(slope.data()));
    for (std::size_t k = 0; k < 4; ++k)
      opt.add_parameter(group, std::to_string(k), row_major(apart.data() + k * size, rows, cols),
                        row_major(slope.data() + k * size, rows, cols));
    for (int step = 0; step < 2; ++step) opt.step();
    CHECK(same_bits(batch, apart));
    std::vector<float> alone(start.begin(), start.begin() + static_cast<std::ptrdiff_t>(size));
    optimizer<eigen_backend> other(eigen_backend({.threads = 1}));
    other.add_parameter(add_group(other, rule.options), "w", row_major(alone.data(), rows, cols),
                        row_major(slope.data(), rows, cols));
    for (int step = 0; step < 2; ++step) other.step();
    CHECK(std::equal(alone.begin(), alone.end(), batch.begin()));
  }
}
