#include <doctest/doctest.h>

#include <optional>
#include <set>

#include "normuon/shards/sharded_ref.hpp"
#include "support/refusal.hpp"
#include "support/shard_cases.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

struct awkward {
  index_t m, n;
};
constexpr awkward awkward_sizes[] = {{0, 0}, {0, 5}, {5, 0}, {1, 1}, {1, 7}, {7, 1}, {2, 3}, {5, 5}, {8, 3}, {3, 17}};

// Calls f for each kind of layout on each awkward size and several numbers of ranks.
template <class F>
void for_each_case(F&& f) {
  shard_random random(1);
  for (const awkward& size : awkward_sizes)
    for (const int ranks : {1, 2, 3, 4, 6, 8, 13})
      for (int kind = 0; kind < layout_kinds; ++kind) {
        const index_t m = size.m, n = size.n;
        const layout_case c = make_layout_case(kind, m, n, ranks, random);
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(ranks);
        CAPTURE(c.where.text());
        f(c, m, n, ranks);
      }
}

bool contains(const rectangle& r, index_t i, index_t j) {
  return i >= r.row && i < r.row + r.rows && j >= r.col && j < r.col + r.cols;
}

index_t count(const layout& where, index_t m, index_t n, int rank, int ranks) {
  index_t elements = 0;
  for (const rectangle& r : where.rectangles(m, n, rank, ranks)) elements += r.elements();
  return elements;
}

}  // namespace

TEST_CASE("each element of a matrix is in one rectangle of the rank that should hold it, and in no other") {
  for_each_case([](const layout_case& c, index_t m, index_t n, int ranks) {
    c.where.check("W", m, n, ranks);
    for (int r = 0; r < ranks; ++r) {
      const rectangle_list list = c.where.rectangles(m, n, r, ranks);
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j) {
          const int holder = c.holder(i, j);
          const auto in =
              std::count_if(list.begin(), list.end(), [&](const rectangle& a) { return contains(a, i, j); });
          CHECK(in == (holder == r || holder < 0 ? 1 : 0));
        }
    }
  });
}

TEST_CASE("rectangles lie within the matrix, are not empty, and follow each other as their elements do") {
  for_each_case([](const layout_case& c, index_t m, index_t n, int ranks) {
    for (int r = 0; r < ranks; ++r) {
      index_t before = -1;
      for (const rectangle& a : c.where.rectangles(m, n, r, ranks)) {
        CHECK(a.elements() > 0);
        CHECK((a.row >= 0 && a.col >= 0 && a.row + a.rows <= m && a.col + a.cols <= n));
        CHECK(a.row * n + a.col > before);
        before = (a.row + a.rows - 1) * n + a.col + a.cols - 1;
      }
    }
  });
}

TEST_CASE("what a rank holds, most of any, and who holds something are told without rectangles") {
  for_each_case([](const layout_case& c, index_t m, index_t n, int ranks) {
    std::vector<int> holders;
    for (int r = 0; r < ranks; ++r) {
      const index_t elements = count(c.where, m, n, r, ranks);
      CHECK(c.where.held(m, n, r, ranks) == elements);
      CHECK(c.where.most_held(m, n, ranks) >= elements);
      if (elements > 0) holders.push_back(r);
    }
    if (m * n == 0) {
      CHECK(holders.empty());
      return;
    }
    const auto [first, last] = c.where.holders(m, n, ranks);
    CHECK(first == holders.front());
    CHECK(last >= holders.back());
    CHECK(last < ranks);
    const std::optional<int> sole = c.where.sole_holder(m, n, ranks);
    CHECK(sole.has_value() == (holders.size() == 1));
    if (sole) CHECK(*sole == holders.front());
  });
}

TEST_CASE("of several ranks, the first of those that hold most is found") {
  shard_random random(2);
  for_each_case([&](const layout_case& c, index_t m, index_t n, int ranks) {
    if (m * n == 0) return;
    for (int round = 0; round < 4; ++round) {
      std::vector<int> some;
      for (int r = 0; r < ranks; ++r)
        if (random.from(0, 2) != 0) some.push_back(r);
      index_t most = 0;
      auto expected = some.end();
      for (auto r = some.begin(); r != some.end(); ++r)
        if (const index_t here = count(c.where, m, n, *r, ranks); here > most) expected = r, most = here;
      const auto found = c.where.holder_of_most(some.begin(), some.end(), m, n, ranks, c.where.most_held(m, n, ranks));
      CHECK(found.first == expected);
      CHECK(found.second == most);
    }
  });
}

TEST_CASE("even parts are FSDP's: all but the last as long as the first, the last shorter or empty") {
  const auto rows_of = [](int rank) { return layout::rows().held(10, 1, rank, 8); };
  const index_t expected[] = {2, 2, 2, 2, 2, 0, 0, 0};
  for (int r = 0; r < 8; ++r) CHECK(rows_of(r) == expected[r]);
}

TEST_CASE("a slice of a row-major matrix is the end of a row, whole rows and the beginning of a row") {
  const rectangle_list list = layout::flat_slice({0, 3, 17, 20}).rectangles(4, 5, 1, 3);
  REQUIRE(list.size() == 3);
  CHECK(list[0] == rectangle{0, 3, 1, 2});
  CHECK(list[1] == rectangle{1, 0, 2, 5});
  CHECK(list[2] == rectangle{3, 0, 1, 2});
}

