// A libFuzzer target: every file, however malformed, is read or refused by a normuon::error, and nothing else happens.
// It mutates valid safetensors files and checkpoints. Of half of the results the digests are made right again, as what
// lies behind them would never be reached otherwise. tests/fuzz/run builds and runs it.
#include <cstdio>
#include <cstdlib>

#include "normuon/backends/eigen.hpp"
#include "normuon/io/checkpoint.hpp"
#include "normuon/optimizer.hpp"
#include "support/lossy_files.hpp"
#include "support/safetensors_files.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

using namespace normuon;
using namespace normuon::test;

namespace {

struct tally {
  long refused = 0, safetensors_read = 0, checkpoints_read = 0, loaded = 0;
  ~tally() {
    std::fprintf(stderr, "refused %ld, read %ld safetensors files and %ld checkpoints, loaded %ld\n", refused,
                 safetensors_read, checkpoints_read, loaded);
  }
};

// Not destroyed before main ends; libFuzzer ends by exit().
tally& counted() {
  static tally t;
  return t;
}

// AdamW, whose options are the fewest: short headers are read fast.
struct small_training {
  std::vector<float> w = {1, 2, 3}, g = {1, 0, -1};
  optimizer<eigen_backend> opt{eigen_backend({.threads = 1, .path = cpu_path::portable})};

  small_training() {
    const float* const gradient = g.data();
    opt.add_parameter(opt.add_group(adamw_options{}), "w", normuon::vector(w.data(), 3), normuon::vector(gradient, 3));
    opt.step();
  }
};

small_training& trained() {
  static small_training t;
  return t;
}

std::string bytes_in(const lossy_disk& disk) { return disk.files.at(disk.names.at("f")); }

// Valid files: small ones, since a mutation of a short header more often means something.
std::vector<std::string> make_seeds() {
  std::vector<std::string> seeds;
  const scratch_folder folder;
  safetensors::write(folder / "f", small_file());
  seeds.push_back(get(folder / "f"));
  safetensors::write(folder / "f", {});
  seeds.push_back(get(folder / "f"));
  lossy_disk disk;
  const lossy_file_system system{&disk};
  checkpoint_writer<lossy_file_system> writer(
      "f", checkpoint_plan({{"a", safetensors::dtype::f32, {2, 3}}, {"b", safetensors::dtype::i64, {}}}, {}, "f"),
      system);
  const std::vector<float> numbers(8, 1.0f);
  writer.create();
  writer.write(0, numbers.data());
  writer.write(1, numbers.data());
  writer.commit({writer.digest(0), writer.digest(1)}, false);
  seeds.push_back(bytes_in(disk));
  checkpoint_extras extras;
  extras.tensors["x"] = make<bfloat16>({2}, {bfloat16(1.0f), bfloat16(2.0f)});
  extras.text["place"] = "12";
  save_checkpoint("f", trained().opt, extras, {}, system);
  seeds.push_back(bytes_in(disk));
  return seeds;
}

const std::vector<std::string>& seeds() {
  static const std::vector<std::string> all = make_seeds();
  return all;
}

void set_digest(std::string& bytes, std::size_t header_end, const std::string& key, std::uint64_t digest) {
  const std::string quoted = "\"" + key + "\":\"";
  const std::size_t at = bytes.find(quoted);
  if (at < header_end && at + quoted.size() + 16 <= header_end)
    bytes.replace(at + quoted.size(), 16, digest_text(digest));
}

// Makes digests right where the file still has a header.
void repair(std::string& bytes) {
  std::uint64_t length = 0;
  if (bytes.size() < 8) return;
  std::memcpy(&length, bytes.data(), 8);
  if (length > bytes.size() - 8) return;
  const std::size_t end = 8 + length;
  try {
    const auto header = safetensors::parse_header(std::string_view(bytes).substr(8, length), bytes.size() - end, "");
    for (const auto& [name, e] : header.tensors)
      set_digest(bytes, end, "xxh3:" + name,
                 xxh3_of(bytes_of(std::string_view(bytes).substr(end + e.begin, e.end - e.begin))));
  } catch (const error&) {
    return;
  }
  set_digest(bytes, end, "xxh3", 0);
  set_digest(bytes, end, "xxh3", xxh3_of(bytes_of(std::string_view(bytes).substr(8, length))));
}

void require(bool holds) {
  if (!holds) std::abort();
}

// What was read is within the file.
void read_safetensors(const lossy_file_system& system, std::size_t size) {
  const safetensors::file f = safetensors::read_from(system.open("f"));
  std::size_t bytes = 0;
  for (const auto& [name, t] : f.tensors) bytes += t.bytes.size();
  require(bytes < size);
  counted().safetensors_read += 1;
}

void read_checkpoint(const lossy_file_system& system) {
  checkpoint_reader<lossy_file_system> reader("f", system);
  for (std::size_t i = 0; i < reader.plan().tensors().size(); ++i) {
    const placed_tensor& t = reader.plan().tensors()[i];
    std::vector<std::byte> by_columns(t.end - t.begin);
    reader.read(i, t.whole(), by_columns.data(), 1, t.rows);
    require(reader.read(i).size() == by_columns.size());
  }
  counted().checkpoints_read += 1;
  load_checkpoint("f", trained().opt, {}, system);
  counted().loaded += 1;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size < 8 || seed % 64 == 0) bytes = seeds()[seed / 64 % seeds().size()];
  const std::size_t before = std::min(bytes.size(), most);
  bytes.resize(most);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), before, most));
  if (seed % 2 == 0) repair(bytes);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lossy_disk disk;
  disk.files.emplace_back(reinterpret_cast<const char*>(data), size);
  disk.names["f"] = 0;
  const lossy_file_system system{&disk};
  try {
    read_safetensors(system, size);  // what is refused here is no checkpoint either: the same function reads the header
    read_checkpoint(system);
  } catch (const error&) {
    counted().refused += 1;
  }
  return 0;
}
