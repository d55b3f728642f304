# shellcheck shell=sh disable=SC2034,SC2154
# What quickstart, check and .ci/run have in common: they source this file, having set `top` to the repository's root.

packages_to_train="g++ meson ninja-build pkg-config libeigen3-dev nlohmann-json3-dev libxxhash-dev libcli11-dev libfmt-dev
  gnuplot-nox bible-kjv bible-kjv-text"
packages_to_bench="libbenchmark-dev"
packages_to_test="doctest-dev librapidcheck-dev libopenblas-openmp-dev libopenmpi-dev openmpi-bin $packages_to_bench"

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

# quietly LOG COMMAND...: runs the command with its output in LOG, and shows the end of it where the command fails.
quietly() {
  log=$1
  shift
  mkdir -p "${log%/*}"
  if "$@" >"$log" 2>&1; then return 0; fi
  tail -n 40 "$log" >&2
  say "failed: $* (all of its output is in $log)" >&2
  return 1
}

# install_missing "PACKAGE ...": on Debian and its kin, with the rights of root; elsewhere Meson names what it misses.
install_missing() {
  command -v dpkg-query >/dev/null || return 0
  missing=
  for package in $*; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ]; then as_root='env'; else as_root='sudo env'; fi
  line="apt-get install -y --no-install-recommends$missing"
  if command -v "${as_root%% *}" >/dev/null; then
    say "installing$missing"
    # shellcheck disable=SC2086  # the words of as_root and of line are meant to be split
    quietly "$top/build/apt.log" $as_root apt-get update -q &&
      quietly "$top/build/apt.log" $as_root DEBIAN_FRONTEND=noninteractive $line && return 0
  fi
  say "please install what is missing, and try again:  sudo $line" >&2
  return 1
}

# configure DIR OPTION...: makes a build directory, or gives one its options, looking anew for headers and packages.
configure() {
  dir=$1
  shift
  say "configuring ${dir#"$top"/}/"
  if [ -f "$dir/build.ninja" ]; then
    quietly "$dir/configure.log" meson configure "$dir" --clearcache || return
    set -- --reconfigure "$@"
  fi
  quietly "$dir/configure.log" meson setup "$dir" "$top" "$@"
}

# build DIR [TARGET...]: everything without a target. A person sees ninja count; in a log there is one line.
build() {
  if [ -f "$1/.ninja_log" ]; then say "building"; else say "building, which takes minutes the first time"; fi
  if [ -t 1 ]; then ninja -C "$@"; else quietly "$1/ninja.log" ninja -C "$@"; fi
}
