// What properties are tried on: random shapes and matrices through rapidcheck, which shrinks a failing shape, and every
// preset.   CHECK(rc::check([] { random_case c = any_case(); ...; RC_ASSERT(...); }));
#ifndef NORMUON_TESTS_SUPPORT_RANDOM_CASES_HPP
#define NORMUON_TESTS_SUPPORT_RANDOM_CASES_HPP

#include <rapidcheck.h>

#include "normuon/rules/muon.hpp"
#include "support/matrix.hpp"

namespace normuon::test {

struct shape {
  index_t m, n;
};

// A shape of sides from `least` on, and a source of the numbers to fill it with.
struct random_case {
  index_t m, n;
  random_source random;
};

inline random_case any_case(index_t least = 1) {
  const auto side = rc::gen::inRange<index_t>(least, 36);
  using sides = std::pair<index_t, index_t>;
  const auto large = rc::gen::element(sides{17, 129}, sides{129, 17}, sides{50, 60});
  const sides s = *rc::gen::weightedOneOf<sides>({{9, rc::gen::pair(side, side)}, {1, large}});
  return {s.first, s.second, random_source(*rc::gen::arbitrary<std::uint64_t>())};
}

inline std::vector<matrix> any_history(random_case& c, int steps) {
  std::vector<matrix> history;
  for (int k = 0; k < steps; ++k) history.push_back(c.random.gradient(c.m, c.n));
  return history;
}

// f of every gradient.
template <class F>
std::vector<matrix> each(const std::vector<matrix>& history, F&& f) {
  std::vector<matrix> all;
  for (const matrix& G : history) all.push_back(f(G));
  return all;
}

// Shapes at which code for tails, transposition and threads of work changes its way.
inline const std::vector<shape> awkward_shapes = {{0, 0}, {0, 5}, {5, 0}, {1, 1},    {1, 2},    {1, 300}, {300, 1},
                                                  {2, 2}, {8, 8}, {9, 7}, {17, 129}, {129, 17}, {33, 40}};

// The presets of the matrix rules.
inline std::vector<normuon_options> matrix_presets() {
  return {normuon_options::paper(), normuon_options::reference(), normuon_options::nanogpt(), normuon_options::dion(),
          muon_options::jordan(),   muon_options::moonlight(),    muon_options::torch_muon()};
}

inline normuon_options any_preset() { return matrix_presets()[*rc::gen::inRange<std::size_t>(0, 7)]; }

}  // namespace normuon::test

#endif
