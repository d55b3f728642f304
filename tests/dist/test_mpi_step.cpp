// The optimizer's step over MPI, under mpirun: on every rank, what it holds has the bits of one process.
#include <mpi.h>

#include "dist/sharded_runs.hpp"
#include "normuon/shards/mpi.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

template <element T>
void check_same_over_mpi(const std::vector<spread_parameter>& parameters, const run_options& o) {
  using real = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const whole_tensors expected = trained_alone<T>(parameters, o, one_step);
  spread_trainer<basic_eigen_backend<real>, mpi_engine, T> trainer(parameters, mpi_engine(MPI_COMM_WORLD), o.optimizer,
                                                                   basic_eigen_backend<real>({.threads = o.threads}));
  for (int step = 0; step < o.steps; ++step) trainer.step(step);
  check_held(trainer, expected);
}

}  // namespace

TEST_CASE("thirty steps of every rule in every layout have the bits of one process") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    check_same_over_mpi<float>(all_layouts(rule), {.steps = 30});
  }
}

TEST_CASE("thirty steps of every rule with a narrow wire and two threads have the bits of one process") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    check_same_over_mpi<float>(all_layouts(rule, 1),
                               {.optimizer = {.wire = element_type::bfloat16}, .threads = 2, .steps = 30});
  }
}

TEST_CASE("weights of 16 bits and of 64 have the bits of one process") {
  const std::vector<spread_parameter> parameters = all_layouts({"reference", normuon_options::reference()});
  check_same_over_mpi<bfloat16>(parameters, {.steps = 3});
  check_same_over_mpi<double>(parameters, {.steps = 3});
}
