// The named parameters of an optimizer, their groups and their state: what a trainer sets up once, re-binds, and saves.
#ifndef NORMUON_OPTIMIZER_REGISTRY_HPP
#define NORMUON_OPTIMIZER_REGISTRY_HPP

#include <map>

#include "normuon/optimizer/state.hpp"

namespace normuon {

enum class group_id : int {};

// Public base of `optimizer`. Throws normuon::error; what is refused changes nothing.
template <tensor_backend Backend>
class registry {
 public:
  // Groups. Throws where an option is out of range, a number that steps use does not fit the backend's real type, or a
  // coefficient table is unsafe for the iteration's type.
  group_id add_group(const normuon_options& o, group_factors factors = {}) {
    return add_matrix_group(o, "normuon", factors);
  }
  group_id add_group(const muon_options& o, group_factors factors = {}) { return add_matrix_group(o, "muon", factors); }
  group_id add_group(const adamw_options& o, group_factors factors = {}) { return push_group({o, "adamw", factors}); }

  // The numbers of a group that may change from step to step. Without a group, the rate of all of them: each has it
  // times its own factor, AdamW's groups too, whose rates are rarely those of a matrix rule. Throws as add_group.
  void set_learning_rate(double x) {
    validate_not_negative("learning_rate", x);
    const auto set_to_x = [x](const group& g) {
      return changed(g, &normuon_options::learning_rate, &adamw_options::learning_rate, x);
    };
    for (const group& g : groups_) set_to_x(g);  // all can be set, or none is
    for (group& g : groups_) g = set_to_x(g);
  }
  void set_learning_rate(group_id id, double x) {
    set(id, &normuon_options::learning_rate, &adamw_options::learning_rate, x);
  }
  void set_weight_decay(group_id id, double x) {
    set(id, &normuon_options::weight_decay, &adamw_options::weight_decay, x);
  }
  void set_momentum(group_id id, double x) { set(id, &normuon_options::momentum, &adamw_options::momentum, x); }
  void set_beta2(group_id id, double x) { set(id, &normuon_options::beta2, &adamw_options::beta2, x); }

  // Gradients are `scale` times what is bound, from now on: 1 / loss scale, or the factor of a clipped norm. Write that
  // as min(1.0, most / norm), in this order: where the norm is NaN it is 1, and the step finds the NaN.
  void set_gradient_scale(double scale) {
    validate_not_negative("gradient_scale", scale);
    validate_fits<typename Backend::real>("gradient_scale", scale);
    gradient_scale_ = scale;
  }

  // Adds a parameter with zero state. Weight: rows are neurons, every matrix of a batch is a matrix of its own. Throws
  // where the name is taken or empty, a view can't be walked, its type is not one that the backend takes, the gradient
  // begins where the weight does, or the weight where another's does: tied weights are one parameter, whose gradient is
  // the sum of theirs.
  template <class T>
  void add_parameter(group_id id, std::string name, matrix_ref<T> weight) {
    static_assert(!std::is_const_v<T>, "a weight must be writable");
    add(id, std::move(name), bound_matrix(weight), {});
  }
  template <class T, class G>
  void add_parameter(group_id id, std::string name, matrix_ref<T> weight, matrix_ref<G> gradient) {
    static_assert(!std::is_const_v<T>, "a weight must be writable");
    add(id, std::move(name), bound_matrix(weight), bound_matrix(gradient));
  }

  // Forgets a parameter and returns its state, which `import_state(name, ...)` gives back to one added later.
  std::vector<named_tensor> remove_parameter(std::string_view name) {
    const std::size_t i = index_of(name);
    std::vector<named_tensor> state = export_state(name);
    std::map<std::string, std::size_t, std::less<>> indices;
    for (std::size_t k = 0; k < parameters_.size(); ++k)
      if (k != i) indices.emplace(parameters_[k].name, k < i ? k : k - 1);
    parameters_.erase(parameters_.begin() + static_cast<std::ptrdiff_t>(i));
    indices_ = std::move(indices);
    planned_ = false;
    return state;
  }

  // A frozen parameter is left as it is, with its state, until it is unfrozen.
  void freeze(std::string_view name) { parameters_[index_of(name)].frozen = true; }
  void unfreeze(std::string_view name) { parameters_[index_of(name)].frozen = false; }

  // Binds other memory of the same shape, checked as add_parameter does, but for other parameters' memory. Where both
  // move, bind the weight first. An unbound gradient is absent: the parameter is not moved.
  template <class T>
  void bind_weight(std::string_view name, matrix_ref<T> weight) {
    static_assert(!std::is_const_v<T>, "a weight must be writable");
    bind(name, &parameter<Backend>::weight, weight_binding, bound_matrix(weight));
  }
  template <class G>
  void bind_gradient(std::string_view name, matrix_ref<G> gradient) {
    bind(name, &parameter<Backend>::gradient, gradient_binding, bound_matrix(gradient));
  }
  void unbind_gradient(std::string_view name) { parameters_[index_of(name)].gradient = {}; }

