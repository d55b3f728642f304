// A group and a parameter, as the optimizer keeps them: what the user bound, and the state that belongs to a name.
#ifndef NORMUON_OPTIMIZER_PARAMETER_HPP
#define NORMUON_OPTIMIZER_PARAMETER_HPP

#include <string>
#include <variant>

#include "normuon/rules/adamw.hpp"
#include "normuon/rules/muon.hpp"
#include "normuon/rules/normuon.hpp"

namespace normuon {

// Factors on what `set_learning_rate` and `set_weight_decay` give a group, so that one schedule can serve several.
struct group_factors {
  double learning_rate = 1;
  double weight_decay = 1;
};

struct group {
  std::variant<normuon_options, adamw_options> options;  // Muon is NorMuon without a neuron axis
  std::string_view rule;
  group_factors factors;

  bool is_matrix_rule() const { return std::holds_alternative<normuon_options>(options); }
  normuon::weight_rounding weight_rounding() const {
    return std::visit([](const auto& o) { return o.weight_rounding; }, options);
  }
  // Whether weights of such a type have a master in the type of state.
  bool keeps_master(element_type weight) const {
    return weight_rounding() == weight_rounding::master && size_of(weight) == 2;
  }

  step_values values(double gradient_scale) const {
    return std::visit(
        [&](const auto& o) {
          constexpr bool adam = std::is_same_v<decltype(o), const adamw_options&>;
          const double rate = o.learning_rate * factors.learning_rate;
          step_values v{.keep = o.momentum, .beta2 = o.beta2, .rate = rate, .gradient_scale = gradient_scale};
          v.decay = rate * o.weight_decay * factors.weight_decay;
          if constexpr (!adam) v.take = gradient_share(o.momentum_form, o.momentum, gradient_scale);
          return v;
        },
        options);
  }
};

// A matrix_ref with its type as a value: a batch of views.
struct bound_matrix {
  matrix_view first;
  index_t batch = 0;  // 0: nothing is bound
  index_t batch_stride = 0;

  bound_matrix() = default;
  template <class T>
  bound_matrix(const matrix_ref<T>& ref) : first(ref), batch(ref.batch), batch_stride(ref.batch_stride) {}

  matrix_view one(index_t b) const {
    matrix_view v = first;
    v.data = static_cast<char*>(v.data) + b * batch_stride * static_cast<index_t>(size_of(v.type));
    return v;
  }
  index_t elements() const { return batch * first.rows * first.cols; }
};

// For messages: "3 x 4", or "2 of 3 x 4" where it is no single matrix.
inline std::string sizes_of(const bound_matrix& m) {
  const std::string one = std::to_string(m.first.rows) + " x " + std::to_string(m.first.cols);
  return m.batch == 1 ? one : std::to_string(m.batch) + " of " + one;
}

// For messages: the types of weights and gradients that a backend takes.
template <tensor_backend B>
std::string types_taken_by() {
  std::string list;
  for (const element_type type :
       {element_type::float64, element_type::float32, element_type::bfloat16, element_type::float16})
    if (B::takes(type)) list += (list.empty() ? "" : ", ") + std::string(name_of(type));
  return list;
}

// What a view is bound as: a word for messages, the error of a view that can't be taken, and whether a step writes it.
struct binding_kind {
  std::string_view what;
  error_code code;
  bool written;
};
inline constexpr binding_kind weight_binding{"weight", error_code::parameter, true},
    gradient_binding{"gradient", error_code::gradient, false}, change_binding{"change", error_code::gradient, true};

// Throws where `m` can't be walked: negative sizes, no memory, sizes beyond 64 bits, or, if it is written, elements
// that share memory through a stride of 0.
inline void validate_view(const std::string& name, const binding_kind& as, const bound_matrix& m) {
  const auto refuse = [&](const auto&... why) { fail(as.code, as.what, " of '", name, "': ", why...); };
  const matrix_view& v = m.first;
  if (v.rows < 0 || v.cols < 0 || m.batch < 0) refuse("expected sizes >= 0, got ", sizes_of(m));
  index_t elements = 0, bytes = 0;
  if (__builtin_mul_overflow(v.rows, v.cols, &elements) || __builtin_mul_overflow(elements, m.batch, &elements) ||
      __builtin_mul_overflow(elements, index_t{16}, &bytes))
    refuse("expected sizes that fit 64 bits, got ", sizes_of(m));
  if (elements == 0) return;
  if (v.data == nullptr) refuse("expected memory for ", elements, " elements, got a null pointer");
  if (as.written &&
      ((v.rows > 1 && v.row_stride == 0) || (v.cols > 1 && v.col_stride == 0) || (m.batch > 1 && m.batch_stride == 0)))
    refuse("expected elements of their own, got a stride of 0");
}

// Entries of v per matrix.
constexpr index_t neuron_count(neuron_axis axis, index_t rows, index_t cols) {
  switch (axis) {
    case neuron_axis::rows: return rows;
    case neuron_axis::columns: return cols;
    case neuron_axis::longer: return rows > cols ? rows : cols;
    case neuron_axis::none: break;
  }
  return 0;
}

// `longer` decided for a shape; square matrices use rows, as modded-nanogpt does.
constexpr neuron_axis axis_for(neuron_axis axis, index_t rows, index_t cols) {
  if (axis != neuron_axis::longer) return axis;
  return rows >= cols ? neuron_axis::rows : neuron_axis::columns;
}

// The state of one parameter in one piece of the backend's memory: a counter of steps, M, v, then the weight's master.
template <tensor_backend B>
class parameter_state {
 public:
  using real = typename B::real;

  parameter_state() = default;
  parameter_state(B& b, index_t momentum, index_t second, index_t master = 0)
      : memory_(b.allocate(counter_bytes + static_cast<std::size_t>(momentum + second + master) * sizeof(real))),
        momentum_(momentum),
        second_(second),
        master_(master) {}

  slot counter() const { return address_of<double>(memory_.data()); }
  real* momentum() const { return address_of<real>(memory_.data() + counter_bytes); }
  real* second() const { return momentum() + momentum_; }
  real* master() const { return second() + second_; }
  index_t real_count() const { return momentum_ + second_ + master_; }
  std::size_t bytes() const { return memory_.size(); }

 private:
  static constexpr std::size_t counter_bytes = 64;  // M starts on a cache line
  typename B::memory memory_;
  index_t momentum_ = 0, second_ = 0, master_ = 0;
};

template <tensor_backend B>
struct parameter {
  std::string name;
  int group = 0;
  bound_matrix weight = {}, gradient = {}, change = {};
  bool frozen = false;
  bool has_master = false;
  parameter_state<B> state = {};

  bool has_gradient() const { return gradient.batch != 0; }
};

}  // namespace normuon

#endif
