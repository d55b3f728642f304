// A step in parts, between which ranks exchange what they have to. A backend that captures has each part as a program.
#ifndef NORMUON_OPTIMIZER_STEP_PARTS_HPP
#define NORMUON_OPTIMIZER_STEP_PARTS_HPP

#include <utility>
#include <vector>

#include "normuon/optimizer/together.hpp"

namespace normuon {

// Does what it is told at once.
template <tensor_backend B>
class step_parts {
 public:
  template <class Task>
  void compute(B& b, Task&& task) {
    task(b);
  }
  template <class Verb>
  void exchange(Verb&& verb) {
    verb();
  }
  void refresh(B&) {}
  void forget() {}
};

// Records the parts of a step first, and replays them in that order in every step.
template <tensor_backend B>
  requires has_capture<B>
class step_parts<B> {
 public:
  template <class Task>
  void compute(B& b, Task&& task) {
    if (into_) into_->push_back(b.record(std::forward<Task>(task)));
    else b.replay(programs_.at(next_++));
  }
  template <class Verb>
  void exchange(Verb&& verb) {
    if (!into_) verb();
  }

  bool are_recorded() const { return recorded_; }
  void forget() { recorded_ = false; }

  // To be called before each step. step() computes and exchanges all that it does, which has no effect here.
  template <class Step>
  void record_once(Step&& step) {
    next_ = 0;
    if (recorded_) return;
    std::vector<typename B::program> programs;
    into_ = &programs;
    try {
      step();
    } catch (...) {
      into_ = nullptr;
      throw;
    }
    into_ = nullptr;
    programs_ = std::move(programs);
    recorded_ = true;
  }
  // Sends what the parts to come need, so that none of them waits for room behind an exchange.
  void refresh(B& b) {
    if constexpr (has_refresh<B>)
      for (std::size_t i = next_; i < programs_.size(); ++i) b.refresh(programs_[i]);
  }

 private:
  std::vector<typename B::program> programs_;
  std::vector<typename B::program>* into_ = nullptr;  // while they are recorded
  bool recorded_ = false;
  std::size_t next_ = 0;  // of the step that is made
};

// Why the parts of a step can't be recorded. Null where they can or are, and where nothing has to be recorded.
template <tensor_backend B, shard_engine Engine, class Step>
std::exception_ptr why_not_recorded(B& b, Engine& engine, step_parts<B>& parts, Step&& step) try {
  if constexpr (has_capture<B>) {
    if (!parts.are_recorded() && engine.size() > 1) wait_for(b, engine);  // memory comes and goes, which may wait
    parts.record_once(std::forward<Step>(step));
  }
  return nullptr;
} catch (...) {
  return std::current_exception();
}

// Of steps that write weights, and of those that write changes.
template <tensor_backend B>
struct parts_of_steps {
  step_parts<B> weight, change;

  step_parts<B>& of(write_form form) { return form == write_form::weight ? weight : change; }
  void forget() { weight.forget(), change.forget(); }
};

}  // namespace normuon

#endif
