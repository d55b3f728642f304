// What a step does, laid out once for a set of parameters: banks cut into runs, tables of views, and the memory that is
// not state. Made as a whole or not at all, so that a failure to make it changes nothing.
#ifndef NORMUON_OPTIMIZER_PLAN_HPP
#define NORMUON_OPTIMIZER_PLAN_HPP

#include <algorithm>
#include <limits>
#include <numeric>
#include <string_view>
#include <vector>

#include "normuon/optimizer/run.hpp"
#include "normuon/report.hpp"

namespace normuon {

struct plan_settings {
  std::size_t limit = 0;     // bytes of workspace that a run of several matrices may need, 0 for no limit
  bool diagnostics = false;  // there is room for what is measured on request
  std::uint64_t seed = 0;    // of random numbers
  int rank = 0, ranks = 1;
  element_type wire =
      element_type_of<float>;  // in which U and D travel, and to which they are rounded where they don't
};

template <tensor_backend B>
class plan {
 public:
  using real = typename B::real;

  plan() = default;
  plan(B& b, const std::vector<group>& groups, const std::vector<parameter<B>>& parameters, const plan_settings& s)
      : settings_(s) {
    place_matrices(groups, parameters);
    make_constants(b);
    make_slots(b, groups.size(), parameters);
    make_tables(groups, parameters);
    make_neuron_vectors(b);
    cut_runs(b, groups);
    shared_runs = runs_shared_by(b, shapes, runs);
    workspaces = make_workspaces(b, shapes, runs);
  }

  std::vector<matrix_plan> shapes;
  std::vector<run> runs;        // the most expensive first, so that workers end together
  std::size_t shared_runs = 0;  // so many of the first are done by all workers together, one after the other

  // One entry per parameter.
  std::vector<index_t> first, count;  // its matrices in the tables below
  std::vector<slot> parameter_ok, parameter_counter;
  std::vector<std::uint8_t> is_of_one_run;  // all of its matrices are; 0 where there are none
  std::vector<outcome> staged_outcome;      // of the step that was staged last: moved, frozen or absent

  // One entry per matrix of which this rank has all to do; of an elementwise rule, per part of one. Behind those follow
  // the matrices that it owns while others hold them too, whose W and G have sizes only. U and D are of the workspace
  // that serves the run.
  std::vector<matrix_view> W, change, G, M, V, U, D, master;
  std::vector<slot> ok, sound, norm, counter;
  std::vector<random_stream> streams;
  std::vector<real*> v, f, r, q;  // q: row norms of O O^T, for the orthogonality residual
  std::vector<index_t> neurons;   // lengths of f and r
  std::vector<int> shape_of, group_of;
  std::vector<std::size_t> parameter_of;
  std::size_t local = 0;  // so many of the first are in runs

  std::vector<workspace<B>> workspaces;

  // Slots on the device, and what the host writes into the first of them at every step: numbers, then flags.
  std::vector<double> staged;
  typename B::memory slots_memory, reals_memory;

  int rank() const { return settings_.rank; }
  int ranks() const { return settings_.ranks; }
  element_type wire() const { return settings_.wire; }
  bool is_narrow() const { return wire() != element_type_of<real>; }

  // Numbers that never change, and a matrix of one 0 that is as large as it is said to be.
  number one() const { return address_of<double>(constants_.data()); }
  number none() const { return one() + 1; }
  number not_a_number() const { return one() + 2; }
  const matrix_view* zero() const { return &zero_; }

  step_numbers numbers(int group) const { return step_numbers(slot_at(group * step_numbers::count)); }
  double& staged_ok(std::size_t parameter) { return staged[staged.size() - first.size() + parameter]; }
  double staged_ok(std::size_t parameter) const { return staged[staged.size() - first.size() + parameter]; }
  std::size_t workspace_bytes() const {
    return std::accumulate(workspaces.begin(), workspaces.end(), std::size_t{0},
                           [](std::size_t sum, const workspace<B>& w) { return sum + w.bytes; });
  }

 private:
  struct bank {
    int group;
    index_t rows, cols;  // 0 x 0: an elementwise rule takes any shape
    bool travels;
    friend bool operator==(const bank&, const bank&) = default;
  };

  slot slot_at(index_t i) const { return address_of<double>(slots_memory.data()) + i; }

  bank bank_of(const std::vector<group>& groups, const parameter<B>& p) const {
    if (!groups[static_cast<std::size_t>(p.group)].is_matrix_rule()) return {p.group, 0, 0, false};
    return {p.group, p.rows, p.cols, p.travels(settings_.ranks)};
  }

