// Makes the report of a step from what the step left in the plan's slots and vectors.
#ifndef NORMUON_OPTIMIZER_REPORTING_HPP
#define NORMUON_OPTIMIZER_REPORTING_HPP

#include <cmath>
#include <cstring>
#include <optional>

#include "normuon/optimizer/plan.hpp"

namespace normuon {

// What the last step left, on the host: what was decided, and a copy of the plan's device memory in the same layout.
template <tensor_backend B>
class plan_values {
 public:
  using real = typename B::real;

  // Only what the host knows itself.
  plan_values(const B& b, const plan<B>& p, std::vector<outcome> settled)
      : outcomes(std::move(settled)),
        plan_(p),
        slots_(p.slots_memory.size() / sizeof(double)),
        reals_(p.reals_memory.size() / sizeof(real)) {
    for ([[maybe_unused]] const matrix_plan& shape : p.shapes)
      if constexpr (has_kernel_path<B>) paths.push_back(b.kernel_path(shape.iteration.compute));
      else paths.emplace_back();
  }
  // Reads the rest, which waits for the step.
  void read(B& b) {
    b.read(slots_.data(), plan_.slots_memory.data(), plan_.slots_memory.size());
    b.read(reals_.data(), plan_.reals_memory.data(), plan_.reals_memory.size());
    b.sync();
  }
  // The same from copies.
  void take(const std::byte* slots_read, const std::byte* reals_read) {
    if (!slots_.empty()) std::memcpy(slots_.data(), slots_read, slots_.size() * sizeof(double));
    if (!reals_.empty()) std::memcpy(reals_.data(), reals_read, reals_.size() * sizeof(real));
  }

  std::vector<outcome> outcomes;        // as they were staged, and other ranks agreed
  std::vector<std::string_view> paths;  // of shapes, see has_kernel_path

  double at(number x) const { return slots_[distance<double>(x, plan_.slots_memory.data())]; }
  const real* vector_at(const real* vector) const {
    return reals_.data() + distance<real>(vector, plan_.reals_memory.data());
  }

 private:
  template <class T>
  static std::size_t distance(const T* p, const std::byte* start) {
    return static_cast<std::size_t>(static_cast<const std::byte*>(static_cast<const void*>(p)) - start) / sizeof(T);
  }

