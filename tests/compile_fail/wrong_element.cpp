// expect: element<
// A matrix of a type that no backend knows.
#include <normuon/normuon.hpp>

normuon::matrix_ref<int> refused;
