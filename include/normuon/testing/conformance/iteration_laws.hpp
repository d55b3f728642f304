// Laws of products and of what is made of them: the symmetric refinements, and the Newton-Schulz iteration as a whole.
#ifndef NORMUON_TESTING_CONFORMANCE_ITERATION_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_ITERATION_LAWS_HPP

#include <limits>

#include "normuon/testing/conformance/operands.hpp"

namespace normuon::testing {

// Y (m x n) of depth k: A is m x k, and B lies there as k x n or as n x k.
struct product_shape {
  index_t m, n, k;
  bool transpose;
};

inline constexpr product_shape product_shapes[] = {
    {0, 0, 0, true},     {1, 1, 1, false},    {1, 1, 9, true},    {17, 17, 29, true},
    {17, 17, 17, false}, {17, 29, 17, false}, {64, 64, 64, true}, {64, 64, 64, false},
    {3, 301, 3, false},  {3, 3, 301, true},   {5, 17, 29, true},  {5, 29, 17, false},
};

// What alpha, beta and `transpose` say, in numbers of the iteration's type. C may be Y; a beta of 0 reads neither.
template <tensor_backend B>
void multiply_is_a_product(B& b) {
  constexpr double pairs[][2] = {{1, 0}, {1, 1}, {0.5, -2}, {-3, 0}};
  for (const compute_type compute : types_computed<B>())
    for (const product_shape& shape : product_shapes)
      for (const index_t count : {1, 3})
        for (const auto& pair : pairs)
          for (const bool in_place : {false, true}) {
            const double alpha = pair[0], beta = pair[1];
            const index_t m = shape.m, n = shape.n, k = shape.k;
            const bool transpose = shape.transpose;
            const extent of_y{m, n}, of_b = transpose ? extent{n, k} : extent{k, n};
            // Strings, because doctest prints a char pointer as an address.
            const std::string turned = transpose ? ", transposed" : "", where = in_place ? ", in place" : "";
            INFO(name_of(compute), ", ", m, " x ", n, " of depth ", k, turned, ", alpha ", alpha, ", beta ", beta,
                 where);
            const auto X = operand_of(b, random_run({m, k}, count, 1), compute);
            const auto Z = operand_of(b, random_run(of_b, count, 2), compute);
            const std::vector<matrix> a = contents(b, X, {m, k}, count), c = contents(b, Z, of_b, count);
            std::vector<matrix> added = random_run(of_y, count, 3);
            const std::vector<matrix> unread(added.size(), matrix(m, n, std::numeric_limits<double>::quiet_NaN()));
            auto C = operand_of(b, beta == 0 ? unread : added, compute);
            if (beta != 0) added = contents(b, C, of_y, count);
            auto Y = operand_of(b, unread, compute);
            b.multiply(in_place ? C : Y, alpha, X, Z, transpose, beta, C);
            const std::vector<matrix> y = contents(b, in_place ? C : Y, of_y, count);
            for (std::size_t i = 0; i < y.size(); ++i) {
              const matrix right = transpose ? transposed(c[i]) : c[i];
              CHECK_EQ(difference(y[i], combined(alpha, product(a[i], right), beta, added[i]),
                                  product_bound(precision_of<B>(compute), alpha, a[i], right, beta, added[i])),
                       "");
              CHECK_EQ(difference(y[i], mapped(y[i], [&](double x) { return stored_in(compute, x); })), "");
              CHECK_EQ(difference(contents(b, X, {m, k}, count)[i], a[i]), "");
              CHECK_EQ(difference(contents(b, Z, of_b, count)[i], c[i]), "");
              if (!in_place && beta != 0) CHECK_EQ(difference(contents(b, C, of_y, count)[i], added[i]), "");
            }
          }
}

template <tensor_backend B>
void add_identity_touches_the_diagonal(B& b) {
  for (const compute_type compute : types_computed<B>())
    for (const index_t n : {0, 1, 17, 64}) {
      auto P = operand_of(b, random_run({n, n}, 3, 1), compute);
      const std::vector<matrix> before = contents(b, P, {n, n}, 3);
      b.add_identity(P, 1.5);
      const std::vector<matrix> after = contents(b, P, {n, n}, 3);
      for (std::size_t i = 0; i < after.size(); ++i)
        CHECK_EQ(
            difference(after[i], combined(1, before[i], 1.5, identity(n)),
                       mapped(identity(n), [&](double x) { return 2 * x * 2.5 * precision_of<B>(compute).stored; })),
            "");
    }
}

// gram and polynomial, fused or not, on symmetric matrices that are no larger than the iteration's.
template <tensor_backend B>
void symmetric_products_are_products(B& b) {
  constexpr double rows[][2] = {{-4.775, 2.0315}, {-0.5, 0}};
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    if (variant > 1 || e.rows > e.cols) return;
    const precision p = precision_of<B>(compute);
    const index_t s = e.rows;
    const auto X = operand_of(b, random_run(e, count, 1), compute);
    const std::vector<matrix> x = contents(b, X, e, count);
    typename B::operand A, P;
    b.resize(A, {s, s, count, compute});
    b.resize(P, {s, s, count, compute});
    gram(b, A, X);
    const std::vector<matrix> a = contents(b, A, {s, s}, count);
    std::vector<matrix> symmetric;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const matrix xt = transposed(x[i]), square = product(x[i], xt);
      CHECK_EQ(difference(a[i], square, product_bound(p, 1, x[i], xt, 0, square)), "");
      symmetric.push_back(mapped(square, [&](double y) { return y / static_cast<double>(e.cols); }));
    }
    A = operand_of(b, symmetric, compute);
    symmetric = contents(b, A, {s, s}, count);
    for (const auto& [f, g] : rows) {
      polynomial(b, P, f, g, A);
      const std::vector<matrix> found = contents(b, P, {s, s}, count);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const matrix& c = symmetric[i];
        CHECK_EQ(difference(found[i], combined(g, product(c, c), f, c), product_bound(p, g, c, c, f, c)), "");
      }
    }
  });
}

