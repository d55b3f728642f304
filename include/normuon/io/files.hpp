// Writing a file that replaces the old one whole or not at all, on any file system of the concept.
#ifndef NORMUON_IO_FILES_HPP
#define NORMUON_IO_FILES_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "normuon/io/file_system.hpp"

namespace normuon {

inline file_path folder_of(const file_path& path) { return path.has_parent_path() ? path.parent_path() : "."; }

// The path with something behind its last name.
inline file_path with_suffix(file_path path, const std::string& suffix) {
  path += suffix;
  return path;
}

// Under which name a file is kept that a newer one has replaced.
inline file_path previous_generation(const file_path& path) { return with_suffix(path, ".previous"); }

// Names a file that is being written. `unique` holds a process and a count, so names don't meet.
inline file_path partial_path(const file_path& path, std::uint64_t unique) {
  return with_suffix(path, ".partial-" + std::to_string(unique >> 32) + "-" + std::to_string(unique & 0xffffffffu));
}

// A file being written beside the path it shall replace. Only commit() makes it visible there; without it the temporary
// file is removed and what stood at the path stays.
template <file_system System = posix_file_system>
class replacement_file {
 public:
  // Creates a partial_path of its own. Throws error_code::file where that fails, or where `path` exists and isn't a
  // regular file.
  explicit replacement_file(file_path path, System system = {})
      : system_(std::move(system)), path_(std::move(path)), file_(create()) {}
  ~replacement_file() {
    if (!committed_) system_.discard(temporary());
  }
  replacement_file(const replacement_file&) = delete;
  replacement_file& operator=(const replacement_file&) = delete;

  typename System::file& file() { return file_; }
  std::uint64_t number() const { return number_; }

  // Puts the file at its path: data to the disk, rename, directory to the disk. With `keep_previous`, what stood there
  // gets the name previous_generation; whenever the system stops, the path has one of the two, or, where the file
  // system has no hard links, that name has the older. Throws error_code::file; then what stood at the path stays, and
  // with `keep_previous` may already have the second name, too. There are two exceptions, which the message names: what
  // was renamed for want of links can't be given its name back, or the folder can't be synced with the new file in it.
  void commit(bool keep_previous = false) {
    file_.sync();
    file_.close();
    const bool emptied = keep_previous && system_.stands(path_) && set_aside();
    try {
      system_.rename(temporary(), path_);
    } catch (const error& e) {
      if (emptied) put_back(e);
      throw;
    }
    committed_ = true;
    try {
      system_.sync_folder(folder_of(path_));
    } catch (const error& e) {
      fail(e.code(), e.what(), "; ", printable_path(path_), " is the new file, which a loss of power may take back");
    }
  }

 private:
  file_path temporary() const { return partial_path(path_, number_); }

  typename System::file create() {
    system_.stands(path_);
    // Names are taken only where processes were killed while writing; nobody has this many left over.
    constexpr std::uint64_t most_tries = 1000;
    for (std::uint64_t attempt = 0; attempt < most_tries; ++attempt) {
      number_ = static_cast<std::uint64_t>(::getpid()) << 32 | attempt;
      if (auto made = system_.create(temporary(), path_)) return std::move(*made);
    }
    fail(error_code::file, printable_path(path_), ": can't be created: expected a free name like ",
         printable_path(temporary()));
  }

  // Gives what stands at the path its second name. Whether the path is empty then, since there are no links.
  bool set_aside() {
    const file_path second_name = with_suffix(temporary(), ".previous");
    system_.discard(second_name);
    if (!system_.link(path_, second_name)) {
      system_.rename(path_, previous_generation(path_));
      return true;
    }
    system_.rename(second_name, previous_generation(path_));
    system_.discard(second_name);  // renaming a file to another of its own names does nothing
    return false;
  }
  void put_back(const error& why) {
    try {
      system_.rename(previous_generation(path_), path_);
    } catch (const error&) {
      fail(why.code(), why.what(), "; nothing is at ", printable_path(path_), " now, what stood there is ",
           printable_path(previous_generation(path_)));
    }
  }

  System system_;
  file_path path_;
  std::uint64_t number_ = 0;
  typename System::file file_;
  bool committed_ = false;
};

// Removes what killed processes left of files that were to replace `path`.
template <file_system System>
void discard_partial_files(System& system, const file_path& path) {
  const std::string begin = path.filename().native() + ".partial-";
  for (const std::string& name : system.names(folder_of(path))) {
    std::string_view rest = name;
    if (!rest.starts_with(begin)) continue;
    rest.remove_prefix(begin.size());
    if (rest.ends_with(".previous")) rest.remove_suffix(std::string_view(".previous").size());
    const auto numbered = [](char c) { return (c >= '0' && c <= '9') || c == '-'; };
    if (!rest.empty() && std::all_of(rest.begin(), rest.end(), numbered)) system.discard(folder_of(path) / name);
  }
}

}  // namespace normuon

#endif
