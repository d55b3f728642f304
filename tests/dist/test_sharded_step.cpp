// The step of an optimizer on several ranks: the bits are those of one process.
#include "dist/sharded_runs.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("every rule has the bits of one process on any number of ranks, in every layout") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    check_same_on({1, 2, 3, 4, 5, 6, 7, 8}, all_layouts(rule));
  }
}

TEST_CASE("thirty steps on 1 to 64 ranks have the bits of one process") {
  std::vector<int> ranks;
  for (int P = 1; P <= 64; ++P) ranks.push_back(P);
  check_same_on(ranks, small_model(), {.steps = 30});
  check_same_on({13, 64}, all_layouts({"paper", normuon_options::paper()}), {.steps = 30});
  check_same_on(ranks, all_layouts({"paper", normuon_options::paper()}, 1), {.steps = 2});
}

TEST_CASE("bits depend neither on threads nor on who moves first or how long legs take") {
  const std::vector<spread_parameter> parameters = all_layouts({"reference", normuon_options::reference()});
  const whole_tensors expected = trained_alone<float>(parameters, {}, one_step);
  using microseconds = std::chrono::microseconds;
  const loopback_times slow{.latency = microseconds(10), .jitter = microseconds(60)};
  for (const int threads : {1, 2})
    for (const std::uint64_t seed : {1u, 2u, 3u})
      check_same(trained_on<float>(4, parameters,
                                   {.network = {.seed = seed, .times = slow, .deadline = std::chrono::seconds(60)},
                                    .threads = threads},
                                   one_step),
                 expected);
}

TEST_CASE("with a narrow wire every number of ranks has the bits of one process that rounds the same way") {
  const run_options narrow{.optimizer = {.wire = element_type::bfloat16}};
  const std::vector<spread_parameter> parameters = all_layouts({"nanogpt", normuon_options::nanogpt()});
  check_same_on({2, 5}, parameters, narrow);
  for (const named_rule& rule : all_rules()) check_same_on({3}, all_layouts(rule), narrow);
  check_same_on<double>({3}, parameters, {.optimizer = {.wire = element_type::float32}});
  CHECK(trained_alone<float>(parameters, narrow, one_step) != trained_alone<float>(parameters, {}, one_step));
}

TEST_CASE(
    "through stages that have no room for replicated matrices these travel in slices, with the bits of one process") {
  std::vector<spread_parameter> parameters = all_layouts({"nanogpt", normuon_options::nanogpt()}, 2);
  for (index_t k = 0; k < 9; ++k)
    parameters.push_back({"replica " + std::to_string(k), normuon_options::paper(), 5 + 3 * k, 7, k % 4 == 0 ? 2 : 1});
  for (const std::size_t limit : {std::size_t{1}, std::size_t{40'000}}) {
    check_same_on({2, 3, 5}, parameters, {.optimizer = {.staging_limit = limit}});
    check_same_on<bfloat16>({3}, parameters, {.optimizer = {.staging_limit = limit}});
    const auto hold_back = [](auto& trainer, int step) {
      trainer.make_gradients(step);
      for (std::size_t i = 0; step == 1 && i < trainer.parts.size(); ++i)
        if (trainer.parameters[i].how(2).is_replicated())
          trainer.parts[i].gradient.back() = std::numeric_limits<float>::max();
      trainer.send_gradients();
      trainer.opt.step_changes();
      trainer.fetch_changes();
      for (auto& part : trainer.parts)
        for (std::size_t k = 0; k < part.weight.size(); ++k) part.weight[k] += part.change[k];
      trainer.send_weights();
    };
    check_same_on({3}, parameters, {.optimizer = {.staging_limit = limit}}, hold_back);
  }
  std::size_t slices = 0;
  run_loopback(3, {}, [&](loopback engine) {
    spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), {.staging_limit = 1},
                                                           eigen_backend({.threads = 1}));
    trainer.step(0);
    for (const bucket_plan& b : trainer.opt.shards().buckets()) slices += b.slice != 0;
  }).rethrow_first();
  CHECK(slices > 0);
}

