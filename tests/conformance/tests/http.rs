//! The HTTP face as a device sees it: a real adapter, real sockets, both brokers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test waits with a deadline")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::{Adapter, Certificate, DEADLINE, KEY_1, KEY_2, MANIFESTS, exchange, program, status, until};
use expect_test::expect_file;
use rabbitmq_rig::{Rabbit, shared_url};

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const SENML: &str = "application/senml+json";

/// The headers of an answer that a device acts on.
fn shown(answer: &str) -> String {
    let acted_on = ["content-type", "content-length", "www-authenticate", "retry-after", "allow", "cache-control"];
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let mut text = lines.next().unwrap().trim_start_matches("HTTP/1.1 ").to_owned();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name = name.to_ascii_lowercase();
        // A problem's length says nothing more than the problem.
        if acted_on.contains(&name.as_str()) && (name != "content-length" || value == "0") {
            write!(text, " | {name}: {value}").unwrap();
        }
    }
    let problem = answer.split("problem/").nth(1).and_then(|rest| rest.split('"').next());
    text + &problem.map_or(String::new(), |code| format!(" | {code}"))
}

fn outcome_table(adapter: &Adapter) -> String {
    let key = format!("Authorization: {KEY_1}");
    let wrong = "Authorization: key-none-0123456789".to_owned();
    let post = |path: &str, headers: &[&str]| format!("POST {path} HTTP/1.1\n{}", headers.join("\n"));
    let path = format!("/{TOPIC}");
    let long = format!("/channels/lab.telemetry/messages{}", "/x".repeat(201));
    let rows: Vec<(&str, String, &[u8])> = vec![
        ("accepted", post(&path, &[&key]), b"[]"),
        ("accepted under the prefix", post(&format!("/http{path}"), &[&key]), b"[]"),
        ("accepted by the channel's alias", post("/channels/flashed-1/messages", &[&key]), b"[]"),
        ("accepted by the channel's bare name", post("/channels/telemetry/messages/", &[&key]), b"[]"),
        ("accepted without a body", post(&path, &[&key, "Content-Length: 0"]), b""),
        ("no credential", post(&path, &["Content-Type: text/plain"]), b"[]"),
        ("unknown key", post(&path, &[&wrong]), b"[]"),
        ("expired key", post(&path, &["Authorization: key-old1-0123456789"]), b"[]"),
        ("suspended thing", post(&path, &["Authorization: key-rest-0123456789"]), b"[]"),
        ("two credentials", post(&path, &[&key, &key]), b"[]"),
        ("no permission", post(&path, &[&format!("Authorization: {KEY_2}")]), b"[]"),
        ("no connection", post("/channels/lab.other/messages", &[&key]), b"[]"),
        ("unknown channel", post("/channels/lab.nothing/messages", &[&key]), b"[]"),
        ("unknown path", post("/channels/lab.telemetry/message", &[&key]), b"[]"),
        ("channel form unknown", post("/channels/LAB.telemetry/messages", &[&key]), b"[]"),
        ("malformed subtopic", post(&format!("{path}/%2B"), &[&key]), b"[]"),
        ("slash in a level", post(&format!("{path}/b%2Fc"), &[&key]), b"[]"),
        ("not UTF-8", post(&format!("{path}/%FF"), &[&key]), b"[]"),
        ("too many levels", post(&long, &[&key]), b"[]"),
        ("bad expiry", post(&format!("{path}?expiry=soon"), &[&key]), b"[]"),
        ("retain", post(&format!("{path}?retain=true"), &[&key]), b"[]"),
        ("expiry beyond what a broker carries", post(&format!("{path}?expiry=4294968"), &[&key]), b"[]"),
        ("quality of service that is none", post(&format!("{path}?qos=3"), &[&key]), b"[]"),
        ("a parameter twice", post(&format!("{path}?retain=false&retain=true"), &[&key]), b"[]"),
        ("two hosts", post(&path, &[&key, "Host: y"]), b"[]"),
        ("head too large", post(&path, &[&key, &format!("X: {}", "y".repeat(300_000))]), b"[]"),
        ("target too long", post(&format!("{path}/{}", "y".repeat(65_535)), &[&key]), b"[]"),
        ("no HTTP", "POST".to_owned(), b""),
        ("too large", post(&path, &[&key]), &[b'x'; 1_001]),
        ("content type not admitted", post(&path, &[&key, "Content-Type: text/html"]), b"[]"),
        ("content type that is none", post(&path, &[&key, "Content-Type: nonsense"]), b"[]"),
        ("payload not valid", post("/channels/checked/messages", &[&key]), b"[]"),
        ("method", format!("PUT {path} HTTP/1.1\n{key}"), b"[]"),
        ("method on an unknown path", format!("DELETE /nothing HTTP/1.1\n{key}"), b""),
        ("options", format!("OPTIONS {path} HTTP/1.1"), b""),
        ("head", format!("HEAD {path} HTTP/1.1\n{key}"), b""),
        ("head without a credential", format!("HEAD {path} HTTP/1.1"), b""),
        ("subscribe without a credential", format!("GET {path} HTTP/1.1"), b""),
        ("subscribe to what is not allowed", format!("GET /channels/lab.other/messages HTTP/1.1\n{key}"), b""),
        ("malformed filter", format!("GET {path}/%23/b HTTP/1.1\n{key}"), b""),
        ("filter over channels", format!("GET /channels/+/messages HTTP/1.1\n{key}"), b""),
        ("subscribe for JSON", format!("GET {path} HTTP/1.1\n{key}\nAccept: application/json"), b""),
        ("the retained message", format!("GET {path}?last=true HTTP/1.1\n{key}"), b""),
        ("history", format!("GET {path}?since=2026-01-01T00:00:00Z HTTP/1.1\n{key}"), b""),
    ];
    let mut table = String::new();
    for (row, head, body) in rows {
        writeln!(table, "{row}: {}", shown(&adapter.request(&head, body).unwrap())).unwrap();
    }
    table
}

