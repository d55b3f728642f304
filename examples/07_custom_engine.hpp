// An engine of one's own: ranks are processes, or threads, of one machine, with a pair of sockets between any two.
#ifndef NORMUON_EXAMPLES_CUSTOM_ENGINE_HPP
#define NORMUON_EXAMPLES_CUSTOM_ENGINE_HPP

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <normuon/shards/engine.hpp>
#include <string>
#include <thread>

class socket_engine {
 public:
  using request = std::shared_ptr<std::size_t>;  // how many legs are not through yet

  // sockets[p] leads to rank p, for legs, and sockets[size + p] for gathers, whose order is their own. Borrowed.
  socket_engine(int rank, const std::vector<int>& sockets) : rank_(rank) {
    for (const int s : sockets) lines_.push_back({s, {}, {}});
  }
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(lines_.size() / 2); }

  void all_gather_small(void* all, std::size_t bytes) {
    normuon::exchange e;
    for (int p = 0; p < size() && bytes != 0; ++p)
      if (p != rank_) {
        e.send.push_back({size() + p, static_cast<std::size_t>(rank_) * bytes, bytes});
        e.receive.push_back({size() + p, static_cast<std::size_t>(p) * bytes, bytes});
      }
    request r = post(e, all, all);
    finish(r);
  }
  request start(const normuon::exchange& e, const void* send, void* receive) {
    normuon::check_exchange(e, rank_, size());
    return post(e, send, receive);
  }
  bool test(request& r) {  // moves everything that can be moved, whosever it is
    if (!failure_.empty()) break_down(failure_);
    for (line& l : lines_) {
      while (!l.out.empty() && moved(l.socket, l.out, ::send)) continue;
      while (!l.in.empty() && moved(l.socket, l.in, ::recv)) continue;
    }
    return *r == 0;
  }
  void finish(request& r) {
    for (const auto end = std::chrono::steady_clock::now() + deadline_; !test(r); std::this_thread::yield())
      if (std::chrono::steady_clock::now() >= end)
        break_down("waited " + std::to_string(deadline_.count()) + " ms for rank " + awaited());
  }
  void set_deadline(std::chrono::milliseconds deadline) { deadline_ = deadline; }

 private:
  struct part {
    std::weak_ptr<std::size_t> legs;
    std::byte* data;
    std::size_t bytes;
  };
  struct line {
    int socket;
    std::deque<part> in, out;
  };

  request post(const normuon::exchange& e, const void* send, void* receive) {
    auto r = std::make_shared<std::size_t>(e.send.size() + e.receive.size());
    auto* const from = static_cast<std::byte*>(const_cast<void*>(send));  // is only read
    auto* const to = static_cast<std::byte*>(receive);
    for (const normuon::leg& l : e.send) of(l.peer).out.push_back({r, from + l.offset, l.bytes});
    for (const normuon::leg& l : e.receive) of(l.peer).in.push_back({r, to + l.offset, l.bytes});
    return r;
  }
  bool moved(int socket, std::deque<part>& parts, auto call) {  // false where it would have to wait
    const request r = parts[0].legs.lock();
    if (!r) break_down("a request went away before it was complete");
    const ssize_t n = call(socket, parts[0].data, parts[0].bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) break_down("rank " + awaited() + ": " + (n == 0 ? "is gone" : std::strerror(errno)));
    parts[0].data += n, parts[0].bytes -= static_cast<std::size_t>(n);
    if (parts[0].bytes == 0) --*r, parts.pop_front();
    return true;
  }
  std::string awaited() {  // the first of them
    int i = 0;
    while (of(i).in.empty() && of(i).out.empty()) ++i;
    return std::to_string(i % size());
  }
  [[noreturn]] void break_down(const std::string& why) { normuon::fail(normuon::error_code::engine, failure_ = why); }
  line& of(int i) { return lines_[static_cast<std::size_t>(i)]; }

  int rank_;
  std::vector<line> lines_;
  std::chrono::milliseconds deadline_{60'000};
  std::string failure_;
};

#endif
