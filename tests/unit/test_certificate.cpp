// The reference is sampling: thousands of singular values go through the steps one by one, in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "normuon/math/certificate.hpp"
#include "normuon/math/polar_express.hpp"

using namespace normuon;

namespace {

constexpr coefficient_table classical{
    .name = "classical", .rows = repeated(5, {15.0 / 8, -10.0 / 8, 3.0 / 8}), .steps = 5};

constexpr coefficient_table jordan_of(int steps) {
  coefficient_table table = jordan;
  table.rows = repeated(steps, jordan.rows[0]);
  table.steps = steps;
  return table;
}

// GrishKate/accelerating_orthogonalization, as in Emerging-Optimizers.
constexpr coefficient_table cans{.name = "cans",
                                 .rows = {{{8.4703, -25.1081, 18.6293},
                                           {4.1828, -3.1087, 0.5806},
                                           {3.9619, -2.9541, 0.5630},
                                           {3.2866, -2.4647, 0.5074},
                                           {2.2737, -1.6447, 0.4162}}},
                                 .steps = 5};

// arXiv 2512.04632: made for a norm that leaves nothing near 1, wrong after division by ||U||_F.
constexpr coefficient_table almost_orthogonal{.name = "aol",
                                              .rows = {{{4.0098, -7.0585, 2.4635},
                                                        {3.4585, -5.5479, 2.5959},
                                                        {2.7573, -3.2939, 1.4254},
                                                        {2.7215, -3.0494, 1.3169}}},
                                              .steps = 4};

// What cycling a table gives: after its fifth step the first begins again.
constexpr coefficient_table you_cycled = [] {
  coefficient_table table = you;
  table.name = "you, cycled";
  table.rows[5] = table.rows[0];
  table.steps = 6;
  return table;
}();

constexpr coefficient_table polar_express_unscaled = polar_express<5>(1e-3, 0.02407327424182761, 0);

constexpr coefficient_table safe_tables[] = {jordan,
                                             you,
                                             polar_express_101,
                                             polar_express_102,
                                             polar_express_dao,
                                             deepseek_v4,
                                             simple_12,
                                             classical,
                                             jordan_of(6),
                                             jordan_of(8),
                                             jordan_of(16),
                                             cans,
                                             you_cycled,
                                             polar_express_unscaled,
                                             polar_express<5>(1e-3, 0.02, 0.02),
                                             polar_express<8>(1e-4, 0.02, 0.03),
                                             polar_express<1>(0.1, 0, 0)};

// x after the steps from `first` on.
double mapped(const coefficient_table& table, double x, std::size_t first = 0) {
  for (std::size_t k = first; k < table.active().size(); ++k) {
    const auto [a, b, c] = table.rows[k];
    x = a * x + b * std::pow(x, 3) + c * std::pow(x, 5);
  }
  return x;
}

// Singular values from low to 1, half of them spaced evenly in the logarithm, divided by the norm factor.
std::vector<double> inputs(const coefficient_table& table, double low) {
  constexpr int count = 20000;
  std::vector<double> values;
  for (int i = 0; i <= count; ++i) {
    const double t = static_cast<double>(i) / count;
    values.push_back((low + (1 - low) * t) / table.norm_factor);
    values.push_back(std::pow(low, 1 - t) / table.norm_factor);
  }
  return values;
}

doctest::Approx near(double x, double relative) { return doctest::Approx(x).epsilon(relative).scale(0); }

std::string message_of(const coefficient_table& table, compute_type type) {
  try {
    certified(table, type);
  } catch (const error& e) {
    CHECK(e.code() == error_code::option);
    return e.what();
  }
  return {};
}

bool accepts(const coefficient_table& table, compute_type type) { return message_of(table, type).empty(); }

coefficient_table with(coefficient_table table, auto change) {
  change(table);
  return table;
}

// All of it is a constant expression, within the default limits of both compilers.
static_assert(certify(jordan_of(16)).positive && certify(deepseek_v4).margin > 0.05);
static_assert(certified(jordan, compute_type::bfloat16) == jordan);
static_assert(certified(polar_express_102, compute_type::bfloat16).norm_factor == 1.02);
static_assert(certified(polar_express<16>(1e-6, 0.02, 0.02), compute_type::bfloat16).steps == 16);
static_assert(!certify(almost_orthogonal).positive);

}  // namespace

