// The least model of the tensor backend, written directly against the concept in plain loops: nothing that is not
// required, double only, runs of three matrices. Its operand is opaque: tiles of 4 x 4, padded, in an order of its own,
// so whoever relies on how an operand lies in memory fails here.
#ifndef NORMUON_TESTS_SUPPORT_ARCHETYPE_BACKEND_HPP
#define NORMUON_TESTS_SUPPORT_ARCHETYPE_BACKEND_HPP

#include <cstring>
#include <vector>

#include "normuon/optimizer.hpp"

namespace normuon::test {

class archetype_memory {
 public:
  archetype_memory() = default;
  explicit archetype_memory(std::size_t bytes) : doubles_((bytes + 7) / 8), size_(bytes) {}
  std::byte* data() const { return reinterpret_cast<std::byte*>(const_cast<double*>(doubles_.data())); }
  std::size_t size() const { return size_; }

 private:
  std::vector<double> doubles_;
  std::size_t size_ = 0;
};

class tiled_operand {
 public:
  operand_shape shape;

  void resize(const operand_shape& s) {
    shape = s;
    tiles_.assign(static_cast<std::size_t>(s.count * tile_rows() * tile_cols() * 16), 0);
  }
  double& at(index_t matrix, index_t i, index_t j) {
    const index_t tiles = tile_rows() * tile_cols(), tile = (i / 4) * tile_cols() + j / 4;
    const index_t place = matrix * tiles + (tiles - 1 - tile);  // from the last tile to the first
    return tiles_[static_cast<std::size_t>(place * 16 + (i % 4) * 4 + j % 4)];
  }
  double at(index_t matrix, index_t i, index_t j) const { return const_cast<tiled_operand&>(*this).at(matrix, i, j); }

 private:
  index_t tile_rows() const { return (shape.rows + 3) / 4; }
  index_t tile_cols() const { return (shape.cols + 3) / 4; }
  std::vector<double> tiles_;
};

class archetype_backend {
 public:
  using real = double;
  using memory = archetype_memory;
  using operand = tiled_operand;

  archetype_backend() = default;
  archetype_backend(archetype_backend&&) = default;  // movable, and no more
  archetype_backend& operator=(archetype_backend&&) = default;

  static constexpr bool takes(element_type type) { return type == element_type::float64; }
  static constexpr bool computes(compute_type type) { return type == compute_type::float64; }
  static constexpr compute_type default_compute() { return compute_type::float64; }
  index_t run_length(const operand_shape&) const { return 3; }
  std::size_t operand_bytes(const operand_shape& s) const {
    return static_cast<std::size_t>(s.count * ((s.rows + 3) / 4) * ((s.cols + 3) / 4)) * 16 * sizeof(double);
  }

