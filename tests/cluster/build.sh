#!/bin/bash
# The programs and images of the test cluster, from Debian's packages and published Go modules: about 5 minutes on
# two cores and 1 GB of download, once; returns at once while nothing has changed.
#
#   build.sh          the programs: etcd, the Kubernetes control plane and node, CoreDNS, kubectl, helm
#   build.sh nodes    also what nodes need: containerd and its like from Debian, and images
#   build.sh home     print the folder, CLUSTER_HOME (default ~/.cache/tidegate/cluster)
#
# Installs what it lacks, as root. A second caller waits for the first. An interrupted build goes on where it was.
set -euo pipefail
HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
OUT=${CLUSTER_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/cluster}
TOOLCHAIN=1.26.8 # what a machine without a Go that is new enough gets
NODE_PACKAGES=(containerd runc containernetworking-plugins iptables nftables conntrack busybox-static iproute2 gcc python3 libpcre2-8-0)

die() { echo "build.sh: $*" >&2; exit 1; }

packages() {
  local p missing=()
  for p; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$UID" = 0 ] || die "these packages are missing: ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" > /dev/null
}

# The version of a go command, as 1.26.8; nothing where there is none.
version_of() { GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed -n 's/^go//p'; }
at_least() { [ "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# Puts a Go on the PATH that go.mod is satisfied with: the one that is there, or the official toolchain, which is a
# Go module like any other. A Go older than 1.21 does not know that yet and has to be told how to unpack it.
go_that_suffices() {
  local wanted found dir
  wanted=$(sed -n 's/^go //p' "$HERE/kubernetes/go.mod")
  PATH=$PATH:/usr/local/go/bin
  command -v go > /dev/null || packages golang-go ca-certificates
  found=$(version_of go)
  if at_least "$wanted" "$found"; then
    export GOTOOLCHAIN=local
  elif at_least 1.21 "$found"; then
    export GOTOOLCHAIN=go$TOOLCHAIN
  else
    dir=$(cd /; go mod download -json "golang.org/toolchain@v0.0.1-go$TOOLCHAIN.linux-$(dpkg --print-architecture)" |
      sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
    [ -d "$dir" ] || die "no Go $TOOLCHAIN for this machine"
    chmod -R u+w "$dir"
    chmod a+x "$dir"/bin/* "$dir"/pkg/tool/*/* 2>/dev/null || chmod a+x "$dir"/bin/*
    find "$dir/src" -name _go.mod -execdir cp _go.mod go.mod \;
    export PATH=$dir/bin:$PATH GOTOOLCHAIN=local
  fi
}

# key FILE...: what the result depends on
key() { (cd "$HERE"; echo "$@"; cat "${@:2}") | sha256sum | cut -d' ' -f1; }
is_current() { [ "$(cat "$OUT/$1.key" 2>/dev/null)" = "$2" ]; }

programs() {
  local key version minor package stamps
  key=$(key "$(uname -m)" kubernetes/go.mod kubernetes/go.sum kubernetes/coredns/main.go)
  ! is_current programs "$key" || return 0
  go_that_suffices
  rm -f "$OUT/programs.key"
  # Without garbage collection and debug information the compiler takes a sixth less time, and up to 4 GiB of memory.
  export CGO_ENABLED=0 GOGC=off GOCACHE=$OUT/go-build
  (
    cd "$HERE/kubernetes"
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    minor=${version#v1.}
    stamps='-s -w'
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      stamps+=" -X $package.gitVersion=$version -X $package.gitMajor=1"
      stamps+=" -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
    done
    stamps+=" -X helm.sh/helm/v4/internal/version.version=$(go list -m -f '{{.Version}}' helm.sh/helm/v4)"
    echo 'building Kubernetes for the tests, once: about 5 minutes' >&2
    go build -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "$stamps" -o "$OUT/bin/" tool ./coredns
  )
  mv "$OUT/bin/server" "$OUT/bin/etcd" # it is called after its module's path
  rm -rf "$GOCACHE"                    # 3 GB that only another version's build could use in part
  echo "$key" > "$OUT/programs.key"
}

image() { python3 "$HERE/../../charts/image/mkimage.py" "img/$1.tar" "localhost/tidegate-test/$1:1" "${@:2}" >&2; }

# Debian's nginx with the libraries that it asks for, unpacked and not installed, since that would start it.
proxy() {
  local lib files=() dir
  dir=$(mktemp -d)
  (
    cd "$dir"
    chmod 755 .
    apt-get -qq download nginx 2>/dev/null || { apt-get -qq update && apt-get -qq download nginx 2>/dev/null; }
    dpkg -x nginx_*.deb nginx
  )
  while read -r lib; do files+=(--file "$lib:$lib"); done < <(ldd "$dir/nginx/usr/sbin/nginx" | grep -o '/lib[^ ]*')
  image nginx --file "$dir/nginx/usr/sbin/nginx:/nginx" "${files[@]}" --dir /tmp:1777 --dir /var/log/nginx:1777 \
    --entrypoint '["/nginx", "-e", "stderr", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"]' --user 65532:65532
  rm -rf "$dir"
}

images() {
  local key applet links=()
  key=$(key "$(cat "$OUT/programs.key") $(sha256sum < /bin/busybox)" build.sh ../../charts/image/mkimage.py pause.c)
  ! is_current images "$key" || return 0
  rm -f "$OUT/images.key"
  cd "$OUT"
  gcc -static -Os -s -o bin/pause "$HERE/pause.c"
  for applet in $(busybox --list | grep -vx busybox); do links+=(--link "busybox:/bin/$applet"); done
  image pause --file bin/pause:/pause --entrypoint '["/pause"]' --user 65535:65535
  image coredns --file bin/coredns:/coredns --entrypoint '["/coredns"]' --user 65532:65532
  image busybox --file /bin/busybox:/bin/busybox "${links[@]}" --dir /tmp:1777 --dir /srv:1777 --dir /etc
  proxy
  echo "$key" > "$OUT/images.key"
}

case ${1:-} in
  '' | nodes)
    mkdir -p "$OUT"/{bin,img}
    exec 9> "$OUT/lock"
    flock 9
    packages openssl util-linux
    [ -z "${1:-}" ] || packages "${NODE_PACKAGES[@]}"
    programs
    [ -z "${1:-}" ] || images
    ;;
  home) echo "$OUT" ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
