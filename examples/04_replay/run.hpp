// The run itself: tensors in, one optimizer with one parameter, a step for each gradient, tensors out. On any backend,
// whose matrices lie as a placement says.
#ifndef NORMUON_EXAMPLES_REPLAY_RUN_HPP
#define NORMUON_EXAMPLES_REPLAY_RUN_HPP

#include "normuon/io/safetensors.hpp"
#include "options.hpp"
#include "placement.hpp"

namespace replay {

// Throws where one of the numbers is not finite.
template <class Real>
void check_finite(const std::string& what, const std::vector<Real>& numbers) {
  for (const Real x : numbers)
    if (!is_finite(x)) fail(error_code::non_finite, what, ": expected finite numbers, found ", x);
}

// The numbers of a tensor, exactly, in the type of the run. Throws where there is no such tensor, its shape is another,
// or its numbers are not finite or don't fit that type.
template <class Real>
std::vector<Real> load(const safetensors::file& in, const std::string& name, const std::vector<index_t>& shape) {
  const auto found = in.tensors.find(name);
  if (found == in.tensors.end()) fail(error_code::file, "expected a tensor '", name, "', found none");
  const safetensors::tensor& t = found->second;
  const auto refuse = [&](const auto&... why) { fail(error_code::file, "tensor '", name, "': ", why...); };
  if (t.shape != shape)
    refuse("expected shape [", fmt::format("{}", fmt::join(shape, ", ")), "], found [",
           fmt::format("{}", fmt::join(t.shape, ", ")), "]");
  const bool whole = t.type == safetensors::dtype::i64 || t.type == safetensors::dtype::i32;
  if (whole || safetensors::facts_of(t.type).size > sizeof(Real))
    refuse("expected numbers that fit ", name_of(element_type_of<Real>), ", the type of the run, found ",
           safetensors::facts_of(t.type).name);
  std::vector<Real> numbers = safetensors::values<Real>(t);
  check_finite("tensor '" + name + "'", numbers);
  return numbers;
}

// How many gradients there are. Throws where there is none, or one is left out.
inline std::size_t count_steps(const safetensors::file& in) {
  const auto gradient = [](std::size_t step) { return fmt::format("G.{}", step); };
  std::size_t steps = 0;
  while (in.tensors.contains(gradient(steps))) ++steps;
  const auto gradients = std::count_if(in.tensors.begin(), in.tensors.end(),
                                       [](const auto& named) { return named.first.starts_with("G."); });
  if (steps == 0 || static_cast<std::size_t>(gradients) != steps)
    fail(error_code::file, "expected a tensor '", gradient(steps), "', found none among ", gradients, " gradients");
  return steps;
}

// Throws where a list is neither one number nor one for each step.
inline void check_lengths(setup s, std::size_t steps) {
  for_each_key(s, [&]<class T>(const char* key, const T& x) {
    if constexpr (std::is_same_v<T, series>)
      if (x.numbers.size() != 1 && x.numbers.size() != steps)
        fail(error_code::option, "--set ", key, ": expected 1 number or ", steps, ", one per step, got ",
             x.numbers.size());
  });
}

// What a tensor of the optimizer's state is called in the files.
inline const char* file_name_of(const named_tensor& state) {
  return state.name.ends_with(".momentum") ? "M" : state.name.ends_with(".second_moment") ? "v" : "step";
}

// Gives the optimizer the state that the file has; what the file has not is zero.
template <class Backend>
void load_state(optimizer<Backend>& opt, const safetensors::file& in, std::string_view rule) {
  const auto given = [&](const std::string& name) { return in.tensors.contains(name); };
  if (rule == "muon" && given("v")) fail(error_code::file, "expected no tensor 'v' for rule muon, found one");
  if (rule == "adamw" && (given("M") || given("v")) && !given("step"))  // the bias correction depends on it
    fail(error_code::file, "expected a tensor 'step' beside 'M' and 'v' for rule adamw, found none");
  std::vector<named_tensor> state = opt.export_state();
  for (named_tensor& t : state) {
    const std::string name = file_name_of(t);
    if (!given(name)) continue;
    if (name == "step") {
      t.values = safetensors::values<double>(in.tensors.at(name));
    } else {
      const auto numbers = load<typename Backend::real>(in, name, t.shape);
      t.values.assign(numbers.begin(), numbers.end());
    }
  }
  opt.import_state(state);
}

// The rule's options; `automatic` as the type of an iteration becomes that of the run, whatever a backend likes best.
template <class Real>
rule_options options_of(const setup& s) {
  rule_options options = s.options;
  std::visit(
      [](auto& o) {
        if constexpr (requires { o.orthogonalizer; })
          if (o.orthogonalizer.compute == compute_type::automatic)
            o.orthogonalizer.compute = std::is_same_v<Real, double> ? compute_type::float64 : compute_type::float32;
      },
      options);
  return options;
}

// One step for each gradient, in the backend's type. The file has a W of two dimensions.
template <template <tensor_backend> class Placement, tensor_backend Backend>
safetensors::file run_on(Backend backend, const setup& s, const safetensors::file& in, bool trace) {
  using real = typename Backend::real;
  const std::vector<index_t>& shape = in.tensors.at("W").shape;
  const std::size_t steps = count_steps(in);
  check_lengths(s, steps);
  std::vector<real> W = load<real>(in, "W", shape), G(W.size());

  optimizer<Backend> opt(std::move(backend));
  Placement<Backend> weight, gradient;
  const auto placed = [&](auto& place, std::vector<real>& numbers) {
    return place.add(opt.backend(), row_major(numbers.data(), shape[0], shape[1]));
  };
  const group_id group = std::visit([&](const auto& o) { return opt.add_group(o); }, options_of<real>(s));
  opt.add_parameter(group, "W", placed(weight, W), placed(gradient, G));
  load_state(opt, in, s.preset->rule);

  safetensors::file out;
  const auto save = [&]<class T>(const std::string& name, const std::vector<index_t>& as,
                                 const std::vector<T>& numbers) {
    out.tensors[name] = safetensors::make_tensor<T>(as, numbers);
  };
  for (std::size_t k = 0; k < steps; ++k) {
    const std::vector<real> read = load<real>(in, fmt::format("G.{}", k), shape);
    std::copy(read.begin(), read.end(), G.begin());
    gradient.send(opt.backend());
    opt.set_learning_rate(group, s.learning_rate.at(k));
    opt.set_momentum(group, s.momentum.at(k));
    opt.set_weight_decay(group, s.weight_decay.at(k));
    opt.step();
    weight.fetch(opt.backend());
    if (const outcome o = opt.report().parameters[0].outcome; o != outcome::moved)
      fail(error_code::non_finite, "step ", k, ": expected the weight to move, got a ", name_of(o));
    check_finite(fmt::format("step {}: W", k), W);
    if (trace) save(fmt::format("W.{}", k), shape, W);
  }

  save("W", shape, W);
  for (const named_tensor& t : opt.export_state()) {
    const std::string name = file_name_of(t);
    if (name == "step") save(name, t.shape, std::vector<std::int64_t>{static_cast<std::int64_t>(t.values[0])});
    else save(name, t.shape, std::vector<real>(t.values.begin(), t.values.end()));
  }
  return out;
}

// Runs double weights in double and all others, widened, in float: in_double() or in_float(). The output says in its
// metadata how it was made.
template <class InDouble, class InFloat>
safetensors::file run(const setup& s, const safetensors::file& in, InDouble&& in_double, InFloat&& in_float) {
  const auto W = in.tensors.find("W");
  if (W == in.tensors.end()) fail(error_code::file, "expected a tensor 'W', found none");
  if (const std::size_t rank = W->second.shape.size(); rank != 2)
    fail(error_code::file, "tensor 'W': expected 2 dimensions, found ", rank);
  safetensors::file out = W->second.type == safetensors::dtype::f64 ? in_double() : in_float();
  out.metadata = {{"rule", std::string(s.preset->rule)}, {"preset", std::string(s.preset->name)}};
  for (const auto& [key, value] : printed_keys(s)) out.metadata[key] = value;
  return out;
}

}  // namespace replay

#endif
