// A pool of threads that share out numbered tasks. Which thread runs a task is not determined; what it computes must
// not depend on that. Standard library only.
#ifndef NORMUON_BACKENDS_CPU_EXECUTOR_HPP
#define NORMUON_BACKENDS_CPU_EXECUTOR_HPP

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace normuon {

// The calling thread is worker 0; `threads - 1` more wait for work. One for_each at a time.
class executor {
 public:
  // threads: at least 1, or 0 for as many as the machine runs at once.
  explicit executor(int threads = 0) {
    const int all = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int wanted = threads > 0 ? threads : all;
    threads_.reserve(static_cast<std::size_t>(wanted - 1));
    try {
      for (int worker = 1; worker < wanted; ++worker) threads_.emplace_back([this, worker] { wait_for_work(worker); });
    } catch (...) {
      stop();
      throw;
    }
  }
  executor(const executor&) = delete;
  executor& operator=(const executor&) = delete;
  ~executor() { stop(); }

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls task(worker, i) once for each i = 0 to count - 1, in increasing order of start, and returns when all are
  // done. After an exception no further task starts, and the first one is rethrown. Does not allocate.
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
      busy_ = static_cast<int>(threads_.size());
      ++generation_;
    }
    start_.notify_all();
    take_tasks(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  using call_type = void (*)(void*, int, std::int64_t);

  void take_tasks(int worker) {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      try {
        call_(task_, worker, i);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        next_.store(count_, std::memory_order_relaxed);
      }
    }
  }

  void wait_for_work(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        start_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
      }
      take_tasks(worker);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    start_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::uint64_t generation_ = 0;
  bool stopping_ = false;
  int busy_ = 0;
  std::exception_ptr failure_;
  call_type call_ = nullptr;
  void* task_ = nullptr;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace normuon

#endif
