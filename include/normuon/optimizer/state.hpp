// State as plain tensors: what is exported and imported, by name.
#ifndef NORMUON_OPTIMIZER_STATE_HPP
#define NORMUON_OPTIMIZER_STATE_HPP

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "normuon/optimizer/parameter.hpp"
#include "normuon/shards/plan/matrices.hpp"

namespace normuon {

// A tensor of any rank, row-major, or what this rank keeps of one. State of type float is held exactly.
struct named_tensor {
  std::string name;  // a parameter's, with ".step", ".momentum", ".second_moment" or ".master" behind it
  std::vector<index_t> shape;
  std::vector<double> values;
  std::vector<index_t> start = {};  // where it begins in a tensor of shape `whole`, of which other ranks keep the rest;
  std::vector<index_t> whole = {};  // both empty: it is whole
};

// The same without its numbers, and the type in which they are kept.
struct listed_tensor {
  std::string name;
  element_type type = element_type::float64;
  std::vector<index_t> shape;
  std::vector<index_t> start = {}, whole = {};

  std::size_t count() const {
    index_t count = 1;
    for (const index_t extent : shape) count *= extent;
    return static_cast<std::size_t>(count);
  }
};

// And where in a parameter's state it lies: reals behind the counter.
struct state_tensor : listed_tensor {
  index_t place = 0;
  bool by_columns = false;

  // Where its number i lies, of the row-major tensor.
  index_t real_of(index_t i) const {
    if (!by_columns) return place + i;
    const index_t rows = shape[shape.size() - 2], cols = shape.back(), within = i % (rows * cols);
    return place + i - within + within % cols * rows + within / cols;
  }
};

// For messages: "[2, 3]", or "[2, 3] at [4, 0] of [8, 3]".
inline std::string shape_text(const std::vector<index_t>& extents) {
  std::string s = "[";
  for (const index_t extent : extents) s += (s.size() > 1 ? ", " : "") + std::to_string(extent);
  return s + "]";
}
template <class Tensor>
std::string place_of(const Tensor& t) {
  return shape_text(t.shape) + (t.whole.empty() ? "" : " at " + shape_text(t.start) + " of " + shape_text(t.whole));
}

// What a parameter's state holds behind its counter: reals from `place` on, of the weight's shape or one per neuron.
struct state_kind {
  const char* suffix;
  index_t place;
  bool per_neuron = false;
  index_t neurons = 0;
  bool is_master = false;
};

// momentum: the weight's shape;   second_moment: one number per neuron (matrix rules; none for Muon), or per element
// (AdamW);   master: the weight's shape, where it has one.
template <tensor_backend B>
std::vector<state_kind> kinds_of_state(const parameter<B>& p, const group& g) {
  std::vector<state_kind> kinds{{".momentum", 0}};
  const index_t behind_momentum = p.elements_here();
  const auto* const o = std::get_if<normuon_options>(&g.options);
  if (!o) kinds.push_back({".second_moment", behind_momentum});
  else if (o->neuron_axis != neuron_axis::none)
    kinds.push_back({".second_moment", behind_momentum, true, neuron_count(o->neuron_axis, p.rows, p.cols)});
  if (p.has_master)
    kinds.push_back({.suffix = ".master", .place = p.state.master() - p.state.momentum(), .is_master = true});
  return kinds;
}

// The tensors that hold what rank `rank` keeps of the state of `p`: the step, one number, then its kinds, second
// moments of neurons where it is their owner. The shapes of a batch begin with its length.
template <tensor_backend B>
std::vector<state_tensor> state_tensors(const parameter<B>& p, const group& g, int rank) {
  std::vector<state_tensor> tensors;
  const auto add = [&](const char* suffix, std::vector<index_t> start, std::vector<index_t> shape,
                       std::vector<index_t> all, index_t place, bool is_all) -> state_tensor& {
    if (p.batch == 1)
      for (auto* extents : {&start, &shape, &all}) extents->erase(extents->begin());
    state_tensor t;
    t.name = p.name + suffix;
    t.type = element_type_of<typename B::real>;
    t.shape = std::move(shape);
    if (!is_all) t.start = std::move(start), t.whole = std::move(all);
    t.place = place;
    return tensors.emplace_back(std::move(t));
  };
  const auto is_mine = [&](int owner) { return owner == rank || owner == no_owner; };  // none: it is empty
  tensors.push_back({{p.name + ".step", element_type::float64, {1}}, -1});
  for (const state_kind& kind : kinds_of_state(p, g)) {
    const index_t n = kind.neurons;
    if (!kind.per_neuron) {
      for (const parameter_part& a : p.parts)
        add(kind.suffix, {0, a.where.row, a.where.col}, {p.batch, a.where.rows, a.where.cols},
            {p.batch, p.rows, p.cols}, kind.place + a.before, p.is_whole_here())
            .by_columns = kind.is_master ? a.has_master_by_columns : a.has_moments_by_columns;
    } else if (std::all_of(p.owners.begin(), p.owners.end(), is_mine)) {
      add(kind.suffix, {0, 0}, {p.batch, n}, {p.batch, n}, kind.place, true);
    } else {
      for (index_t b = 0; b < p.batch; ++b)
        if (is_mine(p.owners[static_cast<std::size_t>(b)]))
          add(kind.suffix, {b, 0}, {1, n}, {p.batch, n}, kind.place + b * n, false);
    }
  }
  return tensors;
}

// The tensors of all ranks together, in the same order.
template <tensor_backend B>
std::vector<listed_tensor> whole_state(const parameter<B>& p, const group& g) {
  std::vector<listed_tensor> tensors = {{p.name + ".step", element_type::float64, {1}}};
  for (const state_kind& kind : kinds_of_state(p, g)) {
    std::vector<index_t> shape = kind.per_neuron ? std::vector{kind.neurons} : std::vector{p.rows, p.cols};
    if (p.batch != 1) shape.insert(shape.begin(), p.batch);
    tensors.push_back({p.name + kind.suffix, element_type_of<typename B::real>, std::move(shape)});
  }
  return tensors;
}

// Throws where `given` is not a possible value of `expected`: another shape, a negative second moment, or a step that
// is no whole number >= 0. Moments may hold a NaN or an infinity, as a step may have left them (see outcome and
// non_finite_policy).
inline void validate_state(const listed_tensor& expected, const named_tensor& given) {
  if (given.shape != expected.shape || given.values.size() != expected.count() || given.start != expected.start ||
      given.whole != expected.whole)
    fail(error_code::state, "state '", expected.name, "': expected shape ", place_of(expected), " with ",
         expected.count(), " values, got ", place_of(given), " with ", given.values.size());
  const bool is_step = expected.name.ends_with(".step"), is_second = expected.name.ends_with(".second_moment");
  for (const double x : given.values) {
    if (is_step && !is_finite(x))
      fail(error_code::state, "state '", expected.name, "': expected finite values, got ", x);
    if ((is_step || is_second) && (is_finite(x) ? x < 0 : x == -HUGE_VAL))
      fail(error_code::state, "state '", expected.name, "': expected values >= 0, got ", x);
    if (is_step && (x > 0x1p53 || x != static_cast<double>(static_cast<std::int64_t>(x))))
      fail(error_code::state, "state '", expected.name, "': expected a whole number up to 2^53, got ", x);
  }
}

// Copies state of `p`, whose state_tensors are `placed`, from the device.
template <tensor_backend B>
std::vector<named_tensor> read_state(B& b, const parameter<B>& p, const std::vector<state_tensor>& placed) {
  using real = typename B::real;
  std::vector<named_tensor> tensors;
  for (const state_tensor& t : placed)
    tensors.push_back({t.name, t.shape, std::vector<double>(t.count()), t.start, t.whole});
  std::vector<real> reals(static_cast<std::size_t>(p.state.real_count()));
  b.read(tensors[0].values.data(), p.state.counter(), sizeof(double));
  b.read(reals.data(), p.state.momentum(), reals.size() * sizeof(real));
  b.sync();
  for (std::size_t i = 1; i < tensors.size(); ++i)
    for (std::size_t k = 0; k < tensors[i].values.size(); ++k)
      tensors[i].values[k] = reals[static_cast<std::size_t>(placed[i].real_of(static_cast<index_t>(k)))];
  return tensors;
}

// State of one parameter, checked and converted, waiting to be written. What this rank does not keep is zero.
template <class Real>
struct staged_state {
  double step = 0;
  std::vector<Real> reals;  // as they lie in parameter_state
};

// Checks `given`, the tensors of `p` in the order of `expected`, its state_tensors. Writes nothing.
template <tensor_backend B>
staged_state<typename B::real> stage_state(const parameter<B>& p, const std::vector<state_tensor>& expected,
                                           const std::vector<const named_tensor*>& given) {
  using real = typename B::real;
  staged_state<real> staged;
  for (std::size_t i = 0; i < expected.size(); ++i) validate_state(expected[i], *given[i]);
  staged.step = given[0]->values[0];
  staged.reals.resize(static_cast<std::size_t>(p.state.real_count()));
  for (std::size_t i = 1; i < expected.size(); ++i) {
    index_t k = 0;
    for (const double x : given[i]->values) {
      staged.reals[static_cast<std::size_t>(expected[i].real_of(k++))] = static_cast<real>(x);
      if (is_finite(x) && !is_finite(static_cast<real>(x)))
        fail(error_code::state, "state '", expected[i].name, "': ", x, " is out of range");
    }
  }
  return staged;
}

// Tensors that are to become the state of some parameters.
class given_state {
 public:
  // Throws where one is there twice.
  explicit given_state(const std::vector<named_tensor>& tensors) {
    for (const named_tensor& t : tensors)
      if (!tensors_.emplace(place(t.name, t.start), &t).second)
        fail(error_code::state, "state '", t.name, "' is there twice");
  }

