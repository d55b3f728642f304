#include "world.hpp"

#include <algorithm>

#include "capture.hpp"
#include "cublas_lt.hpp"
#include "memory.hpp"
#include "queue.hpp"

namespace standin {
namespace {

struct scheduled_failure {
  std::string name;
  long calls_left;
  int code;
};

struct world_state {
  std::recursive_mutex lock;
  std::uint64_t random = 0;
  std::vector<device_state> devices{1};
  std::size_t memory_limit = std::size_t{4} << 30;
  int driver_version = CUDART_VERSION;
  std::vector<scheduled_failure> failures;
  std::vector<std::string> trace;
  long waits = 0, allocations = 0;
  std::string last_refusal;
};
world_state& world() {
  static world_state w;
  return w;
}

thread_local int selected_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

std::recursive_mutex& lock() { return world().lock; }
std::vector<device_state>& devices() { return world().devices; }
int current_device() { return selected_device; }
void select_device(int device) { selected_device = device; }
void note_wait() { ++world().waits; }
void note_allocation() { ++world().allocations; }
std::size_t memory_limit() { return world().memory_limit; }
int driver_version() { return world().driver_version; }

// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
std::size_t random_below(std::size_t n) {
  std::uint64_t x = world().random += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  x ^= x >> 31;
  return n >> 32 == 0 ? (x >> 32) * n >> 32 : x % n;
}

// "This leaves the process in an inconsistent state and any further CUDA work will return the same error"
// (cudaErrorIllegalAddress and others of its kind, enum cudaError).
void device_must_work(int device) {
  const device_state& d = devices()[static_cast<std::size_t>(device)];
  if (d.failed != cudaSuccess) refuse(d.failed, "device ", device, " has failed: ", d.why);
}

namespace {

// Returns the code that the call is scheduled to fail with, or 0.
int count_call(const char* name) {
  world_state& w = world();
  w.trace.emplace_back(name);
  int code = 0;
  for (scheduled_failure& f : w.failures)
    if (f.name == name && --f.calls_left == 0) code = f.code;
  std::erase_if(w.failures, [](const scheduled_failure& f) { return f.calls_left <= 0; });
  return code;
}

}  // namespace

void begin_call(const char* name, needs what) {
  if (const int code = count_call(name); code != 0) throw refusal{code, code, "as scheduled"};
  if (what == needs::nothing) return;
  // Without a driver the vendor's cublasLtCreate returns CUBLAS_STATUS_NOT_INITIALIZED.
  if (devices().empty()) throw refusal{cudaErrorNoDevice, CUBLAS_STATUS_NOT_INITIALIZED, "there is no device"};
  device_must_work(current_device());
}

void note_refusal(const char* name, const std::string& why) { world().last_refusal = sentence(name, ": ", why); }

void note_runtime_error(cudaError_t code) { last_error = code; }

// cudaGetLastError "returns the last error that has been produced by any of the runtime calls in the same host thread
// and resets it to cudaSuccess", also where a device has failed: then the next call fails again.
cudaError_t take_last_error(const char* name, bool reset) {
  const std::lock_guard guard(lock());
  if (const int scheduled = count_call(name); scheduled != 0) return static_cast<cudaError_t>(scheduled);
  const cudaError_t code = last_error;
  if (reset) last_error = cudaSuccess;
  return code;
}

void restart() {
  const std::lock_guard guard(lock());
  forget_queue();
  forget_graphs();
  forget_blas();
  forget_memory();
  world_state& w = world();
  w.random = 0;
  w.devices.assign(1, {});
  w.memory_limit = std::size_t{4} << 30;
  w.driver_version = CUDART_VERSION;
  w.failures.clear();
  w.last_refusal.clear();
  forget_calls();
  selected_device = 0;
  last_error = cudaSuccess;
}

void seed(std::uint64_t n) {
  const std::lock_guard guard(lock());
  world().random = n;
}

void set_device_count(int count) {
  const std::lock_guard guard(lock());
  world().devices.resize(static_cast<std::size_t>(count));
  if (selected_device >= count) selected_device = 0;
}

void set_driver_version(int version) {
  const std::lock_guard guard(lock());
  world().driver_version = version;
}

void set_memory_limit(std::size_t bytes) {
  const std::lock_guard guard(lock());
  world().memory_limit = bytes;
}

std::size_t memory_in_use(int device) {
  const std::lock_guard guard(lock());
  return bytes_in_use(device);
}

std::size_t pinned_memory_in_use() {
  const std::lock_guard guard(lock());
  return bytes_in_use(pinned);
}

std::size_t handles_in_use() {
  const std::lock_guard guard(lock());
  return streams().size() + events().size() + graphs().size() + executables().size() + blas_handles_in_use();
}

std::string last_refusal() {
  const std::lock_guard guard(lock());
  return world().last_refusal;
}

void fail_call(std::string_view name, long nth, int code) {
  const std::lock_guard guard(lock());
  world().failures.push_back({std::string(name), nth, code});
}

long calls(std::string_view name) {
  const std::lock_guard guard(lock());
  return std::count(world().trace.begin(), world().trace.end(), name);
}

std::vector<std::string> trace() {
  const std::lock_guard guard(lock());
  return world().trace;
}

void forget_calls() {
  const std::lock_guard guard(lock());
  world().trace.clear();
  world().waits = world().allocations = 0;
}

long waits() {
  const std::lock_guard guard(lock());
  return world().waits;
}

long allocations() {
  const std::lock_guard guard(lock());
  return world().allocations;
}

namespace {

char* memory_for_tests(const void* p, std::size_t bytes) {
  try {
    return opened(p, bytes);
  } catch (const device_fault& f) {
    throw std::out_of_range(f.why);
  }
}

}  // namespace

void peek(void* to, const void* from, std::size_t bytes) {
  const std::lock_guard guard(lock());
  const memory_closer closer;
  if (bytes != 0) std::memcpy(to, memory_for_tests(from, bytes), bytes);
}

void poke(void* to, const void* from, std::size_t bytes) {
  const std::lock_guard guard(lock());
  const memory_closer closer;
  if (bytes != 0) std::memcpy(memory_for_tests(to, bytes), from, bytes);
}

}  // namespace standin
