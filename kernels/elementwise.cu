// Kernels of what is done element by element: the check of gradients, counters, blends, momentum and the step.
#include "launchers.cuh"
#include "weights.cuh"

namespace normuon {

// ok <- 0 where scale * G holds a NaN or an infinity. Several blocks may write the same 0.
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) finite_kernel(const finite_operation o) {
  const share s = share_of_block(o.work);
  if (!goes(o.work, s.matrix)) return;
  const Real scale = static_cast<Real>(*o.scale);
  matrix_view v[1] = {entry(o.work, o.G, s.matrix)};
  line_up(v);
  bool finite = true;
  for_each_piece(v[0].rows, v[0].cols, s, [&](const place& at) {
    Real g[piece];
    read_piece(v[0], at, g);
    for (int k = 0; k < piece; ++k) finite &= k >= at.n || is_finite(scale * g[k]);
  });
  if (!finite) *entry(o.work, o.work.ok, s.matrix) = 0;
}

__global__ void __launch_bounds__(block_threads, resident_blocks) count_kernel(const count_operation o) {
  const index_t i = static_cast<index_t>(blockIdx.x) * block_threads + static_cast<index_t>(threadIdx.x);
  if (i < o.work.count && goes(o.work, i)) *entry(o.work, o.counters, i) += 1;
}

// Of one parameter each: what this rank says of it, and what all ranks say together.
__global__ void __launch_bounds__(block_threads, resident_blocks)
    note_verdicts_kernel(const note_verdicts_operation o) {
  const index_t i = static_cast<index_t>(blockIdx.x) * block_threads + static_cast<index_t>(threadIdx.x);
  if (i < o.work.count) o.mine[i] = checked(o.mine[i], goes(o.work, i));
}
__global__ void __launch_bounds__(block_threads, resident_blocks) agree_kernel(const agree_operation o) {
  const index_t i = static_cast<index_t>(blockIdx.x) * block_threads + static_cast<index_t>(threadIdx.x);
  if (i < o.work.count) *entry(o.work, o.work.ok, i) = lets_move(agreed(o.all + i, o.pitch, o.ranks)) ? 1 : 0;
}

// out <- x A + y B. What is multiplied by zero is not read.
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) blend_kernel(const blend_operation o) {
  const share s = share_of_block(o.work);
  if (!goes(o.work, s.matrix)) return;
  const Real x = static_cast<Real>(*o.x), y = static_cast<Real>(*o.y);
  matrix_view v[3] = {entry(o.work, o.out, s.matrix), entry(o.work, o.A, s.matrix), entry(o.work, o.B, s.matrix)};
  if (x == Real(0)) v[1].data = nullptr;
  if (y == Real(0)) v[2].data = nullptr;
  line_up(v);
  for_each_piece(v[0].rows, v[0].cols, s, [&](const place& at) {
    Real a[piece], b[piece];
    read_any(v[1], at, a);
    read_any(v[2], at, b);
    for (int k = 0; k < piece; ++k) a[k] = blend(x, a[k], y, b[k]);
    write_piece(v[0], at, a);
  });
}

// M <- keep M + take G, then U <- keep M + take G
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) momentum_kernel(const momentum_operation o) {
  const share s = share_of_block(o.work);
  if (!goes(o.work, s.matrix)) return;
  const Real keep = static_cast<Real>(*o.keep), take = static_cast<Real>(*o.take);
  matrix_view v[3] = {entry(o.work, o.M, s.matrix), entry(o.work, o.U, s.matrix), entry(o.work, o.G, s.matrix)};
  line_up(v);
  for_each_piece(v[0].rows, v[0].cols, s, [&](const place& at) {
    Real m[piece], g[piece];
    read_piece(v[0], at, m);
    read_piece(v[2], at, g);
    for (int k = 0; k < piece; ++k) {
      m[k] = blend(take, g[k], keep, m[k]);
      g[k] = blend(take, g[k], keep, m[k]);
    }
    write_piece(v[0], at, m);
    write_piece(v[1], at, g);
  });
}

// out <- the step along D from W, or its change
template <class Real, bool keeps>
__global__ void __launch_bounds__(block_threads, resident_blocks) apply_kernel(const apply_operation o) {
  const share s = share_of_block(o.work);
  if (!goes(o.work, s.matrix)) {
    if (o.formula.write == write_form::change) write_zeros<Real>(entry(o.work, o.out, s.matrix), s);
    return;
  }
  const Real rate = static_cast<Real>(*o.rate), decay = static_cast<Real>(*o.decay);
  const matrix_view W = entry(o.work, o.W, s.matrix);
  const weight_access<Real, keeps> weights(o.work, o.low, s.matrix, W);
  matrix_view v[5] = {W, entry(o.work, o.out, s.matrix), entry(o.work, o.D, s.matrix), weights.master, weights.numbers};
  line_up(v);
  for_each_piece(v[0].rows, v[0].cols, s, [&](const place& at) {
    Real w[piece], d[piece];
    weights.read(v[0], v[3], at, w);
    read_piece(v[2], at, d);
    for (int k = 0; k < piece; ++k) w[k] = updated(w[k], d[k], rate, decay, o.formula);
    weights.write(v[1], v[3], v[4], at, w);
  });
}

// A thread for each entry.
template <class Operation>
void launch_for_each(void (*kernel)(Operation), cudaStream_t stream, const Operation& o) {
  if (o.work.count == 0) return;
  launch(kernel, grid_of(blocks_for(o.work.count, block_threads)), dim3(block_threads), stream, o);
}

void launch_operation(const finite_operation& o, cudaStream_t stream) {
  launch_in_real(o, o.work.blocks, stream, []<class Real>(Real) { return finite_kernel<Real>; });
}
void launch_operation(const count_operation& o, cudaStream_t stream) { launch_for_each(count_kernel, stream, o); }
void launch_operation(const note_verdicts_operation& o, cudaStream_t stream) {
  launch_for_each(note_verdicts_kernel, stream, o);
}
void launch_operation(const agree_operation& o, cudaStream_t stream) { launch_for_each(agree_kernel, stream, o); }
void launch_operation(const blend_operation& o, cudaStream_t stream) {
  launch_in_real(o, o.work.blocks, stream, []<class Real>(Real) { return blend_kernel<Real>; });
}
void launch_operation(const momentum_operation& o, cudaStream_t stream) {
  launch_in_real(o, o.work.blocks, stream, []<class Real>(Real) { return momentum_kernel<Real>; });
}
void launch_operation(const apply_operation& o, cudaStream_t stream) {
  launch_keeping(o, o.work.blocks, stream, []<class Real>(Real, auto keeps) { return apply_kernel<Real, keeps>; });
}

}  // namespace normuon
