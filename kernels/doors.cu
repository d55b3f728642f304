// Kernels of the two doors between matrices of users and operands: the norm and the entry; D, and the step along it.
// Operands are walked in square tiles; where a user's matrix lies across, a tile turns in shared memory.
#include "launchers.cuh"
#include "reduce.cuh"
#include "weights.cuh"

namespace normuon {

inline constexpr int side_of_tile = static_cast<int>(tile_side);

template <class Real>
struct tile {
  Real x[side_of_tile][side_of_tile + 1];  // one more, so that a column lies in as many banks as a row
};

// The tile of this block: matrix, first row and column in the operand, and how much of it there is.
struct tile_place {
  index_t matrix, i0, j0;
  int rows, cols;
};

__device__ inline tile_place tile_of_block(const operand_view& X) {
  const index_t across = blocks_for(X.cols, tile_side);
  const share s = equal_share(across * blocks_for(X.rows, tile_side));
  const index_t i0 = s.part / across * tile_side, j0 = s.part % across * tile_side;
  const auto part = [](index_t left) { return static_cast<int>(left < tile_side ? left : tile_side); };
  return {s.matrix, i0, j0, part(X.rows - i0), part(X.cols - j0)};
}

inline index_t tiles_of(const operand_view& X) {
  if (X.rows == 0 || X.cols == 0) return 0;
  return X.count * blocks_for(X.rows, tile_side) * blocks_for(X.cols, tile_side);
}

// Calls f(row, col, n) for this thread's pieces of a tile of rows x cols: so many elements from (row, col) on.
template <class F>
__device__ void for_each_tile_piece(int rows, int cols, F&& f) {
  constexpr int in_a_row = side_of_tile / piece;
  const int col = static_cast<int>(threadIdx.x) % in_a_row * piece;
  if (col >= cols) return;
  const int n = cols - col < piece ? cols - col : piece;
  for (int row = static_cast<int>(threadIdx.x) / in_a_row; row < rows; row += block_threads / in_a_row) f(row, col, n);
}

// A user's matrix in the order of the operand that it enters or leaves: short side first.
__device__ inline matrix_view short_side_first(const matrix_view& v) { return v.rows > v.cols ? transposed(v) : v; }

__device__ inline scaled_entry* entries(const load_operation& o) {
  return reinterpret_cast<scaled_entry*>(o.work.scratch);
}
__device__ inline double* partials(const load_operation& o) {
  return reinterpret_cast<double*>(o.work.scratch + o.work.count * static_cast<index_t>(sizeof(scaled_entry)));
}
__device__ __host__ inline index_t norm_blocks(const load_operation& o) {
  return blocks_for(o.X.rows * o.X.cols, block_elements);
}

// The power of two that brings the largest magnitude near 1; 1 where there is none.
__device__ inline double unit_for(double most) {
  if (!(most > 0) || !is_finite(most)) return 1;
  const int exponent = static_cast<int>((std::bit_cast<std::uint64_t>(most) >> 52) & 0x7ff) - 1023;
  const int limited = exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent;
  return std::bit_cast<double>(static_cast<std::uint64_t>(1023 - limited) << 52);
}

// A partial result over U, row by row whatever its strides are, so that they don't change bits.
template <class Real, class F>
__device__ void over_rows(const load_operation& o, const share& s, F&& f) {
  const matrix_view U = entry(o.work, o.U, s.matrix);
  for_each_piece(U.rows, U.cols, s, [&](const place& at) {
    Real u[piece];
    read_piece(U, at, u);
    for (int k = 0; k < piece; ++k) f(u[k]);
  });
}

// Where U is double its squares might leave the range: first the largest magnitude,
__global__ void __launch_bounds__(block_threads, resident_blocks) largest_kernel(const load_operation o) {
  const share s = equal_share(norm_blocks(o));
  if (!goes(o.work, s.matrix)) return;
  double most = 0;
  over_rows<double>(o, s, [&](double u) {
    const double size = std::abs(u);
    most = most < size ? size : most;
  });
  most = largest_over_block(most);
  if (threadIdx.x == 0) partials(o)[blockIdx.x] = most;
}

// and the unit from it.
__global__ void __launch_bounds__(block_threads, resident_blocks) unit_kernel(const load_operation o) {
  const auto i = static_cast<index_t>(blockIdx.x);
  double most = 0;
  if (goes(o.work, i))
    for (index_t k = static_cast<index_t>(threadIdx.x); k < norm_blocks(o); k += block_threads) {
      const double part = partials(o)[i * norm_blocks(o) + k];
      most = most < part ? part : most;
    }
  most = largest_over_block(most);
  if (threadIdx.x == 0) entries(o)[i].unit = unit_for(most);
}

// Partial sums of the squares of unit * U.
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) squares_kernel(const load_operation o) {
  const share s = equal_share(norm_blocks(o));
  if (!goes(o.work, s.matrix)) return;
  const double unit = std::is_same_v<Real, double> ? entries(o)[s.matrix].unit : 1;
  double squares = 0;
  over_rows<Real>(o, s, [&](Real u) {
    const double x = unit * static_cast<double>(u);
    squares = fused_multiply_add(x, x, squares);
  });
  squares = sum_over_block(squares);
  if (threadIdx.x == 0) partials(o)[blockIdx.x] = squares;
}