  // Gives every matrix its place: bank after bank, a parameter's matrices together. Empty matrices get none, and those
  // that others own.
  void place_matrices(const std::vector<group>& groups, const std::vector<parameter<B>>& parameters) {
    first.assign(parameters.size(), 0);
    count.assign(parameters.size(), 0);
    staged_outcome.assign(parameters.size(), outcome::absent);
    std::vector<bank> banks;
    for (const parameter<B>& p : parameters)
      if (std::find(banks.begin(), banks.end(), bank_of(groups, p)) == banks.end()) banks.push_back(bank_of(groups, p));
    std::stable_partition(banks.begin(), banks.end(), [](const bank& b) { return !b.travels; });
    for (const bank& wanted : banks) {
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const parameter<B>& p = parameters[i];
        if (bank_of(groups, p) != wanted || p.elements() == 0) continue;
        first[i] = static_cast<index_t>(group_of.size());
        count[i] = wanted.travels ? std::count(p.owners.begin(), p.owners.end(), settings_.rank)
                                  : static_cast<index_t>(p.parts.size()) * p.batch;
        group_of.insert(group_of.end(), static_cast<std::size_t>(count[i]), wanted.group);
        parameter_of.insert(parameter_of.end(), static_cast<std::size_t>(count[i]), i);
      }
      if (!wanted.travels) local = group_of.size();
    }
  }

  void make_constants(B& b) {
    constexpr double numbers[] = {1, 0, std::numeric_limits<double>::quiet_NaN(), 0};
    constants_ = b.allocate(sizeof numbers);
    b.write(constants_.data(), numbers, sizeof numbers);
    zero_ = row_major_of(element_type_of<real>, constants_.data() + 3 * sizeof(double), 0, 0);
    zero_.row_stride = zero_.col_stride = 0;
  }

