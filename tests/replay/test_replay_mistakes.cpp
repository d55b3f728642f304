#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "replay/cases.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Checks that the program ends with status 2, one line on standard error that holds `why`, nothing on standard output,
// and no new file in the folder of its input and output.
void check_refused(const scratch_folder& folder, const std::vector<std::string>& flags, const std::string& why,
                   const std::string& program = NORMUON_REPLAY) {
  CAPTURE(why);
  const std::size_t files = folder.entries();
  const program_result result = run_program(flags, program);
  CHECK(result.status == 2);
  CHECK(result.out.empty());
  CHECK(result.err.starts_with("replay: "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.ends_with("\n"));
  CHECK(std::all_of(result.err.begin(), result.err.end() - 1, [](char c) { return c >= ' ' && c <= '~'; }));
  CHECK_MESSAGE(result.err.find(why) != result.err.npos, result.err);
  CHECK(folder.entries() == files);
}

// The same for a file of these tensors, with these flags besides --input and --output.
void check_refused(const safetensors::file& input, std::vector<std::string> flags, const std::string& why) {
  const scratch_folder folder;
  safetensors::write(folder / "in", input);
  flags.insert(flags.end(), {"--input", folder / "in", "--output", folder / "out"});
  check_refused(folder, flags, why);
}

void check_file_refused(const std::function<void(safetensors::file&)>& spoil, const std::string& why,
                        const std::vector<std::string>& flags = {}) {
  safetensors::file input = small_case<float>(3, 4, 3);
  spoil(input);
  check_refused(input, flags, why);
}

template <class T>
safetensors::tensor filled(std::vector<std::int64_t> shape, T value) {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) count *= length;
  return safetensors::make_tensor<T>(std::move(shape), std::vector<T>(static_cast<std::size_t>(count), value));
}

}  // namespace

TEST_CASE("mistaken flags are refused") {
  const auto input = small_case(3, 4, 1);
  check_refused(input, {"--rule", "shampoo"}, "--rule: expected normuon, muon or adamw, got 'shampoo'");
  check_refused(
      input, {"--preset", "papers"},
      "--preset: expected paper, reference, nanogpt, dion, jordan, moonlight, torch_muon or adamw, got 'papers'");
  check_refused(input, {"--rule", "muon", "--preset", "paper"},
                "--preset: expected jordan, moonlight or torch_muon for rule muon, got 'paper'");
  check_refused(input, {"--backend", "torch"}, "--backend: expected eigen or cublas, got 'torch'");
  check_refused(input, {"--speed"}, "--speed");
  check_refused(input, {"stray"}, "stray");
  check_refused(input, {"--rule", "muon", "--rule", "adamw"}, "--rule");
  check_refused(input, {"line\nbreak\x1b[31m"}, "\\x0a");
  check_refused(input, {"--preset", "line\nbreak\x1b[31m"}, "'line\\x0abreak\\x1b[31m'");
  const scratch_folder folder;
  safetensors::write(folder / "in", input);
  check_refused(folder, {}, "--input is required");
  check_refused(folder, {"--output", folder / "out"}, "--input is required");
  check_refused(folder, {"--input", folder / "in"}, "--output is required");
  check_refused(folder, {"--input", folder / "in", "--output", folder / "out", "--rule"}, "--rule");
}

TEST_CASE("without CUDA, or without a device, --backend cublas is refused and says which of them is missing") {
  const scratch_folder folder;
  safetensors::write(folder / "in", small_case(3, 4, 1));
  const std::vector<std::string> flags = {"--backend", "cublas", "--input", folder / "in", "--output", folder / "out"};
  const program_result result = run_program(flags, NORMUON_REPLAY_FOR_ALL);
  if (result.status == 0) return;  // there is a device
  const bool built_without = result.err.find("built without CUDA") != result.err.npos;
  check_refused(folder, flags, built_without ? "--backend: expected eigen, got 'cublas'" : "cudaGetDeviceCount: ",
                NORMUON_REPLAY_FOR_ALL);
}

