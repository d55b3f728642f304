// A backend whose n-th operation fails: for tests of what a failure in the middle leaves behind.
#ifndef NORMUON_TESTS_SUPPORT_FAILING_BACKEND_HPP
#define NORMUON_TESTS_SUPPORT_FAILING_BACKEND_HPP

#include <atomic>
#include <memory>
#include <stdexcept>

#include "normuon/backends/eigen.hpp"

namespace normuon::test {

enum class failure {
  before,   // the operation throws and has done nothing
  after,    // it throws when it has done all of its work
  unnamed,  // as `before`, but what is thrown is no std::exception
};

// Counts the operations of all workers; the one numbered `fails_at`, from 1, throws.
struct operation_counter {
  std::atomic<int> done = 0, fails_at = 0;
  failure how = failure::before;
  index_t run_length = 1;

  template <class Act>
  void operator()(Act&& act) {
    const bool fails = ++done == fails_at;
    if (fails && how == failure::unnamed) throw 42;
    if (!fails || how == failure::after) act();
    if (fails) throw std::runtime_error("the device is gone");
  }
};

// The Eigen backend without its refinements, every call that may fail counted.
class failing_backend {
 public:
  using real = float;
  using memory = host_memory;
  using operand = eigen_backend::operand;

  failing_backend(std::shared_ptr<operation_counter> counter, int threads)
      : counter_(std::move(counter)),
        own_(std::make_unique<eigen_backend>(cpu_options{threads})),
        backend_(own_.get()) {}

  static constexpr bool is_host_memory = true;
  static constexpr bool takes(element_type t) { return eigen_backend::takes(t); }
  static constexpr bool computes(compute_type t) { return eigen_backend::computes(t); }
  static constexpr compute_type default_compute() { return eigen_backend::default_compute(); }
  index_t run_length(const operand_shape&) const { return counter_->run_length; }
  std::size_t operand_bytes(const operand_shape& s) const { return backend_->operand_bytes(s); }

  memory allocate(std::size_t bytes) {
    memory made;
    (*counter_)([&] { made = backend_->allocate(bytes); });
    return made;
  }
  void resize(operand& X, const operand_shape& shape) {
    (*counter_)([&] { backend_->resize(X, shape); });
  }
  void write(void* to, const void* from, std::size_t bytes) {
    (*counter_)([&] { backend_->write(to, from, bytes); });
  }
  void read(void* to, const void* from, std::size_t bytes) {
    (*counter_)([&] { backend_->read(to, from, bytes); });
  }
  void sync() {
    (*counter_)([&] { backend_->sync(); });
  }
  void all_finite(flags ok, views G, number scale) {
    (*counter_)([&] { backend_->all_finite(ok, G, scale); });
  }
  void count(slots counters, flags ok) {
    (*counter_)([&] { backend_->count(counters, ok); });
  }
  void blend(views out, number x, views A, number y, views B, flags ok) {
    (*counter_)([&] { backend_->blend(out, x, A, y, B, ok); });
  }
  void load(operand& X, views U, const norm_formula& f, slots norms, flags ok, flags sound) {
    (*counter_)([&] { backend_->load(X, U, f, norms, ok, sound); });
  }
  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    (*counter_)([&] { backend_->multiply(Y, alpha, A, B, transpose, beta, C); });
  }
  void add_identity(operand& P, double x) {
    (*counter_)([&] { backend_->add_identity(P, x); });
  }
  void mean_squares(vectors<real> r, const operand& X, side s) {
    (*counter_)([&] { backend_->mean_squares(r, X, s); });
  }
  void factors(vectors<real> v, vectors<real> f, vectors<real> r, number beta2, const factor_formula& formula,
               flags ok) {
    (*counter_)([&] { backend_->factors(v, f, r, beta2, formula, ok); });
  }
  void store_scaled(views D, vectors<real> f, const operand& X, side s, flags ok) {
    (*counter_)([&] { backend_->store_scaled(D, f, X, s, ok); });
  }
  void apply(views out, views W, views D, number rate, number decay, const update_formula& u, flags ok,
             const low_bits& low = {}) {
    (*counter_)([&] { backend_->apply(out, W, D, rate, decay, u, ok, low); });
  }
  void adamw(views out, views W, views M, views V, views G, slots counters, const adamw_numbers& k, double epsilon,
             const update_formula& u, slots norms, flags ok, const low_bits& low = {}) {
    (*counter_)([&] { backend_->adamw(out, W, M, V, G, counters, k, epsilon, u, norms, ok, low); });
  }

  int workers() const { return backend_->workers(); }
  template <class Task>
  void for_each(index_t count, Task&& task) {
    backend_->for_each(count, [&](eigen_backend& worker, int index, index_t i) {
      failing_backend one(counter_, worker);
      task(one, index, i);
    });
  }

 private:
  failing_backend(std::shared_ptr<operation_counter> counter, eigen_backend& worker)
      : counter_(std::move(counter)), backend_(&worker) {}

  std::shared_ptr<operation_counter> counter_;
  std::unique_ptr<eigen_backend> own_;  // none in the backend of a worker
  eigen_backend* backend_;
};

static_assert(tensor_backend<failing_backend> && has_workers<failing_backend>);

}  // namespace normuon::test

#endif
