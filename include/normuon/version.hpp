// Which normuon this is, in semantic versioning. meson.build states the same number. Standard library only.
#ifndef NORMUON_VERSION_HPP
#define NORMUON_VERSION_HPP

namespace normuon {

inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

}  // namespace normuon

#endif
