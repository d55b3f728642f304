#include <doctest/doctest.h>

#include <cstring>

#include "normuon/io/safetensors.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/safetensors_files.hpp"

using namespace normuon;
using namespace normuon::test;
namespace fs = std::filesystem;

namespace {

std::string file_bytes(const std::string& header, const std::string& data = {}) {
  const std::uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

}  // namespace

TEST_CASE_TEMPLATE("numbers of every type come back with their bits", T, double, float, bfloat16, float16, std::int64_t,
                   std::int32_t) {
  const scratch_folder folder;
  std::vector<T> odd;
  for (int i = 0; i < 30; ++i) {
    // Bit patterns of all kinds: infinities and NaNs with payloads among them.
    const std::uint64_t not_finite = i % 3 == 0 ? 0x7ff07f807f807c00u : 0;
    const std::uint64_t bits = 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(i) | not_finite;
    T x;
    std::memcpy(static_cast<void*>(&x), &bits, sizeof(x));
    odd.push_back(x);
  }
  safetensors::file f;
  f.tensors["cube"] = make<T>({3, 5, 2}, odd);
  f.tensors["row"] = make<T>({1, 30}, odd);
  f.tensors["one"] = make<T>({}, {odd[7]});
  f.tensors["none"] = make<T>({0, 5}, {});
  f.tensors["\xc3\xa9 \xc2\xb5 \" \\ /"] = make<T>({1, 1, 1, 1, 1, 1, 1, 1}, {odd[3]});
  f.metadata["text"] = "line\nline \x01 \xe2\x82\xac";
  safetensors::write(folder / "f", f);
  const safetensors::file back = safetensors::read(folder / "f");
  CHECK(back == f);
  const auto values = safetensors::values<T>(back.tensors.at("cube"));
  REQUIRE(values.size() == odd.size());
  CHECK(std::memcmp(values.data(), odd.data(), odd.size() * sizeof(T)) == 0);
}

TEST_CASE("values are rounded to the nearest of the type asked for, and integers come from integers only") {
  // 1 + 2^-8 is a tie between bfloat16's 1 and 1 + 2^-7, which the smallest excess decides. 70000 is beyond float16.
  const auto doubles = make<double>({4}, {1 + 0x1p-8, 1 + 0x1p-8 + 0x1p-50, 0.1, -70000});
  CHECK(safetensors::values<double>(doubles) == std::vector<double>{1 + 0x1p-8, 1 + 0x1p-8 + 0x1p-50, 0.1, -70000});
  CHECK(safetensors::values<float>(doubles) == std::vector<float>{1 + 0x1p-8f, 1 + 0x1p-8f, 0.1f, -70000});
  const auto brief = safetensors::values<bfloat16>(doubles);
  CHECK(static_cast<float>(brief[0]) == 1);
  CHECK(static_cast<float>(brief[1]) == 1 + 0x1p-7f);
  CHECK(safetensors::values<float16>(doubles)[3].bits() == 0xfc00);  // minus infinity
  const auto halves = make<float16>({2}, {float16(0.1f), float16(-3.0f)});
  CHECK(safetensors::values<double>(halves) == std::vector<double>{0x1.998p-4, -3});

  const auto wide = make<std::int64_t>({2}, {-(std::int64_t{1} << 53) - 1, 5});
  CHECK(safetensors::values<std::int64_t>(wide)[0] == -(std::int64_t{1} << 53) - 1);
  CHECK(safetensors::values<double>(wide) == std::vector<double>{-0x1p53, 5});
  const auto narrow = make<std::int32_t>({2}, {-9, 5});
  CHECK(safetensors::values<std::int64_t>(narrow) == std::vector<std::int64_t>{-9, 5});
  CHECK(contains(file_refusal([&] { safetensors::values<std::int32_t>(wide); }),
                 "expected integers of 32 bits, found -9007199254740993"));
  CHECK(contains(file_refusal([&] { safetensors::values<std::int64_t>(halves); }),
                 "expected a tensor of integers, found F16"));
}

TEST_CASE("the bytes of a file depend on its content alone and hold every tensor at a multiple of its element's size") {
  const scratch_folder folder;
  safetensors::write(folder / "f", small_file());
  const std::string header = R"({"__metadata__":{"k":"v"},)"
                             R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]},)"
                             R"("b":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},)"
                             R"("step":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  const std::string data(
      "\x07\0\0\0\0\0\0\0"
      "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40"
      "\x80\x3f\0\xc0\0\x3f",
      30);
  CHECK(get(folder / "f") == file_bytes(header + padding, data));

  safetensors::write(folder / "empty", {});
  CHECK(get(folder / "empty") == file_bytes("{}      "));
  CHECK(safetensors::read(folder / "empty") == safetensors::file{});
}

