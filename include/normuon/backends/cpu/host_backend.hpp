// Lifts products on plain memory to a whole tensor backend on the host: runs, flags, slots, passes and threads are done
// here. The quickest way to a backend of one's own is to write `multiply` (examples/02_custom_backend.hpp).
#ifndef NORMUON_BACKENDS_CPU_HOST_BACKEND_HPP
#define NORMUON_BACKENDS_CPU_HOST_BACKEND_HPP

#include <vector>

#include "normuon/backends/cpu/bands.hpp"
#include "normuon/backends/cpu/dense_algebra.hpp"
#include "normuon/backends/cpu/host_algebra.hpp"
#include "normuon/backends/cpu/passes.hpp"
#include "normuon/backends/cpu/vectorized.hpp"

namespace normuon {

template <std::floating_point Real, host_algebra Algebra, executor Executor = thread_pool>
class basic_host_backend {
 public:
  using real = Real;
  using memory = host_memory;
  using operand = typename Algebra::operand;

  // Makes a pool of threads of its own.
  explicit basic_host_backend(const cpu_options& options = {})
    requires std::same_as<Executor, thread_pool>
      : basic_host_backend(options, Algebra(options)) {}
  basic_host_backend(const cpu_options& options, const Algebra& algebra)
    requires std::same_as<Executor, thread_pool>
      : algebra_(algebra), own_threads_(std::make_unique<thread_pool>(options.threads)) {
    take(*own_threads_);
  }
  // Works on an executor that is lent; it must outlive the backend, and not be in use while an operation runs.
  explicit basic_host_backend(Executor& threads, const cpu_options& options = {}) : algebra_(options) { take(threads); }

  static constexpr bool is_host_memory = true;
  static constexpr bool takes(element_type type) {
    return type != element_type::float64 || std::is_same_v<Real, double>;
  }
  static constexpr bool computes(compute_type type) {
    return type == compute_type::float64 || type == compute_type::float32 || type == compute_type::bfloat16;
  }
  static constexpr compute_type default_compute() {
    return std::is_same_v<Real, double> ? compute_type::float64 : compute_type::float32;
  }
  index_t run_length(const operand_shape&) const { return 1; }  // one matrix per thread while there are enough of them
  bool shares(const operand_shape& shape) const { return algebra_.shares(shape); }
  std::string_view kernel_path(compute_type compute) const { return algebra_.kernel_path(compute); }
  std::size_t operand_bytes(const operand_shape& shape) const { return algebra_.bytes(shape); }

  memory allocate(std::size_t bytes) { return memory(bytes); }
  void resize(operand& X, const operand_shape& shape) {
    algebra_.reserve(shape);  // first, as products may refuse a shape
    for (basic_host_backend& worker : workers_) worker.algebra_.reserve(shape);
    algebra_.resize(X, shape);
  }
  void write(void* to, const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  void read(void* to, const void* from, std::size_t bytes) { write(to, from, bytes); }
  void sync() {}

  void all_finite(flags ok, views G, number scale) {
    for (std::size_t i = 0; i < G.size(); ++i) {
      if (!goes(ok, i)) continue;
      const double bad = sum_over_bands(lanes_, bands::as_stored(G[i]), [&](const band& b) {
        return normuon::all_finite(part(G[i], b), as_real(scale)) ? 0.0 : 1.0;
      });
      if (bad != 0) *ok[i] = 0;
    }
  }

  void count(slots counters, flags ok) {
    for (std::size_t i = 0; i < counters.size(); ++i)
      if (goes(ok, i)) *counters[i] += 1;
  }

  void note_verdicts(verdict* mine, flags ok) {
    for (std::size_t i = 0; i < ok.size(); ++i) mine[i] = checked(mine[i], *ok[i] != 0);
  }
  void agree(flags ok, const verdict* all, std::size_t pitch, int ranks) {
    for (std::size_t i = 0; i < ok.size(); ++i) *ok[i] = lets_move(agreed(all + i, pitch, ranks)) ? 1 : 0;
  }

  void blend(views out, number x, views A, number y, views B, flags ok) {
    for_each_held(ok, out, [&](std::size_t i, const band& b) {
      normuon::blend(part(out[i], b), as_real(x), part(A[i], b), as_real(y), part(B[i], b));
    });
  }

  void momentum(views M, views U, views G, number keep, number take, flags ok) {
    for_each_held(ok, M, [&](std::size_t i, const band& b) {
      normuon::momentum(part(M[i], b), part(U[i], b), part(G[i], b), as_real(keep), as_real(take));
    });
  }

  void load(operand& X, views U, const norm_formula& formula, slots norms, flags ok, flags sound) {
    algebra_.begin_load(X);
    for (std::size_t i = 0; i < U.size(); ++i) {
      const bool go = goes(ok, i);
      const scaled_norm norm = go ? norm_of<Real>(lanes_, U[i]) : scaled_norm{0, 1};
      const bool enters = go && (sound.empty() || is_finite(norm.norm));
      if (go) *norms[i] = norm.norm / norm.unit;
      if (!sound.empty()) *sound[i] = enters ? 1 : 0;
      const auto matrix = static_cast<index_t>(i);
      const double factor = inverse_norm(norm.norm, norm.unit, formula);
      if (enters)
        for_each_band(lanes_, U[i].rows, [&](const band& b, index_t) {
          algebra_.template load<Real>(X, matrix, U[i], b, norm.unit, factor);
        });
      else algebra_.clear(X, matrix);
    }
  }

  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    algebra_.multiply(lanes_, Y, alpha, A, B, transpose, beta, C);
  }