TEST_CASE("a fused QKV of which each rank has consecutive rows has the bits of one process") {
  constexpr index_t n = 10, m = 12, lines = 3 * n;
  const spread_parameter fused{"qkv", normuon_options::paper(), lines, m};
  // Rows `first` to `first` + held - 1 of it, in memory of their own: what is of Q, K or V there.
  const auto trained = [&](auto& opt, index_t first, index_t held, auto&& part_of) {
    std::vector<float> w = first_weight<float>(fused), g;
    w = {w.begin() + first * m, w.begin() + (first + held) * m};
    g.resize(w.size());
    const group_id group = opt.add_group(normuon_options::paper());
    for (index_t k = 0; k < 3; ++k) opt.add_parameter(group, "qkv" + std::to_string(k), part_of(w, k), part_of(g, k));
    for (int step = 0; step < 3; ++step) {
      const std::vector<float> whole = gradient_of<float>(fused, step);
      std::copy_n(whole.begin() + first * m, g.size(), g.begin());
      opt.step();
    }
    return w;
  };
  optimizer<eigen_backend> alone;
  const std::vector<float> expected = trained(alone, 0, lines, [&](std::vector<float>& whole, index_t k) {
    return row_major(whole.data(), lines, m).row_block(k * n, n);
  });
  for (const int P : {2, 3, 4, 7})
    run_loopback(P, {}, [&](loopback engine) {
      const int rank = engine.rank();
      const index_t chunk = (lines + P - 1) / P;
      const auto begin_of = [&](int r) { return std::min<index_t>(lines, r * chunk); };
      optimizer<eigen_backend, loopback> opt(eigen_backend({.threads = 1}), {}, std::move(engine));
      const index_t first = begin_of(rank), held = begin_of(rank + 1) - first;
      const std::vector<float> w = trained(opt, first, held, [&](std::vector<float>& mine, index_t k) {
        std::vector<index_t> offsets;
        for (int r = 0; r <= P; ++r) offsets.push_back(std::clamp<index_t>(begin_of(r) - k * n, 0, n));
        const index_t row = std::clamp<index_t>(k * n - first, 0, held);
        return shard(mine.data() + row * m, n, m, layout::rows(offsets), rank, P);
      });
      CHECK(same_bits(w, std::vector<float>(expected.begin() + first * m, expected.begin() + (first + held) * m)));
    }).rethrow_first();
}

TEST_CASE("weights of 16 bits have the bits of one process, however they are rounded") {
  for (const weight_rounding rounding :
       {weight_rounding::nearest, weight_rounding::stochastic, weight_rounding::master}) {
    std::vector<spread_parameter> parameters = small_model();
    for (spread_parameter& p : parameters) std::visit([&](auto& o) { o.weight_rounding = rounding; }, p.options);
    check_same_on<bfloat16>({2, 3}, parameters);
    check_same_on<float16>({4}, parameters);
  }
}

TEST_CASE("a change on several ranks is that of one process") {
  const std::vector<spread_parameter> parameters = small_model();
  const auto change = [](auto& trainer, int step) {
    trainer.make_gradients(step);
    trainer.opt.step_changes();
    trainer.fetch_changes();
    for (auto& part : trainer.parts) part.weight = part.change;  // for all to see
    trainer.send_weights();
  };
  check_same_on({2, 3, 5}, parameters, {.steps = 2}, change);
}

