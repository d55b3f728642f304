// expect: the engine must move memory of the backend's kind
// A backend whose memory the host can't reach, with an engine that moves the host's.
#include <normuon/shards/loopback.hpp>

#include "support/archetype_backend.hpp"

normuon::optimizer<normuon::test::archetype_backend, normuon::loopback> refused;
