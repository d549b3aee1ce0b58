//! Clients of others over CoAP: libcoap's program from Debian, aiocoap from PyPI and coap-cli from npm, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::device::{Device, node, python};
use conformance::libcoap::Libcoap;
use conformance::ws::Socket;
use conformance::{Adapter, KEY_1, KEY_2, MANIFESTS, until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const PATH: &str = "channels/lab.telemetry/messages";
const PUBLISHED: &str = r#"tidegate_publishes_total{protocol="coap",outcome="accepted"}"#;
const OBSERVATIONS: &str = "tidegate_coap_observations";
const JSON: &str = "50";

/// An adapter that admits large messages.
fn start() -> Adapter {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("maxBytes: 1000", "maxBytes: 65536")).unwrap();
    until("large messages are admitted", || {
        adapter.publish(&format!("{PATH}/none"), KEY_1, "application/json", large().as_bytes()).unwrap() == 202
    });
    adapter
}

/// More than 10 KiB, no two blocks of it alike.
fn large() -> String {
    let numbers: Vec<String> = (10_000..11_800).map(|number: u32| number.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

fn uri(adapter: &Adapter, subtopic: &str, key: &str) -> String {
    format!("coap://{}/{PATH}/{subtopic}?auth={key}", adapter.coap())
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn listening(adapter: &Adapter, subtopic: &str) -> Socket {
    Socket::open(adapter.http(), &format!("/{PATH}/{subtopic}"), KEY_2).unwrap()
}

fn keep(adapter: &Adapter, subtopic: &str, payload: &str) {
    let head =
        format!("POST /{PATH}/{subtopic}?retain=true HTTP/1.1\nAuthorization: {KEY_1}\nContent-Type: application/json");
    assert!(adapter.request(&head, payload.as_bytes()).unwrap().starts_with("HTTP/1.1 202 "));
}

#[test]
fn libcoap_publishes_in_every_way_and_is_told_what_is_wrong() {
    let adapter = start();
    let libcoap = Libcoap::plain();
    let mut socket = listening(&adapter, "libcoap");
    let target = uri(&adapter, "libcoap", KEY_1);
    let whole = file(&large());
    let path = whole.path().display().to_string();
    let ways: [(&[&str], &str); 6] = [
        (&["-m", "post", "-t", JSON, "-e", "[1]"], "[1]"),
        (&["-m", "put", "-t", JSON, "-e", "[2]"], "[2]"),
        (&["-m", "post", "-N", "-t", JSON, "-e", "[3]"], "[3]"),
        (&["-m", "post", "-t", JSON, "-b", "64", "-f", &path], &large()),
        (&["-m", "post", "-t", JSON, "-b", "1024", "-f", &path], &large()),
        (&["-m", "post", "-t", JSON, "-f", &path], &large()),
    ];
    for (arguments, expected) in ways {
        assert_eq!(libcoap.said(arguments, &target), "", "{arguments:?}");
        assert_eq!(socket.message().unwrap().text(), expected, "{arguments:?}");
    }
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), 6);
    let post = ["-m", "post", "-t", JSON, "-e", "[1]"];
    let refused = [
        (uri(&adapter, "a", "key-none-0123456789"), "4.01 no valid credential"),
        (uri(&adapter, "a", KEY_2), "4.03 no grant for this action on this channel and subtopic"),
        (format!("coap://{}/some/where?auth={KEY_1}", adapter.coap()), "4.04 no such path"),
        (uri(&adapter, "a%2Fb", KEY_1), "4.00 malformed subtopic or filter"),
    ];
    for (uri, expected) in refused {
        let said = libcoap.said(&post, &uri);
        assert!(said.starts_with(expected), "{uri}: {said}");
    }
    let far = file(&"[0]".repeat(30_000));
    let far = far.path().display().to_string();
    let told = libcoap.said(&["-m", "post", "-t", JSON, "-b", "1024", "-f", &far], &target);
    assert!(told.starts_with("4.13 "), "{told}");
    assert!(
        libcoap
            .said(&["-m", "get"], &format!("coap://{}/.well-known/core", adapter.coap()))
            .starts_with("</channels>;")
    );
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), 6);
}

#[test]
fn libcoap_fetches_what_is_kept_in_blocks() {
    let adapter = start();
    let target = uri(&adapter, "kept", KEY_2);
    assert_eq!(Libcoap::plain().said(&["-m", "get"], &target), "");
    keep(&adapter, "kept", &large());
    let ways: [&[&str]; 4] = [&[], &["-b", "64"], &["-b", "1024"], &["-N"]];
    for arguments in ways {
        assert_eq!(Libcoap::plain().said(arguments, &target).trim_end(), large(), "{arguments:?}");
    }
}

