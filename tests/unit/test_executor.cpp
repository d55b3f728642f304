#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "normuon/backends/cpu/executor.hpp"
#include "support/refusal.hpp"

using normuon::thread_pool;

namespace {

// How often each index was given to a worker.
struct visits {
  std::vector<std::atomic<int>> times;
  std::atomic<int> worker_out_of_range{0};

  explicit visits(std::size_t count) : times(count) {}
  auto task(const thread_pool& e) {
    return [this, size = e.size()](int worker, std::int64_t i) {
      if (worker < 0 || worker >= size) ++worker_out_of_range;
      ++times[static_cast<std::size_t>(i)];
    };
  }
  bool once_each() const {
    return worker_out_of_range == 0 && std::all_of(times.begin(), times.end(), [](const auto& n) { return n == 1; });
  }
};

}  // namespace

TEST_CASE("each index is taken once, for any number of threads and of tasks") {
  for (const int threads : {1, 2, 3, 4, 9}) {
    thread_pool e(threads);
    CHECK(e.size() == threads);
    for (const int count : {0, 1, 2, 3, 4, 5, 8, 9, 10, 100, 1000, 1, 0, 7}) {
      CAPTURE(threads);
      CAPTURE(count);
      visits v(static_cast<std::size_t>(count));
      e.for_each(count, v.task(e));
      CHECK(v.once_each());
    }
  }
}

TEST_CASE("no tasks are none, also where their number is negative") {
  thread_pool e(2);
  e.for_each(-3, [](int, std::int64_t) { FAIL("there is nothing to do"); });
}

TEST_CASE("by default there are as many workers as processors that the thread may use") {
  CHECK(thread_pool().size() == normuon::threads_at_once());
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  CHECK(normuon::threads_at_once() == CPU_COUNT(&allowed));
  int size_of_bound = 0;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t k = 0; k < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++k)
      if (CPU_ISSET(k, &allowed)) CPU_SET(k, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0) size_of_bound = thread_pool().size();
  }).join();
  CHECK(size_of_bound == 1);
}

TEST_CASE("a number of threads below 0 is refused") {
  for (const int threads : {-1, -3}) {
    const normuon::test::refusal r = normuon::test::refusal_of([&] { thread_pool e(threads); });
    CHECK(r.is(normuon::error_code::option, "threads >= 0, got", std::to_string(threads)));
  }
}

TEST_CASE("what the tasks wrote can be read when for_each returns, hundreds of times in a row") {
  thread_pool e(3);
  std::vector<int> plain(16);  // no atomics: a thread sanitizer would tell
  for (int round = 1; round <= 300; ++round) {
    e.for_each(16, [&](int, std::int64_t i) {
      std::this_thread::sleep_for(std::chrono::microseconds(10));  // or one worker does everything
      plain[static_cast<std::size_t>(i)] += static_cast<int>(i);
    });
    for (int i = 0; i < 16; ++i) REQUIRE(plain[static_cast<std::size_t>(i)] == round * i);
  }
}

TEST_CASE("two tasks run at once where there are two workers") {
  thread_pool e(2);
  std::atomic<int> arrived{0};
  bool met = true;
  e.for_each(2, [&](int, std::int64_t) {
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (arrived < 2)
      if (std::chrono::steady_clock::now() > deadline) {
        met = false;
        return;
      }
  });
  CHECK(met);
}

