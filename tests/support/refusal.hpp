// What an act is refused with.
#ifndef NORMUON_TESTS_SUPPORT_REFUSAL_HPP
#define NORMUON_TESTS_SUPPORT_REFUSAL_HPP

#include <optional>
#include <string>

#include "normuon/errors.hpp"

namespace normuon::test {

// The error of a refused act. Compared with a code and pieces of its message.
struct refusal {
  std::optional<error_code> code;  // none: the act was done
  std::string message = {};

  // True where the code is `expected` and the message holds every piece.
  template <class... Pieces>
  bool is(error_code expected, const Pieces&... pieces) const {
    return code == expected && (... && (message.find(pieces) != std::string::npos));
  }
};

template <class Act>
refusal refusal_of(Act&& act) {
  try {
    act();
  } catch (const error& e) {
    return {e.code(), e.what()};
  }
  return {};
}

}  // namespace normuon::test

#endif
