#!/bin/bash
# A real Kubernetes control plane on loopback for tests: etcd, kube-apiserver and kube-controller-manager, no nodes.
#
#   control-plane.sh start NAME [OPTION]...  bring one up and print its folder; returns when the API server is ready
#   control-plane.sh stop NAME...            kill all of it at once and throw its state away
#   control-plane.sh api-down NAME           kill the API server as a crash would, and keep it down
#   control-plane.sh api-up NAME             let it come back; returns when it is ready
#   control-plane.sh kubectl ARG...          kubectl as build.sh makes it
#
# Options of start:
#   --owner PID        all of it ends when this process does; the default is the caller
#   --apiserver FLAG   one more flag of kube-apiserver; may be repeated
#   --controllers FLAG one more flag of kube-controller-manager; may be repeated
#   --audit            write who asked for what to audit.log
#
# In the folder: kubeconfig (of an administrator), url, ca.crt, {etcd,apiserver,controllers}.{log,pid}, audit.log.
# Works as root, and as an ordinary user where user namespaces are allowed. It never outlives its owner: the
# supervisor watches the owner, the kernel kills the pid namespace with everything in it when the supervisor ends.
set -euo pipefail

SELF=$(readlink -f "$0")
HERE=$(dirname "$SELF")
RUN=${CLUSTER_RUN:-${TMPDIR:-/tmp}/tidegate-cluster.$UID}
BIN=$("$HERE/build.sh" home)/bin
export PATH=$BIN:$PATH
. "$HERE/../supervisor.sh"

die() { echo "control-plane.sh: $*" >&2; exit 1; }

is_open() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

taken=' '
# Sets the variable named $1 to a free port below those that the kernel gives away.
port() {
  local p
  while p=$((20000 + RANDOM % 10000)); [[ $taken == *" $p "* ]] || is_open $p; do :; done
  taken+="$p "
  printf -v "$1" %s "$p"
}

# cert NAME SUBJECT USAGE [SAN]
cert() {
  printf '[req]\ndistinguished_name=d\nx509_extensions=x\n[d]\n[x]\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n%s\n' \
    "$3" "${4:+subjectAltName=$4}" |
    openssl req -x509 -config /dev/stdin -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 \
      -CA ca.crt -CAkey ca.key -subj "$2" -keyout "$1.key" -out "$1.crt" 2>/dev/null
}

# kubeconfig NAME FILE: a file that needs no other, from NAME.crt and NAME.key
kubeconfig() {
  cat > "$2" <<K
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$(cat url)", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
K
}

certificates() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj '/CN=Test CA' \
    -keyout ca.key -out ca.crt 2>/dev/null
  openssl genrsa -out tokens.key 2048 2>/dev/null
  openssl rsa -in tokens.key -pubout -out tokens.pub 2>/dev/null
  cert apiserver /CN=kube-apiserver serverAuth \
    DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1
  cert admin /O=system:masters/CN=admin clientAuth
  cert controllers /CN=system:kube-controller-manager clientAuth
  kubeconfig admin kubeconfig
  kubeconfig controllers controllers.kubeconfig
}

# keep NAME COMMAND...: runs it, and again when it ends, with its own pid as this machine counts it in NAME.pid;
# not while there is a file NAME.down.
keep() {
  local name=$1
  shift
  while :; do
    [ -e "$name.down" ] || bash -c 'read -r pid _ < /proc/self/stat; echo $pid > "$0.pid"; exec "$@"' "$name" "$@" >> "$name.log" 2>&1 || :
    rm -f "$name.pid"
    sleep 0.05
  done
}

# PID 1 of the control plane's pid namespace.
_inside() {
  local api=() controllers=()
  mapfile -t api < api.flags
  mapfile -t controllers < controllers.flags
  keep etcd etcd --data-dir "$PWD/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$ETCD" --advertise-client-urls "http://127.0.0.1:$ETCD" \
    --listen-peer-urls "http://127.0.0.1:$PEER" --initial-advertise-peer-urls "http://127.0.0.1:$PEER" \
    --initial-cluster "default=http://127.0.0.1:$PEER" &
  # The address is loopback, which no Endpoints may hold: so none are written.
  keep apiserver kube-apiserver --etcd-servers="http://127.0.0.1:$ETCD" \
    --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$API" --endpoint-reconciler-type=none \
    --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=tokens.pub --service-account-signing-key-file=tokens.key \
    --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false "${api[@]}" &
  # It gives up or backs off when it comes before the API server and its bootstrap roles.
  until kubectl --kubeconfig kubeconfig get --raw /readyz > /dev/null 2>&1; do sleep 0.05; done
  : > ready
  keep controllers kube-controller-manager --kubeconfig=controllers.kubeconfig \
    --authentication-kubeconfig=controllers.kubeconfig --authorization-kubeconfig=controllers.kubeconfig \
    --secure-port=0 --root-ca-file=ca.crt --service-account-private-key-file=tokens.key \
    --use-service-account-credentials --allocate-node-cidrs=false --leader-elect=false --profiling=false \
    --kube-api-qps=500 --kube-api-burst=1000 --flex-volume-plugin-dir="$PWD/flexvolume" "${controllers[@]}" &
  while :; do wait || :; sleep 1; done # also reaps what is orphaned here
}

