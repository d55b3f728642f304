// The run on a device: in device.cpp, or in no_device.cpp, which refuses, in a program that knows none.
#ifndef NORMUON_EXAMPLES_REPLAY_DEVICE_HPP
#define NORMUON_EXAMPLES_REPLAY_DEVICE_HPP

#include "normuon/io/safetensors.hpp"
#include "options.hpp"

namespace replay {

// As on the host; see run.hpp. Throws where there is no device, or more than one thread of the host is asked for.
safetensors::file run_on_device(const setup& s, const safetensors::file& in, bool trace);

}  // namespace replay

#endif
