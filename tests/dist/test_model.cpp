#include <doctest/doctest.h>

#include <cmath>

#include "normuon/shards/plan/model.hpp"
#include "support/models.hpp"
#include "support/shard_plans.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

step_model modelled(const std::vector<sharded_matrix>& matrices, int ranks, const shard_options& options = {},
                    const machine_rates& rates = {}) {
  const ownership owners = assign_owners(matrices, ranks);
  return model_step(matrices, owners, make_buckets(matrices, owners, options), rates);
}

mail mail_of(const std::vector<packet>& packets, int copies_to_all) {
  mail m;
  for (const packet& p : packets) {
    const auto copies = static_cast<std::uint64_t>(p.peer == everyone ? copies_to_all : 1);
    m.payload += copies * p.payload();
    m.messages += copies;
  }
  return m;
}

bool same(const mail& a, const mail& b) { return a.payload == b.payload && a.messages == b.messages; }

}  // namespace

TEST_CASE("bytes, messages, memory and loads of all ranks are counted as their plans have them") {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    CAPTURE(seed);
    shard_random random(seed);
    const int ranks = static_cast<int>(random.from(1, 6));
    const auto matrices = random_model(ranks, random);
    const shard_options options{.staging_limit = static_cast<std::size_t>(random.from(1, 4000))};
    const step_model model = modelled(matrices, ranks, options);
    REQUIRE(model.ranks.size() == static_cast<std::size_t>(ranks));
    for (const shard_plan& p : plans_of(matrices, ranks, options)) {
      const rank_work& w = model.ranks[static_cast<std::size_t>(p.rank())];
      mail gather_sent, gather_received, scatter_sent, scatter_received;
      std::size_t owned = p.at_home().size();
      for (const bucket_plan& b : p.buckets()) {
        gather_sent.add(mail_of(b.gather.sent, ranks - 1));
        gather_received.add(mail_of(b.gather.received, 1));
        scatter_sent.add(mail_of(b.scatter.sent, ranks - 1));
        scatter_received.add(mail_of(b.scatter.received, 1));
        owned += b.owned.size();
      }
      REQUIRE(same(w.gather_sent, gather_sent));
      REQUIRE(same(w.gather_received, gather_received));
      REQUIRE(same(w.scatter_sent, scatter_sent));
      REQUIRE(same(w.scatter_received, scatter_received));
      REQUIRE(
          same(w.sent(), {gather_sent.payload + scatter_sent.payload, gather_sent.messages + scatter_sent.messages}));
      REQUIRE(w.load == p.owners().load[static_cast<std::size_t>(p.rank())]);
      REQUIRE(w.matrices == owned);
      REQUIRE(w.stages <= p.stages().total());
      REQUIRE(p.stages().total() < w.stages + 64 * 2 * 4 * static_cast<std::size_t>(ranks));
    }
    CHECK(model.piped <= model.serial * (1 + 1e-12));
    CHECK(model.piped >= model.compute * (1 - 1e-12));
  }
}

TEST_CASE("a bucket travels while its neighbours are computed, through two stages each way") {
  const auto piped = [](const std::vector<bucket_seconds>& b, double at_home = 0) { return piped_seconds(b, at_home); };
  CHECK(piped({}) == 0);
  CHECK(piped({}, 5) == 5);
  CHECK(piped({{1, 10, 2}}) == 13);
  CHECK(piped({{1, 10, 2}}, 4) == 16);                       // what is at home first, while bytes come
  CHECK(piped({{1, 10, 1}, {1, 10, 1}, {1, 10, 1}}) == 32);  // computing hides all but the first and the last
  CHECK(piped({{10, 1, 1}, {10, 1, 1}, {10, 1, 1}}) == 32);  // gathers one after the other
  CHECK(piped({{1, 1, 10}, {1, 1, 10}, {1, 1, 10}}) == 32);  // scatters one after the other
  CHECK(piped({{1, 100, 1}, {50, 1, 1}, {50, 1, 1}}) == 101 + 50 + 2);  // the third waits for the first's stage
  CHECK(piped({{1, 1, 100}, {1, 1, 1}, {1, 50, 1}}) == 102 + 50 + 1);   // and here for that of its D
}

TEST_CASE("a step is modelled as on paper: gathers, products and scatters of public models") {
  // At 50 GB/s and 3 us, 400 TFLOP/s, bfloat16. By hand: of 7B on 1024 ranks an owner of 11008 x 4096 receives 90 MB
  // from 1023 ranks and computes 10 * 4096^2 * 26112 FLOP.
  const auto close = [](double x, double expected) { return std::abs(x - expected) < 0.02 * expected; };
  const auto on = [](const public_model& m, int ranks) {
    return modelled(m.matrices(layout::rows(), element_type::bfloat16), ranks);
  };
  const step_model wide = on(llama_7b, 1024);
  CHECK(close(wide.exchange, 1023 * 3e-6 + 2.0 * 11008 * 4096 / 50e9));
  CHECK(close(wide.compute, 10.0 * 4096 * 4096 * 26112 / 400e12));
  CHECK(close(wide.serial, 2 * wide.exchange + wide.compute));
  CHECK(close(on(llama_7b, 4096).exchange, 4095 * 3e-6 + 2.0 * 11008 * 4096 / 50e9));
  // Sums of bytes and of owners' loads (a script of its own): 27.1 ms and 110 ms of products, 10.9 ms one way.
  const step_model dense = on(llama_7b, 64), large = on(llama_70b, 512);
  CHECK(close(dense.compute, 27.1e-3));
  CHECK(close(large.compute, 110e-3));
  CHECK(close(large.exchange, 10.9e-3));
  // Owners wait for each other in every bucket, but no longer than they would without.
  CHECK(dense.serial - 2 * dense.exchange < 1.02 * dense.compute);
  CHECK(dense.piped < 32e-3);
}

TEST_CASE("all owners of replicated matrices send at once") {
  // 7B: each rank receives all of it but what it owns, 12.9 GB at 50 GB/s; one owner after the other took 12 s.
  const step_model m = modelled(llama_7b.matrices(layout::replicated(), element_type::bfloat16), 64);
  CHECK(m.piped > 0.25);
  CHECK(m.piped < 0.8);
}

TEST_CASE("what ranks say before a step is counted: of every rank a byte for each parameter, and sixteen") {
  std::vector<sharded_matrix> matrices = {{"a", 16, 8, layout::rows()}, {"b", 8, 8, layout::rows()}};
  matrices.push_back({"b", 8, 8, layout::rows(), element_type::float32, true, 1});  // of one batch
  CHECK(modelled(matrices, 4).said == 4 * (2 + 16));
}

TEST_CASE("what is replicated is sent once to each, and what is at home not at all") {
  const std::vector<sharded_matrix> matrices = {{"r", 16, 8, layout::replicated()}, {"o", 8, 8, layout::owned(1)}};
  const step_model m = modelled(matrices, 4);
  std::uint64_t payload = 0;
  for (const rank_work& w : m.ranks) payload += w.sent().payload;
  CHECK(payload == 3 * 16 * 8 * 4);
  CHECK(m.ranks[0].scatter_sent.messages == 3);
  CHECK(m.exchange == 0);
  CHECK(m.at_home > 0);
  CHECK(m.ranks[1].largest == 64);
}
