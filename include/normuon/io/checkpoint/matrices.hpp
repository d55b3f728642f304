// Copies strided matrices out of a backend's memory and into it, through the backend. Gaps between their elements are
// neither read nor written.
#ifndef NORMUON_IO_CHECKPOINT_MATRICES_HPP
#define NORMUON_IO_CHECKPOINT_MATRICES_HPP

#include <cstring>
#include <vector>

#include "normuon/optimizer/parameter.hpp"

namespace normuon {

// Row-major elements of a matrix and what of it lies in one piece, so that a contiguous matrix is one copy, a
// column-major one a copy a column, and only one without any unit stride a copy an element.
class matrix_pieces {
 public:
  explicit matrix_pieces(const matrix_view& v) : v_(v), by_columns_(v.col_stride != 1 && v.row_stride == 1) {
    const index_t along = by_columns_ ? v.rows : v.cols, across = by_columns_ ? v.cols : v.rows;
    const index_t stride = by_columns_ ? v.col_stride : v.row_stride, step = by_columns_ ? v.row_stride : v.col_stride;
    if (v.rows == 0 || v.cols == 0) return;
    length_ = step != 1 && along > 1 ? 1 : (across == 1 || stride == along ? along * across : along);
    for (index_t i = 0; i < across; ++i)
      for (index_t j = 0; j < along; j += length_) {
        if (static_cast<index_t>(starts_.size()) * length_ == along * across) return;
        starts_.push_back(i * stride + j * step);
      }
  }

  bool in_order() const { return !by_columns_; }
  std::size_t piece_bytes() const { return static_cast<std::size_t>(length_) * size_of(v_.type); }

  // Calls f(address in the matrix, offset in bytes among the pieces).
  template <class F>
  void for_each(F&& f) const {
    for (std::size_t k = 0; k < starts_.size(); ++k)
      f(static_cast<char*>(v_.data) + starts_[k] * static_cast<index_t>(size_of(v_.type)), k * piece_bytes());
  }

 private:
  matrix_view v_;
  bool by_columns_;
  index_t length_ = 0;
  std::vector<index_t> starts_;  // of pieces, in elements
};

// to (cols x rows) = from^T (rows x cols), of elements of `size` bytes.
inline void transpose(std::byte* to, const std::byte* from, index_t rows, index_t cols, std::size_t size) {
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < cols; ++j)
      std::memcpy(to + static_cast<std::size_t>(j * rows + i) * size,
                  from + static_cast<std::size_t>(i * cols + j) * size, size);
}

// The matrix's elements, row-major. Waits for the backend.
template <tensor_backend B>
void read_matrix(B& b, std::byte* out, const matrix_view& v) {
  const matrix_pieces pieces(v);
  std::vector<std::byte> turned(pieces.in_order() ? 0 : static_cast<std::size_t>(v.rows * v.cols) * size_of(v.type));
  std::byte* const to = pieces.in_order() ? out : turned.data();
  pieces.for_each([&](const void* at, std::size_t offset) { b.read(to + offset, at, pieces.piece_bytes()); });
  b.sync();
  if (!pieces.in_order()) transpose(out, to, v.cols, v.rows, size_of(v.type));
}

// Writes row-major elements into the matrix. Waits for the backend.
template <tensor_backend B>
void write_matrix(B& b, const matrix_view& v, const std::byte* elements) {
  const matrix_pieces pieces(v);
  std::vector<std::byte> turned(pieces.in_order() ? 0 : static_cast<std::size_t>(v.rows * v.cols) * size_of(v.type));
  if (!pieces.in_order()) transpose(turned.data(), elements, v.rows, v.cols, size_of(v.type));
  const std::byte* const from = pieces.in_order() ? elements : turned.data();
  pieces.for_each([&](void* at, std::size_t offset) { b.write(at, from + offset, pieces.piece_bytes()); });
  b.sync();
}

}  // namespace normuon

#endif
