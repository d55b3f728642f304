// Work that is captured as a graph.
#ifndef NORMUON_BACKENDS_CUDA_CAPTURE_HPP
#define NORMUON_BACKENDS_CUDA_CAPTURE_HPP

#include "normuon/backends/cuda/resources.hpp"

namespace normuon {

// What put(stream) puts into the stream, none of which runs now. Nobody else may use the stream meanwhile.
template <class Put>
cuda_graph_exec captured(cudaStream_t stream, Put&& put) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t made = nullptr;
  try {
    put(stream);
    check(cudaStreamEndCapture(stream, &made), "cudaStreamEndCapture");
  } catch (...) {
    (void)cudaStreamEndCapture(stream, &made);  // or the stream would stay as it is
    const cuda_graph incomplete(made);
    (void)cudaGetLastError();
    throw;
  }
  const cuda_graph graph(made);
  cudaGraphExec_t exec = nullptr;
  check(cudaGraphInstantiate(&exec, graph.get(), 0), "cudaGraphInstantiate");
  return cuda_graph_exec(exec);
}

}  // namespace normuon

#endif
