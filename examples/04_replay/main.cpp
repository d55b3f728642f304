// Replays an optimizer on recorded gradients: weights, gradients and options in, weights and state out, as safetensors.
// With it a port to another language is proved, and a public code compared. Its interface is a contract:
//   replay --input case.safetensors --output out.safetensors [--rule RULE] [--preset NAME] [--backend eigen|cublas]
//          [--set key=value ...] [--trace]
#include <CLI/CLI.hpp>
#include <cstdio>

#include "device.hpp"
#include "normuon/backends/eigen.hpp"
#include "run.hpp"

namespace {

using namespace normuon;

constexpr const char* files_text = R"(Input tensors:
  W                 m x n, a row for each output neuron, in float64, float32, float16 or bfloat16
  G.0 ... G.k       the gradient of each step, same shape; of W's type or a narrower one
  M, v, step        the state to start from, as an earlier output has it; zero where it is left out
Output tensors, float64 for a W in float64 and float32 for all others, as the whole run is:
  W, M, v, step     after the last step; v is one number per neuron, m x n for adamw, and absent for muon
  W.0 ... W.k       after each step, with --trace
After a mistake: one line on standard error, exit status 2, and no output.)";

struct arguments {
  std::string input, output, rule, preset, backend = "eigen";
  std::vector<std::string> assignments;
  bool trace = false;
};

safetensors::file run_on_host(const replay::setup& s, const safetensors::file& in, bool trace) {
  using placement::in_place;
  const int threads = s.threads.number;
  return replay::run(
      s, in, [&] { return replay::run_on<in_place>(eigen_backend64({.threads = threads}), s, in, trace); },
      [&] { return replay::run_on<in_place>(eigen_backend({.threads = threads}), s, in, trace); });
}

int replay_file(const arguments& f) {
  const bool on_device = f.backend == "cublas";
  if (!on_device && f.backend != "eigen")
    fail(error_code::option, "--backend: expected eigen or cublas, got '", printable(f.backend), "'");
  const replay::setup setup = replay::make_setup(f.rule, f.preset, f.assignments);
  const safetensors::file in = safetensors::read(f.input);
  safetensors::write(f.output, on_device ? replay::run_on_device(setup, in, f.trace) : run_on_host(setup, in, f.trace));
  return 0;
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "replay: %s\n", why.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    arguments f;
    CLI::App app("Runs an optimizer on recorded gradients.");
    const auto not_empty = [](const std::string& text) { return std::string(text.empty() ? "expected a path" : ""); };
    app.add_option("--input", f.input, "the file with W and the gradients")->required()->check(not_empty);
    app.add_option("--output", f.output, "the file to write")->required()->check(not_empty);
    app.add_option("--rule", f.rule, "normuon, muon or adamw; by default the preset's, or normuon");
    app.add_option("--preset", f.preset, "one of those below; by default the rule's first");
    app.add_option("--backend", f.backend, "eigen, or cublas for a GPU");
    app.add_option("--set", f.assignments, "changes what the preset sets")->type_name("KEY=VALUE");
    app.add_flag("--trace", f.trace, "writes the weight after each step too");
    app.footer(replay::describe_keys() + "\n" + files_text);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help) {
      return app.exit(help);
    } catch (const CLI::ParseError& e) {
      const std::string why = e.what();
      return refuse(printable(why, why.size()));
    }
    return replay_file(f);
  } catch (const std::exception& e) {
    return refuse(e.what());
  }
}
