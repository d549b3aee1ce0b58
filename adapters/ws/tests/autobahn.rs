//! Autobahn's cases, as `kosoku` has them, against an echo on the very stack of the face: listener of HTTP, handshake,
//! frames, bounds and the end of a connection. The echo is here alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "what was counted is said, and shown with --nocapture")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use axum::extract::ws::Message;
use axum::http::request::Parts;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tidegate_bridge::{BoxFuture, Bridge, BridgeParts, Grants, QueueLimits, SystemClock};
use tidegate_http::{HttpFace, HttpLimits, Problem, Routes, Switch, Upgrade};
use tidegate_memory::{MemoryBroker, MemoryRetained, RetainedLimits};
use tidegate_ws::{Handshake, Incoming, Socket, Stopped};
use tokio::net::TcpListener;

/// Bytes of the largest message of the suite.
const MESSAGE_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Sends back what comes.
struct Echo;

impl Upgrade for Echo {
    fn owns(&self, _path: &str) -> bool {
        true
    }

    fn upgrade(&self, head: Parts) -> BoxFuture<'_, Result<Switch, Problem>> {
        Box::pin(async move {
            let (response, socket) = Handshake::read(head).await?.accept(MESSAGE_BYTES_MAX);
            let session = Box::pin(async move {
                if let Some(socket) = socket.await {
                    echo(socket).await;
                }
                Bytes::new()
            });
            Ok(Switch { response, session })
        })
    }
}

async fn echo(mut socket: Socket) {
    loop {
        let message = match socket.next(true).await {
            Ok(Incoming::Text(text)) => Message::Text(text),
            Ok(Incoming::Binary(bytes)) => Message::Binary(bytes),
            Ok(Incoming::Alive | Incoming::Flushed) => continue,
            Ok(Incoming::Closing) => return socket.part().await,
            Err(Stopped::Wrong(close) | Stopped::TooLarge(close)) => return socket.close(&close, false).await,
            Err(Stopped::Gone) => return,
        };
        if socket.say(message).is_err() {
            return;
        }
    }
}

/// The HTTP face with the echo behind it.
fn face() -> Arc<HttpFace> {
    let mut registry = Registry::default();
    let broker = Arc::new(MemoryBroker::new(QueueLimits::default(), &mut registry));
    let parts = BridgeParts {
        grants: Arc::new(Grants::new()),
        publisher: broker.clone(),
        subscriber: broker,
        retained: Arc::new(MemoryRetained::new(RetainedLimits::default(), &mut registry)),
        clock: Arc::new(SystemClock),
        senml_limits: tidegate_senml::Limits::default(),
    };
    let bridge = Arc::new(Bridge::new(parts, &mut registry));
    HttpFace::new(bridge, HttpLimits::default(), &mut registry)
}

async fn serve(listener: TcpListener) {
    let face = face();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let routes = Routes { requests: false, upgrade: Some(Arc::new(Echo)) };
        tokio::spawn(Arc::clone(&face).serve_connection(tcp, routes, None));
    }
}

/// Where the clients of others are.
fn clients() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/clients/clients.sh");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// Runs the cases that these arguments choose, and counts how the server did, by its behavior and how it closed.
fn run(choice: &[&str]) -> BTreeMap<String, BTreeMap<String, usize>> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    runtime.spawn(serve(listener));

    let reports = tempfile::tempdir().unwrap();
    let mut kosoku = Command::new(clients().join("python/bin/kosoku"));
    kosoku
        .args(["--mode", "fuzzingclient", "--parallelism", "2", "--outdir"])
        .arg(reports.path())
        .args(choice)
        .arg(url);
    let output = kosoku.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let index = std::fs::read_to_string(reports.path().join("index.json")).unwrap_or_else(|_| panic!("{said}"));
    let index: Value = serde_json::from_str(&index).unwrap();

    let mut counted: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (case, result) in index.as_object().unwrap().values().flat_map(|agent| agent.as_object().unwrap()) {
        for of in ["behavior", "behaviorClose"] {
            let how = result[of].as_str().unwrap();
            *counted.entry(of.to_owned()).or_default().entry(how.to_owned()).or_default() += 1;
            if !["OK", "INFORMATIONAL"].contains(&how) {
                eprintln!("{case}: {of} {how}");
            }
        }
    }
    counted
}

fn counts(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(how, count)| ((*how).to_owned(), *count)).collect()
}

#[test]
fn every_case_of_framing_is_passed() {
    let counted = run(&["--exclude", "9.*", "--exclude", "12.*", "--exclude", "13.*"]);
    eprintln!("{counted:?}");
    // Not strict are 6.4.3 and 6.4.4: text that is not UTF-8 within a frame of which more is to come is refused when the
    // frame is whole. Informational is how a server treats what comes after its close frame.
    assert_eq!(counted["behavior"], counts(&[("OK", 242), ("NON-STRICT", 2), ("INFORMATIONAL", 3)]));
    assert_eq!(counted["behaviorClose"], counts(&[("OK", 244), ("INFORMATIONAL", 3)]));
}

#[test]
fn every_case_of_large_messages_is_passed() {
    let counted = run(&["--include", "9.*"]);
    eprintln!("{counted:?}");
    assert_eq!(counted["behavior"], counts(&[("OK", 54)]));
}
