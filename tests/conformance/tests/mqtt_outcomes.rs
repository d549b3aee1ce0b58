//! The MQTT column of the outcome table, both versions, from real connections to a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use conformance::mqtt::{Client, Login, packet, text};
use conformance::{Adapter, KEY_1, KEY_2, MANIFESTS, until};
use expect_test::expect_file;
use rabbitmq_rig::{Rabbit, shared_url};

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const JSON: &[u8] = b"application/json";
const VERSIONS: [u8; 2] = [4, 5];

fn login(level: u8) -> Login {
    let login = if level == 5 { Login::stored("row") } else { Login::stored_3("row") };
    Login { properties: vec![], ..login.clean().publisher() }
}

/// The code of an answer, and its reason for people, where it has one.
fn code(level: u8, code: u8, properties: &[u8]) -> String {
    let is_reason = level == 5 && properties.get(1) == Some(&0x1f);
    let length = |properties: &[u8]| usize::from(u16::from_be_bytes([properties[2], properties[3]]));
    let text = |properties: &[u8]| String::from_utf8_lossy(&properties[4..][..length(properties)]).into_owned();
    let reason = if is_reason { format!(" \"{}\"", text(properties)) } else { String::new() };
    format!("{code:#04x}{reason}")
}

/// What the server says until it has nothing more to say, which a PINGREQ finds out, or ends the connection.
fn said(client: &mut Client, level: u8) -> String {
    let mut said = Vec::new();
    client.say(&[0xc0, 0]);
    loop {
        let Ok((first, body)) = client.read() else {
            said.push("closed".to_owned());
            break;
        };
        let at = |index: usize| body.get(index).copied().unwrap_or_default();
        let rest = |index: usize| body.get(index..).unwrap_or_default();
        said.push(match first >> 4 {
            2 => format!("CONNACK {}", code(level, at(1), rest(2))),
            4 => format!("PUBACK {}", code(level, at(2), rest(3))),
            5 => format!("PUBREC {}", code(level, at(2), rest(3))),
            9 => format!("SUBACK {}", code(level, *body.last().unwrap(), rest(2))),
            14 => format!("DISCONNECT {}", code(level, at(0), rest(1))),
            13 => break,
            other => format!("packet {other}"),
        });
    }
    said.join(", ")
}

/// A message of QoS 1 under the name 1.
fn publish(level: u8, topic: &str, content_type: &[u8], payload: &[u8]) -> Vec<u8> {
    publish_of(level, 1, topic, content_type, payload)
}

fn publish_of(level: u8, qos: u8, topic: &str, content_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut properties = vec![];
    if level == 5 {
        let length = u8::try_from(content_type.len()).unwrap();
        properties = [&[length + 3, 3, 0, length], content_type].concat();
    }
    let name: &[u8] = if qos == 0 { &[] } else { &[0, 1] };
    packet(0x30 | qos << 1, &[&text(topic), name, &properties, payload].concat())
}

fn subscribe(level: u8, filter: &str) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 1], properties, &text(filter), &[1]].concat())
}

