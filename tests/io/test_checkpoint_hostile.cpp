#include <doctest/doctest.h>

#include "normuon/io/checkpoint.hpp"
#include "support/files.hpp"
#include "support/safetensors_files.hpp"
#include "support/trained_model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

std::string refusal_of_file(const file_path& path) {
  return file_refusal([&] { checkpoint_reader<>(path).verify_all(); });
}

// A checkpoint of two tensors.
std::string small_checkpoint(const scratch_folder& folder) {
  checkpoint_writer<> writer(
      folder / "f", checkpoint_plan({{"a", safetensors::dtype::f32, {2, 3}}, {"b", safetensors::dtype::i64, {1}}},
                                    {{"key", "text"}}, "a plan"));
  writer.create();
  const float a[] = {1, 2, 3, 4, 5, 6};
  const std::int64_t b = 7;
  writer.write(0, a);
  writer.write(1, &b);
  writer.commit({writer.digest(0), writer.digest(1)}, false);
  return get(folder / "f");
}

// The same file with a piece of its header replaced, and padding and the header's digest made right again where
// `repair` says so.
std::string edited(const std::string& bytes, const std::string& from, const std::string& to, bool repair) {
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  std::string header = bytes.substr(8, length);
  const std::size_t at = header.find(from);
  REQUIRE(at != header.npos);
  header.replace(at, from.size(), to);
  const std::string key = "\"xxh3\":\"";
  if (const std::size_t digest = header.find(key); repair && digest != header.npos) {
    header.resize(header.find_last_of('}') + 1);
    header.append((8 - header.size() % 8) % 8, ' ');
    header.replace(digest + key.size(), 16, 16, '0');
    header.replace(digest + key.size(), 16, digest_text(xxh3_of(bytes_of(header))));
  }
  std::string out(8, '\0');
  const std::uint64_t now = header.size();
  std::memcpy(out.data(), &now, 8);
  return out + header + bytes.substr(8 + length);
}

}  // namespace

TEST_CASE("whatever bit of a checkpoint is flipped, it is refused") {
  const scratch_folder folder;
  const std::string whole = small_checkpoint(folder);
  CHECK(refusal_of_file(folder / "f").empty());
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ (1 << bit));
      put(folder / "f", changed);
      CAPTURE(at);
      CHECK(!refusal_of_file(folder / "f").empty());
    }
  }
}

TEST_CASE("a checkpoint cut at any byte, or with bytes more, is refused") {
  const scratch_folder folder;
  const std::string whole = small_checkpoint(folder);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(folder / "f", whole.substr(0, size));
    CHECK(!refusal_of_file(folder / "f").empty());
  }
  put(folder / "f", whole + std::string(8, '\0'));
  CHECK(contains(refusal_of_file(folder / "f"), "expected the file to end at byte 32 of its data, found 40"));
}

TEST_CASE("each kind of damage is named") {
  const scratch_folder folder;
  const std::string whole = small_checkpoint(folder);
  const auto refused = [&](const std::string& bytes) {
    put(folder / "f", bytes);
    return refusal_of_file(folder / "f");
  };
  std::string data = whole;
  data.back() = '\x01';
  CHECK(contains(refused(data), "/f: tensor 'a': expected bytes with the digest "));
  CHECK(contains(refused(edited(whole, "\"key\":\"text\"", "\"key\":\"test\"", false)),
                 "/f: header: expected the digest "));
  CHECK(refused(edited(whole, "\"key\":\"text\"", "\"key\":\"test\"", true)).empty());  // digests are no signatures
  CHECK(contains(refused(edited(whole, "normuon-checkpoint", "normuon-checkpoinT", true)),
                 "format: expected 'normuon-checkpoint', found 'normuon-checkpoinT'"));
  CHECK(contains(refused(edited(whole, "\"format_version\":\"1\"", "\"format_version\":\"2\"", true)),
                 "format_version: expected '1', found '2'"));
  CHECK(contains(refused(edited(whole, "\"xxh3:b\":", "\"xxh3:c\":", true)),
                 "expected 'xxh3:b' in its metadata, found none"));
  CHECK(contains(refused(edited(whole, "\"xxh3:b\":\"", "\"xxh3:b\":\"0", true)),
                 "xxh3:b: expected 16 digits, found '0"));
  CHECK(
      contains(refused(edited(whole, "\"xxh3\":", "\"xxhn\":", false)), "expected 'xxh3' in its metadata, found none"));
  CHECK(contains(refused(edited(whole, "{\"__metadata__\"", "{ \"__metadata__\"", true)),
                 "expected a header as this library writes it"));
  CHECK(contains(refused(edited(whole, "\"key\":\"text\"", "\"key\":\"tex\\u0074\"", true)),
                 "expected a header as this library writes it"));
  CHECK(contains(refused(edited(whole, "\"key\":\"text\"", "\"key\":\"text\",\"key\":\"text\"", true)),
                 "key 'key' appears twice"));
  CHECK(contains(refused(edited(whole, "[8,32]", "[0,24]", true)), "no overlap with the tensor before"));
  // The two tensors in the other order: a valid safetensors file, but not this one.
  const std::string swapped = edited(edited(whole, "[8,32]", "[0,24]", true), "[0,8]", "[24,32]", true);
  CHECK(contains(refused(swapped), "expected a header as this library writes it"));

  safetensors::write(folder / "plain", small_file());
  CHECK(contains(refusal_of_file(folder / "plain"), "/plain: expected 'format' in its metadata, found none"));
  CHECK(contains(refusal_of_file(folder / "none"), "/none: can't be opened"));
}

