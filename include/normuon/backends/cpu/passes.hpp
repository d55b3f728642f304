// The elementwise operations on one matrix of the host, each in one pass over the formulas: what any CPU backend needs.
// Matrices are read and written in place where they lie as the reals that are computed with, else in chunks. An output
// may be an input, as a number depends on those at its own place alone.
#ifndef NORMUON_BACKENDS_CPU_PASSES_HPP
#define NORMUON_BACKENDS_CPU_PASSES_HPP

#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "normuon/backend.hpp"
#include "normuon/backends/cpu/weights.hpp"

namespace normuon {

// True where scale * g_k is finite for all n numbers. Four parts of them are read in turn, 32 numbers of each, for
// memory brings several streams quicker than one.
template <class Real>
bool all_finite(const Real* g, index_t n, Real scale) {
  constexpr index_t parts = 4, in_turn = 32;
  return vectorized([=, part = n / (parts * in_turn) * in_turn] {
    std::uint32_t found = 0;  // as wide as a number, which lets compilers make vector code
    const auto look = [&](index_t first, index_t count) {
      for (index_t k = first; k < first + count; ++k) found |= is_finite(scale * g[k]) ? 0U : 1U;
    };
    for (index_t k = 0; k < part; k += in_turn)
      for (index_t p = 0; p < parts; ++p) look(p * part + k, in_turn);
    look(parts * part, n - parts * part);
    return found == 0;
  });
}

// True where scale * G holds no NaN and no infinity.
template <class Real>
bool all_finite(const matrix_view& G, Real scale) {
  chunk<Real> g_buffer;
  bool finite = true;
  line_order order = joined<Real>(line_order::as_stored(G), G);
  if (order.are_arrays()) order.at_once = order.length;
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    finite &= all_finite(read<Real>({G, order, line, first, n}, g_buffer), n, scale);
  });
  return finite;
}

// out <- x A + y B
template <class Real>
void blend(const matrix_view& out, Real x, const matrix_view& A, Real y, const matrix_view& B) {
  chunk<Real> result_buffer;
  line_order order = joined<Real>(line_order::as_stored(out), out, A, B);
  lines_across<Real> first_term(A, order), second_term(B, order);
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    const Real* a = x == Real(0) ? nullptr : first_term.read(line, first, n);
    const Real* b = y == Real(0) ? nullptr : second_term.read(line, first, n);
    Real* result = place<Real>({out, order, line, first, n}, result_buffer);
    vectorized([=] {
      if (a && b)
        for (index_t k = 0; k < n; ++k) result[k] = blend(x, a[k], y, b[k]);
      else
        for (index_t k = 0; k < n; ++k) result[k] = blend(x, a ? a[k] : Real(0), y, b ? b[k] : Real(0));
    });
    write<Real>({out, order, line, first, n}, result);
  });
}

// M <- keep M + take G, then U <- keep M + take G
template <class Real>
void momentum(const matrix_view& M, const matrix_view& U, const matrix_view& G, Real keep, Real take) {
  chunk<Real> m_buffer, u_buffer;
  line_order order = joined<Real>(line_order::as_stored(M), M, U, G);
  lines_across<Real> gradient(G, order);
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    Real* m = open<Real>({M, order, line, first, n}, m_buffer);
    Real* u = place<Real>({U, order, line, first, n}, u_buffer);
    const Real* g = gradient.read(line, first, n);
    vectorized([=] {
      for (index_t k = 0; k < n; ++k) m[k] = blend(take, g[k], keep, m[k]);
      for (index_t k = 0; k < n; ++k) u[k] = blend(take, g[k], keep, m[k]);
    });
    write<Real>({M, order, line, first, n}, m);
    write<Real>({U, order, line, first, n}, u);
  });
}

// W <- the step along D from W, or its change, of rows that lie so far apart.
template <class Real>
void step_along(Real* w, index_t w_pitch, const Real* d, index_t d_pitch, index_t rows, index_t cols, Real rate,
                Real decay, const update_formula& formula) {
  vectorized([=] {
    for (index_t i = 0; i < rows; ++i) {
      Real* const row = w + i * w_pitch;
      const Real* const along = d + i * d_pitch;
      for (index_t j = 0; j < cols; ++j) row[j] = updated(row[j], along[j], rate, decay, formula);
    }
  });
}

// out <- the step along D from W, or its change
template <class Real>
void apply(const matrix_view& out, const matrix_view& W, const matrix_view& D, Real rate, Real decay,
           const update_formula& formula, const weight_access<Real>& weights) {
  chunk<Real> w_buffer;
  const line_order lines = line_order::as_stored(W);
  line_order order = weights.in_place(lines, W, out) ? joined<Real>(lines, W, D) : lines;
  lines_across<Real> direction(D, order);
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    Real* w = weights.open({W, order, line, first, n}, {out, order, line, first, n}, w_buffer);
    const Real* d = direction.read(line, first, n);
    step_along(w, n, d, n, 1, n, rate, decay, formula);
    weights.write({out, order, line, first, n}, w);
  });
}

// The same along what leaves an operand: at once where W is changed in place, else row by row.
template <class Real>
void apply(const matrix_view& out, const matrix_view& W, const scaled_block<Real>& D, Real rate, Real decay,
           const update_formula& formula, const weight_access<Real>& weights) {
  const line_order order = line_order::of_rows(W);
  if (weights.in_place(order, W, out)) {
    Real* const w = segment{W, order, D.row, D.col, D.width}.template start<Real>();
    step_along(w, W.row_stride, D.numbers[0], chunk_length, D.height, D.width, rate, decay, formula);
    return;
  }
  chunk<Real> buffer;
  for (index_t k = 0; k < D.height; ++k) {
    const segment from{W, order, D.row + k, D.col, D.width}, to{out, order, D.row + k, D.col, D.width};
    Real* const w = weights.open(from, to, buffer);
    step_along(w, D.width, D.numbers[k], D.width, 1, D.width, rate, decay, formula);
    weights.write(to, w);
  }
}

