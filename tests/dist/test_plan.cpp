#include <doctest/doctest.h>

#include <map>

#include "support/plan_laws.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

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
  matrices[0].wire = element_type::float64;  // the last to be packed, in reverse order of definition
  matrices[1].wire = element_type::float32;
  matrices[2].wire = element_type::bfloat16;
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
