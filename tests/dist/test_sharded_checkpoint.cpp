// Checkpoints of several ranks: one file, the bytes of which don't tell how many they were.
#include "dist/sharded_runs.hpp"
#include "normuon/io/checkpoint.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using trainer_of_rank = spread_trainer<eigen_backend, loopback, float>;

// Runs act(trainer) on every rank.
template <class Act>
loopback_result on_ranks(int ranks, const std::vector<spread_parameter>& parameters, Act&& act) {
  return run_loopback(ranks, {}, [&](loopback engine) {
    trainer_of_rank trainer(parameters, std::move(engine), {}, eigen_backend({.threads = 1}));
    act(trainer);
  });
}

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
  on_ranks(1, small_model(), [&](trainer_of_rank& trainer) {
    trainer.step(0);
    save_checkpoint(folder / "file", trainer.opt);
  }).rethrow_first();
  const whole_tensors expected = trained_alone<float>(small_model(), {.steps = 2}, one_step);
  // A momentum of the wrong type on rank 2; and damage, which one rank finds for all.
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