  // Where `step_changes` writes W_new - W of a parameter.
  template <class T>
  void bind_change(std::string_view name, matrix_ref<T> change) {
    static_assert(!std::is_const_v<T>, "a change buffer must be writable");
    bind(name, &parameter<Backend>::change, change_binding, bound_matrix(change));
  }

  // State: "<name>.step", ".momentum", ".second_moment" and ".master" of every parameter, or of one. To list it copies
  // nothing and looks at no device, so a poisoned optimizer lists it too.
  std::vector<listed_tensor> list_state() const {
    std::vector<listed_tensor> all;
    for (const parameter<Backend>& p : parameters_)
      for (listed_tensor& t : state_tensors(p, group_of(p))) all.push_back(std::move(t));
    return all;
  }
  std::vector<listed_tensor> list_state(std::string_view name) const {
    const parameter<Backend>& p = parameters_[index_of(name)];
    return state_tensors(p, group_of(p));
  }
  std::vector<named_tensor> export_state() {
    std::vector<named_tensor> all;
    for (const parameter<Backend>& p : parameters_)
      for (named_tensor& t : export_state(p.name)) all.push_back(std::move(t));
    return all;
  }
  std::vector<named_tensor> export_state(std::string_view name) {
    require_ready();
    return read_state(backend_, parameters_[index_of(name)], list_state(name));
  }

  // Replaces the state of every parameter: exactly the tensors that list_state names, in any order, checked before
  // the first is written. Makes a poisoned optimizer ready again; weights are the user's to restore. A backend that
  // fails while it writes leaves the optimizer poisoned.
  void import_state(const std::vector<named_tensor>& tensors) {
    std::vector<std::size_t> all(parameters_.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    import_into(all, tensors);
  }
  // The same for one parameter.
  void import_state(std::string_view name, const std::vector<named_tensor>& tensors) {
    require_ready();
    import_into({index_of(name)}, tensors);
  }

  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    for (const parameter<Backend>& p : parameters_) bytes += p.state.bytes();
    return bytes;
  }
  Backend& backend() { return backend_; }

 protected:
  explicit registry(Backend backend) : backend_(std::move(backend)) {}

  const group& group_of(const parameter<Backend>& p) const { return groups_[static_cast<std::size_t>(p.group)]; }

  void require_ready() const {
    if (poisoned_) fail(error_code::poisoned, "import state first, for an earlier call ended so: ", poison_);
  }

  Backend backend_;
  std::vector<group> groups_;
  std::vector<parameter<Backend>> parameters_;
  double gradient_scale_ = 1;
  bool planned_ = false;  // false: what a step needs was changed since it was laid out
  bool poisoned_ = false;
  std::string poison_;  // what a poisoned optimizer failed with

 private:
  group_id add_matrix_group(const normuon_options& o, std::string_view rule, group_factors factors) {
    decide<Backend>(o.orthogonalizer, o.published, 1, 1);  // refuses an unsafe table, whatever the shape
    return push_group({o, rule, factors});
  }
  group_id push_group(const group& g) {
    validate_not_negative("learning_rate factor", g.factors.learning_rate);
    validate_not_negative("weight_decay factor", g.factors.weight_decay);
    validate_numbers(g);
    groups_.push_back(g);
    planned_ = false;
    return static_cast<group_id>(groups_.size() - 1);
  }

  group& group_at(group_id id) {
    const int i = static_cast<int>(id);
    if (groups_.empty())
      fail(error_code::option, "expected a group that was added, got ", i, ", and there is none yet");
    if (i < 0 || static_cast<std::size_t>(i) >= groups_.size())
      fail(error_code::option, "expected a group of 0 to ", static_cast<std::ptrdiff_t>(groups_.size()) - 1, ", got ",
           i);
    return groups_[static_cast<std::size_t>(i)];
  }

  static void validate_numbers(const group& g) {
    std::visit([](const auto& o) { validate(o); }, g.options);
    const step_values values = g.values(1);
    using real = typename Backend::real;
    validate_fits<real>("learning_rate, times its factor", values.rate);
    validate_fits<real>("learning_rate * weight_decay, times their factors", values.decay);
    if (const auto* o = std::get_if<adamw_options>(&g.options)) validate_fits<real>("epsilon", o->epsilon);
  }

  // The group with one number set. Throws where the result is not valid.
  static group changed(group g, double normuon_options::*matrix, double adamw_options::*elements, double x) {
    if (auto* o = std::get_if<normuon_options>(&g.options)) o->*matrix = x;
    else std::get<adamw_options>(g.options).*elements = x;
    validate_numbers(g);
    return g;
  }
  void set(group_id id, double normuon_options::*matrix, double adamw_options::*elements, double x) {
    group& g = group_at(id);
    g = changed(g, matrix, elements, x);
  }

