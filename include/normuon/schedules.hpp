// Schedules: callables that map a step, counted from 0, to a number. For a trainer to call before `step()`:
//   opt.set_learning_rate(group, schedule(step)).  Standard library only.
#ifndef NORMUON_SCHEDULES_HPP
#define NORMUON_SCHEDULES_HPP

#include <algorithm>
#include <cmath>
#include <concepts>
#include <numbers>

#include "normuon/matrix_ref.hpp"

namespace normuon {

// A schedule is anything that is called with a step and gives a number.
template <class S>
concept schedule = requires(const S& s) {
  { s(index_t{}) } -> std::convertible_to<double>;
};

// How far step is from 0 to steps, in [0, 1]. Where there are no steps: 0 before step 0, and 1 from there on.
inline double progress(index_t step, index_t steps) {
  if (steps <= 0) return step < 0 ? 0 : 1;
  return std::clamp(static_cast<double>(step) / static_cast<double>(steps), 0.0, 1.0);
}

struct constant {
  double value = 0;
  double operator()(index_t) const { return value; }
};

// From `first` at step 0 to `last` at step `steps`, on a straight line, then `last`. Also a momentum warm-up.
struct linear {
  double first = 0, last = 0;
  index_t steps = 0;
  double operator()(index_t step) const { return first + (last - first) * progress(step, steps); }
};

// From `first` at step 0 to `last` at step `steps`, on half a cosine, then `last` (Loshchilov and Hutter, arXiv
// 1608.03983).
struct cosine {
  double first = 0, last = 0;
  index_t steps = 0;
  double operator()(index_t step) const {
    return last + (first - last) * (1 + std::cos(std::numbers::pi * progress(step, steps))) / 2;
  }
};

// Warm-up, stable, decay (arXiv 2404.06395): `peak` until `decay_steps` before `steps`, then straight to `last`,
// which it reaches at `steps`.
struct warm_stable_decay {
  double peak = 0, last = 0;
  index_t steps = 0, decay_steps = 0;
  double operator()(index_t step) const {
    return peak + (last - peak) * progress(step - (steps - decay_steps), decay_steps);
  }
};

// Any schedule, reached on a straight line over its first steps: step 0 gives 1/warm_up_steps of it, not nothing.
template <schedule S>
struct warm_up {
  S after;
  index_t warm_up_steps = 0;
  double operator()(index_t step) const {
    return after(step) * (step + 1 >= warm_up_steps ? 1 : progress(step + 1, warm_up_steps));
  }
};
template <schedule S>
warm_up(S, index_t) -> warm_up<S>;

}  // namespace normuon

#endif
