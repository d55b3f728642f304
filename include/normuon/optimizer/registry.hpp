// The named parameters of an optimizer and their state: what a trainer sets up once, re-binds, and saves.
#ifndef NORMUON_OPTIMIZER_REGISTRY_HPP
#define NORMUON_OPTIMIZER_REGISTRY_HPP

#include <map>
#include <optional>

#include "normuon/optimizer/binding.hpp"
#include "normuon/optimizer/groups.hpp"
#include "normuon/optimizer/ownership.hpp"
#include "normuon/optimizer/state.hpp"

namespace normuon {

// Public base of `optimizer`. Throws normuon::error; what is refused changes nothing.
template <tensor_backend Backend>
class registry : public parameter_groups<Backend> {
 public:
  // Adds a parameter with zero state. Weight: rows are neurons, every matrix of a batch is a matrix of its own. On
  // several ranks all add the same parameters in the same order: a matrix_ref is a weight that every rank has whole and
  // keeps alike, with a gradient that is the same on all; a sharded_ref is one of which ranks hold parts. Throws where
  // the name is taken or empty, a view can't be walked, its type is not one that the backend takes, parts are not those
  // of the layout, the gradient begins where the weight does, or the weight where another's does: tied weights are one
  // parameter, whose gradient is the sum of theirs.
  template <class T>
  void add_parameter(group_id id, std::string name, matrix_ref<T> weight) {
    add(id, parameter_of(std::move(name), weight), {});
  }
  template <class T, class G>
  void add_parameter(group_id id, std::string name, matrix_ref<T> weight, matrix_ref<G> gradient) {
    add(id, parameter_of(std::move(name), weight), std::vector{bound_matrix(gradient)});
  }
  template <class T>
  void add_parameter(group_id id, std::string name, const sharded_ref<T>& weight) {
    add(id, parameter_of(std::move(name), weight), {});
  }
  template <class T, class G>
  void add_parameter(group_id id, std::string name, const sharded_ref<T>& weight, const sharded_ref<G>& gradient) {
    normuon::require_same_cut(name, gradient_binding, weight.how, weight.rows, weight.cols, weight.batch, gradient);
    add(id, parameter_of(std::move(name), weight), bound_parts(gradient));
  }

  // Forgets a parameter and returns what this rank keeps of its state. In one process `import_state(name, ...)` gives
  // it back to one added later; on several ranks owners are chosen anew, and the state may belong to another rank then.
  std::vector<named_tensor> remove_parameter(std::string_view name) {
    const std::size_t i = index_of(name);
    auto state = owners_before(parameters_, owners_chosen_).restored_after([&] { return export_state(name); });
    std::map<std::string, std::size_t, std::less<>> indices;
    for (std::size_t k = 0; k < parameters_.size(); ++k)
      if (k != i) indices.emplace(parameters_[k].name, k < i ? k : k - 1);
    parameters_.erase(parameters_.begin() + static_cast<std::ptrdiff_t>(i));
    indices_ = std::move(indices);
    planned_ = owners_chosen_ = false;
    return state;
  }

  // A frozen parameter is left as it is, with its state, until it is unfrozen.
  void freeze(std::string_view name) { parameters_[index_of(name)].frozen = true; }
  void unfreeze(std::string_view name) { parameters_[index_of(name)].frozen = false; }

  // Binds other memory of the same shape, checked as add_parameter does, but for other parameters' memory; state stays
  // as it lies. A weight can move to where its gradient is when that has been bound elsewhere or unbound, and the other
  // way round. An unbound gradient is absent: see missing_gradient_policy.
  template <class T>
  void bind_weight(std::string_view name, matrix_ref<T> weight) {
    static_assert(!std::is_const_v<T>, "a weight must be writable");
    const bound_matrix one(weight);
    bind_weight(name, {&one, 1}, element_type_of<T>);
  }
  template <class T>
  void bind_weight(std::string_view name, const sharded_ref<T>& weight) {
    static_assert(!std::is_const_v<T>, "a weight must be writable");
    require_same_cut(name, weight_binding, weight);
    bind_weight(name, bound_parts(weight), element_type_of<T>);
  }
  template <class G>
  void bind_gradient(std::string_view name, matrix_ref<G> gradient) {
    const bound_matrix one(gradient);
    bind_gradient(name, {&one, 1});
  }
  template <class G>
  void bind_gradient(std::string_view name, const sharded_ref<G>& gradient) {
    require_same_cut(name, gradient_binding, gradient);
    bind_gradient(name, bound_parts(gradient));
  }
  void unbind_gradient(std::string_view name) {
    parameter<Backend>& p = parameters_[index_of(name)];
    for (parameter_part& part : p.parts) part.gradient = {};
    p.has_gradient = false;
  }

