// Entry points of the runtime: streams, events, and the launch of kernels.
#include <cuda_runtime_api.h>

#include "blocks.hpp"
#include "capture.hpp"
#include "memory.hpp"
#include "queue.hpp"
#include "shim/standin_launch.hpp"
#include "world.hpp"

namespace standin {
namespace {

bool pending(const work_ptr& w) { return w != nullptr && !w->done; }

// A kernel can follow an address into its device's memory and into pinned memory. (Pageable memory it can reach on some
// systems only.)
void must_be_reachable(const void* p, int device) {
  if (p == nullptr) return;
  const allocation* a = find_allocation(p);
  if (a != nullptr && a->alive && (a->device == pinned || a->device == device)) return;
  throw device_fault{cudaErrorIllegalAddress,
                     sentence("an argument of a kernel points at ", p, ", which device ", device, " can't reach")};
}

// Compute capabilities, "Technical Specifications" (CUDA C++ Programming Guide); cudaErrorInvalidConfiguration:
// "requesting too many threads or blocks".
void must_fit(dim3 grid, dim3 block) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0)
    refuse(cudaErrorInvalidConfiguration, "a launch of no blocks, or of no threads");
  if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    refuse(cudaErrorInvalidConfiguration, "a grid of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks");
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > 1024)
    refuse(cudaErrorInvalidConfiguration, "blocks of ", block.x, " x ", block.y, " x ", block.z, " threads");
}

}  // namespace

cudaError_t enqueue_kernel(dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> thread_body,
                           std::vector<const void*> addresses) {
  return runtime_call("cudaLaunchKernel", [&] {
    stream_state& s = *find_stream(stream);
    // "A kernel launch will fail if it is issued to a stream that is not associated to the current device" (CUDA C++
    // Programming Guide, Stream and Event Behavior).
    if (s.device != current_device())
      refuse(cudaErrorInvalidResourceHandle, "the stream is of device ", s.device, ", the current one is ",
             current_device());
    must_fit(grid, block);
    enqueue(s, make_task([=, device = s.device, body = std::move(thread_body), arguments = std::move(addresses)] {
              for (const void* p : arguments) must_be_reachable(p, device);
              open_for_kernel(device);
              run_grid(grid, block, body);
              check_red_zones();
            }));
  });
}

}  // namespace standin

using namespace standin;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* pStream, unsigned int flags) {
  return runtime_call("cudaStreamCreateWithFlags", [&] {
    if (pStream == nullptr) refuse(cudaErrorInvalidValue, "no place for the stream");
    if (flags != cudaStreamDefault && flags != cudaStreamNonBlocking)
      refuse(cudaErrorInvalidValue, "there are no stream flags ", flags);
    streams().make(pStream, std::make_shared<stream_state>(
                                stream_state{current_device(), flags == cudaStreamDefault, {}, {}, {}}));
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return runtime_call("cudaStreamDestroy", [&] {
    if (stream == nullptr || stream == cudaStreamLegacy)
      refuse(cudaErrorInvalidResourceHandle, "the legacy stream can't be destroyed");
    refuse_captured(*find_stream(stream), "the stream is destroyed");
    destroy_stream(stream);
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return runtime_call("cudaStreamSynchronize", [&] {
    const auto s = find_stream(stream);
    refuse_captured(*s, "a capturing stream is waited for");
    refuse_while_capturing("cudaStreamSynchronize while a stream is capturing");
    if (stream == nullptr || stream == cudaStreamLegacy) append(*s, nullptr);  // behind all blocking streams
    run_until(s->last);
    device_must_work(s->device);
  });
}

// This and the next one are asked by the NCCL engine only, and by tests: of what may run before what.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return runtime_call("cudaStreamQuery", [&] {
    const auto s = find_stream(stream);
    refuse_captured(*s, "a capturing stream is queried");
    refuse_while_capturing("cudaStreamQuery while a stream is capturing");
    if (pending(s->last)) run_some();
    device_must_work(s->device);
    if (pending(s->last)) refuse(cudaErrorNotReady, "work in the stream has not run");
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags) {
  return runtime_call("cudaStreamWaitEvent", [&] {
    const auto s = find_stream(stream);
    const auto e = find_event(event);
    if (flags != cudaEventWaitDefault) refuse(cudaErrorInvalidValue, "the stand-in knows no wait flags ", flags);
    if (s->capture != nullptr || e->capture != nullptr) wait_in_capture(s, *e);
    else if (pending(e->recorded)) append(*s, nullptr, {e->recorded});
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  return runtime_call("cudaEventCreateWithFlags", [&] {
    if (event == nullptr) refuse(cudaErrorInvalidValue, "no place for the event");
    if ((flags & ~static_cast<unsigned>(cudaEventBlockingSync | cudaEventDisableTiming)) != 0)
      refuse(cudaErrorInvalidValue, "the stand-in knows no event flags ", flags);
    events().make(event, std::make_shared<event_state>(
                             event_state{current_device(), (flags & cudaEventDisableTiming) == 0, {}, {}, {}}));
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return runtime_call("cudaEventDestroy", [&] { events().destroy(event, cudaErrorInvalidResourceHandle); });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return runtime_call("cudaEventRecord", [&] {
    const auto e = find_event(event);
    const auto s = find_stream(stream);
    // "event and stream must be on the same CUDA context" (cudaEventRecord).
    if (e->device != s->device) refuse(cudaErrorInvalidResourceHandle, "event and stream are of two devices");
    if (s->capture != nullptr) return record_in_capture(*s, *e);
    e->capture.reset();
    e->recorded = append(*s, nullptr);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return runtime_call("cudaEventQuery", [&] {
    const auto e = find_event(event);
    refuse_captured(*e, "an event is queried");
    refuse_while_capturing("cudaEventQuery while a stream is capturing");
    if (pending(e->recorded)) run_some();
    device_must_work(e->device);
    if (pending(e->recorded)) refuse(cudaErrorNotReady, "what the event has recorded has not run");
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return runtime_call("cudaEventSynchronize", [&] {
    const auto e = find_event(event);
    refuse_captured(*e, "an event is waited for");
    refuse_while_capturing("cudaEventSynchronize while a stream is capturing");
    run_until(e->recorded);
    device_must_work(e->device);
  });
}

// "If cudaEventRecord() has not been called on either event", or one "was created with the cudaEventDisableTiming
// flag", cudaErrorInvalidResourceHandle; not completed: cudaErrorNotReady (cudaEventElapsedTime). Times are those of
// the host.
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  return runtime_call("cudaEventElapsedTime", [&] {
    if (ms == nullptr) refuse(cudaErrorInvalidValue, "no place for the time");
    const auto first = find_event(start), last = find_event(end);
    refuse_captured(*first, "a time is asked for");
    refuse_captured(*last, "a time is asked for");
    if (!first->timed || !last->timed) refuse(cudaErrorInvalidResourceHandle, "an event was made without timing");
    if (first->device != last->device) refuse(cudaErrorInvalidResourceHandle, "the events are of two devices");
    if (first->recorded == nullptr || last->recorded == nullptr)
      refuse(cudaErrorInvalidResourceHandle, "an event was never recorded");
    if (pending(first->recorded) || pending(last->recorded)) refuse(cudaErrorNotReady, "an event has not completed");
    *ms = std::chrono::duration<float, std::milli>(last->recorded->when - first->recorded->when).count();
  });
}

}  // extern "C"
