#include "blocks.hpp"

#include <algorithm>
#include <bit>
#include <csignal>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>

#include "fibers.hpp"
#include "memory.hpp"
#include "world.hpp"

// What `__shared__` makes, where the compiler puts it into a section of its own (shim/standin_threads.hpp).
extern "C" {
extern char __start_standin_shared[] __attribute__((weak));
extern char __stop_standin_shared[] __attribute__((weak));
}

namespace standin {
namespace {

constexpr unsigned warp_size = 32;

struct thread_state {
  fiber* stack = nullptr;  // that it is suspended on
  bool ended = false;
  warp_act act{};  // that it meets others of its warp for
  unsigned mask = 0;
  lane_word word{};
};
struct warp_state {  // lanes as bits
  unsigned present = 0, ended = 0, waiting = 0;
};

// Calls f(lane) for each bit.
template <class F>
void for_each_lane(unsigned lanes, F&& f) {
  for (; lanes != 0; lanes &= lanes - 1) f(static_cast<unsigned>(std::countr_zero(lanes)));
}

class block_runner {
 public:
  block_runner(dim3 threads, const std::function<void()>& body);

  void run();  // a block
  void wait_at_barrier(std::string_view file, unsigned line);
  std::uint64_t meet(warp_act act, unsigned mask, lane_word word);
  unsigned current() const { return current_; }
  void run_new_threads();  // on the stack at hand, until there are none, or others can go on

 private:
  void enter(unsigned thread);
  void end_thread();
  void open_barrier();
  void exchange(unsigned warp, unsigned mask);
  [[noreturn]] void fail(cudaError_t code, const std::string& what) const;

  const std::function<void()>& body_;
  std::vector<uint3> positions_;
  std::vector<thread_state> threads_;
  std::vector<warp_state> warps_;
  std::vector<unsigned> new_, ready_, at_barrier_;  // threads that have not begun, can go on, and wait
  unsigned current_ = 0, alive_ = 0;
  std::string_view barrier_file_;
  unsigned barrier_line_ = 0;
  std::exception_ptr thrown_;
  fiber* at_hand_ = nullptr;
};

block_runner* runner = nullptr;

// Stacks outlive kernels. An idle one waits in fiber_body for threads to run.
struct stack_pool {
  std::vector<std::unique_ptr<fiber>> all;
  std::vector<fiber*> idle;
};
stack_pool& pool() {
  static stack_pool p;
  return p;
}

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

block_runner::block_runner(dim3 threads, const std::function<void()>& body) : body_(body) {
  for (unsigned z = 0; z < threads.z; ++z)
    for (unsigned y = 0; y < threads.y; ++y)
      for (unsigned x = 0; x < threads.x; ++x) positions_.push_back({x, y, z});
  warps_.resize((positions_.size() + warp_size - 1) / warp_size);
}

void block_runner::fail(cudaError_t code, const std::string& what) const {
  throw device_fault{code, sentence(what, ", in thread (", here.thread.x, ", ", here.thread.y, ", ", here.thread.z,
                                    ") of block (", here.block.x, ", ", here.block.y, ", ", here.block.z, ")")};
}

void block_runner::enter(unsigned thread) {
  current_ = thread;
  here.thread = positions_[thread];
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

// "will not succeed until reached by all non-exited threads in the block" (CUDA C++ Programming Guide, compute 7.x).
void block_runner::open_barrier() {
  if (at_barrier_.size() != alive_) return;
  ready_.insert(ready_.end(), at_barrier_.begin(), at_barrier_.end());
  at_barrier_.clear();
}

void block_runner::end_thread() {
  threads_[current_].ended = true;
  --alive_;
  if (!at_barrier_.empty()) open_barrier();
  const unsigned warp = current_ / warp_size;
  warps_[warp].ended |= 1u << current_ % warp_size;
  for_each_lane(warps_[warp].waiting, [&](unsigned lane) {  // they may have waited for this thread
    if ((warps_[warp].waiting >> lane & 1u) != 0) exchange(warp, threads_[warp * warp_size + lane].mask);
  });
}

void block_runner::wait_at_barrier(std::string_view file, unsigned line) {
  // "allowed in conditional code but only if the conditional evaluates identically across the entire thread block"
  // (CUDA C++ Programming Guide, Synchronization Functions).
  if (!at_barrier_.empty() && (line != barrier_line_ || file != barrier_file_))
    fail(cudaErrorLaunchFailure,
         sentence("threads of a block meet at two barriers: lines ", barrier_line_, " and ", line));
  barrier_file_ = file;
  barrier_line_ = line;
  at_barrier_.push_back(current_);
  threads_[current_].stack = at_hand_;
  open_barrier();
  suspend();
}

// "Each calling thread must have its own bit set in the mask and all non-exited threads named in mask must execute the
// same intrinsic with the same mask" (CUDA C++ Programming Guide, Warp Shuffle Functions).
std::uint64_t block_runner::meet(warp_act act, unsigned mask, lane_word word) {
  const unsigned me = current_ % warp_size, warp = current_ / warp_size;
  thread_state &self = threads_[current_], *const lanes = &threads_[warp * warp_size];
  if ((mask >> me & 1u) == 0) fail(cudaErrorLaunchFailure, "a lane is not in its own mask");
  for_each_lane(warps_[warp].waiting, [&](unsigned other) {
    const thread_state& t = lanes[other];
    const bool together = (t.mask >> me & 1u) != 0 || (mask >> other & 1u) != 0;
    if (together && (t.mask != mask || t.act != act))
      fail(cudaErrorLaunchFailure, sentence("lanes ", me, " and ", other, " of a warp meet for different acts"));
  });
  self.act = act;
  self.mask = mask;
  self.word = word;
  self.stack = at_hand_;
  warps_[warp].waiting |= 1u << me;
  exchange(warp, mask);
  suspend();
  return self.word.value;
}

// Lets the lanes of a mask go if all have met. What comes from a lane that takes no part is undefined: all bits are
// set.
void block_runner::exchange(unsigned warp, unsigned mask) {
  warp_state& w = warps_[warp];
  const unsigned named = mask & w.present & ~w.ended;
  if ((w.waiting & named) != named) return;
  thread_state* const lanes = &threads_[warp * warp_size];
  std::uint64_t given[warp_size], votes = 0;
  std::fill(std::begin(given), std::end(given), ~std::uint64_t{0});
  for_each_lane(named, [&](unsigned lane) {
    given[lane] = lanes[lane].word.value;
    if (given[lane] != 0) votes |= std::uint64_t{1} << lane;
  });
  for_each_lane(named, [&](unsigned lane) {
    thread_state& t = lanes[lane];
    if (t.act == warp_act::shuffle) t.word.value = given[t.word.from];
    if (t.act == warp_act::vote) t.word.value = votes;
    ready_.push_back(warp * warp_size + lane);
  });
  w.waiting &= ~named;
}

void block_runner::run() {
  const auto count = static_cast<unsigned>(positions_.size());
  threads_.assign(count, {});
  for (unsigned w = 0; w < warps_.size(); ++w) {
    const unsigned lanes = std::min(warp_size, count - w * warp_size);
    warps_[w] = {~0u >> (warp_size - lanes), 0, 0};
  }
  new_.resize(count);
  std::iota(new_.begin(), new_.end(), 0u);
  shuffle(new_);
  alive_ = count;
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
           "threads wait for each other for ever: at a barrier or a shuffle that others don't reach");
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
  const fault_guard guard(open_where);
  block_runner r(threads, thread_body);
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
      r.run();
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