TEST_CASE("tensors in any order, spaces in the header and metadata anywhere are read") {
  const scratch_folder folder;
  const std::string header = R"({ "a" : {"shape":[2], "data_offsets":[4,8], "dtype":"F16"}, "__metadata__": {},)"
                             R"("e":{"dtype":"F64","shape":[0,3],"data_offsets":[4,4]},)"
                             "\n\t"
                             R"("z":{"dtype":"I32","shape":[1],"data_offsets":[0,4]} })"
                             "  \n";
  put(folder / "f", file_bytes(header, std::string("\x02\0\0\0\0\x3c\0\xbc", 8)));
  const safetensors::file f = safetensors::read(folder / "f");
  CHECK(safetensors::values<std::int64_t>(f.tensors.at("z")) == std::vector<std::int64_t>{2});
  CHECK(safetensors::values<double>(f.tensors.at("a")) == std::vector<double>{1, -1});
  CHECK(f.tensors.at("e").bytes.empty());
}

TEST_CASE("golden files are read, and what is written back is the same file") {
  const scratch_folder folder;
  std::size_t count = 0;
  for (const auto& at : fs::directory_iterator(NORMUON_GOLDEN_DIR)) {
    if (at.path().extension() != ".safetensors") continue;
    CAPTURE(at.path().filename());
    ++count;
    const safetensors::file f = safetensors::read(at.path());
    safetensors::write(folder / "f", f);
    CHECK(safetensors::read(folder / "f") == f);
    // The generator sorts data by name alone, so only files of one type have the same order of bytes.
    bool one_type = true;
    for (const auto& [name, t] : f.tensors) one_type = one_type && t.type == f.tensors.begin()->second.type;
    if (one_type) CHECK(get(folder / "f") == get(at.path()));
  }
  CHECK(count == 95);
}

TEST_CASE("a golden case gives its tensors and its numbers by name") {
  const golden_case g = load_golden("nanogpt.20x12_schedule.safetensors");
  CHECK(g.text("preset") == "nanogpt");
  CHECK(g.step_count() == 5);
  CHECK((g.tensor("W").rows() == 20 && g.tensor("W").cols() == 12 && g.tensor("W").values.size() == 240));
  CHECK(g.numbers("learning_rates") == std::vector<double>{0.005, 0.01, 0.02, 0.015, 0.0025});
  CHECK(g.per_step("learning_rate", "learning_rates") == g.numbers("learning_rates"));
  CHECK(g.per_step("momentum", "momenta") == std::vector<double>(5, 0.95));
  CHECK(g.per_step("weight_decay_equivalent").size() == 5);
  CHECK(g.flag("nesterov"));
  CHECK(g.number("epsilon") == 1e-10);
  CHECK_THROWS_WITH(g.tensor("Q"), "nanogpt.20x12_schedule.safetensors has no 'Q'");
  CHECK(golden_files("nanogpt").size() == 14);
  CHECK_THROWS(golden_files("nanogp"));
}

TEST_CASE("a file cut at any byte, or with a byte more, is refused") {
  const scratch_folder folder;
  safetensors::write(folder / "f", small_file());
  const std::string whole = get(folder / "f");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    put(folder / "f", whole.substr(0, size));
    CHECK(read_refusal(folder / "f") != "");
  }
  put(folder / "f", whole.substr(0, 7));
  CHECK(contains(read_refusal(folder / "f"), "/f: expected at least 8 bytes, found 7"));
  put(folder / "f", whole + '\0');
  CHECK(contains(read_refusal(folder / "f"), "expected the file to end at byte 30 of its data, found 31"));
}

