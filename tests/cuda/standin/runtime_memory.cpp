// Entry points of the runtime: memory and copies.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "capture.hpp"
#include "memory.hpp"
#include "queue.hpp"
#include "world.hpp"

namespace standin {
namespace {

std::uintptr_t number(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

void make(void** p, std::size_t bytes, int device) {
  if (p == nullptr) refuse(cudaErrorInvalidValue, "no place for the address");
  *p = nullptr;
  if (bytes == 0) return;
  // "cudaMalloc() returns cudaErrorMemoryAllocation in case of failure".
  if (device != pinned && (bytes > memory_limit() || bytes_in_use(device) > memory_limit() - bytes))
    refuse(cudaErrorMemoryAllocation, bytes, " bytes more than the ", bytes_in_use(device),
           " in use would exceed the limit of ", memory_limit());
  *p = allocate(bytes, device);
  if (*p == nullptr) refuse(cudaErrorMemoryAllocation, "the host has no room for ", bytes, " bytes");
  note_allocation();
}

// "If cudaFree(devPtr) has already been called before, an error is returned"; it "cannot be used with a pointer
// allocated using the host API, and vice versa" (cudaFree). It "may perform implicit synchronization": then it also may
// not, and queued work that uses the memory fails.
void free_memory(void* p, bool host) {
  if (p == nullptr) return;
  allocation* a = find_allocation(p);
  if (a == nullptr || a->address != p) refuse(cudaErrorInvalidValue, p, " is not the address of an allocation");
  if (!a->alive) refuse(cudaErrorInvalidValue, "allocation ", a->number, " has been freed before");
  if ((a->device == pinned) != host)
    refuse(cudaErrorInvalidValue, "allocation ", a->number, " is of ", host ? "device" : "host", " memory");
  release(*a);
}

enum class place { device, pinned_host, pageable_host };

// Where p lies. All bytes must be in one living allocation, unless it is memory that the stand-in knows nothing of.
place place_of(const void* p, std::size_t bytes) {
  if (p == nullptr) refuse(cudaErrorInvalidValue, "a copy from or to nowhere");
  const allocation* a = find_allocation(p);
  if (a == nullptr && !in_device_space(p)) return place::pageable_host;
  try {
    holder_of(p, bytes);
  } catch (const device_fault& f) {
    refuse(cudaErrorInvalidValue, f.why);
  }
  return a->device == pinned ? place::pinned_host : place::device;
}

struct copy {
  void* to;
  const void* from;
  std::size_t bytes;
  place to_place, from_place;
};

copy checked_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  // "not one of the types specified by cudaMemcpyKind" (cudaErrorInvalidMemcpyDirection).
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
    refuse(cudaErrorInvalidMemcpyDirection, "there is no direction ", static_cast<int>(kind));
  const copy c{to, from, bytes, place_of(to, bytes), place_of(from, bytes)};
  // "pointers that do not match the direction of the copy result in an undefined behavior" (cudaMemcpyAsync).
  const bool from_device = c.from_place == place::device, to_device = c.to_place == place::device;
  const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (from_device != wants_from || to_device != wants_to))
    refuse(cudaErrorInvalidValue, "the pointers don't match the direction of the copy");
  // "The memory areas may not overlap" (cudaMemcpyAsync).
  if (number(to) < number(from) + bytes && number(from) < number(to) + bytes)
    refuse(cudaErrorInvalidValue, "the areas of a copy overlap");
  return c;
}

// The copy itself, at the time when it runs: what it reads and writes must still be there.
task copy_task(const copy& c) {
  return make_task([c] {
    const void* from = c.from_place == place::pageable_host ? c.from : opened(c.from, c.bytes);
    void* to = c.to_place == place::pageable_host ? c.to : opened(c.to, c.bytes);
    std::memcpy(to, from, c.bytes);
  });
}

// What leaves pageable memory has been read when the call returns, and arrives later.
task staged_task(const copy& c) {
  const auto* bytes = static_cast<const char*>(c.from);
  return make_task([c, staged = std::vector<char>(bytes, bytes + c.bytes)] {
    std::memcpy(opened(c.to, c.bytes), staged.data(), c.bytes);
  });
}

void wait_for(const stream_state& stream) {
  run_until(stream.last);
  device_must_work(stream.device);
}

// "For transfers between device memory and pageable host memory, the function might be synchronous", and "may
// synchronize with the stream" to stage; from host to host it "is fully synchronous"; else asynchronous (API
// synchronization behavior, Asynchronous). Might: what comes from a device is there when the call returns, or not.
void copy_later(const copy& c, stream_state& stream) {
  const bool pageable = c.from_place == place::pageable_host || c.to_place == place::pageable_host;
  const bool host_to_host = c.from_place != place::device && c.to_place != place::device;
  if (pageable) refuse_captured(stream, "a copy from or to pageable memory may synchronize");
  if (c.from_place == place::pageable_host && !host_to_host) {
    if (stream.last != nullptr && !stream.last->done) note_wait();
    enqueue(stream, staged_task(c));
  } else {
    enqueue(stream, copy_task(c));
    if (host_to_host || (pageable && random_below(2) == 0)) wait_for(stream);
    else if (pageable) note_wait();
  }
}

}  // namespace
}  // namespace standin

using namespace standin;

extern "C" {

cudaError_t cudaMalloc(void** devPtr, size_t size) {
  return runtime_call("cudaMalloc", [&] {
    refuse_while_capturing("cudaMalloc while a stream is capturing");
    make(devPtr, size, current_device());
  });
}

cudaError_t cudaFree(void* devPtr) {
  return runtime_call("cudaFree", [&] {
    refuse_while_capturing("cudaFree while a stream is capturing");
    free_memory(devPtr, false);
  });
}

cudaError_t cudaMallocHost(void** ptr, size_t size) {
  return runtime_call("cudaMallocHost", [&] {
    refuse_while_capturing("cudaMallocHost while a stream is capturing");
    make(ptr, size, pinned);
  });
}

cudaError_t cudaFreeHost(void* ptr) {
  return runtime_call("cudaFreeHost", [&] {
    refuse_while_capturing("cudaFreeHost while a stream is capturing");
    free_memory(ptr, true);
  });
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t count, enum cudaMemcpyKind kind, cudaStream_t stream) {
  return runtime_call("cudaMemcpyAsync", [&] {
    stream_state& s = *find_stream(stream);
    if (count != 0) copy_later(checked_copy(dst, src, count, kind), s);
  });
}

cudaError_t cudaMemsetAsync(void* devPtr, int value, size_t count, cudaStream_t stream) {
  return runtime_call("cudaMemsetAsync", [&] {
    stream_state& s = *find_stream(stream);
    if (count == 0) return;
    if (place_of(devPtr, count) != place::device) refuse(cudaErrorInvalidValue, devPtr, " is not of device memory");
    enqueue(s, make_task([=] { std::memset(opened(devPtr, count), value, count); }));
  });
}

}  // extern "C"
