// Trains the GPT of 03_train_gpt on the ranks of an MPI job: data-parallel, with the optimizer's state cut over the
// ranks. Weights and state have the bits of one process, whatever the number of ranks and the layout:
//
//   mpirun -n 4 build/examples/train_sharded --steps 20 --layout rows --save run.safetensors
#include <CLI/CLI.hpp>
#include <cstdio>
#include <normuon/backends/eigen.hpp>
#include <normuon/io/checkpoint.hpp>
#include <normuon/shards/mpi.hpp>
#include <optional>

#include "data_parallel.hpp"

namespace {

struct settings {
  int steps = 20;
  std::string layout = "rows";
  std::uint64_t seed = 1;
  std::filesystem::path save, load, text;
  int save_every = 0;
  int deadline = 60;
  gpt::shape shape{.layers = 2, .width = 64};
};

constexpr std::size_t sequences_per_step = 32;

normuon::layout layout_of(const settings& s, std::size_t block, int ranks) {
  if (s.layout == "rows") return normuon::layout::rows();
  if (s.layout == "cols") return normuon::layout::cols();
  if (s.layout == "flat") return normuon::layout::flat_slice();
  return normuon::layout::owned(static_cast<int>(block) % ranks);
}

void train(settings s) {
  using optimizer = normuon::optimizer<normuon::eigen_backend, normuon::mpi_engine>;
  normuon::mpi_engine engine(MPI_COMM_WORLD, {.deadline = std::chrono::seconds(s.deadline)});
  const int rank = engine.rank(), ranks = engine.size();
  const gpt::corpus corpus = gpt::tokenize(s.text.empty() ? gpt::bible_text() : gpt::file_text(s.text),
                                           static_cast<std::size_t>(s.shape.context) + 1);
  s.shape.vocabulary = static_cast<gpt::index_t>(corpus.alphabet.size());

  // Every rank has all weights and the whole gradient; of both, its optimizer sees the rank's part.
  gpt::parameters<float> weights(s.shape), gradient(s.shape);
  weights.initialise(s.seed);
  optimizer opt(normuon::eigen_backend({.threads = 1}), {}, std::move(engine));
  const auto hidden = opt.add_group(normuon::normuon_options{.learning_rate = 1.6e-2, .nesterov = true});
  const auto others = opt.add_group(normuon::adamw_options{.learning_rate = 1.2e-2});
  std::vector<normuon::layout> how;
  const auto blocks = weights.blocks(), gradients = gradient.blocks();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    how.push_back(layout_of(s, i, ranks));
    opt.add_parameter(blocks[i].role == gpt::role::hidden ? hidden : others, blocks[i].name,
                      normuon::shard(blocks[i].view, how[i], rank, ranks),
                      normuon::shard(gradients[i].view, how[i], rank, ranks));
  }

  int step = 0;
  if (!s.load.empty()) step = static_cast<int>(normuon::load_checkpoint(s.load, opt).step);
  sharded::share_weights(weights, how, rank, ranks);
  sharded::gradients parts(s.shape, rank, ranks);
  for (; step < s.steps; ++step) {
    std::seed_seq of_step{s.seed, static_cast<std::uint64_t>(step)};  // so that a batch depends on seed and step alone
    std::mt19937_64 random(of_step);
    const gpt::windows batch =
        gpt::random_windows(corpus.training, sequences_per_step, static_cast<std::size_t>(s.shape.context), random);
    const double loss = parts.compute(weights, batch, gradient);
    opt.step();
    sharded::share_weights(weights, how, rank, ranks);
    if (rank == 0) std::printf("step %d: loss %.6f\n", step + 1, loss);
    if (s.save_every > 0 && (step + 1) % s.save_every == 0 && !s.save.empty()) normuon::save_checkpoint(s.save, opt);
  }
  if (!s.save.empty()) normuon::save_checkpoint(s.save, opt);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Trains a small GPT on many ranks, with the bits of one process.");
  app.add_option("--steps", s.steps, "in all, those of a loaded run included")->check(CLI::Range(0, 1000000));
  app.add_option("--layout", s.layout, "of the optimizer's state: rows, cols, flat or owned")
      ->check(CLI::IsMember({"rows", "cols", "flat", "owned"}));
  app.add_option("--seed", s.seed, "of initial weights and batches");
  app.add_option("--save", s.save, "a checkpoint, whose bytes depend on steps, seed and text alone");
  app.add_option("--save-every", s.save_every, "saves every so many steps, too")->check(CLI::NonNegativeNumber);
  app.add_option("--load", s.load, "a checkpoint to go on from, saved on any number of ranks in any layout")
      ->check(CLI::ExistingFile);
  app.add_option("--text", s.text, "a file to train on instead of the Bible")->check(CLI::ExistingFile);
  app.add_option("--deadline", s.deadline, "seconds that a rank waits for others")->check(CLI::Range(1, 86400));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  MPI_Init(&argc, &argv);
  try {
    train(s);
  } catch (const std::exception& e) {
    // Without MPI_Finalize, which may wait for a rank that is gone.
    std::fprintf(stderr, "train_sharded: %s\n", e.what());
    std::fflush(nullptr);
    std::_Exit(2);
  }
  MPI_Finalize();
}
