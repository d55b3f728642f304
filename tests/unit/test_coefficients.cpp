#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "normuon/math/coefficients.hpp"

using namespace normuon;

namespace {

constexpr coefficient_table tables[] = {jordan,      you,      polar_express_101, polar_express_102, polar_express_dao,
                                        deepseek_v4, simple_12};

static_assert(critical_points({1, -1, 0})[0] > 0.577 && critical_points({1, -1, 0})[1] == farthest);

double slope(const quintic& p, double x) { return p.a + 3 * p.b * x * x + 5 * p.c * std::pow(x, 4); }

}  // namespace

TEST_CASE("every table holds the rows, step count and norm factor of its public source") {
  std::ifstream file(std::string(NORMUON_GOLDEN_DIR) + "/coefficients.json");
  const auto golden = nlohmann::json::parse(file);
  for (const auto& table : tables) {
    CAPTURE(table.name);
    const auto& source = golden.at(std::string(table.name));
    CHECK(table.norm_factor == source.at("norm_factor").get<double>());
    REQUIRE(table.active().size() == source.at("rows").size());
    for (std::size_t k = 0; k < table.active().size(); ++k) {
      const auto row = source.at("rows")[k].get<std::vector<double>>();
      CHECK(table.active()[k] == quintic{row[0], row[1], row[2]});
    }
  }
}

TEST_CASE("tables differ where a name, a row, the step count, the norm factor or a restart does") {
  const auto changed = [](auto change) {
    coefficient_table table = you;
    change(table);
    return table;
  };
  CHECK(changed([](auto&) {}) == you);
  CHECK(changed([](auto& t) { t.name = "other"; }) != you);
  CHECK(changed([](auto& t) { t.rows[4].c += 1e-15; }) != you);
  CHECK(changed([](auto& t) { t.steps = 4; }) != you);
  CHECK(changed([](auto& t) { t.norm_factor = 1.01; }) != you);
  CHECK(changed([](auto& t) { t.gram_restarts_bf16 = {2}; }) != you);
  CHECK(changed([](auto& t) { t.gram_restarts_compensated = {2}; }) != you);
}

TEST_CASE("a quintic maps x to a x + b x^3 + c x^5 and is odd") {
  const quintic p{2, -3, 5};
  CHECK(p(2) == 4 - 24 + 160);
  CHECK(p(-2) == -p(2));
  CHECK(p(0) == 0);
}

TEST_CASE("critical points are where the slope changes its sign, and no others exist") {
  std::vector<quintic> cases = {{1, -1, 0},    {1, 1, 0},      {1, 1, 1},          {1, 1, -1},     {1, -1, -1},
                                {-1, 2, -0.5}, {0, -1, 2},     {2, 0, -1},         {0, 0, 1},      {1, 0, 0},
                                {1, -2, 1e-9}, {1, -2, -1e-9}, {8.2, -22.9, 16.4}, {1e-3, -1, 1e3}};
  for (const auto& table : tables) cases.insert(cases.end(), table.active().begin(), table.active().end());
  for (const quintic& p : cases) {
    CAPTURE(p.a);
    CAPTURE(p.b);
    CAPTURE(p.c);
    std::vector<double> found;
    for (const double x : critical_points(p))
      if (x < farthest) found.push_back(x);
    CHECK(std::is_sorted(found.begin(), found.end()));
    std::vector<double> sampled;
    const double step = 1e-4;
    for (double x = step; x + step < farthest; x += step)
      if ((slope(p, x) > 0) != (slope(p, x + step) > 0)) sampled.push_back(x + step / 2);
    REQUIRE(found.size() == sampled.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - sampled[i]) <= step);
  }
}
