// Matrices, slots and vectors in a backend's own memory, which the host may not be able to touch: the conformance suite
// fills them by `write` and looks at them by `read`. Each time it also looks whether anything beside them was written.
#ifndef NORMUON_TESTING_CONFORMANCE_DEVICE_MEMORY_HPP
#define NORMUON_TESTING_CONFORMANCE_DEVICE_MEMORY_HPP

#include <doctest/doctest.h>

#include <cstring>

#include "normuon/testing/conformance/reference.hpp"

namespace normuon::testing {

// x as a number of type `type`.
inline double rounded_to(element_type type, double x) {
  return with_element_type(type, [&]<element T>(T) { return static_cast<double>(static_cast<T>(x)); });
}

// The largest relative error of one rounding to `type`.
constexpr double roundoff_of(element_type type) {
  switch (type) {
    case element_type::float64: return unit_roundoff(compute_type::float64);
    case element_type::float32: return unit_roundoff(compute_type::float32);
    case element_type::bfloat16: return unit_roundoff(compute_type::bfloat16);
    case element_type::float16: return unit_roundoff(compute_type::float16);
  }
  return 0;
}

template <tensor_backend B>
inline constexpr element_type state_type = element_type_of<typename B::real>;

template <tensor_backend B>
inline constexpr double state_roundoff = roundoff_of(state_type<B>);

template <tensor_backend B>
std::vector<element_type> types_taken() {
  std::vector<element_type> types;
  for (const auto type : {element_type::float64, element_type::float32, element_type::bfloat16, element_type::float16})
    if (B::takes(type)) types.push_back(type);
  return types;
}

template <tensor_backend B>
std::vector<compute_type> types_computed() {
  std::vector<compute_type> types;
  for (const auto type : {compute_type::float64, compute_type::float32, compute_type::bfloat16, compute_type::float16,
                          compute_type::tensor_float32})
    if (B::computes(type)) types.push_back(type);
  return types;
}

// How a matrix lies in memory: with gaps between its rows, its columns or all elements, or backwards.
enum class layout { rows, columns, spread, backwards };
inline constexpr int layout_count = 4;

// A run of matrices, each in memory of its own. What lies around the elements is NaN in every type, so that an
// operation which reads there is found as well.
template <tensor_backend B>
class device_matrices {
 public:
  // Matrix i holds x[i], rounded to types[(variant + i) % types.size()], in a layout that varies likewise.
  device_matrices(B& b, const std::vector<element_type>& types, std::vector<matrix> x, int variant = 0) : b_(&b) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t k = static_cast<std::size_t>(variant) + i;
      const auto l = static_cast<layout>((k / types.size() + i) % layout_count);
      add(types[k % types.size()], l, x[i]);
    }
  }
  // One matrix.
  device_matrices(B& b, element_type type, layout l, const matrix& x) : b_(&b) { add(type, l, x); }

  operator views() const { return views_; }
  std::size_t count() const { return views_.size(); }
  element_type type(std::size_t i) const { return views_[i].type; }

  // The table with a null pointer for matrix i: nobody may read or write it.
  std::vector<matrix_view> without(std::size_t i) const {
    std::vector<matrix_view> table = views_;
    table[i].data = nullptr;
    return table;
  }

  void set(std::size_t i, const matrix& x) {
    with_element_type(type(i), [&]<element T>(T) {
      for (index_t r = 0; r < x.rows; ++r)
        for (index_t c = 0; c < x.cols; ++c) {
          const T entry = static_cast<T>(x(r, c));
          std::memcpy(written_[i].data() + offset(i, r, c), &entry, sizeof entry);
        }
    });
    b_->write(memory_[i].data(), written_[i].data(), written_[i].size());
  }

  // What was written by `set`, as it was rounded; and what is there now.
  matrix given(std::size_t i) const { return decoded(i, written_[i]); }
  matrix get(std::size_t i) {
    std::vector<std::byte> now = bytes(i), around = now;
    for (index_t r = 0; r < views_[i].rows; ++r)
      for (index_t c = 0; c < views_[i].cols; ++c)
        std::copy_n(written_[i].begin() + static_cast<std::ptrdiff_t>(offset(i, r, c)), size_of(type(i)),
                    around.begin() + static_cast<std::ptrdiff_t>(offset(i, r, c)));
    INFO("memory between the elements");
    CHECK(around == written_[i]);
    return decoded(i, now);
  }

  bool unchanged(std::size_t i) { return bytes(i) == written_[i]; }
  bool unchanged() {
    for (std::size_t i = 0; i < count(); ++i)
      if (!unchanged(i)) return false;
    return true;
  }

 private:
  void add(element_type type, layout l, const matrix& x) {
    matrix_view v;
    v.type = type, v.rows = x.rows, v.cols = x.cols;
    index_t first = 0, length = 0;
    switch (l) {
      case layout::rows: v.row_stride = x.cols + 1, v.col_stride = 1, length = x.rows * (x.cols + 1); break;
      case layout::columns: v.row_stride = 1, v.col_stride = x.rows + 1, length = x.cols * (x.rows + 1); break;
      case layout::spread: v.row_stride = 2 * x.cols + 3, v.col_stride = 2, length = x.rows * v.row_stride; break;
      case layout::backwards: v.row_stride = -x.cols - 1, v.col_stride = -1, length = x.rows * (x.cols + 1); break;
    }
    if (l == layout::backwards && x.size() != 0) first = length - 1;
    const std::size_t bytes = static_cast<std::size_t>(length) * size_of(type);
    memory_.push_back(b_->allocate(bytes));
    written_.emplace_back(bytes, std::byte{0xff});
    first_.push_back(first);
    v.data = memory_.back().data() + first * static_cast<index_t>(size_of(type));
    views_.push_back(v);
    set(views_.size() - 1, x);
  }

  std::size_t offset(std::size_t i, index_t r, index_t c) const {
    const index_t at = first_[i] + r * views_[i].row_stride + c * views_[i].col_stride;
    return static_cast<std::size_t>(at) * size_of(type(i));
  }

  std::vector<std::byte> bytes(std::size_t i) {
    std::vector<std::byte> now(written_[i].size());
    b_->read(now.data(), memory_[i].data(), now.size());
    b_->sync();
    return now;
  }

  matrix decoded(std::size_t i, const std::vector<std::byte>& bytes) const {
    matrix x(views_[i].rows, views_[i].cols);
    with_element_type(type(i), [&]<element T>(T entry) {
      for (index_t r = 0; r < x.rows; ++r)
        for (index_t c = 0; c < x.cols; ++c) {
          std::memcpy(&entry, bytes.data() + offset(i, r, c), sizeof entry);
          x(r, c) = static_cast<double>(entry);
        }
    });
    return x;
  }

  B* b_;
  std::vector<typename B::memory> memory_;
  std::vector<std::vector<std::byte>> written_;
  std::vector<index_t> first_;
  std::vector<matrix_view> views_;
};

