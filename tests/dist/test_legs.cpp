#include <doctest/doctest.h>

#include <array>

#include "support/refusal.hpp"
#include "support/shard_plans.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using bytes = std::vector<std::byte>;

bytes leg_of(const leg_label& l, std::size_t payload) {
  bytes leg(sizeof(leg_header) + payload);
  for (std::size_t k = sizeof(leg_header); k < leg.size(); ++k) leg[k] = static_cast<std::byte>(k * 7);
  write_leg_header(leg, l);
  return leg;
}

constexpr leg_label label{.plan = 11, .step = 7, .bucket = 3, .way = direction::gather, .sender = 2, .receiver = 5};

void check_engine_error(const bytes& leg, const leg_label& expected, const char* why) {
  const refusal r = refusal_of([&] { check_leg(leg, expected); });
  CHECK_MESSAGE(r.is(error_code::engine, "of bucket 3 from rank 2: ", why), r.message);
}

double number(const sharded_matrix& a, index_t i, index_t j) {
  return static_cast<double>(a.name.back()) * 100 + static_cast<double>(i * a.cols + j);
}

// One direction of a step on all ranks: every rank packs its own numbers, bytes go along the legs, and every rank
// checks and unpacks. What stands in `matrix(rank, i)` is packed and written.
template <class Matrix>
void move(const std::vector<shard_plan>& plans, std::size_t b, direction way, Matrix&& matrix) {
  std::vector<bytes> sent, received;
  for (const shard_plan& p : plans) {
    const traffic& t = traffic_of(p, b, way);
    bytes& stage = sent.emplace_back(t.send_stage);
    received.emplace_back(t.receive_stage);
    for (const packet& k : t.sent) {
      for (const piece& q : k.pieces) {
        std::size_t at = q.offset;
        for (index_t i = q.area.row; i < q.area.row + q.area.rows; ++i)
          for (index_t j = q.area.col; j < q.area.col + q.area.cols; ++j, at += sizeof(float)) {
            const auto x = matrix(p.rank(), q.matrix)[static_cast<std::size_t>(i * p.matrices()[q.matrix].cols + j)];
            std::memcpy(stage.data() + at, &x, sizeof x);
          }
      }
      write_leg_header(std::span(stage).subspan(k.offset, k.bytes), p.sent(p.label(9, b, way), k));
    }
  }
  for (const shard_plan& p : plans)
    for (const leg& out : traffic_of(p, b, way).legs.send)
      for (const leg& in : traffic_of(plans[static_cast<std::size_t>(out.peer)], b, way).legs.receive)
        if (in.peer == p.rank())
          std::memcpy(received[static_cast<std::size_t>(out.peer)].data() + in.offset,
                      sent[static_cast<std::size_t>(p.rank())].data() + out.offset, out.bytes);
  for (const shard_plan& p : plans) {
    const bytes& stage = received[static_cast<std::size_t>(p.rank())];
    for (const packet& k : traffic_of(p, b, way).received) {
      check_leg(std::span(stage).subspan(k.offset, k.bytes), p.received(p.label(9, b, way), k));
      for (const piece& q : k.pieces) {
        std::size_t at = q.offset;
        for (index_t i = q.area.row; i < q.area.row + q.area.rows; ++i)
          for (index_t j = q.area.col; j < q.area.col + q.area.cols; ++j, at += sizeof(float))
            std::memcpy(&matrix(p.rank(), q.matrix)[static_cast<std::size_t>(i * p.matrices()[q.matrix].cols + j)],
                        stage.data() + at, sizeof(float));
      }
    }
  }
}

}  // namespace

TEST_CASE("a header takes 64 bytes, and the leg that it heads is the one that is expected") {
  CHECK(sizeof(leg_header) == 64);
  for (const std::size_t payload : {0u, 1u, 8u, 31u, 32u, 33u, 1000u})
    CHECK_NOTHROW(check_leg(leg_of(label, payload), label));
}

TEST_CASE(
    "a leg of another plan, step, bucket, direction, sender, receiver or size is refused, and the message says which") {
  const auto refused = [](auto&& change, const char* why) {
    leg_label other = label;
    change(other);
    check_engine_error(leg_of(other, 40), label, why);
  };
  refused([](leg_label& l) { l.plan = 12; }, "expected the plan 11, got 12");
  refused([](leg_label& l) { l.step = 6; }, "expected step 7, got 6");
  refused([](leg_label& l) { l.bucket = 4; }, "expected bucket 3, got 4");
  refused([](leg_label& l) { l.way = direction::scatter; }, "expected direction 0, got 1");
  refused([](leg_label& l) { l.sender = 3; }, "expected sender 2, got 3");
  refused([](leg_label& l) { l.receiver = everyone; }, "expected receiver 5, got -1");
  refused([](leg_label& l) { l.digested = false; }, "expected a payload of digest 0, got ");
  bytes leg = leg_of(label, 40);
  leg.pop_back();
  check_engine_error(leg, label, "expected bytes of payload 39, got 40");
  leg.resize(63);
  check_engine_error(leg, label, "expected bytes, at least 64, got 63");
  check_engine_error(bytes(104), label, "expected a header that begins with");
  leg_label scatter = label;
  scatter.way = direction::scatter;
  CHECK(refusal_of([&] { check_leg(bytes(104), scatter); }).message.starts_with("scatter of bucket 3 from rank 2: "));
}

