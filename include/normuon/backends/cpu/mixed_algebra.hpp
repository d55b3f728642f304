// Operands of an iteration in float64 as plain matrices, all others packed: what a full backend on the CPU is made of.
#ifndef NORMUON_BACKENDS_CPU_MIXED_ALGEBRA_HPP
#define NORMUON_BACKENDS_CPU_MIXED_ALGEBRA_HPP

#include "normuon/backends/cpu/dense_algebra.hpp"
#include "normuon/backends/cpu/packed_algebra.hpp"

namespace normuon {

struct mixed_operand {
  dense_operand dense;
  packed_operand packed;
  bool is_packed = false;

  const operand_shape& shape() const { return is_packed ? packed.shape() : dense.shape(); }
};

template <host_products Products>
  requires has_lower_products<Products>
class mixed_algebra {
 public:
  using operand = mixed_operand;

  explicit mixed_algebra(const cpu_options& options = {}) : dense_(options), packed_(options) {}

  std::size_t bytes(const operand_shape& shape) const {
    return packs(shape) ? packed_.bytes(shape) : dense_.bytes(shape);
  }
  std::string_view kernel_path(compute_type compute) const {
    return packs({.compute = compute}) ? packed_.kernel_path(compute) : dense_.kernel_path(compute);
  }
  bool shares(const operand_shape& shape) const { return packs(shape); }
  void resize(operand& X, const operand_shape& shape) {
    X.is_packed = packs(shape);
    if (X.is_packed) packed_.resize(X.packed, shape);
    else dense_.resize(X.dense, shape);
  }
  void reserve(const operand_shape& shape) {
    if (!packs(shape)) dense_.reserve(shape);
  }

  void begin_load(operand& X) {
    if (X.is_packed) packed_.begin_load(X.packed);
    else dense_.begin_load(X.dense);
  }

  template <class Real>
  void load(operand& X, index_t i, const matrix_view& U, const band& rows, double unit, double factor) {
    if (X.is_packed) packed_.template load<Real>(X.packed, i, U, rows, unit, factor);
    else dense_.template load<Real>(X.dense, i, U, rows, unit, factor);
  }

  void clear(operand& X, index_t i) {
    if (X.is_packed) packed_.clear(X.packed, i);
    else dense_.clear(X.dense, i);
  }

  template <class Lanes>
  void multiply(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    if (Y.is_packed) packed_.multiply(lanes, Y.packed, alpha, A.packed, B.packed, transpose, beta, C.packed);
    else dense_.multiply(lanes, Y.dense, alpha, A.dense, B.dense, transpose, beta, C.dense);
  }

  template <class Lanes>
  void multiply_symmetric(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B, bool transpose,
                          double beta, const operand& C) {
    if (Y.is_packed) packed_.multiply_symmetric(lanes, Y.packed, alpha, A.packed, B.packed, transpose, beta, C.packed);
    else dense_.multiply_symmetric(lanes, Y.dense, alpha, A.dense, B.dense, transpose, beta, C.dense);
  }

  void add_identity(operand& P, double x) {
    if (P.is_packed) packed_.add_identity(P.packed, x);
    else dense_.add_identity(P.dense, x);
  }

  // Remainders are those of packed operands.
  bool has_remainder(const operand& A) const { return A.is_packed && packed_.has_remainder(A.packed); }
  template <class Lanes>
  void multiply_symmetric_with_remainder(Lanes& lanes, operand& Y, double alpha, const operand& A, const operand& B,
                                         bool transpose, double beta, const operand& C) {
    packed_.multiply_symmetric_with_remainder(lanes, Y.packed, alpha, A.packed, B.packed, transpose, beta, C.packed);
  }
  row_squares squares_of_rows(const operand& A, index_t i, const band& rows) const {
    return packed_.squares_of_rows(A.packed, i, rows);
  }
  double trace(const operand& A, index_t i) const { return packed_.trace(A.packed, i); }

  template <class Real>
  void mean_squares(Real* r, const operand& X, index_t i, side neurons, const band& lines) const {
    if (X.is_packed) packed_.template mean_squares<Real>(r, X.packed, i, neurons, lines);
    else dense_.template mean_squares<Real>(r, X.dense, i, neurons, lines);
  }

  template <class Real, class F>
  void for_each_scaled_block(const operand& X, index_t i, bool transposed, side neurons, const Real* factor,
                             const band& rows, F&& f) const {
    if (X.is_packed) packed_.template for_each_scaled_block<Real>(X.packed, i, transposed, neurons, factor, rows, f);
    else dense_.template for_each_scaled_block<Real>(X.dense, i, transposed, neurons, factor, rows, f);
  }

 private:
  static bool packs(const operand_shape& shape) { return shape.compute != compute_type::float64; }

  dense_algebra<Products, dense_types::float64> dense_;
  packed_algebra packed_;
};

}  // namespace normuon

#endif
