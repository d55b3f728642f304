// Kernels of neurons: mean squares of an operand's lines, the factors made of them, and the diagonal of a square
// operand.
#include "launchers.cuh"
#include "reduce.cuh"
#include "walk.cuh"

namespace normuon {

// A warp's rows at a time: rows of a block, and threads of a row.
inline constexpr int warp_size = 32;
inline constexpr int warps = block_threads / warp_size;

// r_i <- the mean square of row i: each row by one warp, whose lanes take pieces in turn.
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) row_squares_kernel(const mean_squares_operation o) {
  const share s = equal_share(blocks_for(o.X.rows, warps));
  const auto lane = static_cast<index_t>(threadIdx.x) % warp_size;
  const index_t row = s.part * warps + static_cast<index_t>(threadIdx.x) / warp_size;
  const matrix_view X = matrix_of(o.X, s.matrix);
  double squares = 0;
  if (row < X.rows)
    for (index_t j = lane * piece; j < X.cols; j += warp_size * piece) {
      double x[piece];
      read_piece(X, {row, j, piece_length(X.cols - j)}, x);
      for (int k = 0; k < piece; ++k) squares = fused_multiply_add(x[k], x[k], squares);
    }
  for (int apart = warp_size / 2; apart > 0; apart /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, apart);
  if (lane == 0 && row < X.rows)
    vector_of<Real>(o.work, o.r, s.matrix)[row] = static_cast<Real>(squares / static_cast<double>(X.cols));
}

// r_j <- the mean square of column j: each block takes 32 columns, each warp every eighth row of them.
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks)
    column_squares_kernel(const mean_squares_operation o) {
  __shared__ double sums[warps][warp_size];
  const share s = equal_share(blocks_for(o.X.cols, warp_size));
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const index_t column = s.part * warp_size + lane;
  const matrix_view X = matrix_of(o.X, s.matrix);
  double squares = 0;
  if (column < X.cols)
    for (index_t i = warp; i < X.rows; i += warps) {
      const double x = element_at<double>(X, i * X.row_stride + column);
      squares = fused_multiply_add(x, x, squares);
    }
  sums[warp][lane] = squares;
  __syncthreads();
  if (warp != 0 || column >= X.cols) return;
  for (int k = 1; k < warps; ++k) squares += sums[k][lane];
  vector_of<Real>(o.work, o.r, s.matrix)[column] = static_cast<Real>(squares / static_cast<double>(X.rows));
}

// v <- second_moment(v, r, beta2);   f_i <- c d_i: one block a matrix
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) factors_kernel(const factors_operation o) {
  const auto i = static_cast<index_t>(blockIdx.x);
  if (!goes(o.work, i)) return;
  Real* const v = o.v.empty() ? nullptr : vector_of<Real>(o.work, o.v, i);
  Real* const f = vector_of<Real>(o.work, o.f, i);
  const Real* const r = vector_of<Real>(o.work, o.r, i);
  const double beta2 = *o.beta2;
  const auto deviation = [&](index_t k) {
    return v ? inverse_deviation(static_cast<double>(v[k]), o.formula.epsilon, o.formula.form) : 1.0;
  };
  double sum_o = 0, sum_n = 0;
  for (index_t k = static_cast<index_t>(threadIdx.x); k < o.length; k += block_threads) {
    const auto square = static_cast<double>(r[k]);
    if (v) v[k] = static_cast<Real>(second_moment(static_cast<double>(v[k]), square, beta2));
    const double d = deviation(k);
    sum_o += square;
    sum_n = fused_multiply_add(d * square, d, sum_n);  // d * d might overflow
  }
  sum_o = sum_over_block(sum_o);
  sum_n = sum_over_block(sum_n);
  const auto line = static_cast<double>(o.formula.axis == neuron_axis::columns ? o.formula.rows : o.formula.cols);
  const double c = scale_of_update(o.formula, std::sqrt(line * sum_o), std::sqrt(line * sum_n));
  const double most = std::is_same_v<Real, float> ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
  for (index_t k = static_cast<index_t>(threadIdx.x); k < o.length; k += block_threads) {
    const double x = c * deviation(k);
    f[k] = static_cast<Real>(most < x ? most : x);
  }
}

// P <- P + x I
__global__ void __launch_bounds__(block_threads, resident_blocks) identity_kernel(const identity_operation o) {
  const share s = equal_share(blocks_for(o.P.rows, block_threads));
  const index_t k = s.part * block_threads + static_cast<index_t>(threadIdx.x);
  const matrix_view P = matrix_of(o.P, s.matrix);
  if (k >= P.rows) return;
  const index_t at = k * (P.row_stride + 1);
  put_element(P, at, element_at<double>(P, at) + o.x);
}

void launch_operation(const mean_squares_operation& o, cudaStream_t stream) {
  if (o.X.rows == 0 || o.X.cols == 0) return;
  if (o.neurons == side::rows)
    launch_in_real(o, o.work.count * blocks_for(o.X.rows, warps), stream,
                   []<class Real>(Real) { return row_squares_kernel<Real>; });
  else
    launch_in_real(o, o.work.count * blocks_for(o.X.cols, warp_size), stream,
                   []<class Real>(Real) { return column_squares_kernel<Real>; });
}
void launch_operation(const factors_operation& o, cudaStream_t stream) {
  launch_in_real(o, o.work.count, stream, []<class Real>(Real) { return factors_kernel<Real>; });
}
void launch_operation(const identity_operation& o, cudaStream_t stream) {
  if (o.P.rows != 0 && o.P.count != 0)
    launch(identity_kernel, grid_of(o.P.count * blocks_for(o.P.rows, block_threads)), dim3(block_threads), stream, o);
}

}  // namespace normuon
