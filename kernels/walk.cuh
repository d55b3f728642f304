// How the blocks of a launch share out the elements of a run, whatever the shapes, types and strides of its matrices.
#ifndef NORMUON_KERNELS_WALK_CUH
#define NORMUON_KERNELS_WALK_CUH

#include "access.cuh"

namespace normuon {

// This block's part of a run: matrix `matrix`, as the part numbered `part` of `parts`.
struct share {
  index_t matrix, part, parts;
};

// Finds it by bisection in the table of first blocks.
__device__ inline share share_of_block(const run_of_work& work) {
  const auto block = static_cast<index_t>(blockIdx.x);
  index_t low = 0, high = work.count;  // first_block[low] <= block < first_block[high]
  while (high - low > 1) {
    const index_t middle = (low + high) / 2;
    if (entry(work, work.first_block, middle) <= block) low = middle;
    else high = middle;
  }
  const index_t first = entry(work, work.first_block, low);
  return {low, block - first, entry(work, work.first_block, low + 1) - first};
}

// The same where all matrices have `parts` blocks.
__device__ inline share equal_share(index_t parts) {
  const auto block = static_cast<index_t>(blockIdx.x);
  return {block / parts, block % parts, parts};
}

// Turns views so that the first is walked as it is stored, and makes one line of each where all allow it. Those without
// memory are left alone.
template <std::size_t count>
__device__ void line_up(matrix_view (&v)[count]) {
  if (lies_by_columns(v[0]))
    for (std::size_t k = 0; k < count; ++k) v[k] = transposed(v[k]);
  bool flat = true;
  for (std::size_t k = 0; k < count; ++k)
    flat &= v[k].data == nullptr ||
            ((v[k].cols <= 1 || v[k].col_stride == 1) && (v[k].rows <= 1 || v[k].row_stride == v[k].cols));
  if (!flat) return;
  for (std::size_t k = 0; k < count; ++k) {
    v[k].cols *= v[k].rows;
    v[k].rows = v[k].rows < 1 ? v[k].rows : 1;
    v[k].col_stride = 1;
  }
}

// Calls f(place) for the pieces of the rows of a rows x cols matrix that this thread of this block takes: always the
// same ones in the same order for a shape and share.
template <class F>
__device__ void for_each_piece(index_t rows, index_t cols, const share& s, F&& f) {
  const index_t in_a_row = (cols + piece - 1) / piece;
  const index_t all = rows * in_a_row;
  for (index_t p = s.part * block_threads + static_cast<index_t>(threadIdx.x); p < all; p += s.parts * block_threads) {
    const index_t i = rows == 1 ? 0 : p / in_a_row;
    const index_t j = (p - i * in_a_row) * piece;
    f(place{i, j, piece_length(cols - j)});
  }
}

// Reads a piece, or zeros where there is no memory.
template <class Real>
__device__ void read_any(const matrix_view& v, const place& at, Real (&x)[piece]) {
  if (v.data) return read_piece(v, at, x);
  for (int k = 0; k < piece; ++k) x[k] = Real(0);
}

// Zeros: the change of a weight that is held back.
template <class Real>
__device__ void write_zeros(const matrix_view& out, const share& s) {
  matrix_view v[1] = {out};
  line_up(v);
  const Real zeros[piece] = {};
  for_each_piece(v[0].rows, v[0].cols, s, [&](const place& at) { write_piece(v[0], at, zeros); });
}

}  // namespace normuon

#endif
