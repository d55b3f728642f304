// What holds of the plans of all ranks together, whatever was planned.
#ifndef NORMUON_TESTS_SUPPORT_PLAN_LAWS_HPP
#define NORMUON_TESTS_SUPPORT_PLAN_LAWS_HPP

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "support/shard_plans.hpp"

namespace normuon::test {

// Throws where a thing that should hold does not: a doctest assertion for each of millions would take minutes.
inline void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

// How often each element of a matrix is in the pieces.
class cover {
 public:
  explicit cover(const sharded_matrix& a) : cols_(a.cols), times_(static_cast<std::size_t>(a.elements())) {}
  void add(const rectangle& r) {
    for (index_t i = r.row; i < r.row + r.rows; ++i)
      for (index_t j = r.col; j < r.col + r.cols; ++j) ++times_.at(static_cast<std::size_t>(i * cols_ + j));
  }
  bool once() const {
    return std::all_of(times_.begin(), times_.end(), [](int t) { return t == 1; });
  }

 private:
  index_t cols_;
  std::vector<int> times_;
};

// A slice that follows the last one of its rectangle is part of it.
inline void add_rows(std::vector<rectangle>& list, const rectangle& r) {
  if (!list.empty() && list.back().row + list.back().rows == r.row && list.back().cols == r.cols)
    list.back().rows += r.rows;
  else list.push_back(r);
}

inline std::vector<rectangle> areas(const rectangle_list& list) { return {list.begin(), list.end()}; }

// The packets of one side of one direction: in order within the stage, piece after piece behind the header, each piece
// at a multiple of its elements' size.
inline void check_packets(const shard_plan& p, const std::vector<packet>& packets, std::size_t stage) {
  std::size_t end = 0;
  for (const packet& k : packets) {
    require(k.peer != p.rank() && k.offset >= end && k.offset % 64 == 0, "a packet's peer, place or alignment");
    require(!k.pieces.empty(), "a packet without pieces");
    std::size_t at = k.offset + sizeof(leg_header);
    for (const piece& a : k.pieces) {
      const std::size_t width = size_of(p.matrices()[a.matrix].wire);
      require(a.offset == at && at % width == 0, "a piece's place or alignment");
      at += static_cast<std::size_t>(a.area.elements()) * width;
    }
    require(k.bytes == at - k.offset, "a packet's size");
    end = at;
  }
  require(stage == end, "a stage's size");
}

// What one rank sends to another in a direction is, piece for piece, what that one receives.
inline void check_pair(const shard_plan& from, const shard_plan& to, std::size_t bucket, direction way) {
  const auto packet_for = [](const std::vector<packet>& packets, int peer) {
    const auto found = std::find_if(packets.begin(), packets.end(),
                                    [=](const packet& p) { return p.peer == peer || p.peer == everyone; });
    return found == packets.end() ? nullptr : &*found;
  };
  const packet* const out = packet_for(traffic_of(from, bucket, way).sent, to.rank());
  const packet* const in = packet_for(traffic_of(to, bucket, way).received, from.rank());
  require((out == nullptr) == (in == nullptr), "a leg with one end");
  const auto legs_of = [](const std::vector<leg>& legs, int peer) {
    return std::count_if(legs.begin(), legs.end(), [=](const leg& l) { return l.peer == peer; });
  };
  const auto sent = legs_of(traffic_of(from, bucket, way).legs.send, to.rank());
  const auto received = legs_of(traffic_of(to, bucket, way).legs.receive, from.rank());
  require(sent == (out ? 1 : 0) && received == sent, "legs that are not the packets");
  if (!out) return;
  require(out->bytes == in->bytes && out->pieces.size() == in->pieces.size(), "the size of a leg on both sides");
  for (std::size_t k = 0; k < out->pieces.size(); ++k) {
    const piece &a = out->pieces[k], &b = in->pieces[k];
    require(a.matrix == b.matrix && a.area == b.area && a.part == b.part, "a piece on both sides");
    require(a.offset - out->offset == b.offset - in->offset, "a piece's place on both sides");
  }
}

// U of every matrix arrives whole at its owner, and D in each holder's own rectangles; bytes are the least possible.
inline void check_matrix(const std::vector<shard_plan>& plans, std::size_t i) {
  const sharded_matrix& a = plans[0].matrices()[i];
  const int owner = plans[0].owners().owner[i], ranks = plans[0].ranks();
  cover U(a);
  std::size_t buckets = 0, payload = 0, at_home = 0;
  std::vector<std::vector<rectangle>> D(plans.size());
  for (const shard_plan& p : plans) {
    at_home += static_cast<std::size_t>(std::count(p.at_home().begin(), p.at_home().end(), i));
    for (const bucket_plan& b : p.buckets()) {
      const bool mine = p.rank() == owner;
      const auto in_bucket = std::count(b.matrices.begin(), b.matrices.end(), i);
      const auto made = mine && b.slice == 0 ? in_bucket : 0;
      buckets += static_cast<std::size_t>(made);
      require(std::count(b.owned.begin(), b.owned.end(), i) == made, "what is owned in a bucket");
      const auto each = [&](const std::vector<packet>& packets, auto&& f) {
        for (const packet& k : packets)
          for (const piece& q : k.pieces)
            if (q.matrix == i) f(k, q);
      };
      const auto bytes = [&](const piece& q) { return static_cast<std::size_t>(q.area.elements()) * size_of(a.wire); };
      each(b.gather.received, [&](const packet& k, const piece& q) {
        require(mine && k.peer != owner, "U goes to its owner");
        U.add(q.area);
        payload += bytes(q);
      });
      for (const piece& q : b.local)
        if (q.matrix == i) {
          require(mine && q.area == p.held(i)[q.part], "what is local is what the owner holds");
          U.add(q.area);
        }
      each(b.scatter.received, [&](const packet& k, const piece& q) {
        require(k.peer == owner, "D comes from the owner");
        require(b.replicated || q.area == p.held(i)[q.part], "D comes as the holder's rectangles");
        std::vector<rectangle>& areas_here = D[static_cast<std::size_t>(p.rank())];
        if (b.replicated) add_rows(areas_here, q.area);
        else areas_here.push_back(q.area);
        payload += bytes(q);
      });
    }
  }
  index_t elements_out = 0;  // of those that are not their owner's
  for (int r = 0; r < ranks; ++r)
    if (r != owner) elements_out += a.where.held(a.rows, a.cols, r, ranks);
  const bool moves = needs_owner(a) && elements_out != 0;
  require((owner != no_owner) == needs_owner(a), "an owner where there is something to compute");
  require(buckets == (moves ? 1 : 0) && at_home == (needs_owner(a) && !moves ? 1 : 0), "a place for each matrix");
  require(!moves || U.once(), "U arrives whole, once");
  for (const shard_plan& p : plans)
    if (moves && p.rank() != owner)
      require(D[static_cast<std::size_t>(p.rank())] == areas(p.held(i)), "D arrives at every holder");
  // 2 (1 - f) m n w; of replicas D alone, (P - 1) m n w.
  const auto least = static_cast<std::size_t>(elements_out) * size_of(a.wire) * (a.where.is_replicated() ? 1 : 2);
  require(payload == (moves ? least : 0), "the fewest bytes that will do");
}

inline void check_plans(const std::vector<shard_plan>& plans) {
  const shard_plan& first = plans[0];
  for (const shard_plan& p : plans) {
    require(p.digest() == first.digest() && p.owners().owner == first.owners().owner, "one plan on all ranks");
    require(p.buckets().size() == first.buckets().size(), "as many buckets on all ranks");
    stage_sizes needed;
    for (std::size_t b = 0; b < p.buckets().size(); ++b) {
      const bucket_plan& mine = p.buckets()[b];
      require(mine.matrices == first.buckets()[b].matrices, "the same buckets on all ranks");
      require(mine.replicated == first.buckets()[b].replicated, "the same kind of bucket on all ranks");
      require(std::is_sorted(mine.matrices.rbegin(), mine.matrices.rend()), "reverse order of definition");
      for (const std::size_t i : mine.matrices)
        require(p.matrices()[i].where.is_replicated() == mine.replicated, "replicas by themselves");
      for (const direction way : both_ways) {
        const traffic& t = traffic_of(p, b, way);
        check_packets(p, t.sent, t.send_stage);
        check_packets(p, t.received, t.receive_stage);
        check_exchange(t.legs, p.rank(), p.ranks());
        for (const shard_plan& to : plans)
          if (to.rank() != p.rank()) check_pair(p, to, b, way);
      }
      needed.gather_send = std::max(needed.gather_send, mine.gather.send_stage);
      needed.gather_receive = std::max(needed.gather_receive, mine.gather.receive_stage);
      needed.scatter_send = std::max(needed.scatter_send, mine.scatter.send_stage);
      needed.scatter_receive = std::max(needed.scatter_receive, mine.scatter.receive_stage);
    }
    const stage_sizes& s = p.stages();
    require(s.gather_send == needed.gather_send && s.gather_receive == needed.gather_receive &&
                s.scatter_send == needed.scatter_send && s.scatter_receive == needed.scatter_receive,
            "stages that hold every bucket");
    require(
        s.total() == 2 * (needed.gather_send + needed.gather_receive + needed.scatter_send + needed.scatter_receive),
        "two of each stage");
  }
  for (std::size_t i = 0; i < first.matrices().size(); ++i) check_matrix(plans, i);
}

}  // namespace normuon::test

#endif