TEST_CASE("a checkpoint with right digests and wrong content changes nothing of the optimizer that refuses it") {
  const scratch_folder folder;
  trained_model t;
  save_checkpoint(folder / "f", t.opt);
  const std::string whole = get(folder / "f");
  struct {
    const char *from, *to;
    error_code code;
    const char* message;
  } const cases[] = {
      {"\"step\":\"2\"", "\"step\":\"two\"", error_code::file, "step: expected a number in its metadata, found 'two'"},
      {"\"step\":\"2\"", "\"step\":\"+2\"", error_code::file, "step: expected a number"},
      {"\"step\":\"2\"", "\"sten\":\"2\"", error_code::file, "step: expected a number in its metadata, found ''"},
      {"\"gradient_scale\":\"1\"", "\"gradient_scale\":\"1.0\"", error_code::file, "gradient_scale: expected a number"},
      {"\"gradient_scale\":\"1\"", "\"gradient_scale\":\"-1\"", error_code::option, "gradient_scale >= 0"},
      {"\"gradient_scale\":\"1\"", "\"gradient_scale\":\"inf\"", error_code::option, "gradient_scale >= 0 and finite"},
      {"\"group.3.now.momentum\":\"0.95\"", "\"group.3.now.momentum\":\"1\"", error_code::option, "momentum in [0, 1)"},
      {"\"group.3.now.momentum\":\"0.95\"", "\"group.3.now.momentum\":\"nan\"", error_code::option,
       "momentum in [0, 1)"},
      {"\"group.0.rule\":\"normuon\"", "\"group.0.rule\":\"\\u001b[31m\"", error_code::state,
       "group.0.rule: expected 'normuon', found '\\x1b[31m'"},
      {"\"gradient_scale\"", "\"frozen.wide\":\"yes\",\"gradient_scale\"", error_code::file,
       "expected 'true', found 'yes'"},
      {"\"gradient_scale\"", "\"frozen.side\":\"true\",\"gradient_scale\"", error_code::state,
       "frozen.side: expected none"},
      {"\"groups\":\"7\"", "\"groups\":\"8\"", error_code::state, "groups: expected '7', found '8'"},
  };
  for (const auto& c : cases) {
    put(folder / "f", edited(whole, c.from, c.to, true));
    const refusal r = t.refused([&] { load_checkpoint(folder / "f", t.opt); });
    CAPTURE(r.message);
    CHECK(r.is(c.code, c.message));
  }
}