TEST_CASE("what a step makes of a number is enclosed from both sides, and tightly") {
  std::mt19937 random(3);
  const auto number = [&](double scale) { return scale * (static_cast<double>(random()) / 2147483648.0 - 1); };
  for (int i = 0; i < 20000; ++i) {
    quintic p{number(10), number(30), number(30)};
    const double x = std::abs(number(2));
    if (i % 2 == 0) p.a = -x * x * (p.b + x * x * p.c);  // cancels: the value is nothing but rounding
    const interval found = enclose(p, x);
    const long double y = static_cast<long double>(x) * x, exact = x * (p.a + y * (p.b + y * p.c));
    const double terms = x * (std::abs(p.a) + x * x * (std::abs(p.b) + x * x * std::abs(p.c)));
    CHECK(found.low <= exact);
    CHECK(exact <= found.high);
    CHECK(found.high - found.low <= 64 * 0x1p-53 * terms);
  }
  const interval image_of_two = image({0, 1, 0}, {2, 2});  // exact, so that only the slack is left
  CHECK(image_of_two.low < 8);
  CHECK(image_of_two.high > 8);
}

TEST_CASE("every sampled singular value ends in the certified band, which is no wider than sampling shows") {
  for (const auto& table : safe_tables) {
    for (const double lower : {1e-1, 1e-2, 1e-3, 1e-4}) {
      const certificate found = certify(table, lower);
      double low = std::numeric_limits<double>::max(), high = 0;
      for (const double x : inputs(table, lower)) {
        low = std::min(low, mapped(table, x));
        high = std::max(high, mapped(table, x));
      }
      CAPTURE(table.name);
      CAPTURE(table.steps);
      CAPTURE(lower);
      // Computing the map itself costs 1e-14. Inner extrema are missed by half a spacing squared times the curvature,
      // which is below 1e-4 for all but steep tables; the band_low of a steep one is an end, and met exactly.
      CHECK(found.positive);
      CHECK(found.band_low <= low + 1e-13);
      CHECK(found.band_high >= high - 1e-13);
      CHECK(found.band_low >= low - 2e-3);
      CHECK(found.band_high <= high + 2e-3);
    }
  }
}

TEST_CASE("the margin is the overshoot at which the first sampled value escapes, at the step that bears least") {
  for (const auto& table : safe_tables) {
    double least = std::numeric_limits<double>::max();
    for (std::size_t k = 0; k < table.active().size(); ++k) {
      double top = 0;  // the largest value that enters step k
      for (const double x : inputs(table, 1e-4)) {
        double y = x;
        for (std::size_t j = 0; j < k; ++j) y = table.rows[j](y);
        top = std::max(top, y);
      }
      double overshoot = 1e-7;
      while (overshoot < 5) {
        const double result = mapped(table, top * (1 + overshoot), k);
        if (!(result > 0 && result <= std::sqrt(7.0 / 3))) break;
        overshoot *= 1.0005;
      }
      least = std::min(least, overshoot);
    }
    CAPTURE(table.name);
    CAPTURE(table.steps);
    // The grid is 0.05 % coarse, and `top` misses what lies between two samples at a maximum.
    CHECK(certify(table).margin == near(least, 2e-3));
  }
}

TEST_CASE("margins and slopes are those known of the public tables") {
  CHECK(certify(jordan).margin == near(0.0511, 0.005));
  CHECK(certify(jordan_of(8)).margin == near(0.0510, 0.005));
  CHECK(certify(you).margin == near(0.0387, 0.005));
  CHECK(certify(polar_express_101).margin == near(0.0109, 0.005));
  CHECK(certify(polar_express_dao).margin == near(0.0547, 0.005));
  CHECK(certify(classical).margin == near(std::sqrt(7.0 / 3) - 1, 1e-9));
  CHECK(certify(polar_express_unscaled).margin == near(4.08e-6, 0.005));
  CHECK(certify(cans).margin == near(5.41e-6, 0.005));
  CHECK(certify(jordan).slope == near(std::pow(3.4445, 5), 1e-13));
  CHECK(certify(polar_express_102).slope == near(989.5, 1e-4));
}

TEST_CASE("the norm factor adds to the margin of the first step alone") {
  const auto bare = with(polar_express_102, [](auto& t) { t.norm_factor = 1; });
  CHECK(certify(bare).margin == near(0.0218, 0.005));
  CHECK(certify(polar_express_102).margin == near(0.0220, 0.005));  // step 1 bears least
  const auto one_step = with(polar_express<1>(0.1, 0, 0), [](auto& t) { t.norm_factor = 1.25; });
  const double margin = certify(polar_express<1>(0.1, 0, 0)).margin;
  CHECK(certify(one_step).margin == near(1.25 * (1 + margin) - 1, 1e-12));
}

TEST_CASE("bfloat16 takes the tables that bear 2 percent, float16 a quarter of a percent, wider types all") {
  for (const auto& table : safe_tables) {
    CAPTURE(table.name);
    CHECK(accepts(table, compute_type::float32));
    CHECK(accepts(table, compute_type::float64));
  }
  for (const auto& table : {jordan, you, polar_express_102, polar_express_dao, deepseek_v4, simple_12, classical}) {
    CAPTURE(table.name);
    CHECK(accepts(table, compute_type::bfloat16));
    CHECK(accepts(table, compute_type::float16));
  }
  CHECK_FALSE(accepts(polar_express_101, compute_type::bfloat16));
  CHECK(accepts(polar_express_101, compute_type::float16));
  for (const auto& table : {cans, polar_express_unscaled}) {
    CAPTURE(table.name);
    CHECK_FALSE(accepts(table, compute_type::bfloat16));
    CHECK_FALSE(accepts(table, compute_type::float16));
  }
}

