// The optimizer: the plan of a step and its stages, over the parameters of its registry. The only loop over parameters.
#ifndef NORMUON_OPTIMIZER_HPP
#define NORMUON_OPTIMIZER_HPP

#include "normuon/optimizer/registry.hpp"
#include "normuon/optimizer/reporting.hpp"
#include "normuon/optimizer/step.hpp"
#include "normuon/shards/single.hpp"

namespace normuon {

// What happens to a parameter whose gradient, times the gradient scale, holds a NaN or an infinity.
enum class non_finite_policy {
  skip,       // it is left as it is, state and counter too, and named in the report
  raise,      // step() throws before anything of any parameter is written. A backend that captures never makes the host
              // wait: there a step is as under `skip`, and report() throws where the last one held a parameter back
  propagate,  // it takes part as if nothing were wrong
};

struct optimizer_options {
  non_finite_policy non_finite = non_finite_policy::skip;
  std::size_t workspace_limit = 0;  // bytes of workspace a run of several matrices may need; 0: as the backend likes
  std::uint64_t seed = 0;           // of weight_rounding::stochastic, with the parameter's name, step and element
};

// Named parameters in groups, moved by `step()`. Weights, gradients and change buffers stay the user's: what is bound
// must stay valid until it is bound anew or the parameter is removed, and must not be written by others during a step.
// What a step writes, weights or change buffers, must share no memory with anything else that is bound; of weights that
// are tied one is bound. Where a backend's operations end later than the call, so does a step: weights and changes may
// be read, and gradients written, after backend().sync().
// State belongs to names. One thread at a time may call an object; different objects don't share anything. Throws
// normuon::error; what is refused changes nothing. See error_code.
template <tensor_backend Backend, shard_engine Engine = single_process>
class optimizer : public registry<Backend> {
 public:
  explicit optimizer(Backend backend = Backend(), optimizer_options options = {}, Engine engine = Engine())
      : registry<Backend>(std::move(backend)), engine_(std::move(engine)), options_(options) {
    if (engine_.size() != 1) fail(error_code::option, "expected an engine of one rank, got ", engine_.size());
  }

  // Measures spreads and orthogonality for the report from the next step on; costs one product per matrix.
  void set_diagnostics(bool on) {
    if (on != diagnostics_) planned_ = false;
    diagnostics_ = on;
  }

  // Makes now all memory that steps need, so that the next one allocates nothing. step() does it where it is needed.
  void prepare() {
    if (planned_) return;
    plan<Backend> next(backend_, groups_, parameters_, options_.workspace_limit, diagnostics_, options_.seed);
    std::vector<std::uint8_t> progress(next.runs.size());
    std::vector<double> verdicts(parameters_.size());
    programs_ = {};
    requested_.forget();
    plan_ = std::move(next);
    progress_ = std::move(progress);
    verdicts_ = std::move(verdicts);
    planned_ = true;
    stepped_ = false;
  }

  // One step: every parameter with a gradient moves, in place. Gradients are not modified.
  // Throws `poisoned` after a failure in the middle of an earlier step, and `non_finite` under policy `raise`.
  void step() { move(write_form::weight); }

  // The same step, but weights stay as they are: W_new - W, decay included, is written into the bound change buffers,
  // zeros for a parameter that does not move. Throws where a buffer is not bound, and where a weight has a master: that
  // moves with its weight only.
  void step_changes() {
    for (const parameter<Backend>& p : parameters_) {
      if (p.has_master)
        fail(error_code::option, "parameter '", p.name, "': expected no master where changes are asked for");
      if (p.change.batch == 0 && p.weight.elements() != 0)
        fail(error_code::gradient, "parameter '", p.name, "': expected a bound change buffer, got none");
    }
    move(write_form::change);
  }

  // What the last step did. No parameters before the first step, after one that threw, and where since then a group or
  // parameter was added or removed, or diagnostics were switched. Throws `non_finite` as policy `raise` says.
  step_report report() {
    if (!stepped_ || !planned_) return {};
    plan_values<Backend> values(backend_, plan_);
    values.read(backend_);
    return report_of(values);
  }

  // report() of the last step without waiting for it: what request_report() asks for is there once, when the device has
  // come to it. There is none before, and where report() would have listed no parameters. Backends that have no later
  // reads have it at once.
  void request_report() {
    requested_.forget();
    if (stepped_ && planned_) requested_.request(backend_, plan_);
  }
  std::optional<step_report> requested_report() {
    if (!planned_) requested_.forget();
    const plan_values<Backend>* const values = requested_.get(backend_);
    if (!values) return {};
    const plan_values<Backend> taken = *values;
    requested_.forget();
    return report_of(taken);
  }

  // What is kept besides state for runs of matrices, as many at once as there are workers, but for what products need
  // inside; 0 before the first step or `prepare`.
  std::size_t workspace_bytes() const { return plan_.workspace_bytes(); }

