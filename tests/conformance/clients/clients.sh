#!/bin/bash
# Puts the clients of others that tests speak with into the cache, in fixed versions; says where they are.
set -euo pipefail

die() { echo "$*" >&2; exit 1; }

PYTHON=(paho-mqtt==2.1.0 websockets==17.4 kosoku==0.1.0 aiocoap==0.4.17 DTLSSocket==0.2.3)
# The last of playwright-core that runs on Node 18.
NODE=(mqtt@5.14.1 ws@8.23.0 paho-mqtt@1.1.0 playwright-core@1.61.1 coap-cli@0.7.1)
cache=${TIDEGATE_CACHE:-$HOME/.cache/tidegate}/clients
# Named by all that is in it, so that another set is another one.
done_file=$cache/$(IFS=_; echo "${PYTHON[*]}_${NODE[*]}")

if [ ! -e "$done_file" ]; then
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9
fi
if [ ! -e "$done_file" ]; then
  find "$cache" -mindepth 1 ! -path "$cache/lock" -delete
  python3 -m venv "$cache/python"
  "$cache/python/bin/pip" --quiet --disable-pip-version-check install "${PYTHON[@]}" ||
    die "${PYTHON[*]} cannot be had from PyPI."
  npm install --silent --no-audit --no-fund --prefix "$cache/node" "${NODE[@]}" > /dev/null ||
    die "${NODE[*]} cannot be had from npm."
  touch "$done_file"
fi
echo "$cache"