  void make_slots(B& b, std::size_t groups, const std::vector<parameter<B>>& parameters) {
    const std::size_t staged_count = groups * step_numbers::count + parameters.size();
    staged.assign(staged_count, 0.0);
    slots_memory = b.allocate((staged_count + 2 * group_of.size()) * sizeof(double));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      parameter_ok.push_back(slot_at(static_cast<index_t>(staged_count - parameters.size() + i)));
      parameter_counter.push_back(parameters[i].state.counter());
    }
    for (std::size_t i = 0; i < group_of.size(); ++i) {
      sound.push_back(slot_at(static_cast<index_t>(staged_count + i)));
      norm.push_back(slot_at(static_cast<index_t>(staged_count + group_of.size() + i)));
    }
  }

  void make_tables(const std::vector<group>& groups, const std::vector<parameter<B>>& parameters) {
    const std::size_t all = group_of.size();
    for (auto* table : {&W, &change, &G, &M, &V, &U, &D, &master}) table->resize(all);
    streams.resize(all);
    for (auto* table : {&v, &f, &r, &q}) table->resize(all);
    for (auto* table : {&ok, &counter}) table->resize(all);
    neurons.resize(all);
    shape_of.assign(all, -1);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const parameter<B>& p = parameters[i];
      const group& g = groups[static_cast<std::size_t>(p.group)];
      const int shape = count[i] != 0 && g.is_matrix_rule() ? shape_for(p.group, g, p.rows, p.cols) : -1;
      auto k = static_cast<std::size_t>(first[i]);
      if (k < local) {
        for (const parameter_part& part : p.parts)
          for (index_t batch = 0; batch < (count[i] == 0 ? 0 : p.batch); ++batch)
            place_entry(k++, i, p, part, batch, shape);
        continue;
      }
      for (index_t batch = 0; count[i] != 0 && batch < p.batch; ++batch)
        if (p.owners[static_cast<std::size_t>(batch)] == settings_.rank) place_owned(k++, i, p, batch, shape);
    }
  }

  void place_entry(std::size_t k, std::size_t i, const parameter<B>& p, const parameter_part& part, index_t batch,
                   int shape) {
    if (shape < 0) {
      ok[k] = parameter_ok[i];
      counter[k] = parameter_counter[i];
      shape_of[k] = shape;
      V[k] = part.moments_view(p.state.second(), batch);
    } else {
      place_owned(k, i, p, batch, shape);
    }
    M[k] = part.moments_view(p.state.momentum(), batch);
    if (p.has_master) master[k] = part.master_view(p.state.master(), batch);
    W[k] = part.weight.one(batch);
    streams[k] = p.stream(settings_.seed, part.where, batch);
  }

  // What the owner of a matrix needs for it.
  void place_owned(std::size_t k, std::size_t i, const parameter<B>& p, index_t batch, int shape) {
    ok[k] = parameter_ok[i];
    counter[k] = parameter_counter[i];
    shape_of[k] = shape;
    const neuron_axis axis = shapes[static_cast<std::size_t>(shape)].factors.axis;
    v[k] = p.state.second() + batch * neuron_count(axis, p.rows, p.cols);
    neurons[k] = neuron_count(axis == neuron_axis::none ? neuron_axis::rows : axis, p.rows, p.cols);
    W[k] = row_major(static_cast<real*>(nullptr), p.rows, p.cols);
  }

  // f and r of every matrix, and q where it is asked for, in one piece of memory.
  void make_neuron_vectors(B& b) {
    const auto q_length = [&](std::size_t k) {
      return (settings_.diagnostics || ranks() > 1) && shape_of[k] >= 0 ? std::min(W[k].rows, W[k].cols) : 0;
    };
    index_t total = 0;
    for (std::size_t k = 0; k < neurons.size(); ++k) total += 2 * neurons[k] + q_length(k);
    reals_memory = b.allocate(static_cast<std::size_t>(total) * sizeof(real));
    real* next = address_of<real>(reals_memory.data());
    for (std::size_t k = 0; k < neurons.size(); ++k) {
      f[k] = next;
      r[k] = next + neurons[k];
      q[k] = r[k] + neurons[k];
      next = q[k] + q_length(k);
    }
  }

  // The index of the matrix_plan for m x n matrices of group `id`; made where there is none yet.
  int shape_for(int id, const group& g, index_t m, index_t n) {
    for (std::size_t i = 0; i < shapes.size(); ++i)
      if (group_of_shape_[i] == id && shapes[i].factors.rows == m && shapes[i].factors.cols == n)
        return static_cast<int>(i);
    const auto& o = std::get<normuon_options>(g.options);
    const matrix_plan p{decide<B>(o.orthogonalizer, o.published, m, n),
                        {.axis = axis_for(o.neuron_axis, m, n),
                         .epsilon = o.epsilon,
                         .form = o.epsilon_form,
                         .scale = o.scale,
                         .ratio_added = o.orthogonalizer.guard == norm_guard::exact ? 0 : o.published.ratio_added,
                         .ratio_floor = o.orthogonalizer.guard == norm_guard::exact ? 0 : o.published.ratio_floor,
                         .rows = m,
                         .cols = n}};
    shapes.push_back(p);
    group_of_shape_.push_back(id);
    return static_cast<int>(shapes.size()) - 1;
  }

  // Runs of the matrices that are this rank's alone, the most expensive first.
  void cut_runs(B& b, const std::vector<group>& groups) {
    const auto same_bank = [&](std::size_t i, std::size_t k) {
      return group_of[i] == group_of[k] && (shape_of[i] < 0 || (W[i].rows == W[k].rows && W[i].cols == W[k].cols));
    };
    for (std::size_t i = 0; i < local;) {
      std::size_t end = i;
      while (end < local && same_bank(i, end)) ++end;
      const index_t length = run_length(b, run_of(groups, i, 1));
      for (; i < end; i += static_cast<std::size_t>(runs.back().count))
        runs.push_back(run_of(groups, i, std::min(length, static_cast<index_t>(end - i))));
    }
    std::stable_sort(runs.begin(), runs.end(), [](const run& a, const run& c) { return a.cost > c.cost; });
    is_of_one_run.assign(first.size(), 0);
    for (const run& a : runs)
      for (const std::size_t i : entries_of(parameter_of, a))
        is_of_one_run[i] = first[i] >= a.first && first[i] + count[i] <= a.first + a.count ? 1 : 0;
  }

  run run_of(const std::vector<group>& groups, std::size_t i, index_t length) const {
    const index_t m = W[i].rows, n = W[i].cols;
    const double cost = cost_of(shape_of[i] >= 0, m, n) * static_cast<double>(length);
    run a{group_of[i], shape_of[i], static_cast<index_t>(i), length, m, n, cost};
    if (a.shape < 0) return a;
    const bool narrow = settings_.wire != element_type_of<real>;
    a.stores_U = narrow || std::get<normuon_options>(groups[static_cast<std::size_t>(a.group)].options).nesterov;
    a.stores_D = narrow || !has_fused_neuron_step<B>;
    return a;
  }

  // As many matrices like that of the run `one` as the backend likes, and as the limit allows.
  index_t run_length(B& b, const run& one) const {
    const auto [s, l] = std::minmax(one.rows, one.cols);
    const index_t wanted = std::max<index_t>(1, b.run_length({s, l, 1, compute_of<B>(shapes, one.shape)}));
    if (one.shape < 0) return wanted;
    const std::size_t bytes = sum(bytes_for(b, shapes, one));
    if (settings_.limit == 0 || bytes == 0) return wanted;
    return static_cast<index_t>(std::clamp<std::size_t>(settings_.limit / bytes, 1, static_cast<std::size_t>(wanted)));
  }

  plan_settings settings_;
  std::vector<int> group_of_shape_;
  typename B::memory constants_;
  matrix_view zero_;
};

}  // namespace normuon

#endif
