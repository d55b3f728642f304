#!/bin/sh
# What only a machine with a GPU can show: the backend's tests with the vendor's libraries, then the shortest of them under
# each tool of compute-sanitizer. Ends with an exit status of 0 where all of it holds.
#
#     tests/cuda/on_device.sh [BUILD_FOLDER]
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$top/build/on_device}

nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv,noheader
meson setup "$build" "$top" --reconfigure -Dcuda=enabled -Dtests=enabled -Dexamples=disabled -Dbench=disabled 2>/dev/null ||
  meson setup "$build" "$top" -Dcuda=enabled -Dtests=enabled -Dexamples=disabled -Dbench=disabled
ninja -C "$build" tests/cuda/device
"$build/tests/cuda/device"

# Two trainings on small matrices of every rule, with graphs and without.
for tool in memcheck racecheck initcheck synccheck; do
  echo "compute-sanitizer: $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/cuda/device" \
    --test-case='*hundred recorded steps*'
done