  // Those of `p`, whose state_tensors are `expected`. Throws where one is missing or doesn't fit.
  template <tensor_backend B>
  staged_state<typename B::real> stage(const parameter<B>& p, const std::vector<state_tensor>& expected) {
    std::vector<const named_tensor*> mine;
    for (const state_tensor& e : expected) {
      const auto found = tensors_.find(place(e.name, e.start));
      if (found == tensors_.end())
        fail(error_code::state, "expected state '", e.name, "'", e.whole.empty() ? "" : " " + place_of(e),
             ", got none");
      mine.push_back(found->second);
    }
    used_ += expected.size();
    return stage_state(p, expected, mine);
  }
  void require_used() const {
    if (used_ != tensors_.size())
      fail(error_code::state, "expected ", used_, " tensors of state, got ", tensors_.size(),
           ": some belong to no parameter");
  }

 private:
  using place = std::pair<std::string_view, std::vector<index_t>>;
  std::map<place, const named_tensor*> tensors_;
  std::size_t used_ = 0;
};

template <tensor_backend B>
void write_state(B& b, const parameter<B>& p, const staged_state<typename B::real>& staged) {
  using real = typename B::real;
  b.write(p.state.counter(), &staged.step, sizeof(double));
  b.write(p.state.momentum(), staged.reals.data(), staged.reals.size() * sizeof(real));
  b.sync();
}

}  // namespace normuon

#endif
