// What a step does, laid out once for a set of parameters: banks cut into runs, tables of views, and the memory that is
// not state. Made as a whole or not at all, so that a failure to make it changes nothing.
#ifndef NORMUON_OPTIMIZER_PLAN_HPP
#define NORMUON_OPTIMIZER_PLAN_HPP

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <vector>

#include "normuon/optimizer/run.hpp"
#include "normuon/optimizer/sharing.hpp"
#include "normuon/report.hpp"

namespace normuon {

template <tensor_backend B>
class plan {
 public:
  using real = typename B::real;

  plan() = default;
  // `limit`: bytes of workspace that a run of several matrices may need, 0 for no limit. `seed`: of random numbers.
  plan(B& b, const std::vector<group>& groups, const std::vector<parameter<B>>& parameters, std::size_t limit,
       bool diagnostics, std::uint64_t seed = 0) {
    place_matrices(groups, parameters);
    make_slots(b, groups.size(), parameters);
    make_tables(groups, parameters, seed);
    make_neuron_vectors(b, diagnostics);
    cut_runs(b, groups, limit);
    if constexpr (has_shared_runs<B>) shared_runs = runs_shared_by(b);
    make_workspaces(b, groups);
  }

  std::vector<matrix_plan> shapes;
  std::vector<run> runs;        // the most expensive first, so that workers end together
  std::size_t shared_runs = 0;  // so many of the first are done by all workers together, one after the other

  // One entry per parameter.
  std::vector<index_t> first, count;  // its matrices in the tables below
  std::vector<slot> parameter_ok, parameter_counter;
  std::vector<outcome> staged_outcome;  // of the step that was staged last: moved, frozen or absent

  // One entry per matrix. U and D are of the workspace that serves the run.
  std::vector<matrix_view> W, change, G, M, V, U, D, master;
  std::vector<slot> ok, sound, norm, counter;
  std::vector<random_stream> streams;
  std::vector<real*> v, f, r, q;  // q: row norms of O O^T, for the orthogonality residual
  std::vector<index_t> neurons;   // lengths of f and r
  std::vector<int> shape_of, group_of;
  std::vector<std::size_t> parameter_of;

  std::vector<workspace<B>> workspaces;

  // Slots on the device, and what the host writes into the first of them at every step: numbers, then flags.
  std::vector<double> staged;
  typename B::memory slots_memory, reals_memory;

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
    friend bool operator==(const bank&, const bank&) = default;
  };

  slot slot_at(index_t i) const { return address_of<double>(slots_memory.data()) + i; }

  static bank bank_of(const std::vector<group>& groups, const parameter<B>& p) {
    if (!groups[static_cast<std::size_t>(p.group)].is_matrix_rule()) return {p.group, 0, 0};
    return {p.group, p.weight.first.rows, p.weight.first.cols};
  }

  // Gives every matrix its place: bank after bank, a parameter's matrices together. Empty matrices get none.
  void place_matrices(const std::vector<group>& groups, const std::vector<parameter<B>>& parameters) {
    first.assign(parameters.size(), 0);
    count.assign(parameters.size(), 0);
    staged_outcome.assign(parameters.size(), outcome::absent);
    std::vector<bank> banks;
    for (const parameter<B>& p : parameters)
      if (std::find(banks.begin(), banks.end(), bank_of(groups, p)) == banks.end()) banks.push_back(bank_of(groups, p));
    index_t place = 0;
    for (const bank& wanted : banks)
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (bank_of(groups, parameters[i]) != wanted || parameters[i].weight.elements() == 0) continue;
        first[i] = place;
        count[i] = parameters[i].weight.batch;
        place += count[i];
        group_of.insert(group_of.end(), static_cast<std::size_t>(count[i]), wanted.group);
        parameter_of.insert(parameter_of.end(), static_cast<std::size_t>(count[i]), i);
      }
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

