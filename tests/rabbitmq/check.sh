#!/bin/bash
# Shows that rabbitmq.sh keeps its promises. Needs amqp-tools, openssl and curl; root or user namespaces.
# check.sh [ROOT]: with no argument it prepares a root of its own first.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
broker=$here/rabbitmq.sh
work=$(mktemp -d)
export RABBITMQ_RUN=$work/run RABBITMQ_ROOT=${1:-$work/root}
trap 'for b in "$RABBITMQ_RUN"/*/; do [ -d "$b" ] && "$broker" stop "$(basename "$b")"; done; rm -rf "$work"' EXIT
ms() { echo $(($(date +%s%N) / 1000000)); }
say() { printf '%-46s %s\n' "$1" "${2:-ok}"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
gone() { # NAME: nothing of that broker is left within 2 s
  for _ in {1..40}; do [ -e "/proc/$pid" ] || [ -e "$RABBITMQ_RUN/$1" ] || return 0; sleep 0.05; done
  [ ! -e "/proc/$pid" ] || fail "the broker $1 lives on"
}

t=$(ms); "$broker" prepare; say "prepare" "$(($(ms) - t)) ms, $(du -sm "$RABBITMQ_ROOT" | cut -f1) MiB"

t=$(ms); url=$("$broker" start a --owner $$ --stream 0 --metrics 0); say "boot to an open port" "$(($(ms) - t)) ms, $url"
. "$RABBITMQ_RUN/a/env"; pid=$BROKER_PID
say "memory" "$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status") MiB resident"
amqp-declare-queue -u "$url" -q q -d > /dev/null; amqp-publish -u "$url" -r q -b hello
[ "$(amqp-get -u "$url" -q q)" = hello ] && say "publish, get"
curl -sf "$METRICS_URL" | grep -q '^rabbitmq_build_info' && say "metrics"
"$broker" ctl a -q list_users | grep -q '^guest' && say "rabbitmqctl"
! "$broker" start a --owner $$ 2> /dev/null && say "a name twice is refused"
! "$broker" start b --owner $$ --amqp "${url//[^0-9]*:/}" 2> /dev/null || fail port
"$broker" stop a; gone a; say "stop"

for victim in supervisor unshare init script broker; do
  "$broker" start k --owner $$ > /dev/null; . "$RABBITMQ_RUN/k/env"; pid=$BROKER_PID
  chain=("$(< "$RABBITMQ_RUN/k/pid")"); for _ in 1 2 3 4; do chain+=("$(cut -d' ' -f1 "/proc/${chain[-1]}/task/${chain[-1]}/children")"); done
  case $victim in supervisor) n=0 ;; unshare) n=1 ;; init) n=2 ;; script) n=3 ;; broker) n=4 ;; esac
  kill -KILL "${chain[n]}"; gone k; say "kill -9 of the $victim ends all"
done
bash -c '"$0" start o > /dev/null; exec sleep 60' "$broker" & owner=$!
until [ -e "$RABBITMQ_RUN/o/env" ] && grep -q BROKER "$RABBITMQ_RUN/o/env"; do sleep 0.1; done
. "$RABBITMQ_RUN/o/env"; pid=$BROKER_PID; kill -KILL $owner; wait $owner 2> /dev/null || :; gone o; say "kill -9 of the owner ends all"

# RabbitMQ writes new queues and unconfirmed messages down after a moment.
url=$("$broker" start d --owner $$ --data "$work/data")
amqp-declare-queue -u "$url" -q q -d > /dev/null; amqp-publish -p -u "$url" -r q -b kept; sleep 3
. "$RABBITMQ_RUN/d/env"; kill -KILL "$BROKER_PID"; while [ -e "$RABBITMQ_RUN/d" ]; do sleep 0.05; done
url=$("$broker" start d --owner $$ --data "$work/data")
[ "$(amqp-get -u "$url" -q q)" = kept ] && say "a persistent message outlives kill -9"
t=$(ms); "$broker" ctl d -q stop; while [ -e "$RABBITMQ_RUN/d" ]; do sleep 0.05; done; say "graceful stop" "$(($(ms) - t)) ms"

"$broker" certs "$work/certs"
"$broker" start t --owner $$ --definitions "$here/definitions.json" --user adapter:adapter --tls 0 --certs "$work/certs" > /dev/null
. "$RABBITMQ_RUN/t/env"
amqp-declare-queue -u "$AMQP_URL" -q adapter.1 > /dev/null && amqp-publish -u "$AMQP_URL" -e messages -r a.b -b x && say "definitions: what the user may"
! amqp-declare-queue -u "$AMQP_URL" -q other > /dev/null 2>&1 && ! amqp-declare-queue -u "${AMQP_URL/adapter:adapter/guest:guest}" -q adapter.2 > /dev/null 2>&1 &&
  say "definitions: what it may not, and no guest"
tls=${AMQPS_URL#*@}; tls=${tls%%/*}
openssl s_client -connect "$tls" -CAfile "$work/certs/ca.pem" -verify_return_error < /dev/null 2>&1 | grep -q 'Verify return code: 0' && say "TLS, verified with the test CA"
! openssl s_client -connect "$tls" -CAfile /dev/null -verify_return_error < /dev/null > /dev/null 2>&1 && say "TLS, refused without it"
"$broker" stop t

node() { "$broker" start "n$1" --owner $$ --address "127.0.0.1$1" --amqp 25672 --dist 25673 --data "$work/n$1" --cluster 127.0.0.11,127.0.0.12,127.0.0.13 > /dev/null; }
members() { "$broker" ctl "$1" -q cluster_status --formatter json | grep -o '"running_nodes":\[[^]]*\]'; }
t=$(ms); node 1 & node 2 & node 3 & wait; say "three nodes" "$(($(ms) - t)) ms, $(members n1)"
url=amqp://guest:guest@127.0.0.12:25672
"$broker" ctl n2 -q eval 'rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"qq">>), true, false, [{<<"x-queue-type">>, longstr, <<"quorum">>}], none, <<"guest">>), ok.' > /dev/null
for i in 1 2 3 4 5; do amqp-publish -p -u $url -r qq -b "before $i"; done
sleep 3
. "$RABBITMQ_RUN/n1/env"; kill -KILL "$BROKER_PID"; while [ -e "$RABBITMQ_RUN/n1" ]; do sleep 0.05; done
for i in 1 2 3 4 5; do amqp-publish -p -u $url -r qq -b "after $i"; done
say "one killed" "$(members n2)"
t=$(ms); node 1; say "and back" "$(($(ms) - t)) ms, $(members n2)"
n=0; while amqp-get -u "${url/12:/11:}" -q qq > /dev/null 2>&1; do n=$((n + 1)); done
[ $n = 10 ] && say "all 10 quorum messages read from it"
"$broker" stop n1 n2 n3

! pgrep -x epmd > /dev/null && [ -z "$(ls "$RABBITMQ_RUN")" ] && say "nothing left, no epmd"
