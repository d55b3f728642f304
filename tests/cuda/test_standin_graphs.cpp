// The stand-in's capture and graphs: what is recorded, what breaks a capture, and how graphs replay.
#include <functional>
#include <set>
#include <thread>
#include <vector>

#include "standin_support.hpp"

namespace {

__global__ void append(int* log, int digit) { *log = 10 * *log + digit; }

cudaError_t append_in(cudaStream_t s, int* log, int digit) { return standin::launch(append, 1, 1, s, log, digit); }

cudaStream_t capturing(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal, unsigned flags = 1) {
  const cudaStream_t s = new_stream(flags);
  REQUIRE(cudaStreamBeginCapture(s, mode) == cudaSuccess);
  return s;
}

cudaStreamCaptureStatus status(cudaStream_t s) {
  cudaStreamCaptureStatus value{};
  CHECK(cudaStreamIsCapturing(s, &value) == cudaSuccess);
  return value;
}

cudaGraphExec_t executable(cudaStream_t s) {
  cudaGraph_t graph{};
  REQUIRE(cudaStreamEndCapture(s, &graph) == cudaSuccess);
  cudaGraphExec_t exec{};
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);  // the executable one stays
  return exec;
}

}  // namespace

TEST_CASE("what a stream captures does not run, and replays in its order with the arguments of then") {
  restart();
  int *log = on_device(std::vector<int>{0}), *h = on_pinned<int>(1), digit = 1;
  *h = 5;
  const cudaStream_t s = capturing();
  CHECK(status(s) == cudaStreamCaptureStatusActive);
  CHECK(cudaMemcpyAsync(log, h, 4, cudaMemcpyHostToDevice, s) == cudaSuccess);
  CHECK(append_in(s, log, digit++) == cudaSuccess);
  CHECK(append_in(s, log, digit++) == cudaSuccess);
  CHECK(standin::queued() == 0);
  const cudaGraphExec_t exec = executable(s);
  CHECK(status(s) == cudaStreamCaptureStatusNone);
  digit = 9;
  standin::run_everything();
  CHECK(value_at(log) == 0);
  CHECK(cudaGraphUpload(exec, s) == cudaSuccess);
  CHECK(cudaGraphLaunch(exec, s) == cudaSuccess);
  *h = 7;  // pinned memory is read when the graph runs
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(value_at(log) == 712);
  *h = 8;
  CHECK(cudaGraphLaunch(exec, s) == cudaSuccess);
  CHECK(append_in(s, log, 3) == cudaSuccess);
  CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);  // what was launched still runs
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(value_at(log) == 8123);
  CHECK(cudaGraphLaunch(exec, s) == cudaErrorInvalidValue);
  CHECK(cudaGraphExecDestroy(exec) == cudaErrorInvalidValue);
}

TEST_CASE("launches of one graph run one after the other, also in two streams") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    restart(seed);
    int* log = on_device(std::vector<int>{0});
    const cudaStream_t s = capturing(), t = new_stream();
    for (int digit = 1; digit <= 3; ++digit) CHECK(append_in(s, log, digit) == cudaSuccess);
    const cudaGraphExec_t exec = executable(s);
    CHECK(cudaGraphLaunch(exec, s) == cudaSuccess);
    CHECK(cudaGraphLaunch(exec, t) == cudaSuccess);
    CHECK(cudaStreamSynchronize(t) == cudaSuccess);
    CHECK(value_at(log) == 123123);
  }
}

TEST_CASE("a capture follows events into other streams, and their branches run in any order") {
  std::set<int> orders;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    restart(seed);
    int* log = on_device(std::vector<int>{0});
    const cudaEvent_t fork = new_event(), join = new_event();
    const cudaStream_t s = capturing(), t = new_stream();
    CHECK(append_in(s, log, 1) == cudaSuccess);
    CHECK(cudaEventRecord(fork, s) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(t, fork, 0) == cudaSuccess);
    CHECK(status(t) == cudaStreamCaptureStatusActive);
    CHECK(append_in(t, log, 2) == cudaSuccess);
    CHECK(append_in(s, log, 3) == cudaSuccess);
    CHECK(cudaEventRecord(join, t) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(s, join, 0) == cudaSuccess);
    CHECK(append_in(s, log, 4) == cudaSuccess);
    cudaGraph_t graph{};
    CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess);
    CHECK(status(t) == cudaStreamCaptureStatusNone);
    cudaGraphExec_t exec{};
    CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    CHECK(cudaGraphLaunch(exec, t) == cudaSuccess);
    CHECK(cudaStreamSynchronize(t) == cudaSuccess);
    orders.insert(value_at(log));
  }
  CHECK(orders == std::set<int>{1234, 1324});
}

