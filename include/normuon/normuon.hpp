// The core of normuon: the optimizer, its rules, schedules and routing. Needs the standard library only; a backend's
// header is included besides, for example normuon/backends/eigen.hpp.
#ifndef NORMUON_NORMUON_HPP
#define NORMUON_NORMUON_HPP

#include "normuon/math/polar_express.hpp"
#include "normuon/optimizer.hpp"
#include "normuon/routing.hpp"
#include "normuon/schedules.hpp"
#include "normuon/version.hpp"

#endif
