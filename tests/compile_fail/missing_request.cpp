// expect: typename E::request
// The message names what is missing.
#define WITHOUT_REQUEST
#include "compile_fail/engine_without.hpp"
