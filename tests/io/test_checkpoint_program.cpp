#include <doctest/doctest.h>

#include "normuon/io/checkpoint.hpp"
#include "support/program.hpp"
#include "support/trained_model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

program_result checkpoint(const std::vector<std::string>& arguments) {
  return run_program(NORMUON_CHECKPOINT, arguments);
}

void check_refused(const std::vector<std::string>& arguments, const std::string& why) {
  const program_result result = checkpoint(arguments);
  CHECK(result.status == 2);
  CHECK(result.out.empty());
  CHECK(result.err.starts_with("checkpoint: "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK_MESSAGE(result.err.find(why) != result.err.npos, result.err);
}

std::string saved(const scratch_folder& folder) {
  trained_model t;
  save_checkpoint(folder / "f", t.opt, {{}, {{"note", "line\n\x1b[31m"}}});
  return folder / "f";
}

}  // namespace

TEST_CASE("`checkpoint verify` says that files are whole, or names the tensor that is not") {
  const scratch_folder folder;
  const std::string file = saved(folder);
  const program_result result = checkpoint({"verify", file, file});
  CHECK(result.status == 0);
  CHECK(result.err.empty());
  CHECK(result.out.find(file + ": 26 tensors, ") == 0);
  CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 2);
  std::string bytes = get(file);
  bytes.back() ^= 1;
  put(file, bytes);
  check_refused({"verify", file}, "expected bytes with the digest ");
}

TEST_CASE("`checkpoint show` prints what the run was and each tensor, and no byte that a terminal would obey") {
  const scratch_folder folder;
  const program_result result = checkpoint({"show", saved(folder)});
  CHECK(result.status == 0);
  CHECK(result.err.empty());
  for (const char* piece :
       {"group.1.preset", "nanogpt", "wide.momentum", "F32", "3x6x6", "batch.weight", "line\\x0a\\x1b[31m"})
    CHECK_MESSAGE(result.out.find(piece) != result.out.npos, piece);
  CHECK(result.out.find('\x1b') == result.out.npos);
}

TEST_CASE("mistaken calls of `checkpoint` are refused in one line") {
  const scratch_folder folder;
  put(folder / "plain", "not a checkpoint at all");
  check_refused({}, "A subcommand is required");
  check_refused({"verify"}, "FILE is required");
  check_refused({"show"}, "FILE is required");
  check_refused({"mend", folder / "plain"}, "subcommand is required");
  check_refused({"show", folder / "none\n"}, "none\\x0a: can't be opened");
  check_refused({"show", folder / "plain"}, "expected a header of at most");
  CHECK(checkpoint({"--help"}).status == 0);
}
