// The header of a leg: 64 bytes before its payload, by which a receiver knows that peer and payload are those of the
// plan and of this step. Standard library only.
#ifndef NORMUON_SHARDS_LEG_HEADER_HPP
#define NORMUON_SHARDS_LEG_HEADER_HPP

#include <string_view>

#include "normuon/errors.hpp"
#include "normuon/shards/digest.hpp"

namespace normuon {

// U on its way to the owner of a matrix, or D on its way back.
enum class direction : std::uint64_t { gather, scatter };

constexpr std::string_view name_of(direction way) { return way == direction::gather ? "gather" : "scatter"; }

inline constexpr int everyone = -1;  // the receiver of a leg that is the same for all peers

// What both sides know of a leg beforehand.
struct leg_label {
  std::uint64_t plan = 0;  // the digest of the plan
  std::uint64_t step = 0;
  std::uint64_t bucket = 0;
  direction way = direction::gather;
  int sender = 0, receiver = 0;
  bool digested = true;  // the payload has a digest; it costs a pass over it on each side
};

struct leg_header {
  static constexpr std::uint64_t format = 0x31676c2d756d726e;  // "nrmu-lg1"

  std::uint64_t magic, plan, step, bucket, way, bytes, digest;
  std::int32_t sender, receiver;
};
static_assert(sizeof(leg_header) == 64, "payloads begin on a cache line where their legs do");

inline leg_header make_leg_header(const leg_label& l, std::span<const std::byte> payload) {
  return {leg_header::format,
          l.plan,
          l.step,
          l.bucket,
          static_cast<std::uint64_t>(l.way),
          payload.size(),
          l.digested ? digest_of(payload) : 0,
          l.sender,
          l.receiver};
}

// Writes the header of a leg whose payload is in its place, behind the header.
inline void write_leg_header(std::span<std::byte> leg, const leg_label& l) {
  const leg_header h = make_leg_header(l, leg.subspan(sizeof(leg_header)));
  std::memcpy(leg.data(), &h, sizeof h);
}

// Throws error_code::engine, naming bucket, peer and the first thing that differs, where the leg is not the one that
// the label describes, or its payload is not what was sent.
inline void check_leg(std::span<const std::byte> leg, const leg_label& l) {
  const auto refuse = [&](std::string_view what, auto expected, auto got) {
    fail(error_code::engine, name_of(l.way), " of bucket ", l.bucket, " from rank ", l.sender, ": expected ", what, " ",
         expected, ", got ", got);
  };
  if (leg.size() < sizeof(leg_header)) refuse("bytes, at least", sizeof(leg_header), leg.size());
  leg_header h;
  std::memcpy(&h, leg.data(), sizeof h);
  const leg_header expected = make_leg_header(l, leg.subspan(sizeof(leg_header)));
  if (h.magic != expected.magic) refuse("a header that begins with", expected.magic, h.magic);
  if (h.plan != expected.plan) refuse("the plan", expected.plan, h.plan);
  if (h.step != expected.step) refuse("step", expected.step, h.step);
  if (h.bucket != expected.bucket) refuse("bucket", expected.bucket, h.bucket);
  if (h.way != expected.way) refuse("direction", expected.way, h.way);
  if (h.sender != expected.sender) refuse("sender", expected.sender, h.sender);
  if (h.receiver != expected.receiver) refuse("receiver", expected.receiver, h.receiver);
  if (h.bytes != expected.bytes) refuse("bytes of payload", expected.bytes, h.bytes);
  if (h.digest != expected.digest) refuse("a payload of digest", h.digest, expected.digest);
}

}  // namespace normuon

#endif