  // Where `step_changes` writes W_new - W of a parameter.
  template <class T>
  void bind_change(std::string_view name, matrix_ref<T> change) {
    static_assert(!std::is_const_v<T>, "a change buffer must be writable");
    const bound_matrix one(change);
    bind(name, change_binding, {&one, 1});
  }
  template <class T>
  void bind_change(std::string_view name, const sharded_ref<T>& change) {
    static_assert(!std::is_const_v<T>, "a change buffer must be writable");
    require_same_cut(name, change_binding, change);
    bind(name, change_binding, bound_parts(change));
  }

  // State: "<name>.step", ".momentum", ".second_moment" and ".master" of every parameter, or of one: what this rank
  // keeps of it. To list it copies nothing and looks at no device, so a poisoned optimizer lists it too.
  std::vector<listed_tensor> list_state() {
    std::vector<listed_tensor> all;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      for (state_tensor& t : placed_state(i)) all.push_back(std::move(t));
    return all;
  }
  std::vector<listed_tensor> list_state(std::string_view name) {
    std::vector<state_tensor> placed = placed_state(index_of(name));
    return {std::make_move_iterator(placed.begin()), std::make_move_iterator(placed.end())};
  }
  std::vector<named_tensor> export_state() {
    std::vector<named_tensor> all;
    for (const parameter<Backend>& p : parameters_)
      for (named_tensor& t : export_state(p.name)) all.push_back(std::move(t));
    return all;
  }
  std::vector<named_tensor> export_state(std::string_view name) {
    require_ready();
    return read_state(backend_, parameters_[index_of(name)], placed_state(index_of(name)));
  }

  // Replaces the state of every parameter: exactly the tensors that list_state names, in any order, checked before the
  // first is written. Makes a poisoned optimizer ready again; weights are the user's to restore. A backend that fails
  // while it writes leaves the optimizer poisoned. Calls `ready()` when all has been checked, which may still refuse,
  // then `restore()`, as if it were part of what is written.
  template <std::invocable Ready = void (*)(), std::invocable Restore = void (*)()>
  void import_state(
      const std::vector<named_tensor>& tensors, Ready ready = [] {}, Restore restore = [] {}) {
    std::vector<std::size_t> all(parameters_.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    import_into(all, tensors, ready, restore);
  }
  // The same for one parameter.
  void import_state(std::string_view name, const std::vector<named_tensor>& tensors) {
    require_ready();
    import_into(
        {index_of(name)}, tensors, [] {}, [] {});
  }

  // The largest of the parameters' counters: 0 before the first step.
  index_t steps_made() {
    require_ready();
    std::vector<double> counters(parameters_.size() + 1);
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      backend_.read(&counters[i], parameters_[i].state.counter(), sizeof(double));
    backend_.sync();
    return static_cast<index_t>(*std::max_element(counters.begin(), counters.end()));
  }

  // What was added, in order; a parameter's `group` is an index into `groups`.
  const std::vector<parameter<Backend>>& parameters() const { return parameters_; }

  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    for (const parameter<Backend>& p : parameters_) bytes += p.state.bytes();
    return bytes;
  }
  Backend& backend() { return backend_; }

 protected:
  registry(Backend backend, int rank, int ranks, owner_choice choose)
      : backend_(std::move(backend)), rank_(rank), ranks_(ranks), choose_(choose) {}

  using parameter_groups<Backend>::groups_, parameter_groups<Backend>::planned_, parameter_groups<Backend>::group_at;

  const group& group_of(const parameter<Backend>& p) const { return groups_[static_cast<std::size_t>(p.group)]; }

  void require_ready() const {
    if (poisoned_) fail(error_code::poisoned, "import state first, for an earlier call ended so: ", poison_);
  }

  // Decides who owns the matrices of which that is not decided yet: the same on every rank, without asking the others.
  void choose_owners() {
    if (!owners_chosen_) normuon::choose_owners(choose_, groups_, parameters_, ranks_);
    owners_chosen_ = true;
  }

  Backend backend_;
  int rank_, ranks_;
  std::vector<parameter<Backend>> parameters_;
  bool owners_chosen_ = false, poisoned_ = false;
  bool recorded_ = false;  // what was recorded of steps is what they do
  std::string poison_;     // what a poisoned optimizer failed with

 private:
  std::size_t index_of(std::string_view name) const {
    const auto found = indices_.find(name);
    if (found == indices_.end()) fail(error_code::parameter, "there is no parameter '", name, "'");
    return found->second;
  }