TEST_CASE("mistaken keys and values of --set are refused") {
  const auto input = small_case(3, 4, 3);
  const std::pair<const char*, const char*> mistakes[] = {
      {"nesterov", "--set: expected key=value, got 'nesterov'"},
      {"=1", "got the key ''"},
      {"lr=1",
       "--set: expected learning_rate, momentum, weight_decay, beta2, epsilon, neuron_axis, nesterov, "
       "momentum_form, orthogonalizer, form, restart, norm_guard, compute, scale, decay or threads for rule "
       "normuon, got the key 'lr'"},
      {"nesterov=yes", "--set nesterov: expected true or false, got 'yes'"},
      {"momentum_form=EMA", "--set momentum_form: expected ema or heavy_ball, got 'EMA'"},
      {"neuron_axis=none", "--set neuron_axis: expected rows, columns or longer, got 'none'"},
      {"orthogonalizer=polar_express",
       "--set orthogonalizer: expected jordan, you, polar_express_1.01, polar_express_1.02"},
      {"form=", "--set form: expected auto, plain or gram, got ''"},
      {"norm_guard=none", "--set norm_guard: expected exact or as_published, got 'none'"},
      {"scale=0.2", "--set scale: expected rms_0.2, keep_norm, keep_norm*sqrt_max_1_ratio"},
      {"decay=none", "--set decay: expected decoupled or cautious, got 'none'"},
      {"compute=float8",
       "--set compute: expected auto, float64, float32, bfloat16, float16 or tensor_float32, got 'float8'"},
      {"compute=float16", "float16"},
      {"restart=-1", "--set restart: expected a step index from 1 to 15, a comma list of them, none or auto, got '-1'"},
      {"restart=2,", "--set restart: expected a step index from 1 to 15, a comma list of them, none or auto, got '2,'"},
      {"restart=5", "expected restarts before steps below 5, got 5"},
      {"threads=0", "--set threads: expected a number from 1 to 1024, got '0'"},
      {"threads=2147483648", "--set threads: expected a number from 1 to 1024"},
      {"learning_rate=", "--set learning_rate: expected a number, or a comma list with one per step, got ''"},
      {"learning_rate=fast", "got 'fast'"},
      {"learning_rate=0.1x", "got '0.1x'"},
      {"learning_rate=nan", "got 'nan'"},
      {"learning_rate=inf", "got 'inf'"},
      {"learning_rate=1e999", "got '1e999'"},
      {"learning_rate=0.1,nan,0.1", "got '0.1,nan,0.1'"},
      {"learning_rate=0.1,0.2,", "got '0.1,0.2,'"},
      {"learning_rate=0.1,0.2", "--set learning_rate: expected 1 number or 3, one per step, got 2"},
      {"momentum=0.1,0.2,0.3,0.4", "--set momentum: expected 1 number or 3, one per step, got 4"},
      {"weight_decay=0,0", "--set weight_decay: expected 1 number or 3, one per step, got 2"},
      {"beta2=0.9,0.9,0.9", "--set beta2: expected a number, got '0.9,0.9,0.9'"},
      {"epsilon=nan", "--set epsilon: expected a number, got 'nan'"},
      {"learning_rate=-1", "expected learning_rate >= 0 and finite, got -1"},
      {"weight_decay=0,0,-1", "expected weight_decay >= 0 and finite, got -1"},
      {"momentum=1", "expected momentum in [0, 1), got 1"},
      {"beta2=-0.1", "expected beta2 in [0, 1), got -0.1"},
      {"epsilon=-1", "expected epsilon >= 0 and finite, got -1"},
  };
  for (const auto& [assignment, why] : mistakes) check_refused(input, {"--set", assignment}, why);
  check_refused(input, {"--set", "beta2=0.9", "momentum=0.9", "--set", "beta2=0.9"},
                "--set beta2: expected one value, got two");
  check_refused(input, {"--rule", "muon", "--set", "beta2=0.9"}, "for rule muon, got the key 'beta2'");
  check_refused(input, {"--rule", "adamw", "--set", "scale=keep_norm"}, "for rule adamw, got the key 'scale'");
  check_refused(input, {"--rule", "adamw", "--set", "nesterov=true"}, "--set nesterov: expected false for rule adamw");
  check_refused(small_case<float>(3, 4, 2), {"--set", "learning_rate=0.1,1e39"},
                "a number that fits float32, got 1e+39");
  check_refused(small_case<float>(3, 4, 3), {"--set", "learning_rate=1e19", "weight_decay=1e19"},
                "step 1: W: expected finite numbers");
}

