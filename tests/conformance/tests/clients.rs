//! Clients of others, each as its users have it: paho-mqtt from PyPI, MQTT.js from npm, and rumqttc, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};

use conformance::{Adapter, Certificate, DEADLINE, KEY_1, KEY_2, MANIFESTS, until};
use serde_json::{Value, json};

const TOPIC: &str = "channels/lab.telemetry/messages/room/1";
/// Events of a device that nobody has looked at.
const EVENTS_MAX: usize = 1_000;
const ALL: &str = "channels/lab.telemetry/messages/#";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Paho,
    MqttJs,
    Rumqttc,
}

/// What speaks which version, and whether over TLS.
const WAYS: [(Kind, &str, bool); 9] = [
    (Kind::Paho, "3.1", false),
    (Kind::Paho, "3.1.1", true),
    (Kind::Paho, "5", false),
    (Kind::Paho, "5", true),
    (Kind::MqttJs, "3.1", false),
    (Kind::MqttJs, "3.1.1", false),
    (Kind::MqttJs, "5", true),
    (Kind::Rumqttc, "3.1.1", false),
    (Kind::Rumqttc, "3.1.1", true),
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

/// A device that is told what to do, and tells what happens.
struct Device {
    told: Box<dyn FnMut(&Value)>,
    events: Receiver<Value>,
    /// What came before it was waited for.
    passed: VecDeque<Value>,
    child: Option<Child>,
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where the clients are that are not of Rust.
fn cache() -> &'static str {
    static CACHE: OnceLock<String> = OnceLock::new();
    CACHE.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/clients.sh");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

fn script(kind: Kind) -> Device {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
    let mut command = if kind == Kind::Paho {
        let mut python = Command::new(format!("{}/python/bin/python3", cache()));
        python.arg(format!("{folder}/device.py"));
        python
    } else {
        let mut node = Command::new("node");
        node.arg(format!("{folder}/device.js")).env("NODE_PATH", format!("{}/node/node_modules", cache()));
        node
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (tell, events) = sync_channel(EVENTS_MAX);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // Who does not listen any more has seen enough.
            let _ = tell.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        }
    });
    let mut stdin: ChildStdin = child.stdin.take().unwrap();
    let told = Box::new(move |said: &Value| {
        writeln!(stdin, "{said}").unwrap();
    });
    Device { told, events, passed: VecDeque::new(), child: Some(child) }
}

impl Device {
    fn connect(
        adapter: &Adapter,
        tls: &Certificate,
        (kind, version, over_tls): (Kind, &str, bool),
        login: &Login,
    ) -> Self {
        let (thing, key) = if login.may_publish { ("lab.dev1", KEY_1) } else { ("lab.dev2", KEY_2) };
        let address = if over_tls { adapter.mqtts().unwrap() } else { adapter.mqtt() };
        let said = json!({
            "do": "connect", "host": "localhost", "port": address.port(), "version": version, "id": login.id,
            "clean": login.clean, "thing": thing, "key": key, "will": login.will,
            "ca": over_tls.then(|| tls.cert()),
        });
        let mut device = if kind == Kind::Rumqttc { rumqttc::device() } else { script(kind) };
        (device.told)(&said);
        device
    }

    fn connected(adapter: &Adapter, tls: &Certificate, way: (Kind, &str, bool), login: &Login) -> Self {
        let mut device = Self::connect(adapter, tls, way, login);
        device.next("connected");
        device
    }

    /// Waits for an event of this name; others keep their turn.
    fn next(&mut self, event: &str) -> Value {
        loop {
            if let Some(at) = self.passed.iter().position(|said| said["event"] == event) {
                return self.passed.remove(at).unwrap();
            }
            let said = self.events.recv_timeout(DEADLINE).expect(event);
            assert!(said["event"] != "refused" || event == "refused", "before {event}");
            self.passed.push_back(said);
        }
    }

    fn subscribe(&mut self, filter: &str, qos: u8) -> bool {
        (self.told)(&json!({"do": "subscribe", "filter": filter, "qos": qos}));
        self.next("subscribed")["refused"] == false
    }