TEST_CASE("a gradient that only some ranks have is zero on the others, one that no rank has is missing") {
  missing_gradient_policy policy = missing_gradient_policy::skip;
  const auto leave_out = [&](auto& trainer, int step) {
    const bool some = trainer.opt.engine().rank() != 0 || trainer.opt.engine().size() == 1;
    trainer.make_gradients(step);
    for (std::size_t i : {0u, 1u, 3u}) {  // rank 0 has none; in one process its part is zero
      auto& part = trainer.parts[i];
      const spread_parameter& p = trainer.parameters[i];
      std::vector<float> whole = gradient_of<float>(p, step);
      const layout first = p.how(3);
      for (const rectangle& r : first.rectangles(p.rows, p.cols, 0, 3))
        for (index_t k = 0; k < r.elements(); ++k)
          whole[static_cast<std::size_t>((r.row + k / r.cols) * p.cols + r.col + k % r.cols)] = 0;
      part.copy(p, whole, part.gradient, true);
      if (!some && step == 1) trainer.opt.unbind_gradient(p.name);
    }
    if (step == 2) trainer.opt.unbind_gradient("replicated");
    trainer.send_gradients();
    trainer.opt.step();
    const auto outcome_of = [&](std::size_t i) { return trainer.opt.report().parameters[i].outcome; };
    CHECK(outcome_of(0) == outcome::moved);
    CHECK(outcome_of(2) == (step == 2 && policy == missing_gradient_policy::skip ? outcome::absent : outcome::moved));
  };
  check_same_on({3}, small_model(), {}, leave_out);
  policy = missing_gradient_policy::zero;
  check_same_on({3}, small_model(), {.optimizer = {.missing_gradient = policy}}, leave_out);
}

TEST_CASE("under `zero` a parameter without any gradient moves by its momentum") {
  const auto twice = [](auto& trainer, int step) {
    trainer.make_gradients(step);
    if (step == 1) trainer.opt.unbind_gradient("rows");
    trainer.opt.step();
  };
  const run_options zero{.optimizer = {.missing_gradient = missing_gradient_policy::zero}, .steps = 2};
  check_same_on({2, 5}, small_model(), zero, twice);
  const auto with_zeros = [](auto& trainer, int step) {
    trainer.make_gradients(step);
    if (step == 1) std::fill(trainer.parts[0].gradient.begin(), trainer.parts[0].gradient.end(), 0.0f);
    trainer.send_gradients();
    trainer.opt.step();
  };
  check_same(trained_alone<float>(small_model(), zero, twice),
             trained_alone<float>(small_model(), {.steps = 2}, with_zeros));
}

TEST_CASE("a NaN on one rank holds the parameter back on all, under every policy that says so") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const non_finite_policy policy : {non_finite_policy::skip, non_finite_policy::propagate}) {
    const auto with_nan = [&](auto& trainer, int step) {
      trainer.make_gradients(step);
      for (std::size_t i : {0u, 3u}) {  // in the last element, which the last rank with a part holds
        auto& part = trainer.parts[i];
        if (step == 1 && !part.rectangles.empty()) {
          const rectangle& r = part.rectangles[part.rectangles.size() - 1];
          if (r.row + r.rows == trainer.parameters[i].rows) part.gradient.back() = nan;
        }
      }
      trainer.send_gradients();
      trainer.opt.step();
      if (policy == non_finite_policy::skip && step == 1) {
        CHECK(trainer.opt.report().parameters[0].outcome == outcome::non_finite_gradient);
        CHECK(trainer.opt.report().parameters[1].outcome == outcome::moved);
        CHECK(trainer.opt.report().parameters[3].outcome == outcome::non_finite_gradient);
      }
    };
    check_same_on({2, 3, 8}, small_model(), {.optimizer = {.non_finite = policy}}, with_nan);
  }
}

TEST_CASE("under `raise` every rank throws the same before anything is written, and goes on") {
  const auto raise = [](auto& trainer, int step) {
    trainer.make_gradients(step);
    if (step != 1) return trainer.opt.step();
    if (trainer.opt.engine().rank() == trainer.opt.engine().size() - 1)
      trainer.parts[2].gradient[0] = std::numeric_limits<float>::infinity();
    trainer.send_gradients();
    CHECK(refusal_of([&] { trainer.opt.step(); }).is(error_code::non_finite, "in the gradient of 'replicated'"));
  };
  check_same_on({2, 3}, small_model(), {.optimizer = {.non_finite = non_finite_policy::raise}}, raise);
}

