// Runs the program examples/replay as another language would: by its flags and files. The build defines NORMUON_REPLAY
// as the path of one that knows the backend NORMUON_REPLAY_BACKEND, and NORMUON_REPLAY_FOR_ALL as that of the one that
// knows all.
#ifndef NORMUON_TESTS_REPLAY_PROGRAM_HPP
#define NORMUON_TESTS_REPLAY_PROGRAM_HPP

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "normuon/io/safetensors.hpp"
#include "support/files.hpp"

namespace normuon::test {

struct program_result {
  int status = -1;  // -1: it did not end by itself
  std::string out, err;
};

inline program_result run_program(std::vector<std::string> arguments, const std::string& program = NORMUON_REPLAY) {
  const scratch_folder folder;
  const std::string out = folder / "out", err = folder / "err";
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT, 0600);
  pid_t process = 0;
  const int failure = posix_spawn(&process, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) throw std::runtime_error("can't start " + program);
  int status = 0;
  waitpid(process, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, get(out), get(err)};
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
