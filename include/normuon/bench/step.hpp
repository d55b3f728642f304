// step/<rule>/<backend>/<compute>/<model>/<threads>: a whole step of the optimizer on the matrices of a model, its
// check of gradients included.
#ifndef NORMUON_BENCH_STEP_HPP
#define NORMUON_BENCH_STEP_HPP

#include "normuon/bench/measure.hpp"
#include "normuon/bench/models.hpp"
#include "normuon/optimizer.hpp"

namespace normuon::bench {

// FLOP of the products of a step.
template <tensor_backend B>
double flops_of_step(const normuon_options& o, const model& m) {
  double sum = 0;
  for (const alike& t : m.tensors)
    sum += static_cast<double>(t.count * t.batch) *
           flops<B>(decide<B>(o.orthogonalizer, o.published, t.rows, t.cols), t.rows, t.cols);
  return sum;
}

// Adds the model's weights and their gradients, which lie in the memory that is returned.
template <tensor_backend B>
std::vector<typename B::memory> add_model(optimizer<B>& opt, group_id group, const model& m) {
  using real = typename B::real;
  std::vector<typename B::memory> all;
  std::uint64_t number = 0;
  const auto tensor = [&](const alike& t) {
    const index_t elements = t.batch * t.rows * t.cols;
    all.push_back(random_reals(opt.backend(), elements, number));
    number += static_cast<std::uint64_t>(elements);
    return batched(row_major(address_of<real>(all.back().data()), t.rows, t.cols), t.batch, t.rows * t.cols);
  };
  for (const alike& t : m.tensors)
    for (index_t i = 0; i < t.count; ++i) {
      const matrix_ref<real> weight = tensor(t), gradient = tensor(t);
      opt.add_parameter(group, std::to_string(all.size()), weight, gradient);
    }
  return all;
}

template <tensor_backend B, class Options>
void run_step(benchmark::State& state, B b, const Options& o, const model& m, int threads, const settings& s) {
  optimizer<B> opt(std::move(b));
  const std::vector<typename B::memory> tensors = add_model(opt, opt.add_group(o), m);
  const auto wait = [&] { opt.backend().sync(); };
  opt.step();  // makes the workspace
  wait();
  double host = 0;  // seconds until step() returned
  const auto step = [&] {
    const clock::time_point start = clock::now();
    opt.step();
    host += seconds_since(start);
  };
  const double seconds = time_of(state, s, step, wait);
  if (s.device_seconds) state.counters["host"] = host / static_cast<double>(state.iterations());
  for (const parameter_report& p : opt.report().parameters)
    if (p.outcome != outcome::moved || !(p.update_norm > 0)) fail(error_code::backend, "a matrix has not moved");

  if constexpr (std::is_same_v<Options, adamw_options>) {
    const traffic check = facts_of(pass::check).bytes(sizeof(typename B::real), 0);
    const traffic update = facts_of(pass::adamw).bytes(sizeof(typename B::real), 0);
    const auto elements = static_cast<double>(m.elements());
    count_bytes(state, (check.moved + update.moved) * elements, seconds,
                s.bandwidth(static_cast<std::size_t>(update.footprint * elements), threads));
  } else {
    const compute_type compute = o.orthogonalizer.compute;
    count_flops(state, flops_of_step<B>(o, m), seconds, s.peak(compute, threads));
  }
  count_memory(state, "workspace", opt.workspace_bytes());
  count_memory(state, "state", opt.state_bytes());
}

template <tensor_backend B, class Make, class Options>
void register_steps_of(std::string_view rule, const std::string& backend, compute_type compute, const Make& make,
                       const Options& o, const settings& s) {
  for (const model& m : models)
    for (const int threads : thread_counts<B>(s))
      add_benchmark(path_of("step", rule, backend, name_of(compute), m.name, std::to_string(threads)), s,
                    [=](benchmark::State& state) { run_step<B>(state, make(threads), o, m, threads, s); });
}

// NorMuon as in its paper, Muon as torch.optim.Muon has it, so that they compare, and AdamW for scale.
template <tensor_backend B, class Make>
void register_step(const std::string& backend, const Make& make, const settings& s) {
  for (const compute_type compute : compute_types<B>()) {
    normuon_options paper = normuon_options::paper();
    muon_options torch = muon_options::torch_muon();
    paper.orthogonalizer.compute = torch.orthogonalizer.compute = compute;
    register_steps_of<B>("normuon", backend, compute, make, paper, s);
    register_steps_of<B>("muon", backend, compute, make, torch, s);
  }
  constexpr bool is_double = std::is_same_v<typename B::real, double>;  // there is no iteration
  register_steps_of<B>("adamw", backend, is_double ? compute_type::float64 : compute_type::float32, make,
                       adamw_options{}, s);
}

}  // namespace normuon::bench

#endif
