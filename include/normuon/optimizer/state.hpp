// State as plain tensors: what is exported and imported, by name.
#ifndef NORMUON_OPTIMIZER_STATE_HPP
#define NORMUON_OPTIMIZER_STATE_HPP

#include <cmath>
#include <string>
#include <vector>

#include "normuon/optimizer/parameter.hpp"

namespace normuon {

// A tensor of any rank, row-major. State of type float is held exactly.
struct named_tensor {
  std::string name;  // a parameter's, with ".step", ".momentum", ".second_moment" or ".master" behind it
  std::vector<index_t> shape;
  std::vector<double> values;
};

// The same without its numbers, and the type in which they are kept.
struct listed_tensor {
  std::string name;
  element_type type = element_type::float64;
  std::vector<index_t> shape;

  std::size_t count() const {
    index_t count = 1;
    for (const index_t extent : shape) count *= extent;
    return static_cast<std::size_t>(count);
  }
};

// The tensors that hold the state of `p`.   momentum: the weight's shape; second_moment: one number per neuron (matrix
// rules; none for Muon) or per element (AdamW);   step: one number;   master: the weight's shape, where it has one. The
// shapes of a batch begin with its length.
template <tensor_backend B>
std::vector<listed_tensor> state_tensors(const parameter<B>& p, const group& g) {
  const auto shaped = [&](const char* suffix, std::vector<index_t> shape) {
    if (p.weight.batch != 1) shape.insert(shape.begin(), p.weight.batch);
    return listed_tensor{p.name + suffix, element_type_of<typename B::real>, std::move(shape)};
  };
  const index_t m = p.weight.first.rows, n = p.weight.first.cols;
  std::vector<listed_tensor> tensors;
  tensors.push_back({p.name + ".step", element_type::float64, {1}});
  tensors.push_back(shaped(".momentum", {m, n}));
  if (!g.is_matrix_rule()) tensors.push_back(shaped(".second_moment", {m, n}));
  else if (const neuron_axis axis = std::get<normuon_options>(g.options).neuron_axis; axis != neuron_axis::none)
    tensors.push_back(shaped(".second_moment", {neuron_count(axis, m, n)}));
  if (p.has_master) tensors.push_back(shaped(".master", {m, n}));
  return tensors;
}

// Throws where `given` is not a possible value of `expected`: another shape, a negative second moment, or a step that
// is no whole number >= 0. Moments may hold a NaN or an infinity, as a step may have left them (see outcome and
// non_finite_policy).
inline void validate_state(const listed_tensor& expected, const named_tensor& given) {
  const auto text = [](const std::vector<index_t>& shape) {
    std::string s = "[";
    for (const index_t extent : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(extent);
    return s + "]";
  };
  if (given.shape != expected.shape || given.values.size() != expected.count())
    fail(error_code::state, "state '", expected.name, "': expected shape ", text(expected.shape), " with ",
         expected.count(), " values, got ", text(given.shape), " with ", given.values.size());
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

// Copies the state of `p`, whose state_tensors are `listed`, from the device.
template <tensor_backend B>
std::vector<named_tensor> read_state(B& b, const parameter<B>& p, const std::vector<listed_tensor>& listed) {
  using real = typename B::real;
  std::vector<named_tensor> tensors;
  for (const listed_tensor& t : listed) tensors.push_back({t.name, t.shape, std::vector<double>(t.count())});
  std::vector<real> reals(static_cast<std::size_t>(p.state.real_count()));
  b.read(tensors[0].values.data(), p.state.counter(), sizeof(double));
  b.read(reals.data(), p.state.momentum(), reals.size() * sizeof(real));
  b.sync();
  auto next = reals.begin();
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    const auto end = next + static_cast<std::ptrdiff_t>(tensors[i].values.size());
    std::copy(next, end, tensors[i].values.begin());
    next = end;
  }
  return tensors;
}

// State of one parameter, checked and converted, waiting to be written.
template <class Real>
struct staged_state {
  double step = 0;
  std::vector<Real> reals;  // all others, as they lie in parameter_state
};

// Checks `given`, the tensors of `p` in the order of state_tensors. Writes nothing.
template <tensor_backend B>
staged_state<typename B::real> stage_state(const std::vector<listed_tensor>& expected,
                                           const std::vector<const named_tensor*>& given) {
  using real = typename B::real;
  staged_state<real> staged;
  for (std::size_t i = 0; i < expected.size(); ++i) validate_state(expected[i], *given[i]);
  staged.step = given[0]->values[0];
  for (std::size_t i = 1; i < expected.size(); ++i)
    for (const double x : given[i]->values) {
      staged.reals.push_back(static_cast<real>(x));
      if (is_finite(x) && !is_finite(staged.reals.back()))
        fail(error_code::state, "state '", expected[i].name, "': ", x, " is out of range");
    }
  return staged;
}

template <tensor_backend B>
void write_state(B& b, const parameter<B>& p, const staged_state<typename B::real>& staged) {
  using real = typename B::real;
  b.write(p.state.counter(), &staged.step, sizeof(double));
  b.write(p.state.momentum(), staged.reals.data(), staged.reals.size() * sizeof(real));
  b.sync();
}

}  // namespace normuon

#endif
