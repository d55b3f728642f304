// The optimizer: the plan of a step and its stages, over the parameters of its registry. The only loop over parameters.
#ifndef NORMUON_OPTIMIZER_HPP
#define NORMUON_OPTIMIZER_HPP

#include "normuon/optimizer/description.hpp"
#include "normuon/optimizer/failures.hpp"
#include "normuon/optimizer/reporting.hpp"
#include "normuon/optimizer/verdicts.hpp"

namespace normuon {

// Named parameters in groups, moved by `step()`. Weights, gradients and change buffers stay the user's: what is bound
// must stay valid until it is bound anew or the parameter is removed, and must not be written by others during a step.
// What a step writes, weights or change buffers, must share no memory with anything else that is bound; of weights that
// are tied one is bound. Where a backend's operations end later than the call, so does a step: weights and changes may
// be read, and gradients written, after backend().sync(). Ranks on a stream call engine().wait() first, which has a
// deadline, and before they ask for state.
// State belongs to names. One thread at a time may call an object; different objects don't share anything. Throws
// normuon::error; what is refused changes nothing. See error_code.
template <tensor_backend Backend, shard_engine Engine = single_process>
class optimizer : public registry<Backend> {
  static_assert(std::same_as<Engine, single_process> || has_stream<Engine> != has_host_memory<Backend>,
                "the engine must move memory of the backend's kind: the host's, or with a stream a device's");

 public:
  explicit optimizer(Backend backend = Backend(), optimizer_options options = {}, Engine engine = Engine())
      : registry<Backend>(std::move(backend), engine.rank(), engine.size(), owner_choice_of<Engine>()),
        engine_(std::move(engine)),
        options_(options) {
    if (ranks_ > 1 && !has_agreement<Backend>)
      fail(error_code::option, "expected a backend that has_agreement for ", ranks_, " ranks");
    if constexpr (has_stream<Engine> && requires { backend_.stream() == engine_.stream(); })
      if (ranks_ > 1 && !(backend_.stream() == engine_.stream()))
        fail(error_code::option, "expected a backend and an engine on one stream, got two");
    if (!Backend::takes(wire()) || size_of(wire()) > sizeof(typename Backend::real))
      fail(error_code::option, "expected a wire type that the backend takes and that is no wider than its state, got ",
           name_of(wire()));
    validate(shard_options{.staging_limit = options_.staging_limit});
  }

  optimizer(optimizer&&) = default;
  optimizer& operator=(optimizer&&) = default;
  // Members wait for what is on its way, for ever where a peer is lost; so the engine waits first.
  ~optimizer() {
    if (ranks_ > 1 && !parameters_.empty()) wait_quietly(engine_);
  }

  // Measures spreads and orthogonality for the report from the next step on; costs one product per matrix.
  void set_diagnostics(bool on) {
    if (on == diagnostics_) return;
    if (ranks_ == 1) planned_ = false;  // on several ranks there is room for them anyway, as one alone may be asked
    recorded_ = false;
    diagnostics_ = on;
    stepped_ = false;
  }

  // Makes now all memory that steps need, so that the next one allocates nothing. step() does it where it is needed.
  // Ranks do it together, and compare what they have planned. Throws where they differ, or where one can't, on every
  // rank; nothing has changed then.
  void prepare() {
    if (planned_) return;
    owners_before owners(parameters_, owners_chosen_);
    layout_of_steps next;
    if constexpr (std::same_as<Engine, single_process>) {
      lay_out(next);
    } else {
      act_together(backend_, engine_, [&] {
        wait_for_peers(engine_);  // before memory comes and goes, which waits for ever
        lay_out(next);
      });
      if (ranks_ > 1) {
        require_same_on_ranks(backend_, engine_, next.sharded.shards.fields(), "plan");
        greet(engine_, next.sharded.exchanges(), next.greetings);
      }
    }
    owners.keep_chosen();
    recorded_ = false;
    requested_.forget();
    plan_ = std::move(next.here);
    sharded_.buckets = decltype(sharded_.buckets)();  // requests first
    sharded_ = std::move(next.sharded);
    progress_ = std::move(next.progress);
    verdicts_ = std::move(next.verdicts);
    planned_ = true;
    stepped_ = false;
  }

  // One step: every parameter with a gradient moves, in place. Gradients are not modified. Ranks make it together, and
  // decide alike what moves. Throws `poisoned` after a failure in the middle of an earlier step, and `non_finite` as
  // policy `raise` says.
  void step() { move(write_form::weight); }

  // The same step, but weights stay as they are: W_new - W, decay included, is written into the bound change buffers,
  // zeros for a parameter that does not move. Throws where a buffer is not bound, and where a weight has a master,
  // which moves with its weight only.
  void step_changes() { move(write_form::change); }

