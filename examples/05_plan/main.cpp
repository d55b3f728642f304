// Plans a sharded step before anything runs: who would own which matrix, how even that is, how many bytes would move
// and how long a step would take, on any number of ranks.
//   normuon_plan [FILE ...] --ranks N[,N ...] [--layout L] [--wire T] [--bandwidth B] [--latency S] [--flops F] ...
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "table.hpp"

namespace {

using namespace plan_example;

constexpr const char* columns =
    R"(Files: safetensors files (*.safetensors, or only their headers), of which matrices are taken and
embeddings, heads, norms and biases left out; or lists of lines "name rows cols [batch]". Without a file, or for -, a
list is read from standard input.
Columns, for each number of ranks:
  idle               ranks that own no matrix
  buckets            of matrices that travel together; one is computed while its neighbours travel
  /mean, /bound      the largest load in Newton-Schulz products over the mean, and over a bound that no plan falls below
  sent MB, most MB   by a rank in a step, on average; by the rank that sends or receives most
  messages           of the rank with most of them, one way
  stages MB          of buffers for bytes on their way, on the rank with most
  whole MB           of the largest matrix that a rank owns, in float32
  moving, product    ms that buckets travel, and that the rank with the most to do computes
  serial, piped      ms of a step without and with overlap, where ranks wait for the slowest in each bucket
After a mistake: one line on standard error, and exit status 2.)";

struct flags {
  std::vector<std::string> files;
  std::vector<int> ranks;
  std::string layout = "rows", wire = "float32";
  machine_rates rates;
  shard_options options;
  bool per_rank = false;
};

constexpr int most_ranks = 100'000;

element_type wire_type(std::string_view name) {
  for (const element_type type :
       {element_type::float64, element_type::float32, element_type::bfloat16, element_type::float16})
    if (name_of(type) == name) return type;
  fail(error_code::option, "--wire: expected float64, float32, bfloat16 or float16, got '", printable(name), "'");
}

void check(const flags& f) {
  for (const int ranks : f.ranks)
    if (ranks < 1 || ranks > most_ranks)
      fail(error_code::option, "--ranks: expected 1 to ", most_ranks, ", got ", ranks);
  const auto positive = [](const char* option, double x) {
    if (!(x > 0) || !is_finite(x)) fail(error_code::option, option, ": expected a number above 0, got ", x);
  };
  positive("--bandwidth", f.rates.bandwidth);
  positive("--flops", f.rates.flops);
  if (!(f.rates.latency >= 0) || !is_finite(f.rates.latency))
    fail(error_code::option, "--latency: expected a number of 0 or above, got ", f.rates.latency);
  validate(f.options);
}

std::vector<model_matrix> read_model(const std::vector<std::string>& files) {
  std::vector<model_matrix> model;
  for (const std::string& file : files.empty() ? std::vector<std::string>{"-"} : files) {
    if (file.ends_with(".safetensors")) {
      add_safetensors(model, file);
    } else if (file == "-") {
      add_list(model, std::cin, "standard input");
    } else {
      std::ifstream in(file);
      if (!in) fail(error_code::file, printable(file, file.size()), ": can't be opened");
      add_list(model, in, printable(file, file.size()));
    }
  }
  check(model);
  return model;
}

int plan(const flags& f) {
  check(f);
  const element_type wire = wire_type(f.wire);
  const std::vector<model_matrix> model = read_model(f.files);
  std::vector<world> worlds;
  for (const int ranks : f.ranks) worlds.push_back(plan_world(model, f.layout, wire, ranks, f.rates, f.options));
  std::string text = header_of(worlds[0], f.layout, f.wire);
  for (const world& w : worlds) text += line_of(w);
  if (const std::string advice = advice_on(worlds); !advice.empty()) text += "\n" + advice;
  for (const world& w : worlds)
    if (f.per_rank) text += "\n" + ranks_of(w);
  std::fputs(text.c_str(), stdout);
  if (std::fflush(stdout) != 0) fail(error_code::file, "standard output: can't be written");
  return 0;
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "normuon_plan: %s\n", why.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    flags f;
    CLI::App app("Plans a sharded step of a model on any number of ranks.");
    app.add_option("files", f.files, "the model: safetensors files, or lists of shapes")->type_name("FILE");
    app.add_option("--ranks", f.ranks, "how many; several for one table")
        ->required()
        ->delimiter(',')
        ->allow_extra_args(false);
    app.add_option("--layout", f.layout, layouts_expected)->capture_default_str();
    app.add_option("--wire", f.wire, "type of what travels: float64, float32, bfloat16 or float16")
        ->capture_default_str();
    app.add_option("--bandwidth", f.rates.bandwidth, "bytes/s of a rank, each way")->capture_default_str();
    app.add_option("--latency", f.rates.latency, "seconds, of a message")->capture_default_str();
    app.add_option("--flops", f.rates.flops, "FLOP/s of a rank in products")->capture_default_str();
    app.add_option("--staging", f.options.staging_limit, "bytes of stages a rank may have")->capture_default_str();
    app.add_option("--buckets", f.options.least_buckets, "at least so many, where ranks own enough")
        ->capture_default_str();
    app.add_flag("--per-rank", f.per_rank, "shows every rank as well");
    app.footer(columns);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help) {
      return app.exit(help);
    } catch (const CLI::ParseError& e) {
      const std::string why = e.what();
      return refuse(normuon::printable(why, why.size()));
    }
    return plan(f);
  } catch (const std::exception& e) {
    return refuse(e.what());
  }
}
