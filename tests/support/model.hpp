// A small model for tests: parameters of every rule, weights and gradients of type T that the model owns, and gradients
// that depend on the step alone. And the rules, each under a name.
#ifndef NORMUON_TESTS_SUPPORT_MODEL_HPP
#define NORMUON_TESTS_SUPPORT_MODEL_HPP

#include <cstring>
#include <string>
#include <variant>
#include <vector>

#include "normuon/optimizer.hpp"
#include "support/matrix.hpp"

namespace normuon::test {

using any_options = std::variant<normuon_options, muon_options, adamw_options>;

struct named_rule {
  std::string name;  // doctest prints a char pointer as an address
  any_options options;

  bool is_matrix_rule() const { return !std::holds_alternative<adamw_options>(options); }
};

// Every preset, and what no preset does: the Gram form whatever the shape, cautious AdamW, bfloat16 iterations.
inline std::vector<named_rule> all_rules() {
  normuon_options gram = normuon_options::paper();
  gram.orthogonalizer.form = iteration_form::gram;
  normuon_options narrow = normuon_options::reference();
  narrow.orthogonalizer.compute = compute_type::bfloat16;
  return {{"paper", normuon_options::paper()},
          {"reference", normuon_options::reference()},
          {"nanogpt", normuon_options::nanogpt()},
          {"dion", normuon_options::dion()},
          {"jordan", muon_options::jordan()},
          {"moonlight", muon_options::moonlight()},
          {"torch_muon", muon_options::torch_muon()},
          {"gram", gram},
          {"bfloat16", narrow},
          {"adamw", adamw_options{}},
          {"cautious adamw", adamw_options{.weight_decay = 0.1, .decay = decay_form::cautious}}};
}

// The same, with another rounding of weights of 16 bits.
inline any_options with_rounding(weight_rounding rounding, any_options options) {
  std::visit([&](auto& o) { o.weight_rounding = rounding; }, options);
  return options;
}

template <class Optimizer>
group_id add_group(Optimizer& opt, const any_options& options) {
  return std::visit([&](const auto& o) { return opt.add_group(o); }, options);
}

// Makes `steps` steps by a rule, on one thread, of the parameters that `bind(optimizer, group)` adds.
template <tensor_backend B, class Bind>
void make_steps(const any_options& options, int steps, Bind&& bind) {
  optimizer<B> opt(B({.threads = 1}));
  bind(opt, add_group(opt, options));
  for (int step = 0; step < steps; ++step) opt.step();
}

template <element T>
std::vector<T> random_elements(std::uint64_t seed, std::size_t count) {
  random_source random(seed);
  std::vector<T> out;
  for (std::size_t k = 0; k < count; ++k) out.push_back(static_cast<T>(static_cast<float>(random.normal())));
  return out;
}

// `batch` row-major matrices, one after the other.
template <element T>
struct owned_parameter {
  std::string name;
  any_options options;
  index_t rows, cols, batch;
  std::vector<T> weight, gradient, change;

  owned_parameter(std::string n, const any_options& o, index_t r, index_t c, index_t b = 1)
      : name(std::move(n)), options(o), rows(r), cols(c), batch(b), weight(size()), gradient(size()), change(size()) {}

  std::size_t size() const { return static_cast<std::size_t>(batch * rows * cols); }
  template <class E>
  matrix_ref<E> view(E* data) const {
    return batched(row_major(data, rows, cols), batch, rows * cols);
  }
};

template <element T>
class model {
 public:
  std::vector<owned_parameter<T>> parameters;

  explicit model(std::vector<owned_parameter<T>> all) : parameters(std::move(all)) {
    random_source random(1);
    for (auto& p : parameters)
      for (T& w : p.weight) w = static_cast<T>(static_cast<float>(random.normal()));
  }
  model(const model&) = delete;
  model& operator=(const model&) = delete;

  // In one group each, gradients and change buffers bound.
  template <class Optimizer>
  void add_to(Optimizer& opt) {
    for (auto& p : parameters) {
      opt.add_parameter(add_group(opt, p.options), p.name, p.view(p.weight.data()), gradient_of(p));
      opt.bind_change(p.name, p.view(p.change.data()));
    }
  }
  static matrix_ref<const T> gradient_of(const owned_parameter<T>& p) { return p.view(p.gradient.data()); }

  void make_gradients(int step) {
    random_source random(100 + static_cast<std::uint64_t>(step));
    for (auto& p : parameters)
      for (T& g : p.gradient) g = static_cast<T>(static_cast<float>(random.normal()));
  }

  std::vector<std::vector<T>> weights() const {
    std::vector<std::vector<T>> all;
    for (const auto& p : parameters) all.push_back(p.weight);
    return all;
  }
  void set_weights(const std::vector<std::vector<T>>& all) {
    for (std::size_t i = 0; i < all.size(); ++i)
      std::copy(all[i].begin(), all[i].end(), parameters[i].weight.begin());  // in place: views stay valid
  }
};

// Wide, tall, square, thin and empty matrices, a batch, and a vector.
template <element T>
model<T> mixed_model() {
  return model<T>({{"wide", normuon_options::paper(), 5, 12},
                   {"tall", normuon_options::nanogpt(), 12, 5},
                   {"batch", normuon_options::reference(), 6, 6, 3},
                   {"muon", muon_options::moonlight(), 4, 7},
                   {"column", muon_options::jordan(), 9, 1},
                   {"empty", normuon_options::dion(), 0, 4},
                   {"vector", adamw_options{}, 1, 11}});
}

// Equal bit for bit, NaN and the sign of zero included.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class T>
bool same_bits(const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return same_bits(x, y); });
}
inline bool same_bits(const std::vector<named_tensor>& a, const std::vector<named_tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const named_tensor& x, const named_tensor& y) {
    return x.name == y.name && x.shape == y.shape && same_bits(x.values, y.values);
  });
}

}  // namespace normuon::test

#endif