  // What the last step did. No parameters before the first step, after one that threw, and where since then a group or
  // parameter was added or removed, or diagnostics were switched. Throws `non_finite` as policy `raise` says. Of what
  // several ranks hold, numbers of a matrix and an overflow of its U are its owner's to report, and numbers of an
  // elementwise rule are of the parts that this rank holds; other outcomes are the same on all.
  step_report report() {
    if (!stepped_ || !planned_) return {};
    plan_values<Backend> values(backend_, plan_, settled_outcomes());
    values.read(backend_);
    return report_of(values);
  }

  // report() without a wait: there once, when the device has come to what was asked for; none before, and where
  // report() would list no parameters. On several ranks, and without later reads, the request itself waits.
  void request_report() {
    requested_.forget();
    if (!stepped_ || !planned_) return;
    requested_.request(backend_, plan_, settled_outcomes());
  }
  std::optional<step_report> requested_report() {
    if (!planned_) requested_.forget();
    const plan_values<Backend>* const values = requested_.get(backend_);
    if (!values) return {};
    const plan_values<Backend> taken = *values;
    requested_.forget();
    return report_of(taken);
  }

  // What is kept besides state for runs of matrices, as many at once as there are workers, and for what travels, but
  // for what products need inside; 0 before the first step or `prepare`.
  std::size_t workspace_bytes() const { return plan_.workspace_bytes() + sharded_.bytes(); }

  // Who owns what and what travels, as this rank sees it; of no matrices on one rank, and before the first step or
  // `prepare`.
  const shard_plan& shards() const { return sharded_.shards; }
  Engine& engine() { return engine_; }
  const optimizer_options& options() const { return options_; }

 private:
  // What was staged for the last step, and where others had to agree, what became of that.
  std::vector<outcome> settled_outcomes() {
    verdicts_.read(backend_, engine_);
    std::vector<outcome> all = plan_.staged_outcome;
    for (std::size_t i = 0; i < all.size(); ++i) verdicts_.settle(all[i], i);
    return all;
  }
  step_report report_of(const plan_values<Backend>& values) const {
    step_report report;
    const bool propagate = options_.non_finite == non_finite_policy::propagate;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      report.parameters.push_back(
          report_on(plan_, values, parameters_[i], group_of(parameters_[i]), i, propagate, diagnostics_));
    if (has_capture<Backend> && options_.non_finite == non_finite_policy::raise) raise_as_reported(report);
    return report;
  }

  element_type wire() const { return options_.wire.value_or(element_type_of<typename Backend::real>); }

  // All that is made anew where parameters or groups have changed.
  struct layout_of_steps {
    plan<Backend> here;
    sharded_plan<Backend, Engine> sharded;
    std::vector<std::uint8_t> progress;
    rank_verdicts<Backend> verdicts;
    typename Backend::memory greetings;  // a byte to and from each rank
  };
  void lay_out(layout_of_steps& next) {
    choose_owners();
    next.here = plan<Backend>(backend_, groups_, parameters_,
                              {options_.workspace_limit, diagnostics_, options_.seed, rank_, ranks_, wire()});
    if constexpr (!std::same_as<Engine, single_process>) {
      if (ranks_ > 1)
        next.sharded = sharded_plan<Backend, Engine>(backend_, engine_, next.here, groups_, parameters_,
                                                     plan_fields(describe(*this, options_)), options_);
      next.greetings = backend_.allocate(2 * static_cast<std::size_t>(ranks_));
    }
    next.progress.resize(next.here.runs.size() + next.sharded.buckets.size());
    next.verdicts = rank_verdicts<Backend>(backend_, next.here);
  }

