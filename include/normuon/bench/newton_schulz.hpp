// newton_schulz/<backend>/<compute>/<form>/<m>x<n>/<threads>: five steps of the iteration on one matrix, as a step
// does them.
#ifndef NORMUON_BENCH_NEWTON_SCHULZ_HPP
#define NORMUON_BENCH_NEWTON_SCHULZ_HPP

#include <numeric>

#include "normuon/bench/measure.hpp"

namespace normuon::bench {

inline constexpr std::array<std::string_view, 3> form_names{"auto", "plain", "gram"};

// Where a table offers no Gram form in a type, it is timed with the restart that public codes have
// (Dao-AILab/gram-newton-schulz, for five steps in bfloat16); `auto` shows what is used.
inline constexpr int published_restart = 3;

template <tensor_backend B>
iteration iteration_for(compute_type compute, iteration_form form, const matrix_shape& m) {
  orthogonalizer_options o{.form = form, .compute = compute};
  const int offered = compute == compute_type::bfloat16 ? o.table.gram_restart_bf16 : o.table.gram_restart_fp32;
  if (form == iteration_form::gram && offered == gram_not_offered) o.restart = published_restart;
  return decide<B>(o, {}, m.rows, m.cols);
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
  state.SetLabel(!it.gram ? "plain" : it.restart > 0 ? "gram, restart " + std::to_string(it.restart) : "gram");
}

template <tensor_backend B, class Make>
void register_newton_schulz(const std::string& backend, const Make& make, const settings& s) {
  const auto shares_one_matrix = [b = make(1)](const matrix_shape& m, compute_type compute) {
    const auto [least, most] = std::minmax(m.rows, m.cols);
    if constexpr (has_shared_runs<B>) return b.shares({least, most, 1, compute});
    else return false;
  };
  for (const compute_type compute : compute_types<B>())
    for (const iteration_form form : {iteration_form::automatic, iteration_form::plain, iteration_form::gram})
      for (const matrix_shape& m : s.shapes)
        for (const int threads : thread_counts<B>(s)) {
          if (threads > 1 && !shares_one_matrix(m, compute)) continue;  // one thread would do it all
          const std::string name =
              path_of("newton_schulz", backend, name_of(compute), form_names[static_cast<std::size_t>(form)],
                      std::to_string(m.rows) + 'x' + std::to_string(m.cols), std::to_string(threads));
          add_benchmark(name, [=](benchmark::State& state) {
            run_newton_schulz<B>(state, make(threads), iteration_for<B>(compute, form, m), m, threads, s);
          });
        }
}

}  // namespace normuon::bench

#endif
