// Products of operands by cuBLASLt, one call for all matrices of a run, and what is chosen for each: the algorithm, and
// of symmetric ones the form.
#ifndef NORMUON_BACKENDS_CUDA_PRODUCTS_HPP
#define NORMUON_BACKENDS_CUDA_PRODUCTS_HPP

#include <set>

#include "normuon/backends/cuda/choices.hpp"
#include "normuon/backends/cuda/product_plan.hpp"
#include "normuon/backends/cuda/timing.hpp"
#include "normuon/backends/cuda/triangle.hpp"

namespace normuon {

// By which of its algorithms cuBLASLt makes a product: the first that it suggests, or the fastest of them on this
// device.
enum class algorithm_choice { first, timed };

// How X X^T and polynomials of it, which are symmetric, are computed: whole, or as a block triangle and its mirror; or
// in the form that is the fastest on this device.
enum class symmetric_form { whole, triangle, timed };

struct product_options {
  algorithm_choice algorithms = algorithm_choice::first;
  symmetric_form symmetric = symmetric_form::whole;
  index_t least_block = 256;  // rows of the smallest blocks of a triangle; matrices of fewer than two are whole
  std::filesystem::path choices_file = {};  // where what was timed is kept from run to run; none: nowhere

  bool anything_timed() const { return algorithms == algorithm_choice::timed || symmetric == symmetric_form::timed; }
};

// Y <- alpha A B + beta C, with B^T where `transpose` is true.
struct product_operation {
  operand_view Y, A, B, C;
  double alpha, beta;
  const product_plan* plan;
};

// A symmetric Y as a block triangle: calls with the places, in elements, where their first products begin.
struct symmetric_plan {
  struct call {
    const product_plan* plan;
    index_t a, b, y;
  };
  std::vector<call> calls;  // none: as a whole product
};

// The lower triangle of Y <- alpha A B^T + beta C, which is symmetric; the rest is left to a mirror_operation.
struct symmetric_operation {
  operand_view Y, A, B, C;
  double alpha, beta;
  const symmetric_plan* plan;
};

class cublas_lt_products {
 public:
  // On the current device. The library may use `workspace_bytes` of memory that is owned here, so one product runs at a
  // time. What is timed is timed in `stream`, behind all that is there.
  cublas_lt_products(std::size_t workspace_bytes, const product_options& options, cudaStream_t stream)
      : options_(options),
        stream_(stream),
        handle_(make_cublas_lt()),
        workspace_(make_device_memory(workspace_bytes)),
        workspace_bytes_(workspace_bytes) {
    if (options.anything_timed()) choices_.emplace(this_device(), options.choices_file);
  }

  // The plan of a product, to which something is added where `adds` is true; made, and its algorithm chosen, where
  // there is none yet.
  const product_plan& plan_for(const operand_view& Y, const operand_view& A, const operand_view& B,
                               compute_type compute, bool transpose, bool adds) {
    return plan_for(key_of(Y, A, B, compute, transpose, adds));
  }

  // The same of a symmetric product; none where it is computed whole.
  const symmetric_plan* symmetric_plan_for(const operand_view& Y, const operand_view& A, const operand_view& B,
                                           compute_type compute, bool transpose, bool adds) {
    if (options_.symmetric == symmetric_form::whole || Y.count == 0) return nullptr;
    const product_shape_key key = key_of(Y, A, B, compute, transpose, adds);
    auto found = symmetric_plans_.find(key);
    if (found == symmetric_plans_.end()) found = symmetric_plans_.emplace(key, chosen_form(key)).first;
    return found->second.calls.empty() ? nullptr : &found->second;
  }

  void run(const product_operation& o, cudaStream_t stream) const {
    multiply(*o.plan, o.Y.data, o.alpha, o.A.data, o.B.data, o.beta, o.C.data, stream);
  }
  void run(const symmetric_operation& o, cudaStream_t stream) const {
    run(*o.plan, o.Y.type, o.Y.data, o.alpha, o.A.data, o.B.data, o.beta, o.C.data, stream);
  }

  // What products are lent besides their operands; one at a time.
  byte_range workspace() const { return {static_cast<const std::byte*>(workspace_.get()), workspace_bytes_}; }

  // What makes products in a type, with a hash of all choices by timing that are known on this device. Lives as long as
  // this.
  std::string_view path(compute_type compute) {
    std::string name = "cublasLt " + std::string(name_of(compute));
    if (options_.symmetric == symmetric_form::triangle) name += ", block triangles";
    if (choices_) name += ", timed " + product_choices::hexadecimal(choices_->hash());
    return *paths_.insert(std::move(name)).first;
  }

 private:
  static product_shape_key key_of(const operand_view& Y, const operand_view& A, const operand_view& B,
                                  compute_type compute, bool transpose, bool adds) {
    return {Y.rows,     Y.cols,     A.cols,     Y.count, A.leading, B.leading, Y.leading,
            A.stride(), B.stride(), Y.stride(), compute, Y.type,    transpose, adds};
  }

  const product_plan& plan_for(const product_shape_key& key) {
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    product_plan plan = make_plan(key);  // nothing is kept of one that fails
    choose_algorithm(plan);
    return plans_.emplace(key, std::move(plan)).first->second;
  }