/// How long a body may take in the test of the outcome table.
const BODY_READ_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// The rows that take time, a crowd, or an end.
fn slow_rows(mut adapter: Adapter) -> String {
    let head = format!("POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\nContent-Length: 600\r\n\r\n");
    let mut table = String::new();
    let mut row = |name: &str, outcome: &str| writeln!(table, "{name}: {outcome}").unwrap();
    let half = format!("{head}{}", "x".repeat(300));
    let (crowded, slow) = std::thread::scope(|scope| {
        let (mut crowded, mut slow) = (String::new(), None);
        until("a slow body takes all the room", || {
            // One that came while another held the room was refused itself, so there is a new one each time.
            slow = Some(scope.spawn(|| exchange(adapter.http(), half.as_bytes()).unwrap()));
            let begun = std::time::Instant::now();
            while begun.elapsed() < BODY_READ_MAX && !crowded.starts_with("HTTP/1.1 429") {
                crowded = adapter.request(&format!("POST /{TOPIC} HTTP/1.1\nAuthorization: {KEY_1}"), b"[]").unwrap();
            }
            crowded.starts_with("HTTP/1.1 429")
        });
        (crowded, slow.unwrap().join().unwrap())
    });
    row("all clients together send too much", &shown(&crowded));
    row("a body that does not come", &shown(&slow));
    row("no host", &shown(&exchange(adapter.http(), head.replace("Host: x\r\n", "").as_bytes()).unwrap()));

    let ended = |events: &str| events.split("problem/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("dev2: key-dev2-0123456789", "dev2: key-new2-0123456789")).unwrap();
    row("key removed while connected", &format!("event: end | {}", ended(&events.to_end().unwrap())));
    adapter.set_manifests(MANIFESTS).unwrap();
    until("the key is back", || adapter.subscribe(TOPIC, KEY_2).is_ok());
    let events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    let seen = std::thread::scope(|scope| {
        let seen = scope.spawn(|| events.to_end().unwrap());
        adapter.terminate().unwrap();
        seen.join().unwrap()
    });
    row("server shutting down", &format!("event: end | {}", ended(&seen)));
    table
}

/// Only a broker of its own can be away.
fn away_rows(adapter: &Adapter) -> String {
    let key = format!("Authorization: {KEY_1}");
    let publish = adapter.request(&format!("POST /{TOPIC} HTTP/1.1\n{key}"), b"[]").unwrap();
    let filter = "channels/lab.telemetry/messages/first";
    let subscribe = adapter.request(&format!("GET /{filter} HTTP/1.1\n{key}"), b"").unwrap();
    format!(
        "publish while the broker is away: {}\nsubscribe while the broker is away: {}\n",
        shown(&publish),
        shown(&subscribe)
    )
}

#[test]
fn the_outcome_table_is_the_same_on_both_brokers() {
    let limits = ["--http-timeout", "2s", "--http-bodies-bytes-max", "1024"];
    let rabbit = Rabbit::start().unwrap();
    let away = [&limits[..], &["--publish-timeout", "2s"]].concat();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &away).unwrap();
    let common = outcome_table(&adapter);
    rabbit.pause().unwrap();
    let away = away_rows(&adapter);
    rabbit.resume().unwrap();
    until("it publishes again", || adapter.publish(TOPIC, KEY_1, SENML, b"[2]").unwrap() == 202);
    let slow = slow_rows(adapter);
    expect_file!["outcomes.txt"].assert_eq(&[common.as_str(), &slow, &away].concat());

    let adapter = Adapter::start("memory:", &limits).unwrap();
    assert_eq!(outcome_table(&adapter), common);
    assert_eq!(slow_rows(adapter), slow);
}

