//! The WebSocket face to clients of others: npm's `ws`, PyPI's `websockets`, and the example for Node as it is written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::device::{Device, node, python};
use conformance::{Adapter, Certificate, Events, KEY_1, KEY_2, MANIFESTS, until};
use serde_json::{Value, json};

const TELEMETRY: &str = "/ws/channels/lab.telemetry/messages";
/// Everything of that channel.
const ALL: &str = "channels/lab.telemetry/messages/%23";
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
const V1: &[&str] = &["tidegate.v1"];

#[derive(Clone, Copy, Debug)]
enum Client {
    Ws,
    Websockets,
}

const CLIENTS: [Client; 2] = [Client::Ws, Client::Websockets];

impl Client {
    fn device(self) -> Device {
        match self {
            Self::Ws => Device::start(&mut node("ws_device.js")),
            Self::Websockets => Device::start(&mut python("ws_device.py")),
        }
    }
}

/// What a client asks for in its handshake.
struct Ask<'a> {
    target: &'a str,
    headers: Value,
    protocols: &'a [&'a str],
    over_tls: bool,
}

/// The first device's, which shows its key in a header.
fn ask(target: &str) -> Ask<'_> {
    Ask { target, headers: json!({"Authorization": KEY_1}), protocols: &[], over_tls: false }
}

impl Ask<'_> {
    fn with(mut self, header: &str, value: &str) -> Self {
        self.headers[header] = json!(value);
        self
    }
}

struct Server {
    adapter: Adapter,
    tls: Certificate,
}

fn start() -> Server {
    let tls = Certificate::new().unwrap();
    let adapter = Adapter::start("memory:", &["--tls-cert", &tls.cert(), "--tls-key", &tls.key()]).unwrap();
    Server { adapter, tls }
}

impl Server {
    fn ask(&self, device: &mut Device, ask: &Ask<'_>) {
        let (scheme, address) =
            if ask.over_tls { ("wss", self.adapter.https().unwrap()) } else { ("ws", self.adapter.http()) };
        device.tell(&json!({
            "do": "connect", "url": format!("{scheme}://localhost:{}{}", address.port(), ask.target),
            "headers": ask.headers, "protocols": ask.protocols, "ca": ask.over_tls.then(|| self.tls.cert()),
        }));
    }

    fn open(&self, client: Client, ask: &Ask<'_>) -> Device {
        let mut device = client.device();
        self.ask(&mut device, ask);
        device.next("connected");
        device
    }

    /// Opens a socket of `tidegate.v1` and takes what it says first.
    fn open_v1(&self, client: Client, ask: Ask<'_>, ready: &Value) -> Device {
        let mut device = self.open(client, &Ask { protocols: V1, ..ask });
        assert_eq!(&said(&mut device), ready, "{client:?}");
        device
    }

    fn publish(&self, topic: &str, content_type: &str, payload: &[u8]) {
        let status =
            self.adapter.publish(&format!("channels/lab.telemetry/messages{topic}"), KEY_1, content_type, payload);
        assert_eq!(status.unwrap(), 202);
    }

    fn events(&self, filter: &str) -> Events {
        self.adapter.subscribe(filter, KEY_1).unwrap()
    }
}

fn text(device: &mut Device, payload: &str) {
    device.tell(&json!({"do": "text", "payload": payload}));
}

fn binary(device: &mut Device, payload: &[u8]) {
    device.tell(&json!({"do": "binary", "payload": STANDARD.encode(payload)}));
}

fn close(device: &mut Device, code: u16) -> Value {
    device.tell(&json!({"do": "close", "code": code}));
    closed(device)
}

/// The code, once it is closed; a server that closes says why in words.
fn closed(device: &mut Device) -> Value {
    let closed = device.next("closed");
    let code = closed["code"].as_u64().unwrap();
    assert!(!(1002..3000).contains(&code) || closed["reason"] != "", "{closed}");
    closed["code"].clone()
}