  void multiply(const product_plan& p, std::byte* Y, double x, const std::byte* A, const std::byte* B, double y,
                const std::byte* C, cudaStream_t stream) const {
    const float narrow[] = {static_cast<float>(x), static_cast<float>(y)};
    const double wide[] = {x, y};
    const bool is_double = p.key.type == element_type::float64;
    const void* const alpha = is_double ? static_cast<const void*>(wide) : narrow;
    const void* const beta = is_double ? static_cast<const void*>(wide + 1) : narrow + 1;
    check(cublasLtMatmul(handle_.get(), p.desc.get(), alpha, B, p.first.get(), A, p.second.get(), beta, C,
                         p.result.get(), Y, p.result.get(), &p.algorithm, workspace_.get(), workspace_bytes_, stream),
          "cublasLtMatmul of ", p.key.text());
  }
  void run(const symmetric_plan& plan, element_type type, std::byte* Y, double alpha, const std::byte* A,
           const std::byte* B, double beta, const std::byte* C, cudaStream_t stream) const {
    const auto size = static_cast<index_t>(size_of(type));
    for (const symmetric_plan::call& c : plan.calls)
      multiply(*c.plan, Y + c.y * size, alpha, A + c.a * size, B + c.b * size, beta, C + c.y * size, stream);
  }

  void choose_algorithm(product_plan& plan) {
    const std::vector<cublasLtMatmulAlgo_t> algorithms = algorithms_for(handle_.get(), plan, workspace_bytes_);
    plan.algorithm = algorithms[0];
    if (options_.algorithms != algorithm_choice::timed || !choices_) return;
    const std::string key = plan.key.whole_text();
    if (const std::optional<std::string> known = choices_->find(key))
      for (const cublasLtMatmulAlgo_t& algorithm : algorithms)
        if (text_of(algorithm) == *known) {  // one that the library still suggests
          plan.algorithm = algorithm;
          return;
        }
    const timed_operands on(plan.key, stream_);
    double least = std::numeric_limits<double>::infinity();
    for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
      product_plan tried = make_plan(plan.key);
      tried.algorithm = algorithm;
      const double time = milliseconds_of(
          stream_, [&](cudaStream_t stream) { multiply(tried, on.Y(), 1, on.A(), on.B(), on.beta(), on.C(), stream); });
      if (time < least) least = time, plan.algorithm = algorithm;
    }
    choices_->add(key, text_of(plan.algorithm));
  }

  // A symmetric product whose blocks have at least so many rows; no calls where it would be one block.
  symmetric_plan in_blocks(product_shape_key key, index_t least) {
    symmetric_plan plan;
    const std::vector<triangle_part> parts = lower_triangle(key.m, least);
    if (parts.size() < 2) return plan;
    key.transpose = true;  // what is not transposed is symmetric itself
    const product_shape_key whole = key;
    for (const triangle_call& c : calls_for(parts, whole.count)) {
      key = whole;
      key.m = c.rows, key.n = c.cols, key.count = c.count;
      if (c.step != 0) {
        key.stride_a = c.step * key.leading_a, key.stride_b = c.step * key.leading_b;
        key.stride_y = c.step * (key.leading_y + 1);
      }
      plan.calls.push_back({&plan_for(key), c.matrix * whole.stride_a + c.row * whole.leading_a,
                            c.matrix * whole.stride_b + c.col * whole.leading_b,
                            c.matrix * whole.stride_y + c.row * whole.leading_y + c.col});
    }
    return plan;
  }

  std::string symmetric_text(const product_shape_key& key) const {
    return "symmetric, blocks from " + std::to_string(options_.least_block) + ", " + key.whole_text();
  }

  symmetric_plan chosen_form(const product_shape_key& key) {
    if (options_.symmetric == symmetric_form::triangle) return in_blocks(key, options_.least_block);
    if (lower_triangle(key.m, options_.least_block).size() < 2) return {};
    const std::string name = symmetric_text(key);
    std::vector<index_t> sizes = {key.m};  // the first: whole
    for (index_t least = options_.least_block; lower_triangle(key.m, least).size() > 1; least *= 2)
      sizes.push_back(least);
    if (const std::optional<std::string> known = choices_->find(name))
      for (const index_t least : sizes)
        if (std::to_string(least) == *known) return in_blocks(key, least);
    const timed_operands on(key, stream_);
    const product_plan& whole = plan_for(key);
    const mirror_operation mirror{{.count = key.count, .ok = {}},
                                  {on.Y(), key.type, key.m, key.n, key.count, key.leading_y}};
    double fastest = std::numeric_limits<double>::infinity();
    index_t best = key.m;
    for (const index_t least : sizes) {
      const symmetric_plan plan = in_blocks(key, least);
      const double time = milliseconds_of(stream_, [&](cudaStream_t stream) {
        if (plan.calls.empty()) return multiply(whole, on.Y(), 1, on.A(), on.B(), on.beta(), on.C(), stream);
        run(plan, key.type, on.Y(), 1, on.A(), on.B(), on.beta(), on.C(), stream);
        launch_operation(mirror, stream);
      });
      if (time < fastest) fastest = time, best = least;
    }
    choices_->add(name, std::to_string(best));
    return in_blocks(key, best);
  }

  static std::string text_of(const cublasLtMatmulAlgo_t& algorithm) {
    std::string text;
    for (const std::uint64_t word : algorithm.data) text += product_choices::hexadecimal(word);
    return text;
  }

  static std::string this_device() {
    int device = 0, runtime = 0, driver = 0;
    cudaDeviceProp properties;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    return printable(properties.name) + " with " + std::to_string(properties.multiProcessorCount) +
           " multiprocessors, cublasLt " + std::to_string(cublasLtGetVersion()) + ", runtime " +
           std::to_string(runtime) + ", driver " + std::to_string(driver);
  }

  product_options options_;
  cudaStream_t stream_;
  cublas_lt_handle handle_;
  device_memory workspace_;
  std::size_t workspace_bytes_;
  std::optional<product_choices> choices_;
  std::map<product_shape_key, product_plan> plans_;
  std::map<product_shape_key, symmetric_plan> symmetric_plans_;
  std::set<std::string> paths_;
};

}  // namespace normuon

#endif