#[test]
fn every_form_of_a_credential_is_accepted() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let basic = |text: &str| format!("Authorization: Basic {}", STANDARD.encode(text));
    let encoded: String = KEY_1.bytes().map(|b| format!("%{b:02X}")).collect();
    for (query, header, expected) in [
        ("", format!("Authorization: {KEY_1}"), 202),
        ("", format!("Authorization: Thing {KEY_1}"), 202),
        ("", format!("Authorization: bearer {KEY_1}"), 202),
        ("", basic(&format!("lab.dev1:{KEY_1}")), 202),
        ("", basic(&format!("flashed-dev1:{KEY_1}")), 202),
        ("", basic(&format!(":{KEY_1}")), 202),
        ("", basic(&format!("lab.dev2:{KEY_1}")), 401),
        ("", basic(KEY_1), 401),
        ("", "Authorization: Basic ***".to_owned(), 401),
        ("", "Authorization: ".to_owned(), 401),
        (&format!("?a=b&authorization={KEY_1}"), "X: y".to_owned(), 202),
        (&format!("?authorization={encoded}"), "X: y".to_owned(), 202),
        ("?authorization=", "X: y".to_owned(), 401),
        (&format!("?authorization={KEY_1}"), "Authorization: wrong".to_owned(), 401),
    ] {
        let answer = adapter.request(&format!("POST /{TOPIC}{query} HTTP/1.1\n{header}"), b"[]").unwrap();
        assert_eq!(status(&answer).unwrap(), expected, "{query} {header}");
    }
}

#[test]
fn a_message_reaches_those_whose_filter_matches_byte_for_byte() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        let mut all = adapter.subscribe("channels/lab.telemetry/messages/%23", KEY_2).unwrap();
        let mut one = adapter.subscribe("http/channels/flashed-1/messages/*/b", KEY_2).unwrap();
        let text = "[{\"n\":\"a\",\n  \"v\":1}]";
        assert_eq!(adapter.publish("channels/telemetry/messages/a/b", KEY_1, SENML, text.as_bytes()).unwrap(), 202);
        let seen = all.until("data:   \"v\":1}]\n\n").unwrap();
        assert!(seen.contains("topic: channels/lab.telemetry/messages/a/b\n"), "{seen}");
        assert!(seen.contains("content-type: application/senml+json\npublisher: lab.dev1\n"), "{seen}");
        assert!(seen.contains("data: [{\"n\":\"a\",\ndata:   \"v\":1}]\n\n"), "{seen}");
        one.until("data: [").unwrap();

        let octets = [0, 13, 10, 255];
        let sent = adapter.publish("channels/telemetry/messages/x", KEY_1, "application/octet-stream", &octets);
        assert_eq!(sent.unwrap(), 202);
        all.until(&format!("event: base64\ndata: {}\n\n", STANDARD.encode(octets))).unwrap();
        assert!(!one.until("data: [").unwrap().contains("base64"), "a filter lets through what it does not match");
    }
}

/// BR-27: the media type is compared, what was written is carried.
#[test]
fn a_content_type_with_parameters_is_admitted_and_carried_as_written() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    assert_eq!(adapter.publish(TOPIC, KEY_1, "Application/JSON; charset=utf-8", b"{\"v\":1}").unwrap(), 202);
    events.until("content-type: Application/JSON; charset=utf-8\n").unwrap();
}

