// Programs of a step: their checker, the tables that operations name, and how work is shared out.
#include <doctest/doctest.h>

#include "normuon/backends/cublas.hpp"
#include "standin.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Operand number `id` of 4 x 4 bfloat16 matrices, in memory of its own that nobody touches.
operand_view operand(int id) {
  static std::byte memory[16][256];
  return {memory[id], element_type::bfloat16, 4, 4, 1, 8};
}
cuda_operation loaded(const operand_view& X) {
  load_operation o{};
  o.X = X;
  return o;
}
cuda_operation product(const operand_view& Y, const operand_view& A, const operand_view& B, double beta,
                       const operand_view& C) {
  return product_operation{Y, A, B, C, 1, beta, nullptr};
}
refusal refused(const std::vector<cuda_operation>& operations) {
  return refusal_of([&] { check_program(operations); });
}

}  // namespace

TEST_CASE("a program may add what it writes, and multiply what it adds") {
  const auto X = operand(0), Y = operand(1);
  CHECK_FALSE(refused({loaded(X), product(Y, X, X, 0, Y), product(Y, X, X, 2, Y), product(Y, X, X, 2, X)}).code);
}

TEST_CASE("a program that reads an operand before it is written is refused") {
  const auto X = operand(0), Y = operand(1), Z = operand(2);
  CHECK(refused({loaded(X), product(Y, X, Z, 0, Y)}).is(error_code::backend, "operation 1", "none before it"));
  CHECK(refused({loaded(X), product(Y, X, X, 1, Y)}).is(error_code::backend, "operation 1"));
  mean_squares_operation squares{};
  squares.X = Y;
  CHECK(refused({loaded(X), squares}).is(error_code::backend, "operation 1"));
  identity_operation identity{};
  identity.P = Y;
  CHECK(refused({identity}).is(error_code::backend, "operation 0"));
  operand_view larger = X;
  larger.rows = 5;
  CHECK(refused({loaded(X), product(Y, larger, X, 0, Y)}).is(error_code::backend, "none before it"));
}

TEST_CASE("a program whose product writes what it multiplies, or a part of what it adds, is refused") {
  const auto X = operand(0), Y = operand(1);
  CHECK(refused({loaded(X), product(X, X, X, 0, X)}).is(error_code::backend, "writes what it multiplies"));
  operand_view shifted = Y;
  shifted.data += 16;
  CHECK(refused({loaded(X), loaded(Y), loaded(shifted), product(shifted, X, X, 1, Y)})
            .is(error_code::backend, "a part of what it adds"));
  CHECK(refused({loaded(X), loaded(Y), loaded(shifted), product(shifted, X, Y, 0, Y)})
            .is(error_code::backend, "writes what it multiplies"));
}

TEST_CASE("a program whose operands, tables, scratch and workspace of products share memory is refused") {
  const auto X = operand(0), Y = operand(1);
  const std::vector<cuda_operation> operations = {loaded(X), product(Y, X, X, 0, Y)};
  const auto refused_with = [&](const program_memory& own) {
    return refusal_of([&] { check_program(operations, own); });
  };
  static std::byte memory[300];
  const byte_range tables{memory, 100}, scratch{memory + 100, 100}, workspace{memory + 200, 100};
  CHECK_FALSE(refused_with({tables, scratch, workspace}).code);
  CHECK_FALSE(refused_with({{memory, 0}, {memory, 0}, {memory, 300}}).code);
  const byte_range too_long{memory, 101}, too_early{memory + 199, 100}, all{memory, 300};
  for (const program_memory& own :
       {program_memory{too_long, scratch, workspace}, {tables, scratch, too_early}, {all, {}, workspace}})
    CHECK(refused_with(own).is(error_code::backend, "in memory of their own"));
  const byte_range of_read{X.data + 63, 1}, of_written{Y.data - 1, 2};
  for (const byte_range& shared : {of_read, of_written}) {
    const char* const operation = shared.first == of_read.first ? "operation 0" : "operation 1";
    CHECK(refused_with({shared, scratch, workspace}).is(error_code::backend, operation, "among the tables"));
    CHECK(refused_with({tables, shared, workspace}).is(error_code::backend, operation, "in the scratch"));
    CHECK(refused_with({tables, scratch, shared}).is(error_code::backend, operation, "in the workspace of products"));
  }
}

