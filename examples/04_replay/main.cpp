// Replays an optimizer on recorded gradients: weights, gradients and options in, weights and state out, as safetensors.
// With it a port to another language is proved, and a public code compared. Its interface is a contract:
//   replay --input case.safetensors --output out.safetensors [--rule RULE] [--preset NAME] [--backend eigen]
//          [--set key=value ...] [--trace]
#include <CLI/CLI.hpp>
#include <cstdio>

#include "run.hpp"

namespace {

constexpr const char* files_text = R"(Input tensors:
  W                 m x n, a row for each output neuron, in float64, float32, float16 or bfloat16
  G.0 ... G.k       the gradient of each step, same shape; of W's type or a narrower one
  M, v, step        the state to start from, as an earlier output has it; zero where it is left out
Output tensors, float64 for a W in float64 and float32 for all others, as the whole run is:
  W, M, v, step     after the last step; v is one number per neuron, m x n for adamw, and absent for muon
  W.0 ... W.k       after each step, with --trace
After a mistake: one line on standard error, exit status 2, and no output.)";

struct flags {
  std::string input, output, rule, preset, backend = "eigen";
  std::vector<std::string> assignments;
  bool trace = false;
};

int replay_file(const flags& f) {
  using namespace normuon;
  if (f.backend != "eigen") fail(error_code::option, "--backend: expected eigen, got '", printable(f.backend), "'");
  const replay::setup setup = replay::make_setup(f.rule, f.preset, f.assignments);
  safetensors::write(f.output, replay::run(setup, safetensors::read(f.input), f.trace));
  return 0;
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "replay: %s\n", why.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    flags f;
    CLI::App app("Runs an optimizer on recorded gradients.");
    const auto not_empty = [](const std::string& text) { return std::string(text.empty() ? "expected a path" : ""); };
    app.add_option("--input", f.input, "the file with W and the gradients")->required()->check(not_empty);
    app.add_option("--output", f.output, "the file to write")->required()->check(not_empty);
    app.add_option("--rule", f.rule, "normuon, muon or adamw; by default the preset's, or normuon");
    app.add_option("--preset", f.preset, "one of those below; by default the rule's first");
    app.add_option("--backend", f.backend, "eigen");
    app.add_option("--set", f.assignments, "changes what the preset sets")->type_name("KEY=VALUE");
    app.add_flag("--trace", f.trace, "writes the weight after each step too");
    app.footer(replay::describe_keys() + "\n" + files_text);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help) {
      return app.exit(help);
    } catch (const CLI::ParseError& e) {
      const std::string why = e.what();
      return refuse(normuon::printable(why, why.size()));
    }
    return replay_file(f);
  } catch (const std::exception& e) {
    return refuse(e.what());
  }
}
