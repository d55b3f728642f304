// The engine over MPI: persistent point-to-point messages of bytes on a communicator of its own, in host memory. For
// Open MPI 4, MPICH 4 or any MPI 3.1. The caller initialises MPI and finalises it, and one thread at a time calls it.
#ifndef NORMUON_SHARDS_MPI_HPP
#define NORMUON_SHARDS_MPI_HPP

#include <climits>
#include <cstring>

#include "normuon/shards/gathered.hpp"
#include "normuon/shards/mpi/messages.hpp"

namespace normuon {

struct mpi_options {
  std::chrono::milliseconds deadline{60'000};      // how long a verb waits for a peer; at least 1
  std::size_t piece_bytes = std::size_t{1} << 30;  // longer legs go in pieces: MPI counts in int. The same on all ranks
};

class mpi_engine {
 public:
  // One that goes away under way takes the engine with it.
  class request {
   private:
    friend mpi_engine;
    explicit request(std::shared_ptr<mpi_messages> messages) : messages_(std::move(messages)) {}
    std::shared_ptr<mpi_messages> messages_;
  };

  // All ranks of `comm` call it; the engine has a copy of the communicator. Throws error_code::engine where a rank has
  // another piece size, and error_code::option.
  explicit mpi_engine(MPI_Comm comm, const mpi_options& options = {}) : piece_bytes_(options.piece_bytes) {
    if (options.deadline.count() < 1)
      fail(error_code::option, "deadline: expected at least 1 ms, got ", options.deadline.count());
    if (piece_bytes_ < 1 || piece_bytes_ > INT_MAX)
      fail(error_code::option, "piece_bytes: expected 1 to ", INT_MAX, ", got ", piece_bytes_);
    connection_ = std::make_shared<mpi_connection>(comm, options.deadline);
    const std::vector<std::size_t> all =
        gathered(piece_bytes_, rank(), size(), [&](void* to, std::size_t bytes) { all_gather_small(to, bytes); });
    for (std::size_t r = 0; r < all.size(); ++r)
      if (all[r] != piece_bytes_)
        connection_->break_down("expected pieces of " + std::to_string(piece_bytes_) + " bytes on rank " +
                                std::to_string(r) + ", got " + std::to_string(all[r]));
  }
  mpi_engine(mpi_engine&&) noexcept = default;
  mpi_engine& operator=(mpi_engine&&) noexcept = default;

  int rank() const { return connection_->rank; }
  int size() const { return connection_->size; }

  // By way of memory of our own: a collective can't be cancelled, so MPI may write there when the caller is gone.
  void all_gather_small(void* all, std::size_t bytes) {
    mpi_connection& c = *connection_;
    c.require_ready();
    if (bytes == 0) return;
    if (bytes > INT_MAX) fail(error_code::engine, "expected pieces of at most ", INT_MAX, " bytes, got ", bytes);
    const std::size_t size = static_cast<std::size_t>(c.size), offset = static_cast<std::size_t>(c.rank) * bytes;
    if (gathered_.size() < size * bytes) gathered_.resize(size * bytes);
    std::memcpy(gathered_.data() + offset, static_cast<const std::byte*>(all) + offset, bytes);
    MPI_Request gather = MPI_REQUEST_NULL;
    c.check(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, gathered_.data(), static_cast<int>(bytes), MPI_BYTE,
                           c.comm, &gather),
            "MPI_Iallgather");
    const bool done = mpi_connection::wait(c.deadline, [&] {
      int flag = 0;
      const int code = MPI_Test(&gather, &flag, MPI_STATUS_IGNORE);
      if (code != MPI_SUCCESS) leave_gather_to_mpi();
      c.check(code, "MPI_Iallgather");
      return flag != 0;
    });
    if (!done) {
      leave_gather_to_mpi();
      c.break_down("waited " + std::to_string(c.deadline.count()) + " ms in MPI_Iallgather for other ranks");
    }
    std::memcpy(all, gathered_.data(), size * bytes);
  }

  request start(const exchange& e, const void* send, void* receive) {
    request r = prepare(e, send, receive);
    restart(r);
    return r;
  }
  request prepare(const exchange& e, const void* send, void* receive) {
    connection_->require_ready();
    check_exchange(e, rank(), size());
    std::erase_if(known_, [](const std::weak_ptr<mpi_messages>& m) { return m.expired(); });
    request r(std::make_shared<mpi_messages>(connection_, e, send, receive, piece_bytes_));
    known_.push_back(r.messages_);
    return r;
  }
  void restart(request& r) { r.messages_->start(); }
  bool test(request& r) { return r.messages_->test(); }
  void finish(request& r) { r.messages_->finish(); }

  void set_deadline(std::chrono::milliseconds deadline) { connection_->deadline = deadline; }
  // False where something is half on its way: MPI may write into buffers until the process ends.
  bool abort() {
    for (const std::weak_ptr<mpi_messages>& m : known_)
      if (const auto messages = m.lock()) messages->give_up();
    if (connection_->failure.empty()) connection_->failure = "it was aborted";
    return !connection_->left_under_way;
  }

 private:
  void leave_gather_to_mpi() { (void)new std::vector<std::byte>(std::move(gathered_)); }

  std::size_t piece_bytes_;
  std::shared_ptr<mpi_connection> connection_;
  std::vector<std::weak_ptr<mpi_messages>> known_;
  std::vector<std::byte> gathered_;
};

static_assert(shard_engine<mpi_engine> && has_prepare<mpi_engine> && has_deadline<mpi_engine> && has_abort<mpi_engine>);

}  // namespace normuon

#endif
