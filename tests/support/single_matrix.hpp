// One matrix through the library: through the iteration alone, or through an optimizer, step by step.
#ifndef NORMUON_TESTS_SUPPORT_SINGLE_MATRIX_HPP
#define NORMUON_TESTS_SUPPORT_SINGLE_MATRIX_HPP

#include "normuon/backends/eigen.hpp"
#include "normuon/optimizer.hpp"
#include "support/matrix.hpp"

namespace normuon::test {

template <element T>
std::vector<T> elements_of(const matrix& A) {
  std::vector<T> out;
  for (const double x : A.values) out.push_back(static_cast<T>(x));
  return out;
}
template <class T>
matrix matrix_of(index_t m, index_t n, const std::vector<T>& elements) {
  matrix A(m, n);
  for (std::size_t k = 0; k < elements.size(); ++k) A.values[k] = static_cast<double>(elements[k]);
  return A;
}

// O of the iteration, which runs in o.compute on a backend of one thread.
template <tensor_backend B>
matrix orthogonalized(const matrix& U, const orthogonalizer_options& o, const published_epsilons& published = {}) {
  using real = typename B::real;
  B b({.threads = 1});
  std::vector<real> u = elements_of<real>(U), d(u.size());
  std::vector<real> ones(static_cast<std::size_t>(U.rows), real(1));
  double norm_slot = 0, ok_slot = 1, sound_slot = 1;
  const slot norms[] = {&norm_slot}, ok[] = {&ok_slot}, sound[] = {&sound_slot};
  const matrix_view from[] = {row_major(u.data(), U.rows, U.cols)}, to[] = {row_major(d.data(), U.rows, U.cols)};
  real* const factors[] = {ones.data()};
  iteration_workspace<B> work;
  newton_schulz(b, work, decide<B>(o, published, U.rows, U.cols), from, norms, ok, sound);
  b.store_scaled(to, {factors, U.rows}, work.X, side_of_neurons(neuron_axis::rows, U.rows, U.cols), ok);
  return matrix_of(U.rows, U.cols, d);
}

// A backend of one thread, or what the backend is if it has none.
template <tensor_backend B>
B plainest() {
  if constexpr (std::is_constructible_v<B, const cpu_options&>) return B(cpu_options{.threads = 1});
  else return B();
}

// A weight of type T and its gradient of type G in an optimizer of their own, in the backend's memory.
template <tensor_backend B, element T = typename B::real, element G = T>
class single_matrix {
 public:
  template <class Options>
  single_matrix(const Options& options, const matrix& weight, optimizer_options settings = {})
      : opt(plainest<B>(), settings),
        group(opt.add_group(options)),
        rows_(weight.rows),
        cols_(weight.cols),
        weight_(opt.backend().allocate(weight.values.size() * sizeof(T))),
        gradient_(opt.backend().allocate(weight.values.size() * sizeof(G))) {
    reset(weight);
    opt.add_parameter(group, "w", row_major(address_of<T>(weight_.data()), rows_, cols_),
                      row_major(address_of<G>(gradient_.data()), rows_, cols_));
  }
  single_matrix(const single_matrix&) = delete;
  single_matrix& operator=(const single_matrix&) = delete;

  void step(const matrix& gradient) {
    write(gradient_, elements_of<G>(gradient));
    opt.step();
  }

  void reset(const matrix& weight) { write(weight_, elements_of<T>(weight)); }

  matrix weight() {
    std::vector<T> elements(static_cast<std::size_t>(rows_ * cols_));
    opt.backend().read(elements.data(), weight_.data(), elements.size() * sizeof(T));
    opt.backend().sync();
    return matrix_of(rows_, cols_, elements);
  }
  matrix momentum() { return {rows_, cols_, state(".momentum")}; }
  std::vector<double> second_moment() { return state(".second_moment"); }

  optimizer<B> opt;
  const group_id group;

 private:
  template <class E>
  void write(const typename B::memory& to, const std::vector<E>& elements) {
    opt.backend().write(to.data(), elements.data(), elements.size() * sizeof(E));
  }
  std::vector<double> state(const std::string& suffix) {
    for (named_tensor& t : opt.export_state("w"))
      if (t.name == "w" + suffix) return std::move(t.values);
    return {};
  }

  index_t rows_, cols_;
  typename B::memory weight_, gradient_;
};

// What a rule makes of a weight and a history of gradients.
struct trained {
  matrix W, M;
  std::vector<double> v;
  friend bool operator==(const trained&, const trained&) = default;
};

template <tensor_backend B, class Options>
trained train(const Options& o, const matrix& W, const std::vector<matrix>& history) {
  single_matrix<B> w(o, W);
  for (const matrix& G : history) w.step(G);
  return {w.weight(), w.momentum(), w.second_moment()};
}

}  // namespace normuon::test

#endif
