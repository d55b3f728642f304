// Entry points of the runtime: capture and graphs.
#include <cuda_runtime_api.h>

#include "capture.hpp"
#include "world.hpp"

using namespace standin;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  return runtime_call("cudaStreamBeginCapture", [&] {
    // "Capture may not be initiated if stream is cudaStreamLegacy" (cudaStreamBeginCapture).
    if (stream == nullptr || stream == cudaStreamLegacy)
      refuse(cudaErrorStreamCaptureUnsupported, "the legacy stream can't capture");
    if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed)
      refuse(cudaErrorInvalidValue, "there is no capture mode ", static_cast<int>(mode));
    begin_capture(find_stream(stream), mode);
  });
}

// "If capture was invalidated, due to a violation of the rules of stream capture, then a NULL graph will be returned"
// (cudaStreamEndCapture).
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* pGraph) {
  return runtime_call("cudaStreamEndCapture", [&] {
    if (pGraph == nullptr) refuse(cudaErrorInvalidValue, "no place for the graph");
    *pGraph = nullptr;
    const std::shared_ptr<stream_state> s = find_stream(stream);
    graphs().make(pGraph, std::make_shared<graph_state>(graph_state{end_capture(*s)}));
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus* pCaptureStatus) {
  return runtime_call("cudaStreamIsCapturing", [&] {
    if (pCaptureStatus == nullptr) refuse(cudaErrorInvalidValue, "no place for the status");
    // On the legacy stream while a blocking one is capturing "it will return cudaErrorStreamCaptureImplicit", and "the
    // blocking stream capture is not invalidated" (cudaStreamIsCapturing).
    *pCaptureStatus = cudaStreamCaptureStatusNone;
    if (stream == nullptr || stream == cudaStreamLegacy) {
      if (blocking_capture(current_device()) != nullptr)
        refuse(cudaErrorStreamCaptureImplicit, "a blocking stream is capturing");
      return;
    }
    const auto s = find_stream(stream);
    *pCaptureStatus = s->capture == nullptr ? cudaStreamCaptureStatusNone
                      : s->capture->broken  ? cudaStreamCaptureStatusInvalidated
                                            : cudaStreamCaptureStatusActive;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* pGraphExec, cudaGraph_t graph, unsigned long long flags) {
  return runtime_call("cudaGraphInstantiate", [&] {
    if (pGraphExec == nullptr) refuse(cudaErrorInvalidValue, "no place for the executable graph");
    if (flags != 0) refuse(cudaErrorInvalidValue, "the stand-in knows no instantiation flags ", flags);
    refuse_while_capturing("cudaGraphInstantiate, which allocates, while a stream is capturing");
    const auto g = graphs().find(graph, cudaErrorInvalidValue);
    executables().make(pGraphExec, std::make_shared<executable_state>(executable_state{g->nodes, {}}));
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graphExec, cudaStream_t stream) {
  return runtime_call("cudaGraphLaunch",
                      [&] { launch(*executables().find(graphExec, cudaErrorInvalidValue), *find_stream(stream)); });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t graphExec, cudaStream_t stream) {
  return runtime_call("cudaGraphUpload", [&] {
    executables().find(graphExec, cudaErrorInvalidValue);
    const auto s = find_stream(stream);
    refuse_captured(*s, "a graph is uploaded in a capturing stream");
    append(*s, nullptr);
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return runtime_call("cudaGraphDestroy", [&] { graphs().destroy(graph, cudaErrorInvalidValue); });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graphExec) {
  return runtime_call("cudaGraphExecDestroy", [&] { executables().destroy(graphExec, cudaErrorInvalidValue); });
}

}  // extern "C"