TEST_CASE("a coefficient table that is unsafe for the iteration's type is refused") {
  const auto input = small_case(3, 4, 1);
  check_refused(input, {"--set", "orthogonalizer=polar_express_1.01", "compute=bfloat16"},
                "table 'polar_express_1.01' is unsafe for bfloat16: expected a margin of at least 0.0195312");
  check_refused(input, {"--set", "orthogonalizer=polar_express_1.02", "form=gram", "compute=bfloat16"},
                "table 'polar_express_1.02' has no safe Gram form in bfloat16");
}

TEST_CASE("missing and misshapen tensors are refused") {
  using file = safetensors::file;
  check_file_refused([](file& f) { f.tensors.erase("W"); }, "expected a tensor 'W', found none");
  check_file_refused([](file& f) { f.tensors.clear(); }, "expected a tensor 'W', found none");
  check_file_refused([](file& f) { f.tensors["W"] = filled<float>({12}, 1); },
                     "tensor 'W': expected 2 dimensions, found 1");
  check_file_refused([](file& f) { f.tensors["W"] = filled<float>({}, 1); },
                     "tensor 'W': expected 2 dimensions, found 0");
  check_file_refused([](file& f) { f.tensors["W"] = filled<float>({3, 4, 1}, 1); }, "expected 2 dimensions, found 3");
  check_file_refused(
      [](file& f) {
        f.tensors = {{"W", f.tensors["W"]}};
      },
      "expected a tensor 'G.0', found none among 0 gradients");
  check_file_refused([](file& f) { f.tensors.erase("G.0"); }, "expected a tensor 'G.0', found none among 2 gradients");
  check_file_refused([](file& f) { f.tensors.erase("G.1"); }, "expected a tensor 'G.1', found none among 2 gradients");
  check_file_refused([](file& f) { f.tensors["G.03"] = f.tensors["G.0"]; },
                     "expected a tensor 'G.3', found none among 4 gradients");
  check_file_refused(
      [](file& f) {
        f.tensors["G.1"] = filled<float>({4, 3}, 1);
      },
      "tensor 'G.1': expected shape [3, 4], found [4, 3]");
  check_file_refused([](file& f) { f.tensors["G.2"] = filled<float>({12}, 1); },
                     "tensor 'G.2': expected shape [3, 4], found [12]");
  check_file_refused(
      [](file& f) {
        f.tensors["M"] = filled<float>({3, 1}, 1);
      },
      "tensor 'M': expected shape [3, 4], found [3, 1]");
  check_file_refused([](file& f) { f.tensors["v"] = filled<float>({4}, 1); },
                     "tensor 'v': expected shape [3], found [4]");
  check_file_refused([](file& f) { f.tensors["v"] = filled<float>({3}, 1); },
                     "tensor 'v': expected shape [4], found [3]", {"--set", "neuron_axis=longer"});
  check_file_refused([](file& f) { f.tensors["step"] = filled<std::int64_t>({2}, 1); }, "step");
}

