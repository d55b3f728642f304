// Runs of one model on one process and on ranks in a loopback, whose bits are compared.
#ifndef NORMUON_TESTS_DIST_SHARDED_RUNS_HPP
#define NORMUON_TESTS_DIST_SHARDED_RUNS_HPP

#include <doctest/doctest.h>

#include "dist/sharded_model.hpp"
#include "normuon/backends/eigen.hpp"
#include "normuon/shards/loopback.hpp"
#ifdef NORMUON_TEST_RANKS_ON_GPUS
#include "cuda/ranks_on_gpus.hpp"
#else
#include "dist/ranks_on_host.hpp"
#endif

namespace normuon::test {

struct named_layout {
  std::string name;
  std::function<layout(int)> of;
};

// Every kind of layout, for any number of ranks. Uneven: the first rank has nothing, the last one most.
inline std::vector<named_layout> layouts(index_t m, index_t n) {
  const auto offsets = [](index_t length, int ranks) {
    std::vector<index_t> all;
    for (int r = 0; r <= ranks; ++r) all.push_back(r < 2 ? 0 : std::min<index_t>(length, r - 1));
    all.back() = length;
    return all;
  };
  const auto widest = [](int ranks) {
    int f = 1;
    for (int k = 2; k * k <= ranks; ++k)
      if (ranks % k == 0) f = k;
    return f;
  };
  return {{"rows", [](int) { return layout::rows(); }},
          {"uneven rows", [=](int P) { return layout::rows(offsets(m, P)); }},
          {"cols", [](int) { return layout::cols(); }},
          {"uneven cols", [=](int P) { return layout::cols(offsets(n, P)); }},
          {"grid", [=](int P) { return layout::grid(widest(P), P / widest(P)); }},
          {"nested rows", [=](int P) { return layout::grid(widest(P), P / widest(P), tensor_parallel::rows); }},
          {"flat", [](int) { return layout::flat_slice(); }},
          {"owned", [](int P) { return layout::owned(P / 2); }},
          {"replicated", [](int) { return layout::replicated(); }}};
}

// Of one rule: every layout, on shapes that are wide, tall, square, a line, and a batch; or on the first of them only.
inline constexpr std::size_t all_shapes = 5;
inline std::vector<spread_parameter> all_layouts(const named_rule& rule, std::size_t shapes_used = all_shapes) {
  constexpr std::array<std::array<index_t, 2>, all_shapes> shapes = {{{17, 29}, {29, 17}, {16, 16}, {1, 8}, {8, 1}}};
  std::vector<spread_parameter> all;
  std::size_t i = 0;
  for (const auto& [m, n] : std::span(shapes).first(shapes_used))
    for (const named_layout& l : layouts(m, n)) {
      const index_t batch = ++i % 5 == 0 ? 2 : 1;
      all.push_back({l.name + " " + std::to_string(m) + " x " + std::to_string(n), rule.options, m, n, batch, l.of});
    }
  return all;
}

// What may differ between two runs of one model that must give the same bits.
struct run_options {
  optimizer_options optimizer = {};
  loopback_options network = {};
  int threads = 1;
  int steps = 3;
};

// `each(trainer, step)` makes a step.
template <element T, class Each>
whole_tensors trained_alone(const std::vector<spread_parameter>& parameters, const run_options& o, const Each& each) {
  whole_tensors all;
  begin_run();
  train_alone<T>(parameters, o.optimizer, o.threads, [&](auto& trainer) {
    for (int step = 0; step < o.steps; ++step) each(trainer, step);
    trainer.put_into(all);
  });
  return all;
}
template <element T, class Each>
whole_tensors trained_on(int ranks, const std::vector<spread_parameter>& parameters, const run_options& o,
                         const Each& each) {
  whole_tensors all;
  begin_run();
  run_loopback(ranks, o.network, [&](loopback engine) {
    train_as_rank<T>(std::move(engine), parameters, o.optimizer, o.threads, [&](auto& trainer) {
      for (int step = 0; step < o.steps; ++step) each(trainer, step);
      trainer.put_into(all);
    });
  }).rethrow_first();
  return all;
}
inline constexpr auto one_step = [](auto& trainer, int step) { trainer.step(step); };

inline void check_same(const whole_tensors& got, const whole_tensors& expected) {
  REQUIRE(got.size() == expected.size());
  for (const auto& one : expected) {
    CAPTURE(one.first);
    const auto found = got.find(one.first);
    REQUIRE(found != got.end());
    CHECK(same_bits(found->second, one.second));
  }
}

// The part of a whole tensor that `t` is.
inline std::vector<double> part_of_whole(const std::vector<double>& whole, const named_tensor& t) {
  if (t.whole.empty()) return whole;
  std::vector<double> part;
  std::vector<index_t> at(t.shape.size(), 0);
  for (std::size_t n = 0; n < t.values.size(); ++n) {
    index_t place = 0;
    for (std::size_t d = 0; d < t.shape.size(); ++d) place = place * t.whole[d] + t.start[d] + at[d];
    part.push_back(whole[static_cast<std::size_t>(place)]);
    for (std::size_t d = t.shape.size(); d-- > 0;) {
      if (++at[d] < t.shape[d]) break;
      at[d] = 0;
    }
  }
  return part;
}

// What this rank holds is what `expected` says, where the others are in processes of their own.
template <class Trainer>
void check_held(Trainer& trainer, const whole_tensors& expected) {
  trainer.fetch_weights();
  for (std::size_t i = 0; i < trainer.parts.size(); ++i) {
    CAPTURE(trainer.parameters[i].name);
    auto weight = trainer.parts[i].weight;
    trainer.parts[i].copy(trainer.parameters[i], expected.at(trainer.parameters[i].name), weight, true);
    CHECK(same_bits(trainer.parts[i].weight, weight));
  }
  for (const named_tensor& t : trainer.opt.export_state()) {
    CAPTURE(t.name);
    CHECK(same_bits(t.values, part_of_whole(expected.at(t.name), t)));
  }
}

template <element T = float, class Each = decltype(one_step)>
void check_same_on(const std::vector<int>& ranks, const std::vector<spread_parameter>& parameters,
                   const run_options& o = {}, const Each& each = one_step) {
  const whole_tensors expected = trained_alone<T>(parameters, o, each);
  for (const int P : ranks) {
    CAPTURE(P);
    check_same(trained_on<T>(P, parameters, o, each), expected);
  }
}

// One matrix of NorMuon by rows, one by flat slices, one replicated, and one of AdamW by rows.
inline std::vector<spread_parameter> small_model() {
  const auto by_rows = [](int) { return layout::rows(); };
  return {{"rows", normuon_options::paper(), 12, 20, 1, by_rows},
          {"flat", normuon_options::reference(), 20, 12, 1, [](int) { return layout::flat_slice(); }},
          {"replicated", muon_options::jordan(), 9, 9, 1, [](int) { return layout::replicated(); }},
          {"adamw", adamw_options{}, 7, 5, 1, by_rows}};
}

template <element T>
using trainer_with = spread_trainer<eigen_backend, loopback, T>;
using trainer_of_rank = trainer_with<float>;

// Runs act(trainer) on every rank.
template <element T = float, class Act>
loopback_result on_ranks(int ranks, const std::vector<spread_parameter>& parameters, Act&& act,
                         optimizer_options options = {}) {
  return run_loopback(ranks, {}, [&](loopback engine) {
    trainer_with<T> trainer(parameters, std::move(engine), options, eigen_backend({.threads = 1}));
    act(trainer);
  });
}

}  // namespace normuon::test

#endif