  std::size_t index_of(std::string_view name) const {
    const auto found = indices_.find(name);
    if (found == indices_.end()) fail(error_code::parameter, "there is no parameter '", name, "'");
    return found->second;
  }

  void add(group_id id, std::string name, const bound_matrix& weight, const bound_matrix& gradient) {
    const group& g = group_at(id);
    if (name.empty()) fail(error_code::parameter, "expected a name for the parameter, got an empty one");
    if (indices_.contains(name)) fail(error_code::parameter, "there is a parameter '", name, "' already");
    parameter<Backend> p{.name = name, .group = static_cast<int>(id), .weight = weight, .gradient = gradient};
    validate_binding(p, weight_binding, weight);
    if (gradient.batch != 0) validate_binding(p, gradient_binding, gradient);
    for (const parameter<Backend>& other : parameters_)
      if (weight.elements() != 0 && other.weight.elements() != 0 && weight.first.data == other.weight.first.data)
        fail(error_code::parameter, "weight of '", name, "': expected memory of its own, got that of '", other.name,
             "'");
    const index_t m = weight.first.rows, n = weight.first.cols, elements = weight.elements();
    const auto* o = std::get_if<normuon_options>(&g.options);
    p.has_master = g.keeps_master(weight.first.type);
    p.state =
        parameter_state<Backend>(backend_, elements, o ? weight.batch * neuron_count(o->neuron_axis, m, n) : elements,
                                 p.has_master ? elements : 0);
    parameters_.reserve(parameters_.size() + 1);
    indices_.emplace(std::move(name), parameters_.size());
    parameters_.push_back(std::move(p));
    planned_ = false;
  }

  // Throws where `m` can't be walked, is of a type that the backend does not take, has not the weight's shape, or is
  // what a step reads and begins where the weight does, which it writes.
  void validate_binding(const parameter<Backend>& p, const binding_kind& as, const bound_matrix& m) const {
    validate_view(p.name, as, m);
    const auto refuse = [&](const auto&... why) { fail(as.code, as.what, " of '", p.name, "': ", why...); };
    if (!Backend::takes(m.first.type))
      refuse("expected one of ", types_taken_by<Backend>(), ", got ", name_of(m.first.type));
    const bound_matrix& w = p.weight;
    if (m.first.rows != w.first.rows || m.first.cols != w.first.cols || m.batch != w.batch)
      refuse("expected ", sizes_of(w), ", got ", sizes_of(m));
    if (!as.written && m.elements() != 0 && m.first.data == w.first.data)
      refuse("expected memory of its own, got that of the weight");
  }
  void bind(std::string_view name, bound_matrix parameter<Backend>::*member, const binding_kind& as,
            const bound_matrix& m) {
    parameter<Backend>& p = parameters_[index_of(name)];
    validate_binding(p, as, m);
    if (member == &parameter<Backend>::weight && group_of(p).keeps_master(m.first.type) != p.has_master)
      fail(as.code, "weight of '", name, "': expected one ", p.has_master ? "of" : "wider than",
           " 16 bits, as it was when its master was decided on, got ", name_of(m.first.type));
    if (as.written && (p.*member).batch != 0 && (p.*member).first.type != m.first.type) planned_ = false;
    p.*member = m;
  }

  void import_into(const std::vector<std::size_t>& which, const std::vector<named_tensor>& tensors) {
    std::map<std::string_view, const named_tensor*> given;
    for (const named_tensor& t : tensors)
      if (!given.emplace(t.name, &t).second) fail(error_code::state, "state '", t.name, "' is there twice");
    std::vector<staged_state<typename Backend::real>> staged;
    std::size_t used = 0;
    for (const std::size_t i : which) {
      const std::vector<listed_tensor> expected = state_tensors(parameters_[i], group_of(parameters_[i]));
      std::vector<const named_tensor*> mine;
      for (const listed_tensor& e : expected) {
        const auto found = given.find(e.name);
        if (found == given.end()) fail(error_code::state, "expected state '", e.name, "', got none");
        mine.push_back(found->second);
      }
      used += expected.size();
      staged.push_back(stage_state<Backend>(expected, mine));
    }
    if (used != given.size())
      fail(error_code::state, "expected ", used, " tensors of state, got ", given.size(),
           ": some belong to no parameter");
    poison_ = "an import of state failed in the middle";
    poisoned_ = true;
    for (std::size_t k = 0; k < which.size(); ++k) write_state(backend_, parameters_[which[k]], staged[k]);
    poisoned_ = false;
  }

  std::map<std::string, std::size_t, std::less<>> indices_;
};

}  // namespace normuon

#endif
