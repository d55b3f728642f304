#include <doctest/doctest.h>

#include <limits>

#include "support/refusal.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

iteration decided(const orthogonalizer_options& o, index_t rows, index_t cols, const published_epsilons& p = {}) {
  return decide<eigen_backend>(o, p, rows, cols);
}

refusal refused(const orthogonalizer_options& o) {
  return refusal_of([&] { decided(o, 1, 1); });
}

// A run of matrices of one shape, loaded from views, with a flag and a norm for each.
template <tensor_backend B>
struct run_of {
  using real = typename B::real;
  std::vector<matrix_view> U;
  std::vector<double> norm, ok, sound;
  iteration_workspace<B> work;

  void orthogonalize(const orthogonalizer_options& o, bool watched = true) {
    const std::size_t count = U.size();
    norm.resize(count, -1), ok.resize(count, 1), sound.resize(count, -1);
    std::vector<slot> norms, oks, sounds;
    for (std::size_t i = 0; i < count; ++i)
      norms.push_back(&norm[i]), oks.push_back(&ok[i]), sounds.push_back(&sound[i]);
    newton_schulz(backend, work, decide<B>(o, {}, U[0].rows, U[0].cols), U, norms, oks,
                  watched ? flags(sounds) : flags());
  }
  // Matrix i of the result, as the user's matrix lies.
  matrix result(index_t i) {
    const index_t m = U[0].rows, n = U[0].cols;
    std::vector<std::vector<real>> out(U.size(), std::vector<real>(static_cast<std::size_t>(m * n)));
    std::vector<real> ones(static_cast<std::size_t>(m), 1);
    std::vector<matrix_view> D;
    for (std::vector<real>& o : out) D.push_back(row_major(o.data(), m, n));
    const std::vector<real*> factors(U.size(), ones.data());
    backend.store_scaled(D, {factors, m}, work.X, side_of_neurons(neuron_axis::rows, m, n), {});
    const std::vector<real>& o = out[static_cast<std::size_t>(i)];
    return filled(m, n,
                  [&](index_t r, index_t c) { return static_cast<double>(o[static_cast<std::size_t>(r * n + c)]); });
  }
  B backend{cpu_options{.threads = 1}};
};

}  // namespace

TEST_CASE("the Gram form is chosen from an aspect of 1.25 on, either way round") {
  CHECK(decided({}, 100, 125).gram);
  CHECK(decided({}, 125, 100).gram);
  CHECK_FALSE(decided({}, 100, 124).gram);
  CHECK_FALSE(decided({}, 124, 100).gram);
  CHECK_FALSE(decided({.form = iteration_form::plain}, 100, 1000).gram);
  CHECK(decided({.form = iteration_form::gram}, 100, 100).gram);
}

TEST_CASE("a table that has no safe Gram form for the type is iterated plainly, unless a restart is given") {
  const orthogonalizer_options narrow{.table = polar_express_102, .compute = compute_type::bfloat16};
  REQUIRE((!polar_express_102.gram_restarts_bf16 && !polar_express_102.gram_restarts_compensated));
  CHECK_FALSE(decided(narrow, 10, 100).gram);
  orthogonalizer_options o = narrow;
  o.form = iteration_form::gram;
  CHECK(refused(o).is(error_code::option,
                      "table 'polar_express_1.02' has no safe Gram form in bfloat16; expected form plain or auto, "
                      "or explicit restarts"));
  o.restarts = {3};
  CHECK(decided(o, 10, 100).gram);
  CHECK(decided(o, 10, 100).restarts == restart_steps{3});
  o.form = iteration_form::automatic;
  CHECK(decided(o, 10, 100).gram);
}

TEST_CASE("the restarts are the table's own for the type, or those that are asked for") {
  CHECK(decided({.table = polar_express_102}, 10, 100).restarts == polar_express_102.gram_restarts_fp32);
  CHECK(decided({.table = jordan}, 10, 100).restarts.empty());
  CHECK(decided({.table = jordan, .restarts = restart_steps{4, 1}}, 10, 100).restarts == restart_steps{1, 4});
  CHECK(decided({.table = jordan, .restarts = restart_steps{}, .compute = compute_type::bfloat16}, 10, 100)
            .restarts.empty());
  CHECK(decided({.table = jordan, .compute = compute_type::float64}, 10, 100).restarts.empty());
}