/// BR-29: HTTP/1.0, connection kept as asked, lengths in their usual spelling, nothing chunked.
//= RFC9112 9.3
#[test]
fn a_modem_stack_is_answered_as_it_expects() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut stream = TcpStream::connect(adapter.http()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let post = |key: &str| {
        format!(
            "POST /{TOPIC} HTTP/1.0\r\nAuthorization: {key}\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n1"
        )
    };
    for (request, expected) in [(post(KEY_1), "202"), (post("wrong"), "401"), (post(KEY_1), "202")] {
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{answer}");
        assert!(answer.contains("\r\nContent-Length: ") && !answer.to_lowercase().contains("chunked"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: keep-alive"), "{answer}");
    }
}

/// Reads one answer with a Content-Length.
fn read_answer(stream: &mut TcpStream) -> String {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

//= RFC9110 10.1.1
#[test]
fn what_can_be_refused_without_the_body_is_refused_before_it() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    for (key, length, expected) in [(KEY_1, 100_000_000, "413"), ("wrong", 5, "401")] {
        let request = format!(
            "POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = exchange(adapter.http(), request.as_bytes()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn a_body_that_grows_too_large_is_answered_readably() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let request = format!(
        "POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(64)
    );
    let answer = exchange(adapter.http(), request.as_bytes()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn a_removed_key_is_refused_at_once_and_its_streams_end() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        let events = adapter.subscribe(TOPIC, KEY_2).unwrap();
        adapter.set_manifests(&MANIFESTS.replace("dev2: key-dev2-0123456789", "dev2: key-new2-0123456789")).unwrap();
        let seen = events.to_end().unwrap();
        assert!(seen.contains("event: end\ndata: {") && seen.contains("problem/revoked"), "{seen}");
        let head = format!("GET /{TOPIC} HTTP/1.1\nAuthorization: {KEY_2}");
        assert_eq!(status(&adapter.request(&head, b"").unwrap()).unwrap(), 401);

        // A file that does not parse takes nothing away.
        adapter.set_manifests("kind: [").unwrap();
        until("the file is found wrong", || adapter.log().contains("all.yaml:"));
        assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, b"[]").unwrap(), 202);

        // A grant that is withdrawn is another refusal than a key that is.
        adapter.set_manifests(&MANIFESTS.replace("  - {channel: telemetry}\n", "")).unwrap();
        until("the grant is withdrawn", || adapter.publish(TOPIC, KEY_1, SENML, b"[]").unwrap() == 403);
    }
}

#[test]
fn a_drain_ends_streams_and_then_the_process() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    let code = std::thread::scope(|scope| {
        let seen = scope.spawn(|| events.to_end().unwrap());
        let code = adapter.terminate().unwrap();
        assert!(seen.join().unwrap().contains("problem/shutting-down"));
        code
    });
    assert_eq!(code, Some(0));
}

