// expect: engine.finish(request)
// The message names what is missing.
#define WITHOUT_FINISH
#include "compile_fail/engine_without.hpp"
