#!/bin/bash
# RabbitMQ 4 on loopback for tests: Debian's packages unpacked in a folder, no container engine, no epmd, no leftovers.
#
#   rabbitmq.sh prepare                           fetch and unpack, once
#   rabbitmq.sh start NAME [OPTION]...            boot a broker and print its AMQP URL
#   rabbitmq.sh with  NAME [OPTION]... -- CMD...  boot one, run CMD with its addresses in the environment, end it
#   rabbitmq.sh env   NAME                        print its addresses, as shell assignments
#   rabbitmq.sh ctl   NAME COMMAND...             rabbitmqctl inside it (`ctl NAME stop` ends it gracefully)
#   rabbitmq.sh stop  NAME...                     kill it at once, as a crash would
#   rabbitmq.sh root                              print the folder
#   rabbitmq.sh image OUT.tar NAME:TAG            the same as an image for a pod, an OCI archive, for the user 5672: with a
#                                                 writable /var/lib/rabbitmq, and rabbitmq.conf and enabled_plugins in
#                                                 /etc/rabbitmq
#   rabbitmq.sh certs DIR [HOST]                  a throwaway CA (ca.pem) and a server certificate (server.pem, server.key)
#
# Options of start and with:
#   --owner PID         the broker ends when this process does; the default is the caller. Scripts: --owner $$
#   --address A         127.0.0.1, or another address of 127.0.0.0/24 for each node of a cluster
#   --amqp P --dist P   ports; one that is free is taken where none is given
#   --tls P --certs DIR, --stream P, --metrics P, --mqtt P, --management P
#                       also open these (0: any free port), with the plugin that each needs
#   --definitions FILE  users, permissions and topology, imported at boot; there is no guest then, so give
#   --user NAME:SECRET  the login to print in the URLs (guest:guest)
#   --config FILE       lines for the end of rabbitmq.conf
#   --data DIR          keep the data here; else it is thrown away at the end
#   --cluster A,A,A     form a cluster with the nodes at these addresses: same --dist, all started at once
#
# Works as root, and as an ordinary user where user namespaces are allowed. A broker never outlives its owner: the
# supervisor watches the owner, the kernel kills the broker's pid namespace when the supervisor ends.
#
# Three nodes:
#   for n in 1 2 3; do rabbitmq.sh start n$n --owner $$ --address 127.0.0.1$n --amqp 25672 --dist 25673 \
#     --cluster 127.0.0.11,127.0.0.12,127.0.0.13 & done; wait
# (of rabbitmqctl, `list_queues` needs --local there: rabbitmqctl listens nowhere, so other nodes cannot answer it)
set -euo pipefail

SUITE=${RABBITMQ_SUITE:-trixie}
ROOT=${RABBITMQ_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/rabbitmq-$SUITE}
RUN=${RABBITMQ_RUN:-${TMPDIR:-/tmp}/tidegate-rabbitmq.$UID}
SELF=$(readlink -f "$0")
. "$(dirname "$SELF")/../supervisor.sh"
HELPER=/etc/rabbitmq/helper # .config
ID=5672 # the user and group of the broker

die() { echo "rabbitmq.sh: $*" >&2; exit 1; }

prepare() {
  [ ! -e "$ROOT/.complete" ] || return 0
  mkdir -p "$(dirname "$ROOT")"
  (flock 8; [ -e "$ROOT/.complete" ] || fetch) 8> "$ROOT.lock"
}

