//! What MQTT clients see, by mosquitto's command line and byte by byte: a real adapter and real brokers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, MANIFESTS, until};
use rabbitmq_rig::{Rabbit, shared_url};

const TOPIC: &str = "channels/lab.telemetry/messages/a";

/// A client of mosquitto with the login of a device.
fn client(program: &str, address: SocketAddr, thing: &str, key: &str, more: &[&str]) -> Command {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    // Line by line, also into a pipe.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program, "-h", &host, "-p", &port, "-u", thing, "-P", key]).args(more).stdin(Stdio::null());
    command
}

fn publish(adapter: &Adapter, more: &[&str]) -> Output {
    client("mosquitto_pub", adapter.mqtt(), "lab.dev1", KEY_1, more).output().unwrap()
}

/// A subscriber that is subscribed.
struct Subscriber {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Subscriber {
    fn start(adapter: &Adapter, filter: &str, more: &[&str]) -> Self {
        let arguments = [&["-t", filter, "-d", "-W", "60"], more].concat();
        let mut command = client("mosquitto_sub", adapter.mqtt(), "lab.dev2", KEY_2, &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let subscribed = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("Subscribed "));
        assert!(subscribed, "mosquitto_sub {filter} was not subscribed");
        Self { child, lines }
    }

    /// The next message, without what the client says about itself.
    fn next(&mut self) -> String {
        let about = |line: &String| line.starts_with("Client ") || line.starts_with("Subscribed ");
        self.lines.by_ref().map_while(Result::ok).find(|line| !about(line)).expect("a message")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_version_and_quality_of_service_reaches_every_subscriber_and_other_faces() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let mut events = adapter.subscribe("channels/telemetry/messages/%23", KEY_2).unwrap();
    let versions = ["mqttv31", "mqttv311", "mqttv5"];
    let filter = "channels/lab.telemetry/messages/#";
    let mut subscribers: Vec<Subscriber> = versions
        .iter()
        .flat_map(|version| ["0", "1", "2"].map(|qos| Subscriber::start(&adapter, filter, &["-V", version, "-q", qos])))
        .collect();
    for version in versions {
        for qos in ["0", "1", "2"] {
            let payload = format!("{version}-{qos}");
            let sent = publish(&adapter, &["-V", version, "-q", qos, "-t", TOPIC, "-m", &payload]);
            assert!(sent.status.success(), "{payload}: {}", String::from_utf8_lossy(&sent.stderr));
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.next(), payload);
            }
            assert!(events.until(&payload).unwrap().contains("lab.telemetry/messages/a"));
        }
    }
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"\"of http\"").unwrap(), 202);
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next(), "\"of http\"");
    }
}

/// BR-52: the line of the messaging page, which names no client.
//= MQTT5 3.1.3-6, 3.1.3-7, 3.1.4-5, 3.2.0-1, 3.2.2-16
//= MQTT3 3.1.3-6, 3.1.4-4, 3.2.0-1
#[test]
fn clients_without_a_name_get_one_and_disturb_nobody() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut first = Subscriber::start(&adapter, "channels/telemetry/messages/#", &["-V", "5"]);
    let mut second = Subscriber::start(&adapter, "channels/telemetry/messages/#", &["-V", "311"]);
    for version in ["5", "311"] {
        let sent = publish(&adapter, &["-V", version, "-q", "1", "-t", "channels/telemetry/messages", "-m", "x"]);
        assert!(sent.status.success());
        assert_eq!((first.next(), second.next()), ("x".to_owned(), "x".to_owned()));
    }
}

