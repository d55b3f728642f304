// Ranks for 07_custom_engine.hpp: child processes of this one, with sockets between any two.
#ifndef NORMUON_EXAMPLES_CUSTOM_ENGINE_RANKS_HPP
#define NORMUON_EXAMPLES_CUSTOM_ENGINE_RANKS_HPP

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "07_custom_engine.hpp"

// Calls body(engine) in a child process for each rank and waits for all. Throws what the first of them that threw said.
template <class Body>
void fork_ranks(int size, Body body) {
  const auto n = static_cast<std::size_t>(size);
  std::vector<std::vector<int>> sockets(n, std::vector<int>(2 * n, -1));  // [rank][peer, or size + peer]
  int words[2];
  bool made = ::pipe(words) == 0;
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t p = 0; p < r; ++p)
      for (const std::size_t channel : {std::size_t{0}, n}) {
        int ends[2] = {-1, -1};
        made &= ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0;
        sockets[r][channel + p] = ends[0], sockets[p][channel + r] = ends[1];
      }
  if (!made) throw std::runtime_error("no more sockets");
  const auto close_all_but = [&](std::size_t mine) {
    for (std::size_t r = 0; r < n; ++r)
      for (const int s : sockets[r])
        if (r != mine && s >= 0) ::close(s);
  };
  for (std::size_t r = 0; r < n; ++r) {
    if (::fork() != 0) continue;
    close_all_but(r);  // so that the end of a rank is the end of its sockets
    try {
      body(socket_engine(static_cast<int>(r), sockets[r]));
    } catch (const std::exception& e) {
      const std::string said = e.what() + std::string("\n");
      if (::write(words[1], said.data(), said.size()) < 0) std::perror("write");
    }
    std::_Exit(0);
  }
  close_all_but(n);
  ::close(words[1]);
  std::string said;
  char part[512];
  for (ssize_t got; (got = ::read(words[0], part, sizeof part)) > 0;) said.append(part, static_cast<std::size_t>(got));
  ::close(words[0]);
  while (::wait(nullptr) > 0) continue;
  if (!said.empty()) throw std::runtime_error(said.substr(0, said.find('\n')));
}

#endif
