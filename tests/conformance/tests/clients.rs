//! Clients of others, each as its users have it: paho-mqtt from PyPI, MQTT.js from npm, Paho JavaScript in Chromium, and
//! rumqttc, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use conformance::device::{Device, node, python};
use conformance::{Adapter, Certificate, KEY_1, KEY_2, MANIFESTS, until};
use serde_json::json;

const TOPIC: &str = "channels/lab.telemetry/messages/room/1";
const ALL: &str = "channels/lab.telemetry/messages/#";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Paho,
    MqttJs,
    PahoJs,
    Rumqttc,
}

/// What MQTT runs over; a WebSocket has a path.
#[derive(Clone, Copy, Debug)]
enum Over {
    Tcp,
    Tls,
    Ws(&'static str),
    Wss(&'static str),
}

impl Over {
    fn address(self, adapter: &Adapter) -> SocketAddr {
        match self {
            Self::Tcp => adapter.mqtt(),
            Self::Tls => adapter.mqtts().unwrap(),
            Self::Ws(_) => adapter.http(),
            Self::Wss(_) => adapter.https().unwrap(),
        }
    }

    const fn path(self) -> Option<&'static str> {
        match self {
            Self::Tcp | Self::Tls => None,
            Self::Ws(path) | Self::Wss(path) => Some(path),
        }
    }
}

/// Who speaks which version over what.
type Way = (Kind, &'static str, Over);

const WAYS: [Way; 13] = [
    (Kind::Paho, "3.1", Over::Tcp),
    (Kind::Paho, "3.1.1", Over::Tls),
    (Kind::Paho, "5", Over::Tcp),
    (Kind::Paho, "5", Over::Tls),
    (Kind::MqttJs, "3.1", Over::Tcp),
    (Kind::MqttJs, "3.1.1", Over::Tcp),
    (Kind::MqttJs, "5", Over::Tls),
    (Kind::MqttJs, "3.1", Over::Ws("/ws/mqtt")),
    (Kind::MqttJs, "3.1.1", Over::Wss("/mqtt")),
    (Kind::MqttJs, "5", Over::Ws("/mqtt")),
    (Kind::PahoJs, "3.1.1", Over::Ws("/mqtt")),
    (Kind::Rumqttc, "3.1.1", Over::Tcp),
    (Kind::Rumqttc, "3.1.1", Over::Tls),
];

/// How a device connects.
#[derive(Clone)]
struct Login {
    id: String,
    clean: bool,
    will: Option<&'static str>,
    may_publish: bool,
}

fn login(id: &str) -> Login {
    Login { id: id.to_owned(), clean: true, will: None, may_publish: true }
}

fn start_device(kind: Kind) -> Device {
    match kind {
        Kind::Paho => Device::start(&mut python("device.py")),
        Kind::MqttJs => Device::start(&mut node("device.js")),
        Kind::PahoJs => Device::start(&mut node("paho.js")),
        Kind::Rumqttc => rumqttc::device(),
    }
}

fn connect(adapter: &Adapter, tls: &Certificate, (kind, version, over): Way, login: &Login) -> Device {
    let (thing, key) = if login.may_publish { ("lab.dev1", KEY_1) } else { ("lab.dev2", KEY_2) };
    let mut device = start_device(kind);
    device.tell(&json!({
        "do": "connect", "host": "localhost", "port": over.address(adapter).port(), "path": over.path(),
        "version": version, "id": login.id, "clean": login.clean, "thing": thing, "key": key, "will": login.will,
        "ca": matches!(over, Over::Tls | Over::Wss(_)).then(|| tls.cert()),
    }));
    device
}

fn connected(adapter: &Adapter, tls: &Certificate, way: Way, login: &Login) -> Device {
    let mut device = connect(adapter, tls, way, login);
    device.next("connected");
    device
}

/// What tests do with a device.
trait Mqtt {
    fn subscribe(&mut self, filter: &str, qos: u8) -> bool;
    fn publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &str, padding: usize);
    fn payload(&mut self) -> String;
    fn leave(self);
}

impl Mqtt for Device {
    fn subscribe(&mut self, filter: &str, qos: u8) -> bool {
        self.tell(&json!({"do": "subscribe", "filter": filter, "qos": qos}));
        self.next("subscribed")["refused"] == false
    }

    fn publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &str, padding: usize) {
        self.tell(&json!({
            "do": "publish", "topic": topic, "qos": qos, "retain": retain, "payload": payload, "padding": padding,
        }));
        assert_eq!(self.next("published")["refused"], false);
    }

    fn payload(&mut self) -> String {
        self.next("message")["payload"].as_str().unwrap().to_owned()
    }

    fn leave(mut self) {
        self.tell(&json!({"do": "disconnect"}));
        self.next("closed");
    }
}

mod rumqttc {
    //! The same device by rumqttc, which speaks MQTT 3.1.1 here; the command line's is MQTT 5.

    use std::sync::mpsc::SyncSender;

    use rumqttc::{
        Client, ConnectReturnCode, Connection, Event, Incoming, LastWill, MqttOptions, Packet, QoS,
        SubscribeReasonCode, TlsConfiguration, Transport,
    };
    use serde_json::{Value, json};

