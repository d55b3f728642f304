// Ranks on the GPU backend: a model whose parts lie in device memory, and steps between which things change.
#ifndef NORMUON_TESTS_CUDA_SHARDED_ON_GPU_HPP
#define NORMUON_TESTS_CUDA_SHARDED_ON_GPU_HPP

#include "cuda/compared_with_host.hpp"
#include "cuda/in_device_memory.hpp"
#include "dist/sharded_runs.hpp"
#include "normuon/shards/through_host.hpp"

namespace normuon::test {

template <class B, shard_engine Engine>
using gpu_trainer = spread_trainer<B, Engine, float, in_device_memory>;

// What may change between steps, on every rank alike.
template <class Trainer>
void vary_and_step(Trainer& t, int step) {
  t.opt.set_learning_rate(0.01 * (step + 1));
  if (step == 0) t.opt.freeze("flat"), t.opt.unbind_gradient("adamw");
  if (step == 2) t.opt.unfreeze("flat"), t.bind_gradient(t.parts.size() - 1);
  t.make_gradients(step);
  t.opt.step();
}
inline constexpr int varied_steps = 4;

template <class B>
whole_tensors trained_alone_on_gpu(const std::vector<spread_parameter>& parameters, const optimizer_options& options) {
  whole_tensors all;
  gpu_trainer<B, single_process> trainer(parameters, {}, options);
  for (int step = 0; step < varied_steps; ++step) vary_and_step(trainer, step);
  trainer.put_into(all);
  return all;
}

// Every layout of a rule, then a small model whose names vary_and_step knows.
inline std::vector<spread_parameter> gpu_model(const any_options& rule) {
  std::vector<spread_parameter> all = all_layouts({"", rule}, 2);
  for (spread_parameter& p : small_model()) all.push_back(std::move(p));
  return all;
}

inline std::vector<spread_parameter> gpu_model_in_float32() {
  std::vector<spread_parameter> all = gpu_model(normuon_options::reference());
  for (spread_parameter& p : all) p.options = in_float32(p.options);
  return all;
}

// As where a device is compared with the host: the library may choose another algorithm for a run than for one matrix.
inline void check_within_rounding(const std::vector<spread_parameter>& parameters, const whole_tensors& got,
                                  const whole_tensors& expected) {
  const double iterated = iteration_tolerance(compute_type::float32, polar_express_102, iteration_form::gram, 1);
  for (const spread_parameter& p : parameters) {
    CAPTURE(p.name);
    const std::vector<float> start = first_weight<float>(p);
    const std::vector<double>&e = expected.at(p.name), &g = got.at(p.name);
    double moved = 0, apart = 0;
    for (std::size_t i = 0; i < start.size(); ++i) {
      moved = std::max(moved, std::abs(e[i] - static_cast<double>(start[i])));
      apart = std::max(apart, std::abs(g[i] - e[i]));
    }
    CHECK(moved > 0);
    CHECK(apart <= 2 * iterated * moved + 5 * varied_steps * tolerance<float>::elementwise);
  }
}

using gpu_engine = through_host<loopback>;

// Each rank's, which its backend and its engine share.
template <class B, class Body>
loopback_result on_gpu_ranks(int ranks, const std::vector<spread_parameter>& parameters,
                             const optimizer_options& options, Body&& body) {
  return run_loopback(ranks, {}, [&](loopback engine) {
    const cuda_stream stream = make_stream();
    gpu_trainer<B, gpu_engine> trainer(parameters, gpu_engine(std::move(engine), stream.get()), options,
                                       B({.stream = stream.get()}));
    body(trainer);
  });
}

template <class B>
whole_tensors trained_on_gpus(int ranks, const std::vector<spread_parameter>& parameters,
                              const optimizer_options& options) {
  whole_tensors all;
  on_gpu_ranks<B>(ranks, parameters, options, [&](auto& trainer) {
    for (int step = 0; step < varied_steps; ++step) vary_and_step(trainer, step);
    trainer.put_into(all);
  }).rethrow_first();
  return all;
}

}  // namespace normuon::test

#endif
