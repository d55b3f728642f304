// The stand-in's products against loops in double, in every type, and what differs between its algorithms.
#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "standin_products.hpp"

using normuon::bfloat16;
using normuon::float16;
using standin::algorithm;

namespace {

template <class In, class Out, cublasComputeType_t compute_type>
struct types {
  using in = In;
  using out = Out;
  static constexpr cublasComputeType_t compute = compute_type;
};

template <class T>
std::vector<T> random_values(std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& x : values) x = static_cast<T>(normal(random));
  return values;
}

template <class T>
double roundoff() {
  return std::is_same_v<T, double>    ? 0x1p-53
         : std::is_same_v<T, float>   ? 0x1p-24
         : std::is_same_v<T, float16> ? 0x1p-11
                                      : 0x1p-8;
}

struct shapes {
  bool transpose_a, transpose_b;
  shape a, b, c, d;
};

// Every element of D = alpha op(A) op(B) + beta C, against a loop in double: k roundings of sums, one of the result,
// with tf32 two of the factors.
template <class Types>
void check_product(const shapes& s, algorithm chosen, double alpha, double beta, bool in_place = false) {
  using in = typename Types::in;
  using out = typename Types::out;
  using scale = std::conditional_t<std::is_same_v<out, double>, double, float>;
  std::mt19937 random(7);
  call_parts p = small_product(s.a, s.b, s.c, s.d, data_type<in>, data_type<out>, Types::compute, data_type<scale>);
  p.set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N});
  p.set(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t{s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N});
  p.choose(chosen);
  const auto A = random_values<in>(s.a.elements(), random), B = random_values<in>(s.b.elements(), random);
  const auto C = random_values<out>(s.c.elements(), random);
  const scale scalars[2] = {static_cast<scale>(alpha), static_cast<scale>(beta)};
  out* const c = on_device(C);
  p.a = on_device(A), p.b = on_device(B), p.c = c;
  p.d = in_place ? c : on_device(std::vector<out>(s.d.elements(), static_cast<out>(77.0f)));
  p.alpha = &scalars[0], p.beta = &scalars[1];
  REQUIRE(p.multiply() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cudaStreamSynchronize(p.stream) == cudaSuccess);
  const auto D = standin::peek(static_cast<const out*>(p.d), s.d.elements());
  const std::int64_t depth = s.transpose_a ? s.a.rows : s.a.cols;
  std::set<std::size_t> written;
  for (std::int64_t b = 0; b < s.d.batch; ++b)
    for (std::int64_t j = 0; j < s.d.cols; ++j)
      for (std::int64_t i = 0; i < s.d.rows; ++i) {
        double sum = 0, size = 0;
        for (std::int64_t k = 0; k < depth; ++k) {
          const double x = A[s.transpose_a ? s.a.at(k, i, b) : s.a.at(i, k, b)];
          const double y = B[s.transpose_b ? s.b.at(j, k, b) : s.b.at(k, j, b)];
          sum += x * y;
          size += std::abs(x * y);
        }
        const double old = C[s.c.at(i, j, b)], right = alpha * sum + (beta == 0 ? 0 : beta * old);
        const double factors = Types::compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 2 * 0x1p-10 : 0;
        const double of_sum = chosen == algorithm::split_k_in_place ? roundoff<out>() : roundoff<scale>();
        const double bound = std::abs(alpha) * size * (static_cast<double>(depth + 4) * of_sum + factors) +
                             1.01 * std::abs(right) * roundoff<out>() + 4 * roundoff<scale>() * std::abs(beta * old);
        written.insert(s.d.at(i, j, b));
        const double got = D[s.d.at(i, j, b)];
        if (!(std::abs(got - right) <= bound)) {
          CAPTURE(i);
          CAPTURE(j);
          CAPTURE(b);
          CHECK(got == right);
          return;
        }
      }
  for (std::size_t at = 0; at < D.size(); ++at)  // and nothing between the columns
    if (!written.contains(at)) CHECK(D[at] == (in_place ? C[at] : static_cast<out>(77.0f)));
}

constexpr shapes odd_shapes = {false, false, {13, 7, 16}, {7, 11, 9}, {13, 11, 13}, {13, 11, 15}};
constexpr shapes gram_shapes = {
    true, false, {70, 9, 72, 3, 700}, {70, 9, 72, 3, 700}, {9, 9, 9, 3, 90}, {9, 9, 10, 3, 91}};
constexpr shapes other_shapes = {false, true, {5, 40, 5, 2, 200}, {6, 40, 8, 2, 0}, {5, 6, 5, 2, 30}, {5, 6, 10, 2, 5}};

template <class Out>
std::vector<Out> bits_of_product(algorithm chosen, std::uint64_t seed) {
  restart(seed);
  const shape a{16, 400, 16}, b{400, 16, 400}, d{16, 16, 16};
  call_parts p = small_product(a, b, d, d, CUDA_R_16BF, data_type<Out>);
  p.choose(chosen);
  std::mt19937 random(3);
  p.a = on_device(random_values<bfloat16>(a.elements(), random));
  p.b = on_device(random_values<bfloat16>(b.elements(), random));
  const float scalars[2] = {1, 0};
  p.alpha = &scalars[0], p.beta = &scalars[1];
  REQUIRE(p.multiply() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cudaStreamSynchronize(p.stream) == cudaSuccess);
  return standin::peek(static_cast<const Out*>(p.d), d.elements());
}

}  // namespace