  memory allocate(std::size_t bytes) { return memory(bytes); }
  void resize(operand& X, const operand_shape& shape) { X.resize(shape); }
  void write(void* to, const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  void read(void* to, const void* from, std::size_t bytes) { write(to, from, bytes); }
  void sync() {}

  void all_finite(flags ok, views G, number scale) {
    each(G, ok, [&](std::size_t k, index_t i, index_t j) {
      if (!is_finite(*scale * at(G[k], i, j))) *ok[k] = 0;
    });
  }
  void count(slots counters, flags ok) {
    for (std::size_t k = 0; k < counters.size(); ++k)
      if (goes(ok, k)) *counters[k] += 1;
  }
  void blend(views out, number x, views A, number y, views B, flags ok) {
    each(out, ok, [&](std::size_t k, index_t i, index_t j) {
      const double a = *x == 0 ? 0 : at(A[k], i, j), b = *y == 0 ? 0 : at(B[k], i, j);
      at(out[k], i, j) = normuon::blend(*x, a, *y, b);
    });
  }
  void load(operand& X, views U, const norm_formula& formula, slots norms, flags ok, flags sound) {
    for (std::size_t k = 0; k < U.size(); ++k) {
      const bool go = goes(ok, k), tall = U[k].rows > U[k].cols;
      double most = 0, squares = 0;
      const views one = U.subspan(k, 1);
      if (go)
        each(one, {}, [&](std::size_t, index_t i, index_t j) { most = std::max(most, std::abs(at(U[k], i, j))); });
      const double unit = most > 0 && is_finite(most) ? std::ldexp(1.0, -std::clamp(std::ilogb(most), -1000, 1000)) : 1;
      if (go) each(one, {}, [&](std::size_t, index_t i, index_t j) { squares += std::pow(unit * at(U[k], i, j), 2); });
      const bool enters = go && (sound.empty() || is_finite(squares));
      if (go) *norms[k] = std::sqrt(squares) / unit;
      if (!sound.empty()) *sound[k] = enters;
      const double factor = inverse_norm(std::sqrt(squares), unit, formula);
      each(one, {}, [&](std::size_t, index_t i, index_t j) {
        X.at(static_cast<index_t>(k), tall ? j : i, tall ? i : j) = enters ? at(U[k], i, j) * unit * factor : 0;
      });
    }
  }
  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    for (index_t k = 0; k < Y.shape.count; ++k)
      for (index_t i = 0; i < Y.shape.rows; ++i)
        for (index_t j = 0; j < Y.shape.cols; ++j) {
          double sum = 0;
          for (index_t p = 0; p < A.shape.cols; ++p) sum += A.at(k, i, p) * (transpose ? B.at(k, j, p) : B.at(k, p, j));
          Y.at(k, i, j) = alpha * sum + (beta == 0 ? 0 : beta * C.at(k, i, j));
        }
  }
  void add_identity(operand& P, double x) {
    for (index_t k = 0; k < P.shape.count; ++k)
      for (index_t i = 0; i < P.shape.rows; ++i) P.at(k, i, i) += x;
  }
  void mean_squares(vectors<double> r, const operand& X, side s) {
    const index_t across = s == side::rows ? X.shape.cols : X.shape.rows;
    for (std::size_t k = 0; k < r.data.size(); ++k)
      for (index_t i = 0; i < r.length; ++i) {
        double squares = 0;
        for (index_t j = 0; j < across; ++j)
          squares +=
              std::pow(s == side::rows ? X.at(static_cast<index_t>(k), i, j) : X.at(static_cast<index_t>(k), j, i), 2);
        r.data[k][i] = squares / static_cast<double>(across);
      }
  }
  void factors(vectors<double> v, vectors<double> f, vectors<double> r, number beta2, const factor_formula& formula,
               flags ok) {
    const auto length = static_cast<double>(formula.axis == neuron_axis::columns ? formula.rows : formula.cols);
    for (std::size_t k = 0; k < f.data.size(); ++k) {
      if (!goes(ok, k)) continue;
      double sum_o = 0, sum_n = 0;
      for (index_t i = 0; i < f.length; ++i) {
        if (!v.data.empty()) v.data[k][i] = second_moment(v.data[k][i], r.data[k][i], *beta2);
        f.data[k][i] = v.data.empty() ? 1 : inverse_deviation(v.data[k][i], formula.epsilon, formula.form);
        sum_o += r.data[k][i];
        sum_n += f.data[k][i] * r.data[k][i] * f.data[k][i];
      }
      const double c = scale_of_update(formula, std::sqrt(length * sum_o), std::sqrt(length * sum_n));
      for (index_t i = 0; i < f.length; ++i)
        f.data[k][i] = std::min(c * f.data[k][i], std::numeric_limits<double>::max());
    }
  }
  void store_scaled(views D, vectors<double> f, const operand& X, side s, flags ok) {
    each(D, ok, [&](std::size_t k, index_t i, index_t j) {
      const bool tall = D[k].rows > D[k].cols;
      const index_t row = tall ? j : i, col = tall ? i : j;
      at(D[k], i, j) = f.data[k][s == side::rows ? row : col] * X.at(static_cast<index_t>(k), row, col);
    });
  }
  void apply(views out, views W, views D, number rate, number decay, const update_formula& u, flags ok,
             const low_bits& low = {}) {
    each(out, {}, [&](std::size_t k, index_t i, index_t j) {
      if (goes(ok, k)) put(out, low, k, i, j, updated(begin(W, low, k, i, j), at(D[k], i, j), *rate, *decay, u));
      else if (u.write == write_form::change) at(out[k], i, j) = 0;
    });
  }
  void adamw(views out, views W, views M, views V, views G, slots counters, const adamw_numbers& a, double epsilon,
             const update_formula& u, slots norms, flags ok, const low_bits& low = {}) {
    for (std::size_t k = 0; k < out.size(); ++k)
      if (goes(ok, k)) *norms[k] = 0;
    each(out, {}, [&](std::size_t k, index_t i, index_t j) {
      if (!goes(ok, k)) {
        if (u.write == write_form::change) at(out[k], i, j) = 0;
        return;
      }
      const auto steps = static_cast<std::uint64_t>(*counters[k]);
      const adamw_element<double> e =
          normuon::adamw(at(M[k], i, j), at(V[k], i, j), *a.gradient_scale * at(G[k], i, j), *a.beta1, *a.beta2,
                         bias_correction<double>(*a.beta1, steps), bias_correction<double>(*a.beta2, steps), epsilon);
      at(M[k], i, j) = e.m, at(V[k], i, j) = e.v;
      put(out, low, k, i, j, updated(begin(W, low, k, i, j), e.d, *a.rate, *a.decay, u));
      *norms[k] = std::hypot(*norms[k], e.d);
    });
  }

 private:
  static bool goes(flags ok, std::size_t k) { return ok.empty() || *ok[k] != 0; }
  static double& at(const matrix_view& v, index_t i, index_t j) { return v.as<double>()(i, j); }

  // Weights and masters, which are both double here, so that nothing is rounded.
  static bool has_master(const low_bits& low, std::size_t k) { return !low.masters.empty() && low.masters[k].data; }
  static double begin(views W, const low_bits& low, std::size_t k, index_t i, index_t j) {
    const double w = at(W[k], i, j);
    return has_master(low, k) ? where_step_begins(at(low.masters[k], i, j), w) : w;
  }
  static void put(views out, const low_bits& low, std::size_t k, index_t i, index_t j, double x) {
    at(out[k], i, j) = x;
    if (has_master(low, k)) at(low.masters[k], i, j) = x;
  }

  template <class F>
  static void each(views v, flags ok, F&& f) {
    for (std::size_t k = 0; k < v.size(); ++k)
      if (goes(ok, k))
        for (index_t i = 0; i < v[k].rows; ++i)
          for (index_t j = 0; j < v[k].cols; ++j) f(k, i, j);
  }
};

static_assert(tensor_backend<archetype_backend>);
static_assert(!has_gram<archetype_backend> && !has_symmetric_polynomial<archetype_backend> &&
              !has_symmetric_multiply<archetype_backend> && !has_fused_momentum<archetype_backend> &&
              !has_fused_neuron_step<archetype_backend> && !has_workers<archetype_backend> &&
              !has_capture<archetype_backend> && !std::copyable<archetype_backend>);

}  // namespace normuon::test

#endif
