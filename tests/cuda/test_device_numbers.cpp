// Numbers that a device computes: as exact as cuBLAS's own products, whatever the size of gradients, and nothing beside
// what is to be written. On a GPU, and on the stand-in, so that these tests themselves are tested without one.
#include <Eigen/Core>
#include <cmath>

#include "cuda/compared_with_host.hpp"
#include "cuda/this_device.hpp"
#include "normuon/backends/cublas.hpp"
#include "normuon/testing/conformance/operands.hpp"

using namespace normuon;
using namespace normuon::test;
using normuon::testing::extent;
using double_matrix = testing::matrix;

namespace {

// D <- alpha A B + beta C of row-major matrices, B^T where `transpose` is true, by the first algorithm that cuBLASLt
// suggests where nothing is asked for.
class own_products {
 public:
  explicit own_products(cudaStream_t stream) : stream_(stream) {}

  void multiply(const operand_view& D, double alpha, const operand_view& A, const operand_view& B, bool transpose,
                double beta, const operand_view& C, compute_type compute) {
    const bool is_double = compute == compute_type::float64;
    cublasLtMatmulDesc_t made = nullptr;
    check(cublasLtMatmulDescCreate(&made, sums_of(compute), is_double ? CUDA_R_64F : CUDA_R_32F), "desc");
    const matmul_desc desc(made);
    const cublasOperation_t turned = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(desc.get(), CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned), "desc");
    const matrix_layout first = layout(B), second = layout(A), result = layout(D);
    cublasLtMatmulPreference_t preferred = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preferred), "preference");
    const matmul_preference preference(preferred);
    cublasLtMatmulHeuristicResult_t suggested[8] = {};
    int found = 0, k = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_.get(), desc.get(), first.get(), second.get(), result.get(),
                                         result.get(), preference.get(), 8, suggested, &found),
          "heuristic");
    while (k < found && suggested[k].state != CUBLAS_STATUS_SUCCESS) ++k;
    REQUIRE(k < found);
    const float narrow[] = {static_cast<float>(alpha), static_cast<float>(beta)};
    const double wide[] = {alpha, beta};
    const void* const a = is_double ? static_cast<const void*>(wide) : narrow;
    const void* const b = is_double ? static_cast<const void*>(wide + 1) : narrow + 1;
    check(cublasLtMatmul(handle_.get(), desc.get(), a, B.data, first.get(), A.data, second.get(), b, C.data,
                         result.get(), D.data, result.get(), &suggested[k].algo, nullptr, 0, stream_),
          "product");
  }

 private:
  static cublasComputeType_t sums_of(compute_type compute) {
    if (compute == compute_type::float64) return CUBLAS_COMPUTE_64F;
    return compute == compute_type::tensor_float32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  }
  // A row-major matrix as the transposed column-major one.
  static matrix_layout layout(const operand_view& X) {
    const cudaDataType_t type = X.type == element_type::float64    ? CUDA_R_64F
                                : X.type == element_type::float32  ? CUDA_R_32F
                                : X.type == element_type::bfloat16 ? CUDA_R_16BF
                                                                   : CUDA_R_16F;
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(X.cols),
                                     static_cast<std::uint64_t>(X.rows), X.leading),
          "layout");
    return matrix_layout(made);
  }

  cublas_lt_handle handle_ = make_cublas_lt();
  cudaStream_t stream_;
};

// alpha a b + beta c in double.
double_matrix exact(double alpha, const double_matrix& a, const double_matrix& b, double beta, const double_matrix& c) {
  using map = Eigen::Map<const eigen_matrix>;
  double_matrix y(a.rows, b.cols);
  Eigen::Map<eigen_matrix>(y.values.data(), y.rows, y.cols) =
      alpha * map(a.values.data(), a.rows, a.cols) * map(b.values.data(), b.rows, b.cols);
  for (std::size_t k = 0; k < y.values.size(); ++k)
    if (beta != 0) y.values[k] += beta * c.values[k];
  return y;
}

double largest_error(const double_matrix& y, const double_matrix& exact) {
  double most = 0;
  for (std::size_t k = 0; k < y.values.size(); ++k) {
    const double error = std::abs(y.values[k] - exact.values[k]);
    if (!(error <= most)) most = std::isnan(error) ? HUGE_VAL : error;
  }
  return most;
}

