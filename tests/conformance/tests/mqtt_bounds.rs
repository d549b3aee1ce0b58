//! What a client cannot do to the MQTT face, and what the face does not take from it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use conformance::mqtt::{Client, Login, packet, text};
use conformance::{Adapter, KEY_1, MANIFESTS, until};

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const ALL: &str = "channels/lab.telemetry/messages/#";

/// A client that asks without end and takes no answer is not listened to any more.
#[test]
fn who_takes_no_answers_cannot_pile_them_up() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let floods: [Vec<u8>; 3] = [
        [0xc0, 0].repeat(8_000),
        // Names that nobody knows: each is answered.
        [0x62, 2, 0, 1].repeat(4_000),
        packet(0xa2, &[&[0, 1, 0], &*text("a")].concat()).repeat(2_000),
    ];
    for flood in floods {
        let mut stream = TcpStream::connect(adapter.mqtt()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(&Login::stored("flood").clean().bytes()).unwrap();
        let before = adapter.resident_kib().unwrap();
        let mut sent = 0;
        // Until it is not taken any more, or so much that it would show.
        while sent < 256 * 1_024 * 1_024 && stream.write_all(&flood).is_ok() {
            sent += flood.len();
        }
        let after = adapter.resident_kib().unwrap();
        assert!(sent < 256 * 1_024 * 1_024, "all of it was taken");
        assert!(after < before + 32 * 1_024, "from {before} to {after} KiB for {sent} bytes");
    }
    let mut sane = Client::connect(&adapter, &Login::stored("sane").clean());
    sane.say(&[0xc0, 0]);
    assert_eq!(sane.read().unwrap().0, 0xd0);
}

#[test]
fn what_comes_with_the_connect_is_answered_after_it() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut client = Client::ask(&adapter, &Login::stored("eager").clean().publisher());
    let publish = packet(0x32, &[&*text(TOPIC), &[0, 7, 0], b"1"].concat());
    client.say(&[&[0xc0, 0], &*publish, &[0xc0, 0]].concat());
    let mut kinds: Vec<u8> = (0..4).map(|_| client.read().unwrap().0).collect();
    assert_eq!(kinds.remove(0), 0x20);
    kinds.sort_unstable();
    assert_eq!(kinds, [0x40, 0xd0, 0xd0]);
}

#[test]
fn a_filter_that_is_there_many_times_is_one_subscription() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    assert_eq!(adapter.publish(&format!("{TOPIC}?retain=true"), KEY_1, "application/json", b"0").unwrap(), 202);
    let mut client = Client::connect(&adapter, &Login::stored("again").clean());
    let filters = [&*text(ALL), &[1]].concat().repeat(5_000);
    client.say(&packet(0x82, &[&[0, 1, 0], &*filters].concat()));
    let (first, body) = client.read().unwrap();
    assert_eq!((first, body.len()), (0x90, 3 + 5_000));
    assert!(body[3..].iter().all(|reason| *reason == 1));
    assert_eq!(client.message().2, "0");
    let subscriptions = || {
        let metrics = adapter.admin("/metrics").unwrap();
        metrics.lines().any(|line| line == "tidegate_subscriptions{protocol=\"mqtt\"} 1")
    };
    until("there is one subscription", subscriptions);
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0, "what is retained came once");
    // And no more than so many different ones.
    let many: Vec<u8> = (0..1_500).flat_map(|number| [text(&format!("{TOPIC}/{number}")), vec![0]].concat()).collect();
    client.say(&packet(0x82, &[&[0, 2, 0], &*many].concat()));
    let (_, body) = client.read().unwrap();
    let granted = body[body.len() - 1_500..].iter().filter(|reason| **reason == 0).count();
    assert_eq!(granted, 999);
}

/// Larger than what may wait for a client in all: it comes all the same, since one always fits.
#[test]
fn a_message_that_is_larger_than_any_queue_comes() {
    let adapter = Adapter::start("memory:", &["--mqtt-waiting-bytes-max", "1000"]).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("maxBytes: 1000", "maxBytes: 3000000")).unwrap();
    let payload = [b"[\"", vec![b'x'; 2_000_000].as_slice(), b"\"]"].concat();
    until("it is accepted", || {
        adapter.publish(TOPIC, KEY_1, "application/json", &payload).is_ok_and(|status| status == 202)
    });
    for login in [Login::stored("large"), Login::stored_3("large-3")] {
        let mut client = Client::connect(&adapter, &login);
        client.subscribe(ALL, 1);
        for _ in 0..2 {
            assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", &payload).unwrap(), 202);
            let (_, id, got) = client.message();
            client.acknowledge(0x40, id);
            assert_eq!(got.len(), payload.len());
        }
    }
}
