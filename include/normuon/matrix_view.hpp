// A matrix_ref whose element type is a value: what operations receive, so that one table can hold matrices of several
// types. It erases constness as well: an operation writes its outputs, which come first, and nothing else.
#ifndef NORMUON_MATRIX_VIEW_HPP
#define NORMUON_MATRIX_VIEW_HPP

#include <span>

#include "normuon/matrix_ref.hpp"

namespace normuon {

// One matrix, never a batch. `data` may be null: an absent gradient.
struct matrix_view {
  void* data = nullptr;
  element_type type = element_type::float32;
  index_t rows = 0;
  index_t cols = 0;
  index_t row_stride = 0;
  index_t col_stride = 0;

  matrix_view() = default;
  template <class T>
  matrix_view(const matrix_ref<T>& ref)
      : data(const_cast<std::remove_const_t<T>*>(ref.data)),
        type(element_type_of<std::remove_const_t<T>>),
        rows(ref.rows),
        cols(ref.cols),
        row_stride(ref.row_stride),
        col_stride(ref.col_stride) {}

  // Whether its columns are the lines in which it lies, and not its rows.
  bool is_stored_by_columns() const {
    const auto size = [](index_t stride) { return stride < 0 ? -stride : stride; };
    return rows != 1 && (cols == 1 || size(row_stride) < size(col_stride));
  }

  // The view as a matrix_ref<T>; T must be the type it holds.
  template <element T>
  matrix_ref<T> as() const {
    return {static_cast<T*>(data), rows, cols, row_stride, col_stride, 1, 0};
  }
};

// rows x cols elements of a type that is a value, each row contiguous.
inline matrix_view row_major_of(element_type type, void* data, index_t rows, index_t cols) {
  matrix_view v;
  v.data = data;
  v.type = type;
  v.rows = rows;
  v.cols = v.row_stride = cols;
  v.col_stride = 1;
  return v;
}

// The matrices of a run, one view each.
using views = std::span<const matrix_view>;

}  // namespace normuon

#endif
