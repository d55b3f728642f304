// What reading and writing a file whole takes of a file system, as a concept, and POSIX as its model. Tests put another
// one in its place, which loses what was not synced.
#ifndef NORMUON_IO_FILE_SYSTEM_HPP
#define NORMUON_IO_FILE_SYSTEM_HPP

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "normuon/errors.hpp"
#include "normuon/io/printable.hpp"

namespace normuon {

using file_path = std::filesystem::path;
using const_bytes = std::span<const std::byte>;

inline const_bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// Of files: `size` is taken once, when the file is opened; `sync` puts what was written on the disk. Of the system:
// `create` makes a file that wasn't there, or returns none where the name is taken; `stands` is true for a regular
// file, and throws for anything else that isn't absent; `link` gives a file a second name, and is false where the
// system has no links; `rename` replaces; `sync_folder` puts names on the disk. Files that are written are called
// `shown` in messages. All throw error_code::file but `discard`, which is for clearing up.
template <class S>
concept file_system =
    std::copyable<S> && requires(S& s, typename S::file& f, const file_path& path, std::uint64_t at, const_bytes from) {
      { s.open(path) } -> std::same_as<typename S::file>;
      { s.open_to_write(path, path) } -> std::same_as<typename S::file>;
      { s.create(path, path) } -> std::same_as<std::optional<typename S::file>>;
      { s.stands(path) } -> std::same_as<bool>;
      { s.names(path) } -> std::same_as<std::vector<std::string>>;
      { s.link(path, path) } -> std::same_as<bool>;
      s.rename(path, path);
      s.discard(path);
      s.sync_folder(path);
      { f.size() } -> std::same_as<std::uint64_t>;
      { f.printed_path() } -> std::same_as<std::string>;
      f.read_at(at, std::span<std::byte>());
      f.write_at(at, from);
      f.resize(at);
      f.sync();
      f.close();
    };

// The whole path, escaped.
inline std::string printable_path(const file_path& path) { return printable(path.native(), path.native().size()); }

// Throws error_code::file with the path, what could not be done, and errno's text.
[[noreturn]] inline void fail_with_errno(const file_path& path, const char* what) {
  const int code = errno;
  fail(error_code::file, printable_path(path), ": ", what, ": ", std::generic_category().message(code));
}

// What a call of the system returns that no signal has interrupted.
template <class Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// An open regular file. It is read with pread and not mapped: a mapped file that another process shortens ends this one
// with SIGBUS.
class posix_file {
 public:
  // Owns the descriptor. Throws where it isn't one of a regular file.
  posix_file(file_path shown, int descriptor) : path_(std::move(shown)), descriptor_(descriptor) {
    struct stat status {};
    if (::fstat(descriptor_.number, &status) != 0) fail_with_errno(path_, "can't be inspected");
    if (!S_ISREG(status.st_mode)) fail(error_code::file, printed_path(), ": expected a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  std::uint64_t size() const { return size_; }
  std::string printed_path() const { return printable_path(path_); }

  // Fills `out` from the bytes at `offset`. Throws where the file ends too early.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      const ssize_t got = uninterrupted(
          [&] { return ::pread(descriptor_.number, out.data(), out.size(), static_cast<off_t>(offset)); });
      if (got < 0) fail_with_errno(path_, "can't be read");
      if (got == 0)
        fail(error_code::file, printed_path(), ": expected ", offset + out.size(), " bytes, but it now ends at ",
             offset);
      out = out.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
  }

