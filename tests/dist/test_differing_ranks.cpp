// Ranks that say of a step what can't be so together: all refuse it, nothing is written, and they may go on.
#include "dist/sharded_runs.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("under `zero` a replica that only some ranks have a gradient of is refused by all, by any rule") {
  const std::vector<spread_parameter> replicas = {{"matrix", normuon_options::paper(), 8, 6},
                                                  {"elements", adamw_options{}, 8, 6}};
  const run_options zero{.optimizer = {.missing_gradient = missing_gradient_policy::zero}};
  for (std::size_t i : {0u, 1u})
    for (const int without : {0, 1, 2}) {
      CAPTURE(i);
      CAPTURE(without);
      const auto miss = [&](auto& trainer, int step) {
        trainer.make_gradients(step);
        if (step != 1) return trainer.opt.step();
        if (trainer.opt.engine().size() == 1) return;
        if (trainer.opt.engine().rank() == without) trainer.opt.unbind_gradient(replicas[i].name);
        const refusal r = refusal_of([&] { trainer.opt.step(); });
        CHECK(r.is(error_code::gradient, "'" + replicas[i].name + "'",
                   without == 0 ? "rank 0 has no gradient and rank 1 moves it" : "rank 0 moves it and rank",
                   "has no gradient"));
        trainer.bind_gradient(i);
      };
      check_same_on({3}, replicas, zero, miss);
    }
}

TEST_CASE("under `zero` a replica that no rank has a gradient of moves by its momentum on all") {
  const std::vector<spread_parameter> replicas = {{"matrix", normuon_options::paper(), 8, 6},
                                                  {"elements", adamw_options{}, 8, 6}};
  const auto without = [&](auto& trainer, int step) {
    trainer.make_gradients(step);
    for (const spread_parameter& p : replicas)
      if (step == 1) trainer.opt.unbind_gradient(p.name);
    trainer.opt.step();
    for (const parameter_report& r : trainer.opt.report().parameters) CHECK(r.outcome == outcome::moved);
  };
  const run_options zero{.optimizer = {.missing_gradient = missing_gradient_policy::zero}, .steps = 2};
  check_same_on({2, 3}, replicas, zero, without);
}

TEST_CASE("a replica without a gradient on one rank, or frozen on one, is refused by all before anything is written") {
  for (const bool freezes : {false, true}) {
    const auto differ = [&](auto& trainer, int step) {
      trainer.make_gradients(step);
      if (step != 1 || trainer.opt.engine().size() == 1) return step == 1 ? void() : trainer.opt.step();
      const bool odd = trainer.opt.engine().rank() == 1;
      for (const std::string& name : {std::string("replicated"), std::string("adamw replica")}) {
        if (odd && freezes) trainer.opt.freeze(name);
        if (odd && !freezes) trainer.opt.unbind_gradient(name);
      }
      const refusal r = refusal_of([&] { trainer.opt.step(); });
      CHECK(r.is(error_code::gradient, "'replicated'", "rank 0 moves it and rank 1",
                 freezes ? "has frozen it" : "has no gradient"));
      for (std::size_t i = 0; i < trainer.parameters.size(); ++i) {
        if (odd) trainer.opt.unfreeze(trainer.parameters[i].name);
        trainer.bind_gradient(i);
      }
    };
    std::vector<spread_parameter> parameters = small_model();
    parameters.push_back({"adamw replica", adamw_options{}, 3, 3, 1, [](int) { return layout::replicated(); }});
    check_same_on({2, 3}, parameters, {}, differ);
  }
}

