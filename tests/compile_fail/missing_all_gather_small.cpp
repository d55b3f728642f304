// expect: engine.all_gather_small(all
// The message names what is missing.
#define WITHOUT_GATHER
#include "compile_fail/engine_without.hpp"