#[test]
fn libcoap_observes_and_says_when_it_does_no_more() {
    let adapter = start();
    for arguments in [&["-w", "-s", "5"][..], &["-w", "-N", "-s", "5"]] {
        let mut observing = Libcoap::plain().observe(arguments, &uri(&adapter, "watched", KEY_2));
        until("it observes", || adapter.metric(OBSERVATIONS).unwrap() == 1);
        for number in 0..10 {
            let payload = format!("[{number}]");
            assert_eq!(
                Libcoap::plain().said(&["-m", "post", "-t", JSON, "-e", &payload], &uri(&adapter, "watched", KEY_1)),
                ""
            );
            assert_eq!(observing.line(), payload, "{arguments:?}");
        }
        assert_eq!(
            adapter.publish(&format!("{PATH}/watched"), KEY_1, "application/json", large().as_bytes()).unwrap(),
            202
        );
        assert_eq!(observing.line(), large(), "{arguments:?}");
        // After its time it takes its leave by Observe 1.
        until("it does no more", || adapter.metric(OBSERVATIONS).unwrap() == 0);
    }
    // Who observes what is kept is told that first.
    keep(&adapter, "watched", "[99]");
    let mut observing = Libcoap::plain().observe(&["-w", "-s", "5"], &uri(&adapter, "watched", KEY_2));
    assert_eq!(observing.line(), "[99]");
}

/// What libcoap sends is lost with a chance of three in ten, in all 0.24 % of its messages for good: then it is published by
/// nobody. What it does get through is there once.
#[test]
fn libcoap_gets_through_where_datagrams_are_lost() {
    const COUNT: usize = 20;
    let adapter = start();
    // It may take longer than a WebSocket bears that nobody speaks.
    let mut events = adapter.subscribe(&format!("{PATH}/lossy"), KEY_2).unwrap();
    let (libcoap, target) = (Libcoap::plain(), uri(&adapter, "lossy", KEY_1));
    let payloads: Vec<String> = (0..COUNT).map(|number| format!("[{number}]")).collect();
    let programs: Vec<Child> = payloads
        .iter()
        .map(|payload| {
            libcoap.command(&["-l", "30%", "-m", "post", "-t", JSON, "-e", payload], &target).spawn().unwrap()
        })
        .collect();
    for program in programs {
        program.wait_with_output().unwrap();
    }
    let published = usize::try_from(adapter.metric(PUBLISHED).unwrap()).unwrap();
    assert!((COUNT - 2..=COUNT).contains(&published), "{published}");
    // Nothing is behind this.
    adapter.publish(&format!("{PATH}/lossy"), KEY_1, "application/json", b"\"last\"").unwrap();
    let seen = events.until("data: \"last\"\n").unwrap();
    let counts = payloads.iter().map(|payload| seen.matches(&format!("data: {payload}\n")).count());
    let counts: Vec<usize> = counts.collect();
    assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), published);
}

fn asked(device: &mut Device, said: &Value) -> Value {
    let mut whole = json!({"do": "ask"});
    whole.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    device.tell(&whole);
    device.next("response")
}

