// newton_schulz/<backend>/<compute>/<form>/<m>x<n>/<threads>: five steps of the iteration on one matrix, as a step
// does them; <m>x<n>x<count>: on so many at once.
#ifndef NORMUON_BENCH_NEWTON_SCHULZ_HPP
#define NORMUON_BENCH_NEWTON_SCHULZ_HPP

#include <deque>
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

// ||X||_F^2 over the short side, a mean over all X: of what the iteration leaves near 1, and of a backend that computes
// nonsense rarely.
template <tensor_backend B>
double mean_square_singular_value(B& b, const typename B::operand& X, const matrix_shape& m) {
  using real = typename B::real;
  const auto [s, l] = std::minmax(m.rows, m.cols);
  std::vector<real> r(static_cast<std::size_t>(s * m.count));
  const typename B::memory memory = b.allocate(r.size() * sizeof(real));
  std::vector<real*> rows;
  for (index_t k = 0; k < m.count; ++k) rows.push_back(address_of<real>(memory.data()) + k * s);
  b.mean_squares({rows, s}, X, side::rows);
  b.read(r.data(), memory.data(), r.size() * sizeof(real));
  b.sync();
  return std::accumulate(r.begin(), r.end(), 0.0) * static_cast<double>(l) / static_cast<double>(s * m.count);
}

// The matrices of an iteration, and its slots: a norm, a flag and another for each.
template <tensor_backend B>
struct iteration_input {
  typename B::memory matrices, numbers;
  std::vector<matrix_view> U;
  std::vector<slot> norms, ok, sound;

  iteration_input(B& b, const matrix_shape& m, std::uint64_t first)
      : matrices(random_reals(b, m.count * m.rows * m.cols, first)),
        numbers(b.allocate(static_cast<std::size_t>(3 * m.count) * sizeof(double))) {
    const std::vector<double> initial(static_cast<std::size_t>(3 * m.count), 1);
    b.write(numbers.data(), initial.data(), initial.size() * sizeof(double));
    for (index_t k = 0; k < m.count; ++k) {
      U.push_back(row_major(address_of<typename B::real>(matrices.data()) + k * m.rows * m.cols, m.rows, m.cols));
      slot const its = address_of<double>(numbers.data()) + 3 * k;
      norms.push_back(its), ok.push_back(its + 1), sound.push_back(its + 2);
    }
  }
};

template <tensor_backend B>
void run_newton_schulz(benchmark::State& state, B b, const iteration& it, const matrix_shape& m, int threads,
                       const settings& s) {
  const auto [least, most] = std::minmax(m.rows, m.cols);
  if (const index_t at_once = b.run_length({least, most, 1, it.compute}); m.count > at_once)
    fail(error_code::option, "expected at most ", at_once, " matrices at once, got ", m.count);
  const index_t elements = m.count * m.rows * m.cols;
  const index_t turns = inputs_in_turn(s, static_cast<std::size_t>(elements) * sizeof(typename B::real));
  iteration_workspace<B> work;
  std::deque<iteration_input<B>> inputs;  // recorded acts name tables of theirs, which must not move
  std::vector<repeated<B>> acts;
  for (index_t k = 0; k < turns; ++k) {
    const iteration_input<B>& in = inputs.emplace_back(b, m, static_cast<std::uint64_t>(k * elements));
    acts.emplace_back(b, [&](B& to) { newton_schulz(to, work, it, in.U, in.norms, in.ok, in.sound); });
  }
  std::size_t turn = 0;
  const auto iterate = [&] { acts[turn++ % acts.size()](b); };
  const double seconds = time_of(state, s, iterate, [&] { b.sync(); });
  acts.back()(b);  // whose result work.X is
  const double square = mean_square_singular_value(b, work.X, m);
  if (!(square > 0.25 && square < 2)) fail(error_code::backend, "the result is not orthogonal");

  count_flops(state, static_cast<double>(m.count) * flops<B>(it, m.rows, m.cols), seconds, s.peak(it.compute, threads));
  const auto bytes = iteration_workspace<B>::bytes(b, it, m.rows, m.cols, m.count);
  count_memory(state, "workspace", std::accumulate(bytes.begin(), bytes.end(), std::size_t{0}));
  std::string label = it.gram ? "gram" : "plain";
  for (int step = 1; it.gram && step < it.table.steps; ++step)
    if (it.restarts.contains(step)) label += " @" + std::to_string(step);
  if constexpr (has_kernel_path<B>) label += " " + std::string(b.kernel_path(it.compute));
  state.SetLabel(label);
}

template <tensor_backend B, class Make>
void register_newton_schulz(const std::string& backend, const Make& make, const settings& s) {
  const auto shares_one_matrix = [&](const matrix_shape& m, compute_type compute) {
    const auto [least, most] = std::minmax(m.rows, m.cols);
    if constexpr (has_shared_runs<B>) return make(1).shares({least, most, 1, compute});
    else return false;
  };
  for (const compute_type compute : compute_types<B>())
    for (const asked_form& form : forms)
      for (const matrix_shape& m : s.shapes)
        for (const int threads : thread_counts<B>(s)) {
          if (form.restarts && compute != compute_type::bfloat16) continue;
          if (threads > 1 && !shares_one_matrix(m, compute)) continue;  // one thread would do it all
          const std::string name =
              path_of("newton_schulz", backend, name_of(compute), form.name, text_of(m), std::to_string(threads));
          add_benchmark(name, s, [=](benchmark::State& state) {
            run_newton_schulz<B>(state, make(threads), iteration_for<B>(compute, form, m), m, threads, s);
          });
        }
}

}  // namespace normuon::bench

#endif
