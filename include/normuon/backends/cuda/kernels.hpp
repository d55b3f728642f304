// The operations that kernels do, as plain data, and the launchers that kernels/*.cu define. No CUDA syntax.
#ifndef NORMUON_BACKENDS_CUDA_KERNELS_HPP
#define NORMUON_BACKENDS_CUDA_KERNELS_HPP

#include <cuda_runtime_api.h>

#include "normuon/backend.hpp"

namespace normuon {

// Threads of a block, and blocks that a multiprocessor must have registers for: with more, some kernels spill. Elements
// that one block is meant for, where work is shared out by elements; sides of the tiles in which operands are walked.
inline constexpr int block_threads = 256;
inline constexpr int resident_blocks = 1;
inline constexpr index_t block_elements = 4096;
inline constexpr index_t tile_side = 64;

// A table of T, `offset` bytes into an operation's tables; none where that is negative.
template <class T>
struct table {
  std::int64_t offset = -1;

  constexpr bool empty() const { return offset < 0; }
};

// What all operations have. Tables and scratch are on the device, and known once all operations are.
struct run_of_work {
  const std::byte* tables = nullptr;
  std::byte* scratch = nullptr;  // the operation's own while it runs; see scratch_bytes
  element_type real = element_type::float32;
  index_t count = 0;                // matrices
  table<slot> ok;                   // none: all go
  table<index_t> first_block = {};  // where work is shared out by elements: count + 1 numbers of blocks
  index_t blocks = 0;               // the last of them
};

// An operand as kernels and products see it: row-major matrices of one type, 16-byte aligned rows.
struct operand_view {
  std::byte* data = nullptr;
  element_type type = element_type::float32;
  index_t rows = 0, cols = 0, count = 0;
  index_t leading = 0;  // elements from one row to the next

  constexpr index_t stride() const { return rows * leading; }  // from one matrix to the next
  friend constexpr bool operator==(const operand_view&, const operand_view&) = default;
};

struct low_bits_tables {
  table<random_stream> streams;
  table<slot> steps;
  table<matrix_view> masters;

  constexpr bool empty() const { return streams.empty() && masters.empty(); }
};

// The operations of the concept, with their names and arguments there.
struct finite_operation {
  static constexpr const char* name = "all_finite";
  run_of_work work;
  table<matrix_view> G;
  number scale;
};
struct count_operation {
  static constexpr const char* name = "count";
  run_of_work work;
  table<slot> counters;
};
struct note_verdicts_operation {
  static constexpr const char* name = "note_verdicts";
  run_of_work work;
  verdict* mine;
};
struct agree_operation {
  static constexpr const char* name = "agree";
  run_of_work work;
  const verdict* all;
  std::size_t pitch;
  int ranks;
};
struct blend_operation {
  static constexpr const char* name = "blend";
  run_of_work work;
  table<matrix_view> out, A, B;
  number x, y;
};
struct momentum_operation {
  static constexpr const char* name = "momentum";
  run_of_work work;
  table<matrix_view> M, U, G;
  number keep, take;
};
struct apply_operation {
  static constexpr const char* name = "apply";
  run_of_work work;
  table<matrix_view> out, W, D;
  number rate, decay;
  update_formula formula;
  low_bits_tables low;
};
struct adamw_operation {
  static constexpr const char* name = "adamw";
  run_of_work work;
  table<matrix_view> out, W, M, V, G;
  table<slot> counters, norms;
  adamw_numbers numbers;
  double epsilon;
  update_formula formula;
  low_bits_tables low;
};
struct load_operation {
  static constexpr const char* name = "load";
  run_of_work work;
  operand_view X;
  table<matrix_view> U;
  norm_formula formula;
  table<slot> norms, sound;
};
struct mean_squares_operation {
  static constexpr const char* name = "mean_squares";
  run_of_work work;
  operand_view X;
  table<std::byte*> r;
  side neurons;
};
struct factors_operation {
  static constexpr const char* name = "factors";
  run_of_work work;
  table<std::byte*> v, f, r;
  index_t length;
  number beta2;
  factor_formula formula;
};
struct store_operation {
  static constexpr const char* name = "store_scaled";
  run_of_work work;
  operand_view X;
  table<matrix_view> D;
  table<std::byte*> f;
  side neurons;
};
struct neuron_step_operation {
  static constexpr const char* name = "neuron_step";
  run_of_work work;
  operand_view X;
  table<matrix_view> out, W;
  table<std::byte*> f;
  side neurons;
  number rate, decay;
  update_formula formula;
  low_bits_tables low;
};
struct identity_operation {
  static constexpr const char* name = "add_identity";
  run_of_work work;
  operand_view P;
  double x;
};
// The upper triangle of square matrices <- the mirror of the lower one.
struct mirror_operation {
  static constexpr const char* name = "mirror";
  run_of_work work;
  operand_view P;
};

// An operation and its sizes, for messages.
template <class Operation>
std::string operation_text(const Operation& o) {
  const auto of_operands = [](const operand_view& X) {
    return message_of(Operation::name, " of ", X.count, " matrices ", X.rows, " x ", X.cols, " in ", name_of(X.type));
  };
  if constexpr (requires { o.X; }) return of_operands(o.X);
  else if constexpr (requires { o.P; }) return of_operands(o.P);
  else return message_of(Operation::name, " of ", o.work.count, " matrices");
}

constexpr index_t blocks_for(index_t elements, index_t each) {
  return elements <= each ? 1 : (elements + each - 1) / each;
}

// A norm on its way: that of unit * U, and by what unit * U is multiplied to enter the iteration.
struct scaled_entry {
  double unit, norm, factor;
  double enters;  // 0: zeros enter
};

// Bytes of scratch: partial sums of each block, and in `load` besides what the matrices enter with.
constexpr std::size_t scratch_bytes(const adamw_operation& o) {
  return static_cast<std::size_t>(o.work.blocks) * sizeof(double);
}
constexpr std::size_t scratch_bytes(const load_operation& o) {
  const index_t blocks = o.work.count * blocks_for(o.X.rows * o.X.cols, block_elements);
  return static_cast<std::size_t>(o.work.count) * sizeof(scaled_entry) +
         static_cast<std::size_t>(blocks) * sizeof(double);
}
template <class Operation>
constexpr std::size_t scratch_bytes(const Operation&) {
  return 0;
}

// Each puts its kernels into the stream. Throw error_code::device where a launch is refused.
void launch_operation(const finite_operation&, cudaStream_t);
void launch_operation(const count_operation&, cudaStream_t);
void launch_operation(const note_verdicts_operation&, cudaStream_t);
void launch_operation(const agree_operation&, cudaStream_t);
void launch_operation(const blend_operation&, cudaStream_t);
void launch_operation(const momentum_operation&, cudaStream_t);
void launch_operation(const apply_operation&, cudaStream_t);
void launch_operation(const adamw_operation&, cudaStream_t);
void launch_operation(const load_operation&, cudaStream_t);
void launch_operation(const mean_squares_operation&, cudaStream_t);
void launch_operation(const factors_operation&, cudaStream_t);
void launch_operation(const store_operation&, cudaStream_t);
void launch_operation(const neuron_step_operation&, cudaStream_t);
void launch_operation(const identity_operation&, cudaStream_t);
void launch_operation(const mirror_operation&, cudaStream_t);

}  // namespace normuon

#endif
