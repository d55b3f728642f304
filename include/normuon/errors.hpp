// The closed set of errors: one exception type, whose code says what kind of thing was refused or failed.
// Messages name what was expected and what came. Standard library only.
#ifndef NORMUON_ERRORS_HPP
#define NORMUON_ERRORS_HPP

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace normuon {

enum class error_code {
  option,      // an option is out of its range, or a coefficient table is unsafe for the iteration's type
  parameter,   // a name, or a weight's or view's shape, strides or element type, that can't be taken
  gradient,    // the same of a gradient or change buffer, also where it doesn't fit its weight or is not bound
  non_finite,  // policy `raise` found a NaN or an infinity in a gradient; see non_finite_policy
  state,       // imported state doesn't fit the parameters
  backend,     // a backend failed in the middle of a step
  poisoned,    // an earlier step failed in the middle; import state to go on
  file,        // a file is malformed, or can't be read or written
  device,      // a device is not there, has no room, refuses a call or has failed; quotes its library
  engine,      // a peer is late, gone or sent something else than planned, or the library that moves bytes refuses
};

constexpr std::string_view name_of(error_code code) {
  constexpr std::string_view names[] = {"option",  "parameter", "gradient", "non-finite", "state",
                                        "backend", "poisoned",  "file",     "device",     "engine"};
  return names[static_cast<std::size_t>(code)];
}

class error : public std::runtime_error {
 public:
  error(error_code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  error_code code() const noexcept { return code_; }

 private:
  error_code code_;
};

// All parts written one after the other.
template <class... Parts>
std::string message_of(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  (text << ... << parts);
  return text.str();
}

template <class... Parts>
[[noreturn]] void fail(error_code code, const Parts&... parts) {
  throw error(code, message_of(parts...));
}

}  // namespace normuon

#endif
