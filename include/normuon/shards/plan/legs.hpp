// The legs of a bucket at one rank: one for each peer and direction, headed by a leg_header, then rectangle after
// rectangle. Sender and receiver list them alike without a word. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_LEGS_HPP
#define NORMUON_SHARDS_PLAN_LEGS_HPP

#include "normuon/shards/engine.hpp"
#include "normuon/shards/leg_header.hpp"
#include "normuon/shards/plan/buckets.hpp"

namespace normuon {

// A rectangle of a matrix in a stage: its elements row by row, from byte `offset`, in the matrix's wire type.
struct piece {
  std::size_t matrix = 0;
  std::size_t part = 0;  // which of its holder's rectangles, layout::rectangles(...)[part], or a slice of it
  rectangle area;        // in the whole matrix
  std::size_t offset = 0;
  friend bool operator==(const piece&, const piece&) = default;
};

// What travels as one: `bytes` from `offset` of the stage, of which the first are a leg_header, then `pieces`.
struct packet {
  int peer = 0;  // `everyone` where the same bytes are sent to all peers
  std::size_t offset = 0, bytes = 0;
  std::vector<piece> pieces;

  std::size_t payload() const { return bytes - sizeof(leg_header); }
};

// One direction of a bucket at one rank: what is packed and sent, and what is received and unpacked.
struct traffic {
  exchange legs;  // the packets as the engine sees them: one for each peer, those to everyone once for each
  std::vector<packet> sent, received;
  std::size_t send_stage = 0, receive_stage = 0;  // bytes
};

// A bucket as one rank sees it.
struct bucket_plan {
  std::vector<std::size_t> matrices;
  std::vector<std::size_t> owned;  // those that this rank owns
  std::vector<piece> local;        // what it holds of them itself, and no stage is needed for: offsets mean nothing
  bool replicated = false;
  index_t slice = 0;  // what is owned is made in bucket 0 of its slices
  traffic gather, scatter;
};

// A piece on its way to becoming part of a packet.
struct addressed_piece {
  int peer;
  std::size_t width;  // bytes of an element
  piece what;
};

inline constexpr std::size_t packet_alignment = 64;

// Packets of the pieces, one for each peer, from the peer behind this rank on, so that not all ranks begin with the
// same one (`turn` 1; -1: from the one before it). Within a packet wide elements come first: so all are aligned.
inline std::vector<packet> packets_of(std::vector<addressed_piece> pieces, int rank, int ranks, int turn,
                                      std::size_t& stage) {
  const auto distance = [=](int peer) { return peer == everyone ? 0 : (turn * (peer - rank) + ranks) % ranks; };
  std::stable_sort(pieces.begin(), pieces.end(), [&](const addressed_piece& a, const addressed_piece& b) {
    const int x = distance(a.peer), y = distance(b.peer);
    return x != y ? x < y : a.width > b.width;
  });
  std::vector<packet> packets;
  stage = 0;
  for (addressed_piece& a : pieces) {
    if (packets.empty() || packets.back().peer != a.peer) {
      stage = (stage + packet_alignment - 1) / packet_alignment * packet_alignment;
      packets.push_back({a.peer, stage, sizeof(leg_header), {}});
      stage += sizeof(leg_header);
    }
    a.what.offset = stage;
    const std::size_t bytes = static_cast<std::size_t>(a.what.area.elements()) * a.width;
    stage += bytes;
    packets.back().bytes += bytes;
    packets.back().pieces.push_back(a.what);
  }
  return packets;
}

inline traffic make_traffic(std::vector<addressed_piece> sent, std::vector<addressed_piece> received, int rank,
                            int ranks) {
  traffic t;
  t.sent = packets_of(std::move(sent), rank, ranks, 1, t.send_stage);
  t.received = packets_of(std::move(received), rank, ranks, -1, t.receive_stage);
  for (const packet& p : t.sent) {
    if (p.peer != everyone) t.legs.send.push_back({p.peer, p.offset, p.bytes});
    else
      for (int k = 1; k < ranks; ++k) t.legs.send.push_back({(rank + k) % ranks, p.offset, p.bytes});
  }
  for (const packet& p : t.received) t.legs.receive.push_back({p.peer, p.offset, p.bytes});
  return t;
}

// Looks at all ranks only for what this one owns.
inline bucket_plan make_bucket_plan(const bucket& b, std::span<const sharded_matrix> matrices, const ownership& owners,
                                    int rank) {
  const int ranks = static_cast<int>(owners.load.size());
  bucket_plan plan;
  plan.matrices = b.matrices;
  plan.replicated = b.replicated;
  plan.slice = b.slice;
  std::vector<addressed_piece> U_out, U_in, D_out, D_in;
  for (const std::size_t i : b.matrices) {
    const sharded_matrix& a = matrices[i];
    const int owner = owners.owner[i];
    const auto for_each_piece = [&](int holder, auto&& f) {
      const rectangle_list list = a.where.rectangles(a.rows, a.cols, holder, ranks);
      for (std::size_t k = 0; k < list.size(); ++k) f(piece{i, k, list[k], 0});
    };
    const auto address = [&](std::vector<addressed_piece>& pieces, int peer) {
      return [&pieces, &b, peer, width = size_of(a.wire)](piece p) {
        p.area = b.slice_of(p.area);
        if (p.area.rows != 0) pieces.push_back({peer, width, p});
      };
    };
    if (owner != rank) {
      if (!b.replicated) for_each_piece(rank, address(U_out, owner));
      for_each_piece(rank, address(D_in, owner));
      continue;
    }
    if (b.slice == 0) {
      plan.owned.push_back(i);
      for_each_piece(rank, [&](const piece& p) { plan.local.push_back(p); });
    }
    if (b.replicated) {
      for_each_piece(rank, address(D_out, everyone));
      continue;
    }
    const auto [first, last] = a.where.holders(a.rows, a.cols, ranks);
    for (int holder = first; holder <= last; ++holder) {
      if (holder == rank) continue;
      for_each_piece(holder, address(U_in, holder));
      for_each_piece(holder, address(D_out, holder));
    }
  }
  plan.gather = make_traffic(std::move(U_out), std::move(U_in), rank, ranks);
  plan.scatter = make_traffic(std::move(D_out), std::move(D_in), rank, ranks);
  return plan;
}

}  // namespace normuon

#endif
