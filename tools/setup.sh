#!/usr/bin/env bash
# What a fresh Debian or Ubuntu with nothing but Rust lacks for building flowproof: a linker, pkg-config, Z3.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/packages.sh
. "$tools/packages.sh"

command -v cargo >/dev/null 2>&1 || die "cargo is missing: install Rust from https://rustup.rs"

missing=()
command -v cc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
# Z3 is C++, so its users link the C++ library.
command -v c++ >/dev/null 2>&1 || missing+=(g++)
command -v pkg-config >/dev/null 2>&1 || missing+=(pkg-config)
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}" || die "needed for building: ${missing[*]}"

for component in rustfmt clippy; do
  cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 && continue
  rustup component add "$component" >&2 || say "no $component: \`make test\` will not run (rustup component add $component)"
done

"$tools/setup-z3.sh"
