// The stand-in with one algorithm for products of whatever size, so that a run of matrices has the bits of single ones.
#ifndef NORMUON_TESTS_CUDA_ONE_ALGORITHM_HPP
#define NORMUON_TESTS_CUDA_ONE_ALGORITHM_HPP

#include "standin.hpp"

namespace normuon::test {

inline void restart_with_one_algorithm(std::uint64_t seed = 0) {
  standin::restart();
  standin::seed(seed);
  standin::set_algorithms({standin::algorithm::plain});
}

}  // namespace normuon::test

#endif