  const plan<B>& plan_;
  std::vector<double> slots_;
  std::vector<real> reals_;
};

// Sums over the neurons of one matrix: from r, the mean squares in O, and f, by which the neurons were scaled to D.
struct neuron_sums {
  double norm_o = 0, norm_d = 0;               // ||O||_F^2, ||D||_F^2
  double spread_before = 0, spread_after = 0;  // coefficient of variation of the neurons' norms
};

template <class Real>
neuron_sums sum_neurons(const Real* r, const Real* f, index_t neurons, index_t elements) {
  const auto length = static_cast<double>(elements) / static_cast<double>(neurons);
  const auto count = static_cast<double>(neurons);
  neuron_sums sums;
  double first_o = 0, first_d = 0;
  for (index_t i = 0; i < neurons; ++i) {
    const double o = std::sqrt(length * static_cast<double>(r[i])), d = o * static_cast<double>(f[i]);
    first_o += o, first_d += d;
    sums.norm_o += o * o, sums.norm_d += d * d;
  }
  const auto spread = [&](double first, double second) {
    const double mean = first / count;
    return mean > 0 ? std::sqrt(std::max(0.0, second / count - mean * mean)) / mean : 0;
  };
  sums.spread_before = spread(first_o, sums.norm_o);
  sums.spread_after = spread(first_d, sums.norm_d);
  return sums;
}

// What became of parameter i in the last step.
template <tensor_backend B>
outcome outcome_of(const plan<B>& p, const plan_values<B>& values, std::size_t i, bool propagate) {
  if (values.outcomes[i] != outcome::moved) return values.outcomes[i];
  if (values.at(p.parameter_ok[i]) == 0) return outcome::non_finite_gradient;
  if (propagate) return outcome::moved;
  for (auto k = static_cast<std::size_t>(p.first[i]); k < static_cast<std::size_t>(p.first[i] + p.count[i]); ++k)
    if (p.shape_of[k] >= 0 && values.at(p.sound[k]) == 0) return outcome::non_finite_update;
  return outcome::moved;
}

// ||O O^T - I||_F / sqrt(s) from the row mean squares q of O O^T and ||O||_F^2, its trace.
template <class Real>
double orthogonality_residual(const Real* q, index_t s, double trace) {
  double square = 0;
  for (index_t i = 0; i < s; ++i) square += static_cast<double>(s) * static_cast<double>(q[i]);
  return std::sqrt(std::max(0.0, square - 2 * trace + static_cast<double>(s)) / static_cast<double>(s));
}

// The report on parameter i.
template <tensor_backend B>
parameter_report report_on(const plan<B>& p, const plan_values<B>& values, const parameter<B>& parameter,
                           const group& g, std::size_t i, bool propagate, bool diagnostics) {
  parameter_report report{.name = parameter.name, .rule = g.rule};
  report.outcome = outcome_of(p, values, i, propagate);
  if (p.count[i] == 0) return report;
  const auto first = static_cast<std::size_t>(p.first[i]), end = first + static_cast<std::size_t>(p.count[i]);
  if (const int shape = p.shape_of[first]; shape >= 0) {
    const iteration& it = p.shapes[static_cast<std::size_t>(shape)].iteration;
    report.iteration = {.compute = it.compute,
                        .gram = it.gram,
                        .restarts = it.gram ? it.restarts : restart_steps{},
                        .careful_restarts = it.gram ? it.careful_restarts : restart_steps{},
                        .path = values.paths[static_cast<std::size_t>(shape)]};
  }
  if (report.outcome != outcome::moved && report.outcome != outcome::non_finite_update) return report;
  const double rate = values.at(p.numbers(parameter.group).rate);
  double square = 0, direction = 0, before = 0, after = 0, residual = 0, moved = 0, elements = 0;
  for (std::size_t k = first; k < end; ++k) {
    const bool elementwise = p.shape_of[k] < 0;
    if (!elementwise && !propagate && values.at(p.sound[k]) == 0) continue;
    const double norm = values.at(p.norm[k]);
    const index_t m = p.W[k].rows, n = p.W[k].cols;
    elements += static_cast<double>(m * n);
    if (elementwise) {
      square += norm * norm;
      continue;
    }
    const neuron_sums sums = sum_neurons(values.vector_at(p.r[k]), values.vector_at(p.f[k]), p.neurons[k], m * n);
    moved += 1;
    direction += norm * norm;
    square += sums.norm_d;
    before += sums.spread_before;
    after += sums.spread_after;
    if (diagnostics) residual += orthogonality_residual(values.vector_at(p.q[k]), std::min(m, n), sums.norm_o);
  }
  report.update_norm = rate * std::sqrt(square);
  report.update_rms = elements > 0 ? report.update_norm / std::sqrt(elements) : 0;
  report.direction_norm = std::sqrt(direction);
  if (diagnostics && moved > 0) {
    report.spread_before = before / moved;
    report.spread_after = after / moved;
    report.orthogonality_residual = residual / moved;
  }
  return report;
}

// Values of a step that were asked for and are on their way; a backend without later reads has them at once.
template <tensor_backend B>
class requested_values {
 public:
  requested_values() = default;
  // Values know the plan that they are of, which moves as well: what was asked for is forgotten.
  requested_values(requested_values&&) noexcept {}
  requested_values& operator=(requested_values&&) noexcept {
    forget();
    return *this;
  }

  void request(B& b, const plan<B>& p, std::vector<outcome> settled) {
    values_.reset();
    values_.emplace(b, p, std::move(settled));
    if constexpr (has_later_reads<B>) {
      b.read_later(reads_.slots, p.slots_memory.data(), p.slots_memory.size());
      b.read_later(reads_.reals, p.reals_memory.data(), p.reals_memory.size());
    } else {
      values_->read(b);
    }
  }
  void forget() { values_.reset(); }

  // Null where none were asked for, and until the device has come to them.
  const plan_values<B>* get([[maybe_unused]] B& b) {
    if (!values_) return nullptr;
    if constexpr (has_later_reads<B>) {
      if (!b.is_there(reads_.slots) || !b.is_there(reads_.reals)) return nullptr;
      values_->take(reads_.slots.data(), reads_.reals.data());
    }
    return &*values_;
  }

 private:
  struct none {};
  template <class Backend>
  struct later_reads : none {};
  template <has_later_reads Backend>
  struct later_reads<Backend> {
    typename Backend::later_read slots, reals;
  };

  later_reads<B> reads_;
  std::optional<plan_values<B>> values_;
};

}  // namespace normuon

#endif
