"""A device of paho-mqtt that does what it is told, line by line in JSON, and tells what happens."""

import json
import ssl
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def connect(said):
    is_v5 = said["version"] == "5"
    clean = {} if is_v5 else {"clean_session": said["clean"]}
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=said["id"], protocol=VERSIONS[said["version"]], **clean
    )
    client.username_pw_set(said["thing"], said["key"])
    if said.get("ca"):
        client.tls_set(ca_certs=said["ca"], cert_reqs=ssl.CERT_REQUIRED)
    if said.get("will"):
        client.will_set(said["will"], "gone", qos=1)
    # Once lost, it stays so: the test says when it comes back.
    client.on_connect = lambda c, u, flags, reason, p: tell(
        "connected" if not reason.is_failure else "refused", present=bool(flags.session_present)
    )
    client.on_disconnect = lambda c, u, flags, reason, p: (tell("closed"), c.loop_stop())
    client.on_subscribe = lambda c, u, mid, reasons, p: tell("subscribed", refused=any(r.is_failure for r in reasons))
    client.on_publish = lambda c, u, mid, reason, p: tell("published", refused=reason.is_failure)
    client.on_message = lambda c, u, message: tell(
        "message",
        topic=message.topic,
        bytes=len(message.payload),
        payload=message.payload[:100].decode(),
        qos=message.qos,
        retain=bool(message.retain),
    )
    more = {}
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if said["clean"] else 300
        more = {"clean_start": said["clean"], "properties": properties}
    client.connect(said["host"], said["port"], keepalive=30, **more)
    client.loop_start()
    return client


def main():
    client = None
    for line in sys.stdin:
        said = json.loads(line)
        if said["do"] == "connect":
            client = connect(said)
        elif said["do"] == "subscribe":
            client.subscribe(said["filter"], qos=said["qos"])
        elif said["do"] == "publish":
            payload = said["payload"] + "." * said["padding"]
            client.publish(said["topic"], payload, qos=said["qos"], retain=said["retain"])
        elif said["do"] == "disconnect":
            client.disconnect()
        else:
            # Without a goodbye.
            client.socket().shutdown(2)


main()
