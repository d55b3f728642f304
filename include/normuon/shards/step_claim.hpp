// What a rank tells all others before a step, but for its verdicts on parameters. Standard library only.
#ifndef NORMUON_SHARDS_STEP_CLAIM_HPP
#define NORMUON_SHARDS_STEP_CLAIM_HPP

#include <cstddef>
#include <cstdint>

namespace normuon {

struct step_claim {
  std::uint64_t numbers;  // a digest of all that may be set anew for each step, alike on all ranks
  std::uint64_t refuses;  // 1 where it can't make the step
};

// What a rank says takes so many bytes: one for each parameter, then the claim.
constexpr std::size_t bytes_said(std::size_t parameters) { return parameters + sizeof(step_claim); }

}  // namespace normuon

#endif
