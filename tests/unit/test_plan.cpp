#include <doctest/doctest.h>

#include <map>

#include "support/failing_backend.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// A plan over parameters of given shapes, on a backend that likes runs of `run_length` matrices and has two workers.
struct planned {
  struct shape {
    int group;
    index_t rows, cols, batch = 1;
  };
  // The first two groups are of matrices, the third is AdamW's.
  std::vector<group> groups = {{normuon_options::paper(), "normuon", {}},
                               {normuon_options(muon_options::jordan()), "muon", {}},
                               {adamw_options{}, "adamw", {}}};
  failing_backend backend;
  std::vector<parameter<failing_backend>> parameters;
  std::vector<float> memory = std::vector<float>(10000);
  plan<failing_backend> p;

  planned(const std::vector<shape>& shapes, index_t run_length, std::size_t limit = 0)
      : backend(counter_of(run_length), 2) {
    for (const shape& s : shapes) {
      parameter<failing_backend> q{.name = std::to_string(parameters.size()),
                                   .group = s.group,
                                   .rows = s.rows,
                                   .cols = s.cols,
                                   .batch = s.batch};
      q.parts.push_back({.where = {0, 0, s.rows, s.cols},
                         .weight = batched(row_major(memory.data(), s.rows, s.cols), s.batch, s.rows * s.cols)});
      q.state = parameter_state<failing_backend>(backend, q.elements(), q.elements());
      parameters.push_back(std::move(q));
    }
    p = plan<failing_backend>(backend, groups, parameters, {.limit = limit});
  }

  // Lengths of the runs of r x c matrices of a group.
  std::vector<index_t> run_lengths(int group, index_t r, index_t c) const {
    std::vector<index_t> lengths;
    for (const run& a : p.runs) {
      const matrix_view& w = p.W[static_cast<std::size_t>(a.first)];
      if (a.group == group && w.rows == r && w.cols == c) lengths.push_back(a.count);
    }
    return lengths;
  }

 private:
  static std::shared_ptr<operation_counter> counter_of(index_t run_length) {
    auto counter = std::make_shared<operation_counter>();
    counter->run_length = run_length;
    return counter;
  }
};

using lengths = std::vector<index_t>;

}  // namespace

TEST_CASE("every matrix is in one run, with others of its group and shape alone, up to the length the backend likes") {
  const std::vector<planned::shape> shapes = {{0, 3, 5}, {1, 3, 5},    {0, 5, 3}, {0, 3, 5, 4}, {2, 1, 9},
                                              {0, 0, 4}, {1, 3, 5, 2}, {2, 2, 7}, {0, 3, 5}};
  for (const index_t run_length : {1, 2, 3, 100}) {
    CAPTURE(run_length);
    const planned t(shapes, run_length);
    std::vector<int> taken(t.p.W.size());
    for (const run& a : t.p.runs)
      for (index_t k = a.first; k < a.first + a.count; ++k) {
        const auto i = static_cast<std::size_t>(k);
        ++taken[i];
        CHECK(t.p.group_of[i] == a.group);
        CHECK(t.p.shape_of[i] == a.shape);
        CHECK((a.group == 2) == (a.shape < 0));
      }
    CHECK(taken == std::vector<int>(6 + 1 + 3 + 2, 1));
  }
  CHECK(planned(shapes, 1).run_lengths(0, 3, 5) == lengths{1, 1, 1, 1, 1, 1});
  CHECK(planned(shapes, 4).run_lengths(0, 3, 5) == lengths{4, 2});
  CHECK(planned(shapes, 100).run_lengths(0, 3, 5) == lengths{6});
  CHECK(planned(shapes, 100).run_lengths(1, 3, 5) == lengths{3});
  CHECK(planned(shapes, 0).run_lengths(0, 5, 3) == lengths{1});  // a backend that likes none gets one
}

TEST_CASE("runs begin with the most expensive, by the operations of Newton-Schulz") {
  const planned t({{0, 2, 30}, {2, 40, 40}, {0, 9, 9}, {1, 12, 5}, {0, 9, 9}, {1, 4, 4}}, 1);
  double last = HUGE_VAL;
  std::map<std::pair<index_t, index_t>, double> costs;
  for (const run& a : t.p.runs) {
    CHECK(a.cost <= last);
    last = a.cost;
    const matrix_view& w = t.p.W[static_cast<std::size_t>(a.first)];
    costs[{w.rows, w.cols}] = a.cost;
  }
  CHECK(costs[{2, 30}] == 4 * (60 + 2));
  CHECK(costs[{9, 9}] == 81 * (18 + 9));
  CHECK(costs[{12, 5}] == 25 * (24 + 5));
  CHECK(costs[{40, 40}] == 50 * 1600);
}

