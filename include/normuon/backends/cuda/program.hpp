// A step as a program: a flat list of operations, made once and captured once as a CUDA graph. A replay sends the
// tables that have changed since the last, in one copy, and launches the graph; the host does not wait.
#ifndef NORMUON_BACKENDS_CUDA_PROGRAM_HPP
#define NORMUON_BACKENDS_CUDA_PROGRAM_HPP

#include <variant>

#include "normuon/backends/cuda/device.hpp"
#include "normuon/backends/cuda/tables.hpp"

namespace normuon {

using cuda_operation =
    std::variant<finite_operation, count_operation, blend_operation, momentum_operation, apply_operation,
                 adamw_operation, load_operation, product_operation, symmetric_operation, mirror_operation,
                 identity_operation, mean_squares_operation, factors_operation, store_operation, neuron_step_operation>;

// Those that cuBLASLt does, not kernels.
template <class Operation>
inline constexpr bool is_product =
    std::is_same_v<Operation, product_operation> || std::is_same_v<Operation, symmetric_operation>;

// Operations and the tables that they name, before they have memory on the device.
struct cuda_recording {
  std::vector<cuda_operation> operations;
  table_set tables;
  std::size_t scratch_bytes = 0;

  template <class Operation>
  void add(const Operation& o) {
    if constexpr (!is_product<Operation>) scratch_bytes = std::max(scratch_bytes, normuon::scratch_bytes(o));
    operations.push_back(o);
  }
  void clear() {
    operations.clear();
    tables.clear();
    scratch_bytes = 0;
  }
  // Tells the operations where their memory is.
  void place(const std::byte* tables_at, std::byte* scratch_at) {
    for (cuda_operation& any : operations)
      std::visit(
          [&]<class Operation>(Operation& o) {
            if constexpr (!is_product<Operation>) o.work.tables = tables_at, o.work.scratch = scratch_at;
          },
          any);
  }
  void launch(const cublas_lt_products& products, cudaStream_t stream) const {
    for (const cuda_operation& any : operations)
      std::visit(
          [&]<class Operation>(const Operation& o) {
            if constexpr (is_product<Operation>) products.run(o, stream);
            else launch_operation(o, stream);
          },
          any);
  }
};

// An operand's memory, from first to last byte. Whether two share any; sharing all is sharing.
struct byte_range {
  const std::byte* first = nullptr;
  std::size_t bytes = 0;

  bool overlaps(const byte_range& other) const {
    return bytes != 0 && other.bytes != 0 && first < other.first + other.bytes && other.first < first + bytes;
  }
  friend bool operator==(const byte_range&, const byte_range&) = default;
};

inline byte_range range_of(const operand_view& X) {
  return {X.data, static_cast<std::size_t>(X.count * X.stride()) * size_of(X.type)};
}

// Operands that an operation reads, and the one that it writes.
struct operands_touched {
  std::vector<byte_range> read;
  byte_range written;
};

inline operands_touched touched_by(const cuda_operation& any) {
  return std::visit(
      []<class Operation>(const Operation& o) -> operands_touched {
        if constexpr (is_product<Operation>) {
          operands_touched t{{range_of(o.A), range_of(o.B)}, range_of(o.Y)};
          if (o.beta != 0) t.read.push_back(range_of(o.C));
          return t;
        } else if constexpr (std::is_same_v<Operation, load_operation>) {
          return {{}, range_of(o.X)};
        } else if constexpr (requires { o.P; }) {
          return {{range_of(o.P)}, range_of(o.P)};
        } else if constexpr (requires { o.X; }) {
          return {{range_of(o.X)}, {}};
        } else {
          return {};
        }
      },
      any);
}

// Throws where an operation reads an operand that nothing before it has written, or where a product writes what it
// multiplies, or a part of what it adds.
inline void check_program(const std::vector<cuda_operation>& operations) {
  std::vector<byte_range> written;
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const operands_touched t = touched_by(operations[i]);
    const auto refuse = [&](const char* why) { fail(error_code::backend, "operation ", i, " of a program ", why); };
    for (const byte_range& r : t.read)
      if (r.bytes != 0 && std::none_of(written.begin(), written.end(), [&](const byte_range& w) {
            return w.first <= r.first && r.first + r.bytes <= w.first + w.bytes;
          }))
        refuse("reads an operand that none before it has written");
    std::visit(
        [&]<class Operation>(const Operation& o) {
          if constexpr (is_product<Operation>) {
            if (t.written.overlaps(t.read[0]) || t.written.overlaps(t.read[1])) refuse("writes what it multiplies");
            if (t.read.size() > 2 && t.written.overlaps(t.read[2]) && !(o.C == o.Y))
              refuse("writes a part of what it adds");
          }
        },
        operations[i]);
    if (t.written.bytes != 0) written.push_back(t.written);
  }
}

class cuda_program {
 public:
  // Makes room for the tables, and the graph. Throws error_code::backend where the checker refuses the operations.
  cuda_program(const std::shared_ptr<cuda_device>& device, cuda_recording recording) : body_(std::make_unique<body>()) {
    body& b = *body_;
    b.device = device;
    b.recording = std::move(recording);
    check_program(b.recording.operations);
    const std::size_t tables = b.recording.tables.bytes();
    b.memory = cuda_memory(device, tables + b.recording.scratch_bytes);
    b.packed.resize(tables);
    b.recording.place(b.memory.data(), b.memory.data() + tables);
    device->ring().reserve(tables);
    b.graph = captured();
    check(cudaGraphUpload(b.graph.get(), device->stream()), "cudaGraphUpload");
  }

  void replay() {
    body& b = *body_;
    const std::size_t bytes = b.recording.tables.bytes();
    b.recording.tables.pack(b.packed.data());
    if (b.packed != b.sent) {
      b.sent.clear();  // what is on the device is not known where the copy fails
      b.device->ring().send(b.memory.data(), bytes, b.device->stream(),
                            [&](std::byte* to) { std::copy(b.packed.begin(), b.packed.end(), to); });
      b.sent.assign(b.packed.begin(), b.packed.end());
    }
    check(cudaGraphLaunch(b.graph.get(), b.device->stream()), "cudaGraphLaunch");
  }

  const std::vector<cuda_operation>& operations() const { return body_->recording.operations; }
  const std::shared_ptr<cuda_device>& device() const { return body_->device; }

 private:
  struct body {
    std::shared_ptr<cuda_device> device;
    cuda_recording recording;
    std::vector<std::byte> packed, sent;  // the tables now, and as they are on the device
    cuda_graph_exec graph;
    cuda_memory memory;  // goes first, and waits for a graph that runs
  };

  // In a stream of its own, so that what others put into the backend's stream can't get into the graph.
  cuda_graph_exec captured() const {
    const cudaStream_t stream = body_->device->capture_stream();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t made = nullptr;
    try {
      body_->recording.launch(body_->device->products(), stream);
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

  std::unique_ptr<body> body_;
};

}  // namespace normuon

#endif
