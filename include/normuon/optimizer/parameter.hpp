// A group and a parameter, as the optimizer keeps them: what the user bound, and the state that belongs to a name.
#ifndef NORMUON_OPTIMIZER_PARAMETER_HPP
#define NORMUON_OPTIMIZER_PARAMETER_HPP

#include <string>
#include <variant>
#include <vector>

#include "normuon/rules/adamw.hpp"
#include "normuon/rules/muon.hpp"
#include "normuon/rules/normuon.hpp"
#include "normuon/shards/layout.hpp"

namespace normuon {

// Factors on what `set_learning_rate` and `set_weight_decay` give a group, so that one schedule can serve several.
struct group_factors {
  double learning_rate = 1;
  double weight_decay = 1;
};

using group_options = std::variant<normuon_options, adamw_options>;  // Muon is NorMuon without a neuron axis

// The numbers of a group that may change from step to step.
struct group_numbers {
  double learning_rate, momentum, beta2, weight_decay;
};

struct group {
  group_options options;  // as they are now
  std::string_view rule;
  group_factors factors;
  group_options given = {};  // as they were when the group was added

  bool is_matrix_rule() const { return std::holds_alternative<normuon_options>(options); }
  normuon::weight_rounding weight_rounding() const {
    return std::visit([](const auto& o) { return o.weight_rounding; }, options);
  }
  // Whether weights of such a type have a master in the type of state.
  bool keeps_master(element_type weight) const {
    return weight_rounding() == weight_rounding::master && size_of(weight) == 2;
  }

  group_numbers numbers() const {
    return std::visit(
        [](const auto& o) {
          return group_numbers{o.learning_rate, o.momentum, o.beta2, o.weight_decay};
        },
        options);
  }
  void set_numbers(const group_numbers& n) {
    std::visit(
        [&](auto& o) {
          o.learning_rate = n.learning_rate;
          o.momentum = n.momentum;
          o.beta2 = n.beta2;
          o.weight_decay = n.weight_decay;
        },
        options);
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

// Throws where an option is out of its range, or a number that steps use does not fit Real, the type of state. A rate
// may vanish there, as at the end of a schedule; a gradient times its scale may not, for then there would be none.
template <class Real>
void validate_numbers(const group& g, double gradient_scale) {
  std::visit([](const auto& o) { validate(o); }, g.options);
  const step_values values = g.values(gradient_scale);
  validate_fits<Real>("learning_rate, times its factor", values.rate);
  validate_fits<Real>("learning_rate * weight_decay, times their factors", values.decay);
  validate_not_lost<Real>("gradient_scale, times 1 - momentum", values.take);
  if (const auto* o = std::get_if<adamw_options>(&g.options)) {
    validate_fits<Real>("epsilon", o->epsilon);
    validate_not_lost<Real>("epsilon", o->epsilon);
  }
}

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

// What this rank holds of a parameter: a rectangle of each of its matrices.
struct parameter_part {
  rectangle where;
  bound_matrix weight, gradient = {}, change = {};
  index_t before = 0;  // elements of the parts before it: its momentum and master lie behind theirs

  bool has_master_by_columns = false, has_moments_by_columns = false;

  // Says how state is to lie, before there is any. As the weight does now, so that passes over both are quick; but M of
  // a matrix rule by rows, as U, whose norm is summed so.
  void order_state(bool of_matrix_rule) {
    has_master_by_columns = weight.first.is_stored_by_columns();
    has_moments_by_columns = has_master_by_columns && !of_matrix_rule;
  }

  // Its matrix `entry` of a batch in moments that have the shape of the weight, or in masters, which begin at `base`.
  template <class Real>
  matrix_view moments_view(Real* base, index_t entry) const {
    return view_of(base, entry, has_moments_by_columns);
  }
  template <class Real>
  matrix_view master_view(Real* base, index_t entry) const {
    return view_of(base, entry, has_master_by_columns);
  }
  template <class Real>
  matrix_view view_of(Real* base, index_t entry, bool by_columns) const {
    Real* const first = base + before + entry * where.elements();
    return by_columns ? column_major(first, where.rows, where.cols) : row_major(first, where.rows, where.cols);
  }
};

template <tensor_backend B>
struct parameter {
  std::string name;
  int group = 0;
  index_t rows = 0, cols = 0, batch = 0;      // of the whole, wherever it is
  element_type type = element_type::float32;  // of the weight
  layout how = layout::replicated();
  std::vector<parameter_part> parts = {};
  std::vector<int> owners = {};  // of each matrix: who keeps v. None while nobody has asked, nor of an elementwise rule
  bool frozen = false;
  bool has_master = false;
  bool has_gradient = false;
  parameter_state<B> state = {};

  index_t elements() const { return rows * cols * batch; }
  index_t elements_here() const { return parts.empty() ? 0 : parts.back().before + parts.back().weight.elements(); }
  // A replicated parameter is whole on every rank.
  bool is_whole_here() const { return elements_here() == elements(); }
  // Whether U or D of a matrix rule moves between ranks.
  bool travels(int ranks) const { return batch != 0 && how.travels(rows, cols, ranks); }

  random_stream stream(std::uint64_t seed, const rectangle& area, index_t entry) const {
    return {random_key(seed, name), (entry * rows + area.row) * cols + area.col, cols};
  }
};

}  // namespace normuon

#endif
