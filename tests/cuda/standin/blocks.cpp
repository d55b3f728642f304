#include "blocks.hpp"

#include <algorithm>
#include <csignal>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>

#include "fibers.hpp"
#include "world.hpp"

// What `__shared__` makes, where the compiler puts it into a section of its own (shim/standin_threads.hpp).
extern "C" {
extern char __start_standin_shared[] __attribute__((weak));
extern char __stop_standin_shared[] __attribute__((weak));
}

namespace standin {
namespace {

constexpr unsigned warp_size = 32;
enum class wait_for { nothing, barrier, warp };

struct thread_state {
  fiber* stack = nullptr;  // that it is suspended on
  wait_for waits = wait_for::nothing;
  bool ended = false;
  warp_act act{};
  unsigned mask = 0;
  lane_word word{};
};

// Stacks outlive kernels. An idle one waits in fiber_body for threads to run.
struct stack_pool {
  std::vector<std::unique_ptr<fiber>> all;
  std::vector<fiber*> idle;
};
stack_pool& pool() {
  static stack_pool p;
  return p;
}

class block_runner {
 public:
  explicit block_runner(const std::function<void()>& body) : body_(body) {}

  void run(dim3 threads);
  void wait_at_barrier(std::string_view file, unsigned line);
  std::uint64_t meet(warp_act act, unsigned mask, lane_word word);
  unsigned current() const { return current_; }
  void run_new_threads();  // on the stack at hand, until there are none, or others can go on

 private:
  void enter(unsigned thread);
  void end_thread();
  void open_barrier();
  void meet_in_warp(unsigned warp);
  void let_go(unsigned thread);
  [[noreturn]] void fail(cudaError_t code, const std::string& what) const;

