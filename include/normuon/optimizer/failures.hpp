// What an optimizer says of a step that it refuses or that failed in the middle.
#ifndef NORMUON_OPTIMIZER_FAILURES_HPP
#define NORMUON_OPTIMIZER_FAILURES_HPP

#include <exception>
#include <string>

#include "normuon/optimizer/unsharded.hpp"

namespace normuon {

inline std::string quoted_list(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return list;
}

// Throws where there are any names: of parameters whose gradients hold a NaN or an infinity.
inline void raise_if_any(const std::vector<std::string>& names) {
  if (!names.empty()) fail(error_code::non_finite, "a NaN or an infinity in the gradient of ", quoted_list(names));
}

// The same from a report, where a step could not be stopped.
inline void raise_as_reported(const step_report& report) {
  std::vector<std::string> names;
  for (const parameter_report& p : report.parameters)
    if (p.outcome == outcome::non_finite_gradient) names.push_back(p.name);
  raise_if_any(names);
}

// Why changes can't be written: a buffer is missing, or a weight has a master. Null where they can.
template <tensor_backend B>
std::exception_ptr why_no_changes(const std::vector<parameter<B>>& parameters) try {
  for (const parameter<B>& p : parameters) {
    if (p.has_master)
      fail(error_code::option, "parameter '", p.name, "': expected no master where changes are asked for");
    for (const parameter_part& part : p.parts)
      if (part.change.batch == 0 && part.weight.elements() != 0)
        fail(error_code::gradient, "parameter '", p.name, "': expected a bound change buffer, got none");
  }
  return nullptr;
} catch (...) {
  return std::current_exception();
}

// How far a step came with parameter i. progress: of each run of `p`, then of each bucket of `s`, 1 from its beginning
// and 2 from its end.
struct progress_of_parameter {
  bool any = false, all = true;
  void add(std::uint8_t progress) { any |= progress != 0, all &= progress == 2; }
};
template <tensor_backend B, shard_engine Engine>
progress_of_parameter progress_of(std::size_t i, const plan<B>& p, const sharded_plan<B, Engine>& s,
                                  const std::vector<std::uint8_t>& progress) {
  progress_of_parameter of;
  for (std::size_t k = 0; k < p.runs.size(); ++k) {
    const run& a = p.runs[k];
    if (a.first < p.first[i] + p.count[i] && p.first[i] < a.first + a.count) of.add(progress[k]);
  }
  for (std::size_t k = 0; k < s.buckets.size(); ++k)
    if (s.buckets[k].holds(i)) of.add(progress[p.runs.size() + k]);
  return of;
}

// What a failure in the middle of a step leaves: which parameters the step had done with, moved or held back, and which
// it had begun and may have written in part.
template <tensor_backend B, shard_engine Engine>
std::string poison_message(const char* cause, const plan<B>& p, const sharded_plan<B, Engine>& s,
                           const std::vector<parameter<B>>& parameters, const std::vector<std::uint8_t>& progress) {
  std::vector<std::string> done, begun;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (p.staged_ok(i) == 0) continue;
    const progress_of_parameter of = progress_of(i, p, s, progress);
    if (of.any) (of.all ? done : begun).push_back(parameters[i].name);
  }
  const auto listed = [](const std::vector<std::string>& names) {
    return names.empty() ? std::string("nothing") : quoted_list(names);
  };
  return message_of(cause, "; done: ", listed(done), "; begun: ", listed(begun),
                    "; the weights of all others are as they were");
}

}  // namespace normuon

#endif
