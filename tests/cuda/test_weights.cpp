// Weights of 16 bits on the GPU backend, run on the stand-in: rounded by chance and beside masters, as on the Eigen
// backend.
#include <doctest/doctest.h>

#include "cuda/direct_backend.hpp"
#include "cuda/placed_model.hpp"
#include "normuon/backends/eigen.hpp"
#include "standin.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr weight_rounding roundings[] = {weight_rounding::stochastic, weight_rounding::nearest,
                                         weight_rounding::master};

// Of every rule, a batch and a tall matrix, and of AdamW more elements than one block is meant for.
template <element T>
std::vector<owned_parameter<T>> narrow_parameters(weight_rounding rounding) {
  std::vector<owned_parameter<T>> all;
  for (const named_rule& rule : all_rules()) {
    any_options o = with_rounding(rounding, rule.options);
    std::visit(
        [](auto& options) {
          if constexpr (requires { options.orthogonalizer; }) options.orthogonalizer.compute = compute_type::float32;
        },
        o);
    all.emplace_back(rule.name, o, 9, 70, 2);
    all.emplace_back(std::string(rule.name) + " tall", o, 67, 12);
    if (!rule.is_matrix_rule()) all.emplace_back(std::string(rule.name) + " large", o, 131, 70);
  }
  return all;
}

template <tensor_backend B, element T>
struct trained {
  std::vector<std::vector<T>> weights;
  std::vector<named_tensor> state;
};

template <tensor_backend B, element T>
trained<B, T> three_steps(weight_rounding rounding, B backend = B()) {
  placed_model<B, T> m(narrow_parameters<T>(rounding), {.seed = 5}, std::move(backend));
  for (int step = 0; step < 3; ++step) {
    m.make_gradients(step);
    m.opt.step();
  }
  return {m.weights(), m.opt.export_state()};
}

}  // namespace

TEST_CASE_TEMPLATE("weights of 16 bits move on the GPU as they do on the Eigen backend, however they are rounded", T,
                   bfloat16, float16) {
  for (const weight_rounding rounding : roundings) {
    standin::restart();
    const auto gpu = three_steps<cublas_backend, T>(rounding);
    const auto cpu = three_steps<eigen_backend, T>(rounding, eigen_backend({.threads = 1}));
    const auto parameters = narrow_parameters<T>(rounding);
    std::size_t all = 0, other = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      CAPTURE(parameters[i].name);
      if (std::holds_alternative<adamw_options>(parameters[i].options))
        CHECK(same_bits(gpu.weights[i], cpu.weights[i]));  // the same arithmetic
      for (std::size_t k = 0; k < parameters[i].size(); ++k, ++all)
        if (gpu.weights[i][k].bits() != cpu.weights[i][k].bits()) ++other;
    }
    CHECK(other * 100 < all);  // updates that differ in their last bits of a float rarely round to another number
    REQUIRE(gpu.state.size() == cpu.state.size());
    for (std::size_t i = 0; i < gpu.state.size(); ++i) {
      CAPTURE(gpu.state[i].name);
      CHECK(gpu.state[i].name == cpu.state[i].name);
      if (gpu.state[i].name.find("adamw") != std::string::npos)
        CHECK(same_bits(gpu.state[i].values, cpu.state[i].values));
    }
  }
}

TEST_CASE("a recorded step draws the random numbers of its own step, as a direct one does") {
  for (const weight_rounding rounding : roundings)
    for (const std::uint64_t seed : {1u, 2u}) {
      standin::restart();
      standin::seed(seed);
      const auto recorded = three_steps<cublas_backend, bfloat16>(rounding);
      const auto direct = three_steps<direct_cublas_backend, bfloat16>(rounding);
      CHECK(same_bits(recorded.weights, direct.weights));
      CHECK(same_bits(recorded.state, direct.state));
    }
}

TEST_CASE("a step with random numbers and masters allocates nothing and makes the host wait for nothing") {
  standin::restart();
  for (const weight_rounding rounding : {weight_rounding::stochastic, weight_rounding::master}) {
    placed_model<cublas_backend, bfloat16> m(narrow_parameters<bfloat16>(rounding));
    m.make_gradients(0);
    m.opt.step();
    standin::run_everything();  // or the ring would be full of what was written before
    standin::forget_calls();
    m.opt.step();
    CHECK(standin::allocations() == 0);
    CHECK(standin::waits() == 0);
    CHECK(standin::calls("cudaGraphLaunch") == 1);
  }
}

TEST_CASE("a weight on the GPU that somebody has written is where the next step begins") {
  standin::restart();
  placed_model<cublas_backend, bfloat16> m(narrow_parameters<bfloat16>(weight_rounding::master));
  m.make_gradients(0);
  m.opt.set_learning_rate(0);
  auto written = m.weights();
  m.opt.step();
  CHECK(same_bits(m.weights(), written));
  written[0][3] = bfloat16(64.0f);
  m.write_weights(written);
  m.opt.step();
  CHECK(same_bits(m.weights(), written));
  CHECK(m.opt.export_state().at(3).name == m.host.parameters[0].name + ".master");
  CHECK(m.opt.export_state().at(3).values[3] == 64);
}

TEST_CASE("a weight on the GPU that is bound anew in another type is rounded as that type is") {
  standin::restart();
  optimizer<cublas_backend> opt;
  const group_id id = opt.add_group(
      adamw_options{.learning_rate = 0x1p-14, .momentum = 0, .beta2 = 0, .epsilon = 0, .weight_decay = 0});
  const auto placed = [&]<element T>(T x) {
    const std::vector<T> values(4096, x);
    cuda_memory memory = opt.backend().allocate(values.size() * sizeof(T));
    opt.backend().write(memory.data(), values.data(), values.size() * sizeof(T));
    return memory;
  };
  const cuda_memory wide = placed(1.0f), narrow = placed(bfloat16(1.0f)), gradient = placed(-1.0f);
  opt.add_parameter(id, "w", row_major(address_of<float>(wide.data()), 64, 64),
                    row_major<const float>(address_of<float>(gradient.data()), 64, 64));
  opt.step();
  opt.bind_weight("w", row_major(address_of<bfloat16>(narrow.data()), 64, 64));
  opt.step();
  std::vector<bfloat16> found(4096);
  opt.backend().read(found.data(), narrow.data(), narrow.size());
  opt.backend().sync();
  CHECK(std::any_of(found.begin(), found.end(), [](bfloat16 x) { return x == 1 + 0x1p-7f; }));
}
