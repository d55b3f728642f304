// Buckets: which matrices travel together, so that one bucket is computed while its neighbours travel. Pure arithmetic.
// Standard library only.
#ifndef NORMUON_SHARDS_PLAN_BUCKETS_HPP
#define NORMUON_SHARDS_PLAN_BUCKETS_HPP

#include <functional>

#include "normuon/shards/plan/owners.hpp"

namespace normuon {

struct shard_options {
  // Bytes of a rank's stages together, of which there are two each way and direction. Each has an eighth; or what the
  // largest matrix takes, where that is more.
  std::size_t staging_limit = std::size_t{1} << 30;
  // So many buckets at least, where ranks own enough matrices: otherwise more of them would only make the owners of
  // late ones wait.
  int least_buckets = 4;
};

inline void validate(const shard_options& o) {
  if (o.staging_limit < 1) fail(error_code::option, "expected staging_limit >= 1, got ", o.staging_limit);
  if (o.least_buckets < 1) fail(error_code::option, "expected least_buckets >= 1, got ", o.least_buckets);
}

struct bucket {
  std::vector<std::size_t> matrices;  // in reverse order of definition
  bool replicated = false;            // all of them are, or none: D goes to everyone, and U nowhere
  // Of replicated ones, D is made in the first of so many buckets in a row, and each takes a slice of the rows along:
  // so all owners send at once, through stages that have no room for all that they own.
  index_t slice = 0, slices = 1;

  rectangle slice_of(const rectangle& area) const {
    const index_t begin = area.rows * slice / slices, end = area.rows * (slice + 1) / slices;
    return {area.row + begin, area.col, end - begin, area.cols};
  }
};

// True where U or D of the matrix moves between ranks.
inline bool travels(const sharded_matrix& a, int ranks) {
  return a.matrix_rule && a.where.travels(a.rows, a.cols, ranks);
}

// What the matrices of a bucket take in stages at most, without headers: of what it owns, on any rank; and of what any
// rank can hold of all of them.
struct stage_need {
  std::size_t owned = 0, held = 0;
  bool within(std::size_t limit) const { return owned <= limit && held <= limit; }
};

class stage_counter {
 public:
  explicit stage_counter(std::size_t ranks) : owned_(ranks), held_(ranks) {}

  void clear() {
    for (const std::size_t rank : touched_) owned_[rank] = held_[rank] = 0;
    touched_.clear();
    need_ = {};
    most_held_ = held_by_many_ = 0;
  }
  const stage_need& add(const sharded_matrix& a, int owner) {
    need_.owned = std::max(need_.owned, raise(owned_, owner, a.wire_bytes()));
    const int ranks = static_cast<int>(owned_.size());
    const auto [first, last] = a.where.holders(a.rows, a.cols, ranks);
    const auto bytes = [&](index_t elements) { return static_cast<std::size_t>(elements) * size_of(a.wire); };
    if (last - first >= few) {
      held_by_many_ += bytes(a.where.most_held(a.rows, a.cols, ranks));
    } else {
      for (int r = first; r <= last; ++r)
        most_held_ = std::max(most_held_, raise(held_, r, bytes(a.where.held(a.rows, a.cols, r, ranks))));
    }
    need_.held = most_held_ + held_by_many_;
    return need_;
  }

 private:
  static constexpr int few = 8;  // so many holders are looked at one by one: of a slice of a buffer there are few

  std::size_t raise(std::vector<std::size_t>& table, int rank, std::size_t bytes) {
    touched_.push_back(static_cast<std::size_t>(rank));
    return table[touched_.back()] += bytes;
  }

  std::vector<std::size_t> owned_, held_;  // of each rank
  std::vector<std::size_t> touched_;
  std::size_t most_held_ = 0, held_by_many_ = 0;
  stage_need need_;
};

// What owners have left to be put into buckets, the heaviest first and of equals the last defined.
class owner_queues {
 public:
  owner_queues(std::span<const sharded_matrix> matrices, const ownership& owners, std::vector<std::size_t> travelling)
      : matrices_(matrices), waiting_(owners.load.size()), load_(waiting_.size()), left_(travelling.size()) {
    std::stable_sort(travelling.begin(), travelling.end(), [&](std::size_t a, std::size_t b) {
      return exact_cost_of(matrices[a]) < exact_cost_of(matrices[b]);
    });
    for (const std::size_t i : travelling) {
      const auto owner = static_cast<std::size_t>(owners.owner[i]);
      waiting_[owner].push_back(i);
      load_[owner] += exact_cost_of(matrices[i]);
    }
  }
  bool empty() const { return left_ == 0; }