// Circulant matrices commute exactly, and eighths are exact in every type.
template <tensor_backend B>
void multiply_symmetric_is_a_product(B& b) {
  for (const compute_type compute : types_computed<B>())
    for (const index_t n : {0, 1, 9, 17, 64}) {
      const auto circulant = [&](index_t seed) {
        matrix c(n, n);
        for (index_t i = 0; i < n; ++i)
          for (index_t j = 0; j < n; ++j) {
            const index_t apart = std::min(std::abs(i - j), n - std::abs(i - j));
            c(i, j) = static_cast<double>((seed * apart * apart + apart + seed) % 9 - 4) / 8;
          }
        return c;
      };
      const std::vector<matrix> a = {circulant(2), circulant(3), circulant(5)},
                                c = {circulant(7), circulant(2), circulant(4)};
      typename B::operand Y;
      b.resize(Y, {n, n, 3, compute});
      for (const double beta : {0.0, 3.4445}) {
        multiply_symmetric(b, Y, operand_of(b, a, compute), operand_of(b, c, compute), beta);
        const std::vector<matrix> y = contents(b, Y, {n, n}, 3);
        for (std::size_t i = 0; i < y.size(); ++i)
          CHECK_EQ(difference(y[i], combined(1, product(a[i], c[i]), beta, a[i]),
                              product_bound(precision_of<B>(compute), 1, a[i], c[i], beta, a[i])),
                   "");
      }
    }
}

