// Looks into checkpoints:
//   checkpoint verify FILE...     reads all of each file, and says that every digest is right
//   checkpoint show FILE          prints what the run was and which tensors there are
// After a mistake, or where a file is damaged: one line on standard error, exit status 2.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "normuon/io/checkpoint/reader.hpp"

namespace {

using namespace normuon;

void verify(const std::string& path) {
  checkpoint_reader<> reader(path);
  reader.verify_all();
  fmt::print("{}: {} tensors, {} bytes, every digest is right\n", reader.printed_path(), reader.plan().tensors().size(),
             reader.plan().file_bytes());
}

std::string shape_of(const placed_tensor& t) {
  return t.shape.empty() ? "1" : fmt::format("{}", fmt::join(t.shape, "x"));
}

// Names are shown whole, but for bytes that a terminal would obey.
std::string shown(const std::string& text) { return printable(text, text.size()); }

void show(const std::string& path) {
  checkpoint_reader<> reader(path);
  const checkpoint_plan& plan = reader.plan();
  std::size_t key_width = 0, name_width = 4, shape_width = 5;
  for (const auto& [key, text] : plan.metadata()) key_width = std::max(key_width, shown(key).size());
  for (const placed_tensor& t : plan.tensors()) {
    name_width = std::max(name_width, shown(t.name).size());
    shape_width = std::max(shape_width, shape_of(t).size());
  }
  for (const auto& [key, text] : plan.metadata()) fmt::print("{:<{}}  {}\n", shown(key), key_width, shown(text));
  fmt::print("\n{:<{}}  type  {:<{}}  {:>14}  {:>14}  xxh3\n", "name", name_width, "shape", shape_width, "offset",
             "bytes");
  for (std::size_t i = 0; i < plan.tensors().size(); ++i) {
    const placed_tensor& t = plan.tensors()[i];
    fmt::print("{:<{}}  {:<4}  {:<{}}  {:>14}  {:>14}  {}\n", shown(t.name), name_width,
               safetensors::facts_of(t.type).name, shape_of(t), shape_width, t.begin, t.end - t.begin,
               digest_text(reader.stored_digest(i)));
  }
  fmt::print("\n{} tensors, {} bytes; `checkpoint verify` reads them and computes their digests anew\n",
             plan.tensors().size(), plan.file_bytes());
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "checkpoint: %s\n", why.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    CLI::App app("Looks into checkpoints.");
    app.require_subcommand(1);
    std::vector<std::string> files;
    std::string file;
    CLI::App* const verify_command =
        app.add_subcommand("verify", "reads all of each file, and computes its digests anew");
    verify_command->add_option("FILE", files, "a checkpoint")->required();
    CLI::App* const show_command = app.add_subcommand("show", "prints what the run was and which tensors there are");
    show_command->add_option("FILE", file, "a checkpoint")->required();
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help) {
      return app.exit(help);
    } catch (const CLI::ParseError& e) {
      const std::string why = e.what();
      return refuse(normuon::printable(why, why.size()));
    }
    if (show_command->parsed()) show(file);
    for (const std::string& f : files) verify(f);
    return 0;
  } catch (const std::exception& e) {
    return refuse(e.what());
  }
}
