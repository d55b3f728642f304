// What the engine over MPI is made of: its communicator, and the persistent messages of an exchange.
#ifndef NORMUON_SHARDS_MPI_MESSAGES_HPP
#define NORMUON_SHARDS_MPI_MESSAGES_HPP

#include <mpi.h>

#include <memory>
#include <string>
#include <thread>

#include "normuon/shards/engine.hpp"

namespace normuon {

// Has a communicator of the caller's return errors, for as long as it lives.
class mpi_errors_returned {
 public:
  explicit mpi_errors_returned(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_get_errhandler(comm, &before_);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  }
  mpi_errors_returned(const mpi_errors_returned&) = delete;
  mpi_errors_returned& operator=(const mpi_errors_returned&) = delete;
  ~mpi_errors_returned() {
    MPI_Comm_set_errhandler(comm_, before_);
    MPI_Errhandler_free(&before_);
  }

 private:
  MPI_Comm comm_;
  MPI_Errhandler before_ = MPI_ERRHANDLER_NULL;
};

// What an engine and its requests share: the communicator, and why it can't be used any more.
class mpi_connection {
 public:
  mpi_connection(MPI_Comm parent, std::chrono::milliseconds time) : deadline(time) {
    int on = 0;
    MPI_Initialized(&on);
    if (!on || is_finalised()) fail(error_code::engine, "expected MPI to be initialised and not yet finalised");
    if (parent == MPI_COMM_NULL) fail(error_code::engine, "expected a communicator, got MPI_COMM_NULL");
    const mpi_errors_returned while_asked(parent);
    check(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank");
    check(MPI_Comm_size(parent, &size), "MPI_Comm_size");
    auto copy = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
    MPI_Request copying = MPI_REQUEST_NULL;
    check(MPI_Comm_idup(parent, copy.get(), &copying), "MPI_Comm_idup");
    const bool done = wait(deadline, [&] {
      int flag = 0;
      check(MPI_Test(&copying, &flag, MPI_STATUS_IGNORE), "MPI_Comm_idup");
      return flag != 0;
    });
    if (!done) {
      (void)copy.release();  // MPI writes there when the others come
      break_down("waited " + std::to_string(deadline.count()) + " ms in MPI_Comm_idup for other ranks");
    }
    comm = *copy;  // and returns errors, as it inherits the parent's handler (MPI 4.0, section 9.3)
  }
  mpi_connection(const mpi_connection&) = delete;
  mpi_connection& operator=(const mpi_connection&) = delete;
  // After a failure the communicator is left to the end of the process: to free it might wait for who is gone.
  ~mpi_connection() {
    if (comm != MPI_COMM_NULL && failure.empty() && !is_finalised()) MPI_Comm_free(&comm);
  }

  static bool is_finalised() {
    int off = 0;
    MPI_Finalized(&off);
    return off != 0;
  }

  void require_ready() const {
    if (!failure.empty()) fail(error_code::engine, "rank ", rank, ": the engine has failed: ", failure);
  }
  [[noreturn]] void break_down(std::string cause) {
    failure = std::move(cause);
    fail(error_code::engine, "rank ", rank, ": ", failure);
  }
  void check(int code, const char* call) {
    if (code != MPI_SUCCESS) break_down(std::string(call) + ": " + text_of(code));
  }
  static std::string text_of(int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "error " + std::to_string(code);
    return std::string(text, static_cast<std::size_t>(length));
  }

  // Asks done() again and again, which lets MPI move everything that is under way; false where the time is over.
  template <class Done>
  static bool wait(std::chrono::milliseconds time, Done done) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (!done()) {
      if (std::chrono::steady_clock::now() >= end) return false;
      std::this_thread::yield();  // ranks may share a core
    }
    return true;
  }

  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, size = 1;
  std::chrono::milliseconds deadline;
  std::string failure;
  bool left_under_way = false;  // MPI may still move what could not be given up
};

// The messages of one exchange between two fixed buffers. Stays where it is: MPI and the engine know its address.
class mpi_messages {
 public:
  mpi_messages(std::shared_ptr<mpi_connection> connection, const exchange& e, const void* send, void* receive,
               std::size_t piece_bytes)
      : connection_(std::move(connection)) {
    mpi_connection& c = *connection_;
    auto* const from = static_cast<const std::byte*>(send);
    auto* const to = static_cast<std::byte*>(receive);
    // Receives first, so that what others have sent already finds its place.
    each_piece(e.receive, piece_bytes, [&](int peer, std::size_t offset, int bytes) {
      MPI_Request& handle = add({peer, bytes, true, true});
      c.check(MPI_Recv_init(to + offset, bytes, MPI_BYTE, peer, tag, c.comm, &handle), "MPI_Recv_init");
    });
    each_piece(e.send, piece_bytes, [&](int peer, std::size_t offset, int bytes) {
      MPI_Request& handle = add({peer, bytes, false, true});
      c.check(MPI_Send_init(from + offset, bytes, MPI_BYTE, peer, tag, c.comm, &handle), "MPI_Send_init");
    });
  }
  mpi_messages(const mpi_messages&) = delete;
  mpi_messages& operator=(const mpi_messages&) = delete;
  ~mpi_messages() {
    if (under_way_ && connection_->failure.empty()) connection_->failure = "a request went away before it was complete";
    give_up();
    if (under_way_ || mpi_connection::is_finalised()) return;  // MPI keeps its handles
    for (MPI_Request& r : handles_)
      if (r != MPI_REQUEST_NULL) MPI_Request_free(&r);
  }