    use super::Device;

    fn qos(level: &Value) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::try_from(level.as_u64().unwrap()).unwrap()]
    }

    pub(crate) fn device() -> Device {
        Device::new(|tell| {
            let mut client = None;
            move |said: &Value| tell_it(&mut client, &tell, said)
        })
    }

    fn tell_it(client: &mut Option<Client>, tell: &SyncSender<Value>, said: &Value) {
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        if said["do"] == "connect" {
            let (new, connection) = connect(said);
            *client = Some(new);
            let tell = tell.clone();
            std::thread::spawn(move || run(connection, &tell));
            return;
        }
        let client = client.as_ref().unwrap();
        match said["do"].as_str().unwrap() {
            "subscribe" => client.subscribe(text("filter"), qos(&said["qos"])).unwrap(),
            "publish" => {
                let padding = usize::try_from(said["padding"].as_u64().unwrap()).unwrap();
                let payload = text("payload") + &".".repeat(padding);
                client.publish(text("topic"), qos(&said["qos"]), said["retain"] == true, payload).unwrap();
                if said["qos"] == 0 {
                    tell.send(json!({"event": "published", "refused": false})).unwrap();
                }
            }
            _ => client.disconnect().unwrap(),
        }
    }

    fn connect(said: &Value) -> (Client, Connection) {
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        let port = u16::try_from(said["port"].as_u64().unwrap()).unwrap();
        let mut options = MqttOptions::new(text("id"), text("host"), port);
        options.set_credentials(text("thing"), text("key")).set_max_packet_size(1 << 20, 1 << 20);
        options.set_clean_session(said["clean"] == true);
        if let Some(topic) = said["will"].as_str() {
            options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
        }
        if let Some(ca) = said["ca"].as_str() {
            let simple = TlsConfiguration::Simple { ca: std::fs::read(ca).unwrap(), alpn: None, client_auth: None };
            options.set_transport(Transport::tls_with_config(simple));
        }
        Client::new(options, 10)
    }

    /// Tells what happens until the connection ends.
    fn run(mut connection: Connection, tell: &SyncSender<Value>) {
        for event in connection.iter() {
            let Ok(Event::Incoming(packet)) = event else {
                if event.is_ok() {
                    continue;
                }
                break;
            };
            let said = if let Incoming::ConnAck(ack) = &packet {
                let is_in = ack.code == ConnectReturnCode::Success;
                json!({"event": if is_in { "connected" } else { "refused" }, "present": ack.session_present})
            } else if let Packet::SubAck(ack) = &packet {
                let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
                json!({"event": "subscribed", "refused": refused})
            } else if matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)) {
                json!({"event": "published", "refused": false})
            } else if let Packet::Publish(message) = &packet {
                let payload = String::from_utf8_lossy(&message.payload[..message.payload.len().min(100)]).into_owned();
                json!({
                    "event": "message", "topic": message.topic, "bytes": message.payload.len(), "payload": payload,
                    "qos": message.qos as u8, "retain": message.retain,
                })
            } else {
                continue;
            };
            if tell.send(said).is_err() {
                return;
            }
        }
        let _ = tell.send(json!({"event": "closed"}));
    }
}

fn start() -> (Adapter, Certificate) {
    let tls = Certificate::new().unwrap();
    let more = ["--tls-cert", &tls.cert(), "--tls-key", &tls.key()];
    let adapter = Adapter::start("memory:", &more).unwrap();
    // What says no content type is plain bytes, and there may be many of them.
    let bytes = "application/octet-stream]";
    let manifests = MANIFESTS.replace("maxBytes: 1000", "maxBytes: 300000");
    let manifests = manifests.replace(bytes, &format!("{bytes}\n    contentType: application/octet-stream"));
    adapter.set_manifests(&manifests).unwrap();
    until("it is in force", || {
        adapter.publish(TOPIC, KEY_1, "application/octet-stream", &[0; 2_000]).is_ok_and(|status| status == 202)
    });
    (adapter, tls)
}

#[test]
fn every_client_reaches_every_other_at_every_quality_of_service() {
    let (adapter, tls) = start();
    let mut subscribers: Vec<Device> = WAYS
        .iter()
        .enumerate()
        .map(|(number, way)| {
            let mut device = connected(&adapter, &tls, *way, &login(&format!("sub-{number}")));
            assert!(device.subscribe(if number % 2 == 0 { ALL } else { "channels/lab.telemetry/messages/+/1" }, 2));
            device
        })
        .collect();
    for (number, way) in WAYS.iter().enumerate() {
        let mut device = connected(&adapter, &tls, *way, &login(&format!("pub-{number}")));
        for qos in 0..=2 {
            let payload = format!("{number}-{qos}");
            device.publish(TOPIC, qos, false, &payload, 0);
            for (subscriber, of) in subscribers.iter_mut().zip(WAYS) {
                let message = subscriber.next("message");
                assert_eq!((&message["payload"], &message["qos"]), (&json!(payload), &json!(qos)), "{way:?} to {of:?}");
                assert_eq!((&message["topic"], &message["retain"]), (&json!(TOPIC), &json!(false)));
            }
        }
        device.leave();
    }
}