TEST_CASE("state that no optimizer has, or that is missing, is refused though its digests are right") {
  const scratch_folder folder;
  trained_model t;
  const auto saved_with = [&](auto&& change) {
    const checkpoint_plan plan = plan_checkpoint(t.opt, 2, {}, true, "a plan");
    std::vector<logical_tensor> tensors(plan.tensors().begin(), plan.tensors().end());
    save_checkpoint(folder / "f", t.opt);
    std::map<std::string, std::vector<std::byte>> bytes;
    for (const auto& [name, tensor] : safetensors::read(folder / "f").tensors) bytes[name] = tensor.bytes;
    change(tensors, bytes);
    checkpoint_writer<> writer(folder / "f", checkpoint_plan(tensors, plan.metadata(), "a plan"));
    writer.create();
    std::vector<std::uint64_t> digests;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      bytes[writer.plan().tensors()[i].name].resize(writer.plan().tensors()[i].end - writer.plan().tensors()[i].begin);
      writer.write(i, bytes[writer.plan().tensors()[i].name].data());
      digests.push_back(writer.digest(i));
    }
    writer.commit(digests);
    return t.refused([&] { load_checkpoint(folder / "f", t.opt); });
  };
  const auto named = [](auto& tensors, const char* name) -> logical_tensor& {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const auto& x) { return x.name == name; });
  };
  CHECK(!saved_with([](auto&, auto&) {}).code);
  CHECK(saved_with([&](auto& all, auto&) {
          named(all, "tall.momentum").name = "extra.gone";
        }).is(error_code::state, "tensor 'tall.momentum': expected F32 [12, 5], found none"));
  CHECK(saved_with([&](auto& all, auto&) {
          named(all, "tall.momentum").shape = {5, 12};
        }).is(error_code::state, "tensor 'tall.momentum': expected F32 [12, 5], found F32 [5, 12]"));
  CHECK(saved_with([&](auto& all, auto&) {
          named(all, "tall.momentum").type = safetensors::dtype::f64;
        }).is(error_code::state, "tensor 'tall.momentum': expected F32 [12, 5], found F64 [12, 5]"));
  CHECK(saved_with([&](auto& all, auto&) {
          all.push_back({"stray", safetensors::dtype::f32, {1}});
        }).is(error_code::state, "tensor 'stray': expected none, found F32 [1]"));
  const double half = 0.5;
  const float negative = -1;
  CHECK(saved_with([&](auto&, auto& bytes) {
          std::memcpy(bytes["vector.step"].data(), &half, 8);
        }).is(error_code::state, "state 'vector.step': expected a whole number up to 2^53, got 0.5"));
  CHECK(saved_with([&](auto&, auto& bytes) {
          std::memcpy(bytes["vector.second_moment"].data(), &negative, 4);
        }).is(error_code::state, "state 'vector.second_moment': expected values >= 0, got -1"));
}

TEST_CASE("no part of a damaged tensor is given out, and what is whole still is") {
  const scratch_folder folder;
  std::string bytes = small_checkpoint(folder);
  bytes.back() ^= 1;  // the last element of a
  put(folder / "f", bytes);
  checkpoint_reader<> reader(folder / "f");
  float element = -5;
  std::int64_t b = 0;
  CHECK(contains(file_refusal([&] {
                   reader.read(0, {0, 0, 1, 1}, &element, 1, 1);
                 }),
                 "tensor 'a': expected bytes with"));
  CHECK(contains(file_refusal([&] { reader.read(0); }), "tensor 'a': expected bytes with"));
  CHECK(element == -5);
  reader.read(1, {0, 0, 1, 1}, &b, 1, 1);
  CHECK(b == 7);
  reader.trust(0);  // as a rank does whose peer has verified it
  reader.read(0, {0, 0, 1, 1}, &element, 1, 1);
  CHECK(element == 1);
}

TEST_CASE("rates that come with state that is refused are not taken") {
  const scratch_folder folder;
  trained_model saved, loading;
  saved.opt.set_learning_rate(0.25);
  save_checkpoint(folder / "f", saved.opt);
  // A step of 0.5, under the right digests.
  checkpoint_reader<> reader(folder / "f");
  checkpoint_writer<> writer(folder / "f", reader.plan());
  writer.create();
  std::vector<std::uint64_t> digests;
  for (std::size_t i = 0; i < reader.plan().tensors().size(); ++i) {
    std::vector<std::byte> bytes = reader.read(i);
    const double half = 0.5;
    if (reader.plan().tensors()[i].name == "wide.step") std::memcpy(bytes.data(), &half, 8);
    writer.write(i, bytes.data());
    digests.push_back(writer.digest(i));
  }
  writer.commit(digests);
  CHECK(refusal_of([&] { load_checkpoint(folder / "f", loading.opt); }).is(error_code::state, "a whole number"));
  CHECK(loading.opt.groups()[0].numbers().learning_rate == 0.001);
}

TEST_CASE("a header that claims terabytes is refused before memory is asked for") {
  const scratch_folder folder;
  const std::string whole = small_checkpoint(folder);
  put(folder / "f",
      edited(edited(whole, "[2,3]", "[2000000000,300000]", true), "[8,32]", "[8,2400000000000008]", true));
  CHECK(contains(refusal_of_file(folder / "f"), "an end after its begin and within the 32 bytes of data"));
}
