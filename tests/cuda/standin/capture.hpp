// Graphs, and streams that capture them.
#ifndef NORMUON_TESTS_CUDA_STANDIN_CAPTURE_HPP
#define NORMUON_TESTS_CUDA_STANDIN_CAPTURE_HPP

#include <memory>
#include <thread>
#include <vector>

#include "queue.hpp"

namespace standin {

struct graph_node {
  task run;
  int device;
  std::vector<std::size_t> after;  // earlier nodes
};
using node_list = std::vector<graph_node>;

struct capture_state {
  cudaStreamCaptureMode mode;
  const stream_state* origin;
  std::thread::id thread;
  std::vector<std::shared_ptr<stream_state>> joined;  // streams in it, the origin first
  bool broken = false;
  node_list nodes;
};
struct graph_state {
  std::shared_ptr<const node_list> nodes;
};
struct executable_state {
  std::shared_ptr<const node_list> nodes;
  work_ptr last;  // of its previous launch
};

handle_table<graph_state>& graphs();
handle_table<executable_state>& executables();

void begin_capture(const std::shared_ptr<stream_state>& stream, cudaStreamCaptureMode mode);
std::shared_ptr<const node_list> end_capture(stream_state& stream);
void capture_node(stream_state& stream, task run);
void record_in_capture(const stream_state& stream, event_state& event);
void wait_in_capture(const std::shared_ptr<stream_state>& stream, const event_state& event);
void launch(executable_state& executable, stream_state& stream);

// Breaks the capture and refuses the call.
[[noreturn]] void break_capture(capture_state& capture, cudaError_t code, const char* why);
// Refuses what can't be captured and does not belong to a stream, such as an allocation, while a capture forbids it.
void refuse_while_capturing(const char* what);
// Refuses to look at a stream or event that is captured and so never runs.
void refuse_captured(const stream_state& stream, const char* what);
void refuse_captured(const event_state& event, const char* what);

void forget_graphs();

}  // namespace standin

#endif
