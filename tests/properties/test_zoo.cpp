#include <doctest/doctest.h>

#include <Eigen/Eigenvalues>

#include "support/random_cases.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

// Matrices on which 16-bit iterations are known to blow up, of a few tiles of every kernel, against the plain iteration
// in double. Run on every path of the processor.
namespace {

struct animal {
  std::string name;
  matrix U;
  bool fits_16_bits;  // its small directions are not lost where entries are rounded to 8 bits
};

matrix with_values(random_source& random, const shape& s, double (*sigma)(double)) {
  std::vector<double> all;
  for (index_t i = 0; i < std::min(s.m, s.n); ++i) all.push_back(sigma(static_cast<double>(i)));
  return with_spectrum(random, s.m, s.n, all);
}

std::vector<animal> zoo(const shape& s) {
  random_source random(31);
  const auto noise = [&] { return random.gaussian(s.m, s.n); };
  const auto of_rank = [&](index_t k) { return product(random.gaussian(s.m, k), random.gaussian(k, s.n)); };
  return {{"Gaussian", noise(), true},
          {"1/i", with_values(random, s, [](double i) { return 1 / (i + 1); }), true},
          {"exponential to 1e-6", with_values(random, s, [](double i) { return std::pow(1e-6, i / 255); }), true},
          {"one spike over a flat rest", with_values(random, s, [](double i) { return i < 1 ? 20.0 : 1.0; }), true},
          {"one live row", filled(s.m, s.n, [&](index_t i, index_t) { return i == 5 ? random.normal() : 0; }), true},
          {"constant", filled(s.m, s.n, [](index_t, index_t) { return 1.0; }), true},
          {"rank 1", of_rank(1), false},
          {"rank 64 and noise", combined(1, of_rank(64), 1e-3, noise()), false},
          {"a spike of 1, the rest 1e-4", with_values(random, s, [](double i) { return i < 1 ? 1 : 1e-4; }), false}};
}

bool has_gram_form_in_16_bits(const coefficient_table& table) {
  return table.gram_restarts_bf16 || table.gram_restarts_compensated;
}

// Calls f(U, options) for every animal that `wanted` accepts, as wide, tall and square matrix, in every form that is
// safe.
template <class Wanted, class F>
void for_each_case(compute_type compute, std::initializer_list<const coefficient_table*> tables, Wanted&& wanted,
                   F&& f) {
  for (const shape& s : {shape{256, 256}, shape{256, 336}, shape{400, 256}})
    for (const animal& a : zoo(s))
      for (const coefficient_table* table : tables)
        for (const iteration_form form : {iteration_form::plain, iteration_form::gram}) {
          const bool narrow = compute == compute_type::bfloat16;
          if (!wanted(a) || (form == iteration_form::gram && narrow && !has_gram_form_in_16_bits(*table))) continue;
          CAPTURE(a.name);
          CAPTURE(s.m);
          CAPTURE(table->name);
          CAPTURE(static_cast<int>(form));
          f(a, orthogonalizer_options{.table = *table, .form = form, .compute = compute});
        }
}

double relative_distance(const animal& a, const orthogonalizer_options& o) {
  const matrix exact = orthogonalized<eigen_backend64>(a.U, {.table = o.table, .form = iteration_form::plain});
  return distance(orthogonalized<eigen_backend>(a.U, o), exact) / norm(exact);
}

double largest_singular_value(const matrix& A) {
  const auto a = as_eigen(A);
  const Eigen::MatrixXd gram =
      A.rows > A.cols ? Eigen::MatrixXd(a.transpose() * a) : Eigen::MatrixXd(a * a.transpose());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram, Eigen::EigenvaluesOnly);
  return std::sqrt(solver.eigenvalues().maxCoeff());
}

}  // namespace

TEST_CASE("in float the usual tables are within a thousandth of exact on every kind of matrix") {
  // One value of exactly 1 stands where `jordan` rises, and all of what is rounded goes into it.
  for_each_case(
      compute_type::float32, {&jordan, &you, &polar_express_102, &polar_express_dao},
      [](const animal&) { return true; },
      [](const animal& a, const orthogonalizer_options& o) {
        CHECK(relative_distance(a, o) <= (a.name == "constant" ? 1e-2 : 1e-3));
      });
}

TEST_CASE("in bfloat16 the default table is within a tenth of exact where 16 bits hold the matrix") {
  for_each_case(
      compute_type::bfloat16, {&jordan}, [](const animal& a) { return a.fits_16_bits; },
      [](const animal& a, const orthogonalizer_options& o) { CHECK(relative_distance(a, o) <= 0.1); });
}

TEST_CASE("in bfloat16 no table lets a singular value grow past 1.25, on any kind of matrix") {
  for_each_case(
      compute_type::bfloat16, {&jordan, &you, &polar_express_102, &polar_express_dao, &deepseek_v4, &simple_12},
      [](const animal&) { return true; },
      [](const animal& a, const orthogonalizer_options& o) {
        CHECK(largest_singular_value(orthogonalized<eigen_backend>(a.U, o)) <= 1.25);
      });
}
