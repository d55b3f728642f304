// expect: refuse_unsafe_table
// Polar Express without a safety factor tolerates an overshoot of 4e-6: too little for the rounding errors of bfloat16.
#include "normuon/math/certificate.hpp"
#include "normuon/math/polar_express.hpp"

constexpr auto unscaled = normuon::polar_express<5>(1e-3, 0.02407327424182761, 0);
constexpr auto table = normuon::certified(unscaled, normuon::compute_type::bfloat16);

int main() { return table.steps; }
