// Runs a program as a user would: by its arguments, its files and what it prints.
#ifndef NORMUON_TESTS_SUPPORT_PROGRAM_HPP
#define NORMUON_TESTS_SUPPORT_PROGRAM_HPP

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "support/files.hpp"

namespace normuon::test {

struct program_result {
  int status = -1;  // -1: it did not end by itself
  std::string out, err;
};

inline program_result run_program(const char* path, std::vector<std::string> arguments, const std::string& input = "") {
  const scratch_folder folder;
  const std::string in = folder / "in", out = folder / "out", err = folder / "err";
  put(in, input);
  arguments.insert(arguments.begin(), path);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT, 0600);
  pid_t process = 0;
  const int failure = posix_spawn(&process, path, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) throw std::runtime_error(std::string("can't start ") + path);
  int status = 0;
  waitpid(process, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, get(out), get(err)};
}

}  // namespace normuon::test

#endif
