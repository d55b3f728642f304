// What files make of calls that a signal interrupts or that fail, which a real system rarely does: the calls of this
// program go through here.
#include <doctest/doctest.h>
#include <sys/syscall.h>

#include <cstdarg>

#include "normuon/io/files.hpp"
#include "support/files.hpp"
#include "support/matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

struct {
  int interruptions = 0;        // how many calls a signal interrupts from now on
  int sync_error = 0;           // what fsync fails with, once
  bool writes_nothing = false;  // pwrite
  int syncs = 0;                // that were asked for
} calls;

bool interrupted() {
  if (calls.interruptions == 0) return false;
  calls.interruptions -= 1;
  errno = EINTR;
  return true;
}

}  // namespace

extern "C" int open(const char* path, int flags, ...) {
  std::va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return interrupted() ? -1 : static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
extern "C" int fsync(int descriptor) {
  calls.syncs += 1;
  if (interrupted()) return -1;
  if (calls.sync_error == 0) return static_cast<int>(::syscall(SYS_fsync, descriptor));
  errno = std::exchange(calls.sync_error, 0);
  return -1;
}
extern "C" ssize_t pwrite(int descriptor, const void* from, std::size_t bytes, off_t at) {
  if (interrupted()) return -1;
  return calls.writes_nothing ? 0 : ::syscall(SYS_pwrite64, descriptor, from, bytes, at);
}

TEST_CASE("a signal interrupts no opening, writing or syncing of a file or a folder") {
  const scratch_folder folder;
  const posix_file_system system;
  const auto twice_interrupted = [](auto&& act) {
    calls.interruptions = 2;
    act();
    CHECK(calls.interruptions == 0);
  };
  std::optional<posix_file> file;
  twice_interrupted([&] { file = system.create(folder / "f", "f"); });
  twice_interrupted([&] { file->write_at(0, bytes_of("text")); });
  twice_interrupted([&] { file->sync(); });
  twice_interrupted([&] { system.sync_folder(folder / "."); });
  twice_interrupted([&] { system.open_to_write(folder / "f", "f"); });
  twice_interrupted([&] { CHECK(system.open(folder / "f").size() == 4); });
}

TEST_CASE("a sync that has failed is not tried again, as the system may have dropped what it could not write") {
  const scratch_folder folder;
  const posix_file_system system;
  std::optional<posix_file> file = system.create(folder / "f", "f");
  for (const bool of_file : {true, false}) {
    calls.syncs = 0;
    calls.sync_error = EIO;
    const std::string failed = file_refusal([&] { of_file ? file->sync() : system.sync_folder(folder / "."); });
    CHECK(contains(failed, of_file ? "f: can't be written: " : "can't be synced to the disk: "));
    CHECK(calls.syncs == 1);
  }
}

TEST_CASE("a write that takes no bytes and gives no reason is refused instead of being repeated for ever") {
  const scratch_folder folder;
  std::optional<posix_file> file = posix_file_system().create(folder / "f", "f");
  calls.writes_nothing = true;
  const std::string failed = file_refusal([&] { file->write_at(0, bytes_of("text")); });
  calls.writes_nothing = false;
  CHECK(contains(failed, "f: can't be written: the system has taken 0 of 4 bytes"));
}

TEST_CASE("only a name that isn't there is absent: what can't be looked at is an error") {
  const scratch_folder folder;
  const posix_file_system system;
  put(folder / "file", "");
  std::filesystem::create_symlink("loop", folder / "loop");
  CHECK(!system.stands(folder / "nothing"));
  CHECK(!system.stands(folder / "nowhere/nothing"));
  CHECK(!system.stands(folder / "file/nothing"));
  CHECK(system.stands(folder / "file"));
  const auto refused = [&](const std::string& name, int code) {
    return contains(file_refusal([&] { system.stands(folder / name); }),
                    "can't be inspected: " + std::generic_category().message(code));
  };
  CHECK(refused("loop/f", ELOOP));
  CHECK(refused(std::string(300, 'n'), ENAMETOOLONG));
}