TEST_CASE("a restart beyond the table, an unsafe table and a type that the backend can't compute in are refused") {
  CHECK(refused({.restarts = restart_steps{2, 5}}).is(error_code::option, "restarts before steps below 5, got 5"));
  for (const int step : {-1, 0, 16})
    CHECK(refusal_of([&] {
            restart_steps{step};
          }).is(error_code::option, "expected restarts from 1 to 15", std::to_string(step)));
  CHECK(refused({.compute = compute_type::float16}).is(error_code::option, "this backend can't compute in float16"));
  CHECK(refused({.table = polar_express_101, .compute = compute_type::bfloat16})
            .is(error_code::option, "table 'polar_express_1.01' is unsafe for bfloat16",
                "a margin of at least 0.0195312"));
  CHECK(refused({.table = coefficient_table{}}).is(error_code::option, "expected 1 to 16 steps, got 0"));
}

TEST_CASE("the iteration is in the backend's type, or in the one that is asked for") {
  CHECK(decide<eigen_backend>({}, {}, 1, 1).compute == compute_type::float32);
  CHECK(decide<eigen_backend64>({}, {}, 1, 1).compute == compute_type::float64);
  CHECK(decided({.compute = compute_type::bfloat16}, 1, 1).compute == compute_type::bfloat16);
  CHECK(decided({.compute = compute_type::float64}, 1, 1).compute == compute_type::float64);
}

TEST_CASE("the norm's epsilons are those of the public code only where they are asked for") {
  const published_epsilons published{.norm_added = 1e-6, .norm_floor = 1e-7};
  const norm_formula exact = decided({.table = polar_express_102}, 2, 3, published).norm;
  CHECK(exact.factor == 1.02);
  CHECK(exact.added == 0);
  CHECK(exact.floor == 0);
  const norm_formula same =
      decided({.table = polar_express_102, .guard = norm_guard::as_published}, 2, 3, published).norm;
  CHECK(same.factor == 1.02);
  CHECK(same.added == 1e-6);
  CHECK(same.floor == 1e-7);
}

TEST_CASE_TEMPLATE("the iteration keeps singular vectors and maps singular values by the table's polynomial", B,
                   eigen_backend, eigen_backend64) {
  random_source random(5);
  const compute_type compute = B::default_compute();
  const matrix inputs[] = {random.gradient(1, 1),   random.gradient(1, 9),    random.gradient(9, 1),
                           random.gradient(16, 16), random.gradient(17, 129), random.gradient(129, 17),
                           random.gradient(40, 50)};
  for (const matrix& U : inputs)
    for (const coefficient_table* table : {&jordan, &you, &polar_express_102, &polar_express_dao})
      for (const iteration_form form : {iteration_form::plain, iteration_form::gram}) {
        CAPTURE(U.rows);
        CAPTURE(U.cols);
        CAPTURE(table->name);
        const matrix O = orthogonalized<B>(U, {.table = *table, .form = form});
        CHECK(distance(O, orthogonalized_by_svd(U, *table)) <=
              iteration_tolerance(compute, *table, form, std::min(U.rows, U.cols)));
      }
}

TEST_CASE("a float backend computes in double where it is asked to") {
  random_source random(6);
  const matrix U = random.gradient(12, 30);
  const matrix exact = orthogonalized_by_svd(U, jordan);
  const double in_float = distance(orthogonalized<eigen_backend>(U, {}), exact);
  const double in_double = distance(orthogonalized<eigen_backend>(U, {.compute = compute_type::float64}), exact);
  // The result is rounded to float once: half a unit of entries whose norm is at most 1.2 sqrt(12).
  CHECK(in_double <= 0x1p-24 * 1.2 * std::sqrt(12.0));
  CHECK(in_float > 2 * in_double);
}