TEST_CASE("any changed bit of a leg is found") {
  const bytes leg = leg_of(label, 100);
  for (std::size_t k = 0; k < leg.size(); ++k)
    for (int bit = 0; bit < 8; ++bit) {
      bytes changed = leg;
      changed[k] ^= static_cast<std::byte>(1 << bit);
      CHECK(refusal_of([&] { check_leg(changed, label); }).code == error_code::engine);
    }
}

TEST_CASE("words that changed places are found, and zeros that were added") {
  const bytes leg = leg_of(label, 128);
  for (std::size_t a = 64; a < leg.size(); a += 8)
    for (std::size_t b = a + 8; b < leg.size(); b += 8) {
      bytes changed = leg;
      std::swap_ranges(changed.begin() + static_cast<std::ptrdiff_t>(a),
                       changed.begin() + static_cast<std::ptrdiff_t>(a) + 8,
                       changed.begin() + static_cast<std::ptrdiff_t>(b));
      CHECK(refusal_of([&] { check_leg(changed, label); }).code == error_code::engine);
    }
  const bytes zeros(8);
  CHECK(digest_of(std::span(zeros).first(7)) != digest_of(std::span(zeros)));
  CHECK(digest_of(std::string_view("ab")) != digest_of(std::string_view("ab\0", 3)));
}

TEST_CASE("without digests a changed payload passes, as it costs a pass to find it") {
  leg_label plain = label;
  plain.digested = false;
  bytes leg = leg_of(plain, 100);
  leg[80] ^= std::byte{1};
  CHECK_NOTHROW(check_leg(leg, plain));
}

TEST_CASE(
    "what holders pack arrives at owners as the whole matrix, and what owners pack at holders as their part of it") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    shard_random random(seed);
    const int ranks = static_cast<int>(random.from(2, 6));
    auto matrices = random_model(ranks, random);
    for (sharded_matrix& a : matrices) a.wire = element_type::float32;
    const auto plans = plans_of(matrices, ranks);
    std::vector<std::vector<std::vector<float>>> U(plans.size()), D;
    for (const shard_plan& p : plans)
      for (std::size_t i = 0; i < matrices.size(); ++i) {
        auto& mine =
            U[static_cast<std::size_t>(p.rank())].emplace_back(static_cast<std::size_t>(matrices[i].elements()), -1.f);
        for (const rectangle& r : p.held(i))
          for (index_t k = r.row; k < r.row + r.rows; ++k)
            for (index_t j = r.col; j < r.col + r.cols; ++j)
              mine[static_cast<std::size_t>(k * matrices[i].cols + j)] = static_cast<float>(number(matrices[i], k, j));
      }
    D = U;
    for (std::size_t b = 0; b < plans[0].buckets().size(); ++b) {
      move(plans, b, direction::gather,
           [&](int rank, std::size_t i) -> auto& { return U[static_cast<std::size_t>(rank)][i]; });
      for (const std::size_t i : plans[0].buckets()[b].matrices) {
        const auto owner = static_cast<std::size_t>(plans[0].owners().owner[i]);
        for (index_t k = 0; k < matrices[i].elements(); ++k)
          REQUIRE(U[owner][i][static_cast<std::size_t>(k)] == static_cast<float>(number(matrices[i], 0, k)));
        for (float& x : D[owner][i]) x = 0.5f;
        D[owner][i] = U[owner][i];
        for (float& x : D[owner][i]) x += 0.5f;
      }
      move(plans, b, direction::scatter,
           [&](int rank, std::size_t i) -> auto& { return D[static_cast<std::size_t>(rank)][i]; });
      for (const std::size_t i : plans[0].buckets()[b].matrices)
        for (const shard_plan& p : plans)
          for (const rectangle& r : p.held(i))
            for (index_t k = r.row; k < r.row + r.rows; ++k)
              for (index_t j = r.col; j < r.col + r.cols; ++j)
                REQUIRE(D[static_cast<std::size_t>(p.rank())][i][static_cast<std::size_t>(k * matrices[i].cols + j)] ==
                        static_cast<float>(number(matrices[i], k, j)) + 0.5f);
    }
  }
}
