#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "normuon/io/safetensors.hpp"
#include "support/program.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// What the program prints about a list of shapes.
std::string planned(const std::string& list, std::vector<std::string> arguments) {
  const program_result r = run_program(NORMUON_PLAN, std::move(arguments), list);
  CHECK_MESSAGE(r.status == 0, r.err);
  CHECK(r.err.empty());
  return r.out;
}

// The numbers of the line that begins with `ranks`; see the program's help for its columns.
std::vector<double> line(const std::string& out, int ranks) {
  std::istringstream lines(out);
  for (std::string text; std::getline(lines, text);) {
    std::istringstream words(text);
    std::vector<double> numbers;
    for (double x = 0; words >> x;) numbers.push_back(x);
    if (numbers.size() == 14 && numbers[0] == ranks) return numbers;
  }
  return std::vector<double>(14, -1);
}

enum column {
  ranks,
  idle,
  buckets,
  over_mean,
  over_bound,
  sent,
  most,
  messages,
  stages,
  whole,
  moving,
  product,
  serial,
  piped
};

void check_refused(std::vector<std::string> arguments, const std::string& why, const std::string& list = "W 8 8\n") {
  const program_result r = run_program(NORMUON_PLAN, std::move(arguments), list);
  CAPTURE(why);
  CHECK(r.status == 2);
  CHECK(r.out.empty());
  CHECK(r.err.starts_with("normuon_plan: "));
  CHECK(std::count(r.err.begin(), r.err.end(), '\n') == 1);
  CHECK(std::all_of(r.err.begin(), r.err.end() - 1, [](char c) { return c >= ' ' && c <= '~'; }));
  CHECK_MESSAGE(r.err.find(why) != r.err.npos, r.err);
}

safetensors::tensor tensor(std::vector<std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) count *= length;
  return safetensors::make_tensor<float>(std::move(shape), std::vector<float>(static_cast<std::size_t>(count)));
}

constexpr const char* eight = "# eight alike\nW 100 100 8\n";

}  // namespace

TEST_CASE("the table says for each number of ranks what hand and eye find") {
  const std::string out =
      planned(eight, {"--ranks", "1,2,16", "--latency", "0", "--bandwidth", "1e6", "--flops", "1e9"});
  CHECK(out.starts_with("8 matrices of 0.08 million elements, layout rows, float32 on the wire; "));
  const auto one = line(out, 1), two = line(out, 2), sixteen = line(out, 16);
  CHECK(one[idle] == 0);
  CHECK(one[sent] == 0);
  CHECK(one[product] == doctest::Approx(8 * 10 * 3e6 / 1e9 * 1e3));
  CHECK(one[piped] == one[product]);
  CHECK(two[buckets] == 4);
  CHECK(two[over_bound] == 1);
  // Half of four matrices there, and half of four back; 16 headers: one each way and bucket, of U and D.
  CHECK(two[sent] == doctest::Approx(2 * 4 * 0.5 * 40000e-6 + 8 * 64e-6));
  CHECK(two[messages] == 8);
  CHECK(two[moving] == doctest::Approx(two[most] * 1e3).epsilon(1e-3));
  CHECK(two[serial] == doctest::Approx(two[moving] + two[product]).epsilon(1e-3));
  CHECK(two[piped] < two[serial]);
  CHECK(sixteen[idle] == 8);
  CHECK(sixteen[over_mean] == 2);
  CHECK(sixteen[over_bound] == 1);
  CHECK(sixteen[whole] == doctest::Approx(0.04));
  CHECK(out.find("Ranks that own nothing: 8 of 16. One matrix is 1/8 of all products, so more than 8 ranks") !=
        out.npos);
}

