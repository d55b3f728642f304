// What a rank tells all others before a step, but for its verdicts on parameters. Standard library only.
#ifndef NORMUON_SHARDS_STEP_CLAIM_HPP
#define NORMUON_SHARDS_STEP_CLAIM_HPP

#include <cstddef>
#include <cstdint>

#include "normuon/errors.hpp"

namespace normuon {

struct step_claim {
  std::uint64_t numbers;  // a digest of all that may be set anew for each step, alike on all ranks
  std::uint64_t refuses;  // where it can't make the step, 1 + the error_code of its reason
};

// A reason as a claim says it, and as it is read: error_code::backend where it has no other name.
constexpr std::uint64_t in_claim(error_code reason) { return 1 + static_cast<std::uint64_t>(reason); }
constexpr error_code reason_in(const step_claim& c) {
  const bool is_named = c.refuses != 0 && c.refuses - 1 <= static_cast<std::uint64_t>(error_code::engine);
  return is_named ? static_cast<error_code>(c.refuses - 1) : error_code::backend;
}

// What a rank says takes so many bytes: one for each parameter, then the claim.
constexpr std::size_t bytes_said(std::size_t parameters) { return parameters + sizeof(step_claim); }

}  // namespace normuon

#endif
