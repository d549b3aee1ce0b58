//! The WebSocket column of the outcome table, plain and with answers, from real sockets on a real adapter.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use conformance::ws::{BINARY, CLOSE, PING, Socket, TEXT, frame};
use conformance::{Adapter, KEY_1, KEY_2, MANIFESTS, until};
use expect_test::expect_file;
use rabbitmq_rig::{Rabbit, shared_url};

const PATH: &str = "/channels/lab.telemetry/messages/a";
const JSON: &str = "?content-type=application/json";
const ANSWERED: &str = "tidegate.v1";

/// The status of an answer and what of its head or body says why.
fn refusal(answer: &str) -> String {
    let status = answer.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ");
    let code = answer.split_once("problem/").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    let wanted = ["retry-after", "upgrade", "sec-websocket-version", "www-authenticate"];
    let headers = answer.lines().filter(|line| {
        line.split_once(':').is_some_and(|(name, _)| wanted.contains(&name.to_ascii_lowercase().as_str()))
    });
    let headers: String = headers.map(|line| format!(" | {}", line.trim())).collect();
    format!("{status} {code}{headers}")
}

/// What a socket says: so many messages, and how it is closed when it is asked to be, or before.
fn said(mut socket: Socket, bytes: &[u8], messages: usize) -> String {
    let mut all = vec!["open".to_owned()];
    // It may be closed before all is sent.
    let _ = socket.write(bytes);
    let mut is_left = false;
    loop {
        if all.len() > messages && !is_left {
            let _ = socket.say(CLOSE, 1_000_u16.to_be_bytes());
            is_left = true;
        }
        match socket.message() {
            Ok(frame) if frame.first == CLOSE => {
                let (code, reason) = frame.close().unwrap();
                all.push(format!("closed {code} {reason:?}"));
                break;
            }
            Ok(frame) => all.push(frame.text()),
            Err(_) => {
                all.push("gone".to_owned());
                break;
            }
        }
    }
    all.join(", ")
}

fn outcome(adapter: &Adapter, path: &str, headers: &str, bytes: &[u8], messages: usize) -> String {
    match Socket::ask(adapter.http(), path, headers).unwrap() {
        (Some(socket), _) => said(socket, bytes, messages),
        (None, answer) => refusal(&answer),
    }
}

fn authorized(key: &str) -> String {
    format!("Authorization: {key}")
}

fn handshakes() -> Vec<(&'static str, String, String)> {
    let with = |more: &str| format!("{}\n{more}", authorized(KEY_1));
    let row = |name, path: &str, headers: String| (name, path.to_owned(), headers);
    vec![
        row("no credential", PATH, String::new()),
        row("unknown key", PATH, authorized("key-none-0123456789")),
        row("expired key", PATH, authorized("key-old1-0123456789")),
        row("suspended thing", PATH, authorized("key-rest-0123456789")),
        row("no connection", "/channels/lab.other/messages", authorized(KEY_1)),
        row("unknown channel", "/channels/lab.none/messages", authorized(KEY_1)),
        row("unknown path", "/ws/some/where", authorized(KEY_1)),
        row("malformed filter", "/channels/lab.telemetry/messages/a%2Bb", authorized(KEY_1)),
        row("a filter that spans channels", "/channels/%2B/messages", authorized(KEY_1)),
        row("a slash in a level", "/channels/lab.telemetry/messages/a%2Fb", authorized(KEY_1)),
        row("two content types", &format!("{PATH}?content-type=a/b&content-type=c/d"), authorized(KEY_1)),
        row("subscribe that is neither", &format!("{PATH}?subscribe=maybe"), authorized(KEY_1)),
        row("to send alone", &format!("{PATH}?subscribe=false"), with("Sec-WebSocket-Protocol: tidegate.v1")),
        row("to send alone, without a right to it", &format!("{PATH}?subscribe=false"), authorized(KEY_2)),
        row("to send alone, on a wildcard", "/channels/lab.telemetry/messages/%23?subscribe=false", authorized(KEY_1)),
        row(
            "to send alone, wherever each frame says",
            "/channels/lab.telemetry/messages/%23?subscribe=false",
            with("Sec-WebSocket-Protocol: tidegate.v1"),
        ),
        row("two Connection headers", PATH, with("Connection: keep-alive")),
        row("two Upgrade headers", PATH, with("Upgrade: h2c, foo")),
        row("another version", PATH, with("Sec-WebSocket-Version: 8")),
        row("MQTT without its subprotocol", "/mqtt", with("Sec-WebSocket-Protocol: arduino")),
        row("MQTT without any", "/mqtt", authorized(KEY_1)),
        row("MQTT", "/mqtt", with("Sec-WebSocket-Protocol: mqttv3.1, mqtt")),
        row("MQTT under the prefix", "/ws/mqtt", with("Sec-WebSocket-Protocol: mqttv3.1")),
        row("accepted", PATH, authorized(KEY_1)),
        row("accepted under the prefix, by alias", "/ws/channels/flashed-1/messages/%23", authorized(KEY_2)),
        row("accepted by the query", &format!("{PATH}?authorization={KEY_1}"), String::new()),
        row("a subprotocol that is not known", PATH, with("Sec-WebSocket-Protocol: arduino")),
        row("one that is known among others", PATH, with("Sec-WebSocket-Protocol: foo, tidegate.v1")),
    ]
}

