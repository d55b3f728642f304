// How a pass over one matrix is shared out: in bands of rows or columns, by its shape and strides alone, so that sums
// have the same order and bits on any number of threads.
#ifndef NORMUON_BACKENDS_CPU_BANDS_HPP
#define NORMUON_BACKENDS_CPU_BANDS_HPP

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "normuon/backends/cpu/executor.hpp"
#include "normuon/matrix_view.hpp"

namespace normuon {

// Somebody's task by two pointers: compiled once, not in each loop that calls it, and each loop once for all tasks.
class task_ref {
 public:
  template <class Task>
  explicit task_ref(const Task& task) : task_(&task), call_(call<Task>) {}
  void operator()(index_t i) const { call_(task_, i); }

 private:
  template <class Task>
  [[gnu::noinline]] static void call(const void* task, index_t i) {
    (*static_cast<const Task*>(task))(i);
  }

  const void* task_;
  void (*call_)(const void*, index_t);
};

// What shares out the work on one matrix: an executor's workers, or the caller alone.
template <executor Executor>
struct lanes {
  Executor* threads = nullptr;

  template <class Task>
  void for_each(index_t count, const Task& task) {
    share_out(count, task_ref(task));
  }

 private:
  [[gnu::noinline]] void share_out(index_t count, task_ref task) {
    if (threads) threads->for_each(count, [=](int, index_t i) { task(i); });
    else
      for (index_t i = 0; i < count; ++i) task(i);
  }
};

// Rows first to end - 1, or columns.
struct band {
  index_t first = 0, end = 0;
  bool of_columns = false;
};

// The bands of a matrix: whole blocks of every operand's doors, enough for a pass to be worth a thread's while.
struct bands {
  static constexpr index_t most = 64, door = 32, least = 3 * door;

  bands(index_t lines, bool of_columns = false)
      : count_of_lines(lines),
        height(std::max(least, (lines + most * door - 1) / (most * door) * door)),
        are_of_columns(of_columns) {}

  // Of the lines in which a matrix lies, so that each band is few pieces of memory: where no order is promised.
  static bands as_stored(const matrix_view& v) {
    const bool by_columns = v.is_stored_by_columns() && v.cols != 1;  // one column is cut where its rows are
    return {by_columns ? v.cols : v.rows, by_columns};
  }

  index_t count() const { return (count_of_lines + height - 1) / height; }
  band operator[](index_t k) const { return {k * height, std::min(count_of_lines, (k + 1) * height), are_of_columns}; }

  index_t count_of_lines, height;
  bool are_of_columns;
};

// A matrix whose rows are the lines that a band is of: transposed, where those are columns.
inline matrix_view turned(matrix_view v, const band& lines) {
  if (lines.of_columns) std::swap(v.rows, v.cols), std::swap(v.row_stride, v.col_stride);
  return v;
}

// Those lines of a matrix, as rows.
inline matrix_view part(const matrix_view& v, const band& lines) {
  matrix_view p = turned(v, lines);
  p.rows = lines.end - lines.first;
  if (v.data)
    p.data = static_cast<std::byte*>(v.data) + lines.first * p.row_stride * static_cast<index_t>(size_of(v.type));
  return p;
}

// Calls f(band, k) for every band k, at once or not.
template <class Lanes, class F>
void for_each_band(Lanes& lanes, const bands& all, F&& f) {
  lanes.for_each(all.count(), [&](index_t k) { f(all[k], k); });
}

// f(band) of all bands, in their order, then values of a T.
template <class T, class Lanes, class F>
std::array<T, bands::most> values_of_bands(Lanes& lanes, const bands& all, F&& f) {
  std::array<T, bands::most> values = {};
  for_each_band(lanes, all, [&](const band& b, index_t k) { values[static_cast<std::size_t>(k)] = f(b); });
  return values;
}

// The sum of f(band) over all bands, in their order.
template <class Lanes, class F>
double sum_over_bands(Lanes& lanes, const bands& all, F&& f) {
  const auto values = values_of_bands<double>(lanes, all, f);
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace normuon

#endif
