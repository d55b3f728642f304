// Symmetric products as block triangles, run on the stand-in: the laws, the golden trajectories and whole steps with
// blocks so small that every matrix has some.
#include "cuda/placed_model.hpp"
#include "normuon/backends/cublas.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "standin.hpp"
#include "support/trajectories.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

const cublas_options in_triangles{.products = {.symmetric = symmetric_form::triangle, .least_block = 8}};

template <std::floating_point Real>
class triangle_backend : public basic_cublas_backend<Real> {
 public:
  triangle_backend() : basic_cublas_backend<Real>(in_triangles) {}

  template <class Task>
  auto record(Task&& task) {
    return basic_cublas_backend<Real>::record([&](auto&) { task(*this); });
  }
};
static_assert(has_gram<cublas_backend> && has_symmetric_polynomial<cublas_backend> &&
              has_symmetric_multiply<cublas_backend>);

}  // namespace

TEST_CASE("the cuBLAS backend keeps the laws in block triangles, in float") {
  standin::restart();
  testing::check_backend([] { return triangle_backend<float>(); });
}

TEST_CASE("the cuBLAS backend keeps the laws in block triangles, in double") {
  standin::restart();
  testing::check_backend([] { return triangle_backend<double>(); });
}

TEST_CASE("the cuBLAS backend meets every published trajectory in block triangles, in double and in float") {
  standin::restart();
  check_trajectories_in_double<triangle_backend<double>>(norm_guard::as_published);
  check_trajectories_in_float<triangle_backend<float>>();
}

TEST_CASE("a product in block triangles is exactly symmetric, and that of whole rows within rounding") {
  for (const std::uint64_t seed : {1u, 2u})
    for (const compute_type compute : {compute_type::float32, compute_type::bfloat16, compute_type::float16})
      for (const index_t n : {16, 37, 70, 131})
        for (const index_t count : {1, 3}) {
          standin::restart();
          standin::seed(seed);
          CAPTURE(n);
          cublas_backend whole, triangle(in_triangles);
          const auto gram_in = [&](cublas_backend& b) {
            cublas_operand X = testing::operand_of(b, testing::random_run({n, n + 3}, count, 1), compute), A;
            b.resize(A, {n, n, count, compute});
            standin::forget_calls();
            b.gram(A, X);
            return std::pair(testing::contents(b, A, {n, n}, count), standin::calls("cublasLtMatmul"));
          };
          const auto [expected, one] = gram_in(whole);
          const auto [found, several] = gram_in(triangle);
          CHECK(one == 1);
          CHECK(several > 1);
          for (std::size_t i = 0; i < found.size(); ++i)
            for (index_t r = 0; r < n; ++r)
              for (index_t c = 0; c <= r; ++c) {
                CHECK(found[i](r, c) == found[i](c, r));
                CHECK(found[i](r, c) == doctest::Approx(expected[i](r, c)).epsilon(1e-2));
              }
        }
}

TEST_CASE("a step in block triangles is that in whole products, within rounding, and has its bits every time") {
  const auto train = [](const cublas_options& options) {
    standin::restart();
    std::vector<owned_parameter<float>> all;
    for (const named_rule& rule : all_rules()) {
      if (!rule.is_matrix_rule()) continue;
      any_options o = rule.options;
      std::visit(
          [](auto& x) {
            if constexpr (requires { x.orthogonalizer; }) x.orthogonalizer.compute = compute_type::float32;
          },
          o);
      all.emplace_back(rule.name, o, 41, 67, 2);
      all.emplace_back(std::string(rule.name) + " square", o, 48, 48);
    }
    placed_model<cublas_backend> m(std::move(all), {}, cublas_backend(options));
    std::vector<std::vector<std::vector<float>>> weights = {m.weights()};
    for (int step = 0; step < 2; ++step) {
      m.make_gradients(step);
      m.opt.step();
      weights.push_back(m.weights());
    }
    return weights;
  };
  const auto whole = train({}), triangle = train(in_triangles), again = train(in_triangles);
  CHECK(same_bits(triangle[2], again[2]));
  for (std::size_t i = 0; i < whole[2].size(); ++i) {
    double moved = 0, apart = 0;
    for (std::size_t k = 0; k < whole[2][i].size(); ++k) {
      moved = std::max(moved, std::abs(static_cast<double>(whole[2][i][k] - whole[0][i][k])));
      apart = std::max(apart, std::abs(static_cast<double>(whole[2][i][k] - triangle[2][i][k])));
    }
    CHECK(apart <= 1e-3 * moved);
    CHECK(moved > 0);
  }
}
