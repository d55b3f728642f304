#!/usr/bin/env bash
# What only a machine with a GPU can show, in less than ten minutes on 16 cores: the backend's tests, the golden vectors
# and a training with the vendor's libraries, the shortest tests under each tool of compute-sanitizer, and benchmarks as
# a table, those first that the aims are about. Ends with `N passed, N failed, N skipped`, and with an exit status of 0
# where nothing failed.
#
#     tests/cuda/on_device.sh [BUILD_FOLDER]             default: build/on_device; tables are in it: aims.csv, device.csv
#     tests/cuda/on_device.sh --rehearse BUILD_FOLDER    the same script on the stand-in, in a folder that ./check built
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
passed=0 failed=0 skipped=0

usage() {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}

# part NAME COMMAND...: what it says is in BUILD_FOLDER/on_device/NAME.log; its end is shown where it fails. A command that
# `timeout` has stopped is skipped: how long it would have taken says nothing about what it looks for.
part() {
  local name=$1 log=$logs/$1.log start=$SECONDS status
  shift
  printf '%s: ' "$name"
  "$@" >"$log" 2>&1 </dev/null
  status=$?
  if [ "$status" = 0 ]; then
    passed=$((passed + 1))
    echo "passed, $((SECONDS - start)) s"
    return 0
  fi
  if [ "$1 $status" = 'timeout 124' ]; then
    skipped=$((skipped + 1))
    echo "skipped, not done after $2 s"
    return 1
  fi
  failed=$((failed + 1))
  echo "failed, $((SECONDS - start)) s: $*"
  tail -n 40 "$log"
  return 1
}
skip() {
  skipped=$((skipped + 1))
  echo "$1: skipped, $2"
}

rehearse=false
if [ "${1:-}" = --rehearse ]; then
  rehearse=true
  shift
  [ $# = 1 ] || usage
fi
[ $# -le 1 ] || usage
case ${1:-} in -*) usage ;; esac
build=${1:-$top/build/on_device}
logs=$build/on_device

if $rehearse; then
  device=$build/tests/cuda/cublas replay=$build/tests/cuda/test_replay_on_standin
  train=$build/tests/cuda/train_gpt_on_standin bench=$build/tests/cuda/bench_on_standin
  numbers=(--test-case='*gradients on a device*,*guard bands*,*errors of cuBLAS*,*share a device*')
  measured=(--shapes=40x24 --benchmark_min_time=0.0001)
  of_aims='newton_schulz/cublas/.*/40x24/|step/adamw/cublas/float32/char_gpt/'
  all='(newton|elementwise).*cublas.*/(40x24|65536)/'
  [ -x "$device" ] || {
    echo "expected ./check to have built $device" >&2
    exit 2
  }
else
  nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv,noheader || {
    echo "expected a GPU; nvidia-smi finds none" >&2
    exit 2
  }
  mkdir -p "$logs" || exit 1
  options=(-Dcuda=enabled -Dtests=enabled -Dexamples=enabled -Dbench=enabled)
  again=()
  [ ! -f "$build/build.ninja" ] || again=(--reconfigure)
  device=$build/tests/cuda/device replay=$build/tests/cuda/test_replay_on_device
  train=$build/examples/train_gpt bench=$build/bench/normuon_bench
  part configure meson setup "$build" "$top" "${again[@]}" "${options[@]}" &&
    part build ninja -C "$build" tests/cuda/device tests/cuda/test_replay_on_device examples/train_gpt \
      examples/replay bench/normuon_bench || exit 1
  numbers=()
  measured=(--benchmark_min_time=0.05)
  of_aims=$("$top/tests/cuda/aims" --filter) all=/cublas/
fi

$rehearse && mkdir -p "$logs"
# Laws, golden trajectories, a hundred recorded steps and direct ones, errors against cuBLAS's own, guard bands.
part tests "$device" "${numbers[@]}"
part replay "$replay"
part training "$top/tests/training/same_losses" "$build/examples/train_gpt" "$train"

# Every kernel of ours, on small matrices of every rule; to look into the library's as well would take many times as long.
# Not every virtual machine lets these tools look at its GPU.
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
for tool in memcheck racecheck initcheck synccheck; do
  if $rehearse; then skip "$tool" "there is no GPU in a rehearsal"
  elif [ -z "$sanitizer" ]; then skip "$tool" "there is no compute-sanitizer here"
  else
    part "$tool" timeout 60 "$sanitizer" --tool "$tool" --kernel-regex kns=normuon --error-exitcode 1 "$device" \
      --test-case='*guard bands*'
  fi
done

# measure TABLE SECONDS FILTER: benchmarks into TABLE.json, and as a table into TABLE.csv.
measure() {
  part "benchmarks for $1" timeout "$2" "$bench" "${measured[@]}" "--benchmark_filter=$3" \
    --benchmark_out="$build/$1.json" --benchmark_out_format=json || return
  part "table for $1" "$top/tests/cuda/aims" "$build/$1.json" "$build/$1.csv" && cat "$logs/table for $1.log"
}
measure aims 100 "$of_aims"
measure device 140 "$all"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
