#!/usr/bin/env bash
# make.sh VERSION COMMAND…: installs that Neutron into a virtual environment, once, and runs COMMAND with its Python.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$1
shift
place=${FLOWPROOF_NEUTRON:-$here/../../target/neutron}/$version
if [ ! -e "$place/installed" ]; then
  echo "installing neutron $version into $place" >&2
  rm -rf "$place"
  "${PYTHON:-python3}" -m venv "$place"
  "$place/bin/pip" install -q "neutron==$version" >&2
  touch "$place/installed"
fi
script=$1
shift
PYTHONWARNINGS=ignore exec "$place/bin/python" "$here/$script" "$@"
