// A short training by every rule, of shapes that a product must split among threads and of awkward ones. training.cpp
// is built in several ways; BUILT_AS names what each of them defines.
#ifndef NORMUON_TESTS_BUILDS_TRAINING_HPP
#define NORMUON_TESTS_BUILDS_TRAINING_HPP

#include <vector>

// The weights after three steps, one matrix after the other.
std::vector<float> trained_here();
std::vector<float> trained_elsewhere();  // the same, in a translation unit built for another processor

#endif
