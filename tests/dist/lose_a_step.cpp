// Loses a rank in a step of an optimizer or while a checkpoint is saved; see lost_rank.hpp. Afterwards the last
// checkpoint must load, in one process, and be what one process has after as many steps.
#define DOCTEST_CONFIG_IMPLEMENT  // of what sharded_runs.hpp checks elsewhere
#include "dist/lost_rank.hpp"
#include "dist/sharded_runs.hpp"
#include "normuon/io/checkpoint.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr int steps_before = 2;  // the loss, and a checkpoint after them

// Tells `lost` which phase of a step, or of a save, its verbs are.
class watched_engine : public mpi_engine {
 public:
  explicit watched_engine(lost_rank& lost) : mpi_engine(MPI_COMM_WORLD, {.deadline = lost.deadline}), lost_(&lost) {}

  void begin_step() { last_ = std::exchange(now_, {}), saves_ = false; }
  void begin_save() { gathers_ = 0, saves_ = true; }

  void all_gather_small(void* all, std::size_t bytes) {
    ++gathers_;
    if (!saves_) lost_->in("before ranks agree");
    if (saves_ && gathers_ == 3) lost_->in("while a checkpoint is planned");
    if (saves_ && gathers_ == 6) lost_->in("while a checkpoint is written");
    mpi_engine::all_gather_small(all, bytes);
    if (!saves_) lost_->in("after ranks agreed");
  }
  void restart(request& r) {
    mpi_engine::restart(r);
    ++now_.restarts;
    if (now_.restarts == 1) lost_->in("as the first U leaves");
    if (now_.restarts == last_.restarts) lost_->in("as the last D leaves");
  }
  void finish(request& r) {
    ++now_.finishes;
    if (now_.finishes == 1) lost_->in("before the first U has arrived");
    if (now_.finishes == last_.finishes) lost_->in("before the last D has arrived");
    mpi_engine::finish(r);
    if (now_.finishes == 1) lost_->in("as the first U has arrived");
    if (now_.finishes == last_.finishes) lost_->in("as the last D has arrived");
  }

 private:
  struct calls {
    int restarts = 0, finishes = 0;
  };
  lost_rank* lost_;
  calls last_, now_;  // of the step before, and of this one: all steps make the same
  int gathers_ = 0;
  bool saves_ = false;
};

void train_and_save(lost_rank& lost) {
  spread_trainer<eigen_backend, watched_engine, float> trainer(small_model(), watched_engine(lost), {},
                                                               eigen_backend({.threads = 1}));
  for (int step = 0; step < steps_before + 2; ++step) {
    if (step == steps_before) lost.arm();
    trainer.opt.engine().begin_step();
    trainer.step(step);
    trainer.opt.engine().begin_save();
    save_checkpoint(lost.folder + "run", trainer.opt);
    lost.in("after a checkpoint");
  }
}

void load_the_checkpoint(const lost_rank& lost) {
  spread_trainer<eigen_backend, single_process, float> trainer(small_model(), {}, {}, eigen_backend({.threads = 1}));
  const index_t steps = load_checkpoint(lost.folder + "run", trainer.opt).step;
  if (steps < steps_before) throw std::runtime_error("the checkpoint is an older one");
  whole_tensors loaded;
  trainer.put_into(loaded);
  if (loaded != trained_alone<float>(small_model(), {.steps = static_cast<int>(steps)}, one_step))
    throw std::runtime_error("the checkpoint is not what one process has");
}

}  // namespace

int main(int argc, char** argv) {
  return lose_a_rank(argc, argv,
                     {"before ranks agree", "after ranks agreed", "as the first U leaves",
                      "before the first U has arrived", "as the first U has arrived", "as the last D leaves",
                      "before the last D has arrived", "as the last D has arrived", "while a checkpoint is planned",
                      "while a checkpoint is written", "after a checkpoint"},
                     train_and_save, load_the_checkpoint);
}