  void move(write_form form) {
    stepped_ = false;
    require_ready();
    prepare();
    const step_settings settings = settings_of<Backend>(options_, form, diagnostics_, ranks_);
    const bool raise = options_.non_finite == non_finite_policy::raise;
    stepper<Backend> here(plan_, groups_, settings);
    auto& parts = parts_.of(form);
    sharded_stepper<Backend, Engine> travelling(plan_, sharded_, engine_, parts, groups_, settings, steps_);
    here.stage(parameters_, gradient_scale_);
    travelling.stage(parameters_);

    std::exception_ptr refusal;  // why this rank can't make the step, which it takes part in all the same
    const std::span<std::uint8_t> progress(progress_);
    const auto check = [&](Backend& b) {
      if (!settings.propagate) here.check(b), travelling.check(b);
      verdicts_.note(b, plan_);
    };
    const auto decide_alike = [&] {
      if (!refusal) parts.compute(backend_, check);
      parts.exchange([&] { verdicts_.gather(engine_); });
      if (!refusal) parts.compute(backend_, [&](Backend& b) { verdicts_.agree(b, plan_); });
    };
    const auto move_here = [&](Backend& b, hook between) {
      here.count(b);
      here.move(b, progress.first(plan_.runs.size()), between);
    };
    const auto move_all = [&] { travelling.move(backend_, progress.subspan(plan_.runs.size()), move_here); };
    const bool is_one_part = has_capture<Backend> && ranks_ == 1;  // then the host never waits
    const auto in_one_part = [&] { parts.compute(backend_, [&](Backend& b) { check(b), move_here(b, {}); }); };

    refusal = form == write_form::change ? why_no_changes(parameters_) : nullptr;
    if (!std::exchange(recorded_, true)) parts_.forget();
    const auto whole_step = [&] {
      if (is_one_part) return in_one_part();
      decide_alike();
      move_all();
    };
    if (!refusal) refusal = why_not_recorded(backend_, engine_, parts, whole_step);
    if (refusal && ranks_ == 1) std::rethrow_exception(refusal);

    std::fill(progress_.begin(), progress_.end(), std::uint8_t{0});
    bool go = true;
    try {
      backend_.write(plan_.slots_memory.data(), plan_.staged.data(), plan_.staged.size() * sizeof(double));
      verdicts_.stage(backend_, parameters_, settings.zero_missing, {here.digest_of_numbers(), code_in_claim(refusal)});
      travelling.expect_updates(backend_);
      if (!is_one_part) {
        decide_alike();
        verdicts_.read(backend_, engine_);
        if (raise) verdicts_.read_flags(backend_, engine_, plan_);
        go = verdicts_.let_step() && !(raise && verdicts_.holds_any_back(plan_));
        if (go) parts.refresh(backend_);
      }
      // A replay does not say how far it came.
      if (has_capture<Backend> && go) std::fill(progress_.begin(), progress_.end(), std::uint8_t{1});
      if (go) is_one_part ? in_one_part() : move_all();
    } catch (const error& e) {
      poison(e.what(), e.code() == error_code::engine ? error_code::engine : error_code::backend);
    } catch (const std::exception& e) {
      poison(e.what());
    } catch (...) {
      poison("an exception that is no std::exception");
    }
    ++steps_;
    if (refusal) std::rethrow_exception(refusal);
    if (!go) refuse_step(form);
    stepped_ = true;
  }

  std::vector<std::string> names_held_back() const {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (verdicts_.holds_back(plan_, i)) names.push_back(parameters_[i].name);
    return names;
  }

  // The same error on every rank; nothing was written.
  [[noreturn]] void refuse_step(write_form form) {
    if constexpr (!std::same_as<Engine, single_process>) {
      if (const int rank = verdicts_.first_to_refuse(); rank >= 0)
        fail(verdicts_.reason_of(rank), "rank ", rank, " can't make the step, as it says there");
      if (!verdicts_.have_the_same_numbers())
        require_same_on_ranks(backend_, engine_, plan_fields(describe_step(form, groups_, gradient_scale_)), "numbers");
      if (const int i = verdicts_.first_that_differs(); i >= 0)
        fail(error_code::gradient, "parameter '", parameters_[static_cast<std::size_t>(i)].name,
             "': expected the same on every rank, but ", verdicts_.text_of(static_cast<std::size_t>(i)));
    }
    raise_if_any(names_held_back());
    fail(error_code::non_finite, "a step was refused for a reason that is gone");
  }

  // Refuses all calls from now on, also where there is no memory left to say why.
  [[noreturn]] void poison(const char* cause, error_code code = error_code::backend) {
    if constexpr (has_abort<Engine>)
      if (!engine_.abort()) sharded_.keep_stages();
    poisoned_ = true;
    poison_.clear();
    poison_ = poison_message(cause, plan_, sharded_, parameters_, progress_);
    throw error(code, poison_);
  }

  using registry<Backend>::backend_, registry<Backend>::groups_, registry<Backend>::parameters_;
  using registry<Backend>::planned_, registry<Backend>::poisoned_, registry<Backend>::poison_;
  using registry<Backend>::gradient_scale_, registry<Backend>::group_of, registry<Backend>::require_ready;
  using registry<Backend>::rank_, registry<Backend>::ranks_, registry<Backend>::choose_owners,
      registry<Backend>::owners_chosen_, registry<Backend>::recorded_;

  Engine engine_;
  optimizer_options options_;
  bool diagnostics_ = false;
  bool stepped_ = false;
  plan<Backend> plan_;
  std::vector<std::uint8_t> progress_;  // of each run, see stepper::move
  rank_verdicts<Backend> verdicts_;
  sharded_plan<Backend, Engine> sharded_;
  std::uint64_t steps_ = 0;  // so many were begun and did not fail
  parts_of_steps<Backend> parts_;
  requested_values<Backend> requested_;
};

}  // namespace normuon

#endif
