// How far results may lie from what exact arithmetic gives: one trait per type, with its reason. u is the unit
// roundoff.
#ifndef NORMUON_TESTS_SUPPORT_TOLERANCE_HPP
#define NORMUON_TESTS_SUPPORT_TOLERANCE_HPP

#include "support/reference.hpp"

namespace normuon::test {

// Elementwise results stored in T, relative to the largest one.
template <element T>
struct tolerance;

// Momentum, decay and AdamW take at most eight roundings an element and step: coefficients, products, sums, a root.
template <>
struct tolerance<double> {
  static constexpr double u = 0x1p-53;
  static constexpr double elementwise = 8 * u;
};
template <>
struct tolerance<float> {
  static constexpr double u = 0x1p-24;
  static constexpr double elementwise = 8 * u;
};
// Arithmetic is float's, so a step adds one rounding: that of the stored weight.
template <>
struct tolerance<bfloat16> {
  static constexpr double u = 0x1p-8;
  static constexpr double elementwise = u + tolerance<float>::elementwise;
};
template <>
struct tolerance<float16> {
  static constexpr double u = 0x1p-11;
  static constexpr double elementwise = u + tolerance<float>::elementwise;
};

// ||O - exact O||_F of an iteration of a matrix with a short side of s.
inline double iteration_tolerance(compute_type compute, const coefficient_table& table, iteration_form form,
                                  index_t s) {
  // A rounding of size u in X, whose norm is 1, becomes at most u times the slope in O, for an odd function of matrices
  // is no steeper than its scalar map. Five to ten steps of three products add to 0.6 - 3 such errors, to 10 where most
  // singular values are noise; 20 leaves room for other compilers and orders of sums. A Gram form that never forms A
  // anew lets noise grow with every factor: to 76 for singular values of 1/i^2, i up to 32, in either type.
  const bool grows = form != iteration_form::plain && table.gram_restarts_fp32 == restart_steps{};
  const double errors = grows ? 150 : 20;
  switch (compute) {
    case compute_type::float64: return errors * tolerance<double>::u * slope_of(table);
    case compute_type::float32: return errors * tolerance<float>::u * slope_of(table);
    // Here that bound says nothing, for the slope times 2^-8 is above 1, and errors saturate: a singular value lands
    // somewhere in the table's band. Public bf16 iterations are 0.024 - 0.048 of ||O||_F away for ordinary gradients
    // (tests/golden/README.md); 0.08 leaves room for other orders of sums.
    default: return 0.08 * std::sqrt(static_cast<double>(s));
  }
}

}  // namespace normuon::test

#endif