  void make_tables(const std::vector<group>& groups, const std::vector<parameter<B>>& parameters, std::uint64_t seed) {
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
      const index_t m = p.weight.first.rows, n = p.weight.first.cols;
      const int shape = count[i] != 0 && g.is_matrix_rule() ? shape_for(p.group, g, m, n) : -1;
      for (index_t batch = 0; batch < count[i]; ++batch) {
        const auto k = static_cast<std::size_t>(first[i] + batch);
        ok[k] = parameter_ok[i];
        counter[k] = parameter_counter[i];
        M[k] = row_major(p.state.momentum() + batch * m * n, m, n);
        shape_of[k] = shape;
        if (shape < 0) {
          V[k] = row_major(p.state.second() + batch * m * n, m, n);
        } else {
          const neuron_axis axis = shapes[static_cast<std::size_t>(shape)].factors.axis;
          v[k] = p.state.second() + batch * neuron_count(axis, m, n);
          neurons[k] = neuron_count(axis == neuron_axis::none ? neuron_axis::rows : axis, m, n);
        }
        W[k] = p.weight.one(batch);
        if (p.has_master) master[k] = row_major(p.state.master() + batch * m * n, m, n);
        streams[k] = {random_key(seed, p.name), batch * m * n, n};
      }
    }
  }

  // f and r of every matrix, and q where it is asked for, in one piece of memory.
  void make_neuron_vectors(B& b, bool diagnostics) {
    const auto q_length = [&](std::size_t k) {
      return diagnostics && shape_of[k] >= 0 ? std::min(W[k].rows, W[k].cols) : 0;
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

  void cut_runs(B& b, const std::vector<group>& groups, std::size_t limit) {
    const auto same_bank = [&](std::size_t i, std::size_t k) {
      return group_of[i] == group_of[k] && (shape_of[i] < 0 || (W[i].rows == W[k].rows && W[i].cols == W[k].cols));
    };
    for (std::size_t i = 0; i < group_of.size();) {
      std::size_t end = i;
      while (end < group_of.size() && same_bank(i, end)) ++end;
      const index_t length = run_length(b, groups, i, limit);
      for (; i < end; i += static_cast<std::size_t>(runs.back().count)) {
        const index_t taken = std::min(length, static_cast<index_t>(end - i));
        const double cost = cost_of(shape_of[i] >= 0, W[i].rows, W[i].cols) * static_cast<double>(taken);
        runs.push_back({group_of[i], shape_of[i], static_cast<index_t>(i), taken, cost});
      }
    }
    std::stable_sort(runs.begin(), runs.end(), [](const run& a, const run& c) { return a.cost > c.cost; });
  }

  // How many of the first runs a backend's workers should do together.
  std::size_t runs_shared_by(const B& b) const {
    std::vector<double> costs;
    std::size_t shareable = 0;
    for (const run& a : runs) {
      costs.push_back(a.cost);
      const matrix_view& w = W[static_cast<std::size_t>(a.first)];
      const auto [s, l] = std::minmax(w.rows, w.cols);
      if (shareable + 1 == costs.size() && b.shares({s, l, a.count, compute_of(a.shape)})) ++shareable;
    }
    return runs_to_share(costs, shareable, normuon::workers(b));
  }

  compute_type compute_of(int shape) const {
    return shape < 0 ? B::default_compute() : shapes[static_cast<std::size_t>(shape)].iteration.compute;
  }

  index_t run_length(B& b, const std::vector<group>& groups, std::size_t i, std::size_t limit) const {
    const auto [s, l] = std::minmax(W[i].rows, W[i].cols);
    const index_t wanted = std::max<index_t>(1, b.run_length({s, l, 1, compute_of(shape_of[i])}));
    if (shape_of[i] < 0) return wanted;
    const auto one = sum(run_bytes(b, groups, {group_of[i], shape_of[i], 0, 1, 0}));
    if (limit == 0 || one == 0) return wanted;
    return static_cast<index_t>(std::clamp<std::size_t>(limit / one, 1, static_cast<std::size_t>(wanted)));
  }

  // Bytes of a workspace's buffers: X and Y;  A and P;  Q and Z;  U;  D.
  using buffer_bytes = std::array<std::size_t, 5>;
  static std::size_t sum(const buffer_bytes& bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), std::size_t{0});
  }

  // What a run needs of them.
  buffer_bytes run_bytes(B& b, const std::vector<group>& groups, const run& a) const {
    const matrix_plan& p = shapes[static_cast<std::size_t>(a.shape)];
    const index_t m = p.factors.rows, n = p.factors.cols;
    const auto [XY, AP, QZ] = iteration_workspace<B>::bytes(b, p.iteration, m, n, a.count);
    const std::size_t U_or_D = static_cast<std::size_t>(m * n * a.count) * sizeof(real);
    const bool needs_U = std::get<normuon_options>(groups[static_cast<std::size_t>(a.group)].options).nesterov;
    return {XY, AP, QZ, needs_U ? U_or_D : 0, has_fused_neuron_step<B> ? 0 : U_or_D};
  }

  // Any worker may take any run. Where there are no more runs of matrices than workers, each run has a workspace of its
  // own; otherwise each worker has one, for all runs.
  void make_workspaces(B& b, const std::vector<group>& groups) {
    const std::ptrdiff_t workers = normuon::workers(b);
    if (std::count_if(runs.begin(), runs.end(), [](const run& a) { return a.shape >= 0; }) > workers) {
      for (std::ptrdiff_t worker = 0; worker < workers; ++worker) workspaces.push_back(workspace_for(b, groups, runs));
      return;
    }
    for (run& a : runs)
      if (a.shape >= 0) {
        a.workspace = static_cast<int>(workspaces.size());
        workspaces.push_back(workspace_for(b, groups, {&a, 1}));
      }
  }

  // One that can serve each of the runs: each of its buffers is as large as its largest use.
  workspace<B> workspace_for(B& b, const std::vector<group>& groups, std::span<const run> served) const {
    buffer_bytes most = {};
    workspace<B> w;
    for (const run& a : served)
      if (a.shape >= 0) {
        const buffer_bytes bytes = run_bytes(b, groups, a);
        for (std::size_t k = 0; k < bytes.size(); ++k) most[k] = std::max(most[k], bytes[k]);
        const matrix_plan& p = shapes[static_cast<std::size_t>(a.shape)];
        w.iteration.resize(b, p.iteration, p.factors.rows, p.factors.cols, a.count);
      }
    w.U = b.allocate(most[3]);
    w.D = b.allocate(most[4]);
    w.bytes = sum(most);
    return w;
  }

  std::vector<int> group_of_shape_;
};

}  // namespace normuon

#endif
