// newton_schulz/<backend>/<compute>/<form>/<m>x<n>/<threads>: five steps of the iteration on one matrix, as a step
// does them.
#ifndef NORMUON_BENCH_NEWTON_SCHULZ_HPP
#define NORMUON_BENCH_NEWTON_SCHULZ_HPP

#include <numeric>

#include "normuon/bench/measure.hpp"

namespace normuon::bench {

// How an iteration is asked for. The last has the one restart of public codes (Dao-AILab/gram-newton-schulz, for five
// steps in bfloat16), which some spectra don't bear (docs/numerics.md).
struct asked_form {
  std::string_view name;
  iteration_form form;
  std::optional<restart_steps> restarts = {};
};
inline constexpr std::array<asked_form, 4> forms{{{"auto", iteration_form::automatic},
                                                  {"plain", iteration_form::plain},
                                                  {"gram", iteration_form::gram},
                                                  {"gram@3", iteration_form::gram, restart_steps{3}}}};

template <tensor_backend B>
iteration iteration_for(compute_type compute, const asked_form& f, const matrix_shape& m) {
  return decide<B>({.form = f.form, .restarts = f.restarts, .compute = compute}, {}, m.rows, m.cols);
}

// ||X||_F^2 over the short side: of what the iteration leaves near 1, and of a backend that computes nonsense rarely.
template <tensor_backend B>
double mean_square_singular_value(B& b, const typename B::operand& X, const matrix_shape& m) {
  using real = typename B::real;
  const auto [s, l] = std::minmax(m.rows, m.cols);
  const auto bytes = static_cast<std::size_t>(s) * sizeof(real);
  const typename B::memory memory = b.allocate(bytes);
  real* const rows[] = {address_of<real>(memory.data())};
  b.mean_squares({rows, s}, X, side::rows);
  std::vector<real> r(static_cast<std::size_t>(s));
  b.read(r.data(), memory.data(), bytes);
  b.sync();
  return std::accumulate(r.begin(), r.end(), 0.0) * static_cast<double>(l) / static_cast<double>(s);
}

template <tensor_backend B>
void run_newton_schulz(benchmark::State& state, B b, const iteration& it, const matrix_shape& m, int threads,
                       const settings& s) {
  using real = typename B::real;
  const typename B::memory matrix = random_reals(b, m.rows * m.cols, 0), slots_memory = b.allocate(3 * sizeof(double));
  slot const slots = address_of<double>(slots_memory.data());
  const double initial[] = {0, 1, 1};
  b.write(slots, initial, sizeof initial);
  const slot norms[] = {slots}, ok[] = {slots + 1}, sound[] = {slots + 2};
  const matrix_view U[] = {row_major(address_of<real>(matrix.data()), m.rows, m.cols)};
  iteration_workspace<B> work;
  const auto iterate = [&] {
    newton_schulz(b, work, it, U, norms, ok, sound);
    b.sync();
  };
  iterate();  // makes the workspace
  const double seconds = time_of(state, iterate);
  const double square = mean_square_singular_value(b, work.X, m);
  if (!(square > 0.25 && square < 2)) return state.SkipWithError("the result is not orthogonal");

  count_flops(state, flops<B>(it, m.rows, m.cols), seconds, s.peak(it.compute, threads));
  const auto bytes = iteration_workspace<B>::bytes(b, it, m.rows, m.cols, 1);
  count_memory(state, "workspace", std::accumulate(bytes.begin(), bytes.end(), std::size_t{0}));
  std::string label = it.gram ? "gram" : "plain";
  for (int step = 1; it.gram && step < it.table.steps; ++step)
    if (it.restarts.contains(step)) label += " @" + std::to_string(step);
  if constexpr (has_kernel_path<B>) label += " " + std::string(b.kernel_path(it.compute));
  state.SetLabel(label);
}

template <tensor_backend B, class Make>
void register_newton_schulz(const std::string& backend, const Make& make, const settings& s) {
  const auto shares_one_matrix = [b = make(1)](const matrix_shape& m, compute_type compute) {
    const auto [least, most] = std::minmax(m.rows, m.cols);
    if constexpr (has_shared_runs<B>) return b.shares({least, most, 1, compute});
    else return false;
  };
  for (const compute_type compute : compute_types<B>())
    for (const asked_form& form : forms)
      for (const matrix_shape& m : s.shapes)
        for (const int threads : thread_counts<B>(s)) {
          if (form.restarts && compute != compute_type::bfloat16) continue;
          if (threads > 1 && !shares_one_matrix(m, compute)) continue;  // one thread would do it all
          const std::string name =
              path_of("newton_schulz", backend, name_of(compute), form.name,
                      std::to_string(m.rows) + 'x' + std::to_string(m.cols), std::to_string(threads));
          add_benchmark(name, [=](benchmark::State& state) {
            run_newton_schulz<B>(state, make(threads), iteration_for<B>(compute, form, m), m, threads, s);
          });
        }
}

}  // namespace normuon::bench

#endif