type Row = (&'static str, Box<dyn Fn(u8) -> (Login, Vec<u8>)>);

fn row(name: &'static str, make: impl Fn(u8) -> (Login, Vec<u8>) + 'static) -> Row {
    (name, Box::new(make))
}

fn saying(name: &'static str, bytes: impl Fn(u8) -> Vec<u8> + 'static) -> Row {
    row(name, move |level| (login(level), bytes(level)))
}

fn rows() -> Vec<Row> {
    let as_second = |level| Login { thing: "lab.dev2", key: KEY_2, ..login(level) };
    vec![
        row("a wrong key", |level| (Login { key: KEY_2, ..login(level) }, vec![])),
        row("an unknown Thing", |level| (Login { thing: "lab.nobody", ..login(level) }, vec![])),
        row("a key that has ended", |level| (Login { key: "key-old1-0123456789", ..login(level) }, vec![])),
        row("a disabled Thing", |level| {
            (Login { thing: "lab.resting", key: "key-rest-0123456789", ..login(level) }, vec![])
        }),
        row("a will without a right to it", move |level| {
            let will = if level == 5 {
                as_second(level).will(TOPIC, "x", 0)
            } else {
                Login { will: [text(TOPIC), text("x")].concat(), will_topic: TOPIC, ..as_second(level) }
            };
            (will, vec![])
        }),
        saying("accepted, QoS 0", |level| publish_of(level, 0, TOPIC, JSON, b"1")),
        saying("accepted, QoS 1", |level| publish(level, TOPIC, JSON, b"1")),
        saying("accepted, QoS 2", |level| publish_of(level, 2, TOPIC, JSON, b"1")),
        row("no right to publish, QoS 0", move |level| (as_second(level), publish_of(level, 0, TOPIC, JSON, b"1"))),
        row("no right to publish, QoS 1", move |level| (as_second(level), publish(level, TOPIC, JSON, b"1"))),
        row("no right to publish, QoS 2", move |level| (as_second(level), publish_of(level, 2, TOPIC, JSON, b"1"))),
        saying("a channel without a grant", |level| publish(level, "channels/lab.other/messages", JSON, b"1")),
        saying("an unknown channel", |level| publish(level, "channels/lab.none/messages", JSON, b"1")),
        saying("an unknown path", |level| publish(level, "some/where", JSON, b"1")),
        saying("too many levels", |level| publish(level, &format!("{TOPIC}{}", "/b".repeat(200)), JSON, b"1")),
        saying("a topic with a wildcard", |level| publish(level, "channels/lab.telemetry/messages/+", JSON, b"1")),
        saying("a topic with a control character", |level| publish(level, &format!("{TOPIC}\u{1}"), JSON, b"1")),
        saying("too large for the channel", |level| publish(level, TOPIC, JSON, &[b' '; 1_001])),
        saying("too large for the server", |level| publish(level, TOPIC, JSON, &vec![b' '; 1 << 20])),
        saying("a content type that is not admitted", |level| publish(level, TOPIC, b"text/plain", b"1")),
        saying("a payload that is not valid", |level| {
            publish(level, "channels/lab.checked/messages", b"application/senml+json", b"{}")
        }),
        saying("subscribed", |level| subscribe(level, "channels/lab.telemetry/messages/#")),
        saying("subscribed to a group", |level| subscribe(level, "$share/g/channels/lab.telemetry/messages/#")),
        saying("no right to subscribe", |level| subscribe(level, "channels/lab.other/messages/#")),
        saying("subscribed to an unknown channel", |level| subscribe(level, "channels/lab.none/messages/#")),
        saying("subscribed to an unknown path", |level| subscribe(level, "#")),
        saying("subscribed over channels", |level| subscribe(level, "channels/+/messages")),
        saying("subscribed with too many levels", |level| subscribe(level, &format!("{TOPIC}{}", "/+".repeat(200)))),
        saying("subscribed with a malformed filter", |level| subscribe(level, "channels/lab.telemetry/messages/a#")),
        saying("a second CONNECT", |_| packet(0x10, &[text("MQTT"), vec![4, 2, 0, 0], text("x")].concat())),
        saying("a packet that is none", |_| vec![0x00, 0]),
        saying("goodbye", |_| vec![0xe0, 0]),
    ]
}

#[test]
fn the_outcome_table_is_the_same_on_both_brokers() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        let mut table = String::new();
        for (name, make) in rows() {
            for level in VERSIONS {
                let (login, bytes) = make(level);
                let mut client = Client::ask(&adapter, &login);
                let (first, body) = client.read().unwrap();
                assert_eq!(first, 0x20);
                let said = if body[1] == 0 {
                    client.say(&bytes);
                    said(&mut client, level)
                } else {
                    format!("CONNACK {}", code(level, body[1], &body[2..]))
                };
                writeln!(table, "{name} | {level} | {}", if said.is_empty() { "nothing" } else { &said }).unwrap();
            }
        }
        expect_file!["mqtt_outcomes.txt"].assert_eq(&table);
    }
}