// Zeros: the change of a weight that is held back.
template <class Real>
void write_zeros(const matrix_view& out) {
  const chunk<Real> zeros = {};
  const line_order order = line_order::as_stored(out);
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    write<Real>({out, order, line, first, n}, zeros);
  });
}

// x_k <- sqrt(x_k) for the first numbers, as many as there are vectors of; returns how many. std::sqrt may have to set
// errno, which keeps compilers from making vector code of it.
#if defined(__x86_64__)
[[gnu::target("avx")]] inline index_t square_roots_in_vectors(float* x, index_t n) {
  index_t k = 0;
  for (; k + 8 <= n; k += 8) _mm256_storeu_ps(x + k, _mm256_sqrt_ps(_mm256_loadu_ps(x + k)));
  return k;
}
[[gnu::target("avx")]] inline index_t square_roots_in_vectors(double* x, index_t n) {
  index_t k = 0;
  for (; k + 4 <= n; k += 4) _mm256_storeu_pd(x + k, _mm256_sqrt_pd(_mm256_loadu_pd(x + k)));
  return k;
}
#endif

// x_k <- sqrt(x_k)
template <class Real>
void square_roots(Real* x, index_t n) {
  index_t k = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx")) k = square_roots_in_vectors(x, n);
#endif
  for (; k < n; ++k) x[k] = std::sqrt(x[k]);
}

// The numbers of one AdamW step, as the formula takes them.
template <class Real>
struct adamw_step {
  double beta1, beta2;
  Real correction1, correction2, gradient_scale, epsilon, rate, decay;
};

// One AdamW step of n numbers; adds the squares of its direction to `squares`. A chunk at a time, for a processor works
// on its three loops at once.
template <class Real>
void adamw(Real* w, Real* m, Real* v, const Real* g, index_t n, const adamw_step<Real>& s,
           const update_formula& formula, ordered_sum& squares) {
  squares = vectorized([=] {
    ordered_sum sum = squares;
    Real d[chunk_length];
    for (index_t first = 0; first < n; first += chunk_length) {
      const index_t last = std::min(n, first + chunk_length);
      for (index_t k = first; k < last; ++k) {
        const auto e = adamw_moments(m[k], v[k], s.gradient_scale * g[k], s.beta1, s.beta2, s.correction2);
        m[k] = e.m, v[k] = e.v, d[k - first] = e.d;
      }
      square_roots(d, last - first);
      for (index_t k = first; k < last; ++k) {
        d[k - first] = adamw_direction(m[k], d[k - first], s.correction1, s.epsilon);
        w[k] = updated(w[k], d[k - first], s.rate, s.decay, formula);
      }
      sum.add_squares(d, last - first);
    }
    return sum;
  });
}

// One AdamW step of a matrix; returns the sum of the squares of its direction.
template <class Real>
double adamw(const matrix_view& out, const matrix_view& W, const matrix_view& M, const matrix_view& V,
             const matrix_view& G, const adamw_step<Real>& s, const update_formula& formula,
             const weight_access<Real>& weights) {
  chunk<Real> w_buffer, m_buffer, v_buffer, g_buffer;
  ordered_sum squares;
  const line_order lines = line_order::as_stored(W);
  line_order order = lines;
  if (weights.in_place(lines, W, out)) {
    const bool same_sum = lines.length % ordered_sum::partial_sums == 0;  // where a line begins is where they begin
    order = same_sum ? joined<Real>(lines, W, M, V, G) : in_stretches<Real>(lines, W, M, V, G);
  }
  for_each_chunk(order, [&](index_t line, index_t first, index_t n) {
    Real* w = weights.open({W, order, line, first, n}, {out, order, line, first, n}, w_buffer);
    Real* m = open<Real>({M, order, line, first, n}, m_buffer);
    Real* v = open<Real>({V, order, line, first, n}, v_buffer);
    const Real* g = read<Real>({G, order, line, first, n}, g_buffer);
    adamw(w, m, v, g, n, s, formula, squares);
    write<Real>({M, order, line, first, n}, m);
    write<Real>({V, order, line, first, n}, v);
    weights.write({out, order, line, first, n}, w);
  });
  return squares.value();
}

// v and f of one matrix's neurons, from their mean squares r (see `factors` of the concept). `v` null: no second
// moment.
template <class Real>
void factors(Real* v, Real* f, const Real* r, index_t neurons, double beta2, const factor_formula& formula) {
  const auto length = static_cast<double>(formula.axis == neuron_axis::columns ? formula.rows : formula.cols);
  double sum_o = 0, sum_n = 0;
  const auto deviation = [&](index_t i) {
    return v ? inverse_deviation(static_cast<double>(v[i]), formula.epsilon, formula.form) : 1.0;
  };
  for (index_t i = 0; i < neurons; ++i) {
    const auto square = static_cast<double>(r[i]);
    if (v) v[i] = static_cast<Real>(second_moment(static_cast<double>(v[i]), square, beta2));
    const double d = deviation(i);
    sum_o += square;
    sum_n = fused_multiply_add(d * square, d, sum_n);  // d * d might overflow
  }
  const double c = scale_of_update(formula, std::sqrt(length * sum_o), std::sqrt(length * sum_n));
  constexpr auto most = static_cast<double>(std::numeric_limits<Real>::max());
  for (index_t i = 0; i < neurons; ++i) f[i] = static_cast<Real>(std::min(c * deviation(i), most));
}

}  // namespace normuon

#endif
