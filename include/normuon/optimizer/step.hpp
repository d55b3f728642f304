// The stages of a step over a plan: stage what changed on the host, check gradients, all of them first or each before
// its run, then advance, direct and apply, run by run. Nothing after the check can be refused; only a failing device or
// peer can stop it.
#ifndef NORMUON_OPTIMIZER_STEP_HPP
#define NORMUON_OPTIMIZER_STEP_HPP

#include <cstring>

#include "normuon/optimizer/options.hpp"
#include "normuon/optimizer/plan.hpp"
#include "normuon/shards/digest.hpp"

namespace normuon {

// What a step needs to know besides its plan.
struct step_settings {
  write_form write = write_form::weight;
  bool propagate = false;  // non-finite numbers are let through
  bool diagnostics = false;
  bool zero_missing = false;  // a missing gradient is a gradient of zeros
  // What is held back need not be known before anything moves. A gradient is then checked right before its run, which
  // finds in a cache what fits there.
  bool checks_in_runs = false;
};

// What an optimizer's options make of its next step.
template <tensor_backend B>
step_settings settings_of(const optimizer_options& o, write_form write, bool diagnostics, int ranks) {
  return {.write = write,
          .propagate = o.non_finite == non_finite_policy::propagate,
          .diagnostics = diagnostics,
          .zero_missing = o.missing_gradient == missing_gradient_policy::zero,
          .checks_in_runs = has_host_memory<B> && ranks == 1 && o.non_finite == non_finite_policy::skip};
}

// The gradient of one matrix; where none is bound, `zero` as its every element, or a view without memory that has the
// weight's sizes.
inline matrix_view gradient_of(const parameter_part& part, index_t entry, const matrix_view* zero) {
  if (part.gradient.batch != 0) return part.gradient.one(entry);
  matrix_view absent = zero ? *zero : part.weight.one(entry);
  if (!zero) absent.data = nullptr;
  absent.rows = part.where.rows;
  absent.cols = part.where.cols;
  return absent;
}

// Whether parameter i moves, as far as the host can tell after the check.
template <tensor_backend B>
bool moves(const plan<B>& p, std::size_t i) {
  if constexpr (has_host_memory<B>)
    if (p.ranks() > 1) return *p.parameter_ok[i] != 0;
  return p.staged_ok(i) != 0;
}

// out <- A, rounded to the type of out.
template <tensor_backend B>
void copy(B& b, const plan<B>& p, views out, views A, flags ok) {
  b.blend(out, p.one(), A, p.none(), A, ok);
}

// What a group says of weights of 16 bits, where there are any.
inline low_bits low_bits_of(weight_rounding rounding, views written, views masters,
                            std::span<const random_stream> streams, slots steps) {
  const auto any = [](views table, auto&& is) { return std::any_of(table.begin(), table.end(), is); };
  if (any(masters, [](const matrix_view& v) { return v.data != nullptr; })) return {.masters = masters};
  if (rounding != weight_rounding::stochastic ||
      !any(written, [](const matrix_view& v) { return size_of(v.type) == 2; }))
    return {};
  return {.streams = streams, .steps = steps};
}

// What the owner of a run keeps, and uses while it makes the update.
template <tensor_backend B>
owner<B> owner_of(plan<B>& p, const run& a, iteration_workspace<B>& work, bool propagate) {
  const index_t neurons = p.neurons[static_cast<std::size_t>(a.first)];
  const bool has_v = p.shapes[static_cast<std::size_t>(a.shape)].factors.axis != neuron_axis::none;
  return {.v = has_v ? entries_of(p.v, a, neurons) : vectors<typename B::real>{},
          .f = entries_of(p.f, a, neurons),
          .r = entries_of(p.r, a, neurons),
          .norms = entries_of(p.norm, a),
          .sound = propagate ? flags{} : entries_of(p.sound, a),
          .work = &work};
}

// Row norms of O O^T, for the report.
template <tensor_backend B>
void measure_residual(B& b, plan<B>& p, const run& a, iteration_workspace<B>& work) {
  gram(b, work.A, work.X);
  b.mean_squares(entries_of(p.q, a, std::min(a.rows, a.cols)), work.A, side::rows);
}

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
      const bool given = q.has_gradient || settings_.zero_missing;
      p_.staged_outcome[i] = q.frozen ? outcome::frozen : given ? outcome::moved : outcome::absent;
      // A gradient that is missing here may be there on another rank, which is not known yet.
      p_.staged_ok(i) = !q.frozen && (given || p_.ranks() > 1) ? 1 : 0;
      auto k = static_cast<std::size_t>(p_.first[i]);
      if (p_.count[i] == 0 || k >= p_.local) continue;
      for (const parameter_part& part : q.parts)
        for (index_t entry = 0; entry < q.batch; ++entry, ++k) {
          p_.W[k] = part.weight.one(entry);
          p_.G[k] = gradient_of(part, entry, p_.staged_ok(i) != 0 ? p_.zero() : nullptr);
          if (settings_.write == write_form::change) p_.change[k] = part.change.one(entry);
        }
    }
  }

  // Clears the flag of every parameter whose scaled gradient isn't finite, but for those that are left to their run:
  // one read of their gradients. Parameter by parameter for workers, who skip what the host knows not to move; a
  // recorded check is of as many as there are.
  void check(B& b) {
    if constexpr (has_capture<B>) {
      for (const run& a : p_.runs) b.all_finite(of(p_.ok, a), of(p_.G, a), p_.numbers(a.group).gradient_scale);
      return;
    }
    for_each(b, static_cast<index_t>(p_.first.size()), [this](B& worker, int, index_t parameter) {
      const auto i = static_cast<std::size_t>(parameter);
      if (!is_checked_in_run(i)) check(worker, i);
    });
  }

  // Counts the step of the same parameters, where their flag is set.
  void count(B& b) {
    if (!settings_.checks_in_runs) return b.count(p_.parameter_counter, p_.parameter_ok);
    for (std::size_t i = 0; i < p_.first.size(); ++i)
      if (!is_checked_in_run(i)) count(b, i);
  }

  // Of all that may be set anew for each step, as it was staged.
  std::uint64_t digest_of_numbers() const {
    const std::span<const double> numbers = std::span(p_.staged).first(groups_.size() * step_numbers::count);
    return digest_with(digest_of(std::as_bytes(numbers)), static_cast<std::uint64_t>(settings_.write));
  }

  // Moves what is this rank's alone. progress[i] of run i is 1 from its beginning, 2 from its end. between: called
  // before every run and between steps of iterations.
  void move(B& b, std::span<std::uint8_t> progress, hook between) {
    const auto move_run = [&, this](B& worker, int index, std::size_t i) {
      const run& a = p_.runs[i];
      between();
      const bool moves = may_move(a);
      if (!moves && settings_.write == write_form::weight) return;
      check_and_count(worker, a);
      progress[i] = 1;
      if (a.shape < 0) move_elements(worker, a);
      else if (!moves) write_no_change(worker, a);
      else move_matrices(worker, workspace_of(a, index, between), a);
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
    return entries_of(table, a);
  }

  bool is_checked_in_run(std::size_t parameter) const {
    return settings_.checks_in_runs && p_.is_of_one_run[parameter] != 0;
  }
  void check(B& b, std::size_t i) {
    const auto first = static_cast<std::size_t>(p_.first[i]), count = static_cast<std::size_t>(p_.count[i]);
    if (count == 0 || first >= p_.local || p_.staged_ok(i) == 0) return;
    b.all_finite(flags(p_.ok).subspan(first, count), views(p_.G).subspan(first, count),
                 p_.numbers(p_.group_of[first]).gradient_scale);
  }
  void count(B& b, std::size_t i) { b.count({&p_.parameter_counter[i], 1}, {&p_.parameter_ok[i], 1}); }

  // Of the parameters that were left to the run.
  void check_and_count(B& b, const run& a) {
    for (index_t k = a.first; k < a.first + a.count;) {
      const std::size_t i = p_.parameter_of[static_cast<std::size_t>(k)];
      if (is_checked_in_run(i)) check(b, i), count(b, i);
      k = p_.first[i] + p_.count[i];
    }
  }

  workspace<B>& workspace_of(const run& a, int worker, hook between) {
    workspace<B>& w = p_.workspaces[static_cast<std::size_t>(a.workspace < 0 ? worker : a.workspace)];
    w.iteration.between = between;
    return w;
  }

  const group& group_of(const run& a) const { return groups_[static_cast<std::size_t>(a.group)]; }
  views out(const run& a) const { return of(settings_.write == write_form::weight ? p_.W : p_.change, a); }

  normuon::low_bits low_bits(const run& a) const {
    return low_bits_of(group_of(a).weight_rounding(), out(a), of(p_.master, a), of(p_.streams, a), of(p_.counter, a));
  }

  // False where the host knows that no matrix of the run moves. A recorded step has to take all of them.
  bool may_move(const run& a) const {
    if (has_capture<B>) return true;
    for (const std::size_t i : of(p_.parameter_of, a))
      if (moves(p_, i)) return true;
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
    place(p_.U, a.stores_U ? &w.U : nullptr, a);
    if (a.stores_D) place(p_.D, &w.D, a);
    owner<B> s = owner_of(p_, a, w.iteration, settings_.propagate);
    const flags ok = of(p_.ok, a);
    const update_formula formula{o.decay, settings_.write};
    rule::advance(b, o.nesterov, of(p_.M, a), of(p_.U, a), of(p_.G, a), k, ok);
    if (p_.is_narrow()) {
      if (!o.nesterov) copy(b, p_, of(p_.U, a), of(p_.M, a), ok);
      rule::direct(b, shape, s, of(p_.D, a), of(p_.U, a), k, ok);
      rule::apply(b, out(a), of(p_.W, a), of(p_.D, a), k, formula, s.obeyed(ok), low_bits(a));
    } else {
      rule::direct_and_apply(b, shape, s, out(a), of(p_.W, a), of(p_.D, a), of(p_.U, a), k, formula, ok, low_bits(a));
    }
    if (settings_.diagnostics) measure_residual(b, p_, a, w.iteration);
  }

  // Lets the table's views of the run lie in the workspace, or where M is if there is none.
  void place(std::vector<matrix_view>& table, const typename B::memory* memory, const run& a) {
    const index_t bytes = a.rows * a.cols * static_cast<index_t>(size_of(p_.wire()));
    for (index_t i = 0; i < a.count; ++i) {
      const auto k = static_cast<std::size_t>(a.first + i);
      table[k] = memory ? row_major_of(p_.wire(), memory->data() + i * bytes, a.rows, a.cols) : p_.M[k];
    }
  }

  plan<B>& p_;
  const std::vector<group>& groups_;
  step_settings settings_;
};

}  // namespace normuon

#endif