  // Takes off every queue what can be computed while the slowest owner does its next matrix, or its part of what it has
  // left; of no owner more bytes than `limit`. In reverse order of definition.
  std::vector<std::size_t> take_part(std::size_t parts_left, std::size_t limit) {
    std::uint64_t time = 0;
    for (std::size_t r = 0; r < waiting_.size(); ++r)
      if (!waiting_[r].empty()) time = std::max({time, cost_of_next(r), (load_[r] + parts_left - 1) / parts_left});
    std::vector<std::size_t> taken;
    for (std::size_t r = 0; r < waiting_.size(); ++r) {
      std::uint64_t load = 0;
      std::size_t bytes = 0;
      while (!waiting_[r].empty() && load + cost_of_next(r) <= time) {
        const std::size_t i = waiting_[r].back(), more = matrices_[i].wire_bytes();
        if (bytes != 0 && bytes + more > limit) break;
        load += cost_of_next(r);
        bytes += more;
        taken.push_back(i);
        waiting_[r].pop_back();
      }
      load_[r] -= load;
    }
    left_ -= taken.size();
    std::sort(taken.begin(), taken.end(), std::greater<>());
    return taken;
  }

 private:
  std::uint64_t cost_of_next(std::size_t rank) const { return exact_cost_of(matrices_[waiting_[rank].back()]); }

  std::span<const sharded_matrix> matrices_;
  std::vector<std::vector<std::size_t>> waiting_;  // of each rank; the next one is the last
  std::vector<std::uint64_t> load_;
  std::size_t left_;
};

// Cuts what owners compute at one time of replicated matrices into buckets: groups of matrices, and slices of them that
// fit the limit. Every rank lists every piece, so a group fills few stages: no matrix is cut into more than thirty or
// so.
inline void add_slices(std::vector<bucket>& buckets, std::span<const sharded_matrix> matrices,
                       std::span<const std::size_t> taken, std::size_t limit) {
  constexpr std::size_t most_stages = 16;
  const auto bytes_of = [&](std::size_t i, index_t rows) {
    return static_cast<std::size_t>(rows * matrices[i].cols) * size_of(matrices[i].wire);
  };
  while (!taken.empty()) {
    std::size_t count = 0, bytes = 0, lines = 0;
    for (; count < taken.size(); ++count) {
      bytes += matrices[taken[count]].wire_bytes();
      lines += bytes_of(taken[count], 1);
      if (count != 0 && (bytes > most_stages * limit || lines > limit / 2)) break;
    }
    bucket group{{taken.begin(), taken.begin() + static_cast<std::ptrdiff_t>(count)}, true};
    taken = taken.subspan(count);
    const auto fits = [&](index_t slices) {
      std::size_t most = 0;
      for (const std::size_t i : group.matrices) most += bytes_of(i, (matrices[i].rows + slices - 1) / slices);
      return most <= limit;
    };
    while (!fits(group.slices)) ++group.slices;
    for (; group.slice < group.slices; ++group.slice) buckets.push_back(group);
  }
}

// Buckets of sharded matrices, then of replicated ones. All owners have about as much to compute in a bucket: ranks
// wait for each other there, and in buckets of consecutive matrices some own three and others none. What would exceed
// the stages' limit is cut into several buckets.
inline std::vector<bucket> make_buckets(std::span<const sharded_matrix> matrices, const ownership& owners,
                                        const shard_options& options) {
  validate(options);
  std::vector<bucket> buckets;
  stage_counter stages(owners.load.size());
  for (const bool replicated : {false, true}) {
    std::vector<std::size_t> travelling, owned(owners.load.size());
    std::size_t limit = options.staging_limit / 8;
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      if (matrices[i].where.is_replicated() != replicated || !travels(matrices[i], static_cast<int>(owned.size())))
        continue;
      travelling.push_back(i);
      owned[static_cast<std::size_t>(owners.owner[i])] += matrices[i].wire_bytes();
      const stage_need& one = stages.add(matrices[i], owners.owner[i]);
      limit = std::max({limit, one.owned, one.held});  // the largest matrix travels, whatever the limit is
      stages.clear();
    }
    if (travelling.empty()) continue;
    const std::size_t most_owned = *std::max_element(owned.begin(), owned.end());
    const std::size_t parts = std::max(static_cast<std::size_t>(options.least_buckets), most_owned / limit + 1);
    owner_queues queues(matrices, owners, std::move(travelling));
    for (std::size_t part = 0; !queues.empty(); ++part) {
      const std::vector<std::size_t> taken = queues.take_part(part + 1 < parts ? parts - part : 1, limit);
      if (replicated) {
        add_slices(buckets, matrices, taken, limit);
        continue;
      }
      bool first = true;
      for (const std::size_t i : taken) {
        if (!stages.add(matrices[i], owners.owner[i]).within(limit) || first) {
          buckets.push_back({{}, replicated});
          stages.clear();
          stages.add(matrices[i], owners.owner[i]);
          first = false;
        }
        buckets.back().matrices.push_back(i);
      }
      stages.clear();
    }
  }
  return buckets;
}

}  // namespace normuon

#endif
