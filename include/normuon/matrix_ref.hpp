// How a user shows us a weight or a gradient: a strided view of memory that stays the user's. Rows are neurons
// (outputs), always; any other storage is presented that way by strides. Standard library only.
#ifndef NORMUON_MATRIX_REF_HPP
#define NORMUON_MATRIX_REF_HPP

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "normuon/element_types.hpp"

namespace normuon {

using index_t = std::int64_t;

// A batch of rows x cols matrices; element (i, j) of matrix b lies at data[b*batch_stride + i*row_stride +
// j*col_stride]. Strides count elements and may be negative. Constness of the elements is in T. Owns nothing: the
// memory must stay where it is as long as a view of it is bound to an optimizer.
template <class T>
  requires element<std::remove_const_t<T>>
struct matrix_ref {
  T* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t row_stride = 0;
  index_t col_stride = 0;
  index_t batch = 1;
  index_t batch_stride = 0;

  constexpr T& operator()(index_t i, index_t j) const { return data[i * row_stride + j * col_stride]; }

  constexpr operator matrix_ref<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, rows, cols, row_stride, col_stride, batch, batch_stride};
  }

  // Matrix b of the batch alone. Throws if there is none.
  constexpr matrix_ref one(index_t b) const {
    if (b < 0 || b >= batch) fail(error_code::parameter, "expected a matrix of 0 to ", batch - 1, ", got ", b);
    return {data + b * batch_stride, rows, cols, row_stride, col_stride, 1, 0};
  }

  // Rows first to first + count - 1 of every matrix: the Q of a fused QKV, one head. Throws if they are not all there.
  constexpr matrix_ref row_block(index_t first, index_t count) const {
    if (first < 0 || count < 0 || first > rows - count)
      fail(error_code::parameter, "expected a block within ", rows, " rows, got ", count, " rows from row ", first);
    return {data + first * row_stride, count, cols, row_stride, col_stride, batch, batch_stride};
  }
};

// rows x cols, each row contiguous: the (out, in) weight of a linear layer in PyTorch, llm.c or ggml.
template <class T>
constexpr matrix_ref<T> row_major(T* data, index_t rows, index_t cols) {
  return {data, rows, cols, cols, 1, 1, 0};
}

// rows x cols, each column contiguous: (out, in) weights in Armadillo, mlpack, ArrayFire or Eigen's default order.
template <class T>
constexpr matrix_ref<T> column_major(T* data, index_t rows, index_t cols) {
  return {data, rows, cols, 1, rows, 1, 0};
}

// A weight stored (in, out), each input's weights contiguous, as in dlib, Keras or GPT-2's Conv1D: out x in, by
// strides.
template <class T>
constexpr matrix_ref<T> in_by_out(T* data, index_t in, index_t out) {
  return {data, out, in, 1, out, 1, 0};
}

// A bias, gain or any other vector of `count` numbers: a 1 x count matrix, for elementwise rules such as AdamW. Keep it
// out of matrix rules, which would take it for one neuron: NorMuon moves that by an RMS of 0.2 lr however small its
// gradient is.
template <class T>
constexpr matrix_ref<T> vector(T* data, index_t count) {
  return {data, 1, count, count, 1, 1, 0};
}

// `count` matrices like `first`, each `stride` elements after the one before: experts, stacked layers, heads.
template <class T>
constexpr matrix_ref<T> batched(matrix_ref<T> first, index_t count, index_t stride) {
  if (first.batch != 1) fail(error_code::parameter, "expected one matrix to repeat, got a batch of ", first.batch);
  first.batch = count;
  first.batch_stride = stride;
  return first;
}

// The order in which a contiguous convolution kernel lies in memory: o output channels, i input channels, s spatial.
enum class conv_order { ois, osi, sio };

// An N-d convolution kernel as one row per output channel. Columns are flattened in memory order, (i, s) for `ois`
// (PyTorch), (s, i) for `osi` (channels last) and `sio` (TensorFlow, Flax): the Newton-Schulz iteration commutes with a
// permutation of columns, so no copy is ever needed. `spatial` are the kernel's extents, e.g. {3, 3}.
template <class T>
constexpr matrix_ref<T> conv_kernel(T* data, index_t out_channels, index_t in_channels,
                                    std::initializer_list<index_t> spatial, conv_order order) {
  index_t inputs = in_channels;
  for (const index_t extent : spatial) inputs *= extent;
  return order == conv_order::sio ? in_by_out(data, inputs, out_channels) : row_major(data, out_channels, inputs);
}

}  // namespace normuon

#endif
