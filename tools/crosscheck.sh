#!/usr/bin/env bash
# crosscheck.sh FLOWPROOF: proves hosts once more with another SMT solver, and prints how the two agree.
#
# The queries are what `prove --smt2` writes, with Z3's own answer in them. The other solver comes from PyPI into a virtual
# environment, on demand: SOLVER=bitwuzla (the default) or cvc5. SECONDS_EACH bounds one query.
set -euo pipefail

flowproof=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
solver=${SOLVER:-bitwuzla}
case $solver in
  bitwuzla) version=0.9.1 ;;
  cvc5) version=1.4.2 ;;
  *) echo "error: no solver is called \`$solver\`; there are bitwuzla and cvc5" >&2; exit 2 ;;
esac

place=$target/crosscheck/$solver-$version
if [ ! -e "$place/installed" ]; then
  echo "installing $solver $version into $place" >&2
  rm -rf "$place"
  "${PYTHON:-python3}" -m venv "$place"
  "$place/bin/pip" install -q "$solver==$version" z3-solver==5.4.1.0 >&2
  touch "$place/installed"
fi

mkdir -p "$target/crosscheck"
queries=$(mktemp -d "$target/crosscheck/queries.XXXXXX")
trap 'rm -rf "$queries"' EXIT

# NAME FLOWS: the queries of its first filtered port under every datapath, as they are written for any host.
ask() {
  local name=$1 flows=$2 port status=0
  port=$("$flowproof" prove "$flows" --engine diagram --property spoofed-mac --format json |
    "$place/bin/python" -c 'import json, sys; ports = json.load(sys.stdin)["ports"]; print(ports[0]["ofport"] if ports else "")' || true)
  if [ -z "$port" ]; then
    echo "error: $flows has no filtered port" >&2
    exit 2
  fi
  "$flowproof" prove "$flows" --port "$port" --smt2 "$queries/$name" >"$queries/$name.log" || status=$?
  # What is refuted or undecided is no matter here; what is no table, or contradicts itself, is.
  if [ "$status" -eq 2 ] || [ "$status" -ge 4 ]; then
    cat "$queries/$name.log" >&2
    exit "$status"
  fi
}

ask seed "$root/examples/mitaka-2016/flows.txt"
corpus=$root/tests/fixtures/corpus
for case in 8.1.0/04_dual_stack 9.4.1/04_dual_stack 12.0.0/04_dual_stack 16.0.0/22_remote_group_priorities \
  20.0.0/22_remote_group_priorities 25.0.0/04_dual_stack 29.0.0/05_tcp_port_ranges 29.0.0/08_icmpv6 \
  29.0.0/11_cidr_v4 29.0.0/15_allowed_pairs_cidr_mac 29.0.0/18_remote_group_3 29.0.0/36_permitted_ethertypes; do
  ask "${case//\//-}" "$corpus/$case.flows"
done
for layout in mitaka neutron strict; do
  "$flowproof" compile "$root/tests/fixtures/intents/04_dual_stack.json" --layout "$layout" --output "$queries/$layout.flows"
  ask "compiled-$layout" "$queries/$layout.flows"
done
"$place/bin/python" "$root/tools/crosscheck.py" "$solver" "${SECONDS_EACH:-60}" "$queries"