TEST_CASE("layouts and wire types move the bytes that they should") {
  const auto sent_with = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--ranks", "4", "--buckets", "1"});
    return line(planned(eight, arguments), 4)[sent];
  };
  const double headers = 2 * 3 * 64e-6;
  CHECK(sent_with({}) == doctest::Approx(2 * 2 * 0.75 * 0.04 + headers).epsilon(1e-3));
  CHECK(sent_with({"--wire", "bfloat16"}) == doctest::Approx(2 * 0.75 * 0.04 + headers).epsilon(1e-3));
  CHECK(sent_with({"--wire", "float64"}) == doctest::Approx(4 * 2 * 0.75 * 0.04 + headers).epsilon(1e-3));
  for (const char* same : {"cols", "grid:2x2", "grid-rows:2x2"})
    CHECK(sent_with({"--layout", same}) == doctest::Approx(sent_with({})));
  CHECK(sent_with({"--layout", "owned"}) == 0);
  CHECK(sent_with({"--layout", "flat"}) == 0);  // two whole matrices in each slice
  CHECK(sent_with({"--layout", "replicated"}) == doctest::Approx(3 * 2 * 0.04 + 3 * 64e-6).epsilon(1e-3));
}

TEST_CASE("every rank is shown on request") {
  const std::string out = planned("a 64 64\nb 64 64\nc 64 64\n", {"--ranks", "2", "--per-rank"});
  CHECK(out.find("\n     0        2     1.333 ") != out.npos);
  CHECK(out.find("\n     1        1     0.667 ") != out.npos);
}

TEST_CASE("of a safetensors file, or its header alone, the matrices are planned and the rest is left out") {
  const scratch_folder folder;
  safetensors::file f;
  f.tensors["layers.0.q.weight"] = tensor({16, 8});
  f.tensors["layers.0.experts"] = tensor({3, 8, 16});
  f.tensors["conv2.weight"] = tensor({16, 8, 3, 3});
  f.tensors["layers.0.q.bias"] = tensor({16});
  f.tensors["embed.weight"] = tensor({50, 8});
  f.tensors["lm_head.weight"] = tensor({50, 8});
  const std::string path = folder / "model.safetensors", header = folder / "header.safetensors";
  safetensors::write(path, f);
  const std::string bytes = get(path);
  std::size_t floats = 0;
  for (const auto& [name, t] : f.tensors) floats += t.bytes.size();
  put(header, bytes.substr(0, bytes.size() - floats));
  const std::string expected =
      planned("conv2.weight 16 72\nlayers.0.experts 8 16 3\nlayers.0.q.weight 16 8\n", {"--ranks", "2"});
  CHECK(expected.starts_with("5 matrices"));
  CHECK(planned("", {path, "--ranks", "2"}) == expected);
  CHECK(planned("", {header, "--ranks", "2"}) == expected);
  CHECK(planned("more 8 8\n", {"--ranks", "2", path, "-"}).starts_with("6 matrices"));
}

TEST_CASE("a 70B model on thousands of ranks is planned") {
  const std::string out = planned("qo 8192 8192 160\nkv 1024 8192 160\nup 28672 8192 160\ndown 8192 28672 80\n",
                                  {"--ranks", "512,4096", "--wire", "bfloat16"});
  CHECK(line(out, 512)[product] == doctest::Approx(110).epsilon(0.01));
  CHECK(line(out, 4096)[idle] == 4096 - 560);
}