TEST_CASE_TEMPLATE("a product is right in every type, orientation and batch, for all algorithms", T,
                   types<bfloat16, bfloat16, CUBLAS_COMPUTE_32F>, types<bfloat16, float, CUBLAS_COMPUTE_32F>,
                   types<float16, float16, CUBLAS_COMPUTE_32F>, types<float16, float, CUBLAS_COMPUTE_32F>,
                   types<float, float, CUBLAS_COMPUTE_32F>, types<float, float, CUBLAS_COMPUTE_32F_FAST_TF32>,
                   types<double, double, CUBLAS_COMPUTE_64F>) {
  for (const shapes& s : {odd_shapes, gram_shapes, other_shapes})
    for (const algorithm a : {algorithm::plain, algorithm::workspace, algorithm::split_k, algorithm::split_k_in_place})
      for (const double beta : {0.0, -0.75}) {
        restart();
        check_product<T>(s, a, 1.5, beta);
      }
  restart();
  const shape square{16, 16, 16};
  check_product<T>({true, true, square, square, square, square}, algorithm::aligned, 1, 1, true);
}

TEST_CASE("with beta 0, C is not read") {
  restart();
  call_parts p = small_product();
  p.choose(algorithm::plain);
  p.c = on_device<float>(30);  // NaNs
  const float scalars[2] = {1, 0};
  p.alpha = &scalars[0], p.beta = &scalars[1];
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  CHECK(cudaStreamSynchronize(p.stream) == cudaSuccess);
  CHECK(value_at(static_cast<const float*>(p.d)) == 0);
}

TEST_CASE("scalars are read when the call is made, operands when the product runs, also in a graph") {
  restart();
  const shape one{1, 1, 1};
  call_parts p = small_product(one, one, one, one);
  p.choose(algorithm::plain);
  float alpha = 2, *a = on_device(std::vector<float>{3}), *d = on_device(std::vector<float>{0});
  p.a = a, p.b = on_device(std::vector<float>{5}), p.d = d, p.alpha = &alpha;
  REQUIRE(cudaStreamBeginCapture(p.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  cudaGraph_t graph{};
  cudaGraphExec_t exec{};
  REQUIRE(cudaStreamEndCapture(p.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  alpha = 100;
  for (const float x : {3.0f, 4.0f}) {
    standin::poke(a, &x, sizeof x);
    CHECK(cudaGraphLaunch(exec, p.stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(p.stream) == cudaSuccess);
    CHECK(value_at(d) == 10 * x);
  }
  CHECK(cudaFree(a) == cudaSuccess);
  CHECK(cudaGraphLaunch(exec, p.stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(p.stream) == cudaErrorIllegalAddress);
}

TEST_CASE("tf32 keeps ten bits of the factors' fractions") {
  restart();
  const shape one{1, 1, 1};
  for (const auto compute : {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32}) {
    call_parts p = small_product(one, one, one, one, CUDA_R_32F, CUDA_R_32F, compute);
    p.choose(algorithm::plain);
    const float x = 1 + 0x1p-10f + 0x1p-11f;  // what is left is cut off
    p.a = on_device(std::vector<float>{x}), p.b = on_device(std::vector<float>{1});
    CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
    CHECK(cudaStreamSynchronize(p.stream) == cudaSuccess);
    CHECK(value_at(static_cast<const float*>(p.d)) == (compute == CUBLAS_COMPUTE_32F ? x : 1 + 0x1p-10f));
  }
}

TEST_CASE("algorithms differ in bits, and only the split one in place differs from run to run") {
  std::set<std::vector<float>> all;
  for (const algorithm a : {algorithm::plain, algorithm::aligned, algorithm::workspace, algorithm::split_k}) {
    const auto bits = bits_of_product<float>(a, 0);
    for (std::uint64_t seed = 1; seed < 5; ++seed) CHECK(bits_of_product<float>(a, seed) == bits);
    all.insert(bits);
  }
  CHECK(all.size() == 4);
  all.clear();
  for (std::uint64_t seed = 0; seed < 5; ++seed) all.insert(bits_of_product<float>(algorithm::split_k_in_place, seed));
  CHECK(all.size() > 1);
}

TEST_CASE("what the workspace held is lost") {
  restart();
  call_parts p = small_product();
  p.choose(algorithm::workspace);
  const std::vector<char> zeros(100);
  standin::poke(p.workspace, zeros.data(), zeros.size());
  CHECK(p.multiply() == CUBLAS_STATUS_SUCCESS);
  CHECK(cudaStreamSynchronize(p.stream) == cudaSuccess);
  CHECK(standin::peek(static_cast<const char*>(p.workspace), 100) != zeros);
}

TEST_CASE("without an algorithm the first that needs no workspace is taken") {
  restart();
  const call_parts p = small_product();
  CHECK(p.multiply(nullptr) == CUBLAS_STATUS_SUCCESS);
  standin::set_algorithms({algorithm::workspace, algorithm::unusable});
  CHECK(p.multiply(nullptr) == CUBLAS_STATUS_NOT_SUPPORTED);
}
