// The stages of a step over a plan: stage what changed on the host, check every gradient, then advance, direct and
// apply, run by run. Nothing after the check can be refused; only a failing device or peer can stop it.
#ifndef NORMUON_OPTIMIZER_STEP_HPP
#define NORMUON_OPTIMIZER_STEP_HPP

#include <cstring>
#include <optional>

#include "normuon/optimizer/plan.hpp"

namespace normuon {

// What a step needs to know besides its plan.
struct step_settings {
  write_form write = write_form::weight;
  bool propagate = false;  // non-finite numbers are let through
  bool diagnostics = false;
};

template <tensor_backend B>
class stepper {
 public:
  stepper(plan<B>& p, const std::vector<group>& groups, const step_settings& settings)
      : p_(p), groups_(groups), settings_(settings) {}

  // Notes on the host this step's numbers and flags, and where weights, gradients and change buffers are now.
  void stage(const std::vector<parameter<B>>& parameters, double gradient_scale) {
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const step_values values = groups_[g].values(gradient_scale);
      std::memcpy(p_.staged.data() + g * step_numbers::count, &values, sizeof values);
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const parameter<B>& q = parameters[i];
      p_.staged_outcome[i] = q.frozen ? outcome::frozen : q.has_gradient() ? outcome::moved : outcome::absent;
      p_.staged_ok(i) = p_.staged_outcome[i] == outcome::moved ? 1 : 0;
      for (index_t batch = 0; batch < p_.count[i]; ++batch) {
        const auto k = static_cast<std::size_t>(p_.first[i] + batch);
        p_.W[k] = q.weight.one(batch);
        p_.G[k] = q.has_gradient() ? q.gradient.one(batch) : p_.W[k];
        if (!q.has_gradient()) p_.G[k].data = nullptr;  // absent, but of a shape
        if (settings_.write == write_form::change) p_.change[k] = q.change.one(batch);
      }
    }
  }

  // Clears the flag of every parameter whose scaled gradient isn't finite: one read of all gradients. Parameter by
  // parameter for workers, who skip what the host knows not to move; a recorded check is of as many as there are.
  void check(B& b) {
    if constexpr (has_capture<B>) {
      for (const run& a : p_.runs) b.all_finite(of(p_.ok, a), of(p_.G, a), p_.numbers(a.group).gradient_scale);
      return;
    }
    for_each(b, static_cast<index_t>(p_.first.size()), [this](B& worker, int, index_t parameter) {
      const auto i = static_cast<std::size_t>(parameter);
      const auto first = static_cast<std::size_t>(p_.first[i]), count = static_cast<std::size_t>(p_.count[i]);
      if (count == 0 || p_.staged_ok(i) == 0) return;
      worker.all_finite(flags(p_.ok).subspan(first, count), views(p_.G).subspan(first, count),
                        p_.numbers(p_.group_of[first]).gradient_scale);
    });
  }

  // Moves all parameters. progress[i] of run i is 1 from its beginning, 2 from its end.
  void move(B& b, std::vector<std::uint8_t>& progress) {
    b.count(p_.parameter_counter, p_.parameter_ok);
    const auto move_run = [&, this](B& worker, int index, std::size_t i) {
      const run& a = p_.runs[i];
      const bool moves = may_move(a);
      if (!moves && settings_.write == write_form::weight) return;
      progress[i] = 1;
      if (a.shape < 0) move_elements(worker, a);
      else if (!moves) write_no_change(worker, a);
      else move_matrices(worker, p_.workspaces[static_cast<std::size_t>(a.workspace < 0 ? index : a.workspace)], a);
      progress[i] = 2;
    };
    for (std::size_t i = 0; i < p_.shared_runs; ++i) move_run(b, 0, i);
    for_each(b, static_cast<index_t>(p_.runs.size() - p_.shared_runs), [&, this](B& worker, int index, index_t i) {
      move_run(worker, index, p_.shared_runs + static_cast<std::size_t>(i));
    });
  }

 private:
  template <class T>
  static std::span<const T> of(const std::vector<T>& table, const run& a) {
    return std::span<const T>(table).subspan(static_cast<std::size_t>(a.first), static_cast<std::size_t>(a.count));
  }
  template <class T>
  static vectors<T> of(const std::vector<T*>& table, const run& a, index_t length) {
    return {of(table, a), length};
  }

