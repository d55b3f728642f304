// Layouts: which rectangles of a matrix does a rank hold? Computed when it is asked, never stored for all ranks. Uneven
// and empty parts, and more ranks than rows, are no special case. Standard library only.
#ifndef NORMUON_SHARDS_LAYOUT_HPP
#define NORMUON_SHARDS_LAYOUT_HPP

#include <array>
#include <optional>

#include "normuon/shards/cut.hpp"

namespace normuon {

// Rows row to row + rows - 1 of columns col to col + cols - 1 of a whole matrix, wherever its elements lie.
struct rectangle {
  index_t row = 0, col = 0, rows = 0, cols = 0;
  constexpr index_t elements() const { return rows * cols; }
  friend bool operator==(const rectangle&, const rectangle&) = default;
};

// At most three rectangles, none of them empty, in the order of their elements in the row-major matrix: the order in
// which they follow each other in the memory of a flat slice.
class rectangle_list {
 public:
  static constexpr std::size_t most = 3;
  void add(const rectangle& r) {
    if (r.rows > 0 && r.cols > 0) items_[count_++] = r;
  }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  const rectangle& operator[](std::size_t i) const { return items_[i]; }
  const rectangle* begin() const { return items_.data(); }
  const rectangle* end() const { return items_.data() + count_; }

 private:
  std::array<rectangle, most> items_ = {};
  std::size_t count_ = 0;
};

// What tensor parallelism cuts. cols: the weight of a row-parallel layer, whose input is cut; FSDP cuts the rows. rows:
// that of a column-parallel layer, whose output is cut; FSDP cuts the rows of each part once more.
enum class tensor_parallel { cols, rows };

// Expert `e` of `experts` lies whole on one rank: those of a batch that is cut as evenly as rows are. Throws where
// there is no such expert or rank.
inline int rank_of_expert(index_t e, index_t experts, int ranks) {
  if (ranks < 1) fail(error_code::option, "expected at least 1 rank, got ", ranks);
  if (e < 0 || e >= experts) fail(error_code::parameter, "expected an expert of 0 to ", experts - 1, ", got ", e);
  return cut::even().part_at(experts, e, ranks);
}

// Of an m x n matrix on `ranks` ranks. Ask for nothing but `check` and `text` where `check` throws.
class layout {
 public:
  static layout rows() { return {kind::rows, cut::even()}; }
  static layout rows(std::vector<index_t> offsets) { return {kind::rows, cut::at(std::move(offsets))}; }
  static layout cols() { return {kind::cols, cut::even()}; }
  static layout cols(std::vector<index_t> offsets) { return {kind::cols, cut::at(std::move(offsets))}; }
  // fsdp * tp ranks; rank f * tp + t is the f-th of FSDP and the t-th of tensor parallelism.
  static layout grid(int fsdp, int tp, tensor_parallel cuts = tensor_parallel::cols) {
    layout l(cuts == tensor_parallel::cols ? kind::grid : kind::nested_rows, cut::even());
    l.fsdp_ = fsdp;
    l.tp_ = tp;
    return l;
  }
  // ZeRO-1: each rank holds consecutive elements of the row-major matrix; or of a buffer that it lies in at `begin`,
  // with others before and behind it, of which each rank has a chunk.
  static layout flat_slice() { return {kind::flat, cut::even()}; }
  static layout flat_slice(std::vector<index_t> offsets) { return {kind::flat, cut::at(std::move(offsets))}; }
  static layout flat_slice(index_t begin, index_t chunk) { return {kind::flat, cut::of_buffer(begin, chunk)}; }
  static layout owned(int rank) {
    layout l(kind::owned, cut::even());
    l.rank_ = rank;
    return l;
  }
  static layout replicated() { return {kind::replicated, cut::even()}; }

  bool is_replicated() const { return kind_ == kind::replicated; }

