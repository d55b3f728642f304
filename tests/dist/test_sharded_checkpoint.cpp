// Checkpoints of several ranks: one file, the bytes of which don't tell how many they were.
#include "dist/saved_run.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Every rule in every layout, of few elements.
std::vector<spread_parameter> every_rule_in_every_layout() {
  std::vector<spread_parameter> all;
  const std::vector<named_rule> rules = all_rules();
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const index_t m = 3 + static_cast<index_t>(i) % 4, n = 5 - static_cast<index_t>(i) % 3;
    for (const named_layout& l : layouts(m, n))
      all.push_back({rules[i].name + " " + l.name, rules[i].options, m, n, i % 3 == 0 ? 2 : 1, l.of});
  }
  return all;
}

std::string message_of(const loopback_result& result, int rank) {
  return refusal_of([&] {
           if (const std::exception_ptr& e = result.thrown[static_cast<std::size_t>(rank)]) std::rethrow_exception(e);
         })
      .message;
}

}  // namespace

TEST_CASE("a checkpoint has the same bytes on any number of ranks and in every layout") {
  const scratch_folder folder;
  const std::vector<spread_parameter> parameters = every_rule_in_every_layout();
  const auto saved_by = [&](int ranks) {
    on_ranks(ranks, parameters, [&](trainer_of_rank& trainer) {
      trainer.step(0), trainer.step(1);
      save_checkpoint(folder / "file", trainer.opt);
    }).rethrow_first();
    return get(folder / "file");
  };
  const std::string alone = saved_by(1);
  for (int ranks = 2; ranks <= 8; ++ranks) {
    CAPTURE(ranks);
    CHECK(saved_by(ranks) == alone);
  }
}

TEST_CASE("a run that is saved on some ranks goes on bit for bit on any other number of them") {
  const scratch_folder folder;
  const std::vector<spread_parameter> parameters = every_rule_in_every_layout();
  const whole_tensors expected = trained_alone<float>(parameters, {.steps = 3}, one_step);
  for (int before = 1; before <= 8; ++before) {
    on_ranks(before, parameters, [&](trainer_of_rank& trainer) {
      trainer.step(0), trainer.step(1);
      save_checkpoint(folder / "file", trainer.opt);
    }).rethrow_first();
    for (int after = 1; after <= 8; ++after) {
      CAPTURE(before);
      CAPTURE(after);
      whole_tensors all;
      on_ranks(after, parameters, [&](trainer_of_rank& trainer) {
        CHECK(load_checkpoint(folder / "file", trainer.opt).step == 2);
        trainer.step(2);
        trainer.put_into(all);
      }).rethrow_first();
      check_same(all, expected);
    }
  }
}

