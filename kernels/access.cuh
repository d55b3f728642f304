// How kernels touch matrices of any type and strides: in pieces of eight elements along a line, by accesses of 16 bytes
// where a piece lies so.
#ifndef NORMUON_KERNELS_ACCESS_CUH
#define NORMUON_KERNELS_ACCESS_CUH

#include "launch.cuh"
#include "normuon/backends/cuda/kernels.hpp"

namespace normuon {

inline constexpr int piece = 8;

// Entry i of an operation's table.
template <class T>
__device__ const T& entry(const run_of_work& work, table<T> t, index_t i) {
  return reinterpret_cast<const T*>(work.tables + t.offset)[i];
}
template <class Real>
__device__ Real* vector_of(const run_of_work& work, table<std::byte*> t, index_t i) {
  return reinterpret_cast<Real*>(entry(work, t, i));
}

// False where a flag of 0 protects matrix i.
__device__ inline bool goes(const run_of_work& work, index_t i) {
  return work.ok.empty() || *entry(work, work.ok, i) != 0;
}

// One element as a Real; rounded once where it is written.
template <class Real>
__device__ Real element_at(const matrix_view& v, index_t at) {
  switch (v.type) {
    case element_type::float64: return static_cast<Real>(static_cast<const double*>(v.data)[at]);
    case element_type::float32: return static_cast<Real>(static_cast<const float*>(v.data)[at]);
    case element_type::bfloat16: return static_cast<Real>(static_cast<const bfloat16*>(v.data)[at]);
    default: return static_cast<Real>(static_cast<const float16*>(v.data)[at]);
  }
}
template <class Real>
__device__ void put_element(const matrix_view& v, index_t at, Real x) {
  switch (v.type) {
    case element_type::float64: static_cast<double*>(v.data)[at] = static_cast<double>(x); break;
    case element_type::float32: static_cast<float*>(v.data)[at] = static_cast<float>(x); break;
    case element_type::bfloat16: static_cast<bfloat16*>(v.data)[at] = static_cast<bfloat16>(x); break;
    default: static_cast<float16*>(v.data)[at] = static_cast<float16>(x); break;
  }
}

// What 16 bytes hold.
template <class T>
struct packet {
  static constexpr int count = 16 / static_cast<int>(sizeof(T));
  T x[static_cast<std::size_t>(count)];
};

template <class Real, class T>
__device__ void read_packets(const T* from, Real (&x)[piece]) {
  const uint4* const words = reinterpret_cast<const uint4*>(from);
  for (int k = 0; k < piece / packet<T>::count; ++k) {
    const auto p = std::bit_cast<packet<T>>(words[k]);
    for (int e = 0; e < packet<T>::count; ++e) x[k * packet<T>::count + e] = static_cast<Real>(p.x[e]);
  }
}
template <class Real, class T>
__device__ void write_packets(T* to, const Real (&x)[piece]) {
  uint4* const words = reinterpret_cast<uint4*>(to);
  for (int k = 0; k < piece / packet<T>::count; ++k) {
    packet<T> p;
    for (int e = 0; e < packet<T>::count; ++e) p.x[e] = static_cast<T>(x[k * packet<T>::count + e]);
    words[k] = std::bit_cast<uint4>(p);
  }
}

// Elements (i, j) to (i, j + n - 1) of a matrix, n <= 8.
struct place {
  index_t i, j;
  int n;
};

template <class T>
__device__ bool in_packets(const matrix_view& v, const place& at, const T* address) {
  return at.n == piece && v.col_stride == 1 && reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

template <class Real>
__device__ void read_piece(const matrix_view& v, const place& at, Real (&x)[piece]) {
  const index_t first = at.i * v.row_stride + at.j * v.col_stride;
  const auto read = [&]<class T>(const T* data) {
    if (in_packets(v, at, data + first)) return read_packets(data + first, x);
    for (int k = 0; k < piece; ++k) x[k] = k < at.n ? static_cast<Real>(data[first + k * v.col_stride]) : Real(0);
  };
  switch (v.type) {
    case element_type::float64: return read(static_cast<const double*>(v.data));
    case element_type::float32: return read(static_cast<const float*>(v.data));
    case element_type::bfloat16: return read(static_cast<const bfloat16*>(v.data));
    default: return read(static_cast<const float16*>(v.data));
  }
}

template <class Real>
__device__ void write_piece(const matrix_view& v, const place& at, const Real (&x)[piece]) {
  const index_t first = at.i * v.row_stride + at.j * v.col_stride;
  const auto write = [&]<class T>(T* data) {
    if (in_packets(v, at, data + first)) return write_packets(data + first, x);
    for (int k = 0; k < piece; ++k)
      if (k < at.n) data[first + k * v.col_stride] = static_cast<T>(x[k]);
  };
  switch (v.type) {
    case element_type::float64: return write(static_cast<double*>(v.data));
    case element_type::float32: return write(static_cast<float*>(v.data));
    case element_type::bfloat16: return write(static_cast<bfloat16*>(v.data));
    default: return write(static_cast<float16*>(v.data));
  }
}

// The matrix whose rows are v's columns.
__device__ inline matrix_view transposed(matrix_view v) {
  matrix_view t = v;
  t.rows = v.cols, t.cols = v.rows, t.row_stride = v.col_stride, t.col_stride = v.row_stride;
  return t;
}

// True where a matrix is better walked along its columns.
__device__ inline bool lies_by_columns(const matrix_view& v) {
  const auto size = [](index_t stride) { return stride < 0 ? -stride : stride; };
  return v.rows > 1 && v.cols > 1 && size(v.row_stride) < size(v.col_stride);
}

// Matrix i of an operand.
__device__ inline matrix_view matrix_of(const operand_view& X, index_t i) {
  const index_t size = X.type == element_type::float64 ? 8 : X.type == element_type::float32 ? 4 : 2;
  matrix_view v;
  v.data = X.data + i * X.stride() * size;
  v.type = X.type, v.rows = X.rows, v.cols = X.cols, v.row_stride = X.leading, v.col_stride = 1;
  return v;
}

__device__ inline int piece_length(index_t left) { return left < piece ? static_cast<int>(left) : piece; }

}  // namespace normuon

#endif