TEST_CASE("where U overflows on one rank, M moves everywhere and W nowhere") {
  const auto overflow = [](auto& trainer, int step) {
    trainer.make_gradients(step);
    auto& part = trainer.parts[0];
    if (step == 1 && !part.gradient.empty() && part.rectangles[0].row == 0)
      part.gradient[3] = std::numeric_limits<float>::max();
    trainer.send_gradients();
    trainer.opt.step();
  };
  std::vector<spread_parameter> parameters = small_model();
  parameters[0].options = muon_options::moonlight();  // heavy ball: b1 M + G with Nesterov is more than G
  check_same_on({2, 3, 8}, parameters, {}, overflow);
  const auto first = [](auto& trainer, int step) {
    if (step < 1) trainer.step(step);
  };
  CHECK(trained_alone<float>(parameters, {.steps = 2}, overflow)["rows"] ==
        trained_alone<float>(parameters, {.steps = 2}, first)["rows"]);
}

TEST_CASE("parameters may be frozen, added and removed on the way, and owners keep what they own") {
  const auto change = [](auto& trainer, int step) {
    if (step == 1) trainer.opt.freeze("rows");
    if (step == 2) trainer.opt.unfreeze("rows");
    if (step == 2) trainer.add({"late", normuon_options::nanogpt(), 30, 8, 1, [](int) { return layout::cols(); }});
    if (step == 3) trainer.opt.remove_parameter("replicated"), trainer.opt.remove_parameter("flat");
    trainer.step(step);
  };
  check_same_on({2, 3, 5}, small_model(), {.steps = 5}, change);
}

TEST_CASE("a gradient, weight or change that is cut otherwise than its parameter is refused, whatever its sizes") {
  run_loopback(4, {}, [&](loopback engine) {
    const int rank = engine.rank();
    std::vector<float> memory(100);
    optimizer<eigen_backend, loopback> opt(eigen_backend(), {}, std::move(engine));
    const auto by_rows = [&](float* data) { return shard(data, 8, 3, layout::rows(), rank, 4); };
    const auto nested = [&](float* data) {
      return shard(data, 8, 3, layout::grid(2, 2, tensor_parallel::rows), rank, 4);
    };
    const group_id g = opt.add_group(normuon_options::paper());
    CHECK(refusal_of([&] {
            opt.add_parameter(g, "w", by_rows(&memory[0]), nested(&memory[50]));
          }).is(error_code::gradient, "gradient of 'w'", "under 'rows'", "under 'grid 2 x 2 of rows'"));
    opt.add_parameter(g, "w", by_rows(&memory[0]));
    CHECK(refusal_of([&] { opt.bind_gradient("w", nested(&memory[50])); }).code == error_code::gradient);
    CHECK(refusal_of([&] { opt.bind_weight("w", nested(&memory[50])); }).code == error_code::parameter);
    CHECK(refusal_of([&] { opt.bind_change("w", nested(&memory[50])); }).code == error_code::gradient);
    CHECK(refusal_of([&] {
            opt.add_parameter(g, "x", sharded_ref<float>{layout::rows(), 8, 3, {}});
          }).is(error_code::parameter, "weight of 'x': expected 1 views", "rank", "of 4 holds under 'rows', got 0"));
  }).rethrow_first();
}

TEST_CASE("one rank alone may be asked for diagnostics") {
  const auto measured = [](auto& trainer, int step) {
    if (step == 1 && trainer.opt.engine().rank() == 0) trainer.opt.set_diagnostics(true);
    trainer.step(step);
  };
  check_same_on({2, 3}, small_model(), {}, measured);
}

TEST_CASE("matrices that do not move cost no products on several ranks") {
  std::vector<spread_parameter> parameters = small_model();
  const auto frozen = [](auto& trainer, int step) {
    for (const spread_parameter& p : trainer.parameters)
      if (step == 1) trainer.opt.freeze(p.name);
    trainer.step(step);
    for (const parameter_report& r : trainer.opt.report().parameters)
      if (step == 1) CHECK(r.outcome == outcome::frozen);
  };
  check_same_on({2, 3}, parameters, {.steps = 2}, frozen);
}

TEST_CASE("matrices without elements count their steps on any number of ranks") {
  std::vector<spread_parameter> parameters = small_model();
  parameters.push_back({"empty", normuon_options::paper(), 0, 4, 1, [](int) { return layout::rows(); }});
  parameters.push_back({"none", adamw_options{}, 4, 0, 2, [](int) { return layout::replicated(); }});
  check_same_on({2, 3}, parameters);
}
