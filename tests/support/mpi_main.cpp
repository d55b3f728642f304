// The main() of test programs under mpirun, on any number of ranks. All do the same test cases in the same order; with
// --tap rank 0 writes a line for each, which says `ok` where it went well on every rank.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <mpi.h>

#include "tap_reporter.hpp"

namespace {

class tap_of_all_ranks final : public normuon::test::tap_reporter {
 public:
  explicit tap_of_all_ranks(const doctest::ContextOptions& options) : tap_reporter(options) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  }
  void test_case_end(const doctest::CurrentTestCaseStats& result) override {
    int mine = result.testCaseSuccess, everywhere = 0;
    MPI_Allreduce(&mine, &everywhere, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
    if (rank_ == 0) write(everywhere != 0, "");
  }
  void test_case_skipped(const doctest::TestCaseData& test) override {
    if (rank_ == 0) tap_reporter::test_case_skipped(test);
  }
  void test_run_end(const doctest::TestRunStats& stats) override {
    if (rank_ == 0) tap_reporter::test_run_end(stats);
  }

 private:
  int rank_ = 0;
};

DOCTEST_REGISTER_REPORTER("tap", 0, tap_of_all_ranks);

}  // namespace

int main(int argc, char** argv) {
  int given = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &given);
  doctest::Context context(argc, argv);
  normuon::test::choose_reporters(context, argc, argv);
  const int failed = context.run();
  MPI_Finalize();
  return failed;
}
