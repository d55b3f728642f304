// What ranks settle among themselves about a checkpoint: that they load one file, who reads how much of it, how long
// they wait, and what becomes of it where parameters were removed.
#include <numeric>

#include "dist/saved_run.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Notes its deadline in milliseconds whenever it is set, and the one under which each gather waits.
struct noting_engine : loopback {
  std::vector<long>* set;
  std::vector<long>* waited;
  long now = 0;

  noting_engine(loopback&& engine, std::vector<long>& all_set, std::vector<long>& all_waited)
      : loopback(std::move(engine)), set(&all_set), waited(&all_waited) {}
  void set_deadline(std::chrono::milliseconds deadline) {
    now = static_cast<long>(deadline.count());
    set->push_back(now);
    loopback::set_deadline(deadline);
  }
  void all_gather_small(void* all, std::size_t bytes) {
    waited->push_back(now);
    loopback::all_gather_small(all, bytes);
  }
};

// A disk that is gone after some reads.
struct failing_disk : posix_file_system {
  int* reads_left;

  struct file : posix_file {
    int* reads_left;
    file(posix_file&& f, int* left) : posix_file(std::move(f)), reads_left(left) {}
    void read_at(std::uint64_t at, std::span<std::byte> out) const {
      if ((*reads_left)-- <= 0) fail(error_code::file, "the disk is gone");
      posix_file::read_at(at, out);
    }
  };
  explicit failing_disk(int& left) : reads_left(&left) {}
  file open(const file_path& path) const { return {posix_file_system::open(path), reads_left}; }
  file open_to_write(const file_path& path, const file_path& shown) const {
    return {posix_file_system::open_to_write(path, shown), reads_left};
  }
  std::optional<file> create(const file_path& path, const file_path& shown) const {
    std::optional<posix_file> made = posix_file_system::create(path, shown);
    return made ? std::optional<file>(std::in_place, std::move(*made), reads_left) : std::nullopt;
  }
};

// Takes a parameter out of a trainer. The others stay where they are in memory.
void remove(trainer_of_rank& trainer, std::string_view name) {
  trainer.opt.remove_parameter(name);
  const auto at = std::find_if(trainer.parameters.begin(), trainer.parameters.end(),
                               [&](const spread_parameter& p) { return p.name == name; });
  trainer.parts.erase(trainer.parts.begin() + (at - trainer.parameters.begin()));
  trainer.parameters.erase(at);
}

}  // namespace

TEST_CASE("ranks that open different checkpoints of one model load none of them") {
  const scratch_folder folder;
  on_ranks(1, small_model(), [&](trainer_of_rank& trainer) {
    for (const char* name : {"first", "second"}) {
      trainer.step(0);
      save_checkpoint(folder / name, trainer.opt);
    }
  }).rethrow_first();
  whole_tensors before, after;
  on_ranks(3, small_model(), [&](trainer_of_rank& trainer) {
    trainer.put_into(before);
    const refusal r = refusal_of(
        [&] { load_checkpoint(folder / (trainer.opt.engine().rank() == 2 ? "second" : "first"), trainer.opt); });
    CHECK(
        r.is(error_code::file, "expected one file on all ranks, but rank 0 has one with the digest ", ", rank 2 one"));
    CHECK(r.message.find(digest_text(checkpoint_reader<>(folder / "second").header_digest())) != std::string::npos);
    trainer.put_into(after);
    CHECK(load_checkpoint(folder / "second", trainer.opt).step == 2);
  }).rethrow_first();
  check_same(after, before);
}

TEST_CASE("whichever read fails on one rank, all refuse the checkpoint, and nothing has changed on any") {
  const scratch_folder folder;
  save_first_step(folder / "file");
  int reads = 0;
  for (bool loads = false; !loads; ++reads) {
    CAPTURE(reads);
    whole_tensors before, after;
    on_ranks(3, small_model(), [&](trainer_of_rank& trainer) {
      trainer.put_into(before);
      const bool is_it = trainer.opt.engine().rank() == 1;
      int left = is_it ? reads : 1000;
      const refusal r = refusal_of([&] { load_checkpoint(folder / "file", trainer.opt, {}, failing_disk(left)); });
      if (is_it) loads = r.message.empty();
      CHECK((r.message.empty() || r.is(error_code::file, is_it ? "" : "rank 1: ", "the disk is gone")));
      trainer.put_into(after);
    }).rethrow_first();
    if (!loads) check_same(after, before);
  }
  CHECK(reads > 10);
}

TEST_CASE("digests are shared out by bytes: of tensors in any order each rank reads as much") {
  // A model of NorMuon: momentum, second moments, step and weight of each matrix, in the order of names. The large ones
  // leave one of 8 ranks a little short of the others.
  std::vector<std::uint64_t> elements = {37u << 22};
  for (int layer = 0; layer < 24; ++layer)
    for (const std::uint64_t n : {1u << 22, 1u << 22, 1u << 22, 1u << 22, 1u << 24, 1u << 24}) elements.push_back(n);
  std::vector<placed_tensor> tensors;
  std::uint64_t total = 0;
  for (const std::uint64_t n : elements)
    for (const std::uint64_t bytes : {4 * n, std::uint64_t{1} << 13, std::uint64_t{8}, 2 * n}) {
      placed_tensor t;
      t.begin = total;
      t.end = total += bytes;
      tensors.push_back(t);
    }
  for (const int ranks : {1, 2, 4, 8}) {
    CAPTURE(ranks);
    const std::vector<int> shares = digest_shares(tensors, ranks);
    std::vector<std::uint64_t> read(static_cast<std::size_t>(ranks)), count(read);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      read.at(static_cast<std::size_t>(shares[i])) += tensors[i].end - tensors[i].begin;
      count[static_cast<std::size_t>(shares[i])] += 1;
    }
    for (const std::uint64_t bytes : read) CHECK(bytes * static_cast<std::uint64_t>(ranks) <= total + total / 20);
    // What is gathered stays small: no rank has all of the small ones.
    for (const std::uint64_t n : count) CHECK(n * static_cast<std::uint64_t>(ranks) <= 2 * tensors.size());
  }
}