TEST_CASE("numbers of a wrong type or value are refused") {
  using file = safetensors::file;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  check_file_refused(
      [](file& f) {
        f.tensors["W"] = filled<std::int32_t>({3, 4}, 1);
      },
      "tensor 'W': expected numbers that fit float32, the type of the run, found I32");
  check_file_refused(
      [](file& f) {
        f.tensors["G.0"] = filled<double>({3, 4}, 1);
      },
      "tensor 'G.0': expected numbers that fit float32, the type of the run, found F64");
  check_file_refused(
      [](file& f) {
        f.tensors["M"] = filled<double>({3, 4}, 1);
      },
      "tensor 'M': expected numbers that fit float32, the type of the run, found F64");
  check_file_refused(
      [&](file& f) {
        f.tensors["W"] = filled<float>({3, 4}, nan);
      },
      "tensor 'W': expected finite numbers");
  check_file_refused(
      [&](file& f) {
        f.tensors["G.2"] = filled<float>({3, 4}, infinity);
      },
      "tensor 'G.2': expected finite numbers, found inf");
  check_file_refused(
      [&](file& f) {
        f.tensors["M"] = filled<float>({3, 4}, nan);
      },
      "tensor 'M': expected finite numbers");
  check_file_refused([&](file& f) { f.tensors["v"] = filled<float>({3}, nan); }, "tensor 'v': expected finite numbers");
  check_file_refused([](file& f) { f.tensors["v"] = filled<float>({3}, -1); }, "expected values >= 0, got -1");
  check_file_refused([](file& f) { f.tensors["step"] = filled<float>({1}, 1.5f); },
                     "expected a whole number up to 2^53, got 1.5");
  check_file_refused([](file& f) { f.tensors["step"] = filled<std::int64_t>({1}, -1); },
                     "expected values >= 0, got -1");
  check_file_refused([&](file& f) { f.tensors["step"] = filled<float>({1}, nan); }, "expected finite values");
  check_file_refused([](file& f) { f.tensors["v"] = filled<float>({3}, 1); },
                     "expected no tensor 'v' for rule muon, found one", {"--rule", "muon"});
  check_file_refused(
      [](file& f) {
        f.tensors["M"] = filled<float>({3, 4}, 1);
      },
      "expected a tensor 'step' beside 'M' and 'v' for rule adamw", {"--rule", "adamw"});
  constexpr float large = std::numeric_limits<float>::max();  // two of them overflow in a heavy ball
  check_file_refused(
      [](file& f) {
        for (const char* name : {"G.0", "G.1"}) f.tensors[name] = filled<float>({3, 4}, large);
      },
      "step 1: expected the weight to move, got a non-finite update", {"--preset", "dion"});
}

TEST_CASE("files that can't be read or written are refused") {
  const scratch_folder folder;
  safetensors::write(folder / "in", small_case(3, 4, 1));
  const std::string bytes = get(folder / "in");
  put(folder / "empty", "");
  put(folder / "garbage", std::string(100, 'x'));
  put(folder / "cut", bytes.substr(0, bytes.size() - 1));
  put(folder / "long", bytes + "x");
  std::filesystem::create_directory(folder / "directory");
  const auto refused = [&](const char* in, const char* out, const char* why) {
    check_refused(folder, {"--input", folder / in, "--output", folder / out}, why);
  };
  refused("absent", "out", "absent: can't be opened");
  refused("directory", "out", "directory: expected a regular file");
  refused("empty", "out", "empty: expected at least 8 bytes, found 0");
  refused("garbage", "out", "garbage: expected a header of at most");
  refused("cut", "out", "cut: tensor ");
  refused("long", "out", "long: expected the file to end");
  refused("in", "absent/out", "out: can't be created");
  refused("in", "directory", "directory: expected a regular file or none to replace");
  check_refused(folder, {"--input", folder / "in", "--output", ""}, "--output: expected a path");
  check_refused(folder, {"--input", folder / "in", "--output", "/dev/full"}, "/dev/full: expected a regular file");

  put(folder / "out", "an earlier output");
  refused("cut", "out", "cut: tensor ");
  CHECK(get(folder / "out") == "an earlier output");
}
