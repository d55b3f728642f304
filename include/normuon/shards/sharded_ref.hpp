// How a user shows us the part of a weight or a gradient that this rank holds. Standard library only.
#ifndef NORMUON_SHARDS_SHARDED_REF_HPP
#define NORMUON_SHARDS_SHARDED_REF_HPP

#include <utility>
#include <vector>

#include "normuon/shards/layout.hpp"

namespace normuon {

// What a rank holds of the rows x cols matrices that ranks hold together: a view for each rectangle that the layout
// gives it, in their order; of a batch, the same rectangle of every matrix. No views where it holds nothing.
template <class T>
struct sharded_ref {
  layout how;
  index_t rows, cols;
  std::vector<matrix_ref<T>> parts;
  index_t batch = 1;
};

inline void check_part(const layout& how, index_t rows, index_t cols, int rank, int ranks) {
  if (rows < 0 || cols < 0) fail(error_code::parameter, "shard: expected sizes >= 0, got ", rows, " x ", cols);
  if (rank < 0 || rank >= ranks)
    fail(error_code::option, "shard: expected a rank of at least 0 and below the number of ranks, got ", rank, " of ",
         ranks);
  how.check("shard", rows, cols, ranks);
}

// The part of `rank` that lies at `data` and nothing else does: rectangle after rectangle, each row-major. A block of
// rows, a block of columns, and a slice of a flat buffer lie so. Of a batch, every matrix has all its rectangles before
// the next begins.
template <class T>
sharded_ref<T> shard(T* data, index_t rows, index_t cols, const layout& how, int rank, int ranks, index_t batch = 1) {
  check_part(how, rows, cols, rank, ranks);
  sharded_ref<T> ref{how, rows, cols, {}, batch};
  const index_t stride = how.held(rows, cols, rank, ranks);
  for (const rectangle& r : how.rectangles(rows, cols, rank, ranks)) {
    ref.parts.push_back(row_major(data, r.rows, r.cols));
    ref.parts.back().batch = batch;
    ref.parts.back().batch_stride = stride;
    data += r.elements();
  }
  return ref;
}

// The part of `rank` in matrices that this process has whole: what it steps of a data-parallel weight whose optimizer
// state is spread over the ranks.
template <class T>
sharded_ref<T> shard(const matrix_ref<T>& whole, const layout& how, int rank, int ranks) {
  check_part(how, whole.rows, whole.cols, rank, ranks);
  sharded_ref<T> ref{how, whole.rows, whole.cols, {}, whole.batch};
  for (const rectangle& r : how.rectangles(whole.rows, whole.cols, rank, ranks)) {
    matrix_ref<T> part = whole.row_block(r.row, r.rows);
    part.data += r.col * part.col_stride;
    part.cols = r.cols;
    ref.parts.push_back(part);
  }
  return ref;
}

}  // namespace normuon

#endif