 private:
  step_report report_of(const plan_values<Backend>& values) const {
    step_report report;
    const bool propagate = options_.non_finite == non_finite_policy::propagate;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      report.parameters.push_back(
          report_on(plan_, values, parameters_[i], group_of(parameters_[i]), i, propagate, diagnostics_));
    if (has_capture<Backend> && options_.non_finite == non_finite_policy::raise) {
      std::vector<std::string> held_back;
      for (const parameter_report& p : report.parameters)
        if (p.outcome == outcome::non_finite_gradient) held_back.push_back(p.name);
      raise_if_any(held_back);
    }
    return report;
  }

  void move(write_form form) {
    require_ready();
    prepare();
    const bool propagate = options_.non_finite == non_finite_policy::propagate;
    const bool raise = options_.non_finite == non_finite_policy::raise;
    stepper<Backend> stepper(plan_, groups_, {form, propagate, diagnostics_});
    stepper.stage(parameters_, gradient_scale_);
    stepped_ = false;
    const auto checks = [&](Backend& b) {
      if (!propagate) stepper.check(b);
      engine_.all_gather_small(plan_.parameter_ok.empty() ? nullptr : plan_.parameter_ok[0],
                               parameters_.size() * sizeof(double));
    };
    if constexpr (has_capture<Backend>) {
      auto& program = programs_.of(form);
      if (!program) program = backend_.record([&](Backend& b) { checks(b), stepper.move(b, progress_); });
    }
    std::fill(progress_.begin(), progress_.end(), std::uint8_t{0});
    bool go = true;
    try {
      backend_.write(plan_.slots_memory.data(), plan_.staged.data(), plan_.staged.size() * sizeof(double));
      if constexpr (has_capture<Backend>) {
        std::fill(progress_.begin(), progress_.end(), std::uint8_t{1});  // a replay does not say how far it came
        backend_.replay(*programs_.of(form));
      } else {
        checks(backend_);
        if (raise) go = all_finite();
        if (go) stepper.move(backend_, progress_);
      }
    } catch (const std::exception& e) {
      poison(e.what());
    } catch (...) {
      poison("an exception that is no std::exception");
    }
    if (!go) raise_if_any(names_held_back());
    stepped_ = true;
  }

  // Reads the flags; true where none that would move is held back by its gradient.
  bool all_finite() {
    if (!parameters_.empty()) backend_.read(verdicts_.data(), plan_.parameter_ok[0], verdicts_.size() * sizeof(double));
    backend_.sync();
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (is_held_back(i)) return false;
    return true;
  }
  bool is_held_back(std::size_t i) const { return plan_.staged_ok(i) != 0 && verdicts_[i] == 0; }
  std::vector<std::string> names_held_back() const {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (is_held_back(i)) names.push_back(parameters_[i].name);
    return names;
  }

  static void raise_if_any(const std::vector<std::string>& names) {
    if (names.empty()) return;
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
    fail(error_code::non_finite, "a NaN or an infinity in the gradient of ", list);
  }

  // Refuses all calls from now on, also where there is no memory left to say why.
  [[noreturn]] void poison(const char* cause) {
    poisoned_ = true;
    poison_.clear();
    poison_ = poison_message(cause);
    throw error(error_code::backend, poison_);
  }

  // What a failure in the middle of a step leaves: which parameters the step had done with, moved or held back, and
  // which it had begun and may have written in part.
  std::string poison_message(const char* cause) const {
    std::string done, begun;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (plan_.staged_ok(i) == 0) continue;
      bool any = false, all = true;
      for (std::size_t k = 0; k < plan_.runs.size(); ++k) {
        const run& a = plan_.runs[k];
        const bool mine = a.first < plan_.first[i] + plan_.count[i] && plan_.first[i] < a.first + a.count;
        if (!mine) continue;
        any |= progress_[k] != 0;
        all &= progress_[k] == 2;
      }
      if (!any) continue;
      std::string& list = all ? done : begun;
      list += (list.empty() ? "'" : ", '") + parameters_[i].name + "'";
    }
    return std::string(cause) + "; done: " + (done.empty() ? "nothing" : done) +
           "; begun: " + (begun.empty() ? "nothing" : begun) + "; the weights of all others are as they were";
  }

  using registry<Backend>::backend_, registry<Backend>::groups_, registry<Backend>::parameters_;
  using registry<Backend>::planned_, registry<Backend>::poisoned_, registry<Backend>::poison_;
  using registry<Backend>::gradient_scale_, registry<Backend>::group_of, registry<Backend>::require_ready;

  Engine engine_;
  optimizer_options options_;
  bool diagnostics_ = false;
  bool stepped_ = false;
  plan<Backend> plan_;
  std::vector<std::uint8_t> progress_;  // of each run, see stepper::move
  std::vector<double> verdicts_;
  step_programs<Backend> programs_;
  requested_values<Backend> requested_;
};

}  // namespace normuon

#endif