  const group& group_of(const run& a) const { return groups_[static_cast<std::size_t>(a.group)]; }
  views out(const run& a) const { return of(settings_.write == write_form::weight ? p_.W : p_.change, a); }

  // What the group of a run says of weights of 16 bits, where there are any.
  normuon::low_bits low_bits(const run& a) const {
    const views written = out(a), masters = of(p_.master, a);
    const auto any = [](views table, auto&& is) { return std::any_of(table.begin(), table.end(), is); };
    if (any(masters, [](const matrix_view& v) { return v.data != nullptr; })) return {.masters = masters};
    if (group_of(a).weight_rounding() != weight_rounding::stochastic ||
        !any(written, [](const matrix_view& v) { return size_of(v.type) == 2; }))
      return {};
    return {.streams = of(p_.streams, a), .steps = of(p_.counter, a)};
  }

  // False where the host knows that no matrix of the run moves. A recorded step has to take all of them.
  bool may_move(const run& a) const {
    if (has_capture<B>) return true;
    for (const std::size_t i : of(p_.parameter_of, a))
      if (p_.staged_ok(i) != 0) return true;
    return false;
  }

  void move_elements(B& b, const run& a) {
    const auto& o = std::get<adamw_options>(group_of(a).options);
    adamw_rule<B>::apply(b, o, out(a), of(p_.W, a), of(p_.M, a), of(p_.V, a), of(p_.G, a), of(p_.counter, a),
                         of(p_.norm, a), p_.numbers(a.group), {o.decay, settings_.write}, of(p_.ok, a), low_bits(a));
  }

  // All flags of the run are 0, so nothing is read, and zeros are written where changes go.
  void write_no_change(B& b, const run& a) {
    const step_numbers k = p_.numbers(a.group);
    b.apply(out(a), of(p_.W, a), of(p_.W, a), k.rate, k.decay, {.write = write_form::change}, of(p_.ok, a), {});
  }

  void move_matrices(B& b, workspace<B>& w, const run& a) {
    using rule = normuon_rule<B>;
    const auto& o = std::get<normuon_options>(group_of(a).options);
    const matrix_plan& shape = p_.shapes[static_cast<std::size_t>(a.shape)];
    const step_numbers k = p_.numbers(a.group);
    place(p_.U, o.nesterov ? &w.U : nullptr, a, shape);
    if constexpr (!has_fused_neuron_step<B>) place(p_.D, &w.D, a, shape);
    const index_t neurons = p_.neurons[static_cast<std::size_t>(a.first)];
    const bool has_v = shape.factors.axis != neuron_axis::none;
    owner<B> s{.v = has_v ? of(p_.v, a, neurons) : vectors<typename B::real>{},
               .f = of(p_.f, a, neurons),
               .r = of(p_.r, a, neurons),
               .norms = of(p_.norm, a),
               .sound = settings_.propagate ? flags{} : of(p_.sound, a),
               .work = &w.iteration};
    rule::advance(b, o, of(p_.M, a), of(p_.U, a), of(p_.G, a), k, of(p_.ok, a));
    rule::direct_and_apply(b, shape, s, out(a), of(p_.W, a), of(p_.D, a), of(p_.U, a), k, {o.decay, settings_.write},
                           of(p_.ok, a), low_bits(a));
    if (settings_.diagnostics) {
      gram(b, w.iteration.A, w.iteration.X);
      b.mean_squares(of(p_.q, a, std::min(shape.factors.rows, shape.factors.cols)), w.iteration.A, side::rows);
    }
  }

  // Lets the table's views of the run lie in the workspace, or where M is if there is none.
  void place(std::vector<matrix_view>& table, const typename B::memory* memory, const run& a,
             const matrix_plan& shape) {
    const index_t m = shape.factors.rows, n = shape.factors.cols;
    for (index_t i = 0; i < a.count; ++i) {
      const auto k = static_cast<std::size_t>(a.first + i);
      table[k] = memory ? row_major(address_of<typename B::real>(memory->data()) + i * m * n, m, n) : p_.M[k];
    }
  }

  plan<B>& p_;
  const std::vector<group>& groups_;
  step_settings settings_;
};

// The recorded steps of a backend that captures; nothing for others.
template <tensor_backend B>
struct step_programs {};

template <tensor_backend B>
  requires has_capture<B>
struct step_programs<B> {
  std::optional<typename B::program> weight, change;

  auto& of(write_form form) { return form == write_form::weight ? weight : change; }
};

}  // namespace normuon

#endif
