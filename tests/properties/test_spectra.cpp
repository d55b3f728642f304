#include <doctest/doctest.h>

#include "normuon/math/polar_express.hpp"
#include "support/random_cases.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Spectra of gradients that were hard for one iteration or another.
using spectrum = std::vector<double>;

struct named_spectrum {
  std::string name;
  spectrum sigma;
};

spectrum made_of(index_t count, double (*sigma)(index_t)) {
  spectrum all;
  for (index_t i = 0; i < count; ++i) all.push_back(sigma(i));
  return all;
}

std::vector<named_spectrum> spectra(index_t count) {
  return {{"flat", made_of(count, [](index_t) { return 1.0; })},
          {"1/i", made_of(count, [](index_t i) { return 1.0 / static_cast<double>(i + 1); })},
          {"1/i^2", made_of(count, [](index_t i) { return std::pow(static_cast<double>(i + 1), -2); })},
          {"condition 1e6", made_of(count, [](index_t i) { return std::pow(1e-6, static_cast<double>(i) / 31); })},
          {"condition 1e12", made_of(count, [](index_t i) { return std::pow(1e-12, static_cast<double>(i) / 31); })},
          {"rank 1", made_of(count, [](index_t i) { return i < 1 ? 1.0 : 0.0; })},
          {"rank 8", made_of(count, [](index_t i) { return i < 8 ? 1.0 : 0.0; })},
          {"one large over a flat rest", made_of(count, [](index_t i) { return i < 1 ? 20.0 : 1.0; })}};
}

constexpr index_t s = 32, l = 48;

const coefficient_table* const tables[] = {
    &jordan, &you, &polar_express_102, &polar_express_101, &polar_express_dao, &deepseek_v4, &simple_12};

template <tensor_backend B>
void check_forms(compute_type compute) {
  random_source random(21);
  for (const named_spectrum& hard : spectra(s))
    for (const coefficient_table* table : tables)
      for (const bool tall : {false, true})
        for (const iteration_form form : {iteration_form::plain, iteration_form::gram}) {
          CAPTURE(hard.name);
          CAPTURE(table->name);
          CAPTURE(static_cast<int>(form));
          const matrix U = tall ? with_spectrum(random, l, s, hard.sigma) : with_spectrum(random, s, l, hard.sigma);
          const matrix O = orthogonalized<B>(U, {.table = *table, .form = form, .compute = compute});
          CHECK(distance(O, orthogonalized_by_svd(U, *table)) <= iteration_tolerance(compute, *table, form, s));
        }
}

double largest_value_in_bfloat16(const matrix& U, const coefficient_table& table) {
  return singular_values(orthogonalized<eigen_backend>(U, {.table = table, .compute = compute_type::bfloat16}))[0];
}

}  // namespace

TEST_CASE("plain and Gram form are one map within rounding, in float, for every table and spectrum") {
  check_forms<eigen_backend>(compute_type::float32);
}

TEST_CASE("plain and Gram form are one map within rounding, in double, for every table and spectrum") {
  check_forms<eigen_backend64>(compute_type::float64);
}

TEST_CASE("in bfloat16 no singular value leaves the band by far, whatever the spectrum is") {
  random_source random(22);
  for (const named_spectrum& hard : spectra(s))
    for (const coefficient_table* table :
         {&jordan, &you, &polar_express_102, &polar_express_dao, &deepseek_v4, &simple_12}) {
      CAPTURE(hard.name);
      CAPTURE(table->name);
      CHECK(largest_value_in_bfloat16(with_spectrum(random, s, l, hard.sigma), *table) <= 1.25);
      CHECK(largest_value_in_bfloat16(with_spectrum(random, l, s, hard.sigma), *table) <= 1.25);
    }
}

TEST_CASE("in bfloat16 a constant gradient is no danger, at any shape") {
  CHECK(rc::check([] {
    const index_t m = *rc::gen::inRange<index_t>(1, 200), n = *rc::gen::inRange<index_t>(1, 200);
    const matrix U = filled(m, n, [](index_t, index_t) { return 1.0; });
    const matrix O = orthogonalized<eigen_backend>(U, {.table = polar_express_102, .compute = compute_type::bfloat16});
    // Its one singular value, since what is constant stays so.
    RC_ASSERT(std::abs(O(0, 0)) * std::sqrt(static_cast<double>(m * n)) <= 1.25);
    RC_ASSERT(std::abs(O(0, 0)) * std::sqrt(static_cast<double>(m * n)) >= 0.8);
  }));
}

TEST_CASE("the bands that tables are known for hold for singular values of a hundredth and more") {
  // Interval maps of the published coefficients, in exact arithmetic.
  const struct {
    const coefficient_table* table;
    double low, high;
  } bands[] = {{&jordan, 0.681, 1.135},
               {&you, 0.977, 1.033},
               {&polar_express_102, 0.858, 1.142},
               {&polar_express_101, 0.869, 1.125},
               {&polar_express_dao, 0.845, 1.125}};
  random_source random(23);
  spectrum sigma;
  for (index_t i = 0; i < s; ++i) sigma.push_back(random.uniform(0.06, 0.2));
  const matrix U = with_spectrum(random, s, l, sigma);
  for (const auto& band : bands) {
    CAPTURE(band.table->name);
    const spectrum got = singular_values(orthogonalized<eigen_backend>(U, {.table = *band.table}));
    CHECK(got.back() >= band.low);
    CHECK(got.front() <= band.high);
  }
}

TEST_CASE("a generated table of eight steps reaches the polar factor") {
  constexpr coefficient_table table = polar_express<8>(1e-3, 0.02, 0.02);
  random_source random(24);
  spectrum sigma;
  for (index_t i = 0; i < s; ++i) sigma.push_back(std::pow(10, random.uniform(-2, 0)));
  for (const auto& [m, n] : {std::pair{s, l}, {l, s}, {s, s}}) {
    const matrix U = with_spectrum(random, m, n, sigma);
    const matrix O = orthogonalized<eigen_backend64>(U, {.table = table, .form = iteration_form::plain});
    const matrix gram = m > n ? product(transposed(O), O) : product(O, transposed(O));
    CHECK(distance(gram, identity(s)) <= 1e-12);
    // The polar factor is the one orthogonal O that makes U O^T symmetric and positive.
    const matrix H = m > n ? product(transposed(O), U) : product(U, transposed(O));
    CHECK(distance(H, transposed(H)) <= 1e-12 * norm(U));
    for (index_t i = 0; i < s; ++i) CHECK(H(i, i) > 0);
  }
}

TEST_CASE("orthogonalizing what is orthogonal changes nothing once a table has converged") {
  random_source random(25);
  const matrix U = random.gaussian(s, l);
  const orthogonalizer_options o{.table = simple_12};
  const matrix once = orthogonalized<eigen_backend64>(U, o), twice = orthogonalized<eigen_backend64>(once, o);
  CHECK(distance(once, twice) <= 1e-10);
}