TEST_CASE("a worker's memory is the largest use of each of its buffers, and all workers have it") {
  // Jordan's Muon needs U besides (Nesterov), the paper's rule does not; this backend stores D. fp32 throughout.
  const eigen_backend b({.threads = 1});
  const auto XY = [&](index_t s, index_t l) {
    return 2 * static_cast<index_t>(b.operand_bytes({s, l, 1, compute_type::float32}));
  };
  const auto bytes = [](const planned& t) {  // of a worker, where there are more runs than workers
    CHECK(t.p.workspaces.size() == 2);
    return static_cast<index_t>(t.p.workspace_bytes()) / 2;
  };
  CHECK(bytes(planned({{0, 6, 7, 3}}, 1)) == XY(6, 7) + XY(6, 6) + 4 * 42);        // X Y, A P, D
  CHECK(bytes(planned({{1, 6, 7, 3}}, 1)) == XY(6, 7) + XY(6, 6) + 2 * 4 * 42);    // and U
  CHECK(bytes(planned({{0, 9, 6, 3}}, 1)) == XY(6, 9) + 2 * XY(6, 6) + 4 * 54);    // and Q Z: the Gram form
  CHECK(bytes(planned({{0, 6, 7, 9}}, 3)) == 3 * (XY(6, 7) + XY(6, 6) + 4 * 42));  // runs of 3
  // X, D and Q of a long matrix, A of a square one.
  CHECK(bytes(planned({{0, 2, 900}, {0, 40, 40}, {0, 2, 900}}, 1)) == XY(2, 900) + XY(40, 40) + XY(2, 2) + 4 * 1800);
}

TEST_CASE("where there are no more runs of matrices than workers, each has memory of its own, as much as it needs") {
  const auto bytes = [](const planned& t) { return t.p.workspace_bytes(); };
  const std::size_t small = bytes(planned({{0, 6, 7}}, 1)), large = bytes(planned({{1, 12, 5}}, 1));
  const eigen_backend b({.threads = 1});
  const auto operand = [&](index_t s, index_t l) { return b.operand_bytes({s, l, 1, compute_type::float32}); };
  CHECK(small == 2 * (operand(6, 7) + operand(6, 6)) + 4 * 42);
  CHECK(bytes(planned({{0, 6, 7}, {1, 12, 5}, {2, 50, 60}, {2, 9, 9}}, 1)) == small + large);
  CHECK(bytes(planned({{2, 50, 60}}, 1)) == 0);
  const planned two({{0, 6, 7}, {2, 50, 60}, {1, 12, 5}}, 1);
  std::vector<int> own;
  for (const run& a : two.p.runs) own.push_back(a.workspace);
  std::sort(own.begin(), own.end());
  CHECK(own == std::vector<int>{-1, 0, 1});
  for (const run& a : planned({{0, 6, 7, 3}}, 1).p.runs) CHECK(a.workspace == -1);  // that of its worker
}

TEST_CASE("a limit of workspace shortens runs, down to one matrix") {
  const std::vector<planned::shape> shapes = {{0, 6, 7, 10}, {2, 6, 7, 10}};
  const std::size_t one = planned({{0, 6, 7}}, 1).p.workspace_bytes();
  CHECK(planned(shapes, 8).run_lengths(0, 6, 7) == lengths{8, 2});
  CHECK(planned(shapes, 8, 8 * one).run_lengths(0, 6, 7) == lengths{8, 2});
  CHECK(planned(shapes, 8, 8 * one - 1).run_lengths(0, 6, 7) == lengths{7, 3});
  CHECK(planned(shapes, 8, 4 * one).run_lengths(0, 6, 7) == lengths{4, 4, 2});
  CHECK(planned(shapes, 8, 1).run_lengths(0, 6, 7) == lengths(10, 1));
  CHECK(planned(shapes, 8, static_cast<std::size_t>(-1)).run_lengths(0, 6, 7) == lengths{8, 2});
  CHECK(planned(shapes, 8, 1).run_lengths(2, 6, 7) == lengths{8, 2});  // AdamW needs none
}

TEST_CASE("all workers do together what would leave some of them idle, and nothing else") {
  CHECK(runs_to_share({8}, 1, 2) == 1);        // one matrix
  CHECK(runs_to_share({8, 8}, 2, 2) == 0);     // one each
  CHECK(runs_to_share({8, 8, 8}, 3, 2) == 1);  // and one is left over
  CHECK(runs_to_share({8, 8, 8, 8, 8}, 5, 4) == 1);
  CHECK(runs_to_share({90, 1, 1, 1}, 4, 3) == 1);  // one that outweighs all others
  CHECK(runs_to_share({90, 1, 1, 1}, 0, 3) == 0);  // but can't be shared
  CHECK(runs_to_share({9, 8, 8, 1, 1, 1, 1, 1}, 3, 1) == 0);
  CHECK(runs_to_share({}, 0, 4) == 0);
}