    fn publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &str, padding: usize) {
        let said = json!({
            "do": "publish", "topic": topic, "qos": qos, "retain": retain, "payload": payload, "padding": padding,
        });
        (self.told)(&said);
        assert_eq!(self.next("published")["refused"], false);
    }

    fn payload(&mut self) -> String {
        self.next("message")["payload"].as_str().unwrap().to_owned()
    }

    fn leave(mut self) {
        (self.told)(&json!({"do": "disconnect"}));
        self.next("closed");
    }
}

mod rumqttc {
    //! The same device by rumqttc, which speaks MQTT 3.1.1 here; the command line's is MQTT 5.

    use std::collections::VecDeque;
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::sync::{Arc, Mutex};

    use rumqttc::{
        Client, ConnectReturnCode, Connection, Event, Incoming, LastWill, MqttOptions, Packet, QoS,
        SubscribeReasonCode, TlsConfiguration, Transport,
    };
    use serde_json::{Value, json};

    use super::{Device, EVENTS_MAX};

    fn qos(level: &Value) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::try_from(level.as_u64().unwrap()).unwrap()]
    }

    pub(crate) fn device() -> Device {
        let (tell, events) = sync_channel(EVENTS_MAX);
        let client: Arc<Mutex<Option<Client>>> = Arc::default();
        let told = Box::new(move |said: &Value| {
            let text = |name: &str| said[name].as_str().unwrap().to_owned();
            let mut client = client.lock().unwrap();
            match said["do"].as_str().unwrap() {
                "connect" => {
                    let port = u16::try_from(said["port"].as_u64().unwrap()).unwrap();
                    let mut options = MqttOptions::new(text("id"), text("host"), port);
                    options.set_credentials(text("thing"), text("key")).set_max_packet_size(1 << 20, 1 << 20);
                    options.set_clean_session(said["clean"] == true);
                    if let Some(topic) = said["will"].as_str() {
                        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
                    }
                    if let Some(ca) = said["ca"].as_str() {
                        let simple =
                            TlsConfiguration::Simple { ca: std::fs::read(ca).unwrap(), alpn: None, client_auth: None };
                        options.set_transport(Transport::tls_with_config(simple));
                    }
                    let (new, connection) = Client::new(options, 10);
                    *client = Some(new);
                    let tell = tell.clone();
                    std::thread::spawn(move || run(connection, &tell));
                }
                "subscribe" => client.as_ref().unwrap().subscribe(text("filter"), qos(&said["qos"])).unwrap(),
                "publish" => {
                    let padding = usize::try_from(said["padding"].as_u64().unwrap()).unwrap();
                    let payload = text("payload") + &".".repeat(padding);
                    let client = client.as_ref().unwrap();
                    client.publish(text("topic"), qos(&said["qos"]), said["retain"] == true, payload).unwrap();
                    if said["qos"] == 0 {
                        tell.send(json!({"event": "published", "refused": false})).unwrap();
                    }
                }
                _ => client.as_ref().unwrap().disconnect().unwrap(),
            }
        });
        Device { told, events, passed: VecDeque::new(), child: None }
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
            let mut device = Device::connected(&adapter, &tls, *way, &login(&format!("sub-{number}")));
            assert!(device.subscribe(if number % 2 == 0 { ALL } else { "channels/lab.telemetry/messages/+/1" }, 2));
            device
        })
        .collect();
    for (number, way) in WAYS.iter().enumerate() {
        let mut device = Device::connected(&adapter, &tls, *way, &login(&format!("pub-{number}")));
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
fn with_each(test: impl Fn(&Adapter, &Certificate, (Kind, &'static str, bool))) {
    let (adapter, tls) = start();
    for way in WAYS {
        test(&adapter, &tls, way);
    }
}

#[test]
fn a_quarter_of_a_megabyte_comes_whole() {
    with_each(|adapter, tls, way| {
        let mut device = Device::connected(adapter, tls, way, &login("large"));
        assert!(device.subscribe(ALL, 1));
        device.publish(TOPIC, 1, false, "large", 256 * 1_024 - 5);
        assert_eq!(device.next("message")["bytes"], 256 * 1_024, "{way:?}");
    });
}

#[test]
fn what_is_retained_comes_to_who_subscribes_later() {
    with_each(|adapter, tls, way| {
        let mut device = Device::connected(adapter, tls, way, &login("retains"));
        device.publish(TOPIC, 1, true, "kept", 0);
        assert!(device.subscribe(ALL, 1));
        let message = device.next("message");
        assert_eq!((&message["payload"], &message["retain"]), (&json!("kept"), &json!(true)), "{way:?}");
        device.publish(TOPIC, 1, true, "", 0);
        assert_eq!(device.payload(), "");
        let mut late = Device::connected(adapter, tls, way, &login("late"));
        assert!(late.subscribe(ALL, 1));
        device.publish(TOPIC, 1, false, "next", 0);
        assert_eq!(late.payload(), "next", "{way:?}: nothing is kept any more");
    });
}

#[test]
fn what_comes_while_a_client_is_away_waits_for_it() {
    with_each(|adapter, tls, way| {
        let here = Login { clean: false, ..login(&format!("away-{:?}-{}-{}", way.0, way.1, way.2)) };
        let mut device = Device::connected(adapter, tls, way, &here);
        assert!(device.subscribe(ALL, 1));
        device.leave();
        let mut other = Device::connected(adapter, tls, way, &login("other"));
        other.publish(TOPIC, 1, false, "1", 0);
        other.publish(TOPIC, 2, false, "2", 0);
        let mut device = Device::connect(adapter, tls, way, &here);
        // MQTT 3.1 does not say that there is a session.
        assert_eq!(device.next("connected")["present"], json!(way.1 != "3.1"), "{way:?}");
        assert_eq!((device.payload(), device.payload()), ("1".to_owned(), "2".to_owned()), "{way:?}");
        drop(device);
        let device = Device::connected(adapter, tls, way, &Login { clean: true, ..here });
        device.leave();
    });
}

#[test]
fn the_will_of_who_is_lost_comes_and_that_of_who_leaves_does_not() {
    with_each(|adapter, tls, way| {
        let mut witness = Device::connected(adapter, tls, WAYS[0], &login("witness"));
        assert!(witness.subscribe(ALL, 1));
        let with_will = Login { will: Some(TOPIC), ..login("mortal") };
        Device::connected(adapter, tls, way, &with_will).leave();
        let mut device = Device::connected(adapter, tls, way, &with_will);
        if way.0 == Kind::Rumqttc {
            // It has no way to leave without a goodbye but to be thrown out.
            let _other = Device::connected(adapter, tls, way, &Login { will: None, ..with_will });
            assert_eq!(witness.payload(), "gone", "{way:?}");
            return;
        }
        (device.told)(&json!({"do": "drop"}));
        assert_eq!(witness.payload(), "gone", "{way:?}");
        let mut last = Device::connected(adapter, tls, way, &login("last"));
        last.publish(TOPIC, 1, false, "after", 0);
        assert_eq!(witness.payload(), "after", "{way:?}");
    });
}

#[test]
fn the_same_name_takes_over() {
    with_each(|adapter, tls, way| {
        let mut first = Device::connected(adapter, tls, way, &login("same"));
        let second = Device::connected(adapter, tls, way, &login("same"));
        first.next("closed");
        second.leave();
    });
}

#[test]
fn a_group_shares_its_messages() {
    with_each(|adapter, tls, way| {
        let mut members: Vec<Device> =
            ["a", "b"].map(|id| Device::connected(adapter, tls, way, &login(id))).into_iter().collect();
        for member in &mut members {
            assert!(member.subscribe(&format!("$share/workers/{ALL}"), 1));
        }
        let mut device = Device::connected(adapter, tls, way, &login("publisher"));
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
        let mut device = Device::connected(adapter, tls, way, &Login { may_publish: false, ..login("curious") });
        assert!(!device.subscribe("channels/lab.other/messages/#", 1), "{way:?}");
        assert!(device.subscribe(ALL, 1), "{way:?}");
    });
}