// Every product of an iteration on an m x n matrix X, m <= n: its errors against those of cuBLAS's own.
template <class B>
void check_errors(compute_type compute, index_t m, index_t n) {
  INFO(name_of(compute), ", ", m, " x ", n);
  const cuda_stream stream = make_stream();
  B b({.stream = stream.get()});
  own_products own(stream.get());
  const auto operand = [&](extent e, int seed) {
    return testing::operand_of(b, testing::random_run(e, 1, seed), compute);
  };
  const auto numbers = [&](const cublas_operand& X, extent e) { return testing::contents(b, X, e, 1)[0]; };
  const extent wide{m, n}, square{m, m};
  const double_matrix poison(m, n, std::numeric_limits<double>::quiet_NaN());
  const cublas_operand X = operand(wide, 1);
  const double_matrix x = numbers(X, wide), xt = testing::transposed(x), none;

  const auto compare = [&](const char* what, extent e, const double_matrix& exactly, auto&& ours, auto&& owns) {
    INFO(std::string(what));
    cublas_operand Y = testing::operand_of(b, {double_matrix(e.rows, e.cols, poison(0, 0))}, compute);
    ours(Y);
    const double error = largest_error(numbers(Y, e), exactly);
    Y = testing::operand_of(b, {double_matrix(e.rows, e.cols, poison(0, 0))}, compute);
    owns(Y.view());
    const double of_own = largest_error(numbers(Y, e), exactly);
    // Where cuBLAS happens to be exact, a few roundings are no mistake.
    const double floor = 4 * unit_roundoff(compute) * largest(exactly.values);
    CHECK(std::isfinite(error));
    CHECK(error <= std::max(2 * of_own, floor));
  };
  compare(
      "A = X X^T", square, exact(1, x, xt, 0, none), [&](cublas_operand& A) { gram(b, A, X); },
      [&](const operand_view& A) { own.multiply(A, 1, X.view(), X.view(), true, 0, A, compute); });

  cublas_operand A;
  b.resize(A, {m, m, 1, compute});
  gram(b, A, X);
  const double_matrix a = numbers(A, square);
  compare(
      "P = b A + c A^2", square, exact(2.0315, a, a, -4.775, a),
      [&](cublas_operand& P) { polynomial(b, P, -4.775, 2.0315, A); },
      [&](const operand_view& P) { own.multiply(P, 2.0315, A.view(), A.view(), false, -4.775, A.view(), compute); });
  compare(
      "a A + A A", square, exact(1, a, a, 3.4445, a),
      [&](cublas_operand& P) { multiply_symmetric(b, P, A, A, 3.4445); },
      [&](const operand_view& P) { own.multiply(P, 1, A.view(), A.view(), false, 3.4445, A.view(), compute); });
  compare(
      "Y = a X + A X", wide, exact(1, a, x, 3.4445, x),
      [&](cublas_operand& Y) { b.multiply(Y, 1, A, X, false, 3.4445, X); },
      [&](const operand_view& Y) { own.multiply(Y, 1, A.view(), X.view(), false, 3.4445, X.view(), compute); });
}

}  // namespace

TEST_CASE("products of every type have at most twice the errors of cuBLAS's own, against float64" *
          doctest::skip(!there_is_a_device())) {
  std::vector<extent> extents = {{1, 1}, {17, 29}, {96, 160}};
  if (!is_standin()) extents.insert(extents.end(), {{768, 768}, {768, 3072}, {1000, 1504}, {2048, 2048}});
  for (const extent e : extents) {
    check_errors<cublas_backend64>(compute_type::float64, e.rows, e.cols);
    for (const auto compute :
         {compute_type::float32, compute_type::tensor_float32, compute_type::bfloat16, compute_type::float16})
      check_errors<cublas_backend>(compute, e.rows, e.cols);
  }
}

TEST_CASE("steps from zero, huge and tiny gradients on a device are those of the host" *
          doctest::skip(!there_is_a_device())) {
  for (const float size : {0.0F, 0x1p-100F, 0x1p100F}) {
    CAPTURE(size);
    placed_model<cublas_backend> gpu(every_rule<float>(true));
    placed_model<eigen_backend> cpu(every_rule<float>(true), {}, eigen_backend({.threads = 1}));
    const auto start = cpu.weights();
    const auto step = [&](auto& m, int index) {
      m.host.make_gradients(index);
      for (auto& p : m.host.parameters)
        for (float& g : p.gradient) g *= size;
      m.write_gradients();
      m.opt.step();
    };
    for (int index = 0; index < 2; ++index) step(gpu, index), step(cpu, index);
    for (const parameter_report& p : gpu.opt.report().parameters) CHECK(p.outcome == outcome::moved);
    check_weights_of_host(cpu.host.parameters, 2, start, gpu.weights(), cpu.weights());
  }
}

