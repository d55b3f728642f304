// The quintics of the Newton-Schulz iteration: one step, tables of steps, and the published tables under their public
// names. A table is plain data; what makes one safe for a number type is in certificate.hpp. Standard library only.
#ifndef NORMUON_MATH_COEFFICIENTS_HPP
#define NORMUON_MATH_COEFFICIENTS_HPP

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "normuon/errors.hpp"
#include "normuon/math/square_root.hpp"

namespace normuon {

// One step: X <- a X + (b A + c A^2) X with A = X X^T, which maps every singular value x of X to a x + b x^3 + c x^5.
struct quintic {
  double a = 0, b = 0, c = 0;

  constexpr double operator()(double x) const {
    const double y = x * x;
    return x * (a + y * (b + y * c));
  }
  friend constexpr bool operator==(const quintic&, const quintic&) = default;
};

// Beyond it nothing is looked at: safe tables stay below 2. It also stands for a critical point that doesn't exist.
inline constexpr double farthest = 16;

// The positive x, ascending, where the slope a + 3 b x^2 + 5 c x^4 of p is zero; `farthest` where there is none.
constexpr std::array<double, 2> critical_points(const quintic& p) {
  const double discriminant = 9 * p.b * p.b - 20 * p.a * p.c;
  if (!(discriminant >= 0)) return {farthest, farthest};
  // Of the two forms of a quadratic's roots, each is taken where nothing cancels; they hold for c = 0 too.
  const double w = (p.b < 0 ? square_root(discriminant) - 3 * p.b : -square_root(discriminant) - 3 * p.b) / 2;
  const auto root = [](double numerator, double denominator) {
    if (denominator == 0) return farthest;
    const double y = numerator / denominator;
    return y > 0 && y < farthest * farthest ? square_root(y) : farthest;
  };
  const double one = root(w, 5 * p.c), other = root(p.a, w);
  return {std::min(one, other), std::max(one, other)};
}

// 0-based steps before which the Gram form makes X X^T anew. Not 0: there it is made in any case.
class restart_steps {
 public:
  static constexpr int most = 15;

  constexpr restart_steps() = default;  // none
  // Throws where a step is not from 1 to `most`.
  constexpr restart_steps(std::initializer_list<int> steps) {
    for (const int step : steps) add(step);
  }
  constexpr void add(int step) {
    if (step < 1 || step > most) fail(error_code::option, "expected restarts from 1 to ", most, ", got ", step);
    bits_ |= 1u << step;
  }

  // Before each of so many steps.
  static constexpr restart_steps of_all(int count) {
    restart_steps steps;
    for (int step = 1; step < count; ++step) steps.add(step);
    return steps;
  }

  constexpr bool contains(int step) const { return step > 0 && step <= most && (bits_ >> step & 1u) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr int last() const { return empty() ? 0 : static_cast<int>(std::bit_width(bits_)) - 1; }
  friend constexpr bool operator==(const restart_steps&, const restart_steps&) = default;

 private:
  std::uint32_t bits_ = 0;
};

// The steps of an iteration, in order. Never cycled: what is not in the table is not done.
struct coefficient_table {
  static constexpr int max_steps = 16;

  std::string_view name;
  std::array<quintic, max_steps> rows{};
  int steps = 0;
  double norm_factor = 1;  // ||U||_F is multiplied by it before U is divided, so that step 0 begins below 1; >= 1

  // The Gram form multiplies the steps' symmetric factors, and rounding noise grows with each until X X^T is made anew.
  // These are the restarts that keep it small; float64 goes by the first, float16 by the second, and bfloat16 by the
  // third where a backend has remainders (backend.hpp). Without a value the form isn't known to be accurate enough, and
  // the iteration is plain.
  // Measured on spectra at short sides from 4 to 384, every stored matrix rounded: one or many large values over a flat
  // or falling rest, three levels, powers of 1/i, exponentials to 1e-10, deficient ranks, few live rows, like rows.
  // - float32: the error against the plain form in float64 stays below 2e-3 where the plain form's own does. Without a
  //   restart `jordan` still keeps that, the other tables have 4e-3 to 8e-2, and `deepseek_v4` diverges.
  // - bfloat16: singular values stay below 1.25, as in the plain form. One restart isn't enough for any table: a large
  //   value over a flat rest of 1/20 of it makes even `jordan`, restarted before step 3, diverge at 128 rows; and a
  //   matrix of many rows, few of which live, is like a small one. Two are enough for `jordan` on 20,000 spectra; of
  //   the other tables each diverges on some.
  // - bfloat16 with remainders: the same where X isn't concentrated (newton_schulz.hpp). Where it is, the iteration is
  //   as without, or plain.
  std::optional<restart_steps> gram_restarts_fp32 = {};
  std::optional<restart_steps> gram_restarts_bf16 = {};
  std::optional<restart_steps> gram_restarts_compensated = {};