  rectangle_list rectangles(index_t m, index_t n, int rank, int ranks) const {
    rectangle_list list;
    if (kind_ == kind::flat) {
      add_slice(list, n, cut_.part(m * n, rank, ranks));
    } else {
      const part_range r = rows_of(m, rank, ranks), c = cols_of(n, rank, ranks);
      list.add({r.begin, c.begin, r.length(), c.length()});
    }
    return list;
  }

  // The number of their elements.
  index_t held(index_t m, index_t n, int rank, int ranks) const {
    if (kind_ == kind::flat) return cut_.part(m * n, rank, ranks).length();
    return rows_of(m, rank, ranks).length() * cols_of(n, rank, ranks).length();
  }

  // No rank holds more elements than this.
  index_t most_held(index_t m, index_t n, int ranks) const {
    switch (kind_) {
      case kind::rows: return cut_.longest(m, ranks) * n;
      case kind::cols: return m * cut_.longest(n, ranks);
      case kind::grid: return cut_.longest(m, fsdp_) * cut_.longest(n, tp_);
      case kind::nested_rows: return cut_.longest(cut_.longest(m, tp_), fsdp_) * n;
      case kind::flat: return cut_.longest(m * n, ranks);
      case kind::owned:
      case kind::replicated: break;
    }
    return m * n;
  }

  // Ranks below the first and above the last hold nothing. The matrix must have elements.
  struct rank_span {
    int first, last;
  };
  rank_span holders(index_t m, index_t n, int ranks) const {
    if (kind_ == kind::replicated) return {0, ranks - 1};
    if (kind_ == kind::nested_rows) {  // parts of tensor parallelism have two lengths: most rows, and what is left
      const int last = cut_.part_at(m, m - 1, tp_);
      const index_t most = cut_.part(m, 0, tp_).length(), least = cut_.part(m, last, tp_).length();
      const int fsdp = std::max(cut_.part_at(most, most - 1, fsdp_), cut_.part_at(least, least - 1, fsdp_));
      return {0, fsdp * tp_ + last};
    }
    return {holder_of(0, 0, m, n, ranks), holder_of(m - 1, n - 1, m, n, ranks)};
  }

  // The rank that holds all of the matrix while no other holds any of it. The matrix must have elements.
  std::optional<int> sole_holder(index_t m, index_t n, int ranks) const {
    const auto [first, last] = holders(m, n, ranks);
    return first == last ? std::optional(first) : std::nullopt;
  }

  // Whether there is something to hold and no rank alone holds it, so that a rule of whole matrices moves bytes.
  bool travels(index_t m, index_t n, int ranks) const { return m * n != 0 && !sole_holder(m, n, ranks); }

  // The first of those of the ascending ranks that hold most of the matrix, which must have elements, and how much;
  // `last` and 0 where none of them holds any. Looks no further than at one that holds `enough`.
  template <class Iterator>
  std::pair<Iterator, index_t> holder_of_most(Iterator first, Iterator last, index_t m, index_t n, int ranks,
                                              index_t enough) const {
    const auto [lowest, highest] = holders(m, n, ranks);
    const Iterator begin = std::lower_bound(first, last, lowest), end = std::upper_bound(begin, last, highest);
    std::pair<Iterator, index_t> best{end, 0};
    const auto of_lines = [&](index_t lines, index_t width) {
      best = cut_.longest_of(begin, end, lines, ranks, (enough + width - 1) / width);
      best.second *= width;
    };
    if (kind_ == kind::rows) of_lines(m, n);
    else if (kind_ == kind::cols) of_lines(n, m);
    else if (kind_ == kind::flat) of_lines(m * n, 1);
    else
      for (Iterator r = begin; r != end && best.second < enough; ++r)
        if (const index_t here = held(m, n, *r, ranks); here > best.second) best = {r, here};
    if (best.first == end) best.first = last;
    return best;
  }