fetch() {
  local w mirror p
  w=$(mktemp -d "$ROOT.XXXXXX")
  trap "rm -rf '$w'" EXIT
  chmod 755 "$w"
  mkdir -p "$w"/apt/{lists/partial,cache/archives/partial} "$w/root"

  # The machine's own mirror, the suite's own package lists, and none of the machine's apt state.
  # What only maintainer scripts and rabbitmqadmin need counts as installed already.
  mirror=$(. /etc/os-release; apt-get update --print-uris | sed -n "s,^'\(.*\)/dists/$VERSION_CODENAME/InRelease'.*,\1,p;T;q")
  [ "$mirror" ] || die 'no Debian mirror in /etc/apt'
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nTargets: Packages\nSigned-By: %s\n' \
    "$mirror" "$SUITE" /usr/share/keyrings/debian-archive-keyring.gpg > "$w/apt/debian.sources"
  for p in adduser debconf openssl procps python3 socat; do
    printf 'Package: %s\nStatus: install ok installed\nVersion: 999\nArchitecture: %s\nMulti-Arch: allowed\nMaintainer: none\nDescription: none\n\n' \
      "$p" "$(dpkg --print-architecture)"
  done > "$w/apt/status"
  cat > "$w/apt.conf" <<EOF
Dir::Etc::sourcelist "$w/apt/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$w/apt";
Dir::State::status "$w/apt/status";
Dir::Cache "$w/apt/cache";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
EOF
  apt-get -c "$w/apt.conf" -qq update
  apt-get -c "$w/apt.conf" -qq -y --download-only install rabbitmq-server busybox-static

  for p in "$w"/apt/cache/archives/*.deb; do dpkg -x "$p" "$w/root"; done
  (
    cd "$w/root"
    for p in bin sbin lib lib64; do [ -e $p ] || ln -s usr/$p $p; done
    for p in $(usr/bin/busybox --list); do [ -e "usr/bin/$p" ] || ln -s busybox "usr/bin/$p"; done
    rm -rf usr/share/{doc,man,locale,lintian,gdb,gcc,bug} usr/lib/*/gconv usr/lib/*/perl* etc/{init.d,logrotate.d,default}
    mkdir -p dev proc tmp run root etc/rabbitmq var/lib/rabbitmq var/log/rabbitmq
    chmod 1777 tmp
    chmod 755 . var/lib/rabbitmq var/log/rabbitmq
    printf 'root:x:0:0::/root:/bin/sh\nrabbitmq:x:%s:%s::/var/lib/rabbitmq:/bin/sh\n' $ID $ID > etc/passwd
    printf 'root:x:0:\nrabbitmq:x:%s:\n' $ID > etc/group
    printf '127.0.0.1 localhost\n::1 localhost\n' > etc/hosts
    printf 'hosts: files dns\n' > etc/nsswitch.conf
    helper_config 127.0.0.1 > usr/lib/rabbitmq/helper.config
    for p in usr/lib/erlang/lib/crypto-*/priv/lib/*.so usr/lib/erlang/erts-*/bin/beam.smp; do
      ! usr/lib/*/ld-linux*.so.* --library-path "$(echo usr/lib/*-linux-gnu)" --list $p | grep 'not found' ||
        die "$p lacks a library"
    done
    basename usr/lib/rabbitmq/lib/rabbitmq_server-* > .complete
  )
  rm -rf "$ROOT"
  mv "$w/root" "$ROOT"
}

is_open() { (exec 3<> "/dev/tcp/$1/$2") 2>/dev/null; }

taken=' '
# Sets the variable named $1 to a free port, or checks the port it holds.
port() {
  local p=${!1}
  if [ "$p" = 0 ]; then
    while p=$((20000 + RANDOM % 10000)); [[ $taken == *" $p "* ]] || is_open "$ADDRESS" $p; do :; done
  else
    ! is_open "$ADDRESS" "$p" || die "port $p at $ADDRESS is in use"
  fi
  taken+="$p "
  printf -v "$1" %s "$p"
}

# supervisor -> unshare -> PID 1 -> rabbitmq-server -> beam, the last two inside
descendant() {
  local pid=$1 n=$2
  while ((n--)); do read -r pid _ < "/proc/$pid/task/$pid/children"; done
  echo "$pid"
}

# RabbitMQ's short-lived helper nodes (peer discovery, a look at epmd once a minute) listen on the broker's port too,
# so they get another address. The broker's own is on its command line, which wins.
helper_config() { echo "[{kernel, [{inet_dist_use_interface, {127,0,1,${1##*.}}}]}]."; }

broker_env() { # the environment of the broker and of rabbitmqctl, as an array
  broker=(
    HOME=/var/lib/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin LANG=C.UTF-8
    RABBITMQ_NODENAME="rabbit@$ADDRESS" RABBITMQ_USE_LONGNAME=true RABBITMQ_DIST_PORT="$DIST"
    RABBITMQ_CONFIG_FILE=/etc/rabbitmq/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=/etc/rabbitmq/enabled_plugins
    RABBITMQ_MNESIA_BASE=/var/lib/rabbitmq/mnesia RABBITMQ_PID_FILE=/var/lib/rabbitmq/pid RABBITMQ_LOGS=-
    # No epmd: every node listens on this port, at the address in its name. With -name the distribution is up
    # before RabbitMQ looks, so that it starts no epmd either. Port 1 keeps it from a foreign epmd.
    ERL_EPMD_PORT=1 ERL_FLAGS="-start_epmd false -erl_epmd_port $DIST -config $HELPER"
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-name rabbit@$ADDRESS -kernel inet_dist_use_interface {${ADDRESS//./,}}"
    RABBITMQ_CTL_ERL_ARGS="-start_epmd false -erl_epmd_port $DIST -dist_listen false"
  )
}

# PID 1 of the broker's pid and mount namespaces. It stays as it is (no exec, no change of user), else the kernel
# forgets to kill it with its parent.
_inside() {
  local d as=()
  mount --bind "$ROOT" "$DIR/root"
  cd "$DIR/root"
  mount -t tmpfs -o mode=755 none dev
  for d in null zero random urandom tty; do : > dev/$d; mount --bind /dev/$d dev/$d; done
  mount -t proc none proc
  mount -t tmpfs none tmp
  mount --bind "$DIR/etc" etc/rabbitmq
  mount --bind "$DATA" var/lib/rabbitmq
  mount -o remount,bind,ro .
  [ "$ROOTLESS" ] || as=(--userspec=$ID:$ID --groups=)
  broker_env
  env -i "${broker[@]}" chroot "${as[@]}" . /usr/lib/rabbitmq/bin/rabbitmq-server
}

_supervise() {
  local unshare=(unshare --mount --pid --fork --kill-child=SIGKILL)
  [ ! "$ROOTLESS" ] || unshare+=(--user --map-root-user)
  guard "${unshare[@]}" bash "$SELF" _inside
  rm -rf "$DIR"
}

start() {
  local name=${1:-} config='' plugins='' definitions='' certs='' cluster='' node i=1
  local user=guest:guest amqp=0 tls='' stream='' metrics='' mqtt='' management=''
  [[ $name =~ ^[a-z0-9-]+$ ]] || die 'start needs a NAME of a-z, 0-9 and -'
  shift
  OWNER=$PPID ADDRESS=127.0.0.1 DIST=0 DATA='' ROOTLESS=
  while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || die "$1 needs a value"
    case $1 in
      --owner) OWNER=$2 ;; --address) ADDRESS=$2 ;; --dist) DIST=$2 ;; --data) DATA=$2 ;;
      --amqp) amqp=$2 ;; --tls) tls=$2 ;; --certs) certs=$2 ;; --stream) stream=$2 ;; --metrics) metrics=$2 ;;
      --mqtt) mqtt=$2 ;; --management) management=$2 ;; --definitions) definitions=$2 ;; --config) config=$2 ;;
      --user) user=$2 ;; --cluster) cluster=$2 ;;
      *) die "unknown option $1" ;;
    esac
    shift 2
  done
  [ "$UID" = 0 ] || ROOTLESS=1
  OWNER_BORN=$(born "$OWNER")
  [ "$OWNER_BORN" ] || die "no process $OWNER"
  prepare
  DIR=$RUN/$name
  mkdir -p "$RUN"
  supervisor "$name" > /dev/null || rm -rf "$DIR" # left by a supervisor that was killed
  mkdir "$DIR" 2>/dev/null || die "$name runs already"
  trap 'rm -rf "$DIR"' EXIT
  mkdir "$DIR"/{root,etc}
  if [ "$DATA" ]; then mkdir -p "$DATA"; DATA=$(readlink -f "$DATA"); else DATA=$DIR/data; mkdir "$DATA"; fi
  export OWNER OWNER_BORN ADDRESS DIST DATA DIR ROOT ROOTLESS

  port amqp
  port DIST
  {
    echo "listeners.tcp.1 = $ADDRESS:$amqp"
    [ ! "$tls" ] || {
      port tls
      cp "$certs"/{ca.pem,server.pem,server.key} "$DIR/etc/"
      echo "listeners.ssl.1 = $ADDRESS:$tls"
      printf 'ssl_options.%s\n' 'cacertfile = /etc/rabbitmq/ca.pem' 'certfile = /etc/rabbitmq/server.pem' \
        'keyfile = /etc/rabbitmq/server.key' 'verify = verify_peer' 'fail_if_no_peer_cert = false'
    }
    [ ! "$stream" ] || { port stream; plugins+=,rabbitmq_stream; echo "stream.listeners.tcp.1 = $ADDRESS:$stream"; }
    [ ! "$mqtt" ] || { port mqtt; plugins+=,rabbitmq_mqtt; echo "mqtt.listeners.tcp.1 = $ADDRESS:$mqtt"; }
    [ ! "$metrics" ] || {
      port metrics; plugins+=,rabbitmq_prometheus
      printf 'prometheus.tcp.%s\n' "ip = $ADDRESS" "port = $metrics"
    }
    [ ! "$management" ] || {
      port management; plugins+=,rabbitmq_management
      printf 'management.tcp.%s\n' "ip = $ADDRESS" "port = $management"
    }
    [ ! "$definitions" ] || {
      cp "$definitions" "$DIR/etc/definitions.json"
      echo 'load_definitions = /etc/rabbitmq/definitions.json'
    }
    [ ! "$cluster" ] || {
      echo 'cluster_formation.peer_discovery_backend = classic_config'
      for node in ${cluster//,/ }; do echo "cluster_formation.classic_config.nodes.$((i++)) = rabbit@$node"; done
    }
    [ ! "$config" ] || cat "$config"
  } > "$DIR/etc/rabbitmq.conf"
  helper_config "$ADDRESS" > "$DIR/etc/helper.config"
  echo "[${plugins#,}]." > "$DIR/etc/enabled_plugins"
  [ -e "$DATA/.erlang.cookie" ] || (umask 077; echo loopback-tests-only > "$DATA/.erlang.cookie")
  chmod -R u+rX,go-w "$DIR/etc"
  [ "$ROOTLESS" ] || chown -R $ID:$ID "$DIR/etc" "$DATA"
  {
    echo "AMQP_URL=amqp://$user@$ADDRESS:$amqp/%2f"
    [ ! "$tls" ] || echo "AMQPS_URL=amqps://$user@$ADDRESS:$tls/%2f"
    [ ! "$stream" ] || echo "STREAM_ADDRESS=$ADDRESS:$stream"
    [ ! "$mqtt" ] || echo "MQTT_ADDRESS=$ADDRESS:$mqtt"
    [ ! "$metrics" ] || echo "METRICS_URL=http://$ADDRESS:$metrics/metrics"
    [ ! "$management" ] || echo "MANAGEMENT_URL=http://$user@$ADDRESS:$management"
  } > "$DIR/env"

  local pid log
  echo "$ADDRESS $DIST" > "$DIR/node"
  : > "$DIR/log"
  exec {log}< "$DIR/log"
  setsid bash "$SELF" _supervise < /dev/null > "$DIR/log" 2>&1 &
  pid=$!
  echo $pid > "$DIR/pid"
  trap 'kill $pid 2>/dev/null || :' EXIT
  for ((i = 0; i < 1200; i++)); do
    if is_open "$ADDRESS" "$amqp"; then
      trap - EXIT
      echo "BROKER_PID=$(descendant $pid 4)" >> "$DIR/env" # to kill or pause
      sed -n 's/^AMQP_URL=//p' "$DIR/env"
      return
    fi
    [ "$(born $pid)" ] || break
    sleep 0.1
  done
  { grep -F '[error]' || tail -n 20 "/dev/fd/$log"; } <&$log | head -n 20 >&2
  die "$name did not start"
}

ctl() {
  local name=$1 pid as=()
  shift
  supervisor "$name" > /dev/null || die "no broker $name"
  read -r ADDRESS DIST < "$RUN/$name/node"
  pid=$(descendant "$(supervisor "$name")" 3)
  broker_env
  if [ "$UID" = 0 ]; then as=(--setuid $ID --setgid $ID); else as=(--user --preserve-credentials); fi
  exec nsenter --target "$pid" --mount --pid --root --wd "${as[@]}" env -i "${broker[@]}" /usr/lib/rabbitmq/bin/rabbitmqctl "$@"
}

with() {
  local name=${1:-} options=() rc=0
  while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
  [ $# -gt 1 ] || die 'with needs -- and a command'
  shift
  start "${options[@]}" --owner $$ > /dev/null
  trap 'stop "$name"' EXIT
  set -a
  . "$DIR/env"
  set +a
  "$@" || rc=$?
  exit $rc
}

certs() {
  local dir=$1 host=${2:-localhost}
  mkdir -p "$dir"
  cd "$dir"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Test CA' \
    -keyout ca.key -out ca.pem 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$host" -keyout server.key -out server.csr 2>/dev/null
  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out server.pem 2>/dev/null \
    -extfile <(printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' "$host")
  rm server.csr
}

# What an image of the root is to run with: one broker, its distribution on the pod's loopback.
image_env() {
  ADDRESS=127.0.0.1 DIST=25672 HELPER=/usr/lib/rabbitmq/helper
  broker_env
  printf '%s\n' "${broker[@]}"
}

image() {
  local line env=()
  prepare
  while IFS= read -r line; do env+=(--env "$line"); done < <(image_env)
  python3 "$(dirname "$SELF")/../../charts/image/mkimage.py" "$1" "$2" --tree "$ROOT" --compress none \
    --owner 5672:5672:/var/lib/rabbitmq --owner 5672:5672:/var/log/rabbitmq \
    --entrypoint '["/usr/lib/rabbitmq/bin/rabbitmq-server"]' --user 5672:5672 --workdir /var/lib/rabbitmq "${env[@]}"
}

case ${1:-} in
  prepare | start | stop | ctl | with | certs | image | _inside | _supervise) "$@" ;;
  env) cat "$RUN/$2/env" ;;
  root) echo "$ROOT" ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$SELF"; exit 2 ;;
esac
