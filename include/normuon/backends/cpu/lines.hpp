// How passes over a user's matrices touch memory: line by line, in place or in chunks that a first-level cache holds,
// converted to the type that is computed in. What differs between element types and strides ends here.
#ifndef NORMUON_BACKENDS_CPU_LINES_HPP
#define NORMUON_BACKENDS_CPU_LINES_HPP

#include <algorithm>
#include <type_traits>

#include "normuon/backends/cpu/vectorized.hpp"
#include "normuon/math/formulas.hpp"
#include "normuon/matrix_view.hpp"

namespace normuon {

// Numbers in a chunk: few enough that a processor already asks memory for the next one's while it computes, and enough
// that the calls around one don't count.
inline constexpr index_t chunk_length = 128;

// Numbers that are walked at once where they lie as the reals that are computed with.
inline constexpr index_t stretch_length = 8 * chunk_length;

template <class Real>
using chunk = Real[chunk_length];

// The lines in which a matrix is walked: its rows, or its columns where those are the contiguous ones.
struct line_order {
  bool by_rows = true;
  index_t count = 0;               // lines
  index_t length = 0;              // elements of a line
  index_t at_once = chunk_length;  // elements of a line that are walked at once: more only of arrays of reals
  index_t together = 1;            // lines whose pieces are walked one after the other: more only with lines_across

  bool are_arrays() const { return at_once >= stretch_length; }

  static line_order of_rows(const matrix_view& v) { return {true, v.rows, v.cols}; }
  static line_order as_stored(const matrix_view& v) {
    return v.is_stored_by_columns() ? line_order{false, v.cols, v.rows} : of_rows(v);
  }
};

// Elements first to first + n - 1 of one line of a view.
struct segment {
  const matrix_view& view;
  const line_order& order;
  index_t line, first, n;

  [[gnu::always_inline]] index_t step() const { return order.by_rows ? view.col_stride : view.row_stride; }
  template <element T>
  [[gnu::always_inline]] T* start() const {
    return static_cast<T*>(view.data) + line * (order.by_rows ? view.row_stride : view.col_stride) + first * step();
  }
};

// The segment converted into `buffer`; and reals written to it, each rounded once to its element type. Out of line:
// four types for each of a pass's matrices would otherwise be compiled into every pass.
template <class Real>
[[gnu::noinline]] void convert_from(const segment& s, Real* buffer) {
  with_element_type(s.view.type, [&]<element T>(T) {
    vectorized([=, from = s.start<T>(), step = s.step(), n = s.n] {
      if (step == 1)
        for (index_t k = 0; k < n; ++k) buffer[k] = static_cast<Real>(from[k]);
      else
        for (index_t k = 0; k < n; ++k) buffer[k] = static_cast<Real>(from[k * step]);
    });
  });
}
template <class Real>
[[gnu::noinline]] void convert_to(const segment& s, const Real* from) {
  with_element_type(s.view.type, [&]<element T>(T) {
    vectorized([=, to = s.start<T>(), step = s.step(), n = s.n] {
      if (step == 1)
        for (index_t k = 0; k < n; ++k) to[k] = static_cast<T>(from[k]);
      else
        for (index_t k = 0; k < n; ++k) to[k * step] = static_cast<T>(from[k]);
    });
  });
}

// Whether the segment lies in memory as an array of reals.
template <class Real>
[[gnu::always_inline]] inline bool is_array_of(const segment& s) {
  return s.step() == 1 && s.view.type == element_type_of<Real>;
}

// The same lines, in stretches where those of all matrices are arrays of reals.
template <class Real, class... Views>
line_order in_stretches(const line_order& order, const Views&... matrices) {
  const bool are_arrays = (is_array_of<Real>(segment{matrices, order, 0, 0, 0}) && ...);
  return {order.by_rows, order.count, order.length, are_arrays ? stretch_length : chunk_length};
}

// That, and in one line where the lines of each matrix lie behind one another.
template <class Real, class... Views>
line_order joined(const line_order& order, const Views&... matrices) {
  const line_order lines = in_stretches<Real>(order, matrices...);
  const bool dense = (((order.by_rows ? matrices.row_stride : matrices.col_stride) == order.length) && ...);
  if (!dense || !lines.are_arrays()) return lines;
  return {order.by_rows, 1, order.count * order.length, stretch_length};
}

// The segment as reals that may be changed: in place where it lies so, else converted into `buffer`. Where they are
// changed, what was returned is to be given to `write` for the same segment.
template <class Real>
[[gnu::always_inline]] inline Real* open(const segment& s, chunk<Real>& buffer) {
  if (is_array_of<Real>(s)) return s.start<Real>();
  convert_from(s, static_cast<Real*>(buffer));
  return buffer;
}

// The same, to be read only.
template <class Real>
[[gnu::always_inline]] inline const Real* read(const segment& s, chunk<Real>& buffer) {
  return open(s, buffer);
}

// Where to put reals that are then given to `write` for the segment: there itself where they lie so.
template <class Real>
[[gnu::always_inline]] inline Real* place(const segment& s, chunk<Real>& buffer) {
  return is_array_of<Real>(s) ? s.start<Real>() : buffer;
}

// Writes reals to the segment, unless they lie there already.
template <class Real>
[[gnu::always_inline]] inline void write(const segment& s, const Real* from) {
  if (!is_array_of<Real>(s)) convert_to(s, from);
  else if (from != s.start<Real>()) std::copy_n(from, s.n, s.start<Real>());
}

// What leaves an operand at once, multiplied by its factors: rows `row` on and columns `col` on of what has the user's
// shape, or its transpose's where the user's matrix is walked so. `numbers` are reals, rounded once.
template <class Real>
struct scaled_block {
  index_t row, height, col, width;  // width: at most chunk_length
  chunk<Real>* numbers;
};

// Calls f(line, first, n) for all pieces of at most order.at_once elements, in order.
template <class F>
void for_each_chunk(const line_order& order, F&& f) {
  for (index_t begin = 0; begin < order.count; begin += order.together)
    for (index_t first = 0; first < order.length; first += order.at_once)
      for (index_t line = begin; line < std::min(order.count, begin + order.together); ++line)
        f(line, first, std::min(order.at_once, order.length - first));
}

// Reads lines of a matrix, whichever way it is stored. Where that is across them, a block of lines is read at once, for
// what memory brings of one line holds numbers of the next ones too, and what the next block needs is asked for
// meanwhile, as processors foresee no strides beyond a page. Not where all lines are one (a stride of 0), nor of
// float16, which takes longer to convert than to wait for.
template <class Real>
class lines_across {
 public:
  // Makes `order` walk lines together where that is needed. Pieces are to be read in the order of for_each_chunk.
  lines_across(const matrix_view& v, line_order& order) : view_(v), order_(order) {
    is_across_ = v.is_stored_by_columns() == order.by_rows && segment{v, order, 0, 0, 0}.step() != 1 &&
                 order.count > 1 && v.type != element_type::float16;
    if (is_across_) order.together = most;
  }

