#define NORMUON_INSTANTIATES
#include "instantiated.hpp"