  // Throws where the rectangles of all ranks would not lie within the matrix, be disjoint (but replicas) and be all of
  // it.
  void check(std::string_view name, index_t m, index_t n, int ranks) const {
    const auto refuse = [&](const auto&... why) { fail(error_code::parameter, "layout of '", name, "': ", why...); };
    switch (kind_) {
      case kind::rows: return cut_.check(name, m, ranks);
      case kind::cols: return cut_.check(name, n, ranks);
      case kind::flat: return cut_.check(name, m * n, ranks);
      case kind::owned:
        if (rank_ < 0 || rank_ >= ranks) refuse("expected an owner of 0 to ", ranks - 1, ", got ", rank_);
        return;
      case kind::grid:
      case kind::nested_rows:
        if (fsdp_ < 1 || tp_ < 1 || index_t{fsdp_} * tp_ != ranks)
          refuse("expected a grid of ", ranks, " ranks, got ", fsdp_, " x ", tp_);
        return;
      case kind::replicated: return;
    }
  }

  // What distinguishes the layout from others, on a line.
  std::string text() const {
    const std::string sides = std::to_string(fsdp_) + " x " + std::to_string(tp_);
    switch (kind_) {
      case kind::rows: return "rows" + cut_.text();
      case kind::cols: return "cols" + cut_.text();
      case kind::grid: return "grid " + sides;
      case kind::nested_rows: return "grid " + sides + " of rows";
      case kind::flat: return "flat_slice" + cut_.text();
      case kind::owned: return "owned by " + std::to_string(rank_);
      case kind::replicated: break;
    }
    return "replicated";
  }

  friend bool operator==(const layout&, const layout&) = default;

 private:
  enum class kind { rows, cols, grid, nested_rows, flat, owned, replicated };

  layout(kind k, cut c) : kind_(k), cut_(std::move(c)) {}

  part_range rows_of(index_t m, int rank, int ranks) const {
    switch (kind_) {
      case kind::rows: return cut_.part(m, rank, ranks);
      case kind::grid: return cut_.part(m, rank / tp_, fsdp_);
      case kind::nested_rows: {
        const part_range outer = cut_.part(m, rank % tp_, tp_);
        const part_range inner = cut_.part(outer.length(), rank / tp_, fsdp_);
        return {outer.begin + inner.begin, outer.begin + inner.end};
      }
      case kind::owned: return {0, rank == rank_ ? m : 0};
      default: return {0, m};
    }
  }
  part_range cols_of(index_t n, int rank, int ranks) const {
    if (kind_ == kind::cols) return cut_.part(n, rank, ranks);
    if (kind_ == kind::grid) return cut_.part(n, rank % tp_, tp_);
    return {0, n};
  }

  // Elements b to e - 1 of the row-major matrix: the end of a row, whole rows, the beginning of a row.
  static void add_slice(rectangle_list& list, index_t n, part_range slice) {
    auto [b, e] = slice;
    if (b == e) return;
    if (b % n != 0) {
      const index_t end = std::min(e, b - b % n + n);
      list.add({b / n, b % n, 1, end - b});
      b = end;
    }
    list.add({b / n, 0, (e - b) / n, n});
    b = std::max(b, e - e % n);
    list.add({b / n, 0, 1, e - b});
  }

  // The rank that holds element (i, j), where `holders` asks for it.
  int holder_of(index_t i, index_t j, index_t m, index_t n, int ranks) const {
    switch (kind_) {
      case kind::rows: return cut_.part_at(m, i, ranks);
      case kind::cols: return cut_.part_at(n, j, ranks);
      case kind::flat: return cut_.part_at(m * n, i * n + j, ranks);
      case kind::grid: return cut_.part_at(m, i, fsdp_) * tp_ + cut_.part_at(n, j, tp_);
      case kind::owned: return rank_;
      case kind::nested_rows:
      case kind::replicated: break;
    }
    return 0;
  }

  kind kind_;
  cut cut_;
  int fsdp_ = 1, tp_ = 1, rank_ = 0;
};

}  // namespace normuon

#endif