TEST_CASE("what a capture can't record is refused and breaks it") {
  struct call {
    const char* name;
    cudaError_t code;
    std::function<cudaError_t(cudaStream_t, cudaEvent_t)> make;
  };
  static void* p;
  static int host;
  const cudaError_t unsupported = cudaErrorStreamCaptureUnsupported;
  const call calls[] = {
      {"cudaMalloc", unsupported, [](auto, auto) { return cudaMalloc(&p, 4); }},
      {"cudaFree", unsupported, [](auto, auto) { return cudaFree(p); }},
      {"cudaMallocHost", unsupported, [](auto, auto) { return cudaMallocHost(&p, 4); }},
      {"cudaFreeHost", unsupported, [](auto, auto) { return cudaFreeHost(nullptr); }},
      {"cudaMemcpyAsync to pageable memory", unsupported,
       [](auto s, auto) { return cudaMemcpyAsync(&host, p, 4, cudaMemcpyDeviceToHost, s); }},
      {"cudaMemcpyAsync from pageable memory", unsupported,
       [](auto s, auto) { return cudaMemcpyAsync(p, &host, 4, cudaMemcpyHostToDevice, s); }},
      {"cudaStreamSynchronize", unsupported, [](auto s, auto) { return cudaStreamSynchronize(s); }},
      {"cudaStreamQuery", unsupported, [](auto s, auto) { return cudaStreamQuery(s); }},
      {"cudaStreamDestroy", unsupported, [](auto s, auto) { return cudaStreamDestroy(s); }},
      {"cudaEventQuery, captured", cudaErrorCapturedEvent, [](auto, auto e) { return cudaEventQuery(e); }},
      {"cudaEventSynchronize, captured", cudaErrorCapturedEvent, [](auto, auto e) { return cudaEventSynchronize(e); }},
      {"cudaEventElapsedTime", cudaErrorCapturedEvent,
       [](auto, auto e) {
         float ms;
         return cudaEventElapsedTime(&ms, e, e);
       }},
      {"cudaEventQuery, of another stream", unsupported, [](auto, auto) { return cudaEventQuery(new_event()); }},
      {"cudaEventSynchronize, of another stream", unsupported,
       [](auto, auto) { return cudaEventSynchronize(new_event()); }},
      {"cudaStreamWaitEvent, recorded outside", cudaErrorStreamCaptureIsolation,
       [](auto s, auto) {
         const cudaEvent_t outside = new_event();
         REQUIRE(cudaEventRecord(outside, new_stream()) == cudaSuccess);
         return cudaStreamWaitEvent(s, outside, 0);
       }},
      {"cudaGraphInstantiate", unsupported,
       [](auto, auto) {
         cudaGraphExec_t exec;
         return cudaGraphInstantiate(&exec, nullptr, 0);
       }},
  };
  for (const call& c : calls) {
    restart();
    CAPTURE(c.name);
    p = on_device<int>(1);
    const cudaEvent_t e = new_event(cudaEventDefault);
    const cudaStream_t s = capturing();
    CHECK(cudaEventRecord(e, s) == cudaSuccess);
    CHECK(c.make(s, e) == c.code);
    CHECK(status(s) == cudaStreamCaptureStatusInvalidated);
    CHECK(append_in(s, static_cast<int*>(p), 1) == cudaErrorStreamCaptureInvalidated);
    CHECK(cudaEventRecord(e, s) == cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = reinterpret_cast<cudaGraph_t>(s);
    CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
    CHECK(append_in(s, static_cast<int*>(p), 1) == cudaSuccess);  // the stream works again
    CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  }
}

TEST_CASE("the mode of a capture says whose calls it forbids") {
  const auto allocates = [] {
    void* p;
    return cudaMalloc(&p, 4) == cudaSuccess;
  };
  const auto other_thread_allocates = [&] {
    bool done = false;
    std::thread([&] { done = allocates(); }).join();
    return done;
  };
  restart();
  cudaGraph_t graph{};
  cudaStream_t s = capturing(cudaStreamCaptureModeThreadLocal);
  CHECK(other_thread_allocates());
  CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess);
  CHECK(allocates());
  s = capturing(cudaStreamCaptureModeGlobal);
  CHECK_FALSE(other_thread_allocates());
  CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
  s = capturing(cudaStreamCaptureModeRelaxed);
  CHECK(allocates());
  CHECK(other_thread_allocates());
  cudaError_t ended{};
  std::thread([&] { ended = cudaStreamEndCapture(s, &graph); }).join();
  CHECK(ended == cudaSuccess);
  s = capturing(cudaStreamCaptureModeThreadLocal);
  std::thread([&] { ended = cudaStreamEndCapture(s, &graph); }).join();
  CHECK(ended == cudaErrorStreamCaptureWrongThread);
  CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess);
}

