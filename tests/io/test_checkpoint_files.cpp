#include <doctest/doctest.h>

#include <numeric>

#include "normuon/io/checkpoint/parts.hpp"
#include "normuon/io/checkpoint/reader.hpp"
#include "support/files.hpp"
#include "support/matrix.hpp"
#include "support/safetensors_files.hpp"

using namespace normuon;
using namespace normuon::test;
using safetensors::dtype;

namespace {

// Tensors of all ranks and widths.
const std::vector<logical_tensor> tensors = {{"b", dtype::f32, {7, 11}},   {"a", dtype::bf16, {3, 4, 5}},
                                             {"v", dtype::f64, {9}},       {"one", dtype::i64, {}},
                                             {"none", dtype::f32, {0, 4}}, {"z.long", dtype::f16, {1, 600}}};

checkpoint_plan small_plan() { return checkpoint_plan(tensors, {{"k", "v \" \xc3\xa9"}}, "a plan"); }

// Bytes that differ from tensor to tensor and place to place.
std::vector<std::byte> content_of(const placed_tensor& t) {
  std::vector<std::byte> bytes(t.end - t.begin);
  for (std::size_t k = 0; k < bytes.size(); ++k)
    bytes[k] = static_cast<std::byte>(k * 37 + t.name.size() * 11 + k / 251);
  return bytes;
}

using rectangles = std::vector<tensor_rectangle>;

// Cuts a rectangle at random, into at most 2^depth parts, some of them empty.
void cut(rectangles& out, const tensor_rectangle& r, int depth, random_source& random) {
  if (depth == 0) return out.push_back(r);
  tensor_rectangle first = r, second = r;
  if (random.bits() % 2 == 0) {
    first.rows = random.whole(0, r.rows);
    second.first_row += first.rows;
    second.rows -= first.rows;
  } else {
    first.cols = random.whole(0, r.cols);
    second.first_col += first.cols;
    second.cols -= first.cols;
  }
  cut(out, first, depth - 1, random);
  cut(out, second, depth - 1, random);
}

// How a rectangle lies in memory of its own: by rows or by columns, with elements between them that belong to nobody.
struct storage {
  bool by_columns;
  std::int64_t padding;
};
storage any_storage(random_source& random) { return {random.bits() % 2 == 0, random.whole(0, 2)}; }

struct part {
  std::vector<std::byte> bytes;
  std::int64_t row_stride, col_stride;

  part(const tensor_rectangle& r, std::size_t size, const storage& s)
      : row_stride(s.by_columns ? 1 : r.cols + s.padding), col_stride(s.by_columns ? r.rows + s.padding : 1) {
    bytes.resize(static_cast<std::size_t>(s.by_columns ? r.cols * col_stride : r.rows * row_stride) * size,
                 std::byte{0xaa});
  }
  std::byte* at(std::int64_t i, std::int64_t j, std::size_t size) {
    return bytes.data() + static_cast<std::size_t>(i * row_stride + j * col_stride) * size;
  }
};

part part_of(const std::vector<std::byte>& whole, const placed_tensor& t, const tensor_rectangle& r, const storage& s) {
  part p(r, t.element_size(), s);
  for (std::int64_t i = 0; i < r.rows; ++i)
    for (std::int64_t j = 0; j < r.cols; ++j)
      std::memcpy(
          p.at(i, j, t.element_size()),
          whole.data() + static_cast<std::size_t>((r.first_row + i) * t.cols + r.first_col + j) * t.element_size(),
          t.element_size());
  return p;
}

// Saves as `ranks` ranks do: each has a writer of its own, and the rectangles are dealt out.
void save_as_ranks(const file_path& path, std::size_t ranks, int depth, random_source& random) {
  std::vector<std::unique_ptr<checkpoint_writer<>>> writers;
  for (std::size_t r = 0; r < ranks; ++r) writers.push_back(std::make_unique<checkpoint_writer<>>(path, small_plan()));
  const std::uint64_t ticket = writers[0]->create();
  for (std::size_t r = 1; r < ranks; ++r) writers[r]->join(ticket);
  const std::vector<placed_tensor>& all = writers[0]->plan().tensors();
  for (std::size_t i = 0; i < all.size(); ++i) {
    rectangles parts;
    cut(parts, all[i].whole(), depth, random);
    for (const tensor_rectangle& r : parts) {
      part p = part_of(content_of(all[i]), all[i], r, any_storage(random));
      writers[random.bits() % ranks]->write(i, r, p.bytes.data(), p.row_stride, p.col_stride);
    }
  }
  for (auto& w : writers) w->flush();
  std::vector<std::uint64_t> digests;
  for (std::size_t i = 0; i < all.size(); ++i) digests.push_back(writers[i % ranks]->digest(i));
  writers[0]->commit(digests);
}

std::string saved_whole(const scratch_folder& folder) {
  checkpoint_writer<> writer(folder / "whole", small_plan());
  writer.create();
  std::vector<std::uint64_t> digests;
  for (std::size_t i = 0; i < writer.plan().tensors().size(); ++i) {
    writer.write(i, content_of(writer.plan().tensors()[i]).data());
    digests.push_back(writer.digest(i));
  }
  writer.commit(digests);
  return get(folder / "whole");
}

}  // namespace

