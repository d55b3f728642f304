// expect: engine.start(e, send, receive)
// The message names what is missing.
#define WITHOUT_START
#include "compile_fail/engine_without.hpp"