fn envelope(id: &str, more: &str) -> Vec<u8> {
    frame(TEXT, format!(r#"{{"type":"publish","id":{id},{more}}}"#).as_bytes())
}

/// Frames of a plain socket, and how it ends.
fn frames() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    vec![
        ("accepted", JSON, KEY_1, frame(TEXT, b"1")),
        ("accepted, of bytes", "?content-type=application/octet-stream", KEY_1, frame(BINARY, &[0, 255])),
        ("accepted, in pieces", JSON, KEY_1, [frame(0x01, b"[1"), frame(0x80, b"]")].concat()),
        ("no right to publish", JSON, KEY_2, frame(TEXT, b"1")),
        ("content type not admitted", "?content-type=text/plain", KEY_1, frame(TEXT, b"1")),
        ("a content type that is none", "?content-type=json", KEY_1, frame(TEXT, b"1")),
        ("too large", JSON, KEY_1, frame(TEXT, &[b' '; 1_001])),
        ("too large in pieces", JSON, KEY_1, [frame(0x01, &[b' '; 900]), frame(0x80, &[b' '; 900])].concat()),
        ("text that is not UTF-8", JSON, KEY_1, frame(TEXT, &[0xff])),
        ("a frame that is none", JSON, KEY_1, vec![0xf1, 0x80, 1, 2, 3, 4]),
        ("a frame without a mask", JSON, KEY_1, vec![0x81, 1, b'1']),
        ("a ping that is too long", JSON, KEY_1, frame(PING, &[0; 126])),
        ("a close code that is none", JSON, KEY_1, frame(CLOSE, &[3, 237])),
        ("after a frame that is refused", JSON, KEY_2, [frame(TEXT, b"1"), frame(TEXT, b"2")].concat()),
        ("too large without a right to publish", JSON, KEY_2, frame(TEXT, &[b' '; 10_000])),
    ]
}

/// Frames of a socket that is answered, and how many answers they have.
fn envelopes() -> Vec<(&'static str, &'static str, usize, Vec<u8>)> {
    vec![
        ("accepted", KEY_1, 1, envelope("1", r#""payload":"[]""#)),
        ("accepted, named by text", KEY_1, 1, envelope(r#""a""#, r#""payloadBase64":"W10=","subtopic":"b//c/""#)),
        (
            "accepted, with all it may say",
            KEY_1,
            1,
            envelope(
                "2",
                r#""payload":"{}","contentType":"application/json","qos":2,"retain":true,"expiry":60,"userProperties":[["a","b"]]"#,
            ),
        ),
        ("no right to publish", KEY_2, 1, envelope("3", r#""payload":"[]""#)),
        ("content type not admitted", KEY_1, 1, envelope("4", r#""payload":"[]","contentType":"text/plain""#)),
        ("too large for the channel", KEY_1, 1, envelope("5", &format!(r#""payload":"{}""#, " ".repeat(1_001)))),
        ("malformed subtopic", KEY_1, 1, envelope("6", r#""payload":"[]","subtopic":"a/+""#)),
        ("a word that is not known", KEY_1, 1, envelope("7", r#""payload":"[]","topic":"a""#)),
        ("no JSON", KEY_1, 1, frame(TEXT, b"[1")),
        ("bytes", KEY_1, 1, frame(BINARY, b"{}")),
        (
            "properties that are too many",
            KEY_1,
            1,
            envelope("10", &format!(r#""payload":"[]","userProperties":[{}]"#, [r#"["",""]"#; 4_000].join(","))),
        ),
        (
            "a subtopic that makes too long a topic",
            KEY_1,
            1,
            envelope("11", &format!(r#""payload":"[]","subtopic":"{}""#, "a".repeat(65_510))),
        ),
        ("escaped as JSON may be", KEY_1, 1, envelope("12", &format!(r#""payload":"[{}]""#, r"\u0020".repeat(900)))),
        (
            "too large for the socket, after others",
            KEY_1,
            2,
            [
                envelope("13", r#""payload":"[]""#),
                envelope("14", r#""payload":"[]""#),
                frame(TEXT, &vec![b' '; 210_000]),
            ]
            .concat(),
        ),
        (
            "one after the other",
            KEY_1,
            3,
            [envelope("8", r#""payload":"[]""#), frame(TEXT, b"!"), envelope("9", r#""payload":"[]""#)].concat(),
        ),
    ]
}

fn table(adapter: &Adapter) -> String {
    let mut table = String::new();
    for (name, path, headers) in handshakes() {
        let answers = usize::from(headers.contains(ANSWERED));
        let outcome = outcome(adapter, &path, &headers, &[], answers);
        writeln!(table, "handshake | {name} | {outcome}").unwrap();
    }
    // Each on a topic of its own: none gets what another sent.
    for (number, (name, query, key, bytes)) in frames().into_iter().enumerate() {
        let outcome = outcome(adapter, &format!("{PATH}/plain/{number}{query}"), &authorized(key), &bytes, 0);
        writeln!(table, "plain | {name} | {outcome}").unwrap();
    }
    let checked = "/channels/lab.checked/messages?content-type=application/senml%2Bjson";
    let invalid = outcome(adapter, checked, &authorized(KEY_1), &frame(TEXT, b"{}"), 0);
    writeln!(table, "plain | payload not valid | {invalid}").unwrap();
    let wildcard =
        outcome(adapter, "/channels/lab.telemetry/messages/b/%23", &authorized(KEY_1), &frame(TEXT, b"1"), 0);
    writeln!(table, "plain | a path with a wildcard | {wildcard}").unwrap();
    for (number, (name, key, answers, bytes)) in envelopes().into_iter().enumerate() {
        let headers = format!("{}\nSec-WebSocket-Protocol: {ANSWERED}", authorized(key));
        let outcome = outcome(adapter, &format!("{PATH}/answered/{number}"), &headers, &bytes, 1 + answers);
        writeln!(table, "answered | {name} | {outcome}").unwrap();
    }
    table
}

#[test]
fn every_outcome_is_what_the_table_says_on_both_brokers() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        expect_file!["ws_outcomes.txt"].assert_eq(&table(&adapter));
    }
}

/// What sockets of both kinds are told when something happens while they are open.
fn happening(what: &str, adapter: &mut Adapter, happens: impl Fn(&mut Adapter), expected: &str) {
    let open = |protocol| Socket::open_speaking(adapter.http(), &format!("{PATH}{JSON}"), KEY_1, protocol).unwrap();
    let sockets = [open(""), open(ANSWERED)];
    happens(adapter);
    for mut socket in sockets {
        let (code, reason) = socket.closed().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(format!("{code} {reason}"), expected, "{what}");
    }
}

#[test]
fn who_is_connected_is_told_why_it_is_no_more() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let set = |text: String| move |adapter: &mut Adapter| adapter.set_manifests(&text).unwrap();
    let is_back = |adapter: &Adapter| {
        adapter.set_manifests(MANIFESTS).unwrap();
        let topic = "channels/lab.telemetry/messages/a";
        until("the right is back", || adapter.publish(topic, KEY_1, "application/json", b"1").unwrap() == 202);
    };
    let withdrawn = "1008 access withdrawn";
    happening("key removed", &mut adapter, set(MANIFESTS.replace(KEY_1, "key-new1-0123456789")), withdrawn);
    is_back(&adapter);
    let without = MANIFESTS.replacen("  - {channel: telemetry}\n", "", 1);
    happening("right withdrawn", &mut adapter, set(without), withdrawn);
    is_back(&adapter);
    let listens =
        MANIFESTS.replacen("  - {channel: telemetry}\n", "  - {channel: telemetry, permissions: [Subscribe]}\n", 1);
    happening("right to publish withdrawn", &mut adapter, set(listens), withdrawn);
    is_back(&adapter);
    let speaks =
        MANIFESTS.replacen("  - {channel: telemetry}\n", "  - {channel: telemetry, permissions: [Publish]}\n", 1);
    happening("right to subscribe withdrawn", &mut adapter, set(speaks), withdrawn);
    is_back(&adapter);
    let end = |adapter: &mut Adapter| assert_eq!(adapter.terminate().unwrap(), Some(0));
    happening("shutting down", &mut adapter, end, "1012 the server is shutting down");
}

#[test]
fn a_broker_that_is_away_is_told_within_the_bound() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &["--publish-timeout", "2s"]).unwrap();
    let path = format!("{PATH}{JSON}");
    let open = |protocol| Socket::open_speaking(adapter.http(), &path, KEY_1, protocol).unwrap();
    let [mut plain, mut leaving, mut answered] = [open(""), open(""), open(ANSWERED)];
    assert!(answered.message().unwrap().text().contains("ready"));
    rabbit.pause().unwrap();
    plain.say(TEXT, "1").unwrap();
    leaving.say(TEXT, "1").unwrap();
    leaving.say(CLOSE, 1_000_u16.to_be_bytes()).unwrap();
    answered.write(&envelope("1", r#""payload":"[]""#)).unwrap();
    // A subscription takes the same bound, so this says that all of them had theirs.
    let other = "/channels/lab.checked/messages";
    assert!(Socket::ask(adapter.http(), other, &authorized(KEY_1)).unwrap().1.starts_with("HTTP/1.1 503 "));
    assert_eq!(plain.closed().unwrap(), (1013, "the message broker is not available".to_owned()));
    // Its own close frame is not answered as if all were well.
    assert_eq!(leaving.closed().unwrap().0, 1013);
    let refused = answered.message().unwrap().text();
    assert!(refused.starts_with(r#"{"type":"refused","id":1,"code":"broker-unavailable","#), "{refused}");
    rabbit.resume().unwrap();
    until("it is accepted again", || {
        answered.write(&envelope("2", r#""payload":"[]""#)).unwrap();
        answered.message().unwrap().text() == r#"{"type":"accepted","id":2}"#
    });
}