  // A parameter with name, sizes, layout and weights of its parts.
  template <class T>
  static parameter<Backend> parameter_of(std::string name, const matrix_ref<T>& w) {
    parameter<Backend> p = without_parts(std::move(name), w);
    p.parts.push_back({.where = {0, 0, w.rows, w.cols}, .weight = bound_matrix(w)});
    return p;
  }
  template <class T>
  parameter<Backend> parameter_of(std::string name, const sharded_ref<T>& w) const {
    parameter<Backend> p = without_parts(std::move(name), w);
    p.how = w.how;
    p.parts = parts_of(p.name, w.how, w.rows, w.cols, w.batch, rank_, ranks_, bound_parts(w));
    return p;
  }
  template <template <class> class Ref, class T>
  static parameter<Backend> without_parts(std::string name, const Ref<T>& w) {
    static_assert(!std::is_const_v<T>, "a weight must be writable");
    return {.name = std::move(name), .rows = w.rows, .cols = w.cols, .batch = w.batch, .type = element_type_of<T>};
  }

  void add(group_id id, parameter<Backend> p, const std::optional<std::vector<bound_matrix>>& gradients) {
    const group& g = group_at(id);
    if (p.name.empty()) fail(error_code::parameter, "expected a name for the parameter, got an empty one");
    if (indices_.contains(p.name)) fail(error_code::parameter, "there is a parameter '", p.name, "' already");
    p.group = static_cast<int>(id);
    for (parameter_part& a : p.parts) {
      validate_binding<Backend>(p.name, a, weight_binding, a.weight);
      require_own_memory(p.name, a.weight);
      a.order_state(g.is_matrix_rule());
    }
    p.has_master = g.keeps_master(p.type);
    if (gradients) bind_parts(p, gradient_binding, *gradients);
    p.has_gradient = gradients.has_value();
    const auto* o = std::get_if<normuon_options>(&g.options);
    const index_t elements = p.elements_here();
    p.state = parameter_state<Backend>(backend_, elements,
                                       o ? p.batch * neuron_count(o->neuron_axis, p.rows, p.cols) : elements,
                                       p.has_master ? elements : 0);
    parameters_.reserve(parameters_.size() + 1);
    indices_.emplace(p.name, parameters_.size());
    parameters_.push_back(std::move(p));
    planned_ = owners_chosen_ = false;
  }

  void require_own_memory(const std::string& name, const bound_matrix& weight) const {
    if (weight.elements() == 0) return;
    for (const parameter<Backend>& other : parameters_)
      for (const parameter_part& a : other.parts)
        if (a.weight.elements() != 0 && weight.first.data == a.weight.first.data)
          fail(error_code::parameter, "weight of '", name, "': expected memory of its own, got that of '", other.name,
               "'");
  }

  void bind_weight(std::string_view name, std::span<const bound_matrix> given, element_type type) {
    parameter<Backend>& p = parameters_[index_of(name)];
    if (group_of(p).keeps_master(type) != p.has_master)
      fail(error_code::parameter, "weight of '", p.name, "': expected one ", p.has_master ? "of" : "wider than",
           " 16 bits, as it was when its master was decided on, got ", name_of(type));
    bind(name, weight_binding, given);
    p.type = type;
  }
  void bind_gradient(std::string_view name, std::span<const bound_matrix> given) {
    bind(name, gradient_binding, given);
    parameters_[index_of(name)].has_gradient = true;
  }
  void bind(std::string_view name, const binding_kind& as, std::span<const bound_matrix> given) {
    if (bind_parts(parameters_[index_of(name)], as, given)) recorded_ = false;
  }

  template <class T>
  void require_same_cut(std::string_view name, const binding_kind& as, const sharded_ref<T>& ref) const {
    const parameter<Backend>& p = parameters_[index_of(name)];
    normuon::require_same_cut(name, as, p.how, p.rows, p.cols, p.batch, ref);
  }

  std::vector<state_tensor> placed_state(std::size_t i) {
    choose_owners();
    return state_tensors(parameters_[i], group_of(parameters_[i]), rank_);
  }

  template <class Ready, class Restore>
  void import_into(const std::vector<std::size_t>& which, const std::vector<named_tensor>& tensors, Ready&& ready,
                   Restore&& restore) {
    if (ranks_ > 1) require_ready();  // peers have gone on, or given up: what is left is a new optimizer and engine
    given_state given(tensors);
    std::vector<staged_state<typename Backend::real>> staged;
    for (const std::size_t i : which) staged.push_back(given.stage(parameters_[i], placed_state(i)));
    given.require_used();
    ready();
    poison_ = "an import of state failed in the middle";
    poisoned_ = true;
    restore();
    for (std::size_t k = 0; k < which.size(); ++k) write_state(backend_, parameters_[which[k]], staged[k]);
    poisoned_ = false;
  }
  owner_choice choose_;
  std::map<std::string, std::size_t, std::less<>> indices_;
};

}  // namespace normuon

#endif
