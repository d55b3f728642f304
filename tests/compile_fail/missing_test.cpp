// expect: engine.test(request)
// The message names what is missing.
#define WITHOUT_TEST
#include "compile_fail/engine_without.hpp"
