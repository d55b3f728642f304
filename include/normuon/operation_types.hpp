// What operations of a backend are given besides views: slots, flags, vectors, the shapes of operands, and what becomes
// of the low bits of weights.
#ifndef NORMUON_OPERATION_TYPES_HPP
#define NORMUON_OPERATION_TYPES_HPP

#include <span>

#include "normuon/math/formulas.hpp"
#include "normuon/math/random.hpp"
#include "normuon/math/rounding.hpp"
#include "normuon/matrix_view.hpp"

namespace normuon {

// A slot is one real number, or one flag, that lives beside the data: on a GPU in memory that the host can't see.
// Whatever changes from step to step reaches operations through slots, so a recorded step replays with new numbers.
using slot = double*;
using number = const double*;

// One flag per matrix of a run: an operation leaves alone, and does not read, what a flag of 0 protects. Empty: all go.
// Several matrices may share one. A table, like views and slots, is the host's: it is read before the call returns.
using flags = std::span<const slot>;
using slots = std::span<const slot>;

// One vector of `length` reals per matrix of a run. `data` empty: there are none.
template <class Real>
struct vectors {
  std::span<Real* const> data;
  index_t length = 0;
};

// A run of `count` matrices inside the iteration, rows x cols each, with rows <= cols unless they are square helpers.
struct operand_shape {
  index_t rows = 0;
  index_t cols = 0;
  index_t count = 0;
  compute_type compute = compute_type::float32;
  friend constexpr bool operator==(const operand_shape&, const operand_shape&) = default;
};

// The side of an operand whose lines are neurons. An operand lies short side first: a tall matrix enters transposed.
enum class side { rows, cols };

constexpr side side_of_neurons(neuron_axis axis, index_t rows, index_t cols) {
  return (axis == neuron_axis::columns) == (rows > cols) ? side::rows : side::cols;
}

// The slots that AdamW's element step reads.
struct adamw_numbers {
  number beta1, beta2, gradient_scale, rate, decay;
};

// What a long piece of work calls again and again on its way; by default nothing.
struct hook {
  void (*call)(void*) = nullptr;
  void* context = nullptr;
  void operator()() const {
    if (call) call(context);
  }
};

// What becomes of bits for which the types of a run's weights have no room; see weight_rounding. Empty: they are lost.
struct low_bits {
  std::span<const random_stream> streams = {};  // element e of matrix i is rounded by number e of its stream,
  slots steps = {};                             // of step *steps[i]
  views masters = {};                           // in the backend's real type; without data where there is none

  bool empty() const { return streams.empty() && masters.empty(); }
};

}  // namespace normuon

#endif
