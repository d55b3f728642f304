#include "queue.hpp"

#include <algorithm>
#include <unordered_set>

#include "capture.hpp"
#include "memory.hpp"

namespace standin {
namespace {

struct work_failure {
  long left;
  cudaError_t code;
};

struct queue_state {
  handle_table<stream_state> streams{"stream", 0xe5000000'00000000u};
  handle_table<event_state> events{"event", 0xe6000000'00000000u};
  std::vector<std::shared_ptr<stream_state>> legacy;
  std::vector<work_ptr> destroyed;  // the last work of blocking streams that are no more
  std::vector<work_ptr> ready;      // waits for nothing
  std::size_t waiting = 0;          // not done, ready or not
  std::vector<work_failure> failures;
  long done = 0;
  std::chrono::steady_clock::duration ahead{};  // the clock of events, of that of the host
};
queue_state& state() {
  static queue_state s;
  return s;
}

void execute(work& w) {
  queue_state& s = state();
  device_state& device = devices()[static_cast<std::size_t>(w.device)];
  if (w.run != nullptr && device.failed == cudaSuccess) {
    ++s.done;
    try {
      cudaError_t code = cudaSuccess;
      for (work_failure& f : s.failures)
        if (--f.left == 0) code = f.code;
      std::erase_if(s.failures, [](const work_failure& f) { return f.left <= 0; });
      if (code != cudaSuccess) throw device_fault{code, "as scheduled"};
      (*w.run)();
    } catch (const device_fault& f) {
      device.failed = f.code;
      device.why = f.why;
      note_refusal("on the device", f.why);
    }
  }
  w.done = true;
  w.when = std::chrono::steady_clock::now() + s.ahead;
  --s.waiting;
  for (const work_ptr& next : w.next) {
    std::erase(next->after, &w);
    if (next->after.empty()) s.ready.push_back(next);
  }
  w.next.clear();
}

// All that must be done before w is, and w.
std::unordered_set<const work*> needed_for(const work* w) {
  std::unordered_set<const work*> needed;
  std::vector<const work*> open{w};
  while (!open.empty()) {
    const work* next = open.back();
    open.pop_back();
    if (needed.insert(next).second) open.insert(open.end(), next->after.begin(), next->after.end());
  }
  return needed;
}

// Runs one piece of work that can run and is among `needed`, if that is given. False where there is none.
bool run_one(const std::unordered_set<const work*>* needed) {
  auto& ready = state().ready;
  std::vector<std::size_t> choices;
  for (std::size_t i = 0; i < ready.size(); ++i)
    if (needed == nullptr || needed->contains(ready[i].get())) choices.push_back(i);
  if (choices.empty()) return false;
  std::swap(ready[choices[random_below(choices.size())]], ready.back());
  const work_ptr next = std::move(ready.back());
  ready.pop_back();
  execute(*next);
  return true;
}

}  // namespace

handle_table<stream_state>& streams() { return state().streams; }
handle_table<event_state>& events() { return state().events; }

capture_state* blocking_capture(int device) {
  for (const auto& [_, stream] : state().streams)
    if (stream->blocking && stream->capture != nullptr && stream->device == device) return stream->capture.get();
  return nullptr;
}

const std::shared_ptr<stream_state>& find_stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) {
    auto& legacy = state().legacy;
    while (legacy.size() < devices().size())
      legacy.push_back(std::make_shared<stream_state>(stream_state{static_cast<int>(legacy.size()), true, {}, {}, {}}));
    // "attempted use would have an implicit dependency on the capturing stream(s)" (cudaStreamIsCapturing).
    if (capture_state* capture = blocking_capture(current_device()))
      break_capture(*capture, cudaErrorStreamCaptureImplicit, "a blocking stream is capturing");
    return legacy[static_cast<std::size_t>(current_device())];
  }
  // "a resource handle passed to the API call was not valid" (cudaErrorInvalidResourceHandle).
  if (handle == cudaStreamPerThread)
    refuse(cudaErrorInvalidResourceHandle, "the stand-in has no per-thread default stream");
  const auto& stream = state().streams.find(handle, cudaErrorInvalidResourceHandle);
  device_must_work(stream->device);
  return stream;
}

const std::shared_ptr<event_state>& find_event(cudaEvent_t handle) {
  return state().events.find(handle, cudaErrorInvalidResourceHandle);
}

// cudaStreamDestroy "will return immediately", and what is in the stream still runs.
void destroy_stream(cudaStream_t handle) {
  const std::shared_ptr<stream_state> stream = find_stream(handle);
  if (stream->blocking && stream->last != nullptr && !stream->last->done) state().destroyed.push_back(stream->last);
  state().streams.destroy(handle, cudaErrorInvalidResourceHandle);
}

task make_task(std::function<void()> run) { return std::make_shared<const std::function<void()>>(std::move(run)); }

work_ptr append(stream_state& stream, task run, std::vector<work_ptr> after) {
  queue_state& s = state();
  after.push_back(stream.last);
  // The legacy stream and the blocking streams of a device wait for each other ("Default Stream", CUDA Runtime API).
  const std::shared_ptr<stream_state> legacy = static_cast<std::size_t>(stream.device) < s.legacy.size()
                                                   ? s.legacy[static_cast<std::size_t>(stream.device)]
                                                   : nullptr;
  if (legacy.get() == &stream) {
    for (const auto& [_, other] : s.streams)
      if (other->blocking && other->device == stream.device) after.push_back(other->last);
    for (const work_ptr& last : s.destroyed)
      if (last->device == stream.device) after.push_back(last);
  } else if (stream.blocking && legacy != nullptr) {
    after.push_back(legacy->last);
  }
  const auto w = std::make_shared<work>(work{std::move(run), stream.device, {}, {}});
  for (const work_ptr& before : after)
    if (before != nullptr && !before->done &&
        std::find(w->after.begin(), w->after.end(), before.get()) == w->after.end()) {
      w->after.push_back(before.get());
      before->next.push_back(w);
    }
  if (w->after.empty()) s.ready.push_back(w);
  ++s.waiting;
  return stream.last = w;
}

void enqueue(stream_state& stream, task run) {
  if (stream.capture != nullptr) capture_node(stream, std::move(run));
  else append(stream, std::move(run));
}

// What else runs meanwhile, nobody knows: nothing, anything, or everything.
void let_time_pass(double milliseconds) {
  state().ahead += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double, std::milli>(milliseconds));
}