TEST_CASE("captures that don't end where they began are refused") {
  restart();
  cudaGraph_t graph{};
  int* log = on_device(std::vector<int>{0});
  const cudaStream_t plain = new_stream();
  CHECK(cudaStreamEndCapture(plain, &graph) == cudaErrorIllegalState);
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamBeginCapture(plain, static_cast<cudaStreamCaptureMode>(3)) == cudaErrorInvalidValue);

  const cudaEvent_t fork = new_event();
  const auto forked = [&](cudaStream_t from) {
    const cudaStream_t to = new_stream();
    CHECK(cudaEventRecord(fork, from) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(to, fork, 0) == cudaSuccess);
    CHECK(append_in(to, log, 1) == cudaSuccess);
    return to;
  };
  cudaStream_t s = capturing();
  CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal) == cudaErrorIllegalState);
  forked(s);
  CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);

  s = capturing();
  CHECK(cudaStreamEndCapture(forked(s), &graph) == cudaErrorStreamCaptureUnmatched);
  CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);

  s = capturing();
  const cudaStream_t other = capturing();
  CHECK(cudaEventRecord(fork, s) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(other, fork, 0) == cudaErrorStreamCaptureMerge);
  CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamEndCapture(other, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaEventQuery(fork) == cudaErrorCapturedEvent);
  CHECK(cudaStreamWaitEvent(plain, fork, 0) == cudaErrorCapturedEvent);
  CHECK(cudaEventRecord(fork, plain) == cudaSuccess);  // recorded anew, it is an event like others
  CHECK(cudaEventSynchronize(fork) == cudaSuccess);
}

TEST_CASE("while a blocking stream captures, the legacy stream can't be used") {
  restart();
  int* log = on_device(std::vector<int>{0});
  const cudaStream_t s = capturing(cudaStreamCaptureModeThreadLocal, cudaStreamDefault);
  cudaStreamCaptureStatus value{};
  CHECK(cudaStreamIsCapturing(nullptr, &value) == cudaErrorStreamCaptureImplicit);
  CHECK(status(s) == cudaStreamCaptureStatusActive);
  CHECK(append_in(nullptr, log, 1) == cudaErrorStreamCaptureImplicit);
  CHECK(status(s) == cudaStreamCaptureStatusInvalidated);
  restart();
  log = on_device(std::vector<int>{0});
  const cudaStream_t t = capturing();
  CHECK(append_in(nullptr, log, 1) == cudaSuccess);
  CHECK(status(t) == cudaStreamCaptureStatusActive);
}

TEST_CASE("a graph that uses memory which has been freed fails when it runs") {
  restart();
  int* log = on_device(std::vector<int>{0});
  const cudaStream_t s = capturing();
  CHECK(cudaMemsetAsync(log, 0, 4, s) == cudaSuccess);
  const cudaGraphExec_t exec = executable(s);
  CHECK(cudaFree(log) == cudaSuccess);
  CHECK(cudaGraphLaunch(exec, s) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaErrorIllegalAddress);
}

TEST_CASE("wrong handles of graphs, flags and places are refused") {
  restart();
  int* log = on_device(std::vector<int>{0});
  const cudaStream_t s = capturing();
  for (int i = 0; i < 3; ++i) CHECK(append_in(s, log, i) == cudaSuccess);
  cudaGraph_t graph{};
  CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess);
  cudaGraphExec_t exec{};
  CHECK(cudaGraphInstantiate(&exec, graph, 64) == cudaErrorInvalidValue);
  CHECK(cudaGraphInstantiate(nullptr, graph, 0) == cudaErrorInvalidValue);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaErrorInvalidValue);
  CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaErrorInvalidValue);
  CHECK(cudaGraphUpload(exec, s) == cudaErrorInvalidValue);
}
