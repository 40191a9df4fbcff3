#!/usr/bin/env bash
# Puts the pinned Z3 into .z3/ (ignored by git): lib/libz3.so.5.4, include/, lib/pkgconfig/z3.pc.
#
# The library comes from the official wheel on PyPI, whose hash is pinned for each architecture; where that is
# impossible a system libz3 that is new enough will do. Does nothing when .z3 is up to date.
#   FLOWPROOF_Z3_WHEEL=FILE  use this wheel instead of downloading it (hosts without a network)
#   FLOWPROOF_Z3=system      use the system's libz3 and no other
set -euo pipefail

version=5.4.1.0
soname=libz3.so.5.4
oldest_system=4.13.3

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$tools")
z3="$top/.z3"
# shellcheck source=tools/packages.sh
. "$tools/packages.sh"

case "$(uname -m)" in
x86_64) sha256=e680ce083683abca5d07c3e55c2f620ff9a29cb91c548eeeea27ae29e8060522 ;;
aarch64) sha256=f056cb9714bb7c56ad7d25d86786b5a42c8a3c80e68b11f39af5f469b5366395 ;;
*) sha256= ;;
esac
stamp="z3-solver $version $sha256"

is_done() {
  [ -f "$z3/stamp" ] && [ "$(cat "$z3/stamp")" = "$stamp" ] && [ -f "$z3/lib/$soname" ] &&
    [ -f "$z3/lib/pkgconfig/z3.pc" ] && [ -e "$z3/lib/libz3.so" ]
}

system_z3() { env -u PKG_CONFIG_PATH pkg-config --atleast-version=$oldest_system z3 2>/dev/null; }

ensure_pkg_config() {
  command -v pkg-config >/dev/null 2>&1 || install_packages pkg-config ||
    die "pkg-config is missing, and cargo finds Z3 with it"
}

ensure_python() {
  command -v python3 >/dev/null 2>&1 || install_packages python3
}

ensure_pip() {
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
}

# fetch_wheel DIRECTORY: leaves exactly one wheel there, with the pinned hash.
fetch_wheel() {
  if [ -n "${FLOWPROOF_Z3_WHEEL:-}" ]; then
    printf '%s  %s\n' "$sha256" "$FLOWPROOF_Z3_WHEEL" | sha256sum --check --status ||
      die "\`$FLOWPROOF_Z3_WHEEL\` is not the wheel z3-solver $version for $(uname -m): its sha256 should be $sha256"
    cp "$FLOWPROOF_Z3_WHEEL" "$1/"
    return
  fi
  ensure_pip || return 1
  # pip itself compares the hash.
  printf 'z3-solver==%s --hash=sha256:%s\n' "$version" "$sha256" >"$1/requirements.txt"
  python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
    --timeout 30 --retries 2 --dest "$1" --requirement "$1/requirements.txt" >&2
}

# unpack DIRECTORY: takes the library and the headers out of the wheel in DIRECTORY.
unpack() {
  python3 - "$1" "$soname" <<'PYTHON' || return 1
import glob, os, sys, zipfile
directory, soname = sys.argv[1:]
with zipfile.ZipFile(glob.glob(os.path.join(directory, "*.whl"))[0]) as wheel:
    for name in wheel.namelist():
        if name == "z3/lib/libz3.so" or (name.startswith("z3/include/") and name.endswith(".h")):
            wheel.extract(name, directory)
os.rename(os.path.join(directory, "z3/lib/libz3.so"), os.path.join(directory, "z3/lib", soname))
PYTHON
  ln -s "$soname" "$1/z3/lib/libz3.so"
  mkdir -p "$1/z3/lib/pkgconfig"
  cat >"$1/z3/lib/pkgconfig/z3.pc" <<'PC'
prefix=${pcfiledir}/../..
libdir=${prefix}/lib
includedir=${prefix}/include

Name: z3
Description: The Z3 theorem prover
Version: 5.4.1
Libs: -L${libdir} -lz3
Cflags: -I${includedir}
PC
}

install_wheel() {
  [ -n "$sha256" ] || {
    say "no Z3 wheel is pinned for $(uname -m)"
    return 1
  }
  mkdir -p "$z3"
  work=$(mktemp -d "$z3/incoming.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  ensure_python && fetch_wheel "$work" && unpack "$work" || return 1
  rm -rf "$z3/lib" "$z3/include" "$z3/stamp"
  mv "$work/z3/lib" "$z3/lib"
  mv "$work/z3/include" "$z3/include"
  printf '%s\n' "$stamp" >"$z3/stamp"
}

ensure_pkg_config
if [ "${FLOWPROOF_Z3:-}" = system ]; then
  system_z3 || die "FLOWPROOF_Z3=system, but pkg-config finds no z3 >= $oldest_system"
  rm -rf "$z3"
  say "Z3: the system's, $(env -u PKG_CONFIG_PATH pkg-config --modversion z3)"
elif is_done; then
  :
elif install_wheel; then
  say "Z3: $version in .z3"
elif system_z3; then
  rm -rf "$z3"
  say "Z3: the system's, $(env -u PKG_CONFIG_PATH pkg-config --modversion z3) (the pinned $version could not be had)"
else
  say "error: no Z3. Any one of these helps, then run this again:"
  say "  - a network, python3 and pip (Debian: apt-get install python3-pip)"
  say "  - the wheel z3-solver $version for $(uname -m), fetched elsewhere: FLOWPROOF_Z3_WHEEL=FILE $0"
  say "    (python3 -m pip download --no-deps z3-solver==$version; sha256 ${sha256:-not pinned here})"
  say "  - a system libz3 >= $oldest_system with its pkg-config file"
  exit 1
fi
