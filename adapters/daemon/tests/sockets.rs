//! The daemon on real sockets and real files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod rig;

use std::error::Error as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tidegate_daemon::drain::Drain;
use tidegate_daemon::listen::{self, ListenLimits};
use tidegate_daemon::tls::{ClientAuth, Tls, TlsFiles, install_crypto_provider};
use tidegate_daemon::{Stream, admin, watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use rig::{DEADLINE, LOOPBACK, mounted, swap, until, write_pair};

fn files(folder: &Path) -> TlsFiles {
    TlsFiles { cert: folder.join("tls.crt"), key: folder.join("tls.key"), client_auth: ClientAuth::None }
}

fn tls(files: TlsFiles) -> Tls {
    files.watch().unwrap().tls(&[])
}

/// Serves an echo and tells where.
fn echo(tls: Option<Tls>, drain: &Drain) -> SocketAddr {
    echo_within(ListenLimits::default(), tls, drain)
}

fn echo_within(limits: ListenLimits, tls: Option<Tls>, drain: &Drain) -> SocketAddr {
    let listener = listen::bind("--listen", LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async |mut stream: Stream, _peer| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
    };
    let serve = move |stream, peer| Box::pin(serve(stream, peer)) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    tokio::spawn(listen::serve(listener, tls, limits, drain.clone(), serve));
    address
}

/// A TLS connection that trusts nothing but `trusted`.
async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

async fn echoes(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok() && byte == *b"x"
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_open_connections_stay() {
    install_crypto_provider();
    let folder = TempDir::new().unwrap();
    let first = mounted(folder.path(), &[]);
    let address = echo(Some(tls(files(folder.path()))), &Drain::new());
    let mut open = connect(address, &first).await.unwrap();
    assert!(echoes(&mut open).await);

    let second = write_pair(&folder.path().join("..v2"));
    swap(folder.path(), "..v2");
    until("the new certificate is served", async || connect(address, &second).await.is_ok()).await;
    assert!(connect(address, &first).await.is_err());
    assert!(echoes(&mut open).await);
}

#[tokio::test]
async fn whatever_is_served_with_the_same_files_has_the_renewed_ones() {
    install_crypto_provider();
    let folder = TempDir::new().unwrap();
    mounted(folder.path(), &[]);
    let watched = files(folder.path()).watch().unwrap();
    let addresses = [echo(Some(watched.tls(&[])), &Drain::new()), echo(Some(watched.tls(&[b"mqtt"])), &Drain::new())];
    let mut identity = watched.identity();
    drop(watched);
    let second = write_pair(&folder.path().join("..v2"));
    swap(folder.path(), "..v2");
    tokio::time::timeout(DEADLINE, identity.changed()).await.unwrap().unwrap();
    assert_eq!(*identity.borrow().leaf(), second);
    for address in addresses {
        until("the new certificate is served", async || connect(address, &second).await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_pair_that_does_not_fit_keeps_the_one_before() {
    install_crypto_provider();
    let folder = TempDir::new().unwrap();
    let first = mounted(folder.path(), &[]);
    let mut changes = watch::watch(vec![folder.path().join("tls.crt")]);
    let address = echo(Some(tls(files(folder.path()))), &Drain::new());

    write_pair(&folder.path().join("..v2"));
    std::fs::copy(folder.path().join("..v1/tls.key"), folder.path().join("..v2/tls.key")).unwrap();
    swap(folder.path(), "..v2");
    tokio::time::timeout(DEADLINE, changes.changed()).await.unwrap().unwrap();
    assert!(connect(address, &first).await.is_ok());

    let third = write_pair(&folder.path().join("..v3"));
    swap(folder.path(), "..v3");
    until("the whole pair is served", async || connect(address, &third).await.is_ok()).await;
}

#[tokio::test]
async fn files_that_are_no_identity_are_named() {
    install_crypto_provider();
    let folder = TempDir::new().unwrap();
    write_pair(folder.path());
    let error = |files: TlsFiles| files.watch().err().unwrap().to_string();
    let missing = TlsFiles { cert: "/nowhere.crt".into(), ..files(folder.path()) };
    assert_eq!(error(missing), "--tls-cert /nowhere.crt: No such file or directory (os error 2)");
    let swapped = TlsFiles { key: folder.path().join("tls.crt"), ..files(folder.path()) };
    assert!(error(swapped).ends_with("tls.crt: no PEM of that kind in it"));
}

#[tokio::test]
async fn an_answer_before_the_whole_request_is_read_whole() {
    let listener = listen::bind("--listen", LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async |mut stream: Stream, _peer| {
        let mut some = [0; 16];
        stream.read_exact(&mut some).await.unwrap();
        stream.write_all(b"no, thank you").await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let serve = move |stream, peer| Box::pin(serve(stream, peer)) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    tokio::spawn(listen::serve(listener, None, ListenLimits::default(), Drain::new(), serve));

    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&vec![0; 4 * 1_024 * 1_024]).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "no, thank you");
}

/// More than can be counted is as many as there can be.
#[tokio::test]
async fn a_bound_beyond_all_connections_is_none() {
    let limits = ListenLimits { connections_max: usize::MAX, handshakes_max: usize::MAX, ..ListenLimits::default() };
    let mut open = TcpStream::connect(echo_within(limits, None, &Drain::new())).await.unwrap();
    assert!(echoes(&mut open).await);
}

#[tokio::test]
async fn a_drain_stops_accepting_and_waits_for_what_is_open() {
    let drain = Drain::new();
    let address = echo(None, &drain);
    let mut open = TcpStream::connect(address).await.unwrap();
    assert!(echoes(&mut open).await);
    drain.begin();
    until("nobody is accepted", async || TcpStream::connect(address).await.is_err()).await;
    assert!(echoes(&mut open).await);
    assert!(!drain.finished(Duration::ZERO).await);
    drop(open);
    assert!(drain.finished(DEADLINE).await);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = listen::bind("--listen-http", LOOPBACK).unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen::bind("--listen-http", address).err().unwrap();
    assert_eq!(error.to_string(), format!("--listen-http {address}"));
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "Address already in use (os error 98)");
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{} {}", head.split_whitespace().nth(1).unwrap(), body.trim_end())
}

#[tokio::test]
async fn the_admin_endpoint_tells_the_truth() {
    let listener = listen::bind("--admin", LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, drain) = (admin::Readiness::new(), Drain::new());
    readiness.set("grants loaded", false);
    readiness.set("broker link up", false);
    let registry = prometheus_client::registry::Registry::default();
    tokio::spawn(admin::serve(listener, readiness.clone(), registry, drain.clone()));

    assert_eq!(get(address, "/health").await, "200 ok");
    assert_eq!(get(address, "/ready").await, "503 not ready: broker link up\nnot ready: grants loaded");
    readiness.set("grants loaded", true);
    readiness.set("broker link up", true);
    assert_eq!(get(address, "/ready").await, "200 ready");
    assert_eq!(get(address, "/metrics").await, "200 # EOF");
    assert!(get(address, "/else").await.starts_with("404"));
    drain.begin();
    assert_eq!(get(address, "/ready").await, "503 not ready: draining");
    assert_eq!(get(address, "/health").await, "200 ok");
}