TEST_CASE("mistaken arguments of the planner are refused with one line") {
  check_refused({}, "--ranks is required");
  check_refused({"--ranks", "two"}, "two");
  check_refused({"--ranks", "0"}, "--ranks: expected 1 to 100000, got 0");
  check_refused({"--ranks", "4,-1"}, "--ranks: expected 1 to 100000, got -1");
  check_refused({"--ranks", "100001"}, "--ranks: expected 1 to 100000, got 100001");
  check_refused({"--ranks", "2", "--layout", "diagonal\n"}, "--layout: expected rows, cols, flat, grid:FSDPxTP");
  check_refused({"--ranks", "2", "--layout", "grid:2"}, "got 'grid:2'");
  check_refused({"--ranks", "2", "--layout", "grid:2x"}, "got 'grid:2x'");
  check_refused({"--ranks", "6", "--layout", "grid:2x2"}, "layout of 'W': expected a grid of 6 ranks, got 2 x 2");
  check_refused({"--ranks", "2", "--wire", "int8"},
                "--wire: expected float64, float32, bfloat16 or float16, got 'int8'");
  check_refused({"--ranks", "2", "--bandwidth", "0"}, "--bandwidth: expected a number above 0, got 0");
  check_refused({"--ranks", "2", "--flops", "nan"}, "--flops: expected a number above 0, got nan");
  check_refused({"--ranks", "2", "--latency", "-1"}, "--latency: expected a number of 0 or above, got -1");
  check_refused({"--ranks", "2", "--staging", "0"}, "expected staging_limit >= 1, got 0");
  check_refused({"--ranks", "2", "--buckets", "0"}, "expected least_buckets >= 1, got 0");
  check_refused({"--ranks", "2", "--speed"}, "--speed");
  check_refused({"--ranks", "2", "/nowhere/list"}, "/nowhere/list: can't be opened");
  check_refused({"--ranks", "2", "/nowhere/m.safetensors"}, "/nowhere/m.safetensors: can't be opened");
}

TEST_CASE("mistaken lists and files of shapes are refused with one line") {
  const auto refused = [](const std::string& list, const std::string& why) {
    check_refused({"--ranks", "2"}, why, list);
  };
  refused("", "expected at least one matrix, got none");
  refused("# nothing\n\n", "expected at least one matrix, got none");
  refused("W 8 8\nV 8\n", "standard input: line 2: expected name, rows, columns and perhaps a batch, got 'V 8'");
  refused("W 8 8 2 2\n", "line 1: expected name, rows");
  refused("W 8 eight\n", "got 'W 8 eight'");
  refused("W 8 8x\n", "got 'W 8 8x'");
  refused("W 8 0\n", "got 'W 8 0'");
  refused("W -8 8\n", "got 'W -8 8'");
  refused("W 8 99999999999999999999\n", "line 1");
  refused("W\x1b[31m 8\n", "got 'W\\x1b[31m 8'");
  refused("W 8 8\nW 4 4\n", "matrix 'W' is there twice");
  refused("W 8 8 2000000\n", "expected at most 1000000 matrices, got more");
  refused("W 8 8 9223372036854775807\nV 8 8 9223372036854775807\n", "expected at most 1000000 matrices, got more");
  refused("W 4000000 4000000\n", "'W': expected a cost below 2^53, got 4000000 x 4000000");
  refused("W 9000000000 9000000000\n", "'W': expected sizes that fit 64 bits");
  const scratch_folder folder;
  const std::string path = folder / "m.safetensors";
  for (const std::string& bytes : {std::string("short"), std::string(8, '\xff'), std::string("\2\0\0\0\0\0\0\0[]", 10),
                                   std::string("\4\0\0\0\0\0\0\0{\"a\"", 12)}) {
    put(path, bytes);
    check_refused({"--ranks", "2", path}, "m.safetensors: ");
  }
  safetensors::file f;
  f.tensors["bias"] = tensor({16});
  safetensors::write(path, f);
  check_refused({"--ranks", "2", path}, "expected at least one matrix, got none");
}

TEST_CASE("a hostile header is refused before it is a tree in memory") {
  const scratch_folder folder;
  std::string header = "{\"a\":[0";
  while (header.size() < (16u << 20) - 8) header += ",0";
  header += "]}";
  const std::uint64_t length = header.size();
  header.insert(0, sizeof(length), '\0');
  std::memcpy(header.data(), &length, sizeof(length));
  put(folder / "m.safetensors", header);
  check_refused({"--ranks", "2", folder / "m.safetensors"}, "m.safetensors: tensor 'a': expected an object");
  rusage of_programs{};
  REQUIRE(::getrusage(RUSAGE_CHILDREN, &of_programs) == 0);
  CHECK(of_programs.ru_maxrss < 200'000);  // KB; a tree takes 280 MB
}