/// The next message as text or as bytes.
fn message(device: &mut Device) -> Message {
    let message = device.next("message");
    match message["text"].as_str() {
        Some(text) => Message::Text(text.to_owned()),
        None => Message::Binary(STANDARD.decode(message["base64"].as_str().unwrap()).unwrap()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Message {
    Text(String),
    Binary(Vec<u8>),
}

fn as_text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

/// The next frame of `tidegate.v1`.
fn said(device: &mut Device) -> Value {
    serde_json::from_str(device.next("message")["text"].as_str().unwrap()).unwrap()
}

/// Says a frame of `tidegate.v1`, and what comes back.
fn answer(device: &mut Device, frame: &Value) -> Value {
    text(device, &frame.to_string());
    said(device)
}

#[test]
fn every_form_of_a_key_lets_in_with_and_without_tls() {
    let server = start();
    let basic = |of: &str| format!("Basic {}", STANDARD.encode(of));
    let forms = [
        KEY_1.to_owned(),
        format!("Thing {KEY_1}"),
        format!("Bearer {KEY_1}"),
        basic(&format!("lab.dev1:{KEY_1}")),
        basic(&format!(":{KEY_1}")),
    ];
    for client in CLIENTS {
        let mut device = client.device();
        for over_tls in [false, true] {
            for form in &forms {
                let ask = Ask { over_tls, ..ask(TELEMETRY).with("Authorization", form) };
                server.ask(&mut device, &ask);
                device.next("connected");
                assert_eq!(close(&mut device, 1000), 1000, "{client:?} {form}");
            }
            for path in [TELEMETRY, "/channels/flashed-1/messages"] {
                let target = format!("{path}?authorization={KEY_1}");
                server.ask(&mut device, &Ask { over_tls, headers: json!({}), ..ask(&target) });
                device.next("connected");
                assert_eq!(close(&mut device, 1000), 1000, "{client:?} {target}");
            }
        }
    }
}

#[test]
fn who_is_not_let_in_reads_a_status() {
    let server = start();
    let rows = [
        (401, ask(TELEMETRY).with("Authorization", "key-none-0123456789")),
        (401, ask(TELEMETRY).with("Authorization", "key-old1-0123456789")),
        (401, Ask { headers: json!({}), ..ask(TELEMETRY) }),
        (403, ask("/ws/channels/lab.other/messages")),
        (403, ask("/ws/channels/lab.nothing/messages")),
        (404, ask("/ws/channels/lab.telemetry/message")),
        (400, ask("/ws/channels/lab.telemetry/messages/%23/b")),
        (400, ask("/mqtt")),
    ];
    for client in CLIENTS {
        let mut device = client.device();
        for (status, ask) in &rows {
            server.ask(&mut device, ask);
            assert_eq!(device.next("refused")["status"], *status, "{client:?} {}", ask.target);
        }
    }
}

#[test]
fn each_frame_is_a_message_both_ways() {
    let server = start();
    let (json, octets) = (&*format!("{TELEMETRY}?content-type={JSON}"), &*format!("{TELEMETRY}?content-type={OCTETS}"));
    // How the content type is said, what is sent, and what comes.
    let rows: [(Ask<'_>, Message, Message); 7] = [
        (ask(TELEMETRY), as_text("[]"), as_text("[]")),
        (ask(TELEMETRY).with("Content-Type", JSON), as_text("{\"é\":1}"), as_text("{\"é\":1}")),
        (ask(json), Message::Binary(b"{}".into()), as_text("{}")),
        (ask(json), Message::Binary(b"\xff\x00".into()), Message::Binary(b"\xff\x00".into())),
        (ask(octets), as_text("abc"), Message::Binary(b"abc".into())),
        (ask(TELEMETRY).with("Content-Type", OCTETS), Message::Binary(vec![0; 1_000]), Message::Binary(vec![0; 1_000])),
        (ask(octets), as_text(""), Message::Binary(vec![])),
    ];
    for client in CLIENTS {
        let mut others = CLIENTS.map(|other| server.open(other, &ask(TELEMETRY)));
        for (ask, sent, comes) in &rows {
            let mut device = server.open(client, ask);
            match sent {
                Message::Text(payload) => text(&mut device, payload),
                Message::Binary(payload) => binary(&mut device, payload),
            }
            for other in &mut others {
                assert_eq!(&message(other), comes, "{client:?}: {sent:?} by {} {}", ask.target, ask.headers);
            }
        }
    }
}

#[test]
fn what_a_socket_sends_comes_to_others_of_its_thing_and_not_to_itself() {
    let server = start();
    for client in CLIENTS {
        let mut events = server.events("channels/lab.telemetry/messages");
        let mut device = server.open(client, &Ask { over_tls: true, ..ask(TELEMETRY) });
        let mut other = server.open(client, &ask(TELEMETRY));
        text(&mut device, "[1]");
        assert_eq!(message(&mut other), as_text("[1]"), "{client:?}");
        events.until("data: [1]").unwrap();
        server.publish("", JSON, b"[2]");
        assert_eq!((message(&mut device), message(&mut other)), (as_text("[2]"), as_text("[2]")), "{client:?}");
    }
}

#[test]
fn a_path_may_have_levels_and_with_wildcards_it_only_receives() {
    let server = start();
    for client in CLIENTS {
        let mut device = server.open(client, &ask("/channels/lab.telemetry/messages/engine/oil"));
        let mut events = server.events(ALL);
        text(&mut device, "[1]");
        assert!(events.until("data: [1]").unwrap().contains("topic: channels/lab.telemetry/messages/engine/oil\n"));
        server.publish("/engine/water", JSON, b"[2]");
        server.publish("/engine/oil", JSON, b"[3]");
        assert_eq!(message(&mut device), as_text("[3]"), "{client:?}");
        for filter in ["+/oil", "*/oil", "%23", "engine/%23", "%3E"] {
            let target = format!("{TELEMETRY}/{filter}");
            let mut device = server.open(client, &ask(&target));
            server.publish("/engine/oil", JSON, b"[4]");
            assert_eq!(message(&mut device), as_text("[4]"), "{client:?} {filter}");
            text(&mut device, "[5]");
            assert_eq!(closed(&mut device), 1008, "{client:?} {filter}");
        }
    }
}

#[test]
fn a_subprotocol_of_others_is_ignored() {
    let server = start();
    for client in CLIENTS {
        // `ws` itself would not take an answer without one, so that the header is put in by hand.
        for (offered, agreed) in [("arduino", ""), ("foo, tidegate.v1", "tidegate.v1"), ("tidegate.v1", "tidegate.v1")]
        {
            let mut device = client.device();
            let header = if agreed.is_empty() { "Sec-WebSocket-Protocol" } else { "X-Unused" };
            let protocols: Vec<&str> = if agreed.is_empty() { vec![] } else { offered.split(", ").collect() };
            server.ask(&mut device, &Ask { protocols: &protocols, ..ask(TELEMETRY).with(header, offered) });
            assert_eq!(device.next("connected")["protocol"], agreed, "{client:?} {offered}");
            server.publish("", JSON, b"[1]");
            let came = message(&mut device);
            assert_eq!(came == as_text("[1]"), agreed.is_empty(), "{client:?} {offered}: {came:?}");
        }
    }
}

#[test]
fn tidegate_v1_answers_every_frame_and_stays_open() {
    let server = start();
    let both = json!({"type": "ready", "publish": true, "subscribe": true});
    // What is said, and the id and the code of what is answered; none where it is accepted.
    let rows = [
        (json!({"type": "publish", "id": 1, "payload": "[]"}), json!(1), ""),
        (json!({"type": "publish", "id": "two", "payloadBase64": "AP8=", "contentType": OCTETS}), json!("two"), ""),
        (
            json!({"type": "publish", "id": 3, "payload": "", "contentType": "text/html"}),
            json!(3),
            "content-type-not-admitted",
        ),
        (json!({"type": "publish", "id": 4, "payload": "x".repeat(1_001)}), json!(4), "payload-too-large"),
        (json!({"type": "publish", "id": 5, "payload": "[]", "subtopic": "a/+"}), json!(5), "malformed-topic"),
        (json!({"type": "publish", "id": 6, "payloadBase64": "no base64!"}), json!(6), "malformed-frame"),
        (json!({"type": "publish", "id": 7, "payload": "[]", "qos": 3}), json!(7), "malformed-frame"),
        (json!({"type": "shout", "id": 8}), json!(8), "malformed-frame"),
        (json!({"type": "publish", "payload": "[]"}), json!(null), "malformed-frame"),
        (json!({"type": "publish", "id": "x".repeat(65), "payload": "[]"}), json!(null), "malformed-frame"),
        (json!("no frame"), json!(null), "malformed-frame"),
        (json!({"type": "publish", "id": 1, "payload": "[]", "retain": false, "expiry": 60}), json!(1), ""),
    ];
    for client in CLIENTS {
        let mut device = server.open_v1(client, Ask { over_tls: true, ..ask(TELEMETRY) }, &both);
        for (frame, id, code) in &rows {
            let answer = answer(&mut device, frame);
            if code.is_empty() {
                assert_eq!(answer, json!({"type": "accepted", "id": id}), "{client:?}");
                continue;
            }
            assert_eq!(
                (&answer["type"], &answer["id"], &answer["code"]),
                (&json!("refused"), id, &json!(code)),
                "{answer}"
            );
            assert_ne!(answer["detail"].as_str().unwrap(), "", "{answer}");
            assert_eq!(answer["retryAfter"], Value::Null, "{answer}");
        }
        assert_eq!(close(&mut device, 3456), 3456, "{client:?}");
    }
}

#[test]
fn tidegate_v1_refuses_what_the_socket_may_not() {
    let server = start();
    let ready = |publish: bool| json!({"type": "ready", "publish": publish, "subscribe": true});
    let rows = [
        (ask(TELEMETRY).with("Authorization", KEY_2), false, "forbidden"),
        (ask("/channels/checked/messages"), true, "invalid-payload"),
        (ask("/ws/channels/telemetry/messages/%23"), true, "malformed-topic"),
    ];
    for client in CLIENTS {
        for (ask, may_publish, code) in &rows {
            let ask = Ask { target: ask.target, headers: ask.headers.clone(), protocols: V1, over_tls: false };
            let mut device = server.open_v1(client, ask, &ready(*may_publish));
            let refused = answer(&mut device, &json!({"type": "publish", "id": 1, "payload": "no json"}));
            assert_eq!((&refused["id"], &refused["code"]), (&json!(1), &json!(code)), "{client:?} {refused}");
        }
    }
}

#[test]
fn a_message_in_tidegate_v1_says_all_that_is_known_of_it() {
    let server = start();
    let ready = json!({"type": "ready", "publish": true, "subscribe": true});
    for client in CLIENTS {
        let mut sender = server.open_v1(client, ask(TELEMETRY), &ready);
        let mut other = server.open_v1(client, ask("/channels/lab.telemetry/messages/%23"), &ready);
        let frame = json!({
            "type": "publish", "id": 1, "payload": "{}", "contentType": JSON, "subtopic": "engine/oil", "qos": 1,
            "userProperties": [["unit", "°C"], ["unit", "K"]],
        });
        assert_eq!(answer(&mut sender, &frame), json!({"type": "accepted", "id": 1}), "{client:?}");
        let mut came = said(&mut other);
        for name in ["id", "time"] {
            assert!(came[name].is_string(), "{came}");
            came.as_object_mut().unwrap().remove(name);
        }
        let known = json!({
            "type": "message", "topic": "channels/lab.telemetry/messages/engine/oil", "publisher": "lab.dev1",
            "contentType": JSON, "payload": "{}", "userProperties": [["unit", "°C"], ["unit", "K"]],
        });
        assert_eq!(came, known, "{client:?}");
        server.publish("/raw", OCTETS, b"\x00\xff");
        assert_eq!(said(&mut other)["payloadBase64"], "AP8=", "{client:?}");
    }
}

#[test]
fn a_frame_that_is_not_accepted_closes_with_a_code_that_says_why() {
    let server = start();
    let too_large = "x".repeat(1_001);
    let rows: [(u16, Ask<'_>, &str); 4] = [
        (1003, ask(TELEMETRY).with("Content-Type", "text/html"), "[]"),
        (1007, ask("/ws/channels/checked/messages"), "no json"),
        (1008, ask(TELEMETRY).with("Authorization", KEY_2), "[]"),
        (1009, ask(TELEMETRY), &too_large),
    ];
    for client in CLIENTS {
        for (code, ask, payload) in &rows {
            let mut device = server.open(client, ask);
            text(&mut device, payload);
            assert_eq!(closed(&mut device), *code, "{client:?} {}", ask.target);
        }
    }
}

#[test]
fn who_closes_properly_is_answered_when_all_is_accepted() {
    const COUNT: usize = 200;
    let server = start();
    for client in CLIENTS {
        let mut events = server.events(ALL);
        let mut device = server.open(client, &ask(TELEMETRY));
        for number in 0..COUNT {
            text(&mut device, &format!("[{number}]"));
        }
        assert_eq!(close(&mut device, 4321), 4321, "{client:?}");
        let seen = events.until(&format!("data: [{}]\n", COUNT - 1)).unwrap();
        let came: Vec<&str> = seen.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(came, (0..COUNT).map(|number| format!("[{number}]")).collect::<Vec<_>>(), "{client:?}");
    }
}

#[test]
fn a_right_that_is_withdrawn_and_the_end_of_the_server_close() {
    let Server { mut adapter, tls } = start();
    let server = Server { adapter, tls };
    let dev2 = || ask(TELEMETRY).with("Authorization", KEY_2);
    let mut devices = CLIENTS.map(|client| server.open(client, &dev2()));
    let mut stay = CLIENTS.map(|client| server.open(client, &ask(TELEMETRY)));
    let without = MANIFESTS.replace("connections: [{channel: telemetry, permissions: [Subscribe]}]", "connections: []");
    server.adapter.set_manifests(&without).unwrap();
    for device in &mut devices {
        assert_eq!(closed(device), 1008);
    }
    until("it is in force for all", || {
        server.adapter.request(&format!("HEAD /{ALL} HTTP/1.1\nAuthorization: {KEY_2}"), b"").unwrap().contains(" 403 ")
    });
    adapter = server.adapter;
    assert_eq!(adapter.terminate().unwrap(), Some(0));
    for device in &mut stay {
        assert_eq!(closed(device), 1012);
    }
}

#[test]
fn the_example_for_node_sends_and_prints_what_comes() {
    let server = start();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../adapters/examples/device.js");
    let url = format!("wss://localhost:{}", server.adapter.https().unwrap().port());
    let mut events = server.events(ALL);
    let mut command = node(example);
    command.args([&*url, "lab.telemetry", "[{\"n\":\"t\",\"v\":21}]"]).env("KEY", KEY_1);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    events.until("data: [{\"n\":\"t\",\"v\":21}]").unwrap();
    server.publish("", JSON, b"[22]");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "[22]");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "closed: 1000 ");
    assert!(child.wait().unwrap().success());

    let refused = node(example).args([&*url, "lab.other"]).env("KEY", KEY_1).stdin(Stdio::null()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("problem/forbidden"), "{words}");
}