_supervise() {
  local unshare=(unshare --pid --fork --kill-child=SIGKILL)
  [ "$UID" = 0 ] || unshare+=(--user --map-root-user)
  guard "${unshare[@]}" bash "$SELF" _inside
  # What was inside may write its last while the folder goes.
  while [ -e "$DIR" ]; do rm -rf "$DIR" 2>/dev/null || :; done
}

start() {
  local name=${1:-} audit='' i pid api=() controllers=()
  [[ $name =~ ^[a-z0-9-]+$ ]] || die 'start needs a NAME of a-z, 0-9 and -'
  shift
  OWNER=$PPID
  while [ $# -gt 0 ]; do
    case $1 in
      --audit) audit=1; shift; continue ;;
      --owner | --apiserver | --controllers) [ $# -gt 1 ] || die "$1 needs a value" ;;&
      --owner) OWNER=$2 ;;
      --apiserver) api+=("$2") ;;
      --controllers) controllers+=("$2") ;;
      *) die "unknown option $1" ;;
    esac
    shift 2
  done
  OWNER_BORN=$(born "$OWNER")
  [ "$OWNER_BORN" ] || die "no process $OWNER"
  "$HERE/build.sh"

  (umask 077; mkdir -p "$RUN")
  sweep
  DIR=$RUN/$name
  mkdir -m 700 "$DIR" 2>/dev/null || die "$name runs already"
  trap 'rm -rf "$DIR"' EXIT
  cd "$DIR"
  port API
  port ETCD
  port PEER
  export OWNER OWNER_BORN DIR API ETCD PEER
  echo "https://127.0.0.1:$API" > url
  if [ "$audit" ]; then
    printf '%s\n' 'apiVersion: audit.k8s.io/v1' 'kind: Policy' 'omitStages: [RequestReceived]' \
      'rules: [{level: Metadata}]' > audit.yaml
    api+=(--audit-policy-file=audit.yaml --audit-log-path=audit.log --audit-log-mode=blocking)
  fi
  : > api.flags
  : > controllers.flags
  [ ${#api[@]} = 0 ] || printf '%s\n' "${api[@]}" > api.flags
  [ ${#controllers[@]} = 0 ] || printf '%s\n' "${controllers[@]}" > controllers.flags
  certificates

  setsid bash "$SELF" _supervise < /dev/null > supervisor.log 2>&1 &
  pid=$!
  echo $pid > pid
  trap 'kill $pid 2>/dev/null || :' EXIT
  for ((i = 0; i < 1200; i++)); do
    if [ -e ready ]; then
      trap - EXIT
      echo "$DIR"
      return
    fi
    [ "$(born $pid)" ] || break
    sleep 0.05
  done
  tail -n 8 ./*.log >&2 2>/dev/null || :
  die "$name did not start"
}

# Removes the folders whose supervisor was killed.
sweep() {
  local dir
  for dir in "$RUN"/*/; do
    [ ! -s "$dir/pid" ] || supervisor "$(basename "$dir")" > /dev/null || rm -rf "$dir"
  done
}

api-down() {
  local pid
  cd "$RUN/$1"
  : > apiserver.down
  read -r pid < apiserver.pid || return 0
  kill -KILL "$pid"
  while [ "$(born "$pid")" ]; do sleep 0.02; done
}

api-up() {
  local i
  cd "$RUN/$1"
  rm -f apiserver.down
  for ((i = 0; i < 600; i++)); do
    ! kubectl --kubeconfig kubeconfig get --raw /readyz > /dev/null 2>&1 || return 0
    sleep 0.05
  done
  tail -n 8 apiserver.log >&2
  die "the API server of $1 did not come back"
}

case ${1:-} in
  start | stop | api-down | api-up | _inside | _supervise) "$@" ;;
  kubectl) [ -x "$BIN/kubectl" ] || "$HERE/build.sh"; exec "$BIN/$@" ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$SELF"; exit 2 ;;
esac