  const Real* read(index_t line, index_t first, index_t n) {
    if (!is_across_) return normuon::read<Real>({view_, order_, line, first, n}, lines_[0]);
    if (line % most == 0) read_block(line, first, n);
    return lines_[line % most];
  }

 private:
  static constexpr index_t most = 32;

  [[gnu::noinline]] void read_block(index_t line, index_t first, index_t n) {
    const line_order stored{!order_.by_rows, order_.length, order_.count};
    const auto block = [&](index_t l, index_t f) {
      return segment{view_, stored, f, l, std::clamp<index_t>(order_.count - l, 0, most)};
    };
    const bool goes_on = first + n < order_.length;  // along these lines
    const segment s = block(line, first), next = goes_on ? block(line, first + n) : block(line + most, 0);
    const index_t foreseen = next.n == 0 ? 0 : std::min(n, order_.length - next.line);
    const index_t pitch = order_.by_rows ? view_.col_stride : view_.row_stride;
    with_element_type(view_.type, [&]<element T>(T) {
      const T* const ahead = foreseen == 0 ? nullptr : next.start<T>();
      vectorized([=, to = &lines_[0][0], from = s.start<T>(), step = s.step(), height = s.n, next_height = next.n] {
        constexpr index_t at_once = 64 / sizeof(T);  // numbers that memory brings
        for (index_t j = 0; j < n; ++j) {
          if (j < foreseen) {
            for (index_t k = 0; k < next_height; k += at_once) __builtin_prefetch(ahead + j * pitch + k * step);
            __builtin_prefetch(ahead + j * pitch + (next_height - 1) * step);  // as they begin anywhere
          }
          for (index_t k = 0; k < height; ++k) to[k * chunk_length + j] = static_cast<Real>(from[j * pitch + k * step]);
        }
      });
    });
  }

  const matrix_view& view_;
  const line_order& order_;
  bool is_across_ = false;
  chunk<Real> lines_[most];
};

// A sum of squares in double whose order is fixed: eight partial sums, taken in turn, and added as a tree. The bits
// depend neither on vector width nor on contraction: the square of a float is exact in double, that of a double is
// fused.
class ordered_sum {
 public:
  static constexpr index_t partial_sums = 8;

  template <class T>
  [[gnu::always_inline]] void add_squares(const T* x, index_t n) {
    index_t k = 0;
    for (; k + partial_sums <= n; k += partial_sums)
      for (index_t lane = 0; lane < partial_sums; ++lane) sums_[lane] = add_square(sums_[lane], x[k + lane]);
    for (index_t lane = 0; k < n; ++k, ++lane) sums_[lane] = add_square(sums_[lane], x[k]);
  }
  static double add_square(double sum, double x) { return fused_multiply_add(x, x, sum); }
  static double add_square(double sum, float x) { return sum + static_cast<double>(x) * static_cast<double>(x); }
  double value() const {
    return ((sums_[0] + sums_[1]) + (sums_[2] + sums_[3])) + ((sums_[4] + sums_[5]) + (sums_[6] + sums_[7]));
  }

 private:
  double sums_[partial_sums] = {};
};
static_assert(chunk_length % ordered_sum::partial_sums == 0, "the bits of a sum depend on where a chunk begins");

}  // namespace normuon

#endif