// norms <- ||U||_F;   sound <- ok and U is finite;   and by what U is multiplied to enter
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) norm_kernel(const load_operation o) {
  const auto i = static_cast<index_t>(blockIdx.x);
  const bool go = goes(o.work, i);
  double squares = 0;
  if (go)
    for (index_t k = static_cast<index_t>(threadIdx.x); k < norm_blocks(o); k += block_threads)
      squares += partials(o)[i * norm_blocks(o) + k];
  squares = sum_over_block(squares);
  if (threadIdx.x != 0) return;
  scaled_entry& e = entries(o)[i];
  if constexpr (!std::is_same_v<Real, double>) e.unit = 1;
  e.norm = std::sqrt(squares);
  e.factor = inverse_norm(e.norm, e.unit, o.formula);
  const bool enters = go && (o.sound.empty() || is_finite(e.norm));
  e.enters = enters ? 1 : 0;
  if (go) *entry(o.work, o.norms, i) = e.norm / e.unit;
  if (!o.sound.empty()) *entry(o.work, o.sound, i) = enters ? 1 : 0;
}

// X <- (unit U) factor, rounded once to X's type; zeros where nothing enters.
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) enter_kernel(const load_operation o) {
  __shared__ tile<Real> turned;
  const tile_place t = tile_of_block(o.X);
  const matrix_view X = matrix_of(o.X, t.matrix);
  const scaled_entry e = entries(o)[t.matrix];
  const bool enters = e.enters != 0;
  const matrix_view U = enters ? short_side_first(entry(o.work, o.U, t.matrix)) : matrix_view();
  const bool across = enters && lies_by_columns(U);
  if (across) {
    const matrix_view columns = transposed(U);
    for_each_tile_piece(t.cols, t.rows, [&](int col, int row, int n) {
      Real u[piece];
      read_piece(columns, {t.j0 + col, t.i0 + row, n}, u);
      for (int k = 0; k < piece; ++k)
        if (k < n) turned.x[row + k][col] = u[k];
    });
    __syncthreads();
  }
  for_each_tile_piece(t.rows, t.cols, [&](int row, int col, int n) {
    Real u[piece] = {};
    if (across) {
      for (int k = 0; k < piece; ++k)
        if (k < n) u[k] = turned.x[row][col + k];
    } else if (enters) {
      read_piece(U, {t.i0 + row, t.j0 + col, n}, u);
    }
    double x[piece];
    for (int k = 0; k < piece; ++k) x[k] = enters ? static_cast<double>(u[k]) * e.unit * e.factor : 0.0;
    write_piece(X, {t.i0 + row, t.j0 + col, n}, x);
  });
}

