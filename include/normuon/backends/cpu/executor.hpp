// What shares out numbered tasks among threads, and a pool that does. Which thread runs a task is not determined; what
// it computes must not depend on that.
#ifndef NORMUON_BACKENDS_CPU_EXECUTOR_HPP
#define NORMUON_BACKENDS_CPU_EXECUTOR_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "normuon/errors.hpp"

namespace normuon {

// As many threads as run at once: on Linux on the processors that the calling thread may use, of which mpirun, a batch
// system or taskset may have left it a part of the machine's.
inline int threads_at_once() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// size(): workers, at least 1. for_each(count, task): calls task(worker, i) once for each i = 0 to count - 1, with
// worker below size() and never the same at once, and returns when all are done; what a task throws is rethrown.
template <class E>
concept executor = requires(E& e, const E& c, void (*task)(int, std::int64_t)) {
  { c.size() } -> std::same_as<int>;
  e.for_each(std::int64_t{}, task);
};

// while_waiting(call, context): the thread that calls for_each calls call(context) again and again from now on while it
// waits for other workers; null ends that. What it throws counts as a task's.
template <class E>
concept waiting_executor = executor<E> && requires(E& e, void (*call)(void*)) { e.while_waiting(call, nullptr); };

// The calling thread is worker 0; `threads - 1` more look out for work for a moment, then sleep until there is some.
// One for_each at a time.
class thread_pool {
 public:
  // threads: at least 1, or 0 for threads_at_once(). Throws where it is less.
  explicit thread_pool(int threads = 0) {
    if (threads < 0) fail(error_code::option, "expected a number of threads >= 0, got ", threads);
    const int wanted = threads > 0 ? threads : threads_at_once();
    threads_.reserve(static_cast<std::size_t>(wanted - 1));
    try {
      for (int worker = 1; worker < wanted; ++worker) threads_.emplace_back([this, worker] { wait_for_work(worker); });
    } catch (...) {
      stop();
      throw;
    }
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() { stop(); }

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Tasks start in increasing order; after an exception none does, and the first one is rethrown. Does not allocate.
  template <class Task>
  void for_each(std::int64_t count, Task&& task) {
    if (count <= 0) return;
    const auto call = [](void* t, int worker, std::int64_t i) {
      (*static_cast<std::remove_reference_t<Task>*>(t))(worker, i);
    };
    void* const address = const_cast<void*>(static_cast<const void*>(&task));
    if (threads_.empty() || count == 1) {
      for (std::int64_t i = 0; i < count; ++i) call(address, 0, i);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      call_ = call;
      task_ = address;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      failure_ = nullptr;
      busy_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    start_.notify_all();
    take_tasks(0);
    wait_for_others();
    if (failure_) std::rethrow_exception(failure_);
  }

  void while_waiting(void (*call)(void*), void* context) {
    meanwhile_ = call;
    meanwhile_context_ = context;
  }

 private:
  using call_type = void (*)(void*, int, std::int64_t);

  // Looks for a moment whether `happened`: for longer than the last tasks of a product mostly differ, and than it takes
  // to fall asleep and be woken on a virtual machine. After a quarter of it other threads may have the processor, as
  // what is waited for may need it.
  template <class Condition>
  static bool soon(const Condition& happened) {
    constexpr std::chrono::microseconds selfish(25), moment(100);
    for (const auto begin = std::chrono::steady_clock::now();;) {
      if (happened()) return true;
      const auto waited = std::chrono::steady_clock::now() - begin;
      if (waited > moment) return false;
      if (waited > selfish) std::this_thread::yield();
      else pause();
    }
  }
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
  }

  void take_tasks(int worker) {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      try {
        call_(task_, worker, i);
      } catch (...) {
        note_failure();
      }
    }
  }

  // In a catch block.
  void note_failure() {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
    next_.store(count_, std::memory_order_relaxed);
  }

  void wait_for_others() {
    constexpr std::chrono::microseconds nap(50);  // of a thread that has something to look after
    const auto done = [this] { return busy_.load(std::memory_order_acquire) == 0; };
    bool calls = meanwhile_ != nullptr;
    while (!soon(done)) {
      {
        std::unique_lock lock(mutex_);
        if (!calls) return done_.wait(lock, done);
        if (done_.wait_for(lock, nap, done)) return;
      }
      try {
        meanwhile_(meanwhile_context_);
      } catch (...) {
        note_failure();
        calls = false;
      }
    }
  }

  void wait_for_work(int worker) {
    std::uint64_t seen = 0;
    const auto called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
    for (;;) {
      if (!soon(called)) {
        std::unique_lock lock(mutex_);
        start_.wait(lock, called);
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      take_tasks(worker);
      if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        {
          const std::lock_guard lock(mutex_);
        }  // who waits is asleep, or hasn't looked yet
        done_.notify_one();
      }
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    start_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<int> busy_{0};
  bool stopping_ = false;       // this and what follows are written before `generation_` and read after it
  std::exception_ptr failure_;  // under the mutex, and read when nobody is busy
  call_type call_ = nullptr;
  void* task_ = nullptr;
  std::int64_t count_ = 0;
  void (*meanwhile_)(void*) = nullptr;  // for the thread that calls for_each
  void* meanwhile_context_ = nullptr;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace normuon

#endif
