// The kernel that mirrors the lower triangle of a square operand: what block triangles leave to it.
#include "launchers.cuh"
#include "normuon/backends/cuda/triangle.hpp"
#include "walk.cuh"

namespace normuon {

// Numbers are moved and not looked at, so that types of one size are one.
inline constexpr int mirror_tile = 32, mirror_rows = block_threads / mirror_tile;

__device__ __host__ inline index_t mirror_tiles(const operand_view& P) {
  const index_t across = blocks_for(P.rows, mirror_tile);
  return across * (across + 1) / 2;
}

// Each block takes one tile of the lower triangle, turns it, and writes it where its mirror lies.
template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks) mirror_kernel(const mirror_operation o) {
  __shared__ T turned[mirror_tile][mirror_tile + 1];
  const auto n = static_cast<int>(o.P.rows);
  const share s = equal_share(mirror_tiles(o.P));
  const tile_index tile = lower_tile(s.part);
  const int col = static_cast<int>(threadIdx.x) % mirror_tile, first = static_cast<int>(threadIdx.x) / mirror_tile;
  const int i0 = static_cast<int>(tile.row) * mirror_tile, j0 = static_cast<int>(tile.col) * mirror_tile;
  T* const P = reinterpret_cast<T*>(o.P.data) + s.matrix * o.P.stride();
  for (int row = first; row < mirror_tile; row += mirror_rows)
    if (i0 + row < n && j0 + col < n) turned[row][col] = P[(i0 + row) * o.P.leading + j0 + col];
  __syncthreads();
  for (int row = first; row < mirror_tile; row += mirror_rows)
    if (j0 + row < n && i0 + col < n && j0 + row < i0 + col) P[(j0 + row) * o.P.leading + i0 + col] = turned[col][row];
}

void launch_operation(const mirror_operation& o, cudaStream_t stream) {
  if (o.P.rows < 2 || o.P.count == 0) return;
  const dim3 grid = grid_of(o.P.count * mirror_tiles(o.P)), block(block_threads);
  switch (size_of(o.P.type)) {
    case 8: return launch(mirror_kernel<double>, grid, block, stream, o);
    case 4: return launch(mirror_kernel<float>, grid, block, stream, o);
    default: return launch(mirror_kernel<std::uint16_t>, grid, block, stream, o);
  }
}

}  // namespace normuon