TEST_CASE("experts of a batch are spread as rows are, each whole on one rank") {
  const int expected[] = {0, 0, 0, 1, 1, 1, 2, 2};
  for (index_t e = 0; e < 8; ++e) CHECK(rank_of_expert(e, 8, 3) == expected[e]);
  for (index_t e = 0; e < 3; ++e) CHECK(rank_of_expert(e, 3, 8) == e);
  const auto refused = [](index_t e, int ranks) { return refusal_of([&] { rank_of_expert(e, 8, ranks); }); };
  CHECK(refused(8, 3).is(error_code::parameter, "expected an expert of 0 to 7, got 8"));
  CHECK(refused(-1, 3).is(error_code::parameter, "expected an expert of 0 to 7, got -1"));
  CHECK(refused(0, 0).is(error_code::option, "expected at least 1 rank, got 0"));
}

TEST_CASE("a layout that is not all of the matrix once is refused with what was expected") {
  const auto refused = [](const layout& where, int ranks, const char* why) {
    const refusal r = refusal_of([&] { where.check("W", 6, 4, ranks); });
    CHECK_MESSAGE(r.is(error_code::parameter, "layout of 'W': ", why), r.message);
  };
  using offsets = std::vector<index_t>;
  refused(layout::rows(offsets{0, 3, 6}), 3, "expected 4 offsets for 3 ranks, got 3");
  refused(layout::rows(offsets{0, 3, 7}), 2, "expected offsets up to 6, got 7");
  refused(layout::rows(offsets{1, 3, 6}), 2, "expected offsets from 0, got 1");
  refused(layout::rows(offsets{0, 5, 3, 6}), 3, "expected offsets that don't descend, got 3 after 5");
  refused(layout::rows(offsets{}), 2, "expected 3 offsets for 2 ranks, got 0");
  refused(layout::cols(offsets{0, 3, 6}), 2, "expected offsets up to 4, got 6");
  refused(layout::flat_slice(offsets{0, 3, 6}), 2, "expected offsets up to 24, got 6");
  refused(layout::flat_slice(-1, 30), 1, "expected a begin >= 0, got -1");
  refused(layout::flat_slice(0, 0), 1, "expected a chunk >= 1, got 0");
  refused(layout::flat_slice(10, 16), 2, "expected 2 chunks that reach to element 34, got chunks of 16");
  refused(layout::flat_slice(0, index_t{1} << 62), 4, "expected a buffer of less than 2^63 elements");
  refused(layout::grid(2, 2), 6, "expected a grid of 6 ranks, got 2 x 2");
  refused(layout::grid(2, 4), 6, "expected a grid of 6 ranks, got 2 x 4");
  refused(layout::grid(-2, -3), 6, "expected a grid of 6 ranks, got -2 x -3");
  refused(layout::grid(1 << 16, 1 << 16), 6, "expected a grid of 6 ranks, got 65536 x 65536");
  refused(layout::owned(4), 4, "expected an owner of 0 to 3, got 4");
  refused(layout::owned(-1), 4, "expected an owner of 0 to 3, got -1");
}

TEST_CASE("the part of a rank that is not there, or of a matrix that can't be, is refused") {
  std::vector<float> memory(24);
  const auto refused = [](auto&& act, error_code code, const std::string& what) {
    const refusal r = refusal_of(act);
    CHECK(r.is(code, what));
  };
  const layout offsets = layout::rows({0, 4, 8});
  for (const int rank : {-1, 2, 5}) {
    const std::string what = "expected a rank of at least 0 and below the number of ranks, got " + std::to_string(rank);
    refused([&] { shard(memory.data(), 8, 3, offsets, rank, 2); }, error_code::option, what);
    refused([&] { shard(row_major(memory.data(), 8, 3), offsets, rank, 2); }, error_code::option, what);
  }
  refused([&] { shard(memory.data(), -8, 3, layout::rows(), 0, 2); }, error_code::parameter, "got -8 x 3");
  refused([&] { shard(row_major(memory.data(), 8, -3), layout::cols(), 0, 2); }, error_code::parameter, "got 8 x -3");
}

TEST_CASE("layouts that differ are told apart by their text, and equal ones are equal") {
  shard_random random(3);
  std::set<std::string> texts;
  std::vector<index_t> a = {0, 2, 6}, b = {0, 3, 6}, long_a(40), long_b(40);
  for (std::size_t i = 0; i < 40; ++i) long_a[i] = long_b[i] = static_cast<index_t>(i);
  long_b[30] = 29;
  const std::vector<layout> all = {
      layout::rows(),           layout::cols(),           layout::rows(a),
      layout::rows(b),          layout::cols(a),          layout::rows(long_a),
      layout::rows(long_b),     layout::flat_slice(),     layout::flat_slice(a),
      layout::grid(2, 3),       layout::grid(3, 2),       layout::grid(2, 3, tensor_parallel::rows),
      layout::flat_slice(1, 8), layout::flat_slice(2, 8), layout::flat_slice(1, 9),
      layout::owned(0),         layout::owned(1),         layout::replicated()};
  for (std::size_t i = 0; i < all.size(); ++i) {
    texts.insert(all[i].text());
    for (std::size_t k = 0; k < all.size(); ++k) CHECK((all[i] == all[k]) == (i == k));
  }
  CHECK(texts.size() == all.size());
  CHECK(layout::rows(a) == layout::rows(std::vector<index_t>(a)));
}
