#!/usr/bin/env bash
# demo.sh FLOWPROOF EXAMPLE: what flowproof says of a host of 2016. Leaves nothing behind. Fails if a verdict is not
# the one that EXAMPLE/known.jsonl lists.
set -euo pipefail
flowproof=$1
example=$2

say() { printf '\n# %s\n' "$*"; }

show() {
  printf '$ flowproof'
  printf ' %s' "$@"
  printf '\n'
  "$flowproof" "$@" || status=$?
  [ -z "${status:-}" ] || printf '(exit code %s)\n' "$status"
  unset status
}

say "What today's switches refuse of these flows."
show lint "$example/flows.txt"

say "A VM asks for its neighbour's address: as itself it may, with a spoofed address not."
show trace -q "$example/flows.txt" --in-port 13 \
  --packet arp,dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.8,arp_tpa=10.0.1.7 \
  --packet arp,dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.99,arp_tpa=10.0.1.7

say "All packets and all connection states, held against the holes that are known."
printf '$ flowproof prove %s --expect %s\n' "$example/flows.txt" "$example/known.jsonl"
exec "$flowproof" prove "$example/flows.txt" --expect "$example/known.jsonl"
