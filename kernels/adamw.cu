// Kernels of AdamW: its element step, and the norm of the directions.
#include "launchers.cuh"
#include "reduce.cuh"
#include "weights.cuh"

namespace normuon {

__device__ inline double* partial_sums(const adamw_operation& o) { return reinterpret_cast<double*>(o.work.scratch); }

// M, V <- the moments;   out <- the step along their direction;   a partial sum of the directions' squares
template <class Real, bool keeps>
__global__ void __launch_bounds__(block_threads, resident_blocks) adamw_kernel(const adamw_operation o) {
  const share s = share_of_block(o.work);
  if (!goes(o.work, s.matrix)) {
    if (o.formula.write == write_form::change) write_zeros<Real>(entry(o.work, o.out, s.matrix), s);
    return;
  }
  const double beta1 = *o.numbers.beta1, beta2 = *o.numbers.beta2;
  const auto steps = static_cast<std::uint64_t>(*entry(o.work, o.counters, s.matrix));
  const Real correction1 = bias_correction<Real>(beta1, steps);
  const Real correction2 = bias_correction<Real>(beta2, steps);
  const Real scale = static_cast<Real>(*o.numbers.gradient_scale), epsilon = static_cast<Real>(o.epsilon);
  const Real rate = static_cast<Real>(*o.numbers.rate), decay = static_cast<Real>(*o.numbers.decay);
  const matrix_view W = entry(o.work, o.W, s.matrix);
  const weight_access<Real, keeps> weights(o.work, o.low, s.matrix, W);
  matrix_view v[7] = {W,
                      entry(o.work, o.out, s.matrix),
                      entry(o.work, o.M, s.matrix),
                      entry(o.work, o.V, s.matrix),
                      entry(o.work, o.G, s.matrix),
                      weights.master,
                      weights.numbers};
  line_up(v);
  double squares = 0;
  for_each_piece(v[0].rows, v[0].cols, s, [&](const place& at) {
    Real w[piece], m[piece], second[piece], g[piece];
    weights.read(v[0], v[5], at, w);
    read_piece(v[2], at, m);
    read_piece(v[3], at, second);
    read_piece(v[4], at, g);
    for (int k = 0; k < piece; ++k) {
      const adamw_element<Real> e =
          adamw(m[k], second[k], scale * g[k], beta1, beta2, correction1, correction2, epsilon);
      m[k] = e.m, second[k] = e.v;
      w[k] = updated(w[k], e.d, rate, decay, o.formula);
      const auto d = static_cast<double>(e.d);
      if (k < at.n) squares = fused_multiply_add(d, d, squares);
    }
    write_piece(v[2], at, m);
    write_piece(v[3], at, second);
    weights.write(v[1], v[5], v[6], at, w);
  });
  squares = sum_over_block(squares);
  if (threadIdx.x == 0) partial_sums(o)[blockIdx.x] = squares;
}

// norms <- the root of the matrix's partial sums
__global__ void __launch_bounds__(block_threads, resident_blocks) adamw_norm_kernel(const adamw_operation o) {
  const auto i = static_cast<index_t>(blockIdx.x);
  if (!goes(o.work, i)) return;
  const index_t end = entry(o.work, o.work.first_block, i + 1);
  double squares = 0;
  for (index_t k = entry(o.work, o.work.first_block, i) + static_cast<index_t>(threadIdx.x); k < end;
       k += block_threads)
    squares += partial_sums(o)[k];
  squares = sum_over_block(squares);
  if (threadIdx.x == 0) *entry(o.work, o.norms, i) = std::sqrt(squares);
}

void launch_operation(const adamw_operation& o, cudaStream_t stream) {
  if (o.work.count == 0) return;
  launch_keeping(o, o.work.blocks, stream, []<class Real>(Real, auto keeps) { return adamw_kernel<Real, keeps>; });
  launch(adamw_norm_kernel, grid_of(o.work.count), dim3(block_threads), stream, o);
}

}  // namespace normuon
