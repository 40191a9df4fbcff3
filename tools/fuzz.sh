#!/usr/bin/env bash
# The fuzz targets under libFuzzer, which needs a nightly toolchain:
#
#   tools/fuzz.sh run SECONDS [TARGET...]   all targets, one after the other; stops at the first finding
#   tools/fuzz.sh build                     the targets with sanitizer, which takes minutes the first time
#   tools/fuzz.sh smoke                     four seeds, and a second of mutation, of every target that is built;
#                                           with FLOWPROOF_FUZZ_SMOKE=1 they are built before
#   tools/fuzz.sh selftest [TARGET...]      each target finds a defect that is planted, within 30 seconds
#   tools/fuzz.sh merge [TARGET...]         what the corpus has learnt and the seeds lack becomes seeds
#
# Without nightly it says so on standard error and does nothing, successfully; with FLOWPROOF_FUZZ=required it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nightly=${FLOWPROOF_NIGHTLY:-nightly}
host=$(rustc -vV | sed -n 's/^host: //p')
limits=(-rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1)
# What Z3 and the deep stacks of the engines need more.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:detect_odr_violation=0}
# Stacks in them name the machine, which no file of the repository does.
logs=${CARGO_TARGET_DIR:-target}/fuzz-logs
corpora=fuzz/corpus
seeds=fuzz/seeds
# A frame or a flow is soon read; what takes ten seconds is a finding. Symbolic execution under the sanitizer takes two
# and more of them, by the clock of a machine that may have more to do.
declare -A patience=([diff]=60 [engines]=60 [symbolic]=60 [real_switch]=60)
declare -A longest=([flow_text]=2048 [frame]=1600 [pcap]=4096 [intent_json]=8192 [scenario_text]=4096 [stateful]=1600)

# All but the one that needs an Open vSwitch, which has to be asked for by name.
targets() {
  sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"$/\1/p}' fuzz/Cargo.toml | grep -vx real_switch
}

if ! cargo "+$nightly" --version >/dev/null 2>&1; then
  echo "SKIPPED: the fuzz targets under libFuzzer: there is no toolchain '$nightly' (rustup toolchain install nightly)" >&2
  [ "${FLOWPROOF_FUZZ:-}" != required ]
  exit
fi

# With cargo-fuzz, or as it does it.
build() {
  if cargo "+$nightly" fuzz --version >/dev/null 2>&1; then
    cargo "+$nightly" fuzz build
  else
    local flags=(--cfg fuzzing -Cpasses=sancov-module -Zsanitizer=address -Ccodegen-units=1)
    local each=(level=4 inline-8bit-counters pc-table trace-compares)
    flags+=("${each[@]/#/-Cllvm-args=-sanitizer-coverage-}" -Cdebug-assertions)
    RUSTFLAGS="${flags[*]}" cargo "+$nightly" build --release --target "$host" --package flowproof-fuzz --bins
  fi
}

binary() {
  echo "${CARGO_TARGET_DIR:-target}/$host/release/$1"
}

# fuzz TARGET WRITTEN-TO OPTION... [DIRECTORY...]
fuzz() {
  local target=$1 corpus=$2 options=("${limits[@]}" "-timeout=${patience[$1]:-10}")
  shift 2
  [ ! -f "fuzz/seeds/$target.dict" ] || options+=("-dict=fuzz/seeds/$target.dict")
  mkdir -p "$corpus" "fuzz/artifacts/$target"
  "$(binary "$target")" "${options[@]}" "-max_len=${longest[$target]:-1500}" "$corpus" "$@"
}

run() {
  local seconds=$1 target log
  shift
  for target in "$@"; do
    log=$logs/$target.log
    mkdir -p "$logs"
    if ! fuzz "$target" "$corpora/$target" "-max_total_time=$seconds" "-artifact_prefix=fuzz/artifacts/$target/" \
      "$seeds/$target" >"$log" 2>&1; then
      tail -n 60 "$log"
      echo "$target: FOUND something in $seconds s; all of it is in $log" >&2
      return 1
    fi
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    echo "$target: nothing found in $seconds s, $(stat number_of_executed_units) runs," \
      "$(stat average_exec_per_sec)/s, $(grep -o 'cov: [0-9]*' "$log" | tail -n 1)"
  done
}

selftest() {
  local target work began failed=0
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  for target in "$@"; do
    cp -r "fuzz/seeds/$target" "$work/$target"
    began=$SECONDS
    if FLOWPROOF_PLANTED=1 fuzz "$target" "$work/$target" -max_total_time=30 "-exact_artifact_path=$work/found" \
      >"$work/log" 2>&1; then
      echo "$target: NOTHING found in 30 seconds"
      failed=1
    elif [ ! -s "$work/found" ] || ! "$(binary "$target")" "$work/found" >/dev/null 2>&1; then
      echo "$target: failed, but not of what is planted"
      tail -n 20 "$work/log"
      failed=1
    else
      echo "$target: found the planted defect after $((SECONDS - began)) s"
    fi
    rm -rf "$work/found"
  done
  return "$failed"
}

# The gate must not wait for a sanitizer's build: what is there is tried, what is not is named.
smoke() {
  local target ready=() missing=()
  if [ -n "${FLOWPROOF_FUZZ_SMOKE:-}" ]; then
    build
  fi
  for target in "$@"; do
    if [ -x "$(binary "$target")" ]; then ready+=("$target"); else missing+=("$target"); fi
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "SKIPPED: fuzz targets that are not built: ${missing[*]}" \
      "(FLOWPROOF_FUZZ_SMOKE=1 tools/fuzz.sh smoke builds them, in ten minutes or less)" >&2
  fi
  [ ${#ready[@]} -gt 0 ] || return 0
  # All seeds are for `cargo test`, which replays them without sanitizer.
  local work some
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  for target in "${ready[@]}"; do
    mkdir -p "$work/seeds/$target"
    some=("fuzz/seeds/$target"/*)
    cp "${some[@]:0:4}" "$work/seeds/$target"
  done
  corpora=$work/corpora seeds=$work/seeds
  run 1 "${ready[@]}"
}

merge() {
  local target new
  for target in "$@"; do
    new=$(mktemp -d)
    fuzz "$target" "$new" -merge=1 "fuzz/seeds/$target" "fuzz/corpus/$target"
    rm -rf "fuzz/seeds/$target"
    mv "$new" "fuzz/seeds/$target"
    chmod 755 "fuzz/seeds/$target"
  done
}

command=${1:-}
[ $# -eq 0 ] || shift
if [ "$command" = run ]; then seconds=${1:?seconds}; shift; fi
# shellcheck disable=SC2046 # names without blanks
[ $# -gt 0 ] || set -- $(targets)
case $command in
  run) build && run "$seconds" "$@" ;;
  build) build ;;
  smoke) smoke "$@" ;;
  selftest) build && selftest "$@" ;;
  merge) build && merge "$@" ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