TEST_CASE("a table is returned itself, not a copy") { CHECK(&certified(you, compute_type::bfloat16) == &you); }

TEST_CASE("a table that turns singular values around is refused in every type, and the message says where") {
  CHECK(mapped(with(almost_orthogonal, [](auto& t) { t.steps = 1; }), 1) == near(-0.5852, 1e-4));
  for (const auto type :
       {compute_type::float64, compute_type::float32, compute_type::float16, compute_type::bfloat16}) {
    const std::string message = message_of(almost_orthogonal, type);
    CHECK(message.find("table 'aol'") != std::string::npos);
    CHECK(message.find("positive on (0, 1]") != std::string::npos);
    CHECK(message.find("up to 1 enter step 0, which is positive only up to 0.88") != std::string::npos);
  }
  // Negative in a narrow gap below the sampled band's lower end, and nowhere else.
  const coefficient_table gap{.name = "gap", .rows = {{{1, -2.0001e6, 1e12}, {1e-11, 0, 0}}}, .steps = 2};
  CHECK(gap.rows[0](1e-3) < 0);
  CHECK_FALSE(certify(gap, 0.5).positive);
  CHECK_FALSE(accepts(gap, compute_type::float64));
  // Negative twice is positive again, but something between them is zero.
  const coefficient_table twice{.name = "twice", .rows = {{{1, -1.5, 0}, {1, 0, 0}}}, .steps = 2};
  CHECK_FALSE(certify(twice).positive);
}

TEST_CASE("a refusal for rounding errors names the table, the type, what was found and what is needed") {
  const std::string message = message_of(polar_express_101, compute_type::bfloat16);
  for (const char* part : {"polar_express_1.01", "bfloat16", "0.0109", "0.0195312", "5 unit roundoffs"}) {
    CAPTURE(part);
    CHECK(message.find(part) != std::string::npos);
  }
}

TEST_CASE("a cycled table is safe to compute but useless: its certificate shows the band near zero") {
  const certificate found = certify(you_cycled, 1e-2);
  CHECK(found.positive);
  CHECK(found.band_low == near(0.064, 0.01));
  CHECK(found.band_high == near(0.165, 0.01));
}

TEST_CASE("a table that escapes by itself has a negative margin and is refused") {
  const coefficient_table far{.name = "far", .rows = {{{2, 0, 0}}}, .steps = 1};
  CHECK(certify(far).positive);
  CHECK(certify(far).margin == near(std::sqrt(7.0 / 3) / 2 - 1, 1e-12));
  CHECK(message_of(far, compute_type::float64).find("float64: expected a margin") != std::string::npos);
  const coefficient_table overflowing{.name = "overflowing", .rows = repeated(3, {1e300, 1e300, 1e300}), .steps = 3};
  CHECK_FALSE(accepts(overflowing, compute_type::float64));
}

TEST_CASE("malformed tables are refused with what was expected") {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const auto said = [](const coefficient_table& table, const char* part) {
    return message_of(table, compute_type::float64).find(part) != std::string::npos;
  };
  for (const int steps : {-1, 0, 17, 1 << 30})
    CHECK(said(with(jordan, [&](auto& t) { t.steps = steps; }), "expected 1 to 16 steps"));
  for (const double bad : {infinity, -infinity, nan}) {
    CHECK(said(with(jordan, [&](auto& t) { t.rows[4].a = bad; }), "finite coefficients"));
    CHECK(said(with(jordan, [&](auto& t) { t.rows[0].b = bad; }), "finite coefficients"));
    CHECK(said(with(jordan, [&](auto& t) { t.rows[2].c = bad; }), "finite coefficients"));
    CHECK(said(with(jordan, [&](auto& t) { t.norm_factor = bad; }), "norm factor >= 1"));
  }
  CHECK(said(with(jordan, [](auto& t) { t.norm_factor = 0.999; }), "norm factor >= 1"));
  CHECK(said(with(jordan, [](auto& t) { t.gram_restarts_bf16 = {2, 5}; }), "restarts before steps below 5, got 5"));
  CHECK(said(with(jordan, [](auto& t) { t.gram_restarts_compensated = {6}; }), "restarts before steps below 5, got 6"));
  CHECK(accepts(with(jordan, [&](auto& t) { t.rows[5].a = nan; }), compute_type::float64));  // not a step
  CHECK_THROWS_AS(certified(jordan, compute_type::automatic), error);
}
