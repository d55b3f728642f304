// The quintic Newton-Schulz iteration, once, over any backend: it keeps the singular vectors of U and drives its
// singular values to about one. X is s x l, short side first, so tall matrices cost no transposed copy of the user's
// data.
#ifndef NORMUON_MATH_NEWTON_SCHULZ_HPP
#define NORMUON_MATH_NEWTON_SCHULZ_HPP

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "normuon/backend.hpp"
#include "normuon/math/certificate.hpp"

namespace normuon {

enum class iteration_form { automatic, plain, gram };
enum class norm_guard { exact, as_published };  // no absolute epsilon before the iteration, or that of the public code

// How U is orthogonalized. All of it belongs to a group of parameters.
struct orthogonalizer_options {
  coefficient_table table = jordan;
  iteration_form form = iteration_form::automatic;  // Gram where a matrix is long enough, see gram_aspect
  std::optional<restart_steps> restarts = {};  // Gram: where X X^T is formed anew; no value: as suits table and type
  norm_guard guard = norm_guard::exact;
  compute_type compute = compute_type::automatic;
};

// The same, decided for one shape and backend.
struct iteration {
  coefficient_table table;
  norm_formula norm;
  bool gram = false;
  restart_steps restarts;
  compute_type compute = compute_type::float32;
  bool remainders = false;  // of the Gram form's A are kept
  // The Gram form's, where the rows of X X^T are long (see is_concentrated). Before each step, they make it the plain
  // form.
  restart_steps careful_restarts;
};

// The aspect ratio from which the Gram form is chosen. It does fewer operations above 1 (bench/work.hpp counts them):
// at 1.25, of five steps, 6 % fewer with two restarts and 13 % with none. For less the plain form is worth more, as it
// rounds less.
inline constexpr double gram_aspect = 1.25;

// Whether remainders would not let the Gram form do with few restarts, by the rows of A = X X^T. Rounding takes some
// 2^-10 of every number of A, and directions that are small beside that noise are lost. Where roundings are
// independent, it goes with the longest row: X then has few live rows, or few directions hold nearly all of it. Where
// rows are alike, roundings are too, and it goes with all rows together. Of some 380,000 matrices made to fail,
// singular values of a few left their band; those with the shortest rows had 0.11 and 0.44, and 0.06 and 0.51.
constexpr bool is_concentrated(const row_norms& A) { return A.longest > 0.1 || A.together > 0.4; }

// The same on a backend, where that says otherwise.
template <tensor_backend B>
constexpr double gram_aspect_of() {
  if constexpr (requires { B::gram_aspect; }) return B::gram_aspect;
  else return gram_aspect;
}

// Decides the iteration for rows x cols matrices on backend B.
// Throws where the table is unsafe for the type, the backend can't compute in it, or the restart is no step of the
// table.
template <tensor_backend B>
constexpr iteration decide(const orthogonalizer_options& o, const published_epsilons& published, index_t rows,
                           index_t cols) {
  const compute_type compute = o.compute == compute_type::automatic ? B::default_compute() : o.compute;
  if (!B::computes(compute)) fail(error_code::option, "this backend can't compute in ", name_of(compute));
  const coefficient_table& table = certified(o.table, compute);
  const bool narrow = unit_roundoff(compute) > unit_roundoff(compute_type::float32);
  const bool remainders = has_remainders<B> && compute == compute_type::bfloat16;
  const bool compensated = remainders && !o.restarts && table.gram_restarts_compensated;
  const std::optional<restart_steps> restarts = o.restarts    ? o.restarts
                                                : compensated ? table.gram_restarts_compensated
                                                : narrow      ? table.gram_restarts_bf16
                                                              : table.gram_restarts_fp32;
  if (restarts && restarts->last() >= table.steps)
    fail(error_code::option, "expected restarts before steps below ", table.steps, ", got ", restarts->last());
  const bool possible = restarts.has_value();
  if (o.form == iteration_form::gram && !possible)
    fail(error_code::option, "table '", table.name, "' has no safe Gram form in ", name_of(compute),
         "; expected form plain or auto, or explicit restarts");
  const auto [s, l] = std::minmax(rows, cols);
  const bool wanted =
      o.form == iteration_form::gram ||
      (o.form == iteration_form::automatic && static_cast<double>(l) >= gram_aspect_of<B>() * static_cast<double>(s));
  norm_formula norm{.factor = table.norm_factor};
  if (o.guard == norm_guard::as_published) norm = {table.norm_factor, published.norm_added, published.norm_floor};
  const restart_steps usual = restarts.value_or(restart_steps{});
  const restart_steps careful =
      compensated ? table.gram_restarts_bf16.value_or(restart_steps::of_all(table.steps)) : usual;
  const bool gram = wanted && possible;
  return {table, norm, gram, usual, compute, gram && remainders, careful};
}

// Memory of the iteration for one run. X holds the input, then the result.
template <tensor_backend B>
struct iteration_workspace {
  typename B::operand X, Y;        // s x l
  typename B::operand A, P, Q, Z;  // s x s; Q and Z in the Gram form only
  hook between;                    // called between steps of the iteration