// Vectors of T, one for each row of a matrix that says what they hold.
template <tensor_backend B, class T>
class device_vectors {
 public:
  device_vectors(B& b, const matrix& x)
      : b_(&b), rows_(x.rows), cols_(x.cols), memory_(b.allocate(static_cast<std::size_t>(x.size()) * sizeof(T))) {
    for (index_t i = 0; i < rows_; ++i)
      table_.push_back(static_cast<T*>(static_cast<void*>(memory_.data())) + i * cols_);
    set(x);
  }

  operator std::span<T* const>() const { return table_; }
  operator vectors<T>() const { return {table_, cols_}; }
  T* operator[](std::size_t i) const { return table_[i]; }

  void set(const matrix& x) {
    std::vector<T> values;
    for (const double entry : x.values) values.push_back(static_cast<T>(entry));
    b_->write(memory_.data(), values.data(), values.size() * sizeof(T));
  }
  matrix get() {
    std::vector<T> values(static_cast<std::size_t>(rows_ * cols_));
    b_->read(values.data(), memory_.data(), values.size() * sizeof(T));
    b_->sync();
    matrix x(rows_, cols_);
    std::copy(values.begin(), values.end(), x.values.begin());
    return x;
  }

 private:
  B* b_;
  index_t rows_, cols_;
  typename B::memory memory_;
  std::vector<T*> table_;
};

template <tensor_backend B>
using device_slots = device_vectors<B, double>;

// One number a row: what slots hold.
inline matrix column(std::vector<double> x) {
  matrix m(static_cast<index_t>(x.size()), 1);
  m.values = std::move(x);
  return m;
}

struct extent {
  index_t rows, cols;
};

// Nothing, one, lines, odd sizes of both orientations, whole tiles, and lines longer than any vector or buffer.
inline constexpr extent awkward_extents[] = {{0, 0},   {1, 1},   {1, 9},   {9, 1},  {17, 29},
                                             {29, 17}, {64, 64}, {3, 301}, {301, 3}};

inline std::vector<matrix> random_run(extent e, index_t count, int seed) {
  std::vector<matrix> run;
  for (index_t i = 0; i < count; ++i)
    run.push_back(random_matrix(e.rows, e.cols, static_cast<std::uint64_t>(seed) * 64 + static_cast<std::uint64_t>(i)));
  return run;
}

// Calls f(extent, count, variant) for runs of one and three matrices of all awkward extents, with so many variants that
// device_matrices puts every type into every layout.
template <tensor_backend B, class F>
void for_each_awkward_run(F&& f) {
  for (const extent e : awkward_extents)
    for (int variant = 0; variant < layout_count * static_cast<int>(types_taken<B>().size()); ++variant) {
      CAPTURE(e.rows);
      CAPTURE(e.cols);
      CAPTURE(variant);
      f(e, index_t{variant % 2 == 0 ? 1 : 3}, variant);
    }
}

}  // namespace normuon::testing

#endif
