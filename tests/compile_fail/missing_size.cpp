// expect: engine.size()
// The message names what is missing.
#define WITHOUT_SIZE
#include "compile_fail/engine_without.hpp"
