// Whether all ranks have planned the same, and if not, what they differ in. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_AGREEMENT_HPP
#define NORMUON_SHARDS_PLAN_AGREEMENT_HPP

#include <functional>

#include "normuon/shards/gathered.hpp"
#include "normuon/shards/plan/fields.hpp"

namespace normuon {

// What a rank shows of one of its fields.
struct shown_field {
  std::uint64_t digest = 0;
  char text[248] = {};
};

inline shown_field show(std::span<const plan_field> fields, std::size_t k) {
  if (k >= fields.size()) return {0, "nothing"};
  shown_field s{digest_of(fields[k]), {}};
  const std::string text = fields[k].name + ": " + fields[k].value;
  std::memcpy(s.text, text.data(), std::min(text.size(), sizeof s.text - 1));
  return s;
}

// Throws error_code::option on every rank, with the same message, where not all ranks have the same fields: it says
// what rank 0 and the first that differs from it have in place of the first field in which any two differ. All ranks
// call it together. `of_what`: what fields are of, in the message. One gather of 8 bytes where all agree; else one for
// each halving, and one of 256 bytes.
template <gather_from_host Gather>
void require_agreement(std::span<const plan_field> fields, int rank, int ranks, Gather&& gather,
                       const char* of_what = "plan") {
  const std::vector<std::uint64_t> digests = prefix_digests(fields);
  const auto of_all = [&](const auto& mine) { return gathered(mine, rank, ranks, gather); };
  const auto same = [](const auto& all) {
    return std::adjacent_find(all.begin(), all.end(), std::not_equal_to()) == all.end();
  };
  // A rank that has not so many fields shows all of them, which is not what one that has them shows.
  const auto prefix = [&](std::size_t k) { return digests[std::min(k, fields.size())]; };
  if (same(of_all(digests.back()))) return;
  const std::vector<std::size_t> counts = of_all(fields.size());
  std::size_t agreed = 0, differ = *std::max_element(counts.begin(), counts.end());
  while (differ - agreed > 1) {
    const std::size_t middle = agreed + (differ - agreed) / 2;
    (same(of_all(prefix(middle))) ? agreed : differ) = middle;
  }
  const std::vector<shown_field> shown = of_all(show(fields, agreed));
  std::size_t other = 1;
  while (other < shown.size() && shown[other].digest == shown[0].digest) ++other;
  if (other == shown.size()) fail(error_code::option, "the plans of ranks differ in no field, but in their digests");
  fail(error_code::option, "expected the same ", of_what, " on all ranks, but rank 0 has ", shown[0].text, "; rank ",
       other, " has ", shown[other].text);
}

}  // namespace normuon

#endif