TEST_CASE("a checkpoint's bytes are those of the same rectangles, whoever holds them and however they lie in memory") {
  const scratch_folder folder;
  const std::string expected = saved_whole(folder);
  random_source random(3);
  for (int k = 0; k < 200; ++k) {
    CAPTURE(k);
    save_as_ranks(folder / "parts", 1 + random.bits() % 8, static_cast<int>(random.bits() % 5), random);
    REQUIRE((get(folder / "parts") == expected));
  }
}

TEST_CASE("a checkpoint is a safetensors file with sorted names, whose tensors are whole and row-major") {
  const scratch_folder folder;
  saved_whole(folder);
  const safetensors::file f = safetensors::read(folder / "whole");
  const checkpoint_plan plan = small_plan();
  REQUIRE(f.tensors.size() == tensors.size());
  for (const placed_tensor& t : plan.tensors()) {
    CHECK(f.tensors.at(t.name).bytes == content_of(t));
    CHECK(f.tensors.at(t.name).shape == t.shape);
  }
  CHECK(f.metadata.at("k") == "v \" \xc3\xa9");
  CHECK(f.metadata.at("format") == "normuon-checkpoint");
  CHECK(f.metadata.at("format_version") == "1");
  CHECK(plan.file_bytes() == std::filesystem::file_size(folder / "whole"));
}

TEST_CASE("digests are XXH3 of 64 bits, as xxhsum prints them") {
  // xxhsum -H3 of nothing, of "a", and of 1000 times "a"; the third is beyond the length that is hashed at once.
  CHECK(digest_text(xxh3_of(const_bytes())) == "2d06800538d394c2");
  CHECK(digest_text(xxh3_of(bytes_of("a"))) == "e6c632b61e964e1f");
  running_digest pieces;
  const std::string many(1000, 'a');
  for (std::size_t k = 0; k < many.size(); k += 7) pieces.add(bytes_of(std::string_view(many).substr(k, 7)));
  CHECK(pieces.value() == xxh3_of(bytes_of(many)));
  CHECK(read_digest("2d06800538d394c2") == 0x2d06800538d394c2u);
  for (const char* text : {"", "2d06800538d394c", "2D06800538d394c2", "2d06800538d394c2 ", "+d06800538d394c2"})
    CHECK(!read_digest(text));
}

TEST_CASE("any rectangle is read into any layout, and what lies between its elements stays") {
  const scratch_folder folder;
  saved_whole(folder);
  checkpoint_reader<> reader(folder / "whole");
  random_source random(5);
  for (int k = 0; k < 300; ++k) {
    const std::size_t i = random.bits() % reader.plan().tensors().size();
    const placed_tensor& t = reader.plan().tensors()[i];
    const std::int64_t row = random.whole(0, t.rows), col = random.whole(0, t.cols);
    const tensor_rectangle r{row, col, random.whole(0, t.rows - row), random.whole(0, t.cols - col)};
    part expected = part_of(content_of(t), t, r, any_storage(random)), got = expected;
    std::fill(got.bytes.begin(), got.bytes.end(), std::byte{0xaa});
    reader.read(i, r, got.bytes.data(), got.row_stride, got.col_stride);
    CHECK(got.bytes == expected.bytes);
  }
  // Every second element of a row.
  std::vector<double> spread(18, -1.0), whole(9);
  const std::size_t v = reader.index_of("v");
  reader.read(v, {0, 0, 1, 9}, spread.data(), 0, 2);
  std::memcpy(whole.data(), reader.read(v).data(), 72);
  for (std::size_t k = 0; k < 9; ++k) {
    CHECK(std::memcmp(&spread[2 * k], &whole[k], 8) == 0);
    CHECK(spread[2 * k + 1] == -1);
  }
}

TEST_CASE("a tensor larger than what passes through memory at once is written and read whole") {
  const scratch_folder folder;
  const std::int64_t rows = 700, cols = 1000;  // 2.8 MB, by columns in memory
  std::vector<float> by_columns(700000);
  std::iota(by_columns.begin(), by_columns.end(), 0.0f);
  checkpoint_writer<> writer(folder / "f", checkpoint_plan({{"w", dtype::f32, {rows, cols}}}, {}, "a plan"));
  writer.create();
  writer.write(0, {0, 0, rows, cols}, by_columns.data(), 1, rows);
  writer.commit({writer.digest(0)});
  std::vector<float> back(700000);
  checkpoint_reader<> reader(folder / "f");
  reader.read(0, {0, 0, rows, cols}, back.data(), 1, rows);
  CHECK(back == by_columns);
  CHECK(reader.read(0).size() == 2800000);
}

