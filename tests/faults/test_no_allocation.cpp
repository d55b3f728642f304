// Its malloc and operator new are replaced, so this is a program of its own.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "dist/sharded_runs.hpp"
#include "normuon/backends/eigen.hpp"
#include "normuon/shards/loopback.hpp"
#include "normuon/testing/engine_conformance.hpp"
#include "support/failing_backend.hpp"
#include "support/model.hpp"
#include "support/refusal.hpp"

namespace {

std::atomic<long> allocations = 0;       // of every kind, on every thread: glibc's operator new calls these too
thread_local long allocations_here = 0;  // on this thread
std::atomic<long> fails_after = -1;      // operator new refuses the one after so many; -1: none
std::atomic<const void*> watched = nullptr;
std::atomic<bool> watched_is_gone = false;

void* counted(std::size_t bytes, std::size_t alignment) {
  if (fails_after == 0) {
    fails_after = -1;
    throw std::bad_alloc();
  }
  if (fails_after > 0) --fails_after;
  void* p = nullptr;
  if (posix_memalign(&p, std::max(alignment, sizeof(void*)), std::max<std::size_t>(bytes, 1)) != 0)
    throw std::bad_alloc();
  return p;
}

}  // namespace

// Not inlined: a compiler that sees std::free behind one and not behind the other takes them for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t a) {
  return counted(bytes, static_cast<std::size_t>(a));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  if (p && p == watched) watched_is_gone = true;
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

extern "C" void* malloc(std::size_t bytes) {
  static const auto next = reinterpret_cast<void* (*)(std::size_t)>(dlsym(RTLD_NEXT, "malloc"));
  ++allocations, ++allocations_here;
  return next(bytes);
}
extern "C" int posix_memalign(void** p, std::size_t alignment, std::size_t bytes) {
  static const auto next =
      reinterpret_cast<int (*)(void**, std::size_t, std::size_t)>(dlsym(RTLD_NEXT, "posix_memalign"));
  ++allocations, ++allocations_here;
  return next(p, alignment, bytes);
}
extern "C" void* realloc(void* old, std::size_t bytes) {
  static const auto next = reinterpret_cast<void* (*)(void*, std::size_t)>(dlsym(RTLD_NEXT, "realloc"));
  ++allocations, ++allocations_here;
  return next(old, bytes);
}

using namespace normuon;
using namespace normuon::test;

namespace {

// Every rule of `all_rules`, on shapes large enough that Eigen's own products would allocate; and the mixed model.
model<float> large_model() {
  std::vector<owned_parameter<float>> parameters = std::move(mixed_model<float>().parameters);
  for (const named_rule& rule : all_rules()) {
    parameters.emplace_back(rule.name, rule.options, 100, 260);
    parameters.emplace_back(std::string(rule.name) + " tall", rule.options, 300, 80, 2);
  }
  return model<float>(std::move(parameters));
}

}  // namespace

TEST_CASE("the counters count") {
  const long before = allocations;
  void* volatile p = std::malloc(10);  // volatile: or the compiler sees that nobody needs it
  std::free(p);
  ::operator delete(::operator new(10));
  const long after = allocations;
  CHECK(after == before + 2);
}

TEST_CASE("no step allocates after the first, whatever changes between steps") {
  for (const int threads : {1, 2, 40}) {  // 40: more than there are matrices
    CAPTURE(threads);
    model<float> m = large_model();
    auto moved = m.parameters[0].gradient;
    optimizer<eigen_backend> opt(eigen_backend({.threads = threads}));
    m.add_to(opt);
    m.make_gradients(0);
    opt.step();
    for (int step = 1; step < 4; ++step) {
      m.make_gradients(step);
      moved = m.parameters[0].gradient;
      const long before = allocations;
      opt.set_learning_rate(0.01 / step);
      opt.set_gradient_scale(1.0 / step);
      opt.bind_gradient("wide", row_major(moved.data(), 5, 12));
      if (step == 2) opt.unbind_gradient("muon");
      if (step == 3) opt.step_changes();
      else opt.step();
      const long after = allocations;
      CHECK(after == before);
    }
  }
}

TEST_CASE("no step on several ranks allocates once exchanges repeat") {
  std::vector<spread_parameter> parameters = small_model();
  for (const named_rule& rule : all_rules())
    parameters.push_back({"large " + rule.name, rule.options, 100, 260, 1, [](int) { return layout::rows(); }});
  run_loopback(3, {}, [&](loopback engine) {
    spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), {},
                                                           eigen_backend({.threads = 1}));
    for (int step = 0; step < 6; ++step) {
      trainer.make_gradients(step);
      const long before = allocations_here;
      if (step == 3) trainer.opt.step_changes();
      else trainer.opt.step();
      const long after = allocations_here;
      if (step >= 2) CHECK(after == before);
    }
  }).rethrow_first();
}