/// Each row that something happens in while a client is connected, for both versions.
fn happening(what: &str, adapter: &mut Adapter, happens: impl Fn(&mut Adapter), expected: [&str; 2]) {
    let clients = VERSIONS.map(|level| {
        let id = if level == 5 { "five" } else { "three" };
        let mut client = Client::connect(adapter, &Login { id, ..login(level) });
        assert!(client.subscribe("channels/lab.telemetry/messages/#", 1) < 0x80);
        client
    });
    happens(adapter);
    for ((mut client, level), expected) in clients.into_iter().zip(VERSIONS).zip(expected) {
        let mut all = vec![];
        while let Ok((first, body)) = client.read() {
            all.push(format!(
                "{first:02x} {}",
                code(level, body.first().copied().unwrap_or_default(), body.get(1..).unwrap_or_default())
            ));
        }
        assert_eq!(all.join(", "), expected, "{what} {level}");
    }
}

#[test]
fn who_is_connected_is_told_why_it_is_no_more() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let withdrawn = "e0 0x87 \"access withdrawn\"";
    let set = |text: String| move |adapter: &mut Adapter| adapter.set_manifests(&text).unwrap();
    happening("key removed", &mut adapter, set(MANIFESTS.replace(KEY_1, "key-new1-0123456789")), ["", withdrawn]);
    adapter.set_manifests(MANIFESTS).unwrap();
    until("the key is back", || adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap() == 202);
    let without = MANIFESTS.replacen("  - {channel: telemetry}\n", "", 1);
    happening("right withdrawn", &mut adapter, set(without), ["", withdrawn]);
    adapter.set_manifests(MANIFESTS).unwrap();
    until("the right is back", || adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap() == 202);
    let again = |adapter: &mut Adapter| {
        for (id, level) in [("three", 4), ("five", 5)] {
            drop(Client::connect(adapter, &Login { id, ..login(level) }));
        }
    };
    happening("taken over", &mut adapter, again, ["", "e0 0x8e \"another connection has this client identifier\""]);
    let end = |adapter: &mut Adapter| assert_eq!(adapter.terminate().unwrap(), Some(0));
    happening("shutting down", &mut adapter, end, ["", "e0 0x8b \"this server ends; another may be there\""]);
}

#[test]
fn a_broker_that_is_away_is_told_within_the_bound() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &["--publish-timeout", "2s"]).unwrap();
    let mut clients = VERSIONS.map(|level| {
        let id = if level == 5 { "five" } else { "three" };
        (Client::connect(&adapter, &Login { id, ..login(level) }), level)
    });
    rabbit.pause().unwrap();
    let mut said_of = |bytes: fn(u8) -> Vec<u8>| {
        let mut all = vec![];
        for (client, level) in &mut clients {
            client.say(&bytes(*level));
            client.say(&[0xc0, 0]);
        }
        for (client, level) in &mut clients {
            // A ping is answered meanwhile.
            assert_eq!(client.read().unwrap().0, 0xd0);
            all.push(match client.read() {
                Ok((0x90, body)) => {
                    format!("SUBACK {}", code(*level, *body.last().unwrap(), &body[2..]))
                }
                Ok((first, body)) => format!("{first:02x} {}", code(*level, body[0], &body[1..])),
                Err(_) => "closed".to_owned(),
            });
        }
        all
    };
    let away = "the message broker is not available";
    let subscribed = said_of(|level| subscribe(level, "channels/lab.telemetry/messages/#"));
    assert_eq!(subscribed, ["SUBACK 0x80".to_owned(), format!("SUBACK 0x83 \"{away}\"")]);
    let published = said_of(|level| publish(level, TOPIC, JSON, b"1"));
    assert_eq!(published, ["closed".to_owned(), format!("e0 0x89 \"{away}\"")]);
    // More than is taken at once: what is behind it is not lost sight of.
    let mut client = Client::connect(&adapter, &Login { id: "many", ..login(4) });
    client.say(&publish_of(4, 0, TOPIC, JSON, b"1").repeat(200));
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0);
    rabbit.resume().unwrap();
}