TEST_CASE("a run gives every matrix what it gets alone, bit for bit") {
  random_source random(7);
  run_of<eigen_backend> run;
  std::vector<std::vector<float>> memory;
  for (int i = 0; i < 3; ++i) memory.push_back(elements_of<float>(random.gradient(20, 33)));
  for (std::vector<float>& u : memory) run.U.push_back(row_major(u.data(), 20, 33));
  run.orthogonalize({.table = polar_express_102});
  for (int i = 0; i < 3; ++i) {
    run_of<eigen_backend> alone;
    alone.U = {run.U[static_cast<std::size_t>(i)]};
    alone.orthogonalize({.table = polar_express_102});
    CHECK(alone.result(0) == run.result(i));
    CHECK(alone.norm[0] == run.norm[static_cast<std::size_t>(i)]);
  }
}

TEST_CASE("strides and element types don't change what the iteration makes of a matrix") {
  random_source random(8);
  const index_t m = 21, n = 13;
  const matrix U = filled(m, n, [&](index_t, index_t) { return static_cast<double>(float16(random.normal())); });
  std::vector<float> rows = elements_of<float>(U), columns = elements_of<float>(transposed(U));
  std::vector<float16> halves = elements_of<float16>(U);
  std::vector<float> reversed(rows.rbegin(), rows.rend()), spaced(rows.size() * 3);
  for (std::size_t k = 0; k < rows.size(); ++k) spaced[3 * k] = rows[k];
  const float* const last = &reversed.back();
  const matrix_view views_of_it[] = {row_major(rows.data(), m, n),
                                     column_major(columns.data(), m, n),
                                     in_by_out(columns.data(), n, m),
                                     row_major(halves.data(), m, n),
                                     matrix_ref<const float>{last, m, n, -n, -1},
                                     matrix_ref<float>{spaced.data(), m, n, 3 * n, 3}};
  run_of<eigen_backend> expected;
  expected.U = {views_of_it[0]};
  expected.orthogonalize({});
  for (const matrix_view& view : views_of_it) {
    run_of<eigen_backend> run;
    run.U = {view};
    run.orthogonalize({});
    CHECK(run.result(0) == expected.result(0));
    CHECK(run.norm[0] == expected.norm[0]);
  }
  CHECK(rows == elements_of<float>(U));  // what is orthogonalized is not modified
}

TEST_CASE("what is held back or overflows enters as zero, and the rest of the run is as if it were not there") {
  random_source random(9);
  const float huge = std::numeric_limits<float>::max(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> good = elements_of<float>(random.gradient(4, 6)), held(24, nan), infinite(24, huge),
                     large(24, huge);
  infinite[5] = std::numeric_limits<float>::infinity();
  run_of<eigen_backend> run;
  for (std::vector<float>* u : {&held, &good, &infinite, &large}) run.U.push_back(row_major(u->data(), 4, 6));
  run.ok = {0, 1, 1, 1};
  run.orthogonalize({});
  CHECK(run.sound == std::vector<double>{0, 1, 0, 1});
  CHECK(run.result(0) == matrix(4, 6));
  CHECK(run.result(2) == matrix(4, 6));
  CHECK(run.norm[0] == -1);
  CHECK(run.norm[3] == doctest::Approx(std::sqrt(24.0) * static_cast<double>(huge)));  // a double holds it
  run_of<eigen_backend> alone;
  alone.U = {run.U[1]};
  alone.orthogonalize({});
  CHECK(run.result(1) == alone.result(0));
  run.orthogonalize({}, false);  // not watched: what is not finite is let through
  CHECK(std::isnan(run.result(2)(0, 0)));
}

TEST_CASE("the norm of doubles neither overflows nor underflows before it must") {
  random_source random(10);
  for (const int exponent : {-1060, -520, 0, 520, 1010}) {
    CAPTURE(exponent);
    std::vector<double> u = elements_of<double>(scaled(std::ldexp(1.0, exponent), random.gaussian(3, 5)));
    run_of<eigen_backend64> run;
    run.U = {row_major(u.data(), 3, 5)};
    run.orthogonalize({});
    for (double& x : u) x = std::ldexp(x, -exponent);
    const double expected = std::ldexp(norm({3, 5, u}), exponent);
    CHECK(run.sound[0] == 1);
    CHECK(std::abs(run.norm[0] - expected) <= 1e-14 * expected + std::numeric_limits<double>::denorm_min());
  }
}

TEST_CASE("an empty run is no work") {
  run_of<eigen_backend> run;
  newton_schulz(run.backend, run.work, decided({}, 3, 4), run.U, {}, {}, {});
  CHECK(run.work.X.shape().count == 0);
}
