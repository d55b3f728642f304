#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "normuon/math/certificate.hpp"
#include "normuon/math/polar_express.hpp"

using namespace normuon;

namespace {

// What the publications were made with, and what makes them again.
constexpr auto of_102 = polar_express<5>(1e-3, 0.02, 0.02);
constexpr auto raw = polar_express<5>(1e-3, 0.02407327424182761, 0);
static_assert(of_102.norm_factor == 1 && of_102.steps == 5 && !of_102.gram_restarts_bf16);
static_assert(certified(of_102, compute_type::bfloat16) == of_102);
static_assert(certified(raw, compute_type::float32) == raw);
static_assert(certify(polar_express<16>(1e-8, 0.02, 0.05), 1e-8).band_low > 0.999);

double largest_error(const quintic& p, double low, double high) {
  double largest = 0;
  for (int i = 0; i <= 4000; ++i) {
    const double x = low + (high - low) * i / 4000;
    largest = std::max(largest, std::abs(1 - (p.a * x + p.b * std::pow(x, 3) + p.c * std::pow(x, 5))));
  }
  return largest;
}

// The rows of a golden table against generated ones, each divided by a, b and c's powers of `factor`.
void check_rows(const std::string& name, const coefficient_table& made, double factor, double tolerance) {
  std::ifstream file(std::string(NORMUON_GOLDEN_DIR) + "/coefficients.json");
  const auto rows = nlohmann::json::parse(file).at(name).at("rows");
  CAPTURE(name);
  REQUIRE(made.active().size() == rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const auto [a, b, c] = made.rows[k];
    CAPTURE(k);
    CHECK(std::abs(a / factor - rows[k][0].get<double>()) < tolerance);
    CHECK(std::abs(b / std::pow(factor, 3) - rows[k][1].get<double>()) < tolerance);
    CHECK(std::abs(c / std::pow(factor, 5) - rows[k][2].get<double>()) < tolerance);
  }
}

}  // namespace

TEST_CASE("the generator makes the public Polar Express tables again") {
  check_rows("polar_express_1.02", of_102, 1, 1e-9);
  check_rows("polar_express_dao_raw", raw, 1, 1e-9);
  check_rows("polar_express_dao", raw, 1.05, 1e-9);
  check_rows("polar_express_1.01", raw, 1.01, 1e-4);  // published with four decimals
}

TEST_CASE("at run time the generator makes what it makes at compile time") {
  // Square roots may differ in the last place; 1e-9 is what the published rows agree to.
  const double lower = std::stod("1e-3"), cushion = std::stod("0.02");
  const auto made = polar_express<5>(lower, cushion, cushion);
  for (std::size_t k = 0; k < 5; ++k) {
    CHECK(std::abs(made.rows[k].a - of_102.rows[k].a) < 1e-9);
    CHECK(std::abs(made.rows[k].b - of_102.rows[k].b) < 1e-9);
    CHECK(std::abs(made.rows[k].c - of_102.rows[k].c) < 1e-9);
  }
}

TEST_CASE("the quintic through four points errs by E, -E, E, -E there") {
  for (const auto& x :
       {std::array{0.1, 0.4, 0.7, 1.0}, std::array{1e-3, 0.2, 0.9, 1.1}, std::array{0.5, 0.6, 1.4, 1.5}}) {
    const auto [p, error] = through(x);
    for (std::size_t i = 0; i < 4; ++i) {
      const double value = p.a * x[i] + p.b * std::pow(x[i], 3) + p.c * std::pow(x[i], 5);
      CHECK(1 - value == doctest::Approx(i % 2 == 0 ? error : -error).epsilon(1e-11));
    }
  }
}

TEST_CASE("no other quintic is nearer to one") {
  for (const auto& interval :
       std::vector<std::pair<double, double>>{{1e-3, 1}, {0.1, 1}, {0.3, 1.7}, {0.8, 1.2}, {0.97, 1}}) {
    const double low = interval.first, high = interval.second;
    const quintic p = nearest_to_one(low, high);
    const double least = largest_error(p, low, high);
    CAPTURE(low);
    CAPTURE(high);
    CHECK(least < 1);
    // The quintics that err less form a convex set, so that small steps would find it.
    const double step = 1e-3 * least;
    for (const double da : {-step, 0.0, step})
      for (const double db : {-step, 0.0, step})
        for (const double dc : {-step, 0.0, step})
          CHECK(largest_error({p.a + da, p.b + db, p.c + dc}, low, high) >= least * (1 - 1e-6));
    // Chebyshev: the largest error is taken at both ends, with opposite signs.
    CHECK(1 - p(low) == doctest::Approx(least).epsilon(1e-6));
    CHECK(p(high) - 1 == doctest::Approx(least).epsilon(1e-6));
  }
}

TEST_CASE("on intervals too short for the exchange the quintic is still one, but for rounding") {
  for (double width = 1e-2; width > 1e-15; width *= width > 4e-6 && width < 1e-5 ? 0.999 : 0.9) {
    for (const double high : {0.7, 0.8562, 0.9, 1.0343, 1.3}) {
      const quintic p = nearest_to_one(high * (1 - width), high);
      CAPTURE(width);
      CAPTURE(high);
      REQUIRE(is_finite(p.a + p.b + p.c));
      // p - 1 has three zeros there, so it is some width^3. The rest is rounding in the exchange, 2e-11 at most seen.
      CHECK(largest_error(p, high * (1 - width), high) < std::pow(width, 3) + 1e-10);
    }
  }
}

TEST_CASE("each further step brings the band nearer to one, and safety buys margin") {
  const auto width = [](const coefficient_table& table) {
    const certificate found = certify(table, 1e-3);
    return found.band_high - found.band_low;
  };
  CHECK(width(polar_express<4>(1e-3, 0.02, 0.02)) < width(polar_express<3>(1e-3, 0.02, 0.02)));
  CHECK(width(polar_express<5>(1e-3, 0.02, 0.02)) < width(polar_express<4>(1e-3, 0.02, 0.02)));
  CHECK(width(polar_express<8>(1e-3, 0.02, 0.02)) < 1e-12);
  for (const double safety : {0.01, 0.02, 0.05}) {  // from 0.06 on the last step, which has none, bears least
    CAPTURE(safety);
    CHECK(certify(polar_express<5>(1e-3, 0.02, safety)).margin >= safety);
    CHECK(certify(polar_express<5>(1e-3, 0.02, safety)).margin < 1.1 * safety);
  }
}

TEST_CASE("without a cushion the band is centred at one and bounded by the certificate's own reckoning") {
  for (const double lower : {1e-1, 1e-2, 1e-3}) {
    const certificate found = certify(polar_express<4>(lower, 0, 0), lower);
    CHECK(found.band_low + found.band_high == doctest::Approx(2).epsilon(1e-9));
  }
}

TEST_CASE("the generator refuses arguments it has no table for") {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, 1.0, -0.1, 2.0, infinity, nan})
    CHECK_THROWS_AS(polar_express<5>(bad, 0.02, 0.02), error);
  for (const double bad : {-0.1, 1.0, infinity, nan}) CHECK_THROWS_AS(polar_express<5>(1e-3, bad, 0.02), error);
  for (const double bad : {-0.01, infinity, nan}) CHECK_THROWS_AS(polar_express<5>(1e-3, 0.02, bad), error);
}
