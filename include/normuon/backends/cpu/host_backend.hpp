// Lifts products on plain memory to a whole tensor backend on the host: runs, flags, slots, passes and threads are done
// here. The quickest way to a backend of one's own is to write `multiply` (examples/02_custom_backend.cpp).
#ifndef NORMUON_BACKENDS_CPU_HOST_BACKEND_HPP
#define NORMUON_BACKENDS_CPU_HOST_BACKEND_HPP

#include <vector>

#include "normuon/backends/cpu/dense_operand.hpp"
#include "normuon/backends/cpu/executor.hpp"
#include "normuon/backends/cpu/passes.hpp"

namespace normuon {

struct cpu_options {
  int threads = 0;  // 0: as many as the machine runs at once
};

// Products on column-major matrices of T, float or double, leading dimensions as short as they can be:
//   multiply(Y, m, n, k, alpha, A, B, transpose): Y (m x n) += alpha A (m x k) B (k x n), where `transpose` says that B
//   lies there as n x k and B^T is meant. Y is neither A nor B.
//   reserve<T>(n, k): memory for products of up to n columns and depth k is made now, so that multiply makes none.
template <class Products>
concept host_products =
    std::copyable<Products> && requires(Products& p, float* y, const float* a, double* z, const double* b) {
      p.multiply(y, index_t{}, index_t{}, index_t{}, float{}, a, a, bool{});
      p.multiply(z, index_t{}, index_t{}, index_t{}, double{}, b, b, bool{});
      p.template reserve<float>(index_t{}, index_t{});
      p.template reserve<double>(index_t{}, index_t{});
    };

// multiply_lower: the same for a square Y, of which only the lower triangle has to be computed.
template <class Products>
concept has_lower_products = requires(Products& p, float* y, const float* a, double* z, const double* b) {
  p.multiply_lower(y, index_t{}, index_t{}, float{}, a, a, bool{});
  p.multiply_lower(z, index_t{}, index_t{}, double{}, b, b, bool{});
};

template <std::floating_point Real, host_products Products>
class host_backend {
 public:
  using real = Real;
  using memory = host_memory;
  using operand = dense_operand;

  explicit host_backend(cpu_options options = {}, const Products& products = {}) : products_(products) {
    team_ = std::make_unique<team>(options.threads);
    for (int worker = 1; worker < team_->threads.size(); ++worker)
      team_->others.push_back(host_backend(of_worker(), products));
  }

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
  std::size_t operand_bytes(const operand_shape& shape) const { return operand::bytes(shape); }

  memory allocate(std::size_t bytes) { return memory(bytes); }
  void resize(operand& X, const operand_shape& shape) {
    X.resize(shape);
    X.with_stored_type([&]<class T>(T) {
      products_.template reserve<T>(shape.cols, shape.rows);
      if (team_)
        for (host_backend& other : team_->others) other.products_.template reserve<T>(shape.cols, shape.rows);
    });
  }
  void write(void* to, const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  void read(void* to, const void* from, std::size_t bytes) { write(to, from, bytes); }
  void sync() {}

  void all_finite(flags ok, views G, number scale) {
    for_each_held(ok, G.size(), [&](std::size_t i) {
      if (!normuon::all_finite(G[i], as_real(scale))) *ok[i] = 0;
    });
  }

  void count(slots counters, flags ok) {
    for_each_held(ok, counters.size(), [&](std::size_t i) { *counters[i] += 1; });
  }

  void blend(views out, number x, views A, number y, views B, flags ok) {
    for_each_held(ok, out.size(), [&](std::size_t i) { normuon::blend(out[i], as_real(x), A[i], as_real(y), B[i]); });
  }

  void momentum(views M, views U, views G, number keep, number take, flags ok) {
    for_each_held(ok, M.size(),
                  [&](std::size_t i) { normuon::momentum(M[i], U[i], G[i], as_real(keep), as_real(take)); });
  }

  void load(operand& X, views U, const norm_formula& formula, slots norms, flags ok, flags sound) {
    for (std::size_t i = 0; i < U.size(); ++i) {
      const bool go = ok.empty() || *ok[i] != 0;
      const scaled_norm norm = go ? norm_of<Real>(U[i]) : scaled_norm{0, 1};
      const bool enters = go && (sound.empty() || is_finite(norm.norm));
      if (go) *norms[i] = norm.norm / norm.unit;
      if (!sound.empty()) *sound[i] = enters ? 1 : 0;
      X.with_stored_type([&]<class T>(T) {
        const auto matrix = static_cast<index_t>(i);
        if (enters) load_matrix<Real, T>(X, matrix, U[i], norm.unit, inverse_norm(norm.norm, norm.unit, formula));
        else std::fill_n(X.matrix<T>(matrix), X.shape().rows * X.shape().cols, T(0));
      });
    }
  }

  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    for_each_stored<false>(Y, [&]<class T>(index_t i, T* y) {
      start_sum(y, T(beta), C.matrix<T>(i), Y.shape().rows * Y.shape().cols);
      products_.multiply(y, Y.shape().rows, Y.shape().cols, A.shape().cols, T(alpha), A.matrix<T>(i), B.matrix<T>(i),
                         transpose);
    });
  }

