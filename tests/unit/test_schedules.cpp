#include <doctest/doctest.h>

#include <vector>

#include "normuon/schedules.hpp"

using namespace normuon;

namespace {

template <schedule S>
std::vector<double> values(const S& s, index_t from, index_t to) {
  std::vector<double> all;
  for (index_t step = from; step <= to; ++step) all.push_back(s(step));
  return all;
}

using numbers = std::vector<double>;

}  // namespace

TEST_CASE("a constant does not change") { CHECK(values(constant{0.25}, -1, 2) == numbers{0.25, 0.25, 0.25, 0.25}); }

TEST_CASE("a line runs from its first number to its last and stays there, also before it begins") {
  CHECK(values(linear{1, 0, 4}, -1, 6) == numbers{1, 1, 0.75, 0.5, 0.25, 0, 0, 0});
  CHECK(values(linear{0.75, 0.875, 2}, 0, 3) == numbers{0.75, 0.8125, 0.875, 0.875});  // a momentum warm-up
}

TEST_CASE("half a cosine runs from its first number to its last, through the middle halfway") {
  const cosine s{1, 0.5, 8};
  CHECK(s(-3) == 1);
  CHECK(s(0) == 1);
  CHECK(s(4) == doctest::Approx(0.75).epsilon(1e-15));
  CHECK(s(2) == doctest::Approx(0.5 + 0.25 * (1 + 0.70710678118654752)).epsilon(1e-15));
  CHECK(s(8) == 0.5);
  CHECK(s(100) == 0.5);
  for (index_t step = 0; step < 8; ++step) CHECK(s(step + 1) < s(step));
}

TEST_CASE("warm-up, stable, decay keeps its peak until the decay begins") {
  const warm_stable_decay s{.peak = 1, .last = 0, .steps = 10, .decay_steps = 4};
  CHECK(values(s, 0, 12) == numbers{1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0});
  CHECK(values(warm_stable_decay{1, 0, 3, 3}, 0, 3)[0] == 1);  // all of it decay
}

TEST_CASE("warm-up, stable, decay without a decay keeps its peak until its steps are over") {
  CHECK(values(warm_stable_decay{.peak = 1, .last = 0.5, .steps = 3}, 0, 4) == numbers{1, 1, 1, 0.5, 0.5});
  CHECK(values(linear{1, 0.5, 0}, -1, 1) == numbers{1, 0.5, 0.5});
}

TEST_CASE("a warm-up begins with a part of the schedule, not with nothing, and then leaves it alone") {
  CHECK(values(warm_up{constant{1}, 4}, 0, 5) == numbers{0.25, 0.5, 0.75, 1, 1, 1});
  CHECK(values(warm_up{linear{1, 0, 4}, 2}, 0, 4) == numbers{0.5, 0.75, 0.5, 0.25, 0});
  CHECK(values(warm_up{constant{3}, 0}, 0, 1) == numbers{3, 3});
  CHECK(values(warm_up{warm_up{constant{1}, 2}, 2}, 0, 2) == numbers{0.25, 1, 1});
}

TEST_CASE("a schedule of no steps is at its end") {
  CHECK(linear{1, 0.5, 0}(0) == 0.5);
  CHECK(cosine{1, 0.5, 0}(7) == 0.5);
  CHECK(warm_stable_decay{1, 0.5, 0, 0}(0) == 0.5);
}

TEST_CASE("whatever maps a step to a number is a schedule") {
  const auto halving = [](index_t step) { return 1.0 / static_cast<double>(step + 1); };
  static_assert(schedule<decltype(halving)>);
  static_assert(!schedule<double>);
  CHECK(values(warm_up{halving, 2}, 0, 1) == numbers{0.5, 0.5});
}
