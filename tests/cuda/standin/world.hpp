// What all parts of the stand-in share: the state of the "process", how a call begins and ends, and how it is refused.
// One lock is held during a call and while work runs, so that nothing here is atomic.
#ifndef NORMUON_TESTS_CUDA_STANDIN_WORLD_HPP
#define NORMUON_TESTS_CUDA_STANDIN_WORLD_HPP

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "standin.hpp"

namespace standin {

struct refusal {  // what a call returns: a cudaError_t of the runtime, or a cublasStatus_t of cuBLASLt
  int runtime;
  int blas;
  std::string why;
};
struct device_fault {  // work fails, and with it the device: all later calls return `code`
  cudaError_t code;
  std::string why;
};

template <class... Words>
std::string sentence(const Words&... words) {
  std::ostringstream text;
  (text << ... << words);
  return text.str();
}
template <class... Words>
[[noreturn]] void refuse(cudaError_t code, const Words&... words) {
  throw refusal{code, CUBLAS_STATUS_EXECUTION_FAILED, sentence(words...)};
}
template <class... Words>
[[noreturn]] void refuse(cublasStatus_t code, const Words&... words) {
  throw refusal{cudaErrorUnknown, code, sentence(words...)};
}

// Uniform below n, from the seeded generator (n > 0).
std::size_t random_below(std::size_t n);
template <class T>
void shuffle(std::vector<T>& values) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random_below(i)]);
}

// Objects behind handles. A handle is a number that no pointer has, of its own kind, and never comes again: one that
// was destroyed, or one of another kind, is known as such.
template <class T>
class handle_table {
 public:
  handle_table(const char* kind, std::uintptr_t first) : kind_(kind), next_(first) {}

  template <class Handle>
  void make(Handle* handle, std::shared_ptr<T> object) {
    objects_[next_] = std::move(object);
    *handle = reinterpret_cast<Handle>(next_);
    next_ += 64;
  }
  template <class Handle, class Code>
  const std::shared_ptr<T>& find(Handle handle, Code code) const {
    const auto found = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (found == objects_.end()) refuse(code, "this is no living ", kind_, ": ", static_cast<const void*>(handle));
    return found->second;
  }
  template <class Handle, class Code>
  void destroy(Handle handle, Code code) {
    find(handle, code);
    objects_.erase(reinterpret_cast<std::uintptr_t>(handle));
  }
  std::size_t size() const { return objects_.size(); }
  void clear() { objects_.clear(); }
  auto begin() const { return objects_.begin(); }
  auto end() const { return objects_.end(); }

 private:
  const char* kind_;
  std::uintptr_t next_;
  std::map<std::uintptr_t, std::shared_ptr<T>> objects_;
};

struct device_state {
  cudaError_t failed = cudaSuccess;  // sticky
  std::string why;
};
std::vector<device_state>& devices();
int current_device();  // of the calling thread
void select_device(int device);
void device_must_work(int device);  // refuses with the sticky error of one that has failed
void note_wait();
void note_allocation();
std::size_t memory_limit();
int driver_version();

std::recursive_mutex& lock();
enum class needs { nothing, device };  // nothing: answered also without a device, and after one has failed

// The frame of every call: it counts, fails on schedule, and turns what is thrown inside into the code to return.
void begin_call(const char* name, needs what);
void note_refusal(const char* name, const std::string& why);
void note_runtime_error(cudaError_t code);  // for cudaGetLastError

template <class Body>
refusal call(const char* name, Body& body, needs what) {
  const std::lock_guard guard(lock());
  refusal r{cudaSuccess, CUBLAS_STATUS_SUCCESS, ""};
  try {
    begin_call(name, what);
    body();
  } catch (const refusal& caught) {
    r = caught;
  } catch (const std::bad_alloc&) {
    r = {cudaErrorMemoryAllocation, CUBLAS_STATUS_ALLOC_FAILED, "the host has no more memory"};
  }
  if (!r.why.empty()) note_refusal(name, r.why);
  return r;
}

template <class Body>
cudaError_t runtime_call(const char* name, Body body, needs what = needs::device) {
  const auto code = static_cast<cudaError_t>(call(name, body, what).runtime);
  if (code != cudaSuccess) note_runtime_error(code);
  return code;
}

template <class Body>
cublasStatus_t blas_call(const char* name, Body body, needs what = needs::device) {
  return static_cast<cublasStatus_t>(call(name, body, what).blas);
}

}  // namespace standin

#endif
