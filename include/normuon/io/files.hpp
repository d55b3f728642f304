// Files as checkpoints need them (POSIX): reading at offsets with every size known beforehand, and writing a file that
// replaces the old one whole or not at all.
#ifndef NORMUON_IO_FILES_HPP
#define NORMUON_IO_FILES_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "normuon/errors.hpp"
#include "normuon/io/printable.hpp"

namespace normuon {

// The whole path, escaped.
inline std::string printable_path(const std::filesystem::path& path) {
  return printable(path.native(), path.native().size());
}

// Throws error_code::file with the path, what could not be done, and errno's text.
[[noreturn]] inline void fail_with_errno(const std::filesystem::path& path, const char* what) {
  const int code = errno;
  fail(error_code::file, printable_path(path), ": ", what, ": ", std::generic_category().message(code));
}

// Owns one file descriptor.
class file_descriptor {
 public:
  explicit file_descriptor(int number) : number_(number) {}
  ~file_descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  file_descriptor(const file_descriptor&) = delete;
  file_descriptor& operator=(const file_descriptor&) = delete;

  int number() const { return number_; }
  // close() is where some file systems first report a failed write; returns false and sets errno then.
  bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

// An open regular file of a size taken once, when it was opened. It is read with pread and not mapped: a mapped file
// that another process shortens ends this one with SIGBUS.
class input_file {
 public:
  // Throws error_code::file where there is no such file, it can't be opened, or it isn't a regular file.
  explicit input_file(std::filesystem::path path)
      : path_(std::move(path)),
        // O_NONBLOCK: opening a named pipe without it waits for a writer.
        file_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (file_.number() < 0) fail_with_errno(path_, "can't be opened");
    struct stat status {};
    if (::fstat(file_.number(), &status) != 0) fail_with_errno(path_, "can't be inspected");
    if (!S_ISREG(status.st_mode)) fail(error_code::file, printed_path(), ": expected a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  std::uint64_t size() const { return size_; }
  std::string printed_path() const { return printable_path(path_); }

  // Fills `out` from the bytes at `offset`. Throws error_code::file on a read error or where the file ends too early.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      const ssize_t got = ::pread(file_.number(), out.data(), out.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_with_errno(path_, "can't be read");
      if (got == 0) fail(error_code::file, printed_path(), ": expected ", size_, " bytes, but it now ends at ", offset);
      out = out.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
  }

 private:
  std::filesystem::path path_;
  file_descriptor file_;
  std::uint64_t size_ = 0;
};

// A file being written beside the path it shall replace. Only commit() makes it visible there; without it, or where
// it fails, the temporary file is removed and what stood at the path stays.
class replacement_file {
 public:
  // Creates `<path>.partial-<process>-<number>`, never an existing name. Throws error_code::file where that fails, or
  // where `path` exists and isn't a regular file: renaming over a link or a device would remove it.
  explicit replacement_file(std::filesystem::path path) : path_(std::move(path)), file_(create()) {}
  ~replacement_file() {
    if (!committed_) ::unlink(temporary_.c_str());
  }
  replacement_file(const replacement_file&) = delete;
  replacement_file& operator=(const replacement_file&) = delete;

  // Appends the bytes. Throws error_code::file with errno's text.
  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(file_.number(), bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) fail_with_errno(path_, "can't be written");
      bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    }
  }

  // Puts the file at its path: data to the disk, rename, directory to the disk. Throws error_code::file.
  void commit() {
    if (::fsync(file_.number()) != 0 || !file_.close()) fail_with_errno(path_, "can't be written");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno(path_, "can't be replaced");
    committed_ = true;
    const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
    const file_descriptor directory(::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
    // EINVAL: file systems that can't sync a directory, and need not.
    if (directory.number() < 0 || (::fsync(directory.number()) != 0 && errno != EINVAL))
      fail_with_errno(folder, "can't be synced to the disk");
  }

 private:
  int create() {
    struct stat status {};
    if (::lstat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
      fail(error_code::file, printable_path(path_), ": expected a regular file or none to replace");
    // Names are taken only where processes were killed while writing; nobody has this many left over.
    constexpr int most_tries = 1000;
    for (int attempt = 0; attempt < most_tries; ++attempt) {
      temporary_ = path_;
      temporary_ += ".partial-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
      const int created =
          ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);  // less the umask
      if (created >= 0) return created;
      if (errno != EEXIST) break;
    }
    fail_with_errno(path_, "can't be created");
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  file_descriptor file_;
  bool committed_ = false;
};

}  // namespace normuon

#endif
