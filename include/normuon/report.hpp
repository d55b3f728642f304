// What a step did to each parameter. Standard library only.
#ifndef NORMUON_REPORT_HPP
#define NORMUON_REPORT_HPP

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "normuon/math/coefficients.hpp"
#include "normuon/matrix_ref.hpp"

namespace normuon {

enum class outcome {
  moved,
  frozen,               // held back by `freeze`
  absent,               // no gradient was bound
  non_finite_gradient,  // held back whole: W, M, v and the counter are as they were
  non_finite_update,    // M moved, but U overflowed: W and v of that matrix are as they were. If M itself is infinite
                        // now, W stays where it is until other state is imported, say zeros
};

constexpr std::string_view name_of(outcome o) {
  constexpr std::string_view names[] = {"moved", "frozen", "absent", "non-finite gradient", "non-finite update"};
  return names[static_cast<std::size_t>(o)];
}

// How matrices of a shape are orthogonalized.
struct iteration_report {
  compute_type compute = compute_type::float32;
  bool gram = false;                    // in the Gram form, or plain
  restart_steps restarts = {};          // of the Gram form
  restart_steps careful_restarts = {};  // of a matrix with a long row, see `iteration`; else the same
  std::string_view path = {};           // the backend's kernels, where it names them
};

// Numbers are 0 for what did not move; of a batch they are those of its matrices that did, together.
struct parameter_report {
  std::string name;
  std::string_view rule = {};  // normuon, muon or adamw
  normuon::outcome outcome = outcome::moved;
  double update_rms = 0;      // of lr D: what was subtracted from W besides decay
  double update_norm = 0;     // ||lr D||_F
  double direction_norm = 0;  // ||U||_F before orthogonalization (matrix rules)

  std::optional<iteration_report> iteration = {};  // matrix rules, where there are elements

  // On request (optimizer::set_diagnostics). Matrix rules only; of a batch, the mean over its matrices that moved.
  std::optional<double> spread_before = {};           // standard deviation over mean of the neurons' norms in O
  std::optional<double> spread_after = {};            // the same in D
  std::optional<double> orthogonality_residual = {};  // ||O O^T - I||_F / sqrt(s), short side s
};

struct step_report {
  std::vector<parameter_report> parameters;  // in the order in which they were added

  // The names of those that a NaN or an infinity held back.
  std::vector<std::string> non_finite() const {
    std::vector<std::string> names;
    for (const parameter_report& p : parameters)
      if (p.outcome == outcome::non_finite_gradient || p.outcome == outcome::non_finite_update) names.push_back(p.name);
    return names;
  }
};

}  // namespace normuon

#endif