// Calls f(view(v), place, d) for pieces of D = diag(f) X (or X diag(f)) that lie along the lines of `lead`, a user's
// matrix; `view` turns another such matrix the same way. d is rounded to Real.
template <class Real, class F>
__device__ void for_each_scaled_piece(const operand_view& operand, const Real* factors, side neurons,
                                      const matrix_view& lead, F&& f) {
  __shared__ tile<Real> turned;
  const tile_place t = tile_of_block(operand);
  const matrix_view X = matrix_of(operand, t.matrix);
  const bool tall = lead.rows > lead.cols;
  const bool across = lies_by_columns(short_side_first(lead));
  const auto read = [&](int row, int col, int n, Real(&d)[piece]) {
    read_piece(X, {t.i0 + row, t.j0 + col, n}, d);
    for (int k = 0; k < piece; ++k)
      if (k < n) d[k] = factors[neurons == side::rows ? t.i0 + row : t.j0 + col + k] * d[k];
  };
  const auto view = [&](const matrix_view& v) { return tall != across ? transposed(v) : v; };
  if (!across) {
    for_each_tile_piece(t.rows, t.cols, [&](int row, int col, int n) {
      Real d[piece];
      read(row, col, n, d);
      f(view, place{t.i0 + row, t.j0 + col, n}, d);
    });
    return;
  }
  for_each_tile_piece(t.rows, t.cols, [&](int row, int col, int n) {
    Real d[piece];
    read(row, col, n, d);
    for (int k = 0; k < piece; ++k)
      if (k < n) turned.x[row][col + k] = d[k];
  });
  __syncthreads();
  for_each_tile_piece(t.cols, t.rows, [&](int col, int row, int n) {
    Real d[piece] = {};
    for (int k = 0; k < piece; ++k)
      if (k < n) d[k] = turned.x[row + k][col];
    f(view, place{t.j0 + col, t.i0 + row, n}, d);
  });
}

// D <- diag(f) X, or X diag(f), turned back where D is tall
template <class Real>
__global__ void __launch_bounds__(block_threads, resident_blocks) store_kernel(const store_operation o) {
  const index_t i = tile_of_block(o.X).matrix;
  if (!goes(o.work, i)) return;
  const matrix_view D = entry(o.work, o.D, i);
  for_each_scaled_piece(o.X, vector_of<Real>(o.work, o.f, i), o.neurons, D,
                        [&](auto&& view, const place& at, const Real(&d)[piece]) { write_piece(view(D), at, d); });
}

// out <- the step along D from W, or its change; D stays in registers
template <class Real, bool keeps>
__global__ void __launch_bounds__(block_threads, resident_blocks) neuron_step_kernel(const neuron_step_operation o) {
  const index_t tiles = blocks_for(o.X.rows, tile_side) * blocks_for(o.X.cols, tile_side);
  const share s = equal_share(tiles);
  const matrix_view out = entry(o.work, o.out, s.matrix);
  if (!goes(o.work, s.matrix)) {
    if (o.formula.write == write_form::change) write_zeros<Real>(out, s);
    return;
  }
  const Real rate = static_cast<Real>(*o.rate), decay = static_cast<Real>(*o.decay);
  const matrix_view W = entry(o.work, o.W, s.matrix);
  const weight_access<Real, keeps> weights(o.work, o.low, s.matrix, W);
  for_each_scaled_piece(o.X, vector_of<Real>(o.work, o.f, s.matrix), o.neurons, W,
                        [&](auto&& view, const place& at, const Real(&d)[piece]) {
                          Real w[piece];
                          weights.read(view(W), view(weights.master), at, w);
                          for (int k = 0; k < piece; ++k) w[k] = updated(w[k], d[k], rate, decay, o.formula);
                          weights.write(view(out), view(weights.master), view(weights.numbers), at, w);
                        });
}

void launch_operation(const load_operation& o, cudaStream_t stream) {
  if (o.work.count == 0) return;
  if (o.work.real == element_type::float64) {
    launch(largest_kernel, grid_of(o.work.count * norm_blocks(o)), dim3(block_threads), stream, o);
    launch(unit_kernel, grid_of(o.work.count), dim3(block_threads), stream, o);
  }
  launch_in_real(o, o.work.count * norm_blocks(o), stream, []<class Real>(Real) { return squares_kernel<Real>; });
  launch_in_real(o, o.work.count, stream, []<class Real>(Real) { return norm_kernel<Real>; });
  launch_in_real(o, tiles_of(o.X), stream, []<class Real>(Real) { return enter_kernel<Real>; });
}
void launch_operation(const store_operation& o, cudaStream_t stream) {
  launch_in_real(o, tiles_of(o.X), stream, []<class Real>(Real) { return store_kernel<Real>; });
}
void launch_operation(const neuron_step_operation& o, cudaStream_t stream) {
  launch_keeping(o, tiles_of(o.X), stream,
                 []<class Real>(Real, auto keeps) { return neuron_step_kernel<Real, keeps>; });
}

}  // namespace normuon
