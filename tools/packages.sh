# Sourced by the setup scripts: installing Debian packages where that is allowed, saying so where it is not.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# root's prefix for a command: nothing for root, sudo where it asks no password; fails where neither is possible.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

# install_packages PACKAGE…: true if apt-get installed them all.
install_packages() {
  command -v apt-get >/dev/null 2>&1 || {
    say "there is no apt-get here: install the equivalent of: $*"
    return 1
  }
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
  # A fresh image has no package lists yet.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null || {
    say "could not install: $*"
    say "as root: apt-get install $*"
    return 1
  }
}