  void add_identity(operand& P, double x) { algebra_.add_identity(P, x); }

  void gram(operand& A, const operand& X)
    requires has_symmetric_products<Algebra>
  {
    algebra_.multiply_symmetric(lanes_, A, 1, X, X, true, 0, X);
  }

  void gram_with_remainder(operand& A, const operand& X)
    requires keeps_remainders<Algebra>
  {
    algebra_.multiply_symmetric_with_remainder(lanes_, A, 1, X, X, true, 0, X);
  }

  void polynomial(operand& P, double y, double z, const operand& A)
    requires has_symmetric_products<Algebra>
  {
    algebra_.multiply_symmetric(lanes_, P, z, A, A, false, y, A);
  }

  void multiply_symmetric(operand& Y, const operand& A, const operand& F, double beta)
    requires has_symmetric_products<Algebra>
  {
    if constexpr (keeps_remainders<Algebra>)
      if (algebra_.has_remainder(A))
        return algebra_.multiply_symmetric_with_remainder(lanes_, Y, 1, A, F, false, beta, A);
    algebra_.multiply_symmetric(lanes_, Y, 1, A, F, false, beta, A);
  }

  row_norms measure_rows(const operand& A)
    requires keeps_remainders<Algebra>
  {
    return row_norms_of(algebra_, lanes_, A);
  }

  void mean_squares(vectors<Real> r, const operand& X, side neurons) {
    for (std::size_t i = 0; i < r.data.size(); ++i)
      for_each_band(lanes_, r.length, [&](const band& lines, index_t) {
        algebra_.template mean_squares<Real>(r.data[i], X, static_cast<index_t>(i), neurons, lines);
      });
  }

  void factors(vectors<Real> v, vectors<Real> f, vectors<Real> r, number beta2, const factor_formula& formula,
               flags ok) {
    for (std::size_t i = 0; i < f.data.size(); ++i)
      if (goes(ok, i))
        vectorized([=, v = v.data.empty() ? nullptr : v.data[i], f = f.data[i], r = r.data[i], n = f.length,
                    b = *beta2] { normuon::factors(v, f, r, n, b, formula); });
  }

  void store_scaled(views D, vectors<Real> f, const operand& X, side neurons, flags ok) {
    for_each_held(ok, D, [&](std::size_t i, const band& b) {
      const matrix_view to = turned(D[i], b);
      const line_order order = line_order::of_rows(to);
      for_each_scaled_block(D[i], f.data[i], X, i, neurons, b, [&](const scaled_block<Real>& d) {
        for (index_t k = 0; k < d.height; ++k)
          normuon::write<Real>({to, order, d.row + k, d.col, d.width}, d.numbers[k]);
      });
    });
  }

  void apply(views out, views W, views D, number rate, number decay, const update_formula& formula, flags ok,
             const low_bits& low = {}) {
    for_each_written(out, formula, ok, [&](std::size_t i, const band& b) {
      normuon::apply(part(out[i], b), part(W[i], b), part(D[i], b), as_real(rate), as_real(decay), formula,
                     weight_access<Real>(low, i, b));
    });
  }