fn payload(event: &Value) -> String {
    String::from_utf8(STANDARD.decode(event["base64"].as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn aiocoap_publishes_and_fetches() {
    let adapter = start();
    let mut socket = listening(&adapter, "aiocoap");
    let mut device = Device::start(&mut python("coap_device.py"));
    let target = uri(&adapter, "aiocoap", KEY_1);
    for (code, non, text) in [
        ("POST", false, "[1]".to_owned()),
        ("PUT", false, "[2]".to_owned()),
        ("POST", true, "[3]".to_owned()),
        ("POST", false, large()),
        ("PUT", true, large()),
    ] {
        let payload = STANDARD.encode(&text);
        let said = json!({"code": code, "non": non, "uri": target, "format": 50, "payload": payload});
        assert_eq!(asked(&mut device, &said)["code"], "2.04", "{code} {non}");
        assert_eq!(socket.message().unwrap().text(), text, "{code} {non}");
    }
    keep(&adapter, "aiocoap", &large());
    let kept = asked(&mut device, &json!({"code": "GET", "uri": target}));
    assert_eq!((&kept["code"], &kept["format"]), (&json!("2.05"), &json!(50)));
    assert_eq!(payload(&kept), large());
    let core = json!({"code": "GET", "uri": format!("coap://{}/.well-known/core", adapter.coap())});
    assert!(payload(&asked(&mut device, &core)).starts_with("</channels>;"));
    let wrong = asked(&mut device, &json!({"code": "POST", "uri": uri(&adapter, "a", "key-none-0123456789")}));
    assert_eq!((wrong["code"].as_str(), payload(&wrong).as_str()), (Some("4.01"), "no valid credential"));
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), 5);
}

/// It resets what it does not want any more only where that is to be acknowledged, which comes soon here.
#[test]
fn aiocoap_observes_until_it_says_no_or_resets_what_it_is_told() {
    let adapter = Adapter::start("memory:", &["--coap-ping-period", "1s"]).unwrap();
    let mut device = Device::start(&mut python("coap_device.py"));
    let target = uri(&adapter, "watched", KEY_2);
    let publish = |text: &str| {
        let topic = format!("{PATH}/watched");
        assert_eq!(adapter.publish(&topic, KEY_1, "application/json", text.as_bytes()).unwrap(), 202);
    };
    // What holds is told again in each period.
    let told = |device: &mut Device, text: &str| while payload(&device.next("message")) != text {};
    for way in ["deregister", "cancel", "withdrawn"] {
        let first = asked(&mut device, &json!({"code": "GET", "observe": true, "uri": target}));
        assert_eq!((&first["code"], &first["observe"]), (&json!("2.05"), &json!(true)), "{way}");
        until("it observes", || adapter.metric(OBSERVATIONS).unwrap() == 1);
        for number in 0..5 {
            let text = format!("[\"{way}\",{number}]");
            publish(&text);
            told(&mut device, &text);
        }
        match way {
            "deregister" => {
                device.tell(&json!({"do": way, "code": "GET", "uri": target}));
                let answer = device.next("response");
                assert_eq!((&answer["code"], &answer["observe"]), (&json!("2.05"), &json!(false)));
            }
            "cancel" => {
                device.tell(&json!({"do": way}));
                device.next("cancelled");
            }
            _ => {
                adapter.set_manifests(&MANIFESTS.replace(KEY_2, "key-new2-0123456789")).unwrap();
                told(&mut device, "access withdrawn");
            }
        }
        until("it does no more", || adapter.metric(OBSERVATIONS).unwrap() == 0);
    }
}

/// It leaves out a query, and says it as an option instead.
#[test]
fn coap_cli_publishes_and_observes() {
    let adapter = start();
    let mut socket = listening(&adapter, "cli");
    let auth = |key: &str| format!("15,auth={key}");
    let uri = format!("coap://{}/{PATH}/cli", adapter.coap());
    let cli = |arguments: &[&str]| {
        let script = format!("{}/node/node_modules/coap-cli/index.js", conformance::device::clients());
        let mut command = node(&script);
        command.args(arguments).arg(&uri);
        command
    };
    let said = |arguments: &[&str]| {
        let output = cli(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let own = auth(KEY_1);
    for (arguments, payload) in [
        (&["post", "-O", &own, "-p", "[1]"][..], "[1]"),
        (&["put", "-O", &own, "-p", "[2]"], "[2]"),
        (&["post", "-c", "-O", &own, "-p", "[3]"], "[3]"),
    ] {
        let told = said(arguments);
        assert!(told.contains("(2.04)"), "{arguments:?}: {told}");
        assert_eq!(socket.message().unwrap().text(), payload);
    }
    let told = said(&["post", "-O", &auth("key-none-0123456789"), "-p", "[1]"]);
    assert!(told.contains("(4.01)"), "{told}");
    // Whose first answer is empty leaves at once.
    keep(&adapter, "cli", "[0]");
    let other = auth(KEY_2);
    let mut observing = cli(&["get", "-o", "-q", "-O", &other]).stdout(Stdio::piped()).spawn().unwrap();
    until("it observes", || adapter.metric(OBSERVATIONS).unwrap() == 1);
    adapter.publish(&format!("{PATH}/cli"), KEY_1, "application/json", b"[\"told\"]").unwrap();
    let mut told = Vec::new();
    let mut stdout = observing.stdout.take().unwrap();
    until("it is told", || {
        let mut part = [0; 64];
        let count = stdout.read(&mut part).unwrap();
        told.extend_from_slice(&part[..count]);
        String::from_utf8_lossy(&told).contains("[\"told\"]")
    });
    observing.kill().unwrap();
    observing.wait().unwrap();
}
