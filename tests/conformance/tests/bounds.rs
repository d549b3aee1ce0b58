//! What slow, greedy, broken and half-gone clients cost: little, for a while, and nobody else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, Xorshift, exchange, until};
use socket2::{Domain, Socket, Type};

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const SENML: &str = "application/senml+json";

fn post(length: usize) -> String {
    format!("POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(adapter.http()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(format!("{}[]", post(2)).as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
}

#[test]
fn a_body_that_is_only_announced_takes_nobodys_room() {
    let adapter = Adapter::start("memory:", &["--http-bodies-bytes-max", "1024"]).unwrap();
    let announced: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(adapter.http()).unwrap();
            stream.write_all(post(1_000).as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, b"[]").unwrap(), 202);
    drop(announced);
}

#[test]
fn a_refusal_that_leaves_a_large_body_unread_ends_the_connection_and_says_so() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let request = format!("{}{}", post(1_000_000), "x".repeat(1_000_000));
    let answer = exchange(adapter.http(), request.as_bytes()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[test]
fn a_reader_that_stops_reading_is_cut_off() {
    let adapter = Adapter::start("memory:", &["--http-timeout", "1s"]).unwrap();
    // A small window, so that the kernels hold little of what nobody reads.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&adapter.http().into()).unwrap();
    let mut stalled = TcpStream::from(socket);
    let head = format!("GET /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_2}\r\n\r\n");
    stalled.write_all(head.as_bytes()).unwrap();
    let open = || {
        let metrics = adapter.admin("/metrics").unwrap();
        metrics.lines().any(|line| line.starts_with("tidegate_subscriptions{") && line.ends_with(" 1"))
    };
    until("it is subscribed", open);
    let mut publisher = TcpStream::connect(adapter.http()).unwrap();
    let (request, mut answer) = (format!("{}{}", post(1_000), "x".repeat(1_000)), [0; 512]);
    until("it is cut off", || {
        for _ in 0..100 {
            publisher.write_all(request.as_bytes()).unwrap();
            assert!(publisher.read(&mut answer).unwrap() > 0);
        }
        !open()
    });
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header that is neither compressed nor remembered.
//= RFC7541 6.2.2
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

//= RFC9113 6.9
#[test]
fn a_reader_that_gives_no_window_is_cut_off() {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const PING: u8 = 6;
    let adapter = Adapter::start("memory:", &["--http-timeout", "1s"]).unwrap();
    let mut stream = TcpStream::connect(adapter.http()).unwrap();
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let headers = [
        literal(":method", "GET"),
        literal(":scheme", "http"),
        literal(":authority", "x"),
        literal(":path", &format!("/{TOPIC}")),
        literal("authorization", KEY_2),
    ];
    let request = frame(HEADERS, 5, 1, &headers.concat());
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &no_window[..], &request].concat()).unwrap();
    let subscribed = |count: u8| {
        let metrics = adapter.admin("/metrics").unwrap();
        metrics.lines().any(|line| line.starts_with("tidegate_subscriptions{") && line.ends_with(&format!(" {count}")))
    };
    // It answers pings all the while, so that the connection is alive.
    let mut answering = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut head = [0; 9];
        while answering.read_exact(&mut head).is_ok() {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if answering.read_exact(&mut payload).is_err() {
                return;
            }
            if head[3] == PING && head[4] == 0 && answering.write_all(&frame(PING, 1, 0, &payload)).is_err() {
                return;
            }
        }
    });
    until("it is subscribed", || subscribed(1));
    until("it is cut off", || {
        assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, b"[]").unwrap(), 202);
        subscribed(0)
    });
}

#[test]
fn ten_thousand_mutated_requests_leave_it_alive_and_its_memory_flat() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../adapters/http/fuzz/corpus/request");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(corpus.len() >= 5, "only {} requests in the corpus", corpus.len());
    let mut random = Xorshift::default();
    let mut answered = 0;
    let mut send = |rounds: usize| {
        for round in 0..rounds {
            let bytes = random.mutated(&corpus[round % corpus.len()]);
            let mut stream = TcpStream::connect(adapter.http()).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            // A server that has refused it already may take no more.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = [0; 512];
            let length = stream.read(&mut answer).unwrap_or(0);
            let (answer, http2) = (&answer[..length], corpus[round % corpus.len()].starts_with(b"PRI"));
            assert!(length == 0 || http2 || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(answer));
            answered += usize::from(length > 0);
        }
    };
    send(2_000);
    let before = adapter.resident_kib().unwrap();
    send(8_000);
    // Many are broken so that they never end; what ends is answered, if only with 400.
    assert!(answered > 5_000, "only {answered} of 10,000 were answered");
    assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, b"[]").unwrap(), 202);
    let after = adapter.resident_kib().unwrap();
    assert!(after < before + 16 * 1_024, "from {before} to {after} KiB");
}

/// Each is ended by the server's own bound of 30 s, all at the same time.
#[test]
fn a_slow_or_endless_request_ends() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let head = format!("POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\n");
    let cases = [
        (String::new(), ""),
        ("PRI * HTT".to_owned(), ""),
        (head.clone(), ""),
        (head.clone() + "Content-Length: 10\r\n\r\n[", "HTTP/1.1 408"),
        (head.clone() + &"X: y\r\n".repeat(200) + "\r\n", "HTTP/1.1 431"),
        (head + "X: " + &"y".repeat(300_000) + "\r\n\r\n", "HTTP/1.1 431"),
    ];
    std::thread::scope(|scope| {
        for (request, expected) in &cases {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(adapter.http()).unwrap();
                stream.set_read_timeout(Some(2 * DEADLINE)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert_eq!(answer.get(..expected.len()), Some(*expected), "{answer}");
                assert_eq!(answer.is_empty(), expected.is_empty(), "{answer}");
            });
        }
    });
    assert_eq!(adapter.publish(TOPIC, KEY_1, SENML, b"[]").unwrap(), 202);
}