  void add_identity(operand& P, double x) {
    for_each_stored<false>(P, [&]<class T>(index_t, T* p) { add_to_diagonal(p, P.shape().rows, T(x)); });
  }

  void gram(operand& A, const operand& X)
    requires has_lower_products<Products>
  {
    symmetric_product(A, 0, 1, X, X, true, 0, X);
  }

  void polynomial(operand& P, double x, double y, double z, const operand& A)
    requires has_lower_products<Products>
  {
    symmetric_product(P, x, z, A, A, false, y, A);
  }

  void multiply_symmetric(operand& Y, const operand& A, const operand& B)
    requires has_lower_products<Products>
  {
    symmetric_product(Y, 0, 1, A, B, false, 0, A);
  }

  void mean_squares(vectors<Real> r, const operand& X, side neurons) {
    for (std::size_t i = 0; i < r.data.size(); ++i)
      X.with_stored_type([&]<class T>(T) { mean_squares_of<Real, T>(r.data[i], X, static_cast<index_t>(i), neurons); });
  }

  void factors(vectors<Real> v, vectors<Real> f, vectors<Real> r, number beta2, const factor_formula& formula,
               flags ok) {
    for_each_held(ok, f.data.size(), [&](std::size_t i) {
      normuon::factors(v.data.empty() ? nullptr : v.data[i], f.data[i], r.data[i], f.length, *beta2, formula);
    });
  }

  void store_scaled(views D, vectors<Real> f, const operand& X, side neurons, flags ok) {
    for_each_held(ok, D.size(), [&](std::size_t i) {
      const line_order order = line_order::of_rows(D[i]);
      with_scaled_chunks(D[i], f.data[i], X, i, neurons, [&](index_t row, index_t first, index_t n, const Real* d) {
        normuon::write<Real>({D[i], order, row, first, n}, d);
      });
    });
  }

  void apply(views out, views W, views D, number rate, number decay, const update_formula& formula, flags ok) {
    for (std::size_t i = 0; i < out.size(); ++i)
      if (goes(ok, i)) normuon::apply(out[i], W[i], D[i], as_real(rate), as_real(decay), formula);
      else write_held_back(out[i], formula);
  }

