// Files for tests: a folder of their own that goes away with the test, and whole files as strings.
#ifndef NORMUON_TESTS_SUPPORT_FILES_HPP
#define NORMUON_TESTS_SUPPORT_FILES_HPP

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "normuon/errors.hpp"

namespace normuon::test {

class scratch_folder {
 public:
  scratch_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "normuon-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder " + name);
    path_ = name;
  }
  ~scratch_folder() { std::filesystem::remove_all(path_); }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::size_t entries() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::filesystem::path path_;
};

inline void put(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string get(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// The message of the error_code::file that `act` throws; empty where it throws nothing.
template <class Act>
std::string file_refusal(Act act) {
  try {
    act();
  } catch (const error& e) {
    if (e.code() != error_code::file) throw;
    return e.what();
  }
  return {};
}

}  // namespace normuon::test

#endif