TEST_CASE("digests that ranks have made by shares are on all of them, however uneven the shares are") {
  const std::vector<int> shares = {2, 2, 0, 2, 0, 2, 2};
  std::vector<std::uint64_t> expected(shares.size());
  std::iota(expected.begin(), expected.end(), 100);
  run_loopback(4, {}, [&](loopback engine) {
    eigen_backend b({.threads = 1});
    std::vector<std::uint64_t> mine(shares.size());
    for (std::size_t i = 0; i < shares.size(); ++i)
      if (shares[i] == engine.rank()) mine[i] = expected[i];
    CHECK(gathered_digests(b, engine, shares, mine) == expected);
    CHECK(gathered_digests(b, engine, {}, {}).empty());
  }).rethrow_first();
}

TEST_CASE("ranks wait for one another's files by a deadline of its own, and then by the old one again") {
  const scratch_folder folder;
  const file_deadlines deadlines{std::chrono::minutes(30), std::chrono::milliseconds(700)};
  run_loopback(2, {}, [&](loopback engine) {
    std::vector<long> set, waited;
    spread_trainer<eigen_backend, noting_engine, float> trainer(
        small_model(), noting_engine(std::move(engine), set, waited), {}, eigen_backend({.threads = 1}));
    trainer.step(0);
    const auto waits = [&](auto&& act, std::vector<long> expected, long in_gathers) {
      set.clear(), waited.clear();
      act();
      CHECK(set == expected);
      CHECK(waited.size() >= 2);
      CHECK(waited == std::vector<long>(waited.size(), in_gathers));
    };
    waits([&] { save_checkpoint(folder / "file", trainer.opt); }, {}, 0);
    waits([&] { save_checkpoint(folder / "file", trainer.opt, {}, {.deadlines = deadlines}); }, {1800000, 700},
          1800000);
    waits([&] { load_checkpoint(folder / "file", trainer.opt, {.deadlines = deadlines}); }, {1800000, 700}, 1800000);
    set.clear();
    CHECK(refusal_of([&] {
            load_checkpoint(folder / "nowhere", trainer.opt, {.deadlines = deadlines});
          }).is(error_code::file));
    CHECK(set == std::vector<long>{1800000, 700});
  }).rethrow_first();
}

TEST_CASE("a run of which a parameter was removed is saved on some ranks and goes on on any other number of them") {
  const scratch_folder folder;
  const auto train_and_remove = [](trainer_of_rank& trainer) {
    trainer.step(0);
    remove(trainer, "flat");
    trainer.step(1);
  };
  whole_tensors expected;
  on_ranks(1, small_model(), [&](trainer_of_rank& trainer) {
    train_and_remove(trainer);
    trainer.step(2);
    trainer.put_into(expected);
  }).rethrow_first();
  for (const int before : {1, 2, 3, 5}) {
    on_ranks(before, small_model(), [&](trainer_of_rank& trainer) {
      train_and_remove(trainer);
      save_checkpoint(folder / "file", trainer.opt);
    }).rethrow_first();
    for (const int after : {1, 2, 4}) {
      CAPTURE(before);
      CAPTURE(after);
      whole_tensors all;
      on_ranks(after, small_model(), [&](trainer_of_rank& trainer) {
        const refusal r = refusal_of([&] { load_checkpoint(folder / "file", trainer.opt); });
        CHECK(r.is(error_code::state, "parameter.flat: expected", "found none"));
        remove(trainer, "flat");
        CHECK(load_checkpoint(folder / "file", trainer.opt).step == 2);
        trainer.step(2);
        trainer.put_into(all);
      }).rethrow_first();
      check_same(all, expected);
    }
  }
}

TEST_CASE("the state of a removed parameter is refused where another rank owns its matrix now, by both") {
  const auto by_rows = [](int) { return layout::rows(); };
  const auto model = [&](std::initializer_list<const char*> names) {
    std::vector<spread_parameter> all;
    for (const char* name : names) all.push_back({name, normuon_options::paper(), 8, 8, 1, by_rows});
    return all;
  };
  on_ranks(2, model({"a", "b"}), [&](trainer_of_rank& trainer) {
    trainer.step(0);
    const std::vector<named_tensor> state = trainer.opt.export_state("a");
    remove(trainer, "a");
    trainer.opt.prepare();
    for (const spread_parameter& p : model({"c", "d"})) trainer.add(p);  // both to the rank that has nothing now
    trainer.opt.prepare();
    trainer.add(model({"a"})[0]);
    const refusal r = refusal_of([&] { trainer.opt.import_state("a", state); });
    const bool was_owner = trainer.opt.engine().rank() == 0;
    CHECK(r.is(error_code::state, was_owner ? "got 3: some belong to no parameter" : "a.second_moment"));
    trainer.step(1);
  }).rethrow_first();
}
