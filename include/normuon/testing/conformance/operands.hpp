// Operands of a known content, which is written and looked at through the doors of the backend, and how exact they are.
#ifndef NORMUON_TESTING_CONFORMANCE_OPERANDS_HPP
#define NORMUON_TESTING_CONFORMANCE_OPERANDS_HPP

#include "normuon/testing/conformance/device_memory.hpp"

namespace normuon::testing {

// The relative errors that one operation of an iteration may make.
struct precision {
  double stored;  // of a number that is rounded to the type, or to that of state when it is looked at
  double sum;     // of one addition or multiplication in a product: fp32 or wider, by the law of `multiply`
  double entry;   // of a number that enters a product
  double least;   // and the absolute error of one rounding among subnormal numbers, where the type soon comes to them
};

template <tensor_backend B>
precision precision_of(compute_type compute) {
  const bool rounds_entries = compute == compute_type::tensor_float32;
  const double stored = unit_roundoff(rounds_entries ? compute_type::float32 : compute);
  return {std::max(stored, state_roundoff<B>), std::min(unit_roundoff(compute), unit_roundoff(compute_type::float32)),
          rounds_entries ? unit_roundoff(compute) : 0, compute == compute_type::float16 ? 0x1p-25 : 0};
}

// x as an iteration in `compute` stores it.
inline double stored_in(compute_type compute, double x) {
  switch (compute) {
    case compute_type::float32:
    case compute_type::tensor_float32: return rounded_to(element_type::float32, x);
    case compute_type::bfloat16: return rounded_to(element_type::bfloat16, x);
    case compute_type::float16: return rounded_to(element_type::float16, x);
    default: return x;
  }
}

// The largest error of alpha A B + beta C, entry by entry: each of its sums makes (depth + 4) rounding errors of at
// most `sum` in what is added (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.5), two of `entry`
// where bits of them are dropped before they are multiplied, and what is stored is rounded once.
inline matrix product_bound(const precision& p, double alpha, const matrix& a, const matrix& b, double beta,
                            const matrix& c) {
  const matrix added = combined(std::abs(alpha), product(magnitude(a), magnitude(b)), std::abs(beta), magnitude(c));
  const matrix stored = mapped(combined(alpha, product(a, b), beta, c), [](double y) { return std::abs(y); });
  const matrix bound = combined((static_cast<double>(a.cols) + 4) * p.sum + 2.01 * p.entry, added, p.stored, stored);
  return mapped(bound, [&](double y) { return y + 2 * p.least; });
}

// By this formula the inverse norm is 1: numbers enter as they are, but for the rounding to the iteration's type.
inline constexpr norm_formula as_it_is{.factor = 0, .added = 1};

// An operand that holds the matrices x, short side first.
template <tensor_backend B>
typename B::operand operand_of(B& b, const std::vector<matrix>& x, compute_type compute) {
  typename B::operand X;
  b.resize(X, {x[0].rows, x[0].cols, static_cast<index_t>(x.size()), compute});
  const device_matrices<B> U(b, {state_type<B>}, x);
  device_slots<B> norms(b, matrix(static_cast<index_t>(x.size()), 1));
  b.load(X, U, as_it_is, norms, {}, {});
  return X;
}

// The rows x cols matrices that X holds.
template <tensor_backend B>
std::vector<matrix> contents(B& b, const typename B::operand& X, extent e, index_t count) {
  device_matrices<B> D(b, {state_type<B>},
                       std::vector<matrix>(static_cast<std::size_t>(count), matrix(e.rows, e.cols)));
  const device_vectors<B, typename B::real> ones(b, matrix(count, e.rows, 1));
  b.store_scaled(D, ones, X, side::rows, {});
  std::vector<matrix> x;
  for (std::size_t i = 0; i < D.count(); ++i) x.push_back(D.get(i));
  return x;
}

inline constexpr side sides[] = {side::rows, side::cols};

// Turned so that it lies short side first.
inline matrix short_side_first(const matrix& u) { return u.rows > u.cols ? transposed(u) : u; }

// Calls f(compute, extent, count, variant) for every type of the iteration and awkward run.
template <tensor_backend B, class F>
void for_each_iteration_run(F&& f) {
  for (const compute_type compute : types_computed<B>()) {
    CAPTURE(name_of(compute));
    for_each_awkward_run<B>([&](extent e, index_t count, int variant) { f(compute, e, count, variant); });
  }
}

}  // namespace normuon::testing

#endif
