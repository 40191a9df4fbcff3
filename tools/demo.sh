#!/usr/bin/env bash
# demo.sh FLOWPROOF EXAMPLE: what flowproof says of a host of 2016. Leaves nothing behind.
set -euo pipefail
flowproof=$1
example=$2

show() {
  printf '\n$ flowproof'
  printf ' %s' "$@"
  printf '\n'
  "$flowproof" "$@" || status=$?
  printf '(exit code %s)\n' "${status:-0}"
  unset status
}

echo "May the VM at port 13 send with another's address? In ARP it may not; in a DHCP request it may."
show prove -q "$example/flows.txt" --port 13 --property spoofed-arp --property spoofed-mac

echo
echo "All properties, all ports: the verdicts."
printf '\n$ flowproof prove %s | tail\n' "$example/flows.txt"
{ "$flowproof" prove -q "$example/flows.txt" || true; } | sed -n '/^property /,$p'

echo
echo "What today's switches refuse of these flows."
show lint "$example/flows.txt"

echo
echo "A VM resolves its neighbour's address: its own ARP passes, a spoofed one does not."
show trace "$example/flows.txt" --in-port 13 \
  --packet arp,dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.8,arp_tpa=10.0.1.7 \
  --packet arp,dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.99,arp_tpa=10.0.1.7

echo
echo "SSH from outside to that VM, and its reply: the connection's state decides."
show trace "$example/flows.txt" \
  --in-port 1 --packet tcp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:e9:f9:c8,nw_src=203.0.113.5,nw_dst=10.0.1.8,tp_src=40000,tp_dst=22 \
  --in-port 13 --packet tcp,dl_src=fa:16:3e:e9:f9:c8,dl_dst=fa:16:3e:00:00:01,nw_src=10.0.1.8,nw_dst=203.0.113.5,tp_src=22,tp_dst=40000,tcp_flags=+syn+ack