  // Makes room for `count` rows x cols matrices. Allocates only where an earlier call has not made as much room.
  void resize(B& b, const iteration& it, index_t rows, index_t cols, index_t count) {
    const auto [s, l] = std::minmax(rows, cols);
    for (auto* operand : {&X, &Y}) b.resize(*operand, {s, l, count, it.compute});
    for (auto* operand : {&A, &P}) b.resize(*operand, {s, s, count, it.compute});
    if (it.gram)
      for (auto* operand : {&Q, &Z}) b.resize(*operand, {s, s, count, it.compute});
  }

  // What resize makes, in bytes: X and Y;  A and P;  Q and Z.
  static std::array<std::size_t, 3> bytes(const B& b, const iteration& it, index_t rows, index_t cols, index_t count) {
    const auto [s, l] = std::minmax(rows, cols);
    const std::size_t square = 2 * b.operand_bytes({s, s, count, it.compute});
    return {2 * b.operand_bytes({s, l, count, it.compute}), square, it.gram ? square : 0};
  }
};

// X <- a X + (b A + c A^2) X with A = X X^T: three products, two of them symmetric, of which A is there already.
template <tensor_backend B>
void finish_plain_step(B& b, iteration_workspace<B>& w, const quintic& step) {
  polynomial(b, w.P, step.b, step.c, w.A);           // P <- b A + c A^2
  b.multiply(w.Y, 1, w.P, w.X, false, step.a, w.X);  // Y <- a X + P X
  std::swap(w.X, w.Y);
}

// A step for each row of the table. (Jordan, kellerjordan.github.io/posts/muon.)   s x l: 2 s^2 l + s^3 multiply-adds a
// step, 1.5 s^2 l + 0.5 s^3 with symmetric refinements.
template <tensor_backend B>
void iterate_plain(B& b, iteration_workspace<B>& w, const iteration& it) {
  for (const quintic& step : it.table.active()) {
    gram(b, w.A, w.X);
    finish_plain_step(b, w, step);
    w.between();
  }
}

// A <- X X^T, with its remainder where that is asked for.
template <tensor_backend B>
void gram(B& b, iteration_workspace<B>& w, bool with_remainder) {
  if constexpr (has_remainders<B>)
    if (with_remainder) return b.gram_with_remainder(w.A, w.X);
  gram(b, w.A, w.X);
}

// The same map through the Gram matrix: with A = X X^T all factors P = a I + F with F = b A + c A^2 are symmetric and
// commute, so X <- Q X with Q the product of them, and A <- P A P. (Dao-AILab/gram-newton-schulz.)  Only s x s
// products, but for two of s x l between restarts, which keep the rounding noise in A from growing (coefficients.hpp
// says where they are needed).
// Small singular values see the factor a, and F is small there. So products are with F, and a is added in the sum: the
// noise of rounding A is then multiplied by F, and not by a where a sum takes in its remainder.
template <tensor_backend B>
void iterate_gram(B& b, iteration_workspace<B>& w, const iteration& it) {
  restart_steps restarts = it.restarts;
  for (int k = 0; k < it.table.steps; ++k) {
    const quintic& step = it.table.active()[static_cast<std::size_t>(k)];
    const bool first = k == 0 || restarts.contains(k);
    if (first) gram(b, w, it.remainders);
    if constexpr (has_remainders<B>)
      if (k == 0 && it.careful_restarts != it.restarts && is_concentrated(b.measure_rows(w.A)))
        restarts = it.careful_restarts;
    const bool last = k + 1 == it.table.steps || restarts.contains(k + 1);
    if (first && last) {
      finish_plain_step(b, w, step);
    } else {
      auto& F = first ? w.Q : w.P;            // the first factor is where Q begins
      polynomial(b, F, step.b, step.c, w.A);  // F <- b A + c A^2
      if (!last) {
        multiply_symmetric(b, w.Z, w.A, F, step.a);  // A <- P A P
        multiply_symmetric(b, w.A, w.Z, F, step.a);
      }
      if (first) {
        b.add_identity(w.Q, step.a);  // Q <- P
      } else {
        multiply_symmetric(b, w.Z, w.Q, w.P, step.a);  // Q <- Q P
        std::swap(w.Q, w.Z);
      }
      if (last) {
        b.multiply(w.Y, 1, w.Q, w.X, false, 0, w.X);  // X <- Q X
        std::swap(w.X, w.Y);
      }
    }
    w.between();
  }
}

// w.X <- the orthogonalized U, one short-side-first operand per matrix of the run; norms <- ||U||_F, sound <- ok and
// U's entries are finite (see `load`). U is not modified.
template <tensor_backend B>
void newton_schulz(B& b, iteration_workspace<B>& w, const iteration& it, views U, slots norms, flags ok, flags sound) {
  if (U.empty()) return;
  w.resize(b, it, U[0].rows, U[0].cols, static_cast<index_t>(U.size()));
  b.load(w.X, U, it.norm, norms, ok, sound);
  if (it.gram) iterate_gram(b, w, it);
  else iterate_plain(b, w, it);
}

}  // namespace normuon

#endif