void run_until(const work_ptr& target) {
  if (target == nullptr || target->done) return;
  note_wait();
  const memory_closer closer;
  const std::unordered_set<const work*> needed = needed_for(target.get());
  const std::size_t others = random_below(3);
  if (others == 2)
    for (std::size_t i = random_below(state().waiting + 1); i > 0; --i) run_one(nullptr);
  while (!target->done) run_one(others == 0 ? &needed : nullptr);
}

void run_some() {
  const memory_closer closer;
  for (std::size_t i = 1 + random_below(3); i > 0; --i) run_one(nullptr);
}

void run_everything() {
  const std::lock_guard guard(lock());
  const memory_closer closer;
  while (run_one(nullptr)) continue;
}

std::size_t queued() {
  const std::lock_guard guard(lock());
  return state().waiting;
}

void fail_work(long nth, cudaError_t code) {
  const std::lock_guard guard(lock());
  state().failures.push_back({nth, code});
}

long work_done() {
  const std::lock_guard guard(lock());
  return state().done;
}

void forget_queue() {
  queue_state& s = state();
  while (!s.ready.empty()) {  // one by one: a chain that is dropped at its head would be dropped by recursion
    const work_ptr w = std::move(s.ready.back());
    s.ready.pop_back();
    s.ready.insert(s.ready.end(), w->next.begin(), w->next.end());
    w->next.clear();
  }
  s.waiting = 0;
  s.destroyed.clear();
  s.legacy.clear();
  s.streams.clear();
  s.events.clear();
  s.failures.clear();
  s.done = 0;
}

}  // namespace standin
