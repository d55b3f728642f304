// Checkpoints that say in every tensor how many were saved before: one that is old, torn or mixed is told from the
// newest.
#ifndef NORMUON_TESTS_SUPPORT_GENERATIONS_HPP
#define NORMUON_TESTS_SUPPORT_GENERATIONS_HPP

#include "normuon/io/checkpoint/reader.hpp"

namespace normuon::test {

// Saves generation k, whose largest tensor has this many rows of 16 numbers.
template <file_system System>
void save_generation(const file_path& path, int k, std::int64_t rows, System system, bool keep_previous = true) {
  const checkpoint_plan plan({{"matrix", safetensors::dtype::f32, {rows, 16}}, {"step", safetensors::dtype::i64, {1}}},
                             {{"generation", std::to_string(1000000 + k)}}, "a test");
  checkpoint_writer<System> writer(path, plan, system);
  const std::vector<float> numbers(static_cast<std::size_t>(rows * 16), static_cast<float>(k));
  const std::int64_t step = k;
  writer.create();
  for (std::int64_t first = 0; first < rows; first += 4)  // as ranks would
    writer.write(0, {first, 0, std::min<std::int64_t>(4, rows - first), 16}, numbers.data(), 16, 1);
  writer.write(1, &step);
  writer.flush();
  writer.commit({writer.digest(0), writer.digest(1)}, keep_previous);
}

// Which generation is there; -1 where what is there is no checkpoint, or none.
template <file_system System>
int saved_generation(const file_path& path, System system) {
  try {
    checkpoint_reader<System> reader(path, system);
    reader.verify_all();
    std::int64_t step = 0;
    reader.read(1, {0, 0, 1, 1}, &step, 1, 1);
    return reader.plan().metadata().at("generation") == std::to_string(1000000 + step) ? static_cast<int>(step) : -1;
  } catch (const error&) {
    return -1;
  }
}

}  // namespace normuon::test

#endif
