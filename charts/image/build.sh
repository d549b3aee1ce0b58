#!/bin/bash
# The image of the three programs, as static binaries on nothing: neither an engine nor a registry is asked for anything.
#
#   build.sh            build the programs, the image and its list of parts; print the image's name and its file
#   build.sh name       print the image's name: IMAGE
#   build.sh archive    print the image's file
#
# Environment: IMAGE  default localhost/tidegate:VERSION        ARCH  amd64 (default: this machine's) or arm64
#              PROFILE  default release; dev for tests          CARGO  default cargo
#
# Makes target/image/ARCH/{adapter,operator,tidegate}, target/image/tidegate-ARCH.tar (an OCI archive, as
# `ctr images import`, `podman load` and `skopeo copy oci-archive:` take it) and target/image/tidegate-ARCH.cdx.json (a
# CycloneDX bill of materials). ARCH=arm64 on another machine needs `rustup target add aarch64-unknown-linux-gnu` and
# Debian's gcc-aarch64-linux-gnu.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
PATH=$PATH:$HOME/.cargo/bin
PROGRAMS=(adapter operator tidegate)
BYTES_MAX=$((40 * 1024 * 1024))

die() { echo "build.sh: $*" >&2; exit 1; }

case $(uname -m) in x86_64) here=amd64 ;; aarch64) here=arm64 ;; *) here='' ;; esac
arch=${ARCH:-$here}
case $arch in amd64) target=x86_64-unknown-linux-gnu ;; arm64) target=aarch64-unknown-linux-gnu ;; *) die "ARCH=amd64 or ARCH=arm64 is needed" ;; esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
image=${IMAGE:-localhost/tidegate:$version}
out=${CARGO_TARGET_DIR:-target}/image
profile=${PROFILE:-release}
archive=$out/tidegate-$arch.tar

build() {
  local program flags=() linker strip=strip built=${CARGO_TARGET_DIR:-target}/$target/${profile/#dev/debug}
  if [ "$arch" != "$here" ]; then
    linker=${target/-unknown/}-gcc
    command -v "$linker" > /dev/null || die "$linker is missing"
    strip=${target/-unknown/}-strip
    export "CC_${target//-/_}=$linker" "CARGO_TARGET_$(tr a-z- A-Z_ <<< "$target")_LINKER=$linker"
  fi
  for program in "${PROGRAMS[@]}"; do flags+=(--package "$program"); done
  # --target even for the machine's own: what makes programs static must not reach build scripts and macros.
  RUSTFLAGS='-C target-feature=+crt-static' ${CARGO:-cargo} build --profile "$profile" --locked --target "$target" "${flags[@]}"
  mkdir -p "$out/$arch"
  files=()
  for program in "${PROGRAMS[@]}"; do
    install -m 755 --strip --strip-program="$strip" "$built/$program" "$out/$arch/$program"
    files+=(--file "$out/$arch/$program:/usr/local/bin/$program")
  done
  python3 charts/image/sbom.py "$target" "${PROGRAMS[@]}" > "$out/tidegate-$arch.cdx.json"
  python3 charts/image/mkimage.py "$archive" "$image" "${files[@]}" --user 65532:65532 --arch "$arch" \
    --cmd '["tidegate", "--help"]' --label "org.opencontainers.image.version=$version" \
    --label org.opencontainers.image.title=Tidegate --label org.opencontainers.image.licenses=Apache-2.0 >&2
  # What is built for tests is not built to be small.
  [ "$profile" != release ] || [ "$(stat -c %s "$archive")" -lt "$BYTES_MAX" ] || die "$archive has more than $BYTES_MAX bytes"
  echo "$image $archive"
}

case ${1:-} in
  '') build ;;
  name) echo "$image" ;;
  archive) echo "$archive" ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