TEST_CASE("nothing but operations may be recorded, and a backend records again after it has refused") {
  standin::restart();
  cublas_backend b;
  cuda_memory memory = b.allocate(8);
  cublas_operand X;
  double number = 0;
  const auto record = [&](auto&& task) { return refusal_of([&] { b.record(task); }); };
  CHECK(record([&](cublas_backend& r) { r.allocate(8); }).is(error_code::backend, "got memory"));
  CHECK(record([&](cublas_backend& r) {
          r.resize(X, {4, 4, 1, compute_type::bfloat16});
        }).is(error_code::backend, "got memory"));
  CHECK(record([&](cublas_backend& r) { r.write(memory.data(), &number, 8); }).is(error_code::backend, "got a write"));
  CHECK(record([&](cublas_backend& r) { r.read(&number, memory.data(), 8); }).is(error_code::backend, "got a read"));
  CHECK(record([&](cublas_backend& r) { r.sync(); }).is(error_code::backend, "got a wait"));
  CHECK(record([&](cublas_backend& r) { r.record([](cublas_backend&) {}); }).is(error_code::backend, "a recording"));
  CHECK_FALSE(record([&](cublas_backend&) {}).code);
  b.sync();
}

TEST_CASE("a table that two operations name travels once, and is where it was said to be") {
  const std::vector<index_t> a = {1, 2, 3}, c = {4};
  table_set tables;
  const table<index_t> first = tables.add(std::span<const index_t>(a));
  const table<index_t> second = tables.add(std::span<const index_t>(c));
  CHECK(tables.add(std::span<const index_t>(a)).offset == first.offset);
  CHECK(tables.add(std::span<const index_t>(a).first(2)).offset != first.offset);
  CHECK(tables.keep({4}).offset == tables.keep({4}).offset);
  CHECK(tables.add(std::span<const index_t>()).empty());
  std::vector<std::byte> packed(tables.bytes());
  tables.pack(packed.data());
  index_t found[3];
  std::memcpy(found, packed.data() + first.offset, sizeof found);
  CHECK((found[0] == 1 && found[2] == 3));
  std::memcpy(found, packed.data() + second.offset, sizeof(index_t));
  CHECK(found[0] == 4);
  CHECK(first.offset % 16 == 0);
  CHECK(second.offset % 16 == 0);
}

TEST_CASE("tables of equal views are the same bytes, whatever lies between the fields of a view") {
  std::vector<std::byte> packed[2];
  for (int filler : {0x00, 0xff}) {
    alignas(matrix_view) std::byte memory[3 * sizeof(matrix_view)];
    std::memset(memory, filler, sizeof memory);
    auto* const views_here = reinterpret_cast<matrix_view*>(memory);
    for (int k = 0; k < 3; ++k) {
      matrix_view& v = views_here[k];
      v.data = packed, v.type = element_type::bfloat16;
      v.rows = k, v.cols = 2, v.row_stride = 3, v.col_stride = -4;
    }
    table_set tables;
    tables.add(views(views_here, 3));
    packed[filler & 1].resize(tables.bytes());
    tables.pack(packed[filler & 1].data());
  }
  CHECK(packed[0] == packed[1]);
  matrix_view last;
  std::memcpy(static_cast<void*>(&last), packed[0].data() + 2 * sizeof last, sizeof last);
  CHECK((last.data == packed && last.type == element_type::bfloat16 && last.rows == 2 && last.cols == 2));
  CHECK((last.row_stride == 3 && last.col_stride == -4));
}

TEST_CASE("every matrix has its blocks, one at the least, and they follow each other") {
  const auto view = [](index_t rows, index_t cols) {
    matrix_view v;
    v.rows = rows, v.cols = cols;
    return v;
  };
  const std::vector<matrix_view> run = {view(0, 5), view(1, 1), view(64, 64), view(64, 65), view(50257, 768)};
  CHECK(first_blocks(run) == std::vector<index_t>{0, 1, 2, 3, 5, 5 + 9424});
  CHECK(first_blocks({}) == std::vector<index_t>{0});
}

TEST_CASE("rows of an operand begin on 16 bytes, and its bytes are those of padded rows") {
  for (const auto compute :
       {compute_type::float64, compute_type::float32, compute_type::bfloat16, compute_type::float16})
    for (const index_t cols : {1, 7, 8, 9, 301}) {
      const operand_shape shape{3, cols, 5, compute};
      const operand_view v = cublas_operand::view_of(shape, nullptr);
      const auto size = static_cast<index_t>(size_of(v.type));
      CHECK(v.leading * size % 16 == 0);
      CHECK((v.leading >= cols && v.leading * size < cols * size + 16));
      CHECK(cublas_operand::bytes(shape) == static_cast<std::size_t>(5 * 3 * v.leading * size));
    }
}
