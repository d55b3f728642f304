// What is benchmarked, of every backend that is registered with it.
#ifndef NORMUON_BENCH_SETTINGS_HPP
#define NORMUON_BENCH_SETTINGS_HPP

#include <charconv>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "normuon/backends/cpu/executor.hpp"
#include "normuon/bench/machine.hpp"
#include "normuon/errors.hpp"

namespace normuon::bench {

// `count` matrices of a shape, which an iteration takes at once.
struct matrix_shape {
  index_t rows = 0, cols = 0, count = 1;
  friend bool operator==(const matrix_shape&, const matrix_shape&) = default;
};

// "768x3072", or "768x3072x12" for 12 of them.
inline std::string text_of(const matrix_shape& m) {
  const std::string one = std::to_string(m.rows) + 'x' + std::to_string(m.cols);
  return m.count == 1 ? one : one + 'x' + std::to_string(m.count);
}

// 1, 2, 4 and so on, and all that run at once.
inline std::vector<int> usual_thread_counts() {
  const int all = threads_at_once();
  std::vector<int> counts;
  for (int n = 1; n < all; n *= 2) counts.push_back(n);
  counts.push_back(all);
  return counts;
}

struct settings {
  std::vector<matrix_shape> shapes{{128, 128}, {768, 768}, {768, 3072}, {3072, 768}, {1024, 4096}, {2048, 2048}};
  std::vector<int> threads = usual_thread_counts();
  std::vector<index_t> elements{1 << 16, 1 << 20, 1 << 24};  // of elementwise passes; 16 times a square

  // What counters are fractions of, by type or size and number of threads. A backend on a device states its own.
  std::function<double(compute_type, int)> peak = product_peak;  // FLOP/s
  std::function<double(std::size_t, int)> bandwidth = triad;     // bytes/s on that many bytes

  // Of a device: the seconds of all work that a function puts into its stream, by the device's own clock. None: the
  // host's clock is looked at until the work is done.
  std::function<double(const std::function<void()>&)> device_seconds = {};
  std::size_t rotated_bytes =
      0;                     // inputs that take turns are so large together, so that caches hold none; 0: there is one
  std::string missing = {};  // why nothing can be measured: benchmarks are there, and skipped with this reason
  std::shared_ptr<index_t> skipped = std::make_shared<index_t>(0);  // how many were, of all backends
  std::shared_ptr<index_t> failed = std::make_shared<index_t>(0);   // how many threw
  index_t probe_elements = index_t{1} << 26;  // floats of a matrix by which a device's rates are measured
};

// A positive number at the start of `text`, which is left without it. Throws where there is none.
inline index_t take_number(std::string_view& text, std::string_view option) {
  index_t n = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (failure != std::errc() || n < 1) fail(error_code::option, option, ": expected a positive number at '", text, "'");
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return n;
}

// Takes the end of a text or a comma off it, and says whether more follows. Throws where there is something else.
inline bool take_comma(std::string_view& text, std::string_view option) {
  if (text.empty()) return false;
  if (text[0] != ',') fail(error_code::option, option, ": expected a comma at '", text, "'");
  text.remove_prefix(1);
  return true;
}

inline std::vector<matrix_shape> parse_shapes(std::string_view text) {
  std::vector<matrix_shape> shapes;
  do {
    matrix_shape& shape = shapes.emplace_back();
    shape.rows = take_number(text, "--shapes");
    if (text.empty() || text[0] != 'x') fail(error_code::option, "--shapes: expected 'x' and columns at '", text, "'");
    text.remove_prefix(1);
    shape.cols = take_number(text, "--shapes");
    if (text.empty() || text[0] != 'x') continue;
    text.remove_prefix(1);
    shape.count = take_number(text, "--shapes");
  } while (take_comma(text, "--shapes"));
  return shapes;
}

inline std::vector<int> parse_threads(std::string_view text) {
  std::vector<int> threads;
  do threads.push_back(static_cast<int>(std::min<index_t>(take_number(text, "--threads"), 1 << 16)));
  while (take_comma(text, "--threads"));
  return threads;
}

inline index_t parse_elements(std::string_view text) {
  const index_t elements = take_number(text, "--probe");
  if (!text.empty()) fail(error_code::option, "--probe: expected a number, got '", text, "' behind it");
  return elements;
}

// Takes --shapes=MxN,... or MxNxCOUNT,..., --threads=N,... and --probe=ELEMENTS out of a program's arguments; what is
// left is Google Benchmark's. Throws where they can't be read.
inline settings settings_from(int& argc, char** argv) {
  settings s;
  const auto value_of = [](std::string_view argument, std::string_view name) {
    return argument.starts_with(name) ? argument.substr(name.size()) : std::string_view();
  };
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--shapes=")) s.shapes = parse_shapes(value_of(argument, "--shapes="));
    else if (argument.starts_with("--threads=")) s.threads = parse_threads(value_of(argument, "--threads="));
    else if (argument.starts_with("--probe=")) s.probe_elements = parse_elements(value_of(argument, "--probe="));
    else argv[kept++] = argv[i];
  }
  argc = kept;
  argv[argc] = nullptr;
  return s;
}

}  // namespace normuon::bench

#endif