  void neuron_step(views out, views W, vectors<Real> f, const operand& X, side neurons, number rate, number decay,
                   const update_formula& formula, flags ok) {
    chunk<Real> w_buffer, result;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!goes(ok, i)) {
        write_held_back(out[i], formula);
        continue;
      }
      const line_order order = line_order::of_rows(W[i]);
      const Real r = as_real(rate), c = as_real(decay);
      with_scaled_chunks(W[i], f.data[i], X, i, neurons, [&](index_t row, index_t first, index_t n, const Real* d) {
        const Real* w = normuon::read<Real>({W[i], order, row, first, n}, w_buffer);
        for (index_t k = 0; k < n; ++k) result[k] = updated(w[k], d[k], r, c, formula);
        normuon::write<Real>({out[i], order, row, first, n}, result);
      });
    }
  }

  void adamw(views out, views W, views M, views V, views G, slots counters, const adamw_numbers& k, double epsilon,
             const update_formula& formula, slots norms, flags ok) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!goes(ok, i)) {
        write_held_back(out[i], formula);
        continue;
      }
      const auto steps = static_cast<std::uint64_t>(*counters[i]);
      const adamw_step<Real> step{.beta1 = *k.beta1,
                                  .beta2 = *k.beta2,
                                  .correction1 = Real(1 - power(*k.beta1, steps)),
                                  .correction2 = Real(1 - power(*k.beta2, steps)),
                                  .gradient_scale = as_real(k.gradient_scale),
                                  .epsilon = Real(epsilon),
                                  .rate = as_real(k.rate),
                                  .decay = as_real(k.decay)};
      *norms[i] = normuon::adamw(out[i], W[i], M[i], V[i], G[i], step, formula);
    }
  }

  int workers() const { return team_ ? team_->threads.size() : 1; }

  template <class Task>
  void for_each(index_t count, Task&& task) {
    team_->threads.for_each(count, [&](int worker, index_t i) {
      task(worker == 0 ? *this : team_->others[static_cast<std::size_t>(worker - 1)], worker, i);
    });
  }

 private:
  struct team {
    explicit team(int threads_wanted) : threads(threads_wanted) {}
    executor threads;
    std::vector<host_backend> others;  // one backend per worker but the first
  };

  struct of_worker {};
  host_backend(of_worker, const Products& products) : products_(products) {}

  static Real as_real(number x) { return static_cast<Real>(*x); }
  static bool goes(flags ok, std::size_t i) { return ok.empty() || *ok[i] != 0; }

  template <class F>
  static void for_each_held(flags ok, std::size_t count, F&& f) {
    for (std::size_t i = 0; i < count; ++i)
      if (goes(ok, i)) f(i);
  }

  static void write_held_back(const matrix_view& out, const update_formula& formula) {
    if (formula.write == write_form::change) write_zeros<Real>(out);
  }

  template <class F>
  static void with_scaled_chunks(const matrix_view& user, const Real* f, const operand& X, std::size_t i, side neurons,
                                 F&& call) {
    X.with_stored_type([&]<class T>(T) {
      for_each_scaled_chunk<Real, T>(X, static_cast<index_t>(i), user.rows > user.cols, neurons, f, call);
    });
  }

  // Calls f(i, y) for every matrix y of Y, then rounds y to the type of the iteration; mirrors it first where asked.
  template <bool mirrored, class F>
  void for_each_stored(operand& Y, F&& f) {
    const operand_shape& shape = Y.shape();
    Y.with_stored_type([&]<class T>(T) {
      for (index_t i = 0; i < shape.count; ++i) {
        T* const y = Y.matrix<T>(i);
        f(i, y);
        if (shape.compute == compute_type::bfloat16)
          for (index_t k = 0; k < shape.rows * shape.cols; ++k) y[k] = rounded<T>(y[k], shape.compute);
        if constexpr (mirrored)
          for (index_t c = 0; c < shape.rows; ++c)
            for (index_t r = c + 1; r < shape.rows; ++r) y[r * shape.rows + c] = y[c * shape.rows + r];
      }
    });
  }

  // Y <- x I + alpha A B + beta C for a product known to be symmetric.
  void symmetric_product(operand& Y, double x, double alpha, const operand& A, const operand& B, bool transpose,
                         double beta, const operand& C) {
    const index_t s = Y.shape().rows;
    for_each_stored<true>(Y, [&]<class T>(index_t i, T* y) {
      start_sum(y, T(beta), C.matrix<T>(i), s * s);
      products_.multiply_lower(y, s, A.shape().cols, T(alpha), A.matrix<T>(i), B.matrix<T>(i), transpose);
      if (x != 0) add_to_diagonal(y, s, T(x));
    });
  }

  template <class T>
  static void start_sum(T* y, T beta, const T* c, index_t count) {
    if (beta == T(0)) std::fill_n(y, count, T(0));
    else
      for (index_t k = 0; k < count; ++k) y[k] = beta * c[k];
  }

  template <class T>
  static void add_to_diagonal(T* p, index_t n, T x) {
    for (index_t k = 0; k < n; ++k) p[k * n + k] += x;
  }

  Products products_;
  std::unique_ptr<team> team_;  // none in the backend of a worker
};

}  // namespace normuon

#endif