TEST_CASE("a number or call that is another on one rank is refused by all before anything is written") {
  using change = std::function<void(optimizer<rank_backend<float>, rank_engine>&)>;
  const auto refused = [](const change& set, const change& set_back, const std::string& here,
                          const std::string& there) {
    const auto differ = [&](auto& trainer, int step) {
      trainer.make_gradients(step);
      if constexpr (std::is_same_v<std::decay_t<decltype(trainer.opt.engine())>, rank_engine>) {
        const bool odd = step == 1 && trainer.opt.engine().rank() == trainer.opt.engine().size() - 1;
        if (odd) set(trainer.opt);
        if (step == 1) {
          const refusal r = refusal_of([&] { odd && !set_back ? trainer.opt.step_changes() : trainer.opt.step(); });
          CAPTURE(r.message);
          CHECK(r.is(error_code::option, "expected the same numbers on all ranks, but rank 0 has " + here, "; rank",
                     "has " + there));
        }
        if (odd && set_back) set_back(trainer.opt);
      }
      trainer.opt.step();
    };
    check_same_on({2, 3}, small_model(), {}, differ);
  };
  const double rate = normuon_options::paper().learning_rate;
  refused([](auto& opt) { opt.set_learning_rate(group_id{0}, 0.5); },
          [=](auto& opt) { opt.set_learning_rate(group_id{0}, rate); },
          "group.0.learning_rate: ", "group.0.learning_rate: 0.5");
  refused([](auto& opt) { opt.set_gradient_scale(0.25); }, [](auto& opt) { opt.set_gradient_scale(1); },
          "gradient_scale: 1", "gradient_scale: 0.25");
  refused([](auto&) {}, nullptr, "call: step", "call: step_changes");
}

TEST_CASE("where one rank can't write changes no rank does, and all say whose it is") {
  const auto lacks = [](auto& trainer, int step) {
    trainer.make_gradients(step);
    const int rank = trainer.opt.engine().rank();
    std::vector<float> late(8), change(8);
    if (step == 1 && trainer.opt.engine().size() > 1) {
      trainer.opt.add_parameter(trainer.opt.add_group(adamw_options{}), "late", row_major(late.data(), 2, 4));
      if (rank != 1) trainer.opt.bind_change("late", row_major(change.data(), 2, 4));
      CHECK(refusal_of([&] { trainer.opt.step_changes(); })
                .is(error_code::gradient, rank == 1 ? "'late': expected a bound change buffer"
                                                    : "rank 1 can't make the step, as it says there"));
      trainer.opt.remove_parameter("late");
    }
    trainer.opt.step();
  };
  check_same_on({2, 3}, small_model(), {}, lacks);
}

TEST_CASE(
    "a message on ranks that differ names the first that can't be together with rank 0, not one that only differs") {
  const std::vector<spread_parameter> parameters = {
      {"rows", normuon_options::paper(), 6, 9, 1, [](int) { return layout::rows(); }}};
  run_loopback(3, {}, [&](loopback engine) {
    const int rank = engine.rank();
    spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), {},
                                                           eigen_backend({.threads = 1}));
    trainer.make_gradients(0);
    if (rank == 1) trainer.opt.unbind_gradient("rows");
    if (rank == 2) trainer.opt.freeze("rows");
    const refusal r = refusal_of([&] { trainer.opt.step(); });
    CHECK(r.is(error_code::gradient, "rank 0 moves it and rank 2 has frozen it"));
  }).rethrow_first();
}

TEST_CASE("a report that was asked for tells of its own step on several ranks too, whatever was stepped since") {
  run_loopback(2, {}, [&](loopback engine) {
    spread_trainer<eigen_backend, loopback, float> trainer(small_model(), std::move(engine), {},
                                                           eigen_backend({.threads = 1}));
    trainer.make_gradients(0);
    trainer.opt.freeze("flat");
    trainer.opt.unbind_gradient("rows");
    trainer.opt.step();
    trainer.opt.request_report();
    trainer.opt.unfreeze("flat");
    trainer.bind_gradient(0);
    trainer.step(1);
    const std::optional<step_report> report = trainer.opt.requested_report();
    REQUIRE(report);
    CHECK(report->parameters[0].outcome == outcome::absent);
    CHECK(report->parameters[1].outcome == outcome::frozen);
    for (const parameter_report& p : trainer.opt.report().parameters) CHECK(p.outcome == outcome::moved);
  }).rethrow_first();
}
