#include "capture.hpp"

#include <algorithm>

namespace standin {
namespace {

struct capture_world {
  handle_table<graph_state> graphs{"graph", 0xe7000000'00000000u};
  handle_table<executable_state> executables{"executable graph", 0xe8000000'00000000u};
  std::vector<std::weak_ptr<capture_state>> captures;
};
capture_world& state() {
  static capture_world s;
  return s;
}

// Which nodes come before one of `last`, or are in it.
std::vector<bool> ancestors(const node_list& nodes, const std::vector<std::size_t>& last) {
  std::vector<bool> reached(nodes.size());
  for (const std::size_t i : last) reached[i] = true;
  for (std::size_t i = nodes.size(); i-- > 0;)
    if (reached[i])
      for (const std::size_t before : nodes[i].after) reached[before] = true;
  return reached;
}

void add_nodes(std::vector<std::size_t>& to, const std::vector<std::size_t>& more) {
  for (const std::size_t i : more)
    if (std::find(to.begin(), to.end(), i) == to.end()) to.push_back(i);
}

void leave_capture(capture_state& capture) {
  for (const auto& stream : capture.joined) {
    stream->capture.reset();
    stream->captured.clear();
  }
}

}  // namespace

handle_table<graph_state>& graphs() { return state().graphs; }
handle_table<executable_state>& executables() { return state().executables; }

void break_capture(capture_state& capture, cudaError_t code, const char* why) {
  capture.broken = true;
  refuse(code, why, ", which breaks the capture");
}

void begin_capture(const std::shared_ptr<stream_state>& stream, cudaStreamCaptureMode mode) {
  // "it may only be initiated if the stream is not already in capture mode" (cudaStreamBeginCapture); a stream "is not
  // in a valid state to perform the requested operation" (cudaErrorIllegalState).
  if (stream->capture != nullptr) refuse(cudaErrorIllegalState, "the stream is capturing already");
  const auto capture = std::make_shared<capture_state>();
  capture->mode = mode;
  capture->origin = stream.get();
  capture->thread = std::this_thread::get_id();
  capture->joined.push_back(stream);
  stream->capture = capture;
  stream->captured.clear();
  state().captures.push_back(capture);
}

std::shared_ptr<const node_list> end_capture(stream_state& stream) {
  const std::shared_ptr<capture_state> capture = stream.capture;
  if (capture == nullptr) refuse(cudaErrorIllegalState, "the stream is not capturing");
  // "Capture must have been initiated on stream" (cudaStreamEndCapture).
  if (capture->origin != &stream)
    break_capture(*capture, cudaErrorStreamCaptureUnmatched, "another stream began this capture");
  // "this call must be from the same thread as cudaStreamBeginCapture", unless the mode is relaxed (the same).
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    refuse(cudaErrorStreamCaptureWrongThread, "another thread began this capture");
  const std::vector<bool> joined = ancestors(capture->nodes, stream.captured);
  leave_capture(*capture);
  if (capture->broken) refuse(cudaErrorStreamCaptureInvalidated, "the capture has been broken by an earlier call");
  // "contains a fork that was not joined to the primary stream" (cudaErrorStreamCaptureUnjoined).
  if (std::find(joined.begin(), joined.end(), false) != joined.end())
    refuse(cudaErrorStreamCaptureUnjoined, "work of another stream was not joined to the one that began the capture");
  return std::make_shared<const node_list>(std::move(capture->nodes));
}

void capture_node(stream_state& stream, task run) {
  capture_state& capture = *stream.capture;
  if (capture.broken) refuse(cudaErrorStreamCaptureInvalidated, "the capture has been broken by an earlier call");
  capture.nodes.push_back({std::move(run), stream.device, stream.captured});
  stream.captured = {capture.nodes.size() - 1};
}

void record_in_capture(const stream_state& stream, event_state& event) {
  if (stream.capture->broken)
    refuse(cudaErrorStreamCaptureInvalidated, "the capture has been broken by an earlier call");
  event.capture = stream.capture;
  event.captured = stream.captured;
  event.recorded.reset();
}

// "invalid to merge two separate capture graphs", and "to wait on a non-captured event from a stream which is being
// captured" (CUDA C++ Programming Guide, Cross-stream Dependencies and Events, Prohibited and Unhandled Operations).
void wait_in_capture(const std::shared_ptr<stream_state>& stream, const event_state& event) {
  if (event.capture == nullptr)  // of a stream that captures
    break_capture(*stream->capture, cudaErrorStreamCaptureIsolation, "the event was recorded outside the capture");
  if (stream->capture == nullptr) {
    const bool open = !event.capture->joined.empty() && event.capture->joined.front()->capture == event.capture;
    if (!open) refuse(cudaErrorCapturedEvent, "the event was last recorded in a capture that has ended");
    stream->capture = event.capture;
    stream->captured.clear();
    event.capture->joined.push_back(stream);
  }
  if (stream->capture != event.capture) {
    event.capture->broken = true;
    break_capture(*stream->capture, cudaErrorStreamCaptureMerge, "the event belongs to another capture");
  }
  if (stream->capture->broken)
    refuse(cudaErrorStreamCaptureInvalidated, "the capture has been broken by an earlier call");
  add_nodes(stream->captured, event.captured);
}

// cudaGraphLaunch: "ordered behind both any previous work in stream and any previous launches of graphExec". Inside,
// only the graph's own order holds.
void launch(executable_state& executable, stream_state& stream) {
  const node_list& nodes = *executable.nodes;
  // The vendor makes it a child graph; nothing here needs one.
  if (stream.capture != nullptr) refuse(cudaErrorNotSupported, "the stand-in captures no graph inside a graph");
  const work_ptr begin = append(stream, nullptr, {executable.last});
  std::vector<work_ptr> made;
  for (const graph_node& node : nodes) {
    stream_state branch{node.device, false, begin, {}, {}};
    std::vector<work_ptr> after;
    for (const std::size_t i : node.after) after.push_back(made[i]);
    made.push_back(append(branch, node.run, std::move(after)));
  }
  executable.last = append(stream, nullptr, std::move(made));
}

void refuse_while_capturing(const char* what) {
  std::erase_if(state().captures, [](const auto& weak) {
    const auto capture = weak.lock();
    return capture == nullptr || capture->joined.front()->capture != capture;
  });
  for (const auto& weak : state().captures) {
    const auto capture = weak.lock();
    const bool own = capture->thread == std::this_thread::get_id();
    const bool forbids = (capture->mode != cudaStreamCaptureModeRelaxed && own) ||
                         (capture->mode == cudaStreamCaptureModeGlobal && !own);
    // "this thread is prohibited from potentially unsafe API calls" (cudaThreadExchangeStreamCaptureMode), and "any
    // associated capture graphs are invalidated" (CUDA C++ Programming Guide, Prohibited and Unhandled Operations).
    if (forbids) break_capture(*capture, cudaErrorStreamCaptureUnsupported, what);
  }
}

// cudaErrorStreamCaptureUnsupported: "The operation is not permitted when the stream is capturing."
void refuse_captured(const stream_state& stream, const char* what) {
  if (stream.capture != nullptr) break_capture(*stream.capture, cudaErrorStreamCaptureUnsupported, what);
}

// cudaErrorCapturedEvent: "not permitted on an event which was last recorded in a capturing stream".
void refuse_captured(const event_state& event, const char* what) {
  if (event.capture == nullptr) return;
  event.capture->broken = true;
  refuse(cudaErrorCapturedEvent, what, ", but it was last recorded in a capture");
}

void forget_graphs() {
  capture_world& s = state();
  for (const auto& weak : s.captures)
    if (const auto capture = weak.lock()) {
      leave_capture(*capture);
      capture->joined.clear();  // which had pointed back
    }
  s.captures.clear();
  s.graphs.clear();
  s.executables.clear();
}

}  // namespace standin
