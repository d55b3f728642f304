#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "normuon/io/safetensors.hpp"
#include "support/files.hpp"
#include "support/safetensors_files.hpp"

using namespace normuon;
using namespace normuon::test;
namespace fs = std::filesystem;

TEST_CASE("a write that fails leaves the old file and no other") {
  const scratch_folder folder;
  safetensors::write(folder / "f", small_file());
  const std::string before = get(folder / "f");
  safetensors::file large;
  large.tensors["w"] = make<double>({4096}, std::vector<double>(4096, 1.0));

  // A file may not grow beyond 1000 bytes: what a full disk does.
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, old.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string message = file_refusal([&] { safetensors::write(folder / "f", large); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  CHECK(contains(message, "/f: can't be written: " + std::generic_category().message(EFBIG)));
  CHECK(get(folder / "f") == before);
  CHECK(folder.entries() == 1);

  safetensors::write(folder / "f", large);
  CHECK(safetensors::read(folder / "f") == large);
  CHECK(folder.entries() == 1);
}

TEST_CASE("only regular files are read and replaced, and errors of the system come with its reason") {
  const scratch_folder folder;
  const std::string absent = std::generic_category().message(ENOENT);
  CHECK(contains(read_refusal(folder / "n\x1b"), "/n\\x1b: can't be opened: " + absent));
  CHECK(contains(file_refusal([&] { safetensors::write(folder / "none/f", {}); }),
                 "/none/f: can't be created: " + absent));

  fs::create_directory(folder / "d");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_symlink("elsewhere", folder / "link");
  for (const char* name : {"d", "pipe"}) CHECK(contains(read_refusal(folder / name), "expected a regular file"));
  for (const char* name : {"d", "pipe", "link"}) {
    CHECK(contains(file_refusal([&] { safetensors::write(folder / name, {}); }),
                   "expected a regular file or none to replace"));
    CHECK(folder.entries() == 3);
  }

  // The name of a temporary file that a killed process with this number left is passed over.
  put(folder / ("f.partial-" + std::to_string(::getpid()) + "-0"), "left over");
  safetensors::write(folder / "f", small_file());
  CHECK(safetensors::read(folder / "f") == small_file());
  CHECK(get(folder / ("f.partial-" + std::to_string(::getpid()) + "-0")) == "left over");
}
