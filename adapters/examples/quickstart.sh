#!/bin/bash
# The first message: builds the adapter, starts it on the examples, sends a message and shows it arriving.
#   ONCE=1                                   end after the first message
#   HTTP_PORT=8080 HTTPS_PORT=8443 MQTT_PORT=1883 MQTTS_PORT=8883 COAP_PORT=5683 COAPS_PORT=5684
#   ADMIN_PORT=9090                          the ports on 127.0.0.1
#   BROKER=amqp://user:password@host/        publish through this RabbitMQ instead of the broker in process
set -euo pipefail
examples=$(dirname "$(readlink -f "$0")")
cd "$examples/../.."
PATH=$PATH:$HOME/.cargo/bin
http=${HTTP_PORT:-8080} https=${HTTPS_PORT:-8443} mqtt=${MQTT_PORT:-1883} mqtts=${MQTTS_PORT:-8883} coap=${COAP_PORT:-5683}
coaps=${COAPS_PORT:-5684} admin=${ADMIN_PORT:-9090}
work=target/quickstart

die() { echo "quickstart: $*" >&2; exit 1; }
is_open() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }
# Datagrams have nobody who would answer: whether 127.0.0.1 or every address has a socket of UDP there, as Linux tells it.
is_bound() {
  grep -qsE "^ *[0-9]+: (0100007F|0{8}|0{32}|0{16}FFFF00000100007F):$(printf %04X "$1") " /proc/net/udp /proc/net/udp6
}

command -v cargo > /dev/null || die 'Rust is missing: install it from https://rustup.rs, then run this again.'
for port in HTTP:$http HTTPS:$https MQTT:$mqtt MQTTS:$mqtts ADMIN:$admin; do
  ! is_open "${port#*:}" || die "port ${port#*:} is taken: choose another with ${port%:*}_PORT=… make quickstart"
done
for port in COAP:$coap COAPS:$coaps; do
  ! is_bound "${port#*:}" || die "port ${port#*:} of UDP is taken: choose another with ${port%:*}_PORT=… make quickstart"
done

echo 'Building (some minutes the first time) …'
cargo build --quiet --locked --package adapter --package tidegate

# Keys are made once and stay with this checkout.
mkdir -p "$work/manifests"
chmod 700 "$work"
for thing in sensor dashboard; do
  [ -s "$work/$thing.key" ] ||
    (umask 077; head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' > "$work/$thing.key")
  (umask 077; cat > "$work/manifests/$thing-key.yaml" << YAML
apiVersion: v1
kind: Secret
metadata:
  namespace: lab
  name: $thing-key
  labels: {tidegate.io/credentials: "true"}
stringData:
  key: $(cat "$work/$thing.key")
YAML
  )
done
cp "$examples/channel.yaml" "$examples/things.yaml" "$work/manifests/"
tls=()
if command -v openssl > /dev/null; then
  [ -s "$work/ca.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
    -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
    -addext 'basicConstraints=critical,CA:FALSE' \
    -keyout "$work/tls.key" -out "$work/ca.pem" 2> /dev/null
  tls=(--tls-cert "$work/ca.pem" --tls-key "$work/tls.key" --listen-https "127.0.0.1:$https"
    --listen-mqtts "127.0.0.1:$mqtts")
fi

pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || :; done; wait' EXIT
trap 'exit 0' INT TERM
target/debug/adapter all --manifests "$work/manifests" --broker "${BROKER:-memory:}" \
  --listen-http "127.0.0.1:$http" --listen-mqtt "127.0.0.1:$mqtt" --listen-coap "127.0.0.1:$coap" \
  --listen-coaps "127.0.0.1:$coaps" --admin "127.0.0.1:$admin" "${tls[@]}" --log-level warn &
adapter=$!
pids+=($adapter)

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local tries=$(($1 * 10)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    kill -0 $adapter 2> /dev/null || die 'the adapter ended; what it said stands above.'
    [ $((tries -= 1)) -gt 0 ] || die "$what did not happen in time."
    sleep 0.1
  done
}
wait_for 30 'getting ready' curl -sf --noproxy '*' "http://127.0.0.1:$admin/ready"

url=http://127.0.0.1:$http/channels/lab.telemetry/messages
: > "$work/events"
curl -sN --noproxy '*' -H "Authorization: $(cat "$work/dashboard.key")" "$url/%23" > "$work/events" &
pids+=($!)
wait_for 10 'the subscription' grep -q '^: subscribed' "$work/events"

message='[{"bn":"urn:dev:sensor:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]'
echo
echo "The sensor sends:      $message"
status=$(curl -s -o /dev/null -w '%{http_code}' --noproxy '*' -X POST -H 'Content-Type: application/senml+json' \
  -H "Authorization: $(cat "$work/sensor.key")" -d "$message" "$url/hall")
echo "The adapter answers:   $status"
[ "$status" = 202 ] || die 'the message was not accepted.'
wait_for 10 'the arrival of the message' grep -qF "data: $message" "$work/events"
echo 'The dashboard receives:'
grep -v '^:' "$work/events" | grep . | sed 's/^/    /'
[ -z "${ONCE:-}" ] || exit 0

cat << TEXT

Try it yourself, in another terminal, from this folder ($PWD):

  Receive   curl -N -H "Authorization: \$(cat $work/dashboard.key)" '$url/%23'
  Send      curl -i -X POST -H 'Content-Type: application/senml+json' -H "Authorization: \$(cat $work/sensor.key)" \\
              -d '$message' $url/hall
  Over TLS  the same with --cacert $work/ca.pem and https://localhost:$https/http/channels/lab.telemetry/messages/hall
  CoAP      coap-client-openssl -u lab.sensor -k "\$(cat $work/sensor.key)" -m post -t 110 -e '$message' \\
              coaps://localhost:$coaps/channels/lab.telemetry/messages/hall
            (of Debian's package libcoap3-bin; coap-client-gnutls does the same)
  Browser   open $examples/browser.html: server ws://localhost:$http, channel lab.telemetry, subtopic #,
            and the key in $work/dashboard.key
  By hand   target/debug/tidegate check --url http://127.0.0.1:$http --thing lab.sensor --key-file $work/sensor.key --help
  Grants    edit $work/manifests/things.yaml, for example \`suspended: true\`: it counts within a second
  Metrics   curl http://127.0.0.1:$admin/metrics

Ctrl-C ends it.
TEXT
wait $adapter
