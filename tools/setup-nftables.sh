#!/usr/bin/env bash
# nftables and iproute2, for the tests that ask the running kernel's connection tracking. They work in a private
# network namespace and touch nothing outside it. Where they cannot be installed the tests are left out, and say so.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/packages.sh
. "$tools/packages.sh"
PATH=$PATH:/usr/sbin:/sbin

missing=()
command -v nft >/dev/null 2>&1 || missing+=(nftables)
command -v ip >/dev/null 2>&1 || missing+=(iproute2)
command -v python3 >/dev/null 2>&1 || missing+=(python3)
command -v unshare >/dev/null 2>&1 || missing+=(util-linux)
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}" || {
  say "*************************************************************************"
  say "* No nftables here: NOTHING IS JUDGED BY THE KERNEL'S OWN CONNTRACK.    *"
  say "* As root: apt-get install ${missing[*]}"
  say "*************************************************************************"
}
