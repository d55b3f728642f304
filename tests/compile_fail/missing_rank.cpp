// expect: engine.rank()
// The message names what is missing.
#define WITHOUT_RANK
#include "compile_fail/engine_without.hpp"