// What rounding takes from A = X X^T is A (-I) + A, and rows are measured as they are stored.
template <tensor_backend B>
void remainders_are_kept_and_rows_measured(B& b) {
  if constexpr (has_remainders<B>)
    for (const index_t n : {1, 9, 17, 64, 200}) {
      constexpr compute_type compute = compute_type::bfloat16;
      const precision p = precision_of<B>(compute);
      const auto X = operand_of(b, random_run({n, 2 * n}, 1, 1), compute);
      const matrix x = contents(b, X, {n, 2 * n}, 1)[0], magnitudes = product(magnitude(x), transposed(magnitude(x)));
      typename B::operand A, Y;
      b.resize(A, {n, n, 1, compute});
      b.resize(Y, {n, n, 1, compute});
      b.gram_with_remainder(A, X);
      const matrix a = contents(b, A, {n, n}, 1)[0];
      multiply_symmetric(b, Y, A, operand_of(b, {combined(-1, identity(n), 0, identity(n))}, compute), 1);
      const double held = static_cast<double>(2 * n + 4) * p.sum + p.stored * p.stored;
      CHECK_EQ(difference(contents(b, Y, {n, n}, 1)[0], combined(1, product(x, transposed(x)), -1, a),
                          mapped(magnitudes, [&](double y) { return held * y; })),
               "");

      double longest = 0, together = 0, trace = 0;
      for (index_t i = 0; i < n; ++i) {
        double squares = 0;
        for (index_t j = 0; j < n; ++j) squares += a(i, j) * a(i, j);
        longest = std::max(longest, std::sqrt(squares));
        together += squares;
        trace += a(i, i);
      }
      const row_norms rows = b.measure_rows(A);
      CHECK(std::abs(rows.longest - longest / trace) <= 1e-6);
      CHECK(std::abs(rows.together - std::sqrt(together) / trace) <= 1e-6);
    }
}

// A table and the relative error, in the Frobenius norm, that its iteration may make on a backend of roundoff u.
// simple_12 settles at 1, where its slope is 0, so that only the roundings of its last step are left: 1 to 5 were
// measured. The slope of Jordan's table is 485 at 0 and noise grows with it, up to four roundings a step (375 u was
// measured); an error of a quarter would be another iteration.
struct table_and_bound {
  const coefficient_table& table;
  double roundings, at_most;
};
inline constexpr table_and_bound tables[] = {{simple_12, 16, 1}, {jordan, 4 * 485, 0.25}};

// U of either orientation against the iteration in double, in the plain form and, where it would be chosen, the Gram
// form; twice, for the same bits. A strong diagonal keeps singular values away from zero.
template <tensor_backend B>
void newton_schulz_is_the_iteration(B& b) {
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    const index_t s = std::min(e.rows, e.cols), l = std::max(e.rows, e.cols);
    if (variant > 3 || s == 0) return;
    std::vector<matrix> u = random_run(e, count, 1);
    for (matrix& m : u)
      for (index_t i = 0; i < s; ++i) m(i, i) += std::sqrt(static_cast<double>(s + l));
    const device_matrices<B> U(b, types_taken<B>(), u, variant);
    for (const table_and_bound& t : tables)
      for (const iteration_form form : {iteration_form::plain, iteration_form::automatic}) {
        const iteration it = decide<B>({.table = t.table, .form = form, .compute = compute}, {}, e.rows, e.cols);
        CAPTURE(t.table.name);
        CAPTURE(it.gram);
        const auto result = [&] {
          iteration_workspace<B> work;
          device_slots<B> norms(b, matrix(count, 1)), sound(b, matrix(count, 1));
          newton_schulz(b, work, it, U, norms, {}, sound);
          return contents(b, work.X, {s, l}, count);
        };
        const std::vector<matrix> once = result(), again = result();
        for (std::size_t i = 0; i < once.size(); ++i) {
          const matrix expected = short_side_first(orthogonalized(U.given(i), it));
          const double bound =
              std::min(t.at_most, t.roundings * std::max(precision_of<B>(compute).stored, unit_roundoff(compute)));
          CHECK(frobenius_norm(combined(1, once[i], -1, expected)) <= bound * frobenius_norm(expected));
          CHECK_EQ(difference(once[i], again[i]), "");
        }
      }
  });
}

}  // namespace normuon::testing

#endif