  const std::function<void()>& body_;
  std::vector<thread_state> threads_;
  std::vector<unsigned> new_, ready_;  // threads that have not begun, and those that can go on
  unsigned current_ = 0, alive_ = 0, at_barrier_ = 0;
  std::string_view barrier_file_;
  unsigned barrier_line_ = 0;
  std::exception_ptr thrown_;
  fiber* at_hand_ = nullptr;
};

block_runner* runner = nullptr;

[[noreturn]] void fiber_body() {
  for (;;) {
    runner->run_new_threads();
    suspend();
  }
}

fiber* take_stack() {
  stack_pool& p = pool();
  if (p.idle.empty()) {
    p.all.push_back(std::make_unique<fiber>());
    make_fiber(*p.all.back(), fiber_body);
    p.idle.push_back(p.all.back().get());
  }
  fiber* f = p.idle.back();
  p.idle.pop_back();
  return f;
}

// After a kernel that was given up in the middle.
void begin_all_stacks_anew() {
  stack_pool& p = pool();
  p.idle.clear();
  for (const auto& f : p.all) {
    make_fiber(*f, fiber_body);
    p.idle.push_back(f.get());
  }
}

void block_runner::fail(cudaError_t code, const std::string& what) const {
  throw device_fault{code, sentence(what, ", in thread (", here.thread.x, ", ", here.thread.y, ", ", here.thread.z,
                                    ") of block (", here.block.x, ", ", here.block.y, ", ", here.block.z, ")")};
}

void block_runner::enter(unsigned thread) {
  current_ = thread;
  here.thread = {thread % here.threads.x, thread / here.threads.x % here.threads.y,
                 thread / here.threads.x / here.threads.y};
}

void block_runner::run_new_threads() {
  try {
    do {
      enter(new_.back());
      new_.pop_back();
      body_();
      end_thread();
    } while (!new_.empty() && ready_.empty());
  } catch (...) {
    thrown_ = std::current_exception();
  }
}

void block_runner::let_go(unsigned thread) {
  threads_[thread].waits = wait_for::nothing;
  ready_.push_back(thread);
}

// "will not succeed until reached by all non-exited threads in the block" (CUDA C++ Programming Guide, compute 7.x).
void block_runner::open_barrier() {
  if (at_barrier_ == 0 || at_barrier_ != alive_) return;
  at_barrier_ = 0;
  for (unsigned t = 0; t < threads_.size(); ++t)
    if (threads_[t].waits == wait_for::barrier) let_go(t);
}

void block_runner::end_thread() {
  threads_[current_].ended = true;
  --alive_;
  open_barrier();
  meet_in_warp(current_ / warp_size);
}

void block_runner::wait_at_barrier(std::string_view file, unsigned line) {
  // "allowed in conditional code but only if the conditional evaluates identically across the entire thread block"
  // (CUDA C++ Programming Guide, Synchronization Functions).
  if (at_barrier_ != 0 && (line != barrier_line_ || file != barrier_file_))
    fail(cudaErrorLaunchFailure,
         sentence("threads of a block meet at two barriers: lines ", barrier_line_, " and ", line));
  barrier_file_ = file;
  barrier_line_ = line;
  ++at_barrier_;
  threads_[current_].waits = wait_for::barrier;
  threads_[current_].stack = at_hand_;
  open_barrier();
  suspend();
}

std::uint64_t block_runner::meet(warp_act act, unsigned mask, lane_word word) {
  thread_state& self = threads_[current_];
  const unsigned me = current_;
  // "Each calling thread must have its own bit set in the mask" (CUDA C++ Programming Guide, Warp Shuffle Functions).
  if ((mask >> (me % warp_size) & 1u) == 0) fail(cudaErrorLaunchFailure, "a lane is not in its own mask");
  self.waits = wait_for::warp;
  self.act = act;
  self.mask = mask;
  self.word = word;
  self.stack = at_hand_;
  meet_in_warp(me / warp_size);
  suspend();
  return self.word.value;
}

// Lets lanes go that have all met: "all non-exited threads named in mask must execute the same intrinsic with the same
// mask" (as above). What comes from a lane that takes no part is undefined: all bits are set.
void block_runner::meet_in_warp(unsigned warp) {
  const unsigned first = warp * warp_size;
  const auto lanes = static_cast<unsigned>(std::min<std::size_t>(warp_size, threads_.size() - first));
  const thread_state* lane = &threads_[first];
  for (unsigned leader = 0; leader < lanes; ++leader) {
    if (lane[leader].waits != wait_for::warp) continue;
    const auto named = [&](unsigned i) { return (lane[leader].mask >> i & 1u) != 0 && !lane[i].ended; };
    bool all_here = true;
    for (unsigned i = 0; i < lanes; ++i) {
      if (!named(i)) continue;
      if (lane[i].waits != wait_for::warp) all_here = false;
      else if (lane[i].mask != lane[leader].mask || lane[i].act != lane[leader].act)
        fail(cudaErrorLaunchFailure, sentence("lanes ", leader, " and ", i, " of a warp meet for different acts"));
    }
    if (!all_here) continue;
    std::uint64_t given[warp_size], votes = 0;
    for (unsigned i = 0; i < warp_size; ++i) {
      const bool here_now = i < lanes && named(i);
      given[i] = here_now ? lane[i].word.value : ~std::uint64_t{0};
      if (here_now && given[i] != 0) votes |= std::uint64_t{1} << i;
    }
    const warp_act act = lane[leader].act;
    std::vector<unsigned> met;
    for (unsigned i = 0; i < lanes; ++i)
      if (named(i)) met.push_back(i);
    for (const unsigned i : met) {
      lane_word& word = threads_[first + i].word;
      if (act == warp_act::shuffle) word.value = given[word.from];
      if (act == warp_act::vote) word.value = votes;
      let_go(first + i);
    }
  }
}

void block_runner::run(dim3 threads) {
  const unsigned count = threads.x * threads.y * threads.z;
  threads_.assign(count, {});
  new_.resize(count);
  std::iota(new_.begin(), new_.end(), 0u);
  shuffle(new_);
  ready_.clear();
  alive_ = count;
  at_barrier_ = 0;
  if (__start_standin_shared != nullptr)  // shared memory has no value at first
    std::memset(__start_standin_shared, 0xff, static_cast<std::size_t>(__stop_standin_shared - __start_standin_shared));
  while (alive_ > 0) {
    if (!ready_.empty() && (new_.empty() || random_below(2) == 0)) {
      std::swap(ready_[random_below(ready_.size())], ready_.back());
      const unsigned thread = ready_.back();
      ready_.pop_back();
      enter(thread);
      at_hand_ = threads_[thread].stack;
    } else if (!new_.empty()) {
      at_hand_ = take_stack();
    } else {
      fail(cudaErrorLaunchTimeout,
           "threads wait for each other for ever: a barrier or a shuffle that others don't reach");
    }
    const fault f = resume(*at_hand_);
    if (f.signal == SIGILL)
      fail(cudaErrorLaunchFailure, "an illegal instruction: a misaligned access, or an index outside an array");
    if (f.signal == SIGFPE) fail(cudaErrorLaunchFailure, "a division of integers by zero");
    if (f.signal != 0) fail(cudaErrorIllegalAddress, sentence("an access to the wild address ", f.address));
    if (thrown_ != nullptr) std::rethrow_exception(thrown_);
    if (threads_[current_].ended) pool().idle.push_back(at_hand_);
  }
}

}  // namespace

void run_grid(dim3 blocks, dim3 threads, const std::function<void()>& thread_body) {
  const fault_guard guard;
  block_runner r(thread_body);
  runner = &r;
  here.threads = threads;
  here.blocks = blocks;
  // Blocks in steps of a length that has no divisor in common with their number: each comes once.
  const std::uint64_t plane = std::uint64_t{blocks.x} * blocks.y, count = plane * blocks.z;
  std::uint64_t step = 1 + random_below(count), b = random_below(count);
  while (std::gcd(step, count) != 1) step = step % count + 1;
  try {
    for (std::uint64_t i = 0; i < count; ++i, b = (b + step) % count) {
      here.block = {static_cast<unsigned>(b % blocks.x), static_cast<unsigned>(b / blocks.x % blocks.y),
                    static_cast<unsigned>(b / plane)};
      r.run(threads);
    }
  } catch (const device_fault&) {
    begin_all_stacks_anew();
    throw;
  } catch (const std::exception& e) {
    begin_all_stacks_anew();
    throw device_fault{cudaErrorLaunchFailure, sentence("a kernel has thrown an exception: ", e.what())};
  }
}

void block_barrier(const char* file, unsigned line) { runner->wait_at_barrier(file, line); }
std::uint64_t warp_meeting(warp_act act, unsigned mask, lane_word word) { return runner->meet(act, mask, word); }
unsigned lane_number() { return runner->current() % warp_size; }

}  // namespace standin