TEST_CASE("weights of 16 bits, masters and a narrow wire are saved alike and go on alike on any number of ranks") {
  using trainer_of_16_bits = trainer_with<bfloat16>;
  const scratch_folder folder;
  const optimizer_options options{.seed = 3, .wire = element_type::bfloat16};
  std::vector<spread_parameter> parameters = every_rule_in_every_layout();
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (i % 2 == 0) parameters[i].options = with_rounding(weight_rounding::master, parameters[i].options);
  const whole_tensors expected = trained_alone<bfloat16>(parameters, {.optimizer = options, .steps = 3}, one_step);
  std::string alone;
  constexpr int before_and_after[][2] = {{1, 3}, {2, 8}, {3, 1}, {4, 2}, {8, 5}};
  for (const auto& ranks : before_and_after) {
    const int before = ranks[0], after = ranks[1];
    CAPTURE(before);
    CAPTURE(after);
    on_ranks<bfloat16>(
        before, parameters,
        [&](trainer_of_16_bits& trainer) {
          trainer.step(0), trainer.step(1);
          save_checkpoint(folder / "file", trainer.opt);
        },
        options)
        .rethrow_first();
    if (before == 1) alone = get(folder / "file");
    CHECK(get(folder / "file") == alone);
    whole_tensors all;
    on_ranks<bfloat16>(
        after, parameters,
        [&](trainer_of_16_bits& trainer) {
          CHECK(load_checkpoint(folder / "file", trainer.opt).step == 2);
          trainer.step(2);
          trainer.put_into(all);
        },
        options)
        .rethrow_first();
    check_same(all, expected);
  }
  for (const char* there : {R"("wire":"bfloat16")", R"("dtype":"BF16")", R"(.master":)"})
    CHECK(alone.find(there) != std::string::npos);
}

TEST_CASE("ranks that would write different files are all refused before anything is created") {
  struct {
    void (*change)(trainer_of_rank&, checkpoint_extras&, save_options&);
    const char *first, *other;
  } const cases[] = {
      {[](auto&, auto& extras, auto&) { extras.text["epoch"] = "3\n"; }, "text.epoch: 3\\x0a", "wire: float32"},
      {[](auto&, auto& extras, auto&) {
         extras.tensors["x"] = {safetensors::dtype::f32, {1}, std::vector<std::byte>(4)};
       },
       "tensor 'extra.x': F32 [1]", "tensor 'flat."},
      {[](auto& trainer, auto&, auto&) { trainer.opt.set_learning_rate(group_id{}, 0.5); },
       "group.0.now.learning_rate: 0.5", "group.0.now.learning_rate: 0.001"},
      {[](auto&, auto&, auto& options) { options.weights = false; }, "tensor 'flat.", "tensor 'adamw.weight'"},
  };
  for (const auto& c : cases) {
    const scratch_folder folder;
    put(folder / "file", "what was there");
    CAPTURE(std::string(c.first));
    const loopback_result result = on_ranks(3, small_model(), [&](trainer_of_rank& trainer) {
      trainer.step(0);
      checkpoint_extras extras;
      save_options options;
      if (trainer.opt.engine().rank() == 0) c.change(trainer, extras, options);
      save_checkpoint(folder / "file", trainer.opt, extras, options);
    });
    for (int rank = 0; rank < 3; ++rank) {
      const std::string message = message_of(result, rank);
      CAPTURE(message);
      CHECK(message.find(std::string("but rank 0 has ") + c.first) != std::string::npos);
      CHECK(message.find(std::string("; rank 1 has ") + c.other) != std::string::npos);
    }
    CHECK(get(folder / "file") == "what was there");
    CHECK(folder.entries() == 1);
  }
}

TEST_CASE("where one rank can't save, none has, and the file that was there stays") {
  const scratch_folder folder;
  put(folder / "file", "what was there");
  const loopback_result result = on_ranks(3, small_model(), [&](trainer_of_rank& trainer) {
    trainer.step(0);
    checkpoint_extras extras;
    if (trainer.opt.engine().rank() == 1) extras.tensors["x"] = {safetensors::dtype::f32, {4}, {}};
    save_checkpoint(folder / "file", trainer.opt, extras);
  });
  CHECK(message_of(result, 1).find("expected 16 bytes for its shape, got 0") != std::string::npos);
  CHECK(message_of(result, 0).find("rank 1: ") == 0);
  CHECK(message_of(result, 2) == message_of(result, 0));
  CHECK(get(folder / "file") == "what was there");
}

TEST_CASE("where one rank can't load, nothing has changed on any") {
  const scratch_folder folder;
  save_first_step(folder / "file");
  const whole_tensors expected = trained_alone<float>(small_model(), {.steps = 2}, one_step);
  // A file that isn't there for rank 2; and damage, which one rank finds for all.
  std::string damaged = get(folder / "file");
  damaged[damaged.size() - 3] ^= 1;
  put(folder / "damaged", damaged);
  whole_tensors all;
  on_ranks(3, small_model(), [&](trainer_of_rank& trainer) {
    trainer.step(0);
    const int rank = trainer.opt.engine().rank();
    const refusal other =
        refusal_of([&] { load_checkpoint(rank == 2 ? folder / "nowhere" : folder / "file", trainer.opt); });
    CHECK(other.is(error_code::file, "nowhere", rank == 2 ? "" : "rank 2: "));
    const refusal damage = refusal_of([&] { load_checkpoint(folder / "damaged", trainer.opt); });
    CHECK(damage.is(error_code::file, "expected bytes with the digest"));
    trainer.step(1);
    trainer.put_into(all);
  }).rethrow_first();
  check_same(all, expected);
}

TEST_CASE("where one rank was made otherwise, no rank loads") {
  const scratch_folder folder;
  save_first_step(folder / "file");
  whole_tensors before, after;
  run_loopback(3, {}, [&](loopback engine) {
    const bool is_other = engine.rank() == 2;
    std::vector<spread_parameter> parameters = small_model();
    if (is_other) std::get<normuon_options>(parameters[0].options).momentum = 0.9;
    trainer_of_rank trainer(parameters, std::move(engine), {}, eigen_backend({.threads = 1}));
    trainer.put_into(before);
    const refusal r = refusal_of([&] { load_checkpoint(folder / "file", trainer.opt); });
    CHECK(r.is(error_code::state, is_other ? "" : "rank 2: ", "group.0.momentum: expected '0.9', found '0.95'"));
    trainer.put_into(after);
  }).rethrow_first();
  check_same(after, before);
}

TEST_CASE("a policy for non-finite gradients is compared between ranks, and no matter of a checkpoint") {
  const scratch_folder folder;
  save_first_step(folder / "file");
  run_loopback(2, {}, [&](loopback engine) {
    const auto policy = engine.rank() == 0 ? non_finite_policy::skip : non_finite_policy::raise;
    trainer_of_rank trainer(small_model(), std::move(engine), {.non_finite = policy}, eigen_backend({.threads = 1}));
    CHECK(load_checkpoint(folder / "file", trainer.opt).step == 1);
    const refusal r = refusal_of([&] { trainer.opt.prepare(); });
    CHECK(r.is(error_code::option, "rank 0 has non_finite: skip; rank 1 has non_finite: raise"));
  }).rethrow_first();
}
