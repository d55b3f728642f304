// While matrices are computed the engine is asked again and again to move what is under way.
#include "dist/sharded_runs.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Counts how often it is asked whether a request is complete, which it never is before it is waited for; or fails.
class asked_engine : public loopback {
 public:
  struct asked {
    std::atomic<int> times{0}, elsewhere{0};
    bool fails = false;
  };
  asked_engine(loopback engine, asked& a) : loopback(std::move(engine)), asked_(&a) {}

  bool test(request&) {
    ++asked_->times;
    if (std::this_thread::get_id() != mine_) ++asked_->elsewhere;
    if (asked_->fails) fail(error_code::engine, "the network is down");
    return false;
  }

 private:
  asked* asked_;
  std::thread::id mine_ = std::this_thread::get_id();
};

// Has two workers, does everything itself, and then waits: as long as it takes to call what it was given three times.
class idle_executor {
 public:
  int size() const { return 2; }
  template <class Task>
  void for_each(std::int64_t count, Task&& task) {
    for (std::int64_t i = 0; i < count; ++i) task(0, i);
    for (int k = 0; call_ && k < 3; ++k) call_(context_);
  }
  void while_waiting(void (*call)(void*), void* context) { call_ = call, context_ = context; }
  bool has_nothing_to_call() const { return !call_; }

 private:
  void (*call_)(void*) = nullptr;
  void* context_ = nullptr;
};

// Two buckets, of one matrix each. While the first is computed U of the other is under way, then D of the first.
std::vector<spread_parameter> two_buckets() {
  return {{"rows", muon_options::jordan(), 16, 16, 1, [](int) { return layout::rows(); }},
          {"replicated", muon_options::jordan(), 16, 16}};
}
constexpr int steps_of_iterations = 2 * 5;

}  // namespace

TEST_CASE("the engine is asked for progress after every step of an iteration") {
  asked_engine::asked a;
  run_loopback(2, {}, [&](loopback engine) {
    spread_trainer<eigen_backend, asked_engine, float> trainer(two_buckets(), asked_engine(std::move(engine), a), {},
                                                               eigen_backend({.threads = 1}));
    trainer.step(0);
  }).rethrow_first();
  CHECK(a.times.load() == steps_of_iterations);
}

TEST_CASE("the engine is asked for progress while a rank computes what it alone holds, by whatever rule") {
  const auto asked_with = [](const std::vector<spread_parameter>& at_home) {
    asked_engine::asked a;
    run_loopback(2, {}, [&](loopback engine) {
      std::vector<spread_parameter> parameters = two_buckets();
      parameters.insert(parameters.end(), at_home.begin(), at_home.end());
      spread_trainer<eigen_backend, asked_engine, float> trainer(parameters, asked_engine(std::move(engine), a), {},
                                                                 eigen_backend({.threads = 1}));
      trainer.step(0);
    }).rethrow_first();
    return a.times.load();
  };
  const auto first_alone = [](int) { return layout::owned(0); };
  // The first U is under way: before each run, and after each step of its iteration.
  const spread_parameter matrix{"matrix", muon_options::jordan(), 8, 8, 1, first_alone};
  CHECK(asked_with({matrix}) == steps_of_iterations + 1 + 5);
  const spread_parameter elements{"elements", adamw_options{}, 8, 8, 1, first_alone};
  CHECK(asked_with({elements}) == steps_of_iterations + 1);
  CHECK(asked_with({matrix, elements}) == steps_of_iterations + 2 + 5);
}

TEST_CASE("an engine of which nothing is under way is not asked while a rank computes what it alone holds") {
  asked_engine::asked a;
  run_loopback(2, {}, [&](loopback engine) {
    spread_trainer<eigen_backend, asked_engine, float> trainer(
        {{"matrix", muon_options::jordan(), 8, 8, 1, [](int) { return layout::owned(0); }}},
        asked_engine(std::move(engine), a), {}, eigen_backend({.threads = 1}));
    trainer.step(0);
  }).rethrow_first();
  CHECK(a.times.load() == 0);
}

TEST_CASE("the engine is asked for progress by the thread that makes the step alone, however many compute") {
  asked_engine::asked a;
  run_loopback(2, {}, [&](loopback engine) {
    spread_trainer<eigen_backend, asked_engine, float> trainer(all_layouts({"paper", normuon_options::paper()}),
                                                               asked_engine(std::move(engine), a), {},
                                                               eigen_backend({.threads = 3}));
    for (int step = 0; step < 5; ++step) trainer.step(step);
  }).rethrow_first();
  CHECK(a.elsewhere.load() == 0);
}

TEST_CASE("who runs threads is given what to do while waiting, for as long as matrices travel") {
  using backend = basic_eigen_backend<float, idle_executor>;
  asked_engine::asked a;
  run_loopback(2, {}, [&](loopback engine) {
    idle_executor executor;
    spread_trainer<backend, asked_engine, float> trainer(two_buckets(), asked_engine(std::move(engine), a), {},
                                                         backend(executor));
    trainer.step(0);
    CHECK(executor.has_nothing_to_call());
  }).rethrow_first();
  CHECK(a.times.load() > steps_of_iterations);
}

TEST_CASE("an engine that fails while matrices are computed ends the step and poisons, on any number of threads") {
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const loopback_result result = run_loopback(2, {.deadline = std::chrono::milliseconds(200)}, [&](loopback engine) {
      asked_engine::asked a{.fails = true};
      spread_trainer<eigen_backend, asked_engine, float> trainer(small_model(), asked_engine(std::move(engine), a), {},
                                                                 eigen_backend({.threads = threads}));
      const refusal first = refusal_of([&] { trainer.step(0); });
      CHECK(first.is(error_code::engine, ""));
      CHECK(refusal_of([&] { trainer.step(1); }).is(error_code::poisoned, ""));
    });
    result.rethrow_first();
  }
}
