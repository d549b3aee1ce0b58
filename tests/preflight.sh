#!/bin/bash
# Says in one line what this machine lacks for building and testing, and installs what Debian has.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

die() { echo "$*" >&2; exit 1; }

PATH=$PATH:$HOME/.cargo/bin
command -v cargo > /dev/null || die 'Rust is missing: install it from https://rustup.rs, then run this again.'
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(rustc --version | cut -d' ' -f2)
[ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ] ||
  die "Rust $found is too old, $wanted is needed: run \`rustup update stable\`, then run this again."

missing=()
need() { command -v "$1" > /dev/null || missing+=("$2"); }
need cc gcc
need curl curl
need openssl openssl
need setpriv util-linux
need ps procps
# The clients that tests speak to it with.
if [ "${1:-}" = test ]; then
  need mosquitto_pub mosquitto-clients
  need coap-client-notls libcoap3-bin
  need coap-client-openssl libcoap3-bin
  need npm npm
  # DTLS for aiocoap is built where it is installed.
  need autoreconf autoconf
  need automake automake
  need pkg-config pkg-config
  python3 -c 'import pathlib, sysconfig; assert (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists()' \
    2> /dev/null || missing+=(python3-dev)
  need chromium chromium
  python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
fi
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$UID" = 0 ] && command -v apt-get > /dev/null; then
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" > /dev/null
else
  die "These packages are missing: ${missing[*]}. Install them, then run this again."
fi