TEST_CASE("whatever byte of a header is changed, the file is refused or covered by its tensors and written back") {
  const scratch_folder folder;
  safetensors::write(folder / "f", small_file());
  const std::string whole = get(folder / "f");
  for (std::size_t at = 0; at < whole.size() - 30; ++at) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      CAPTURE(at);
      CAPTURE(flip);
      std::string changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ flip);
      put(folder / "f", changed);
      safetensors::file f;
      if (file_refusal([&] { f = safetensors::read(folder / "f"); }) != "") continue;
      std::size_t bytes = 0;
      for (const auto& [name, t] : f.tensors) bytes += t.bytes.size();
      CHECK(bytes == 30);
      safetensors::write(folder / "again", f);
      CHECK(safetensors::read(folder / "again") == f);
    }
  }
}

TEST_CASE("a header that claims more than the file or the limit is refused before it is read") {
  const scratch_folder folder;
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    std::string bytes = file_bytes("{}");
    std::memcpy(bytes.data(), &length, 8);
    put(folder / "f", bytes);
    CHECK(contains(read_refusal(folder / "f"),
                   "a header of at most 2 bytes, found a length of " + std::to_string(length)));
  }
  // A sparse file makes the claim true without taking space.
  const std::uint64_t length = (16u << 20) + 1;
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  put(folder / "f", bytes);
  fs::resize_file(folder / "f", std::uintmax_t{1} << 33);
  CHECK(contains(read_refusal(folder / "f"), "a header of at most 16777216 bytes, found a length of 16777217"));
}

TEST_CASE("more tensors or metadata than the limits allow are neither read nor written") {
  const scratch_folder folder;
  safetensors::file f;
  for (int i = 0; i < 100000; ++i) f.tensors.emplace("t" + std::to_string(i), make<float>({0}, {}));
  safetensors::write(folder / "f", f);
  CHECK(safetensors::read(folder / "f").tensors.size() == 100000);
  f.tensors["u"] = make<float>({0}, {});
  CHECK(contains(file_refusal([&] { safetensors::write(folder / "f", f); }),
                 "tensor 'u': expected at most 100000 tensors"));

  std::string header = R"({"__metadata__":{"x":"")";
  for (int i = 0; i < 100000; ++i) header += ",\"" + std::to_string(i) + "\":\"\"";
  put(folder / "f", file_bytes(header + "}}"));
  CHECK(contains(read_refusal(folder / "f"), "__metadata__: expected at most 100000 keys"));
}

TEST_CASE("what a reader would refuse is not written, and nothing is left behind") {
  const scratch_folder folder;
  const auto refused = [&](const std::string& name, const safetensors::tensor& t) {
    safetensors::file f;
    f.tensors[name] = t;
    const std::string message = file_refusal([&] { safetensors::write(folder / "f", f); });
    CHECK(folder.entries() == 0);
    return message;
  };
  const auto one = make<float>({1}, {1});
  CHECK(contains(refused("\x1b", one), "without control characters, found '\\x1b'"));
  CHECK(contains(refused("\xff", one), "expected UTF-8 in '\\xff'"));
  CHECK(contains(refused(std::string(513, 'n'), one), "a name of at most 512 bytes, found 513"));
  CHECK(contains(refused("__metadata__", one), "__metadata__: expected a string for 'shape', found a list"));
  CHECK(contains(refused("a", make<float>({2}, {1})), "tensor 'a': expected 8 bytes for its shape, found 4"));
  CHECK(contains(refused("a", make<float>({-1}, {})), "expected lengths of 0 and above in its shape, found -1"));
  CHECK(contains(refused("a", make<float>(std::vector<std::int64_t>(9, 1), {1})), "at most 8 dimensions, found 9"));
  CHECK(contains(refused("a", make<float>({1 << 30, 1 << 30, 1 << 30}, {})), "a shape of less than 2^63 bytes"));

  safetensors::file f;
  f.metadata["k"] = "\xe2\x82";
  CHECK(contains(file_refusal([&] { safetensors::write(folder / "f", f); }), "expected UTF-8 in '__metadata__'"));
  f.metadata["k"] = std::string(16u << 20, 'x');
  CHECK(contains(file_refusal([&] { safetensors::write(folder / "f", f); }), "fit a header of 16777216 bytes"));
  CHECK(folder.entries() == 0);
}
