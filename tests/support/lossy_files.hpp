// A file system in memory that loses power: what was not synced is dropped or reordered, in pieces smaller than a
// sector. And one, over any other, that writes files in their place, as a careless program does.
#ifndef NORMUON_TESTS_SUPPORT_LOSSY_FILES_HPP
#define NORMUON_TESTS_SUPPORT_LOSSY_FILES_HPP

#include <cstring>
#include <functional>
#include <map>

#include "normuon/io/files.hpp"
#include "support/matrix.hpp"

namespace normuon::test {

// One folder. An operation is on a file's bytes or on names, and is on the disk once that file, or the folder, has been
// synced later.
class lossy_disk {
 public:
  static constexpr std::size_t folder = ~std::size_t{0}, none = folder - 1;
  using names_map = std::map<std::string, std::size_t>;

  bool has_links = true;
  std::size_t fails_at = none;  // the operation that finds the disk full
  bool stays_full = false;      // and all that follow it, but for those that clear up
  names_map names;
  std::vector<std::string> files;

  std::size_t operations() const { return log_.size(); }

  std::size_t make(const std::string& name) {
    files.emplace_back();
    set_names({{name, files.size() - 1}});
    return files.size() - 1;
  }
  void set_names(std::vector<std::pair<std::string, std::size_t>> entries) {
    carry_out({folder, false, [entries](lossy_disk& d) {
                 for (const auto& [name, file] : entries)
                   if (file == none) d.names.erase(name);
                   else d.names[name] = file;
               }});
  }
  void resize(std::size_t file, std::size_t bytes) {
    carry_out({file, false, [=](lossy_disk& d) { d.files[file].resize(bytes); }});
  }
  void write(std::size_t file, std::size_t at, const std::string& bytes) {
    constexpr std::size_t piece = 64;
    for (std::size_t k = 0; k < bytes.size(); k += piece) {
      const std::string part = bytes.substr(k, piece);
      carry_out({file, false, [=](lossy_disk& d) {
                   std::string& to = d.files[file];
                   to.resize(std::max(to.size(), at + k + part.size()));
                   to.replace(at + k, part.size(), part);
                 }});
    }
  }
  void sync(std::size_t target) {
    carry_out({target, true, [](lossy_disk&) {}});
  }

  // What is left where power was lost after `count` operations.
  lossy_disk after_power_loss(std::size_t count, random_source& random) const {
    lossy_disk left;
    left.has_links = has_links;
    left.files.resize(files.size());
    std::vector<const operation*> unsynced;
    for (std::size_t k = 0; k < count; ++k) {
      bool synced = false;
      for (std::size_t later = k + 1; later < count; ++later)
        synced |= log_[later].is_sync && log_[later].target == log_[k].target;
      if (synced) log_[k].act(left);
      else unsynced.push_back(&log_[k]);
    }
    const std::size_t kept_of_four = random.bits() % 5;
    for (std::size_t k = unsynced.size(); k > 1; --k)
      if (random.bits() % 2 == 0) std::swap(unsynced[k - 1], unsynced[random.bits() % k]);
    for (const operation* o : unsynced)
      if (random.bits() % 4 < kept_of_four) o->act(left);
    return left;
  }

 private:
  struct operation {
    std::size_t target;
    bool is_sync;
    std::function<void(lossy_disk&)> act;
  };

  void carry_out(operation o) {
    if (log_.size() == fails_at) {
      if (!stays_full) fails_at = none;
      fail(error_code::file, "the disk is full");
    }
    o.act(*this);
    log_.push_back(std::move(o));
  }

  std::vector<operation> log_;
};

struct lossy_file_system {
  lossy_disk* disk;

  struct file {
    lossy_disk* disk;
    std::size_t number;
    std::size_t size_when_opened;

    std::uint64_t size() const { return size_when_opened; }
    std::string printed_path() const { return "file"; }
    void read_at(std::uint64_t at, std::span<std::byte> out) const {
      const std::string& from = disk->files[number];
      if (at > from.size() || out.size() > from.size() - at) fail(error_code::file, "file: ends too early");
      if (!out.empty()) std::memcpy(out.data(), from.data() + at, out.size());
    }
    void write_at(std::uint64_t at, const_bytes bytes) {
      disk->write(number, at, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    void resize(std::uint64_t bytes) { disk->resize(number, bytes); }
    void sync() { disk->sync(number); }
    void close() {}
  };

  static std::string name_of(const file_path& path) { return path.filename().native(); }
  file open(const file_path& path) const {
    const auto found = disk->names.find(name_of(path));
    if (found == disk->names.end()) fail(error_code::file, name_of(path), ": can't be opened");
    return {disk, found->second, disk->files[found->second].size()};
  }
  file open_to_write(const file_path& path, const file_path&) const { return open(path); }
  std::optional<file> create(const file_path& path, const file_path&) const {
    if (disk->names.contains(name_of(path))) return {};
    return file{disk, disk->make(name_of(path)), 0};
  }
  bool stands(const file_path& path) const { return disk->names.contains(name_of(path)); }
  std::vector<std::string> names(const file_path&) const {
    std::vector<std::string> all;
    for (const auto& [name, inode] : disk->names) all.push_back(name);
    return all;
  }
  bool link(const file_path& from, const file_path& to) const {
    if (disk->has_links) disk->set_names({{name_of(to), disk->names.at(name_of(from))}});
    return disk->has_links;
  }
  void rename(const file_path& from, const file_path& to) const {
    const std::size_t moved = disk->names.at(name_of(from));
    if (stands(to) && disk->names.at(name_of(to)) == moved) return;
    disk->set_names({{name_of(from), lossy_disk::none}, {name_of(to), moved}});
  }
  void discard(const file_path& path) const {
    const std::size_t failure = std::exchange(disk->fails_at, lossy_disk::none);  // clearing up does not fail
    if (stands(path)) disk->set_names({{name_of(path), lossy_disk::none}});
    disk->fails_at = failure;
  }
  void sync_folder(const file_path&) const { disk->sync(lossy_disk::folder); }
};

static_assert(file_system<lossy_file_system>);

// Files get their final name at once, and what stood there is overwritten.
template <file_system System>
struct in_place : System {
  std::optional<typename System::file> create(const file_path&, const file_path& shown) const {
    if (!this->stands(shown)) return System::create(shown, shown);
    return System::open_to_write(shown, shown);
  }
  void rename(const file_path&, const file_path&) const {}
  void discard(const file_path&) const {}
};

}  // namespace normuon::test

#endif
