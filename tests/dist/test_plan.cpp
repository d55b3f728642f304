#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "support/refusal.hpp"
#include "support/shard_plans.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Throws where a thing that should hold does not: a doctest assertion for each of millions would take minutes.
void require(bool holds, const char* what) {
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

std::vector<rectangle> areas(const rectangle_list& list) { return {list.begin(), list.end()}; }

// The packets of one side of one direction: in order within the stage, piece after piece behind the header, each piece at
// a multiple of its elements' size.
void check_packets(const shard_plan& p, const std::vector<packet>& packets, std::size_t stage) {
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
void check_pair(const shard_plan& from, const shard_plan& to, std::size_t bucket, direction way) {
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
void check_matrix(const std::vector<shard_plan>& plans, std::size_t i) {
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
      if (mine) buckets += static_cast<std::size_t>(in_bucket);
      require(std::count(b.owned.begin(), b.owned.end(), i) == (mine ? in_bucket : 0), "what is owned in a bucket");
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
        require(q.area == p.held(i)[q.part], "D comes as the holder's rectangles");
        D[static_cast<std::size_t>(p.rank())].push_back(q.area);
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

void check_plans(const std::vector<shard_plan>& plans) {
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

sharded_matrix matrix(index_t k, index_t m, index_t n, layout where = layout::rows()) {
  return {"m" + std::to_string(k), m, n, std::move(where)};
}

}  // namespace

TEST_CASE("100,000 random plans move every rectangle once, alike on both ends of every leg, in the fewest bytes") {
  for (std::uint64_t seed = 0; seed < 100'000; ++seed) {
    shard_random random(seed);
    const int ranks = static_cast<int>(random.from(1, 6));
    const auto matrices = random_model(ranks, random);
    const shard_options options{.staging_limit = static_cast<std::size_t>(random.from(1, 4000)),
                                .least_buckets = static_cast<int>(random.from(1, 5))};
    try {
      check_plans(plans_of(matrices, ranks, options));
    } catch (const std::exception& e) {
      FAIL("seed ", seed, ": ", e.what());
    }
  }
}

TEST_CASE("plans of large worlds keep the same laws") {
  for (const int ranks : {17, 64}) {
    shard_random random(static_cast<std::uint64_t>(ranks));
    for (int kind = 0; kind < layout_kinds; ++kind) {
      std::vector<sharded_matrix> matrices;
      for (index_t k = 0; k < 12; ++k) {
        const index_t m = random.from(1, 70), n = random.from(1, 70);
        matrices.push_back(matrix(k, m, n, make_layout_case(kind, m, n, ranks, random).where));
      }
      CHECK_NOTHROW(check_plans(plans_of(matrices, ranks)));
    }
  }
}

TEST_CASE("there are four buckets where ranks own four matrices, and owners have equal shares of each") {
  std::vector<sharded_matrix> matrices;
  for (index_t k = 0; k < 32; ++k) matrices.push_back(matrix(k, 16, 16));
  for (const int ranks : {2, 4, 8}) {
    const shard_plan p(matrices, 0, ranks);
    REQUIRE(p.buckets().size() == 4);
    for (const bucket_plan& b : p.buckets()) {
      std::map<int, int> owned;
      for (const std::size_t i : b.matrices) ++owned[p.owners().owner[i]];
      CHECK(owned.size() == static_cast<std::size_t>(ranks));
      for (const auto& [owner, count] : owned) CHECK(count == 8 / ranks);
    }
  }
  CHECK(shard_plan(matrices, 0, 16).buckets().size() == 2);
  CHECK(shard_plan(matrices, 0, 40).buckets().size() == 1);
  CHECK(shard_plan(matrices, 0, 4, {}, {.least_buckets = 8}).buckets().size() == 8);
}

TEST_CASE("stages stay within their limit, or what the largest matrix needs") {
  std::vector<sharded_matrix> matrices;
  for (index_t k = 0; k < 40; ++k) matrices.push_back(matrix(k, 64, 64, k % 2 ? layout::replicated() : layout::rows()));
  const std::size_t one = 64 * 64 * 4;
  for (const std::size_t limit : {std::size_t{1}, 3 * one, 8 * one, 17 * one, 100 * one}) {
    const auto plans = plans_of(matrices, 4, {.staging_limit = limit});
    for (const shard_plan& p : plans) {
      CAPTURE(limit);
      const std::size_t payload_limit = std::max(limit, 8 * one), packets = 4 * 64 * 2 * 4;
      CHECK(p.stages().total() <= payload_limit + packets);
    }
  }
  CHECK(shard_plan(matrices, 0, 4, {}, {.staging_limit = 8 * one}).buckets().size() >
        shard_plan(matrices, 0, 4).buckets().size());
}

TEST_CASE("wide elements come first in a leg, so that mixed types need no padding") {
  std::vector<sharded_matrix> matrices;
  for (index_t k = 0; k < 3; ++k) matrices.push_back(matrix(k, 3, 1));
  matrices[0].wire = element_type::bfloat16;
  matrices[1].wire = element_type::float64;
  matrices[2].wire = element_type::float32;
  const shard_plan p(matrices, 1, 2, {}, {.least_buckets = 1});
  std::size_t seen = 0;
  for (const packet& k : p.buckets().at(0).gather.sent)
    for (std::size_t i = 1; i < k.pieces.size(); ++i, ++seen)
      CHECK(size_of(p.matrices()[k.pieces[i - 1].matrix].wire) > size_of(p.matrices()[k.pieces[i].matrix].wire));
  CHECK(seen > 0);
}

TEST_CASE("ranks begin with different peers") {
  std::vector<sharded_matrix> matrices;
  for (index_t k = 0; k < 5; ++k) matrices.push_back(matrix(k, 10, 10));
  for (int r = 0; r < 5; ++r) {
    const shard_plan p(matrices, r, 5, {}, {.least_buckets = 1});
    for (const direction way : both_ways) {
      CHECK(traffic_of(p, 0, way).legs.send.at(0).peer == (r + 1) % 5);
      CHECK(traffic_of(p, 0, way).legs.receive.at(0).peer == (r + 4) % 5);
    }
  }
}

TEST_CASE("what goes to everyone is packed once") {
  const std::vector<sharded_matrix> matrices = {matrix(0, 8, 8, layout::replicated())};
  const shard_plan owner(matrices, 0, 5);
  const traffic& t = owner.buckets().at(0).scatter;
  CHECK(t.send_stage == 8 * 8 * 4 + sizeof(leg_header));
  REQUIRE(t.legs.send.size() == 4);
  for (const leg& l : t.legs.send) CHECK((l.offset == 0 && l.bytes == t.send_stage));
  CHECK(owner.buckets()[0].gather.legs == exchange{});
}

TEST_CASE("a plan covers names, shapes, layouts, wire types, rules, ranks, options and what the caller adds") {
  const std::vector<sharded_matrix> base = {matrix(0, 4, 6), matrix(1, 4, 6)};
  const auto digest = [](const std::vector<sharded_matrix>& m, int ranks = 2, std::vector<plan_field> others = {},
                         shard_options o = {}) { return shard_plan(m, 0, ranks, std::move(others), o).digest(); };
  std::vector<std::uint64_t> digests = {digest(base)};
  const auto add_changed = [&](auto&& change) {
    std::vector<sharded_matrix> m = base;
    change(m);
    digests.push_back(digest(m));
  };
  add_changed([](auto& m) { m[1].name = "n1"; });
  add_changed([](auto& m) { m[1].rows = 5; });
  add_changed([](auto& m) { m[1].cols = 5; });
  add_changed([](auto& m) { m[1].where = layout::cols(); });
  add_changed([](auto& m) { m[1].wire = element_type::bfloat16; });
  add_changed([](auto& m) { m[1].matrix_rule = false; });
  add_changed([](auto& m) { m[1].entry = 1; });
  add_changed([](auto& m) { std::swap(m[0], m[1]); });
  add_changed([](auto& m) { m.pop_back(); });
  digests.push_back(digest(base, 3));
  digests.push_back(digest(base, 2, {{"rule", "normuon"}}));
  digests.push_back(digest(base, 2, {{"rule", "muon"}}));
  digests.push_back(digest(base, 2, {{"rules", "muon"}}));
  digests.push_back(digest(base, 2, {}, {.staging_limit = 1}));
  digests.push_back(digest(base, 2, {}, {.least_buckets = 5}));
  for (std::size_t i = 0; i < digests.size(); ++i)
    for (std::size_t k = 0; k < i; ++k) CHECK(digests[i] != digests[k]);
  CHECK(shard_plan(base, 1, 2).digest() == digests[0]);
}

TEST_CASE("a plan of no matrices, and one of one rank, move nothing") {
  CHECK(shard_plan({}, 3, 5).buckets().empty());
  const shard_plan alone({matrix(0, 4, 6), matrix(1, 4, 6, layout::replicated())}, 0, 1);
  CHECK(alone.buckets().empty());
  CHECK(alone.at_home() == std::vector<std::size_t>{0, 1});
  CHECK(alone.stages().total() == 0);
}

TEST_CASE("ranks and options that can't be are refused") {
  const auto refused = [](auto&& act, const char* why) {
    const refusal r = refusal_of(act);
    CHECK_MESSAGE(r.is(error_code::option, why), r.message);
  };
  refused([] { shard_plan({}, 2, 2); }, "expected a rank of 0 to 1, got 2");
  refused([] { shard_plan({}, -1, 2); }, "expected a rank of 0 to 1, got -1");
  refused([] { shard_plan({}, 0, 0); }, "expected at least 1 rank, got 0");
  refused([] { shard_plan({}, 0, 2, {}, {.staging_limit = 0}); }, "expected staging_limit >= 1, got 0");
  refused([] { shard_plan({}, 0, 2, {}, {.least_buckets = 0}); }, "expected least_buckets >= 1, got 0");
  const refusal r = refusal_of([] { shard_plan({matrix(7, 3, 3, layout::owned(2))}, 0, 2); });
  CHECK_MESSAGE(r.is(error_code::parameter, "layout of 'm7': expected an owner of 0 to 1, got 2"), r.message);
}