/// A request that is under way when the process is told to end is answered, and its answer says that it is the last.
#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let manifests = tempfile::tempdir().unwrap();
    let mut adapter = Command::new(program("adapter").unwrap())
        .args(["all", "--broker", "memory:", "--log-level", "debug", "--admin", "off"])
        .args(["--listen-http", "127.0.0.1:0", "--listen-mqtt", "off", "--manifests"])
        .arg(manifests.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(adapter.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("--listen-http address=")).unwrap();
    let address: SocketAddr = line.rsplit_once('=').unwrap().1.trim().parse().unwrap();
    drop(log);
    let answer = exchange(address, b"GET /channels HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(status(&answer).unwrap(), 404);
    assert!(Command::new("kill").args(["-TERM", &adapter.id().to_string()]).status().unwrap().success());
    let mut ended = None;
    until("it ends", || {
        ended = adapter.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[test]
fn a_connection_that_is_kept_alive_is_told_of_the_drain_by_an_answer() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let request = format!("POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\nContent-Length: 2\r\n\r\n[]");
    let streams: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = TcpStream::connect(adapter.http()).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let answer = read_answer(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 202") && !answer.contains("Connection: close"), "{answer}");
            stream
        })
        .collect();
    assert!(Command::new("kill").args(["-TERM", &adapter.pid().to_string()]).status().unwrap().success());
    until("it drains", || adapter.admin("/ready").is_ok_and(|ready| ready.starts_with("HTTP/1.1 503")));
    // The first may come before the connections know what the admin port does.
    let told = streams.into_iter().find_map(|mut stream| {
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        answer.contains("Connection: close").then_some(stream)
    });
    let mut rest = String::new();
    told.unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

/// BR-33: what keeps a proxy from holding an event stream back.
#[test]
fn an_event_stream_says_that_it_must_not_be_buffered_and_is_never_silent() {
    let adapter = Adapter::start("memory:", &["--http-keep-alive", "200ms"]).unwrap();
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    let seen = events.until(": keep-alive\n\n").unwrap();
    for header in ["Content-Type: text/event-stream", "Cache-Control: no-cache", "X-Accel-Buffering: no"] {
        assert!(seen.contains(&format!("\r\n{header}\r\n")), "{seen}");
    }
}

//= RFC9113 6.8
#[test]
fn a_stream_over_http_2_is_told_of_the_drain() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let mut curl = Command::new("curl")
        .args(["-s", "-S", "-N", "--http2-prior-knowledge", "--noproxy", "*", "-H", &format!("Authorization: {KEY_2}")])
        .arg(format!("http://{}/{TOPIC}", adapter.http()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = curl.stdout.take().unwrap();
    let mut first = [0; 12];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b": subscribed");
    assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, b"[1]").unwrap(), 202);
    assert_eq!(adapter.terminate().unwrap(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [1]") && rest.contains("problem/shutting-down"), "{rest}");
    assert!(curl.wait().unwrap().success());
}

/// The request of the messaging page, to the letter, by curl over TLS.
#[test]
fn the_seed_request_is_accepted() {
    let tls = Certificate::new().unwrap();
    let adapter = Adapter::start("memory:", &["--tls-cert", &tls.cert(), "--tls-key", &tls.key()]).unwrap();
    let url = format!("https://localhost:{}/http/channels/lab.checked/messages", adapter.https().unwrap().port());
    let payload = r#"[{"bn":"some-base-name:","bt":1.276020076001e+09, "bu":"A","bver":5, "n":"voltage","u":"V","v":120.1}, {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}]"#;
    for version in ["--http1.1", "--http2"] {
        let output = Command::new("curl")
            .args(["-s", "-S", "-i", version, "--noproxy", "*", "--cacert", &tls.cert(), "-X", "POST"])
            .args(["--resolve", &format!("localhost:{}:127.0.0.1", adapter.https().unwrap().port())])
            .args([
                "-H",
                "Content-Type: application/senml+json",
                "-H",
                &format!("Authorization: {KEY_1}"),
                &url,
                "-d",
                payload,
            ])
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(status(&answer).unwrap(), 202, "{answer}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_broker_that_hangs_is_said_within_the_bound_and_comes_back_by_itself() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &["--publish-timeout", "2s"]).unwrap();
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    rabbit.pause().unwrap();
    let head = format!("POST /{TOPIC} HTTP/1.1\nAuthorization: {KEY_1}");
    let answer = adapter.request(&head, b"[1]").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("Retry-After: 2\r\n") && answer.contains("problem/broker-unavailable"), "{answer}");
    rabbit.resume().unwrap();
    until("it publishes again", || adapter.publish(TOPIC, KEY_1, SENML, b"[2]").unwrap() == 202);
    events.until("data: [2]").unwrap();
}

#[test]
fn no_key_hash_or_payload_is_logged_or_counted() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &["--log-level", "trace"]).unwrap();
        let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
        let canary = "canary-payload-4711";
        let payload = format!("[\"{canary}\"]");
        assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, payload.as_bytes()).unwrap(), 202);
        events.until(canary).unwrap();
        let refused = [
            adapter.request(&format!("POST /{TOPIC}?authorization=canary-wrong-key HTTP/1.1"), payload.as_bytes()),
            adapter.request(
                &format!("POST /channels/checked/messages HTTP/1.1\nAuthorization: {KEY_1}"),
                payload.as_bytes(),
            ),
        ];
        adapter.set_manifests(&MANIFESTS.replace("dev2: key-dev2", "dev2: [key-dev2")).unwrap();
        until("the file is found wrong", || adapter.log().contains("all.yaml:"));
        let said = adapter.log() + &adapter.admin("/metrics").unwrap() + &refused.map(Result::unwrap).concat();
        for secret in [KEY_1, KEY_2, canary, "canary-wrong-key"] {
            assert!(!said.contains(secret), "{secret} in {}", said.lines().find(|l| l.contains(secret)).unwrap());
        }
        assert!(said.contains("TRACE"), "nothing was logged at all");
    }
}