TEST_CASE("a rectangle that is not within its tensor is refused, and nothing is written or read") {
  const scratch_folder folder;
  saved_whole(folder);
  checkpoint_reader<> reader(folder / "whole");
  checkpoint_writer<> writer(folder / "f", small_plan());
  writer.create();
  std::vector<double> memory(100);
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const std::size_t b = reader.index_of("b");
  for (const tensor_rectangle r : rectangles{{0, 0, 8, 11},
                                             {7, 0, 1, 11},
                                             {-1, 0, 1, 1},
                                             {0, 0, 1, 12},
                                             {0, -1, 1, 1},
                                             {0, 0, -1, 1},
                                             {0, 0, 1, -1},
                                             {most, 0, most, 1},
                                             {1, 0, most, 1},
                                             {0, 1, 1, most},
                                             {0, most, 1, most}}) {
    CHECK(contains(file_refusal([&] { writer.write(b, r, memory.data(), 11, 1); }),
                   "tensor 'b': expected a rectangle within 7 x 11, got "));
    CHECK(contains(file_refusal([&] { reader.read(b, r, memory.data(), 11, 1); }), "within 7 x 11"));
  }
}

TEST_CASE("a part of a batch is a rectangle for each of its matrices, among the rows of all") {
  placed_tensor t;
  t.shape = {5, 4, 6};
  std::vector<std::vector<index_t>> found;
  for_each_rectangle(t, {2, 3, 2}, {1, 1, 4}, [&](const tensor_rectangle& r, index_t place) {
    found.push_back({r.first_row, r.first_col, r.rows, r.cols, place});
  });
  CHECK(found == std::vector<std::vector<index_t>>{{5, 4, 3, 2, 0}, {9, 4, 3, 2, 6}});
}

TEST_CASE("a plan refuses names that are there twice and metadata that belongs to the format") {
  const auto refusal_of_plan = [](const std::vector<logical_tensor>& t, const metadata_map& m) {
    return file_refusal([&] { checkpoint_plan(t, m, "a plan"); });
  };
  const logical_tensor a{"a", dtype::f32, {2}};
  CHECK(contains(refusal_of_plan({a, a}, {}), "a plan: tensor 'a': is there twice"));
  for (const char* key : {"format", "format_version", "xxh3", "xxh3:a"})
    CHECK(contains(refusal_of_plan({a}, {{key, ""}}), std::string("not the format's, got '") + key + "'"));
  CHECK(contains(refusal_of_plan({{"\x01", dtype::f32, {2}}}, {}), "without control characters"));
  CHECK(contains(refusal_of_plan({{"\xff", dtype::f32, {2}}}, {}), "UTF-8"));
  CHECK(contains(refusal_of_plan({{std::string(509, 'n'), dtype::f32, {2}}}, {}), "at most 512 bytes, found 514"));
  CHECK(contains(refusal_of_plan({{"a", dtype::f32, {-1}}}, {}), "lengths of 0 and above"));
}

TEST_CASE(
    "a file that is not committed is gone, one that is keeps what it has replaced, and rests of others are removed") {
  const scratch_folder folder;
  const std::string first = saved_whole(folder);
  CHECK(folder.entries() == 1);
  put(folder / "whole.partial-77-0", "left by a killed process");
  put(folder / "whole.partial-77-0.previous", "its second name");
  put(folder / "whole.partial-", "not ours");
  put(folder / "whole.partial-77-0.txt", "not ours");
  put(folder / "whole2.partial-77-0", "another file's");
  {
    checkpoint_writer<> writer(folder / "whole", small_plan());
    writer.create();
    CHECK(folder.entries() == 5);
  }
  CHECK(folder.entries() == 4);
  CHECK((get(folder / "whole") == first));

  put(folder / "whole", "something else");
  saved_whole(folder);
  CHECK((get(folder / "whole") == first));
  CHECK((get(folder / "whole.previous") == "something else"));
  saved_whole(folder);
  CHECK((get(folder / "whole.previous") == first));
  CHECK(folder.entries() == 5);
}

TEST_CASE("a writer that has made no file says so, and a path that is no regular file stays as it is") {
  const scratch_folder folder;
  checkpoint_writer<> writer(folder / "f", small_plan());
  CHECK(contains(file_refusal([&] { writer.flush(); }), "/f: expected a file that was created or joined"));
  CHECK(contains(file_refusal([&] { writer.commit({}); }), "/f: expected a file that was created here"));
  CHECK(contains(file_refusal([&] { writer.join(5); }), "/f: can't be opened: No such file"));
  std::filesystem::create_directory(folder / "f");
  CHECK(contains(file_refusal([&] { writer.create(); }), "/f: expected a regular file or none to replace"));
  CHECK(folder.entries() == 1);
  checkpoint_writer<> nowhere(folder / "no/f", small_plan());
  CHECK(contains(file_refusal([&] { nowhere.create(); }), "/no: can't be listed: No such file"));
}
