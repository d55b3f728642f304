#include <doctest/doctest.h>

#include <cmath>

#include "replay/cases.hpp"
#include "support/golden.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// A number or a JSON list of numbers, as --set takes it.
std::string as_value(std::string text) {
  std::erase_if(text, [](char c) { return c == '[' || c == ']' || c == ' '; });
  return text;
}

// The flags of a trajectory: its preset, all its numbers, and what else is not as in the preset's plain 16 x 16 case:
// so the presets themselves are tested.
std::vector<std::string> flags_of(const golden_case& c) {
  const golden_case plain = load_golden(c.text("preset") + ".16x16.safetensors");
  std::vector<std::string> flags = {"--preset", c.text("preset"), "--trace", "--set"};
  const auto first_there = [&](const std::string& key, const std::string& otherwise) {
    return as_value(c.text(c.has_text(key) ? key : otherwise));
  };
  flags.push_back("learning_rate=" + first_there("learning_rates", "learning_rate"));
  flags.push_back("momentum=" + first_there("momenta", "momentum"));
  flags.push_back("weight_decay=" + first_there("weight_decay_equivalent", "weight_decay"));
  for (const std::string key : {"beta2", "epsilon"})
    if (c.has_text(key)) flags.push_back(key + "=" + c.text(key));
  for (const std::string key : {"nesterov", "momentum_form", "neuron_axis", "orthogonalizer", "scale", "decay"})
    if (c.has_text(key) && c.text(key) != plain.text(key)) flags.push_back(key + "=" + c.text(key));
  return flags;
}

// The largest absolute difference over the largest absolute expected value; differences from zeros count as they are.
double distance(const safetensors::tensor& got, const golden_tensor& expected) {
  const std::vector<double> values = safetensors::values<double>(got);
  REQUIRE(got.shape == expected.shape);
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    difference = std::max(difference, std::abs(values[i] - expected.values[i]));
    largest = std::max(largest, std::abs(expected.values[i]));
  }
  return difference / (largest > 0 ? largest : 1);
}

// The largest distance of what a trajectory of a public code knows: every W.k, M and v.
double distance(const safetensors::file& out, const golden_case& c) {
  double largest = 0;
  for (const auto& [name, expected] : c.tensors)
    if (name.starts_with("W.") || name == "M" || name == "v")
      largest = std::max(largest, distance(out.tensors.at(name), expected));
  return largest;
}

// The same of the last step without the absolute epsilon: "noeps." tensors, where there are such.
double distance_without_epsilon(const safetensors::file& out, const golden_case& c) {
  const auto of = [&](const std::string& name) {
    return distance(out.tensors.at(name), c.tensor(c.has("noeps." + name) ? "noeps." + name : name));
  };
  const double of_W = of("W." + std::to_string(c.step_count() - 1));
  return c.has("v") ? std::max(of_W, of("v")) : of_W;
}

}  // namespace

// 1e-10 leaves room for sums in any order: the golden vectors themselves are within 1.1e-14 of the formulas.
TEST_CASE("every golden trajectory is met to 1e-10 by its preset with norm_guard=as_published") {
  std::size_t files = 0;
  for (const std::string& preset : all_presets)
    for (const std::string& file : golden_files(preset)) {
      CAPTURE(file);
      const golden_case c = load_golden(file);
      std::vector<std::string> flags = flags_of(c);
      if (preset != "adamw") flags.push_back("norm_guard=as_published");
      CHECK(distance(replayed(golden_input(file), flags), c) < 1e-10);
      ++files;
    }
  CHECK(files == 93);
}

TEST_CASE("every golden trajectory without the absolute epsilon is met to 1e-10 by default") {
  for (const std::string& preset : all_presets)
    for (const std::string& file : golden_files(preset)) {
      CAPTURE(file);
      const golden_case c = load_golden(file);
      CHECK(distance_without_epsilon(replayed(golden_input(file), flags_of(c)), c) < 1e-10);
    }
}

// A rounding in the iteration is at most 2^-24 of ||X|| and grows by the slope of the table's map at most, which is
// largest at zero: 970 for Polar Express, so 6e-5; 1e-4 leaves room for roundings in W and in the neurons' factors.
TEST_CASE("every golden trajectory is met to 1e-4 by a run in float32") {
  for (const std::string& preset : all_presets)
    for (const std::string& file : golden_files(preset)) {
      CAPTURE(file);
      const golden_case c = load_golden(file);
      CHECK(distance_without_epsilon(replayed(rounded_to<float>(golden_input(file)), flags_of(c)), c) < 1e-4);
    }
}
