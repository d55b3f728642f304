// The closed set of errors: one exception type, whose code says what kind of thing was refused or failed.
// Messages name what was expected and what came. Standard library only.
#ifndef NORMUON_ERRORS_HPP
#define NORMUON_ERRORS_HPP

#include <charconv>
#include <concepts>
#include <initializer_list>
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

// A part of a message: text, or a number as a stream of the C locale writes it. So that only a list of parts is built
// where a message is made; how they are written would be compiled anew for each of them.
class message_part {
 public:
  template <std::convertible_to<std::string_view> Text>
  message_part(const Text& text) : kind_(kind::text), text_(text) {}
  message_part(const char* text) : message_part(std::string_view(text ? text : "nothing")) {}  // of a vendor's library
  message_part(char letter) : kind_(kind::letter), letter_(letter) {}
  message_part(std::signed_integral auto number) : kind_(kind::integer), signed_(number) {}
  message_part(std::unsigned_integral auto number) : kind_(kind::natural), unsigned_(number) {}
  message_part(double number) : kind_(kind::real), real_(number) {}

  void append_to(std::string& message) const {
    char digits[32];
    const auto append = [&](std::to_chars_result written) { message.append(digits, written.ptr); };
    char* const end = digits + sizeof digits;
    switch (kind_) {
      case kind::text: message += text_; break;
      case kind::letter: message += letter_; break;
      case kind::integer: append(std::to_chars(digits, end, signed_)); break;
      case kind::natural: append(std::to_chars(digits, end, unsigned_)); break;
      case kind::real: append(std::to_chars(digits, end, real_, std::chars_format::general, 6)); break;
    }
  }

 private:
  enum class kind { text, letter, integer, natural, real };
  kind kind_;
  union {
    std::string_view text_;
    char letter_;
    long long signed_;
    unsigned long long unsigned_;
    double real_;
  };
};

// All parts written one after the other.
inline std::string message_of(std::initializer_list<message_part> parts) {
  std::string message;
  for (const message_part& part : parts) part.append_to(message);
  return message;
}
template <class... Parts>
std::string message_of(const Parts&... parts) {
  return message_of({message_part(parts)...});
}

[[noreturn, gnu::cold]] inline void fail(error_code code, std::initializer_list<message_part> parts) {
  throw error(code, message_of(parts));
}
template <class... Parts>
[[noreturn]] void fail(error_code code, const Parts&... parts) {
  fail(code, {message_part(parts)...});
}

}  // namespace normuon

#endif
