// The tensor backend: the memory and the operations of the algorithm on one device, in order. A small required set,
// each operation with its law, then refinements that add speed and never meaning, each with its fallback; but for
// has_remainders, which lets the iteration be another one.
// testing/backend_conformance.hpp is these laws as tests; backends/cpu/host_backend.hpp lifts plain loops to a backend.
#ifndef NORMUON_BACKEND_HPP
#define NORMUON_BACKEND_HPP

#include <concepts>
#include <cstddef>
#include <string_view>
#include <utility>

#include "normuon/operation_types.hpp"
#include "normuon/verdict.hpp"

namespace normuon {

// An address in the backend's memory as that of numbers.
template <class T>
T* address_of(std::byte* p) {
  return static_cast<T*>(static_cast<void*>(p));
}

template <class T>  // what memory and operands are besides: made empty, and moved
concept owner_of_memory = std::movable<T> && std::default_initializable<T>;

// Memory. `allocate` and `resize` are the only operations that may allocate; `data()` is an address on the device.
// - allocate(bytes): that many zeros, aligned for any element, owned by a `memory`: it keeps its address when it is
//   moved, and what was asked before it goes away still finds it.
// - resize(X, shape): X can hold `shape` from now on; its content is unspecified. Allocates only where X could not.
// - write(to, from, bytes), read(to, from, bytes): between the host and the device, in order. `from` of a write is the
//   caller's again when it returns; a read is complete after sync(), which waits for all that was asked before.
template <class B>
concept provides_memory =
    owner_of_memory<typename B::memory> && owner_of_memory<typename B::operand> &&
    requires(B& b, const typename B::memory& memory, typename B::operand& X, void* p, const void* q) {
      { b.allocate(std::size_t{}) } -> std::same_as<typename B::memory>;
      { memory.data() } -> std::same_as<std::byte*>;
      { memory.size() } -> std::convertible_to<std::size_t>;
      b.resize(X, operand_shape{});
      b.write(p, q, std::size_t{});
      b.read(p, q, std::size_t{});
      b.sync();
    };

// What the backend takes: types of weights and gradients, types of the iteration, how many matrices of a shape it likes
// to be given at once (a GPU many, a CPU worker one; at least 1), and the bytes of an operand.
template <class B>
concept states_what_it_takes = requires(const B& b) {
  { B::takes(element_type{}) } -> std::same_as<bool>;
  { B::computes(compute_type{}) } -> std::same_as<bool>;
  { B::default_compute() } -> std::same_as<compute_type>;
  { b.run_length(operand_shape{}) } -> std::same_as<index_t>;
  { b.operand_bytes(operand_shape{}) } -> std::same_as<std::size_t>;
};

// all_finite(ok, G, scale): clears ok where scale * G holds a NaN or an infinity; never sets it.
template <class B>
concept provides_all_finite = requires(B& b, flags ok, views G, number scale) { b.all_finite(ok, G, scale); };

// count(counters, ok): adds 1.
template <class B>
concept provides_count = requires(B& b, slots counters, flags ok) { b.count(counters, ok); };

// blend(out, x, A, y, B, ok): out <- xA + yB, by formulas' `blend`, in the backend's real type, rounded to out's type.
// out may be A or B. Exact where a number is 0 or 1; what a zero multiplies is ignored, NaN included.
template <class B>
concept provides_blend =
    requires(B& b, views out, number x, views A, number y, views C, flags ok) { b.blend(out, x, A, y, C, ok); };

// load(X, U, formula, norms, ok, sound): X <- U * inverse_norm(||U||_F), transposed where U has more rows than columns,
// rounded to the iteration's type; norms <- ||U||_F, of U as it is stored. sound <- ok and U is finite, or nothing
// where `sound` is empty. What is not sound enters as zero. Whatever the scale of U, no sum over- or underflows: where
// the formula adds nothing, a power of two by which U is multiplied leaves no trace in X while its entries stay normal.
template <class B>
concept provides_load = requires(B& b, typename B::operand& X, views U, norm_formula f, slots norms, flags ok) {
  b.load(X, U, f, norms, ok, ok);
};

// multiply(Y, alpha, A, B, transpose, beta, C): Y <- alpha A B + beta C, with B^T for B where `transpose` is true. C
// may be Y; neither A nor B may be. A zero beta ignores C. Sums are fp32 or wider, and Y is rounded once, to the
// operand's type.
// add_identity(P, x): P <- P + x I.
template <class B>
concept provides_products = requires(B& b, typename B::operand& Y, const typename B::operand& A) {
  b.multiply(Y, double{}, A, A, bool{}, double{}, A);
  b.add_identity(Y, double{});
};

// mean_squares(r, X, side): r_i <- the mean square of line i of X: a sum divided by the length, not times a reciprocal.
// So a line of one number gives its square exactly where no sum of its squares is rounded: numbers of few bits do.
template <class B>
concept provides_mean_squares =
    requires(B& b, vectors<typename B::real> r, const typename B::operand& X) { b.mean_squares(r, X, side{}); };

// factors(v, f, r, beta2, formula, ok): v <- second_moment(v, r, beta2), then f_i <- c d_i with d from
// `inverse_deviation` and c from `scale_of_update`; without v (axis none) d is 1. Norms are summed in an order
// that depends on their number only. A factor saturates.
template <class B>
concept provides_factors = requires(B& b, vectors<typename B::real> v, number beta2, factor_formula f, flags ok) {
  b.factors(v, v, v, beta2, f, ok);
};

// store_scaled(D, f, X, side, ok): D <- diag(f) X (or X diag(f)), transposed back where D has more rows than columns,
// rounded to D's type.
template <class B>
concept provides_store_scaled = requires(B& b, views D, vectors<typename B::real> f, const typename B::operand& X,
                                         flags ok) { b.store_scaled(D, f, X, side{}, ok); };

// apply(out, W, D, rate, decay, formula, ok, low): out <- formulas' `updated`, in the backend's real type, rounded to
// out's type, with a stream `stochastically`. out is W, or the caller's buffer for the change, where a flag of 0 writes
// zeros. With a master, where out is W, the step goes from `where_step_begins` to it, and W is that to nearest.
template <class B>
concept provides_apply = requires(B& b, views W, number rate, update_formula f, flags ok, const low_bits& low) {
  b.apply(W, W, W, rate, rate, f, ok, low);
};

// adamw(out, W, M, V, G, counters, numbers, epsilon, formula, norms, ok, low): formulas' `adamw` on every element, by
// the bias_correction of each beta and counter, then out as in `apply`; norms <- the Frobenius norm of the directions.
template <class B>
concept provides_adamw =
    requires(B& b, views W, slots counters, adamw_numbers k, update_formula f, const low_bits& low) {
      b.adamw(W, W, W, W, W, counters, k, double{}, f, counters, counters, low);
    };

// `real` is the type of state: float or double, and one of those that the backend takes. Operations on one backend
// object are ordered. A run has any length; its matrices have one shape, but for `all_finite` and `adamw`, and any
// types and strides.
template <class B>
concept tensor_backend = std::movable<B> && std::floating_point<typename B::real> && provides_memory<B> &&
                         states_what_it_takes<B> && provides_all_finite<B> && provides_count<B> && provides_blend<B> &&
                         provides_load<B> && provides_products<B> && provides_mean_squares<B> && provides_factors<B> &&
                         provides_store_scaled<B> && provides_apply<B> && provides_adamw<B>;

// Refinements. Each is found by `requires`; the function below of the same name is what everyone calls.

template <class B>
concept has_gram = requires(B& b, typename B::operand& A, const typename B::operand& X) { b.gram(A, X); };

// A <- X X^T.   has_gram: at half the work.
template <tensor_backend B>
void gram(B& b, typename B::operand& A, const typename B::operand& X) {
  if constexpr (has_gram<B>) b.gram(A, X);
  else b.multiply(A, 1, X, X, true, 0, A);
}

template <class B>
concept has_symmetric_polynomial =
    requires(B& b, typename B::operand& P, const typename B::operand& A) { b.polynomial(P, double{}, double{}, A); };

// P <- y A + z A^2 for a symmetric A; P is not A.   has_symmetric_polynomial: at half the work.
template <tensor_backend B>
void polynomial(B& b, typename B::operand& P, double y, double z, const typename B::operand& A) {
  if constexpr (has_symmetric_polynomial<B>) b.polynomial(P, y, z, A);
  else b.multiply(P, z, A, A, false, y, A);
}

template <class B>
concept has_symmetric_multiply =
    requires(B& b, typename B::operand& Y, const typename B::operand& A) { b.multiply_symmetric(Y, A, A, double{}); };

// Y <- A F + beta A for symmetric A and F that commute, so that Y is symmetric.   has_symmetric_multiply: at half the
// work.
template <tensor_backend B>
void multiply_symmetric(B& b, typename B::operand& Y, const typename B::operand& A, const typename B::operand& F,
                        double beta) {
  if constexpr (has_symmetric_multiply<B>) b.multiply_symmetric(Y, A, F, beta);
  else b.multiply(Y, 1, A, F, false, beta, A);
}

// The norms of the rows of a symmetric matrix, relative to its trace: the longest one, and that of all rows together.
struct row_norms {
  double longest = 0, together = 0;
};

// has_remainders: gram_with_remainder(A, X) is gram, and keeps beside A what rounding to 16 bits took. A product
// multiply_symmetric(Y, A, F, beta) adds it where it adds beta A, and keeps what is taken from Y; factors are read
// without. measure_rows(A) is the largest row_norms of a run. The host decides by it, so such a backend's runs are of
// one matrix.
template <class B>
concept has_remainders = requires(B& b, typename B::operand& A, const typename B::operand& X) {
  b.gram_with_remainder(A, X);
  { b.measure_rows(X) } -> std::same_as<row_norms>;
};

template <class B>
concept has_fused_momentum = requires(B& b, views M, number keep, flags ok) { b.momentum(M, M, M, keep, keep, ok); };

// M <- keep M + take G, then U <- keep M + take G.   has_fused_momentum: G and M are read once. The same bits.
template <tensor_backend B>
void momentum(B& b, views M, views U, views G, number keep, number take, flags ok) {
  if constexpr (has_fused_momentum<B>) {
    b.momentum(M, U, G, keep, take, ok);
  } else {
    b.blend(M, take, G, keep, M, ok);
    b.blend(U, take, G, keep, M, ok);
  }
}

template <class B>
concept has_fused_neuron_step =
    requires(B& b, views W, vectors<typename B::real> f, const typename B::operand& X, number rate, flags ok) {
      b.neuron_step(W, W, f, X, side{}, rate, rate, update_formula{}, ok, low_bits{});
    };

// D <- diag(f) X and out <- the step along D.   has_fused_neuron_step: D, still rounded to `real`, stays in registers
// and its memory is not needed. The same bits.
template <tensor_backend B>
void neuron_step(B& b, views out, views W, views D, vectors<typename B::real> f, const typename B::operand& X, side s,
                 number rate, number decay, const update_formula& formula, flags ok, const low_bits& low = {}) {
  if constexpr (has_fused_neuron_step<B>) {
    b.neuron_step(out, W, f, X, s, rate, decay, formula, ok, low);
  } else {
    b.store_scaled(D, f, X, s, ok);
    b.apply(out, W, D, rate, decay, formula, ok, low);
  }
}

template <class B>
concept has_workers = requires(B& b, void (*task)(B&, int, index_t)) {
  { b.workers() } -> std::same_as<int>;
  b.for_each(index_t{}, task);
};

template <tensor_backend B>
int workers(const B& b) {
  if constexpr (has_workers<B>) return b.workers();
  else return 1;
}

// Calls task(backend, worker, i) for i = 0 to count - 1, worker < workers(b).   has_workers: several at once, in any
// order, each on a backend object of its worker; done when it returns.
template <tensor_backend B, class Task>
void for_each(B& b, index_t count, Task&& task) {
  if constexpr (has_workers<B>) b.for_each(count, std::forward<Task>(task));
  else
    for (index_t i = 0; i < count; ++i) task(b, 0, i);
}

// has_waiting_hook: while_waiting(h) has the thread that asked for something call h again and again while it waits for
// other workers, until another hook is given. What h throws ends the operation, as what a task throws does.
template <class B>
concept has_waiting_hook = has_workers<B> && requires(B& b, hook h) { b.while_waiting(h); };

// has_shared_runs: shares(shape) says that operations on runs of such matrices, asked of the backend object itself, are
// done by all workers together. A run that would leave workers idle is then given to it.
template <class B>
concept has_shared_runs = has_workers<B> && requires(const B& b) {
  { b.shares(operand_shape{}) } -> std::same_as<bool>;
};

// has_kernel_path: the name of the kernels that compute an iteration in a type, for reports.
template <class B>
concept has_kernel_path = requires(const B& b) {
  { b.kernel_path(compute_type{}) } -> std::same_as<std::string_view>;
};

// has_host_memory: what `data()` of its memory points to is the host's to read and write between two calls.
template <class B>
concept has_host_memory = requires { requires B::is_host_memory; };

// has_agreement: what several ranks need to decide alike. note_verdicts(mine, ok): mine[i], which says `moves`, says
// `held_back` where ok[i] is 0. agree(ok, all, pitch, ranks): ok[i] is 1 where what all[r * pitch + i] of all ranks r
// `agreed` say lets_move, else 0.
template <class B>
concept has_agreement = requires(B& b, verdict* mine, const verdict* all, flags ok) {
  b.note_verdicts(mine, ok);
  b.agree(ok, all, std::size_t{}, int{});
};

// has_later_reads: read_later(r, from, bytes) is a read that nobody waits for; is_there(r): whether r.data() holds it.
template <class B>
concept has_later_reads = requires(B& b, typename B::later_read& r, const void* from) {
  b.read_later(r, from, std::size_t{});
  { b.is_there(r) } -> std::same_as<bool>;
  { r.data() } -> std::same_as<const std::byte*>;
};

// has_refresh: refresh(program) does all of a replay that may wait for room on the way to a device, ahead of it.
template <class B>
concept has_refresh = requires(B& b, typename B::program& program) { b.refresh(program); };

// has_capture: record(task) runs task(backend) once without effect, noting its operations and the tables they name, and
// replay(program) does them with what slots and tables then hold: other addresses, types and strides, but the shapes
// that were recorded. A step of one rank never makes the host wait then.
template <class B>
concept has_capture = requires(B& b, typename B::program& program, void (*task)(B&)) {
  { b.record(task) } -> std::same_as<typename B::program>;
  b.replay(program);
};

}  // namespace normuon

#endif
