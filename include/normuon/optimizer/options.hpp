// Options of an optimizer, which all of its groups share.
#ifndef NORMUON_OPTIMIZER_OPTIONS_HPP
#define NORMUON_OPTIMIZER_OPTIONS_HPP

#include <cstdint>
#include <optional>

#include "normuon/element_types.hpp"

namespace normuon {

// What happens to a parameter whose gradient, times the gradient scale, holds a NaN or an infinity.
enum class non_finite_policy {
  skip,       // it is left as it is, state and counter too, and named in the report
  raise,      // step() throws before anything of any parameter is written. On one rank a backend that captures never
              // makes the host wait: there a step is as under `skip`, and report() and requested_report(), and no other
              // calls, throw where the step that they are of held a parameter back
  propagate,  // it takes part as if nothing were wrong
};

// What becomes of a parameter without a gradient. On several ranks it is without one where no rank that holds a part of
// it has one bound; where some have, the parts of the others take zeros.
enum class missing_gradient_policy {
  skip,  // it is left as it is, state and counter too
  zero,  // its gradient is zero: momentum fades, and what it still holds moves the weight
};

struct optimizer_options {
  non_finite_policy non_finite = non_finite_policy::skip;
  missing_gradient_policy missing_gradient = missing_gradient_policy::skip;
  std::size_t workspace_limit = 0;  // bytes of workspace a run of several matrices may need; 0: as the backend likes
  std::size_t staging_limit = std::size_t{1} << 30;  // bytes of a rank's stages; see shard_options
  std::uint64_t seed = 0;  // of weight_rounding::stochastic, with the parameter's name, step and element
  // The type in which U and D of matrix rules travel between ranks, state's where there is none. Where it is narrower,
  // they are rounded to it also where nothing travels, so that results don't depend on the number of ranks.
  std::optional<element_type> wire = {};
};

}  // namespace normuon

#endif
