// What the benchmarks count, against what is executed; and the models that they move.
#include <doctest/doctest.h>

#include "normuon/bench/models.hpp"
#include "normuon/bench/work.hpp"
#include "support/tracing_backend.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Products in plain loops that count what they do.
struct counting_products {
  static inline double flops = 0;

  template <class T>
  void reserve(index_t, index_t) {}
  template <class T>
  void multiply(T* Y, index_t m, index_t n, index_t k, T alpha, const T* A, const T* B, bool transpose) {
    for (index_t j = 0; j < n; ++j)
      for (index_t p = 0; p < k; ++p)
        for (index_t i = 0; i < m; ++i, flops += 2)
          Y[j * m + i] += alpha * A[p * m + i] * B[transpose ? p * n + j : j * k + p];
  }
};
using counting_backend = host_backend<float, counting_products>;

template <tensor_backend B>
void iterate(B& b, const iteration& it, index_t rows, index_t cols) {
  std::vector<float> u(static_cast<std::size_t>(rows * cols), 1);
  double norm = 0, ok = 1;
  const slot norms[] = {&norm}, oks[] = {&ok};
  const matrix_view U[] = {row_major(u.data(), rows, cols)};
  iteration_workspace<B> work;
  newton_schulz(b, work, it, U, norms, oks, {});
}

template <class F>
void for_each_iteration(F&& f) {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{5, 7}, {7, 5}, {6, 6}, {1, 9}, {4, 40}})
    for (const coefficient_table& table : {jordan, simple_12})
      for (const iteration_form form : {iteration_form::automatic, iteration_form::plain, iteration_form::gram})
        for (const restart_steps& restarts : {restart_steps{}, restart_steps{1}, restart_steps{3}, restart_steps{2, 4}})
          f(orthogonalizer_options{.table = table, .form = form, .restarts = restarts}, rows, cols);
}

}  // namespace

TEST_CASE("the FLOP of an iteration are those that products without symmetry execute") {
  counting_backend b({.threads = 1});
  for_each_iteration([&](const orthogonalizer_options& o, index_t rows, index_t cols) {
    const iteration it = decide<counting_backend>(o, {}, rows, cols);
    counting_products::flops = 0;
    iterate(b, it, rows, cols);
    CAPTURE(it.gram);
    CAPTURE(it.restarts.last());
    CAPTURE(rows);
    CAPTURE(cols);
    CHECK(bench::flops<counting_backend>(it, rows, cols) == counting_products::flops);
  });
}

TEST_CASE("the FLOP of an iteration are those of its products, a symmetric one at half the work") {
  tracing_backend b;
  for_each_iteration([&](const orthogonalizer_options& o, index_t rows, index_t cols) {
    const iteration it = decide<tracing_backend>(o, {}, rows, cols);
    b.products.clear();
    iterate(b, it, rows, cols);
    double sum = 0;
    for (const traced_product& p : b.products)
      sum += static_cast<double>(p.rows * p.cols * p.depth) * (p.kind == product_kind::general ? 2 : 1);
    CAPTURE(it.gram);
    CAPTURE(it.restarts.last());
    CAPTURE(rows);
    CAPTURE(cols);
    CHECK(bench::flops<tracing_backend>(it, rows, cols) == sum);
  });
}

TEST_CASE("the models have as many hidden weights as their papers and repositories say") {
  const auto elements = [](std::string_view name) {
    for (const bench::model& m : bench::models)
      if (m.name == name) return m.elements();
    return index_t{0};
  };
  CHECK(elements("char_gpt") == 4 * 12 * 128 * 128);     // four layers of 12 width^2
  CHECK(elements("gpt2_small") == 12 * 12 * 768 * 768);  // 124.4 M less embeddings, biases and gains
  // Of 1,100,048,384: less two 32,000 x 2048 embeddings and 45 gains, a layer in 22.
  CHECK(elements("llama_1b") == 2 * ((1'100'048'384 - 2 * 32'000 * 2048 - 45 * 2048) / 22));
  CHECK(elements("moe") == 3 * 1024 * 1024 + 32 * 3 * 512 * 1024);
  CHECK(elements("resnet18") == 11'689'512 - 513'000 - 9'600);  // of torchvision's: less head, and gains and biases
}
