// Every scalar formula of the rules, once. Backends loop over them and CUDA kernels call the same ones. They stand
// below the backend concept: standard library only, constexpr, no memory. T is float or double; letters are the
// papers'.
#ifndef NORMUON_MATH_FORMULAS_HPP
#define NORMUON_MATH_FORMULAS_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "normuon/math/square_root.hpp"

namespace normuon {

enum class momentum_form { ema, heavy_ball };  // g = (1 - b1) G, or g = G;  M <- b1 M + g
enum class neuron_axis {
  rows,
  columns,
  longer,
  none
};                                              // what one entry of v belongs to; none: no second moment (Muon)
enum class epsilon_form { after_root, floor };  // 1 / (sqrt(v) + eps), or 1 / sqrt(max(v, eps))
enum class decay_form { decoupled, cautious };  // cautious: only where D_ij W_ij >= 0
enum class write_form { weight, change };       // what a step writes: the new W, or W_new - W

// How large the update is made. m rows, n columns; O before and N after the neurons are normalised. The last two don't
// look at a norm and are meant for O (Muon): N is about sqrt(max(m, n)) times as large, and so is then the update.
enum class update_scale {
  rms_02,                      // 0.2 sqrt(m n) / ||N||      NorMuon, arXiv 2510.05491, Algorithm 1
  keep_norm,                   // ||O|| / ||N||
  keep_norm_sqrt_max_1_ratio,  // ||O|| / ||N|| sqrt(max(1, m/n))      zichongli5/NorMuon
  keep_norm_sqrt_ratio,        // ||O|| / ||N|| sqrt(m/n)              microsoft/dion
  sqrt_max_1_ratio,            // sqrt(max(1, m/n))                    KellerJordan/Muon
  match_adamw_rms,             // 0.2 sqrt(max(m, n))                  Moonlight, arXiv 2502.16982, section 2.2
};

// a b + c with one rounding. Stated everywhere, so that bits don't depend on what a compiler chooses to contract.
template <class T>
constexpr T fused_multiply_add(T a, T b, T c) {
  if (std::is_constant_evaluated()) return a * b + c;
  return std::fma(a, b, c);
}

// a x + b y. Exact where a coefficient is 0 or 1; a zero coefficient ignores its term, NaN included.
template <class T>
constexpr T blend(T a, T x, T b, T y) {
  if (a == T(0)) return b == T(0) ? T(0) : b * y;
  if (b == T(0)) return a * x;
  return fused_multiply_add(a, x, b * y);
}

// What of the gradient enters the momentum: (1 - b1) s for an exponential moving average, s for a heavy ball;
// s is the gradient scale.
constexpr double gradient_share(momentum_form form, double beta1, double gradient_scale) {
  return form == momentum_form::ema ? (1 - beta1) * gradient_scale : gradient_scale;
}

// What ||U||_F becomes before U is divided by it: max(factor ||U|| + added, floor). Exact: added and floor are 0.
struct norm_formula {
  double factor = 1;
  double added = 0;
  double floor = 0;
};

// The factor by which unit*U is multiplied to enter the iteration, given norm = ||unit U||_F. `unit` is a power of two
// that keeps sums in range. A zero norm without absolute guards gives the factor 0.
constexpr double inverse_norm(double norm, double unit, const norm_formula& formula) {
  const double guarded = formula.factor * norm + formula.added * unit;
  const double least = formula.floor * unit;
  const double divisor = guarded > least ? guarded : least;
  return divisor > 0 ? 1 / divisor : 0;
}

// v <- b2 v + (1 - b2) r, the second moment of a neuron (NorMuon, Algorithm 1, line 7). No bias correction: it cancels.
constexpr double second_moment(double v, double r, double beta2) {
  return fused_multiply_add(beta2, v, (1 - beta2) * r);
}

// d = 1 / (sqrt(v) + eps) or 1 / sqrt(max(v, eps)); 0 where both v and eps are 0.
constexpr double inverse_deviation(double v, double epsilon, epsilon_form form) {
  const double divisor =
      form == epsilon_form::after_root ? square_root(v) + epsilon : square_root(v > epsilon ? v : epsilon);
  return divisor > 0 ? 1 / divisor : 0;
}

// The absolute epsilons of a public code, which norm_guard as_published reproduces: X = U / max(factor ||U|| +
// norm_added, norm_floor), and ||O|| / max(||N|| + ratio_added, ratio_floor). All >= 0.
struct published_epsilons {
  double norm_added = 0;
  double norm_floor = 0;
  double ratio_added = 0;
  double ratio_floor = 0;
};

// What the factors of a matrix's neurons are made by.
struct factor_formula {
  neuron_axis axis = neuron_axis::rows;  // rows, columns or none
  double epsilon = 0;
  epsilon_form form = epsilon_form::after_root;
  update_scale scale = update_scale::rms_02;
  double ratio_added = 0;  // as in published_epsilons
  double ratio_floor = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

// The scale c of the update, from the Frobenius norms of O and of N, which is O with its neurons normalised.
constexpr double scale_of_update(const factor_formula& formula, double norm_o, double norm_n) {
  const auto m = static_cast<double>(formula.rows), n = static_cast<double>(formula.cols);
  const double sum = norm_n + formula.ratio_added;
  const double divisor = sum > formula.ratio_floor ? sum : formula.ratio_floor;
  const double kept = divisor > 0 ? norm_o / divisor : 0;
  switch (formula.scale) {
    case update_scale::rms_02: return norm_n > 0 ? 0.2 * square_root(m * n) / norm_n : 0;
    case update_scale::keep_norm: return kept;
    case update_scale::keep_norm_sqrt_max_1_ratio: return kept * square_root(m > n ? m / n : 1);
    case update_scale::keep_norm_sqrt_ratio: return kept * square_root(m / n);
    case update_scale::sqrt_max_1_ratio: return square_root(m > n ? m / n : 1);
    case update_scale::match_adamw_rms: return 0.2 * square_root(m > n ? m : n);
  }
  return 0;
}

// How a step writes: the kind of decay, and whether the weight or its change is written.
struct update_formula {
  decay_form decay = decay_form::decoupled;
  write_form write = write_form::weight;
};

// W - decay W - rate D, or that less W. `decay` is lr wd; decoupled (Loshchilov and Hutter, arXiv 1711.05101) or
// cautious, where an entry whose D W is 0 is decayed too, as in modded-nanogpt and dion.
template <class T>
constexpr T updated(T w, T d, T rate, T decay, const update_formula& formula) {
  if (formula.decay == decay_form::cautious && !(d * w >= T(0))) decay = T(0);
  const T decayed = formula.write == write_form::weight ? fused_multiply_add(-decay, w, w) : -decay * w;
  return fused_multiply_add(-rate, d, decayed);
}

// beta^t by repeated squaring: the same bits wherever it is computed.
constexpr double power(double beta, std::uint64_t t) {
  double result = 1;
  for (; t != 0; t >>= 1, beta *= beta)
    if ((t & 1u) != 0) result *= beta;
  return result;
}

// 1 / (1 - beta^t), by which a moment is multiplied that began as zero t >= 1 steps ago.
template <class T>
constexpr T bias_correction(double beta, std::uint64_t t) {
  return static_cast<T>(1 / (1 - power(beta, t)));
}

// One element of AdamW (arXiv 1711.05101, Algorithm 2): moments m and v, and the direction d that they give.
template <class T>
struct adamw_element {
  T m, v, d;
};

// x, or the number nearest to it whose square is in range: 2^63, or for double 2^511, in magnitude. At run time there
// is one comparison, as here and below no branch may stand in a branch, for loops of it to become vector code.
template <class T>
constexpr T saturated(T x) {
  constexpr T most = static_cast<T>(std::is_same_v<T, float> ? 0x1p63 : 0x1p511);
  if (std::is_constant_evaluated()) return x > most ? most : x < -most ? -most : x;
  const T magnitude = std::abs(x);
  return std::copysign(magnitude > most ? most : magnitude, x);
}

// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2; d is correction2 v, whose square root adamw_direction takes. The
// betas are doubles, for 1 - b2 of a b2 near 1 in float has a large error.
template <class T>
constexpr adamw_element<T> adamw_moments(T m, T v, T g, double beta1, double beta2, T correction2) {
  g = saturated(g);
  const T new_m = fused_multiply_add(T(beta1), m, T(1 - beta1) * g);
  const T new_v = fused_multiply_add(T(beta2), v, T(1 - beta2) * g * g);
  return {new_m, new_v, new_v * correction2};
}

// d = correction1 m / (root + eps), 0 where its divisor is.
template <class T>
constexpr T adamw_direction(T m, T root, T correction1, T epsilon) {
  const T divisor = root + epsilon;
  if (std::is_constant_evaluated() && divisor == T(0)) return T(0);  // where a division by it is an error
  const T d = saturated((m / divisor) * correction1);
  return divisor == T(0) ? T(0) : d;
}

// Both: d = correction1 m / (sqrt(correction2 v) + eps). Gradients and directions saturate, so the step is finite
// for every finite gradient.
template <class T>
constexpr adamw_element<T> adamw(T m, T v, T g, double beta1, double beta2, T correction1, T correction2, T epsilon) {
  const adamw_element<T> e = adamw_moments(m, v, g, beta1, beta2, correction2);
  const T root = std::is_constant_evaluated() ? static_cast<T>(square_root(static_cast<double>(e.d))) : std::sqrt(e.d);
  return {e.m, e.v, adamw_direction(e.m, root, correction1, epsilon)};
}

}  // namespace normuon

#endif
