// Trains a small GPT on the King James Bible, or any other text, with AdamW, Muon and NorMuon, and compares them.
#include <CLI/CLI.hpp>

#include "progress.hpp"
#include "results.hpp"

namespace {

using normuon::compute_type;

struct settings {
  bool quick = false;
  std::vector<std::uint64_t> seeds{1};
  std::vector<gpt::method> methods{gpt::all_methods.begin(), gpt::all_methods.end()};
  std::filesystem::path text, out = "results";
  int threads = 0;
  int steps = 0;
  gpt::recipe recipe;
};

// What turns a name into one of these.
template <class T, std::size_t n>
CLI::Validator one_of(const std::array<T, n>& values) {
  const auto turn = [values](std::string& text) {
    std::string names;
    for (const T& x : values) {
      if (text == name_of(x)) {
        text = std::to_string(static_cast<int>(x));
        return std::string();
      }
      names += (names.empty() ? "" : ", ") + std::string(name_of(x));
    }
    return "expected one of " + names + ", got " + text;
  };
  return CLI::Validator(turn, "");
}

CLI::Validator not_negative() {
  const auto check = [](const std::string& text) {
    return text.starts_with('-') ? "expected a number of at least 0, got " + text : "";
  };
  return CLI::Validator(check, "");
}

void add_options(CLI::App& app, settings& s) {
  app.add_flag("--quick", s.quick, "a smaller model and fewer steps: half a minute in all");
  app.add_option("--seeds", s.seeds, "a list, by default 1: initial weights and batches depend on nothing else")
      ->delimiter(',')
      ->check(not_negative());
  app.add_option("--steps", s.steps, "of each run: by default 300, or 150 with --quick")
      ->check(CLI::Range(20, 1000000));
  app.add_option("--optimizers", s.methods, "a list of adamw, muon and normuon, by default all")
      ->delimiter(',')
      ->transform(one_of(gpt::all_methods));
  app.add_option("--text", s.text, "a file to train on instead of the Bible")->check(CLI::ExistingFile);
  app.add_option("--out", s.out, "the folder for loss.svg, loss.gnuplot, steps.csv, steps.jsonl and summary.json")
      ->capture_default_str();
  app.add_option("--threads", s.threads, "0: as many as run at once; results are the same")->check(CLI::Range(0, 1024));

  app.add_option("--backend", s.recipe.backend,
                 "of the optimizer: eigen (the default), or cublas, whose weights, gradients and steps are on a GPU")
      ->transform(one_of(gpt::all_backends));
  app.add_option(
         "--compute", s.recipe.compute,
         "the type of Muon's and NorMuon's iteration: auto (the default), float32, bfloat16; on a GPU also float16 and "
         "tensor_float32")
      ->transform(one_of(std::array{compute_type::automatic, compute_type::float32, compute_type::bfloat16,
                                    compute_type::float16, compute_type::tensor_float32}));

  const std::string trials = "What docs/results.md has tried";
  const auto add_tuning = [&](const char* name, double gpt::tuning::*number, const char* meaning) {
    const auto set = [&s, number](double x) {
      for (gpt::tuning& t : s.recipe.tunings) t.*number = x;
    };
    std::string text = meaning;
    for (const gpt::method m : gpt::all_methods) text += fmt::format(", {} for {}", s.recipe.of(m).*number, name_of(m));
    app.add_option_function<double>(name, set, text)->group(trials)->check(not_negative());
  };
  add_tuning("--learning-rate", &gpt::tuning::learning_rate, "of hidden matrices: the peak");
  add_tuning("--other-learning-rate", &gpt::tuning::other_learning_rate, "of everything else: the peak");
  add_tuning("--momentum", &gpt::tuning::momentum, "of hidden matrices");
  const auto add = [&](const char* name, double& number, const char* meaning) {
    app.add_option(name, number, meaning)->group(trials)->check(not_negative())->capture_default_str();
  };
  add("--beta2", s.recipe.beta2, "of AdamW");
  add("--clip-norm", s.recipe.clip_norm, "of the gradient");
  add("--embedding-deviation", s.recipe.initial.embedding, "of initial embeddings");
  add("--matrix-deviation", s.recipe.initial.matrix, "of other initial matrices, times 1 / sqrt(inputs)");
  add("--branch-end-deviation", s.recipe.initial.branch_end, "of initial matrices that end a branch, the same");
}

void compare(const settings& s) {
  gpt::shape shape;
  gpt::recipe recipe = s.recipe;
  if (s.quick) shape.layers = 2, shape.width = 64, recipe.steps = 150;
  if (s.steps != 0) recipe.steps = s.steps;
  const std::string text = s.text.empty() ? gpt::bible_text() : gpt::file_text(s.text);
  const gpt::corpus corpus = gpt::tokenize(text, static_cast<std::size_t>(shape.context) + 1);
  shape.vocabulary = static_cast<gpt::index_t>(corpus.alphabet.size());
  gpt::workers team(shape, s.threads);
  const std::string path = path_of(recipe, team.threads());
  std::filesystem::create_directories(s.out);
  const auto tokens = gpt::sequences_per_step * static_cast<std::size_t>(shape.context);
  fmt::print("{}: {} characters, {} different; {} layers of width {}; {} tokens a step; {} threads; {}, {}\n",
             s.text.empty() ? "King James Bible" : s.text.string(), text.size(), shape.vocabulary, shape.layers,
             shape.width, tokens, team.size(), name_of(recipe.backend), path);
  gpt::progress progress(static_cast<int>(s.seeds.size() * s.methods.size()) * recipe.steps, tokens);
  gpt::runs runs;
  for (const std::uint64_t seed : s.seeds)
    for (const gpt::method m : s.methods)
      runs.push_back(gpt::train(corpus, shape, recipe, m, seed, team,
                                [&](const gpt::step_record& now) { progress.show(m, seed, recipe.steps, now); }));

  print_table(runs);
  write_steps(runs, s.out);
  write_summary(runs, s.out);
  print_samples(runs);
  draw_losses(runs, s.out);
  fmt::print("\nloss.svg, loss.gnuplot, steps.csv, steps.jsonl and summary.json are in {}\n", s.out.string());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a small GPT on text with AdamW, Muon and NorMuon, and compares them.");
  settings s;
  add_options(app, s);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    compare(s);
    return 0;
  } catch (const normuon::error& e) {  // what was asked for can't be had
    fmt::print(stderr, "train_gpt: {}\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "train_gpt: {}\n", e.what());
    return 1;
  }
}
