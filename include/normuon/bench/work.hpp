// What benchmarks count: the floating-point operations that an iteration executes, and the bytes that a pass moves.
// Of a formula the unavoidable part is counted: what padding, packing or a second look at memory add is the backend's
// loss.
#ifndef NORMUON_BENCH_WORK_HPP
#define NORMUON_BENCH_WORK_HPP

#include <string_view>

#include "normuon/math/newton_schulz.hpp"

namespace normuon::bench {

// FLOP of orthogonalizing one rows x cols matrix; a multiply-add is two. With short side s and long side l:
//   gram X X^T: s^2 l    polynomial, symmetric product: s^3    general product, by an s x s matrix: 2 s^2 l
// where the backend has the refinement that computes half of a symmetric result, and twice that where it has not.
//   plain, a step: gram, polynomial and general product        s^2 (3 l + s) with the refinements
//   Gram, a section from one restart to the next: gram and general product once, and for k steps k polynomials and
//   3 (k - 1) symmetric products                               s^2 (3 l + (4 k - 3) s)
// The restarts are those of a matrix that isn't concentrated.
template <tensor_backend B>
constexpr double flops(const iteration& it, index_t rows, index_t cols) {
  const auto [least, most] = std::minmax({static_cast<double>(rows), static_cast<double>(cols)});  // by value
  const double s2 = least * least;
  const double gram = s2 * most * (has_gram<B> ? 1 : 2), general = 2 * s2 * most;
  const double polynomial = s2 * least * (has_symmetric_polynomial<B> ? 1 : 2);
  const double symmetric = s2 * least * (has_symmetric_multiply<B> ? 1 : 2);
  const int steps = it.table.steps;
  if (!it.gram) return steps * (gram + polynomial + general);
  int sections = 1;
  for (int step = 1; step < steps; ++step) sections += it.restarts.contains(step);
  return sections * (gram + general) + steps * polynomial + 3 * (steps - sections) * symmetric;
}

// Bytes of one number of an operand, as its type says: a backend may keep it wider.
constexpr double bytes_of(compute_type type) {
  if (type == compute_type::float64) return 8;
  return type == compute_type::float32 || type == compute_type::tensor_float32 ? 4 : 2;
}

// Bytes per element that an operation reads and writes, each array once, and those of the arrays that they lie in.
struct traffic {
  double moved, footprint;
};

// An operation on elements: reals and numbers of an operand that it reads and writes, per element, its arrays of reals,
// and how many of those, the first ones, lie as a trainer's weights and gradients do, which may be by columns. AdamW's
// moments lie so too; the others are by rows.
struct element_pass {
  std::string_view name;
  int reals, stored, arrays, as_weights;

  // `real`, `stored_size`: bytes of a number of each kind. Weights and gradients are reals too.
  constexpr traffic bytes(double real, double stored_size) const {
    return {reals * real + stored * stored_size, arrays * real + (stored > 0 ? stored_size : 0)};
  }
};

enum class pass { check, blend, momentum, load, mean_squares, store_scaled, neuron_step, apply, adamw };

inline constexpr std::array<element_pass, 9> element_passes{{{"check", 1, 0, 1, 1},         // reads G
                                                             {"blend", 3, 0, 2, 1},         // G, M -> M
                                                             {"momentum", 4, 0, 3, 1},      // G, M -> M, U
                                                             {"load", 1, 1, 1, 0},          // U -> X
                                                             {"mean_squares", 0, 1, 0, 0},  // X
                                                             {"store_scaled", 1, 1, 1, 0},  // X -> D
                                                             {"neuron_step", 2, 1, 1, 1},   // W, X -> W
                                                             {"apply", 3, 0, 2, 1},         // W, D -> W
                                                             {"adamw", 7, 0, 4, 4}}};       // W, M, V, G -> W, M, V
constexpr const element_pass& facts_of(pass p) { return element_passes[static_cast<std::size_t>(p)]; }

}  // namespace normuon::bench

#endif
