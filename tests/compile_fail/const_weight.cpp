// expect: a weight must be writable
#include "../support/archetype_backend.hpp"

void refused(normuon::optimizer<normuon::test::archetype_backend>& opt, normuon::group_id group, const double* weight) {
  opt.add_parameter(group, "w", normuon::row_major(weight, 2, 3));
}
