// The formulas as device code: compiled by nvcc, with --expt-relaxed-constexpr, to show that CUDA kernels can call the
// very functions that the CPU backends call.
#include "normuon/math/formulas.hpp"

template <class T>
__global__ void every_formula(T* x, double* y) {
  using namespace normuon;
  const adamw_element<T> element = adamw(x[0], x[1], x[2], 0.9, 0.95, x[3], x[4], x[5]);
  x[0] = blend(element.m, element.v, x[1], x[2]);
  x[1] = updated(x[0], element.d, x[3], x[4], update_formula{decay_form::cautious, write_form::change});
  y[0] = gradient_share(momentum_form::ema, y[0], y[1]);
  y[1] = inverse_norm(y[0], 1, norm_formula{});
  y[2] = second_moment(y[0], y[1], y[2]);
  y[3] = inverse_deviation(y[2], y[3], epsilon_form::floor);
  y[4] = scale_of_update(factor_formula{}, y[3], y[4]);
  y[5] = power(y[4], 3);
}

template __global__ void every_formula(float*, double*);
template __global__ void every_formula(double*, double*);
