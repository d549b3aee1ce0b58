//! What the admin port tells, held against what is said of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use conformance::coap::Client;
use conformance::mqtt::{self, Login};
use conformance::ws::{Socket, TEXT};
use conformance::{Adapter, Certificate, KEY_1, KEY_2, MANIFESTS, exchange, program, until};
use rabbitmq_rig::shared_url;

const README: &str = include_str!("../../../adapters/README.md");
const TOPIC: &str = "channels/lab.telemetry/messages/a";

/// Of each metric its type and its labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// A row of the table: names, type, labels and meaning. Of a name that begins with `_` the first two words are those of the
/// first in its row.
fn documented() -> Metrics {
    let mut metrics = Metrics::new();
    for row in README.lines().filter(|line| line.starts_with("| `tidegate_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[names, kind, labels, ..] = cells.as_slice() else { unreachable!("{row}") };
        let labels: BTreeSet<String> =
            labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let names: Vec<&str> = names.split(", ").map(|name| name.trim_matches('`')).collect();
        let begin = names[0].split('_').take(2).collect::<Vec<_>>().join("_");
        for name in names {
            let name = if name.starts_with('_') { format!("{begin}{name}") } else { name.to_owned() };
            let before = metrics.insert(name, (kind.to_owned(), labels.clone()));
            assert!(before.is_none(), "it is there twice: {row}");
        }
    }
    metrics
}

/// Those of an answer, as samples are called. One that has labels is told of when there is a sample of it.
fn told(answer: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let mut kinds = BTreeMap::new();
    for line in answer.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').unwrap();
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            kinds.insert(name, kind.to_owned());
        } else if line.starts_with("tidegate_") {
            let sample = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            // No value of a label holds what separates them.
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned()).collect();
            metrics.insert(name.to_owned(), (kinds[name].clone(), labels));
        }
    }
    metrics
}

/// Does what each of those that have labels counts.
fn use_every_face(adapter: &Adapter) {
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap(), 202);
    events.until("data: 1\n").unwrap();
    exchange(adapter.http(), b"no request\r\n\r\n").unwrap();

    let mut socket = Socket::open(adapter.http(), "/channels/lab.checked/messages", KEY_1).unwrap();
    socket.say(TEXT, "no SenML").unwrap();
    assert_eq!(socket.closed().unwrap().0, 1007);

    Client::connect(adapter.coap()).say(&[0]);
    let mut command = Command::new(program("tidegate").unwrap());
    command.args(["publish", "[]", "--thing", "lab.dev1", "--channel", "telemetry"]).env("TIDEGATE_KEY", KEY_1);
    let sent = command.args(["--url", &format!("coaps://{}", adapter.coaps())]).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));

    let mut stranger = mqtt::Client::ask(adapter, &Login { key: "wrong", ..Login::stored("stranger").clean() });
    assert_eq!(stranger.read().unwrap().1[1], 0x86);
    // It takes no packet of more than 40 bytes.
    let mut small = mqtt::Client::connect(adapter, &Login::stored("small").clean().with(&[0x27, 0, 0, 0, 40]));
    assert!(small.subscribe(TOPIC, 0) < 0x80);
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", &[b' '; 100]).unwrap(), 202);
    let dropped = r#"tidegate_mqtt_dropped_total{cause="too-large"}"#;
    until("it is not sent", || adapter.metric(dropped).unwrap() == 1);

    adapter.set_manifests(&MANIFESTS.replace(KEY_2, "key-new2-0123456789")).unwrap();
    events.until("event: end\n").unwrap();
}

/// A process that is ended with the value.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one tells that takes its grants from an operator, which is not there.
fn told_without_operator() -> Metrics {
    let files = Certificate::new().unwrap();
    let off = ["--listen-http", "--listen-mqtt", "--listen-coap", "--listen-coaps"].map(|option| [option, "off"]);
    let child = Command::new(program("adapter").unwrap())
        .args(["all", "--broker", "memory:", "--admin", "127.0.0.1:0"])
        .args(off.concat())
        // Any file is a token.
        .args(["--grants", "https://127.0.0.1:1", "--grants-ca", &files.cert(), "--grants-token", &files.cert()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let mut log = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("--admin address=")).unwrap();
    let address: SocketAddr = line.rsplit_once('=').unwrap().1.trim().parse().unwrap();
    told(&exchange(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap())
}

#[test]
fn what_is_counted_is_documented_and_what_is_documented_is_counted() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    use_every_face(&adapter);
    let mut found = told(&adapter.admin("/metrics").unwrap());
    found.extend(told_without_operator());
    let documented = documented();
    let missing: Vec<&String> = documented.keys().filter(|name| !found.contains_key(*name)).collect();
    let silent: Vec<&String> = found.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(missing.is_empty() && silent.is_empty(), "documented alone: {missing:?}; counted alone: {silent:?}");
    assert_eq!(found, documented);
}
