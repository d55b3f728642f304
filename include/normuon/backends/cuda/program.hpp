// A step as a program: a flat list of operations, made once and captured once as a CUDA graph. A replay sends the
// tables that have changed since the last, in one copy, and launches the graph; the host does not wait.
#ifndef NORMUON_BACKENDS_CUDA_PROGRAM_HPP
#define NORMUON_BACKENDS_CUDA_PROGRAM_HPP

#include <variant>

#include "normuon/backends/cuda/device.hpp"
#include "normuon/backends/cuda/tables.hpp"

namespace normuon {

using cuda_operation =
    std::variant<finite_operation, count_operation, note_verdicts_operation, agree_operation, blend_operation,
                 momentum_operation, apply_operation, adamw_operation, load_operation, product_operation,
                 symmetric_operation, mirror_operation, identity_operation, mean_squares_operation, factors_operation,
                 store_operation, neuron_step_operation>;

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

// An operand, from its first to its last byte.
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

// What operations use besides operands and the matrices of users: their tables, their scratch, and the workspace of
// cuBLASLt.
struct program_memory {
  byte_range tables, scratch, workspace;
};

// Throws where an operation reads an operand that nothing before it has written, or where a product writes what it
// multiplies, or a part of what it adds; and where two of the program's own pieces of memory, or one of them and an
// operand, share any.
inline void check_program(const std::vector<cuda_operation>& operations, const program_memory& own = {}) {
  if (own.tables.overlaps(own.scratch) || own.tables.overlaps(own.workspace) || own.scratch.overlaps(own.workspace))
    fail(error_code::backend, "expected tables, scratch and workspace of a program in memory of their own");
  std::vector<byte_range> written;
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const operands_touched t = touched_by(operations[i]);
    const auto refuse = [&](const char* why) { fail(error_code::backend, "operation ", i, " of a program ", why); };
    const auto keep_out = [&](const byte_range& operand) {
      if (operand.overlaps(own.tables)) refuse("has an operand among the tables");
      if (operand.overlaps(own.scratch)) refuse("has an operand in the scratch");
      if (operand.overlaps(own.workspace)) refuse("has an operand in the workspace of products");
    };
    std::for_each(t.read.begin(), t.read.end(), keep_out);
    keep_out(t.written);
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
    const std::size_t tables = b.recording.tables.bytes();
    b.memory = cuda_memory(device, tables + b.recording.scratch_bytes);
    b.packed.resize(tables);
    std::byte* const scratch = b.memory.data() + tables;
    b.recording.place(b.memory.data(), scratch);
    check_program(b.recording.operations,
                  {{b.memory.data(), tables}, {scratch, b.recording.scratch_bytes}, device->products().workspace()});
    if (b.recording.operations.empty()) return;
    device->ring().reserve(tables);
    // In a stream of its own, so that what others put into the backend's stream can't get into the graph.
    b.graph = captured(device->capture_stream(),
                       [&](cudaStream_t stream) { b.recording.launch(device->products(), stream); });
    check(cudaGraphUpload(b.graph.get(), device->stream()), "cudaGraphUpload");
  }

  // Sends the tables that have changed since they were sent last.
  void refresh() {
    body& b = *body_;
    b.recording.tables.pack(b.packed.data());
    if (b.packed == b.sent) return;
    b.sent.clear();  // what is on the device is not known where the copy fails
    b.device->ring().send(b.memory.data(), b.packed.size(), b.device->stream(),
                          [&](std::byte* to) { std::copy(b.packed.begin(), b.packed.end(), to); });
    b.sent.assign(b.packed.begin(), b.packed.end());
  }
  void replay() {
    if (body_->recording.operations.empty()) return;
    refresh();
    check(cudaGraphLaunch(body_->graph.get(), body_->device->stream()), "cudaGraphLaunch");
  }

 private:
  struct body {
    std::shared_ptr<cuda_device> device;
    cuda_recording recording;
    std::vector<std::byte> packed, sent;  // the tables now, and as they are on the device
    cuda_graph_exec graph;
    cuda_memory memory;  // goes first, and waits for a graph that runs
  };

  std::unique_ptr<body> body_;
};

}  // namespace normuon

#endif