  constexpr std::span<const quintic> active() const { return {rows.data(), static_cast<std::size_t>(steps)}; }
  friend constexpr bool operator==(const coefficient_table&, const coefficient_table&) = default;
};

// `count` times one step, then `more` times the next.
constexpr std::array<quintic, coefficient_table::max_steps> repeated(int count, quintic first, int more = 0,
                                                                     quintic next = {}) {
  std::array<quintic, coefficient_table::max_steps> rows{};
  std::fill_n(rows.begin(), count, first);
  std::fill_n(rows.begin() + count, more, next);
  return rows;
}

// Steep at zero, and never settling: singular values end anywhere in a band around 1 (KellerJordan/Muon, muon.py).
inline constexpr coefficient_table jordan{.name = "jordan",
                                          .rows = repeated(5, {3.4445, -4.7750, 2.0315}),
                                          .steps = 5,
                                          .gram_restarts_fp32 = restart_steps{},
                                          .gram_restarts_bf16 = restart_steps{2, 4},
                                          .gram_restarts_compensated = restart_steps{3}};

// Searched by YouJiacheng (in Dao-AILab/gram-newton-schulz, coefficients.py, and dion, newton_schulz_triton.py).
inline constexpr coefficient_table you{.name = "you",
                                       .rows = {{{4.0848, -6.8946, 2.9270},
                                                 {3.9505, -6.3029, 2.6377},
                                                 {3.7418, -5.5913, 2.3037},
                                                 {2.8769, -3.1427, 1.2046},
                                                 {2.8366, -3.0525, 1.2012}}},
                                       .steps = 5,
                                       .gram_restarts_fp32 = restart_steps{2},
                                       .gram_restarts_compensated = restart_steps{2, 4}};

// Polar Express (arXiv 2505.16932) with a safety factor of 1.01, the first five of the eight rows of
// NVIDIA-NeMo/Emerging-Optimizers, muon_utils.py.
inline constexpr coefficient_table polar_express_101{.name = "polar_express_1.01",
                                                     .rows = {{{8.2051, -22.9019, 16.4607},
                                                               {4.0664, -2.8612, 0.5184},
                                                               {3.9096, -2.8234, 0.5250},
                                                               {3.2856, -2.4153, 0.4853},
                                                               {2.2779, -1.6198, 0.3985}}},
                                                     .steps = 5,
                                                     .gram_restarts_fp32 = restart_steps{2}};

// Polar Express with a safety factor of 1.02 in every row but the last, and in the norm as well
// (KellerJordan/modded-nanogpt, train_gpt.py; dion, polar_express.py). `polar_express<5>(1e-3, 0.02, 0.02)`.
inline constexpr coefficient_table polar_express_102{
    .name = "polar_express_1.02",
    .rows = {{{8.156554524902461, -22.48329292557795, 15.878769915207462},
              {4.042929935166739, -2.808917465908714, 0.5000178451051316},
              {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
              {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
              {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}}},
    .steps = 5,
    .norm_factor = 1.02,
    .gram_restarts_fp32 = restart_steps{2}};

// Polar Express with a safety factor of 1.05 in every row (Dao-AILab/gram-newton-schulz, coefficients.py).
inline constexpr coefficient_table polar_express_dao{
    .name = "polar_express_dao",
    .rows = {{{7.892582874424408, -20.38301394587957, 13.555306149406924},
              {3.911484868135431, -2.5464635929060884, 0.4268988319673074},
              {3.760657955697423, -2.512819018216563, 0.4323647349070073},
              {3.160399673686287, -2.149649518898498, 0.3996366907664389},
              {2.1910971618617303, -1.441662010214663, 0.328146487623155}}},
    .steps = 5,
    .gram_restarts_fp32 = restart_steps{2},
    .gram_restarts_compensated = restart_steps{2, 3}};

// Eight steps to the band of `jordan`, two that settle at 1 (arXiv 2606.19348; Emerging-Optimizers, muon_utils.py).
inline constexpr coefficient_table deepseek_v4{.name = "deepseek_v4",
                                               .rows = repeated(8, {3.4445, -4.7750, 2.0315}, 2, {2, -1.5, 0.5}),
                                               .steps = 10,
                                               .gram_restarts_fp32 = restart_steps{5}};

// Twelve steps with p(1) = 1 and p'(1) = 0: slow and accurate (tilde-research/aurora-release).
inline constexpr coefficient_table simple_12{
    .name = "simple_12", .rows = repeated(12, {2, -1.5, 0.5}), .steps = 12, .gram_restarts_fp32 = restart_steps{6}};

}  // namespace normuon

#endif
