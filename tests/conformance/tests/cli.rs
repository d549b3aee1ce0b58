//! The command line against a real adapter, over every face that it speaks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use conformance::coap::{Datagram, NON, POST};
use conformance::pki::{Authority, ClientCertificate, Name};
use conformance::{Adapter, Certificate, DEADLINE, KEY_1, KEY_2, MANIFESTS, program, until};
use rabbitmq_rig::shared_url;
use serde_json::{Value, json};

/// `tidegate`, as the first device.
fn tidegate(url: &str, ca: &str, more: &[&str]) -> Command {
    tidegate_as("lab.dev1", KEY_1, url, ca, more)
}

fn tidegate_as(thing: &str, key: &str, url: &str, ca: &str, more: &[&str]) -> Command {
    let mut command = Command::new(program("tidegate").unwrap());
    command.args(more).args(["--url", url, "--thing", thing, "--channel", "telemetry"]);
    if !ca.is_empty() {
        command.args(["--ca", ca]);
    }
    command.env("TIDEGATE_KEY", key).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A subscriber, and what it prints.
struct Subscriber {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(url: &str, ca: &str) -> Self {
        let more = ["subscribe", "--subtopic", "#", "--timeout", "60s", "--output", "json"];
        let mut command = tidegate(url, ca, &more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// Its exit code and its last words, when it has ended by itself.
    fn end(mut self) -> (Option<i32>, String) {
        let mut words = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        (self.child.wait().unwrap().code(), words)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An adapter with every face, with and without TLS, and each URL of it with its CA.
fn faces(tls: &Certificate) -> (Adapter, Vec<(String, String)>) {
    faces_on("memory:", tls)
}

fn faces_on(broker: &str, tls: &Certificate) -> (Adapter, Vec<(String, String)>) {
    let adapter = Adapter::start(broker, &["--tls-cert", &tls.cert(), "--tls-key", &tls.key()]).unwrap();
    let urls = [
        ("http", adapter.http().port(), String::new()),
        ("https", adapter.https().unwrap().port(), tls.cert()),
        ("ws", adapter.http().port(), String::new()),
        ("wss", adapter.https().unwrap().port(), tls.cert()),
        ("mqtt", adapter.mqtt().port(), String::new()),
        ("mqtts", adapter.mqtts().unwrap().port(), tls.cert()),
    ];
    let urls = urls.map(|(scheme, port, ca)| (format!("{scheme}://localhost:{port}"), ca));
    (adapter, urls.into())
}

/// What is spoken, whether with TLS or without.
fn face(url: &str) -> &str {
    let scheme = url.split("://").next().unwrap();
    ["http", "ws", "mqtt", "coap"].into_iter().find(|face| scheme.starts_with(face)).unwrap()
}

#[test]
fn every_face_checks_itself_and_reaches_every_other() {
    let tls = Certificate::new().unwrap();
    let (adapter, urls) = faces(&tls);
    for (url, ca) in &urls {
        let checked = tidegate(url, ca, &["check"]).output().unwrap();
        let face = face(url);
        assert!(
            checked.status.success() && said(&checked).starts_with(&format!("{face}: accepted after ")),
            "{url}: {}",
            said(&checked)
        );
    }
    let mut subscribers = subscribe(&adapter, &urls);
    for (number, (url, ca)) in urls.iter().enumerate() {
        let payload = number.to_string();
        let more = ["publish", &payload, "--subtopic", "a/b", "--content-type", "application/json", "--qos", "2"];
        let sent = tidegate(url, ca, &more).output().unwrap();
        assert!(sent.status.success(), "{url}: {}", said(&sent));
        for subscriber in &mut subscribers {
            let line = subscriber.next();
            for part in
                [&format!(r#""payload":"{payload}""#), r#""contentType":"application/json""#, "telemetry/messages/a/b"]
            {
                assert!(line.contains(part), "{url}: {part} in {line}");
            }
        }
    }
}

/// From each face to each, in the clear and over TLS and DTLS: the payload and its type.
#[test]
fn what_is_published_over_coap_reaches_every_face_and_the_other_way_round() {
    let tls = Certificate::new().unwrap();
    let (adapter, mut urls) = faces(&tls);
    for (scheme, address) in [("coap", adapter.coap()), ("coaps", adapter.coaps())] {
        urls.push((format!("{scheme}://{address}"), String::new()));
    }
    let mut subscribers = subscribe(&adapter, &urls);
    for (number, (url, ca)) in urls.iter().enumerate() {
        let payload = format!("[{number}]");
        let content_type = ["application/json", "application/senml+json"][number % 2];
        let more = ["publish", &payload, "--subtopic", "a/b", "--content-type", content_type];
        let sent = tidegate(url, ca, &more).output().unwrap();
        assert!(sent.status.success(), "{url}: {}", said(&sent));
        for ((to, _), subscriber) in urls.iter().zip(&mut subscribers) {
            let got: Value = serde_json::from_str(&subscriber.next()).unwrap();
            let expected = (&json!(payload), &json!(content_type));
            assert_eq!((&got["payload"], &got["contentType"]), expected, "{url} to {to}");
        }
    }
}

fn subscribe(adapter: &Adapter, urls: &[(String, String)]) -> Vec<Subscriber> {
    let subscribers = urls.iter().map(|(url, ca)| Subscriber::start(url, ca)).collect();
    // It says nothing when it is subscribed: the server counts.
    until("all are subscribed", || {
        let metrics = adapter.admin("/metrics").unwrap();
        let open = |line: &str| line.starts_with("tidegate_subscriptions{") && !line.ends_with(" 0");
        let count = |line: &str| line.rsplit_once(' ').and_then(|(_, count)| count.parse::<usize>().ok()).unwrap_or(0);
        metrics.lines().filter(|line| open(line)).map(count).sum::<usize>() == urls.len()
    });
    subscribers
}

/// Payload byte for byte, content type, user properties with their order and repetitions, and the order of messages.
//= MQTT5 3.1.3-10, 3.3.2-3, 3.3.2-17, 3.3.2-18, 3.3.2-20
//= MQTT3 3.3.2-3
#[test]
fn what_crosses_from_one_face_to_another_is_not_altered() {
    for broker in ["memory:", shared_url()] {
        let tls = Certificate::new().unwrap();
        let (adapter, urls) = faces_on(broker, &tls);
        let mut subscribers = subscribe(&adapter, &urls);
        for (url, ca) in &urls {
            for payload in ["{\"a\": [1,\t2]}", "2", "3"] {
                let properties = ["unit=°C", "b=1 = 2", "unit=%"].map(|property| format!("--user-property={property}"));
                let content_type = "--content-type=application/json; charset=utf-8";
                let more = ["publish", payload, content_type, &properties[0], &properties[1], &properties[2]];
                let sent = tidegate(url, ca, &more).output().unwrap();
                assert!(sent.status.success(), "{url}: {}", said(&sent));
            }
            for ((to, _), subscriber) in urls.iter().zip(&mut subscribers) {
                for payload in ["{\"a\": [1,\t2]}", "2", "3"] {
                    let got: Value = serde_json::from_str(&subscriber.next()).unwrap();
                    let expected = json!([["unit", "°C"], ["b", "1 = 2"], ["unit", "%"]]);
                    assert_eq!(got["userProperties"], expected, "{broker}: {url} to {to}");
                    assert_eq!(
                        (&got["payload"], &got["contentType"]),
                        (&json!(payload), &json!("application/json; charset=utf-8"))
                    );
                }
            }
        }
    }
}

#[test]
fn what_the_server_refuses_is_told_with_its_exit_code() {
    let tls = Certificate::new().unwrap();
    let (adapter, urls) = faces(&tls);
    for (url, ca) in &urls {
        let refused = |mut command: Command, code: i32, expected: &str| {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{url}: {}", said(&output));
            assert!(said(&output).contains(expected), "{url}: {}", said(&output));
        };
        let is_mqtt = face(url) == "mqtt";
        let publish = ["publish", "1"];
        let wrong = tidegate_as("lab.dev1", "wrong-key-0123456789", url, ca, &publish);
        refused(wrong, 77, if is_mqtt { "BadUserNamePassword" } else { "401" });
        // It may subscribe alone.
        let other = tidegate_as("lab.dev2", KEY_2, url, ca, &publish);
        refused(other, 77, if is_mqtt { "NotAuthorized" } else { "403" });
        // Of a client of MQTT it is not even sent.
        let code = if is_mqtt { 64 } else { 77 };
        refused(tidegate(url, ca, &["publish", "1", "--subtopic", "a/+"]), code, "");
        if !ca.is_empty() {
            refused(tidegate(url, "", &["publish", "1"]), 69, "cannot publish");
        }
    }
    drop(adapter);
    for (url, code) in [
        ("http://127.0.0.1:1", 69),
        ("mqtt://127.0.0.1:1", 69),
        ("coap://127.0.0.1:1", 69),
        ("coaps://127.0.0.1:1", 69),
        ("coaps://", 64),
        ("mqtt://", 64),
    ] {
        let output = tidegate(url, "", &["publish", "1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{url}: {}", said(&output));
    }
}

#[test]
fn coap_checks_itself_and_says_what_it_cannot_say() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let url = format!("coap://{}", adapter.coap());
    let outcome = |mut command: Command, code: i32, expected: &str| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{expected}: {}", said(&output));
        assert!(said(&output).contains(expected), "{expected}: {}", said(&output));
    };
    outcome(tidegate(&url, "", &["check"]), 0, "coap: accepted after ");
    outcome(tidegate(&url, "", &["publish", "1", "--content-type", "application/json"]), 0, "");
    outcome(tidegate_as("lab.dev2", KEY_2, &url, "", &["publish", "1"]), 77, "4.03");
    outcome(tidegate_as("", "wrong-key-0123456789", &url, "", &["publish", "1"]), 77, "4.01");
    outcome(tidegate(&url, "", &["publish", "1", "--retain"]), 64, "");
    outcome(tidegate(&url, "", &["publish", "1", "--user-property", "a=b"]), 64, "");

    let url = format!("coaps://{}", adapter.coaps());
    outcome(tidegate(&url, "", &["check"]), 0, "coap: accepted after ");
    outcome(tidegate_as("flashed-dev1", KEY_1, &url, "", &["publish", "1"]), 0, "");
    outcome(tidegate_as("lab.dev2", KEY_2, &url, "", &["publish", "1"]), 77, "4.03");
    let unknown = ": the server does not know this Thing or its key";
    outcome(tidegate_as("lab.dev1", "wrong-key-0123456789", &url, "", &["publish", "1"]), 77, unknown);
    outcome(tidegate_as("lab.nobody", KEY_1, &url, "", &["publish", "1"]), 77, unknown);
    outcome(tidegate_as("", KEY_1, &url, "", &["publish", "1"]), 64, "the Thing has to be named: --thing");
    let nobody = format!("coaps://{}", adapter.http());
    let silent = format!("nothing answers at {} over DTLS", adapter.http());
    outcome(tidegate(&nobody, "", &["publish", "1"]), 69, &silent);
}

/// A message of QoS 0 is one that nobody confirms, and what the server has to say to it is told all the same.
#[test]
fn qos_0_over_coap_is_sent_and_not_confirmed() {
    let publish = ["publish", "1", "--qos", "0", "--content-type", "application/json"];
    let adapter = Adapter::start("memory:", &[]).unwrap();
    for url in [format!("coap://{}", adapter.coap()), format!("coaps://{}", adapter.coaps())] {
        let sent = tidegate(&url, "", &publish).output().unwrap();
        assert!(sent.status.success() && said(&sent).is_empty(), "{url}: {}", said(&sent));
        let refused = tidegate_as("lab.dev2", KEY_2, &url, "", &publish).output().unwrap();
        assert!(refused.status.code() == Some(77) && said(&refused).contains("4.03"), "{url}: {}", said(&refused));
    }
    let accepted = r#"tidegate_publishes_total{protocol="coap",outcome="accepted"}"#;
    assert_eq!(adapter.metric(accepted).unwrap(), 2);

    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let url = format!("coap://{}", silent.local_addr().unwrap());
    let sending = tidegate(&url, "", &publish).stderr(Stdio::piped()).spawn().unwrap();
    let mut datagram = [0; 1_024];
    let length = silent.recv(&mut datagram).unwrap();
    let request = Datagram::parse(&datagram[..length]).unwrap();
    assert_eq!((request.kind, request.code, request.text().as_str()), (NON, POST, "1"));
    let sent = sending.wait_with_output().unwrap();
    assert!(sent.status.success(), "{}", said(&sent));
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut datagram).is_err(), "it was sent twice");
}

#[test]
fn a_subscriber_over_dtls_gets_what_is_published_and_is_told_that_the_server_ends() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let urls = [(format!("coaps://{}", adapter.coaps()), String::new())];
    let mut subscribers = subscribe(&adapter, &urls);
    let payload = "x".repeat(900);
    let sent = tidegate(&urls[0].0, "", &["publish", &payload, "--content-type", "application/json"]);
    let more = ["publish", "[1]", "--subtopic", "a/b", "--content-type", "application/json"];
    for mut command in [sent, tidegate(&format!("http://{}", adapter.http()), "", &more)] {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    for expected in [payload.as_str(), "[1]"] {
        let got: Value = serde_json::from_str(&subscribers[0].next()).unwrap();
        assert_eq!((&got["payload"], &got["contentType"]), (&json!(expected), &json!("application/json")));
    }
    assert_eq!(adapter.terminate().unwrap(), Some(0));
    let (code, words) = subscribers.pop().unwrap().end();
    assert!(code == Some(77) && words.contains("5.03"), "{code:?} {words}");
}

/// `tidegate` with a certificate and nothing else.
fn tidegate_with(certificate: &ClientCertificate, url: &str, ca: &str, more: &[&str]) -> Command {
    let mut command = Command::new(program("tidegate").unwrap());
    command.args(more).args(["--url", url, "--channel", "lab.telemetry", "--ca", ca]);
    command.args(["--cert", &certificate.cert]).env("TIDEGATE_CERT_KEY", &certificate.key);
    command.env_remove("TIDEGATE_KEY").stdin(Stdio::null());
    command
}

#[test]
fn a_certificate_needs_no_key_on_any_face() {
    let (tls, authority) = (Certificate::new().unwrap(), Authority::new().unwrap());
    let (cert, key, ca) = (tls.cert(), tls.key(), authority.ca());
    let arguments = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let adapter = Adapter::start("memory:", &arguments).unwrap();
    let (before, after) = MANIFESTS.split_once("name: dev1}").unwrap();
    let named = "credentials: {certificate: {subject: \"CN=dev1,O=Lab\"}, ";
    adapter.set_manifests(&format!("{before}name: dev1}}{}", after.replacen("credentials: {", named, 1))).unwrap();
    let [dev1, stranger] = ["dev1", "stranger"].map(|name| authority.sign(Name::Subject(name)).unwrap());
    for (scheme, port, refused) in [
        ("https", adapter.https().unwrap().port(), "401"),
        ("wss", adapter.https().unwrap().port(), "401"),
        ("mqtts", adapter.mqtts().unwrap().port(), "BadUserNamePassword"),
        ("coaps", adapter.coaps().port(), "4.01"),
    ] {
        let url = format!("{scheme}://localhost:{port}");
        let outcome = |mut command: Command, code: i32, expected: &str| {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{url}: {}", said(&output));
            assert!(said(&output).contains(expected), "{url}: {}", said(&output));
        };
        // The manifests may not be in force yet.
        outcome(tidegate_with(&dev1, &url, &cert, &["check", "--within", "20s"]), 0, ": accepted after ");
        outcome(tidegate_with(&stranger, &url, &cert, &["publish", "1"]), 77, refused);
        // The CA of the devices has not signed the server's.
        outcome(tidegate_with(&dev1, &url, &ca, &["publish", "1"]), 69, "cannot publish: ");
        let plain = url.replacen("s:", ":", 1);
        let usage = format!("--cert: over {} no certificate is shown", plain.split_inclusive("//").next().unwrap());
        outcome(tidegate_with(&dev1, &plain, &cert, &["publish", "1"]), 64, &usage);
        let mut mixed = tidegate_with(&dev1, &url, &cert, &["publish", "1"]);
        mixed.env("TIDEGATE_CERT_KEY", &stranger.key);
        outcome(mixed, 64, "do not belong together");
    }
}

#[test]
fn a_subscriber_is_told_that_the_server_ends() {
    let tls = Certificate::new().unwrap();
    let (mut adapter, urls) = faces(&tls);
    let subscribers = subscribe(&adapter, &urls);
    assert_eq!(adapter.terminate().unwrap(), Some(0));
    for ((url, _), subscriber) in urls.iter().zip(subscribers) {
        let (code, words) = subscriber.end();
        let expected = match face(url) {
            "mqtt" => "ServerShuttingDown",
            "ws" => "1012 the server is shutting down",
            _ => "shutting-down",
        };
        assert!(code == Some(77) && words.contains(expected), "{url}: {code:?} {words}");
    }
}

/// What the command line says has to be of use; what the environment says may be meant for another protocol.
#[test]
fn a_ca_or_a_certificate_that_has_no_effect_is_a_matter_of_usage() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let publish = ["publish", "1", "--content-type", "application/json"];
    for (scheme, address) in [
        ("http", adapter.http()),
        ("ws", adapter.http()),
        ("mqtt", adapter.mqtt()),
        ("coap", adapter.coap()),
        ("coaps", adapter.coaps()),
    ] {
        let url = format!("{scheme}://{address}");
        let output = tidegate(&url, "/none", &publish).output().unwrap();
        let with_key = if scheme == "coaps" { " with a key" } else { "" };
        let expected = format!("tidegate: --ca: over {scheme}://{with_key} the server shows no certificate\n");
        assert_eq!((output.status.code(), said(&output)), (Some(64), expected));
        let mut command = tidegate(&url, "", &publish);
        command.env("TIDEGATE_CA", "/none");
        if scheme != "coaps" {
            command.envs([("TIDEGATE_CERT", "/none"), ("TIDEGATE_CERT_KEY", "/none")]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{url}: {}", said(&output));
    }
}

#[test]
fn what_is_missing_or_out_of_range_is_a_matter_of_usage() {
    let usage = |mut command: Command, expected: &str| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{expected}: {}", said(&output));
        assert!(said(&output).contains(expected), "{expected}: {}", said(&output));
    };
    for url in ["http://127.0.0.1:1", "ws://127.0.0.1:1", "mqtt://127.0.0.1:1"] {
        let mut keyless = tidegate(url, "", &["publish", "1"]);
        keyless.env_remove("TIDEGATE_KEY");
        usage(keyless, "a key is needed: --key-file FILE, or TIDEGATE_KEY");
        usage(tidegate(url, "", &["publish", "1", "--key-file", "/none"]), "--key-file /none: No such file");
        usage(tidegate(url, "", &["publish", "@/none"]), "@/none: No such file");
        usage(tidegate(url, "", &["publish", "1", "--expiry", "0"]), "0 is not in 1..");
        let secure = url.replacen("://", "s://", 1);
        usage(tidegate(&secure, "/none", &["publish", "1"]), "--ca /none: No such file");
    }
    usage(tidegate_as("", KEY_1, "mqtt://127.0.0.1:1", "", &["publish", "1"]), "the Thing has to be named: --thing");
    usage(tidegate("mqtt://127.0.0.1:1", "", &["publish", "1", "--subtopic", "a/#"]), "a wildcard is out of place");
}
