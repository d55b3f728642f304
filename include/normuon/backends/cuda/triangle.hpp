// A symmetric result as a block triangle: strided batches of products that cover its lower triangle and the squares on
// its diagonal, each element once; the rest is its mirror. Pure arithmetic.
#ifndef NORMUON_BACKENDS_CUDA_TRIANGLE_HPP
#define NORMUON_BACKENDS_CUDA_TRIANGLE_HPP

#include <algorithm>
#include <vector>

#include "normuon/matrix_ref.hpp"

namespace normuon {

// `count` blocks of rows x cols; block k begins at (row + k step, col + k step).
struct triangle_part {
  index_t row, col, rows, cols, count, step;
};

// Blocks begin at multiples of so many elements, which are 16 bytes of the narrowest type.
inline constexpr index_t block_unit = 8;

// The parts of an n x n result that is halved again and again, until blocks would have fewer rows than `least`; one
// part where it can't be halved. With p = 2^q blocks on the diagonal: squares below it, of side n/2, n/4, ..., n/p, the
// p squares on it, and what is left below, so q + 2 parts at most, and (p + 1) / 2p of the whole product's work.
inline std::vector<triangle_part> lower_triangle(index_t n, index_t least) {
  least = std::max(least, block_unit);
  index_t blocks = 1;
  while (n / (2 * blocks) / block_unit * block_unit >= least) blocks *= 2;
  if (blocks == 1) return {{0, 0, n, n, 1, 0}};
  const index_t side = n / blocks / block_unit * block_unit, whole = blocks * side;
  std::vector<triangle_part> parts;
  for (index_t s = whole / 2, count = 1; s >= side; s /= 2, count *= 2) parts.push_back({s, 0, s, s, count, 2 * s});
  parts.push_back({0, 0, side, side, blocks, side});
  if (whole < n) parts.push_back({whole, 0, n - whole, n, 1, 0});
  return parts;
}

// One call for several blocks of equal size: `count` blocks of one matrix, each `step` rows and columns after the one
// before, or where step is 0 the same block of `count` matrices. The first is of matrix `matrix`.
struct triangle_call {
  index_t matrix, row, col, rows, cols, count, step;
};

// The calls for `matrices` of them: along a matrix or across all, whichever are fewer.
inline std::vector<triangle_call> calls_for(const std::vector<triangle_part>& parts, index_t matrices) {
  std::vector<triangle_call> calls;
  for (const triangle_part& p : parts)
    if (p.count > matrices)
      for (index_t i = 0; i < matrices; ++i) calls.push_back({i, p.row, p.col, p.rows, p.cols, p.count, p.step});
    else
      for (index_t k = 0; k < p.count; ++k)
        calls.push_back({0, p.row + k * p.step, p.col + k * p.step, p.rows, p.cols, matrices, 0});
  return calls;
}

// The place of tile number `part` among those of a lower triangle, row by row.
struct tile_index {
  index_t row, col;
};
constexpr tile_index lower_tile(index_t part) {
  index_t row = 0, step = 1;  // the largest row with row (row + 1) / 2 <= part, by doubling and halving
  while ((row + step) * (row + step + 1) / 2 <= part) row += step, step *= 2;
  for (; step > 0; step /= 2)
    if ((row + step) * (row + step + 1) / 2 <= part) row += step;
  return {row, part - row * (row + 1) / 2};
}

}  // namespace normuon

#endif