TEST_CASE("what was written from pinned memory is the caller's again, however much it is" *
          doctest::skip(!there_is_a_device())) {
  cublas_backend b;
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{5'000'000}}) {
    CAPTURE(bytes);
    const pinned_memory source = make_pinned_memory(bytes);
    const cuda_memory there = b.allocate(bytes);
    std::memset(source.get(), 1, bytes);
    b.write(there.data(), source.get(), bytes);
    std::memset(source.get(), 2, bytes);
    std::vector<unsigned char> found(bytes);
    b.read(found.data(), there.data(), bytes);
    b.sync();
    CHECK((found == std::vector<unsigned char>(bytes, 1)));
  }
}

TEST_CASE("a hundred repeats of a recorded step from one state have the same bits" *
          doctest::skip(!there_is_a_device())) {
  const index_t unit = is_standin() ? 8 : 256;
  std::vector<owned_parameter<float>> parameters;
  parameters.emplace_back("square", normuon_options::reference(), 3 * unit + 1, 3 * unit + 1, 2);
  parameters.emplace_back("wide", normuon_options::paper(), 2 * unit, 5 * unit - 3, 3);
  parameters.emplace_back("tall", muon_options::jordan(), 4 * unit, unit);
  parameters.emplace_back("vector", adamw_options{}, 1, 700 * unit);
  placed_model<cublas_backend> m(std::move(parameters));
  m.make_gradients(0);
  m.opt.step();
  const auto weights = m.weights();
  const auto state = m.opt.export_state();
  std::vector<std::vector<float>> weights_after;
  std::vector<named_tensor> state_after;
  for (int repeat = 0; repeat < 100; ++repeat) {
    CAPTURE(repeat);
    m.write_weights(weights);
    m.opt.import_state(state);
    m.opt.step();
    const auto found = m.weights();
    const auto left = m.opt.export_state();
    if (repeat == 0) weights_after = found, state_after = left;
    REQUIRE(same_bits(found, weights_after));
    REQUIRE(same_bits(left, state_after));
  }
  CHECK_FALSE(same_bits(weights_after, weights));
}

// Runs under the tools of compute-sanitizer, too: every kernel, on shapes that fit no tile.
TEST_CASE("steps of every rule in any layout have the bits of plain ones, and write nothing in the guard bands" *
          doctest::skip(!there_is_a_device())) {
  cublas_backend b;
  int layout = 0;
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    optimizer<cublas_backend> opt;
    const group_id group = add_group(opt, rule.options);
    std::vector<testing::device_matrices<cublas_backend>> W, G, change;
    std::vector<double_matrix> start;
    const std::vector<element_type> type{element_type::float32};
    for (const extent e : {extent{1, 1}, {1, 13}, {13, 1}, {65, 130}, {130, 65}, {33, 65}})
      for (const bool plain : {true, false}) {
        const auto shown = plain ? testing::layout::rows : static_cast<testing::layout>(1 + layout++ % 3);
        const auto add = [&](auto& all, const double_matrix& x) {
          all.emplace_back(opt.backend(), type[0], shown, x);
          return views(all.back())[0].template as<float>();
        };
        const std::string name = std::to_string(W.size());
        const auto weight = add(W, testing::random_run(e, 1, 1)[0]);
        opt.add_parameter(group, name, weight, add(G, testing::random_run(e, 1, 2)[0]));
        opt.bind_change(name, add(change, double_matrix(e.rows, e.cols, std::nan(""))));
      }
    opt.step_changes();
    opt.step();
    for (std::size_t i = 0; i < W.size(); i += 2) {
      CHECK(W[i].get(0).values == W[i + 1].get(0).values);
      CHECK(change[i].get(0).values == change[i + 1].get(0).values);
      CHECK(largest(change[i].get(0).values) > 0);
      CHECK((G[i].unchanged() && G[i + 1].unchanged()));
    }
  }
}
