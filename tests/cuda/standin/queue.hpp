// Work, streams and events. A stream is an order of work and nothing else: each piece knows which must be done before
// it. Work runs when a call needs its outcome, and then any legal order can happen.
#ifndef NORMUON_TESTS_CUDA_STANDIN_QUEUE_HPP
#define NORMUON_TESTS_CUDA_STANDIN_QUEUE_HPP

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "world.hpp"

namespace standin {

using task = std::shared_ptr<const std::function<void()>>;  // null: a marker, which only has a place in the order

struct work {
  task run;
  int device;
  std::vector<work*> after;                 // not done, and before this one
  std::vector<std::shared_ptr<work>> next;  // behind this one, which keeps them
  bool done = false;
  std::chrono::steady_clock::time_point when{};  // it was done
};
using work_ptr = std::shared_ptr<work>;

struct capture_state;

struct stream_state {
  int device;
  bool blocking;  // ordered with the legacy stream
  work_ptr last;
  std::shared_ptr<capture_state> capture;
  std::vector<std::size_t> captured;  // nodes that the next one comes after
};

struct event_state {
  int device;
  bool timed;
  work_ptr recorded;                       // null: an empty set of work
  std::shared_ptr<capture_state> capture;  // set where it was last recorded in a capturing stream
  std::vector<std::size_t> captured;
};

handle_table<stream_state>& streams();
handle_table<event_state>& events();
const std::shared_ptr<stream_state>& find_stream(cudaStream_t handle);  // 0: the legacy stream of the current device
capture_state* blocking_capture(int device);  // of a blocking stream that captures, or nullptr
const std::shared_ptr<event_state>& find_event(cudaEvent_t handle);
void destroy_stream(cudaStream_t handle);

task make_task(std::function<void()> run);
// Puts work at the end of a stream, or captures it where the stream captures.
void enqueue(stream_state& stream, task run);
work_ptr append(stream_state& stream, task run, std::vector<work_ptr> after = {});  // outside a capture

void let_time_pass(double milliseconds);  // on the clock of events, for the work that runs
void run_until(const work_ptr& target);   // the host waits; null: for nothing
void run_some();                          // one piece at least, if any can run

void forget_queue();

}  // namespace standin

#endif
