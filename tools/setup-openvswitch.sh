#!/usr/bin/env bash
# The real switch for the tests that compare with it. It is installed where that is allowed; elsewhere the tests
# that need it are left out, and this says so. It is used unprivileged, in private directories, never as a service.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/packages.sh
. "$tools/packages.sh"
PATH=$PATH:/usr/sbin:/sbin

has_switch() { command -v ovs-vswitchd >/dev/null 2>&1 && command -v ovs-ofctl >/dev/null 2>&1; }

has_switch || install_packages openvswitch-switch || true
has_switch || {
  say "*****************************************************************"
  say "* No Open vSwitch here: NOTHING IS COMPARED WITH A REAL SWITCH. *"
  say "* As root: apt-get install openvswitch-switch                   *"
  say "*****************************************************************"
}
