// The checkpoint with which tests of several ranks begin.
#ifndef NORMUON_TESTS_DIST_SAVED_RUN_HPP
#define NORMUON_TESTS_DIST_SAVED_RUN_HPP

#include "dist/sharded_runs.hpp"
#include "normuon/io/checkpoint.hpp"

namespace normuon::test {

// small_model() after one step, saved by one rank.
inline void save_first_step(const file_path& path) {
  on_ranks(1, small_model(), [&](trainer_of_rank& trainer) {
    trainer.step(0);
    save_checkpoint(path, trainer.opt);
  }).rethrow_first();
}

}  // namespace normuon::test

#endif
