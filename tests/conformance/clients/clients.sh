#!/bin/bash
# Puts the clients of others that tests speak with into the cache, in fixed versions; says where they are.
set -euo pipefail

die() { echo "$*" >&2; exit 1; }

PAHO=2.1.0
MQTT_JS=5.14.1
cache=${TIDEGATE_CACHE:-$HOME/.cache/tidegate}/clients
done_file=$cache/paho-$PAHO-mqttjs-$MQTT_JS

if [ ! -e "$done_file" ]; then
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9
fi
if [ ! -e "$done_file" ]; then
  rm -rf "$cache/python" "$cache/node"
  python3 -m venv "$cache/python"
  "$cache/python/bin/pip" --quiet --disable-pip-version-check install "paho-mqtt==$PAHO" ||
    die "paho-mqtt $PAHO cannot be had from PyPI."
  npm install --silent --no-audit --no-fund --prefix "$cache/node" "mqtt@$MQTT_JS" > /dev/null ||
    die "mqtt $MQTT_JS cannot be had from npm."
  touch "$done_file"
fi
echo "$cache"
