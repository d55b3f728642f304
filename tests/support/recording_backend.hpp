// A backend that captures: it records the operations of a step once, with the tables that they name, and replays them
// with what slots and tables then hold. It never lets the host look in between.
#ifndef NORMUON_TESTS_SUPPORT_RECORDING_BACKEND_HPP
#define NORMUON_TESTS_SUPPORT_RECORDING_BACKEND_HPP

#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "normuon/backends/eigen.hpp"

namespace normuon::test {

// Eigen's products without the symmetric ones, which the recording backend does not have: they have other bits.
struct general_products {
  eigen_products products;

  template <class T>
  void reserve(index_t n, index_t k) {
    products.reserve<T>(n, k);
  }
  template <class T>
  void multiply(T* Y, index_t m, index_t n, index_t k, T alpha, const T* A, const T* B, bool transpose) {
    products.multiply(Y, m, n, k, alpha, A, B, transpose);
  }
};
using direct_backend = host_backend<float, general_products>;

class recording_backend {
 public:
  using real = float;
  using memory = host_memory;
  // A handle, as on a device: what is recorded names the memory, whichever object holds it at a replay.
  struct operand {
    std::shared_ptr<direct_backend::operand> memory = std::make_shared<direct_backend::operand>();
  };
  using program = std::vector<std::function<void(direct_backend&)>>;

  int recorded = 0, replayed = 0, syncs = 0;  // for tests
  bool has_room = true;                       // for what is recorded

  static constexpr bool takes(element_type t) { return direct_backend::takes(t); }
  static constexpr bool computes(compute_type t) { return direct_backend::computes(t); }
  static constexpr compute_type default_compute() { return direct_backend::default_compute(); }
  index_t run_length(const operand_shape&) const { return 3; }  // runs of several matrices, as on a GPU
  std::size_t operand_bytes(const operand_shape& s) const { return backend_.operand_bytes(s); }
  memory allocate(std::size_t bytes) { return backend_.allocate(bytes); }
  void write(void* to, const void* from, std::size_t bytes) { backend_.write(to, from, bytes); }
  void read(void* to, const void* from, std::size_t bytes) { backend_.read(to, from, bytes); }
  void sync() { ++syncs; }

  program record(auto&& task) {
    program steps;
    recording_ = &steps;
    task(*this);
    recording_ = nullptr;
    if (!has_room) throw std::bad_alloc();
    ++recorded;
    return steps;
  }
  void replay(const program& steps) {
    ++replayed;
    for (const auto& step : steps) step(backend_);
  }

  void resize(operand& X, const operand_shape& shape) {
    backend_.resize(*X.memory, shape);  // room is made now; the shape is there again at a replay
    on_replay([x = X.memory, shape](direct_backend& b) { b.resize(*x, shape); });
  }
  void all_finite(flags ok, views G, number scale) {
    on_replay([=](direct_backend& b) { b.all_finite(ok, G, scale); });
  }
  void count(slots counters, flags ok) {
    on_replay([=](direct_backend& b) { b.count(counters, ok); });
  }
  void blend(views out, number x, views A, number y, views C, flags ok) {
    on_replay([=](direct_backend& b) { b.blend(out, x, A, y, C, ok); });
  }
  void load(operand& X, views U, const norm_formula& f, slots norms, flags ok, flags sound) {
    on_replay([=, x = X.memory](direct_backend& b) { b.load(*x, U, f, norms, ok, sound); });
  }
  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    on_replay([=, y = Y.memory, a = A.memory, right = B.memory, c = C.memory](direct_backend& b) {
      b.multiply(*y, alpha, *a, *right, transpose, beta, *c);
    });
  }
  void add_identity(operand& P, double x) {
    on_replay([p = P.memory, x](direct_backend& b) { b.add_identity(*p, x); });
  }
  void mean_squares(vectors<real> r, const operand& X, side s) {
    on_replay([=, x = X.memory](direct_backend& b) { b.mean_squares(r, *x, s); });
  }
  void factors(vectors<real> v, vectors<real> f, vectors<real> r, number beta2, const factor_formula& formula,
               flags ok) {
    on_replay([=](direct_backend& b) { b.factors(v, f, r, beta2, formula, ok); });
  }
  void store_scaled(views D, vectors<real> f, const operand& X, side s, flags ok) {
    on_replay([=, x = X.memory](direct_backend& b) { b.store_scaled(D, f, *x, s, ok); });
  }
  void apply(views out, views W, views D, number rate, number decay, const update_formula& u, flags ok,
             const low_bits& low = {}) {
    on_replay([=](direct_backend& b) { b.apply(out, W, D, rate, decay, u, ok, low); });
  }
  void adamw(views out, views W, views M, views V, views G, slots counters, const adamw_numbers& k, double epsilon,
             const update_formula& u, slots norms, flags ok, const low_bits& low = {}) {
    on_replay([=](direct_backend& b) { b.adamw(out, W, M, V, G, counters, k, epsilon, u, norms, ok, low); });
  }

 private:
  // Outside a recording an operation is done at once.
  void on_replay(auto&& operation) {
    if (recording_) recording_->push_back(operation);
    else operation(backend_);
  }

  direct_backend backend_{cpu_options{.threads = 1}};
  program* recording_ = nullptr;
};

static_assert(tensor_backend<recording_backend> && has_capture<recording_backend>);

}  // namespace normuon::test

#endif