//= MQTT5 3.1.4-2
#[test]
fn who_is_not_known_or_may_not_is_told_so() {
    let adapter = Adapter::start("memory:", &["--log-level", "debug"]).unwrap();
    let wrong = |thing: &str, key: &str, version: &str| {
        let more = ["-V", version, "-q", "1", "-t", TOPIC, "-m", "x"];
        let output = client("mosquitto_pub", adapter.mqtt(), thing, key, &more).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    for (thing, key) in [("lab.dev1", KEY_2), ("lab.nobody", KEY_1), ("lab.resting", "key-rest-0123456789")] {
        for (version, expected) in [("311", "bad user name or password"), ("5", "Bad User Name or Password")] {
            let (success, said) = wrong(thing, key, version);
            assert!(!success && said.to_lowercase().contains(&expected.to_lowercase()), "{thing} {version}: {said}");
        }
    }
    // It may subscribe and not publish.
    let (_, said) = wrong("lab.dev2", KEY_2, "5");
    assert!(said.contains("Not authorized"), "{said}");
    // The log says whose clients they are, and nothing that is no Thing: one may have mistaken the key for the name.
    wrong(KEY_1, KEY_1, "5");
    for expected in [
        "a client is not let in thing=\"lab.dev1\"",
        "a client is not let in refusal=",
        "a message is refused thing=lab.dev2",
    ] {
        until(expected, || adapter.log().contains(expected));
    }
    assert!(!adapter.log().contains(KEY_1) && !adapter.log().contains("lab.nobody"), "{}", adapter.log());
}

/// Sends bytes and reads until the other side has nothing more to say, or until so many came.
fn raw(adapter: &Adapter, bytes: &[u8], count: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(adapter.mqtt()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    let mut piece = [0; 256];
    while said.len() < count {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            read => said.extend_from_slice(&piece[..read]),
        }
    }
    said
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// BR-12: level 3 by its own name is served, by the new name it is refused and told why.
//= MQTT3 3.1.2-1, 3.1.2-2
#[test]
fn a_version_that_is_not_served_is_told_so() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = "003c0002633100086c61622e6465763100136b65792d646576312d30313233343536373839";
    let served = bytes(&format!("102f00064d514973647003c2{login}"));
    assert_eq!(raw(&adapter, &served, 4), [0x20, 2, 0, 0]);
    let mixed = bytes(&format!("102d00044d51545403c2{login}"));
    assert_eq!(raw(&adapter, &mixed, usize::MAX), [0x20, 2, 0, 1]);
    let newer = bytes(&format!("102d00044d51545406c2{login}"));
    assert_eq!(raw(&adapter, &newer, usize::MAX), [0x20, 3, 0, 0x84, 0]);
    assert_eq!(raw(&adapter, b"GET / HTTP/1.1\r\n\r\n", usize::MAX), b"");
}

#[test]
fn a_right_that_is_taken_away_ends_the_connection() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut subscriber = Subscriber::start(&adapter, "channels/telemetry/messages/#", &["-V", "5"]);
    adapter.set_manifests(&MANIFESTS.replace("permissions: [Subscribe]", "permissions: [Publish]")).unwrap();
    until("the client is thrown out", || subscriber.child.try_wait().unwrap().is_some());
}

//= MQTT5 3.1.3-2, 3.1.4-3
//= MQTT3 3.1.3-2, 3.1.4-2
#[test]
fn the_same_name_takes_over_within_a_thing_and_not_beyond_it() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let filter = "channels/telemetry/messages/#";
    let mut first = Subscriber::start(&adapter, filter, &["-V", "5", "-i", "same"]);
    // Another Thing's client of that name is another client.
    let sent = publish(&adapter, &["-V", "5", "-i", "same", "-q", "1", "-t", TOPIC, "-m", "x"]);
    assert!(sent.status.success());
    assert_eq!(first.next(), "x");
    let _second = Subscriber::start(&adapter, filter, &["-V", "5", "-i", "same"]);
    until("the first one is thrown out", || {
        let said =
            first.lines.by_ref().map_while(Result::ok).any(|line| line.contains("DISCONNECT") || line.contains("142"));
        said || first.child.try_wait().unwrap().is_some()
    });
}

#[test]
fn nothing_is_acknowledged_while_the_broker_is_away() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &[]).unwrap();
    rabbit.pause().unwrap();
    let more = ["-V", "311", "-q", "1", "-d", "-t", TOPIC, "-m", "x"];
    let mut sender = client("mosquitto_pub", adapter.mqtt(), "lab.dev1", KEY_1, &more);
    let mut sender = sender.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(sender.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("sending PUBLISH")));
    rabbit.resume().unwrap();
    assert!(lines.any(|line| line.contains("received PUBACK")));
    assert!(sender.wait().unwrap().success());
}