TEST_CASE("any allocation that fails leaves weights and state as they were, and the optimizer usable") {
  model<float> reference = mixed_model<float>();
  optimizer<eigen_backend> undisturbed(eigen_backend({.threads = 1}));
  reference.add_to(undisturbed);
  reference.make_gradients(0);
  undisturbed.step();
  undisturbed.step();

  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  // Does `act` with its n-th allocation failing, for n = 0, 1, ... until it passes; returns how often it failed.
  const auto with_every_failure = [&](auto&& act) {
    for (long n = 0;; ++n) {
      const auto weights = m.weights();
      const auto state = opt.export_state();
      fails_after = n;
      try {
        act();
        fails_after = -1;
        return n;
      } catch (const std::bad_alloc&) {
        fails_after = -1;
        CHECK(same_bits(m.weights(), weights));
        CHECK(same_bits(opt.export_state(), state));
      }
    }
  };
  for (auto& p : m.parameters) {
    group_id id{};
    CHECK(with_every_failure([&] { id = std::visit([&](const auto& o) { return opt.add_group(o); }, p.options); }) >=
          0);
    CHECK(with_every_failure([&] { opt.add_parameter(id, p.name, p.view(p.weight.data()), m.gradient_of(p)); }) > 0);
  }
  m.make_gradients(0);
  CHECK(with_every_failure([&] { opt.step(); }) > 10);
  std::vector<named_tensor> state;
  CHECK(with_every_failure([&] { state = opt.export_state(); }) > 10);
  CHECK(with_every_failure([&] { opt.import_state(state); }) > 10);
  CHECK(with_every_failure([&] { opt.import_state("wide", opt.export_state("wide")); }) > 3);
  CHECK(with_every_failure([&] { opt.prepare(); }) == 0);
  opt.step();
  CHECK(same_bits(m.weights(), reference.weights()));
}

TEST_CASE("an optimizer that fails in the middle is poisoned also where there is no memory left to say so") {
  auto counter = std::make_shared<operation_counter>();
  counter->how = failure::unnamed;  // needs no memory itself
  model<float> m = mixed_model<float>();
  optimizer<failing_backend> opt(failing_backend(counter, 1));
  m.add_to(opt);
  const auto state = opt.export_state();
  opt.prepare();
  for (long n = 0, failed = 1; failed != 0; ++n) {
    CAPTURE(n);
    counter->done = 0;
    counter->fails_at = 20;
    failed = 0;
    fails_after = n;
    try {
      opt.step();
    } catch (const std::bad_alloc&) {
      failed = 1;
    } catch (const error& e) {
      CHECK(e.code() == error_code::backend);
      CHECK(n > 1);
    }
    fails_after = -1;
    counter->fails_at = 0;
    CHECK(refusal_of([&] { opt.step(); }).is(error_code::poisoned, "import state first"));
    opt.import_state(state);
  }
}

TEST_CASE("where a refusal can't be put into words nothing is written either, and nothing is poisoned") {
  model<float> m = mixed_model<float>();
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}), {.non_finite = non_finite_policy::raise});
  m.add_to(opt);
  m.make_gradients(0);
  m.parameters[1].gradient[3] = std::numeric_limits<float>::infinity();
  opt.prepare();
  const auto weights = m.weights();
  const auto state = opt.export_state();
  long n = 0;
  for (bool failed = true; failed; ++n) {
    failed = false;
    fails_after = n;
    try {
      opt.step();
    } catch (const std::bad_alloc&) {
      failed = true;
    } catch (const error& e) {
      CHECK(e.code() == error_code::non_finite);
    }
    fails_after = -1;
    CHECK(same_bits(m.weights(), weights));
    CHECK(same_bits(opt.export_state(), state));
  }
  CHECK(n > 1);
}

TEST_CASE("a backend that can't be made leaves no thread behind") {
  for (const int threads : {1, 4})
    for (long n = 0;; ++n) {
      fails_after = n;
      try {
        const eigen_backend b({.threads = threads});
        const bool made_without_failure = fails_after.exchange(-1) >= 0;
        CHECK(b.workers() == threads);
        if (made_without_failure) {
          CHECK(n >= threads);
          break;
        }
      } catch (const std::bad_alloc&) {
        fails_after = -1;
      }
    }
}

namespace {

// Says how much of what is under way it could give up; `watched` is what rank 0 receives into.
class aborted_engine : public loopback {
 public:
  aborted_engine(loopback engine, bool gives_up) : loopback(std::move(engine)), gives_up_(gives_up) {}
  request prepare(const exchange& e, const void* send, void* receive) {
    if (rank() == 0 && !e.receive.empty()) watched = receive;
    return loopback::prepare(e, send, receive);
  }
  bool abort() { return loopback::abort() && gives_up_; }

 private:
  bool gives_up_;
};

}  // namespace

TEST_CASE("stages outlive an optimizer whose engine could not give up what was on its way, and else they do not") {
  for (const bool gives_up : {true, false}) {
    watched = nullptr;
    watched_is_gone = false;
    run_loopback(2, {.faults = {{loopback_fault_kind::drop, 1, 0, 5}}}, [&](loopback engine) {
      const int rank = engine.rank();
      spread_trainer<eigen_backend, aborted_engine, float> trainer(
          small_model(), aborted_engine(std::move(engine), gives_up), {}, eigen_backend({.threads = 1}));
      CHECK(refusal_of([&] {
              for (int step = 0; step < 10; ++step) trainer.step(step);
            }).is(error_code::engine, ""));
      if (rank == 0) CHECK(!watched_is_gone);
    });
    CHECK(watched_is_gone == gives_up);
  }
}

TEST_CASE("exchanges in one process that repeat allocate nothing") {
  testing::check_that_engine_allocates_nothing(
      [](auto law) {
        for (const int size : {1, 2, 5}) run_loopback(size, {}, law).rethrow_first();
      },
      [] { return allocations.load(); });
}
