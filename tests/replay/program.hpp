// Runs the program examples/replay as another language would: by its flags and files. The build defines NORMUON_REPLAY
// as the path of one that knows the backend NORMUON_REPLAY_BACKEND, and NORMUON_REPLAY_FOR_ALL as that of the one that
// knows all.
#ifndef NORMUON_TESTS_REPLAY_PROGRAM_HPP
#define NORMUON_TESTS_REPLAY_PROGRAM_HPP

#include <string>
#include <utility>
#include <vector>

#include "normuon/io/safetensors.hpp"
#include "support/program.hpp"

namespace normuon::test {

inline program_result run_program(std::vector<std::string> arguments, const std::string& program = NORMUON_REPLAY) {
  return run_program(program.c_str(), std::move(arguments));
}

// Replays a file of these tensors with these flags, and returns the output. Throws where the program refuses it. On
// NORMUON_REPLAY_BACKEND, where the flags name no other.
inline safetensors::file replayed(const safetensors::file& input, std::vector<std::string> flags) {
  const scratch_folder folder;
  safetensors::write(folder / "in", input);
  if (std::find(flags.begin(), flags.end(), "--backend") == flags.end())
    flags.insert(flags.end(), {"--backend", NORMUON_REPLAY_BACKEND});
  flags.insert(flags.end(), {"--input", folder / "in", "--output", folder / "out"});
  const program_result result = run_program(std::move(flags));
  if (result.status != 0) throw std::runtime_error(result.err);
  if (!(result.out + result.err).empty()) throw std::runtime_error("expected silence: " + result.out + result.err);
  return safetensors::read(folder / "out");
}

}  // namespace normuon::test

#endif