  void neuron_step(views out, views W, vectors<Real> f, const operand& X, side neurons, number rate, number decay,
                   const update_formula& formula, flags ok, const low_bits& low = {}) {
    for_each_written(out, formula, ok, [&](std::size_t i, const band& b) {
      const matrix_view from = turned(W[i], b), to = turned(out[i], b);
      const weight_access<Real> weights(low, i, {0, from.rows, b.of_columns});
      for_each_scaled_block(W[i], f.data[i], X, i, neurons, b, [&](const scaled_block<Real>& d) {
        normuon::apply(to, from, d, as_real(rate), as_real(decay), formula, weights);
      });
    });
  }

  void adamw(views out, views W, views M, views V, views G, slots counters, const adamw_numbers& k, double epsilon,
             const update_formula& formula, slots norms, flags ok, const low_bits& low = {}) {
    write_zeros_where_held(out, formula, ok);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!goes(ok, i)) continue;
      const auto steps = static_cast<std::uint64_t>(*counters[i]);
      const adamw_step<Real> step{.beta1 = *k.beta1,
                                  .beta2 = *k.beta2,
                                  .correction1 = bias_correction<Real>(*k.beta1, steps),
                                  .correction2 = bias_correction<Real>(*k.beta2, steps),
                                  .gradient_scale = as_real(k.gradient_scale),
                                  .epsilon = Real(epsilon),
                                  .rate = as_real(k.rate),
                                  .decay = as_real(k.decay)};
      *norms[i] = std::sqrt(sum_over_bands(lanes_, bands::as_stored(W[i]), [&](const band& b) {
        return normuon::adamw(part(out[i], b), part(W[i], b), part(M[i], b), part(V[i], b), part(G[i], b), step,
                              formula, weight_access<Real>(low, i, b));
      }));
    }
  }

  int workers() const { return lanes_.threads ? lanes_.threads->size() : 1; }

  template <class Task>
  void for_each(index_t count, Task&& task) {
    lanes_.threads->for_each(
        count, [&](int worker, index_t i) { task(workers_[static_cast<std::size_t>(worker)], worker, i); });
  }

  void while_waiting(hook h)
    requires waiting_executor<Executor>
  {
    lanes_.threads->while_waiting(h.call, h.context);
  }

 private:
  // The backend of one worker, alone with its run.
  struct of_worker {};
  basic_host_backend(of_worker, const Algebra& algebra) : algebra_(algebra) {}

  void take(Executor& threads) {
    lanes_.threads = &threads;
    for (int i = 0; i < threads.size(); ++i) workers_.push_back(basic_host_backend(of_worker(), algebra_));
  }

  static Real as_real(number x) { return static_cast<Real>(*x); }
  static bool goes(flags ok, std::size_t i) { return ok.empty() || *ok[i] != 0; }

  // Calls f(i, band) for all bands of the matrices that go, as those are stored.
  template <class F>
  void for_each_held(flags ok, views matrices, F&& f) {
    for (std::size_t i = 0; i < matrices.size(); ++i)
      if (goes(ok, i)) for_each_band(lanes_, bands::as_stored(matrices[i]), [&](const band& b, index_t) { f(i, b); });
  }

  // The same for what is written: a change that is held back is zero.
  template <class F>
  void for_each_written(views out, const update_formula& formula, flags ok, F&& f) {
    write_zeros_where_held(out, formula, ok);
    for_each_held(ok, out, f);
  }
  static void write_zeros_where_held(views out, const update_formula& formula, flags ok) {
    for (std::size_t i = 0; i < out.size(); ++i)
      if (!goes(ok, i) && formula.write == write_form::change) write_zeros<Real>(out[i]);
  }

  template <class F>
  void for_each_scaled_block(const matrix_view& user, const Real* f, const operand& X, std::size_t i, side neurons,
                             const band& lines, F&& call) {
    const bool transposed = (user.rows > user.cols) != lines.of_columns;  // of the operand is what leaves
    algebra_.template for_each_scaled_block<Real>(X, static_cast<index_t>(i), transposed, neurons, f,
                                                  band{lines.first, lines.end}, call);
  }

  Algebra algebra_;
  std::unique_ptr<Executor> own_threads_;  // where none is lent
  std::vector<basic_host_backend> workers_;
  lanes<Executor> lanes_;
};

// A backend of one's own products on plain memory (examples/02_custom_backend.hpp).
template <std::floating_point Real, host_products Products>
using host_backend = basic_host_backend<Real, dense_algebra<Products>>;

}  // namespace normuon

#endif
