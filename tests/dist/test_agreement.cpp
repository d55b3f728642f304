#include <doctest/doctest.h>

#include <barrier>
#include <set>
#include <thread>

#include "normuon/shards/plan.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// What a job's ranks end with, each a thread.
struct verdicts {
  std::vector<refusal> of_ranks;
  std::size_t gathers = 0, most_bytes = 0;  // of a rank
};

verdicts agree(const std::vector<std::vector<plan_field>>& fields) {
  const auto ranks = fields.size();
  std::vector<std::byte> shared;
  std::barrier all_here(static_cast<std::ptrdiff_t>(ranks));
  verdicts v;
  v.of_ranks.resize(ranks);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      const auto gather = [&](void* all, std::size_t bytes) {
        if (r == 0) {
          shared.resize(ranks * bytes);
          ++v.gathers;
          v.most_bytes = std::max(v.most_bytes, bytes);
        }
        all_here.arrive_and_wait();
        std::memcpy(shared.data() + r * bytes, static_cast<std::byte*>(all) + r * bytes, bytes);
        all_here.arrive_and_wait();
        std::memcpy(all, shared.data(), ranks * bytes);
        all_here.arrive_and_wait();
      };
      v.of_ranks[r] =
          refusal_of([&] { require_agreement(fields[r], static_cast<int>(r), static_cast<int>(ranks), gather); });
    });
  for (std::thread& t : threads) t.join();
  return v;
}

std::vector<plan_field> numbered(std::size_t count) {
  std::vector<plan_field> fields;
  for (std::size_t k = 0; k < count; ++k)
    fields.push_back({"field " + std::to_string(k), "value " + std::to_string(k)});
  return fields;
}

void check_all_say(const verdicts& v, const std::string& what) {
  for (const refusal& r : v.of_ranks) {
    CHECK_MESSAGE(r.is(error_code::option, what), r.message);
    CHECK(r.message == v.of_ranks[0].message);
  }
}

}  // namespace

TEST_CASE("ranks that agree learn it by one gather of eight bytes") {
  for (const std::size_t ranks : {1u, 2u, 5u}) {
    const verdicts v = agree(std::vector(ranks, numbered(20)));
    for (const refusal& r : v.of_ranks) CHECK_MESSAGE(!r.code, r.message);
    CHECK(v.gathers == 1);
    CHECK(v.most_bytes == 8);
  }
  CHECK(agree({{}, {}}).gathers == 1);
}

TEST_CASE("whichever field differs first, on whichever rank, every rank names it and both values") {
  for (const std::size_t count : {1u, 2u, 7u, 16u})
    for (std::size_t field = 0; field < count; ++field)
      for (std::size_t odd = 0; odd < 3; ++odd) {
        std::vector<std::vector<plan_field>> fields(3, numbered(count));
        for (std::size_t k = field; k < count; ++k) fields[odd][k].value = "other " + std::to_string(k);
        const verdicts v = agree(fields);
        const std::string name = "field " + std::to_string(field), usual = name + ": value " + std::to_string(field),
                          other = name + ": other " + std::to_string(field);
        check_all_say(v, odd == 0 ? "rank 0 has " + other + "; rank 1 has " + usual
                                  : "rank 0 has " + usual + "; rank " + std::to_string(odd) + " has " + other);
        CHECK(v.gathers <= 3 + 4);  // three, and one for each halving of 16
        CHECK(v.most_bytes <= 256);
      }
}

TEST_CASE("a rank that has fewer fields is told what it lacks") {
  check_all_say(agree({numbered(5), numbered(3), numbered(5)}), "rank 0 has field 3: value 3; rank 1 has nothing");
  check_all_say(agree({{}, numbered(2)}), "rank 0 has nothing; rank 1 has field 0: value 0");
}

TEST_CASE("fields whose names differ are not the same, whatever their values are") {
  auto other = numbered(4);
  other[2].name = "another";
  check_all_say(agree({numbered(4), other}), "rank 0 has field 2: value 2; rank 1 has another: value 2");
  check_all_say(agree({{{"a", "bc"}}, {{"ab", "c"}}}), "rank 0 has a: bc; rank 1 has ab: c");
}

TEST_CASE("long values that differ behind what can be shown still differ") {
  const std::string text(400, 'x');
  const verdicts v = agree({{{"options", text + "a"}}, {{"options", text + "b"}}});
  check_all_say(v, "rank 0 has options: xxx");
}

TEST_CASE("plans of ranks that mean different models differ in the field that a reader expects") {
  using matrices = std::vector<sharded_matrix>;
  const matrices base = {{"up", 8, 4, layout::rows()}, {"down", 4, 8, layout::rows()}};
  const auto differ = [&](auto&& change, const std::string& what) {
    matrices m = base;
    change(m);
    std::vector<std::vector<plan_field>> fields;
    fields.push_back(shard_plan(base, 0, 2, {{"kernel path", "avx2"}}).fields());
    fields.push_back(shard_plan(m, 1, 2, {{"kernel path", "avx2"}}).fields());
    check_all_say(agree(fields), what);
  };
  differ([](matrices& m) { m[1].cols = 9; }, "rank 0 has shape of 'down': 4 x 8; rank 1 has shape of 'down': 4 x 9");
  differ([](matrices& m) { m[0].where = layout::cols(); }, "layout of 'up': rows; rank 1 has layout of 'up': cols");
  differ([](matrices& m) { m[0].wire = element_type::bfloat16; },
         "wire of 'up': float32; rank 1 has wire of 'up': bfloat16");
  differ([](matrices& m) { m[1].matrix_rule = false; }, "rank 1 has wire of 'down': none");
  differ([](matrices& m) { std::swap(m[0], m[1]); }, "name of matrix 0: up; rank 1 has name of matrix 0: down");
  differ([](matrices& m) { m.pop_back(); }, "rank 0 has name of matrix 1: down; rank 1 has nothing");
  check_all_say(agree({shard_plan(base, 0, 2, {{"kernel path", "avx2"}}).fields(),
                       shard_plan(base, 1, 2, {{"kernel path", "avx512"}}).fields()}),
                "rank 0 has kernel path: avx2; rank 1 has kernel path: avx512");
}