/// Does the same with every way, one after another.
fn with_each(test: impl Fn(&Adapter, &Certificate, Way)) {
    let (adapter, tls) = start();
    for way in WAYS {
        test(&adapter, &tls, way);
    }
}

#[test]
fn a_quarter_of_a_megabyte_comes_whole() {
    with_each(|adapter, tls, way| {
        let mut device = connected(adapter, tls, way, &login("large"));
        assert!(device.subscribe(ALL, 1));
        device.publish(TOPIC, 1, false, "large", 256 * 1_024 - 5);
        assert_eq!(device.next("message")["bytes"], 256 * 1_024, "{way:?}");
    });
}

#[test]
fn what_is_retained_comes_to_who_subscribes_later() {
    with_each(|adapter, tls, way| {
        let mut device = connected(adapter, tls, way, &login("retains"));
        device.publish(TOPIC, 1, true, "kept", 0);
        assert!(device.subscribe(ALL, 1));
        let message = device.next("message");
        assert_eq!((&message["payload"], &message["retain"]), (&json!("kept"), &json!(true)), "{way:?}");
        device.publish(TOPIC, 1, true, "", 0);
        assert_eq!(device.payload(), "");
        let mut late = connected(adapter, tls, way, &login("late"));
        assert!(late.subscribe(ALL, 1));
        device.publish(TOPIC, 1, false, "next", 0);
        assert_eq!(late.payload(), "next", "{way:?}: nothing is kept any more");
    });
}

#[test]
fn what_comes_while_a_client_is_away_waits_for_it() {
    with_each(|adapter, tls, way| {
        let here = Login { clean: false, ..login(&format!("away-{:?}-{}", way.0, way.1)) };
        let mut device = connected(adapter, tls, way, &here);
        assert!(device.subscribe(ALL, 1));
        device.leave();
        let mut other = connected(adapter, tls, way, &login("other"));
        other.publish(TOPIC, 1, false, "1", 0);
        other.publish(TOPIC, 2, false, "2", 0);
        let mut device = connect(adapter, tls, way, &here);
        // MQTT 3.1 does not say that there is a session, and Paho JavaScript keeps it to itself.
        let is_told = way.1 != "3.1" && way.0 != Kind::PahoJs;
        assert_eq!(device.next("connected")["present"], json!(is_told), "{way:?}");
        assert_eq!((device.payload(), device.payload()), ("1".to_owned(), "2".to_owned()), "{way:?}");
        drop(device);
        let device = connected(adapter, tls, way, &Login { clean: true, ..here });
        device.leave();
    });
}

#[test]
fn the_will_of_who_is_lost_comes_and_that_of_who_leaves_does_not() {
    with_each(|adapter, tls, way| {
        let mut witness = connected(adapter, tls, WAYS[0], &login("witness"));
        assert!(witness.subscribe(ALL, 1));
        let with_will = Login { will: Some(TOPIC), ..login("mortal") };
        connected(adapter, tls, way, &with_will).leave();
        let mut device = connected(adapter, tls, way, &with_will);
        if way.0 == Kind::Rumqttc {
            // It has no way to leave without a goodbye but to be thrown out.
            let _other = connected(adapter, tls, way, &Login { will: None, ..with_will });
            assert_eq!(witness.payload(), "gone", "{way:?}");
            return;
        }
        device.tell(&json!({"do": "drop"}));
        assert_eq!(witness.payload(), "gone", "{way:?}");
        let mut last = connected(adapter, tls, way, &login("last"));
        last.publish(TOPIC, 1, false, "after", 0);
        assert_eq!(witness.payload(), "after", "{way:?}");
    });
}

#[test]
fn the_same_name_takes_over() {
    with_each(|adapter, tls, way| {
        let mut first = connected(adapter, tls, way, &login("same"));
        let second = connected(adapter, tls, way, &login("same"));
        first.next("closed");
        second.leave();
    });
}

#[test]
fn a_group_shares_its_messages() {
    with_each(|adapter, tls, way| {
        let mut members: Vec<Device> =
            ["a", "b"].map(|id| connected(adapter, tls, way, &login(id))).into_iter().collect();
        for member in &mut members {
            assert!(member.subscribe(&format!("$share/workers/{ALL}"), 1));
        }
        let mut device = connected(adapter, tls, way, &login("publisher"));
        for payload in ["1", "2", "3", "4"] {
            device.publish(TOPIC, 1, false, payload, 0);
        }
        let mut got: Vec<String> = members.iter_mut().flat_map(|member| [member.payload(), member.payload()]).collect();
        got.sort();
        assert_eq!(got, ["1", "2", "3", "4"], "{way:?}");
    });
}

#[test]
fn who_may_not_subscribe_or_log_in_is_told() {
    with_each(|adapter, tls, way| {
        let mut device = connected(adapter, tls, way, &Login { may_publish: false, ..login("curious") });
        assert!(!device.subscribe("channels/lab.other/messages/#", 1), "{way:?}");
        assert!(device.subscribe(ALL, 1), "{way:?}");
    });
}
