// The groups of an optimizer: options that parameters share, and the numbers that a schedule sets.
#ifndef NORMUON_OPTIMIZER_GROUPS_HPP
#define NORMUON_OPTIMIZER_GROUPS_HPP

#include "normuon/optimizer/parameter.hpp"

namespace normuon {

enum class group_id : int {};

// Public base of `registry`. Throws normuon::error; what is refused changes nothing.
template <tensor_backend Backend>
class parameter_groups {
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
    const auto set_to_x = [this, x](const group& g) {
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
    validate_numbers(groups_, scale);
    gradient_scale_ = scale;
  }

  // All of these at once, one entry for each group: what a checkpoint brings back.
  void set_numbers(const std::vector<group_numbers>& numbers, double scale) {
    if (numbers.size() != groups_.size())
      fail(error_code::option, "expected the numbers of ", groups_.size(), " groups, got those of ", numbers.size());
    std::vector<group> next = groups_;
    for (std::size_t i = 0; i < next.size(); ++i) next[i].set_numbers(numbers[i]);
    validate_numbers(next, scale);
    groups_ = std::move(next);
    gradient_scale_ = scale;
  }

  // What was added, in order.
  const std::vector<group>& groups() const { return groups_; }
  double gradient_scale() const { return gradient_scale_; }

 protected:
  group& group_at(group_id id) {
    const int i = static_cast<int>(id);
    if (groups_.empty())
      fail(error_code::option, "expected a group that was added, got ", i, ", and there is none yet");
    if (i < 0 || static_cast<std::size_t>(i) >= groups_.size())
      fail(error_code::option, "expected a group of 0 to ", static_cast<std::ptrdiff_t>(groups_.size()) - 1, ", got ",
           i);
    return groups_[static_cast<std::size_t>(i)];
  }

  std::vector<group> groups_;
  double gradient_scale_ = 1;
  bool planned_ = false;  // false: what a step needs was changed since it was laid out

 private:
  using real = typename Backend::real;

  static void validate_numbers(const std::vector<group>& groups, double scale) {
    validate_not_negative("gradient_scale", scale);
    validate_fits<real>("gradient_scale", scale);
    validate_not_lost<real>("gradient_scale", scale);
    for (const group& g : groups) normuon::validate_numbers<real>(g, scale);
  }

  group_id add_matrix_group(const normuon_options& o, std::string_view rule, group_factors factors) {
    validate(o);
    decide<Backend>(o.orthogonalizer, o.published, 1, 1);  // refuses an unsafe table, whatever the shape
    return push_group({o, rule, factors});
  }
  group_id push_group(const group& g) {
    validate_not_negative("learning_rate factor", g.factors.learning_rate);
    validate_not_negative("weight_decay factor", g.factors.weight_decay);
    normuon::validate_numbers<real>(g, gradient_scale_);
    groups_.push_back(g);
    groups_.back().given = g.options;
    planned_ = false;
    return static_cast<group_id>(groups_.size() - 1);
  }

  // The group with one number set. Throws where the result is not valid.
  group changed(group g, double normuon_options::*matrix, double adamw_options::*elements, double x) const {
    if (auto* o = std::get_if<normuon_options>(&g.options)) o->*matrix = x;
    else std::get<adamw_options>(g.options).*elements = x;
    normuon::validate_numbers<real>(g, gradient_scale_);
    return g;
  }
  void set(group_id id, double normuon_options::*matrix, double adamw_options::*elements, double x) {
    group& g = group_at(id);
    g = changed(g, matrix, elements, x);
  }
};

}  // namespace normuon

#endif