  void write_at(std::uint64_t offset, const_bytes bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = uninterrupted(
          [&] { return ::pwrite(descriptor_.number, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
      if (wrote < 0) fail_with_errno(path_, "can't be written");
      if (wrote == 0)
        fail(error_code::file, printed_path(), ": can't be written: the system has taken 0 of ", bytes.size(),
             " bytes");
      bytes = bytes.subspan(static_cast<std::size_t>(wrote));
      offset += static_cast<std::uint64_t>(wrote);
    }
  }

  void resize(std::uint64_t bytes) {
    if (uninterrupted([&] { return ::ftruncate(descriptor_.number, static_cast<off_t>(bytes)); }) != 0)
      fail_with_errno(path_, "can't be given its size");
  }
  // Tried once: the next fsync may succeed although the system has dropped what this one could not write.
  void sync() {
    if (uninterrupted([&] { return ::fsync(descriptor_.number); }) != 0) fail_with_errno(path_, "can't be written");
  }
  // close() is where some file systems first report a failed write.
  void close() {
    if (::close(std::exchange(descriptor_.number, -1)) != 0) fail_with_errno(path_, "can't be written");
  }

 private:
  struct owned_descriptor {
    explicit owned_descriptor(int n) : number(n) {}
    owned_descriptor(owned_descriptor&& from) noexcept : number(std::exchange(from.number, -1)) {}
    owned_descriptor& operator=(owned_descriptor&& from) noexcept {
      std::swap(number, from.number);
      return *this;
    }
    ~owned_descriptor() {
      if (number >= 0) ::close(number);
    }
    int number;
  };

  file_path path_;
  owned_descriptor descriptor_;
  std::uint64_t size_ = 0;
};

struct posix_file_system {
  using file = posix_file;

  file open(const file_path& path) const {
    // O_NONBLOCK: opening a named pipe without it waits for a writer.
    return opened(path, descriptor_of(path, O_RDONLY | O_NONBLOCK));
  }
  file open_to_write(const file_path& path, const file_path& shown) const {
    return opened(shown, descriptor_of(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW));
  }

  std::optional<file> create(const file_path& path, const file_path& shown) const {
    const int descriptor = descriptor_of(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (descriptor < 0 && errno == EEXIST) return {};
    if (descriptor < 0) fail_with_errno(shown, "can't be created");
    return file(shown, descriptor);
  }

  // Renaming over a link or a device would remove it.
  bool stands(const file_path& path) const {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) return false;
      fail_with_errno(path, "can't be inspected");
    }
    if (!S_ISREG(status.st_mode))
      fail(error_code::file, printable_path(path), ": expected a regular file or none to replace");
    return true;
  }

  std::vector<std::string> names(const file_path& folder) const {
    const std::unique_ptr<DIR, int (*)(DIR*)> open_folder(::opendir(folder.c_str()), ::closedir);
    if (!open_folder) fail_with_errno(folder, "can't be listed");
    std::vector<std::string> all;
    const auto next = [&] {
      errno = 0;
      return ::readdir(open_folder.get());
    };
    while (const dirent* const entry = next()) all.emplace_back(entry->d_name);
    if (errno != 0) fail_with_errno(folder, "can't be listed");
    return all;
  }

  bool link(const file_path& from, const file_path& to) const {
    if (::link(from.c_str(), to.c_str()) == 0) return true;
    // Linux names a file system without links by EPERM, others by the rest.
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
      fail_with_errno(to, "can't be linked");
    return false;
  }
  void rename(const file_path& from, const file_path& to) const {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_with_errno(to, "can't be replaced");
  }
  void discard(const file_path& path) const noexcept { ::unlink(path.c_str()); }

  void sync_folder(const file_path& folder) const {
    const int descriptor = descriptor_of(folder, O_RDONLY | O_DIRECTORY);
    if (descriptor < 0) fail_with_errno(folder, "can't be synced to the disk");
    // EINVAL: file systems that can't sync a directory, and need not.
    const bool synced = uninterrupted([&] { return ::fsync(descriptor); }) == 0 || errno == EINVAL;
    const int code = errno;
    ::close(descriptor);
    errno = code;
    if (!synced) fail_with_errno(folder, "can't be synced to the disk");
  }

 private:
  static int descriptor_of(const file_path& path, int how) {
    constexpr mode_t all_may = 0666;  // less the umask
    return uninterrupted([&] { return ::open(path.c_str(), how | O_CLOEXEC, all_may); });
  }
  static file opened(const file_path& shown, int descriptor) {
    if (descriptor < 0) fail_with_errno(shown, "can't be opened");
    return file(shown, descriptor);
  }
};

static_assert(file_system<posix_file_system>);

}  // namespace normuon

#endif