TEST_CASE("a single task, and a single worker's tasks, run on the calling thread in order") {
  thread_pool one(1), three(3);
  const auto caller = std::this_thread::get_id();
  std::vector<std::int64_t> order;
  one.for_each(5, [&](int worker, std::int64_t i) {
    CHECK(worker == 0);
    CHECK(std::this_thread::get_id() == caller);
    order.push_back(i);
  });
  CHECK(order == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  three.for_each(1, [&](int worker, std::int64_t) {
    CHECK(worker == 0);
    CHECK(std::this_thread::get_id() == caller);
  });
}

TEST_CASE("an exception reaches the caller, and the pool goes on") {
  for (const int threads : {1, 2, 4}) {
    thread_pool e(threads);
    for (const int bad : {0, 1, 57, 99}) {
      CAPTURE(threads);
      CAPTURE(bad);
      std::string message;
      try {
        e.for_each(100, [&](int, std::int64_t i) {
          if (i == bad) throw std::runtime_error("task " + std::to_string(i));
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      CHECK(message == "task " + std::to_string(bad));

      visits v(100);
      e.for_each(100, v.task(e));
      CHECK(v.once_each());
    }
  }
}

TEST_CASE("after an exception the tasks that had not begun are left out") {
  for (const int threads : {1, 2, 4}) {
    thread_pool e(threads);
    std::atomic<int> begun{0};
    CHECK_THROWS_AS(e.for_each(100'000,
                               [&](int, std::int64_t i) {
                                 ++begun;
                                 if (i == 0) throw std::runtime_error("the first");
                                 std::this_thread::sleep_for(std::chrono::microseconds(100));
                               }),
                    std::runtime_error);
    CHECK(begun < 100'000);
  }
}

TEST_CASE("of many exceptions one reaches the caller") {
  thread_pool e(4);
  for (int round = 0; round < 200; ++round)
    CHECK_THROWS_AS(e.for_each(8, [](int, std::int64_t i) { throw std::out_of_range(std::to_string(i)); }),
                    std::out_of_range);
}

TEST_CASE("exceptions that are no std::exception pass too") {
  for (const int threads : {1, 3}) {
    thread_pool e(threads);
    CHECK_THROWS_AS(e.for_each(9, [](int, std::int64_t) { throw 42; }), int);
  }
}

TEST_CASE("who waits for other workers calls what it was given meanwhile, until it is given nothing") {
  thread_pool e(2);
  struct looked {
    const std::thread::id thread = std::this_thread::get_id();
    std::atomic<int> times{0};
    bool elsewhere = false;
  } l;
  e.while_waiting(
      [](void* at) {
        looked& here = *static_cast<looked*>(at);
        here.elsewhere |= std::this_thread::get_id() != here.thread;
        ++here.times;
      },
      &l);
  const auto wait_for_looks = [&](int worker, std::int64_t) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (worker == 1 && l.times < 3 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // or one worker does everything
  };
  for (int round = 0; round < 100 && l.times < 3; ++round) e.for_each(2, wait_for_looks);
  CHECK(l.times >= 3);
  CHECK_FALSE(l.elsewhere);
  e.while_waiting(nullptr, nullptr);
  l.times = 0;
  e.for_each(8, [](int, std::int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
  CHECK(l.times == 0);
}

TEST_CASE("what is thrown while waiting reaches the caller when all workers are done, and is called no more") {
  thread_pool e(2);
  int calls = 0;
  std::atomic<int> working{0};
  e.while_waiting([](void* at) { throw std::out_of_range(std::to_string(++*static_cast<int*>(at))); }, &calls);
  bool thrown = false;
  for (int round = 0; round < 100 && !thrown; ++round) {
    calls = 0;
    try {
      e.for_each(2, [&](int worker, std::int64_t) {
        ++working;
        std::this_thread::sleep_for(std::chrono::milliseconds(worker == 1 ? 20 : 1));
        --working;
      });
    } catch (const std::out_of_range&) {
      thrown = true;
      CHECK(working == 0);
      CHECK(calls == 1);
    }
  }
  CHECK(thrown);
  e.while_waiting(nullptr, nullptr);
  visits v(100);
  e.for_each(100, v.task(e));
  CHECK(v.once_each());
}

TEST_CASE("tasks may use pools of their own") {
  thread_pool outer(3);
  std::vector<std::unique_ptr<visits>> inner;
  for (int i = 0; i < 6; ++i) inner.push_back(std::make_unique<visits>(20));
  outer.for_each(6, [&](int, std::int64_t i) {
    visits& mine = *inner[static_cast<std::size_t>(i)];
    thread_pool own(2);
    own.for_each(20, mine.task(own));
  });
  for (const auto& v : inner) CHECK(v->once_each());
}

TEST_CASE("a pool goes away at once, whether it has worked or not") {
  for (int round = 0; round < 100; ++round) {
    thread_pool idle(4);
    thread_pool used(4);
    visits v(10);
    used.for_each(10, v.task(used));
    CHECK(v.once_each());
  }
}