  void start() {
    connection_->require_ready();
    if (under_way_) fail(error_code::engine, "expected a request that is complete, got one that is under way");
    under_way_ = true;
    // One by one: MPI_Startall keeps no order, and MPI matches what one rank sends another in the order of its starts.
    for (std::size_t i = 0; i < handles_.size(); ++i) {
      connection_->check(MPI_Start(&handles_[i]), "MPI_Start");
      parts_[i].is_done = false;
    }
  }

  // One by one: MPICH takes what goes wrong in MPI_Testall for an error of MPI_COMM_WORLD, whose handler is the
  // caller's.
  bool test() {
    connection_->require_ready();
    if (!under_way_) return true;
    bool all = true;
    for (std::size_t i = 0; i < handles_.size(); ++i)
      if (!parts_[i].is_done) all &= test(handles_[i], parts_[i]);
    under_way_ = !all;
    return all;
  }

  void finish() {
    if (!mpi_connection::wait(connection_->deadline, [this] { return test(); }))
      connection_->break_down("waited " + std::to_string(connection_->deadline.count()) + " ms for rank " + awaited());
  }

  // Cancels what MPI lets one cancel, and waits a moment for it, once. A message that is half on its way stays under
  // way.
  void give_up() noexcept {
    if (!under_way_ || gave_up_ || mpi_connection::is_finalised()) return;
    gave_up_ = true;
    for (std::size_t i = 0; i < handles_.size(); ++i)
      if (!parts_[i].is_done) MPI_Cancel(&handles_[i]);
    mpi_connection::wait(std::chrono::milliseconds(100), [&] {
      under_way_ = false;
      for (std::size_t i = 0; i < handles_.size(); ++i) {
        int done = 1;
        if (!parts_[i].is_done) MPI_Test(&handles_[i], &done, MPI_STATUS_IGNORE);
        parts_[i].is_done = done != 0;
        under_way_ |= !parts_[i].is_done;
      }
      return !under_way_;
    });
    connection_->left_under_way |= under_way_;
  }

 private:
  struct part {
    int peer, bytes;
    bool is_received, is_done;
  };

  static constexpr int tag = 0;

  template <class Use>
  static void each_piece(const std::vector<leg>& legs, std::size_t piece_bytes, Use use) {
    for (const leg& l : legs)
      for (std::size_t done = 0; done < l.bytes; done += piece_bytes)
        use(l.peer, l.offset + done, static_cast<int>(std::min(piece_bytes, l.bytes - done)));
  }
  MPI_Request& add(const part& p) {
    parts_.push_back(p);
    return handles_.emplace_back(MPI_REQUEST_NULL);
  }

  bool test(MPI_Request& handle, part& p) {
    int done = 0, bytes = 0;
    MPI_Status status;
    const int code = MPI_Test(&handle, &done, &status);
    if (code != MPI_SUCCESS) {
      p.is_done = true;  // there is nothing left to cancel
      connection_->break_down("a leg " + std::string(p.is_received ? "from" : "to") + " rank " +
                              std::to_string(p.peer) + " of " + std::to_string(p.bytes) +
                              " bytes: " + mpi_connection::text_of(code));
    }
    p.is_done = done != 0;
    if (!done || !p.is_received) return done != 0;
    connection_->check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
    if (bytes != p.bytes)
      connection_->break_down("expected a leg of " + std::to_string(p.bytes) + " bytes from rank " +
                              std::to_string(p.peer) + ", got " + std::to_string(bytes));
    return true;
  }
  std::string awaited() const {
    std::vector<int> peers;
    for (const part& p : parts_)
      if (!p.is_done) peers.push_back(p.peer);
    return list_of(peers);
  }

  std::shared_ptr<mpi_connection> connection_;
  std::vector<MPI_Request> handles_;
  std::vector<part> parts_;
  bool under_way_ = false, gave_up_ = false;
};

}  // namespace normuon

#endif
