// How a length is cut into one part for each rank: consecutive parts, which may be uneven or empty. Standard library
// only.
#ifndef NORMUON_SHARDS_CUT_HPP
#define NORMUON_SHARDS_CUT_HPP

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "normuon/errors.hpp"
#include "normuon/matrix_ref.hpp"
#include "normuon/shards/digest.hpp"

namespace normuon {

// Positions begin to end - 1.
struct part_range {
  index_t begin = 0, end = 0;
  constexpr index_t length() const { return end - begin; }
  friend bool operator==(const part_range&, const part_range&) = default;
};

class cut {
 public:
  // Parts of ceil(length / parts), as FSDP has them: the last ones are shorter, or empty.
  static cut even() { return {}; }
  // Part i is offsets[i] to offsets[i + 1] - 1: one offset more than parts, from 0 to the length, never descending.
  static cut at(std::vector<index_t> offsets) {
    cut c;
    c.digest_ = digest_of(std::as_bytes(std::span(offsets)));
    for (std::size_t i = 1; i < offsets.size(); ++i) {
      c.longest_ = std::max(c.longest_, offsets[i] - offsets[i - 1]);
      if (offsets[i] < offsets[i - 1] && c.descent_ == 0) c.descent_ = i;
    }
    c.offsets_ = std::make_shared<const std::vector<index_t>>(std::move(offsets));
    return c;
  }
  // The length lies at `begin` in a longer buffer, which is cut into parts of `chunk`.
  static cut of_buffer(index_t begin, index_t chunk) {
    cut c;
    c.begin_ = begin;
    c.chunk_ = chunk;
    return c;
  }

  part_range part(index_t length, int i, int parts) const {
    if (offsets_) return {(*offsets_)[static_cast<std::size_t>(i)], (*offsets_)[static_cast<std::size_t>(i) + 1]};
    const index_t chunk = chunk_of(length, parts);
    return {std::clamp<index_t>(i * chunk - begin_, 0, length),
            std::clamp<index_t>((i + 1) * chunk - begin_, 0, length)};
  }

  // The part that a position is in. The position must be one of the length's.
  int part_at(index_t length, index_t position, int parts) const {
    if (!offsets_) return static_cast<int>((begin_ + position) / chunk_of(length, parts));
    const auto above = std::upper_bound(offsets_->begin(), offsets_->end(), position);
    return static_cast<int>(above - offsets_->begin()) - 1;
  }

  // No part is longer than this, which is the length of the longest but where it is a buffer's chunk.
  index_t longest(index_t length, int parts) const {
    return offsets_ ? longest_ : std::min(chunk_of(length, parts), length);
  }

  // The first of those of the ascending parts that are longest, and its length; `last` and 0 where all are empty. Looks
  // no further than at one of length `enough`.
  template <class Iterator>
  std::pair<Iterator, index_t> longest_of(Iterator first, Iterator last, index_t length, int parts,
                                          index_t enough) const {
    std::pair<Iterator, index_t> best{last, 0};
    const index_t* const offsets = offsets_ ? offsets_->data() : nullptr;
    for (; first != last && best.second < enough; ++first) {
      const index_t here = offsets ? offsets[*first + 1] - offsets[*first] : part(length, *first, parts).length();
      if (here > best.second) best = {first, here};
    }
    return best;
  }

  // Throws where the parts are not all of the length, each position once.
  void check(std::string_view name, index_t length, int parts) const {
    const auto refuse = [&](const auto&... why) { fail(error_code::parameter, "layout of '", name, "': ", why...); };
    if (!offsets_) {
      index_t end = 0, room = 0;
      if (!chunk_) return;
      if (begin_ < 0) refuse("expected a begin >= 0, got ", begin_);
      if (*chunk_ < 1) refuse("expected a chunk >= 1, got ", *chunk_);
      if (__builtin_mul_overflow(*chunk_, index_t{parts}, &room) || __builtin_add_overflow(begin_, length, &end))
        refuse("expected a buffer of less than 2^63 elements, got ", parts, " chunks of ", *chunk_);
      if (end > room) refuse("expected ", parts, " chunks that reach to element ", end, ", got chunks of ", *chunk_);
      return;
    }
    const std::vector<index_t>& o = *offsets_;
    if (o.size() != static_cast<std::size_t>(parts) + 1)
      refuse("expected ", parts + 1, " offsets for ", parts, " ranks, got ", o.size());
    if (o.front() != 0) refuse("expected offsets from 0, got ", o.front());
    if (descent_ != 0) refuse("expected offsets that don't descend, got ", o[descent_], " after ", o[descent_ - 1]);
    if (o.back() != length) refuse("expected offsets up to ", length, ", got ", o.back());
  }

  // What distinguishes the cut from others, on a line: offsets by the first of them and their digest.
  std::string text() const {
    if (!offsets_) return chunk_ ? " from " + std::to_string(begin_) + " in chunks of " + std::to_string(*chunk_) : "";
    std::string list;
    for (std::size_t i = 0; i < std::min<std::size_t>(offsets_->size(), 8); ++i)
      list += (i == 0 ? " at " : ", ") + std::to_string((*offsets_)[i]);
    if (offsets_->size() > 8) list += " ...";
    return list + " (digest " + std::to_string(digest_) + ")";
  }

  friend bool operator==(const cut& a, const cut& b) {
    return a.begin_ == b.begin_ && a.chunk_ == b.chunk_ && !a.offsets_ == !b.offsets_ &&
           (a.offsets_ == b.offsets_ || (a.offsets_ && *a.offsets_ == *b.offsets_));
  }

 private:
  index_t chunk_of(index_t length, int parts) const {
    return chunk_ ? *chunk_ : std::max<index_t>(1, (length + parts - 1) / parts);
  }

  index_t begin_ = 0, longest_ = 0;
  std::uint64_t digest_ = 0;
  std::size_t descent_ = 0;  // the first offset that is less than the one before
  std::optional<index_t> chunk_;
  std::shared_ptr<const std::vector<index_t>> offsets_;  // shared by copies: thousands of matrices may be cut alike
};

}  // namespace normuon

#endif
