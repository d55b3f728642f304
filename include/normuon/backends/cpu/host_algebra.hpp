// What host_backend lifts to a backend: something that computes products on memory of the host.
#ifndef NORMUON_BACKENDS_CPU_HOST_ALGEBRA_HPP
#define NORMUON_BACKENDS_CPU_HOST_ALGEBRA_HPP

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string_view>

#include "normuon/backend.hpp"
#include "normuon/backends/cpu/bands.hpp"
#include "normuon/backends/cpu/options.hpp"
#include "normuon/operation_types.hpp"

namespace normuon {

// What computes the products, and keeps the operands: dense_algebra.hpp, or packed_algebra.hpp, which is faster.
// bytes(shape): of an operand. shares(shape): products are given to all lanes. resize(X, shape): see the concept.
// reserve(shape): memory for products with such operands. begin_load(X): all matrices of X are loaded or cleared next.
// load, clear, multiply, add_identity, mean_squares, for_each_scaled_block: as in dense_algebra.hpp; those that take a
// band are called for several bands at once. `lanes` may share out the work of one product: lanes.for_each(count,
// task).
template <class A>
concept host_algebra =
    std::copyable<A> && std::constructible_from<A, const cpu_options&> &&
    requires(A& a, typename A::operand& X, const operand_shape& shape, const matrix_view& U, float* r) {
      { a.bytes(shape) } -> std::same_as<std::size_t>;
      { a.shares(shape) } -> std::same_as<bool>;
      { a.kernel_path(compute_type{}) } -> std::same_as<std::string_view>;
      a.resize(X, shape);
      a.reserve(shape);
      a.begin_load(X);
      a.template load<float>(X, index_t{}, U, band{}, double{}, double{});
      a.clear(X, index_t{});
      a.add_identity(X, double{});
      a.template mean_squares<float>(r, X, index_t{}, side{}, band{});
    };

// An algebra that computes half of a product known to be symmetric.
template <class Algebra>
concept has_symmetric_products = requires(Algebra& a, lanes<thread_pool>& l, typename Algebra::operand& Y) {
  a.multiply_symmetric(l, Y, double{}, Y, Y, bool{}, double{}, Y);
};

// Of rows of a matrix: the sum of the squares of the one where it is largest, and of all.
struct row_squares {
  double longest = 0, together = 0;
};

// An algebra whose symmetric results may keep remainders (see has_remainders).
template <class Algebra>
concept keeps_remainders =
    has_symmetric_products<Algebra> &&
    requires(Algebra& a, lanes<thread_pool>& l, typename Algebra::operand& Y, const typename Algebra::operand& A) {
      a.multiply_symmetric_with_remainder(l, Y, double{}, A, A, bool{}, double{}, A);
      { a.has_remainder(A) } -> std::same_as<bool>;
      { a.squares_of_rows(A, index_t{}, band{}) } -> std::same_as<row_squares>;
      { a.trace(A, index_t{}) } -> std::same_as<double>;
    };

// The largest row_norms of a run.
template <keeps_remainders Algebra, class Lanes>
row_norms row_norms_of(const Algebra& algebra, Lanes& lanes, const typename Algebra::operand& A) {
  row_norms most;
  for (index_t i = 0; i < A.shape().count; ++i) {
    double longest = 0, together = 0;
    const auto bands = values_of_bands<row_squares>(lanes, A.shape().rows,
                                                    [&](const band& b) { return algebra.squares_of_rows(A, i, b); });
    for (const row_squares& of : bands) {
      longest = std::max(longest, of.longest);
      together += of.together;
    }
    const double trace = algebra.trace(A, i);
    if (!(trace > 0)) continue;
    most.longest = std::max(most.longest, std::sqrt(longest) / trace);
    most.together = std::max(most.together, std::sqrt(together) / trace);
  }
  return most;
}

}  // namespace normuon

#endif
