//! What a listener knows of its clients by their certificates.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod rig;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tidegate_daemon::Stream;
use tidegate_daemon::drain::Drain;
use tidegate_daemon::listen::{self, ListenLimits};
use tidegate_daemon::tls::{ClientAuth, TlsFiles, install_crypto_provider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use rig::{LOOPBACK, mounted, swap, until, write_pair};

/// A CA of clients.
struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A client's certificate and its key.
struct Pair(CertificateDer<'static>, KeyPair);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Signs a certificate that ends at the beginning of `year`.
    fn sign(&self, year: i32) -> Pair {
        let mut params = CertificateParams::new(["pump-7.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair(params.signed_by(&key, &self.0).unwrap().der().clone(), key)
    }
}

/// Writes the certificates of these CAs as `ca.crt`.
fn write_cas(folder: &Path, cas: &[&Ca]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("ca.crt"), cas.iter().map(|ca| ca.0.pem()).collect::<String>()).unwrap();
}

/// Serves with the files of a folder, and tells each client, as often as it asks by a byte, which certificate it showed.
fn serve(folder: &Path, client_auth: ClientAuth) -> SocketAddr {
    install_crypto_provider();
    let files = TlsFiles { cert: folder.join("tls.crt"), key: folder.join("tls.key"), client_auth };
    let listener = listen::bind("--listen", LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async |mut stream: Stream, _peer| {
        let shown = stream.peer_certificate().unwrap_or_default().to_owned();
        let length = u32::try_from(shown.len()).unwrap();
        while stream.read_u8().await.is_ok() {
            stream.write_u32(length).await.unwrap();
            stream.write_all(&shown).await.unwrap();
            stream.flush().await.unwrap();
        }
    };
    let serve = move |stream, peer| Box::pin(serve(stream, peer)) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let tls = files.watch().unwrap().tls(&[]);
    tokio::spawn(listen::serve(listener, Some(tls), ListenLimits::default(), Drain::new(), serve));
    address
}

/// A client that trusts this server and shows this certificate.
fn client(
    server: &CertificateDer<'static>,
    pair: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(server.clone()).unwrap();
    let config = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
    let config = match pair {
        None => config.with_no_client_auth(),
        Some(Pair(certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            config.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

async fn connect(address: SocketAddr, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    client.connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

/// The certificate that the server knows a client by; empty where it knows none.
async fn known(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    stream.write_all(b"?").await?;
    let mut shown = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut shown).await?;
    Ok(shown)
}

/// The same of a new connection; nothing where it is refused, which a client of TLS 1.3 sees only when it reads.
async fn admitted(address: SocketAddr, client: &TlsConnector) -> Option<Vec<u8>> {
    known(&mut connect(address, client).await.ok()?).await.ok()
}

#[tokio::test]
async fn a_certificate_is_known_when_one_of_the_cas_signed_it_and_its_time_is_not_over() {
    let folder = TempDir::new().unwrap();
    let server = write_pair(folder.path());
    let (first, second, foreign) = (Ca::new(), Ca::new(), Ca::new());
    write_cas(folder.path(), &[&first, &second]);
    let ca = folder.path().join("ca.crt");
    let optional = serve(folder.path(), ClientAuth::Optional(ca.clone()));
    let required = serve(folder.path(), ClientAuth::Required(ca));
    let unasked = serve(folder.path(), ClientAuth::None);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let with = |pair: Option<&Pair>| client(&server, pair, versions);
        for pair in [first.sign(2090), second.sign(2090)] {
            let known = Some(pair.0.to_vec());
            assert_eq!(admitted(optional, &with(Some(&pair))).await, known);
            assert_eq!(admitted(required, &with(Some(&pair))).await, known);
            assert_eq!(admitted(unasked, &with(Some(&pair))).await, Some(vec![]));
        }
        for wrong in [foreign.sign(2090), first.sign(2020)] {
            assert_eq!(admitted(optional, &with(Some(&wrong))).await, None);
            assert_eq!(admitted(required, &with(Some(&wrong))).await, None);
        }
        assert_eq!(admitted(optional, &with(None)).await, Some(vec![]));
        assert_eq!(admitted(required, &with(None)).await, None);
    }
}

#[tokio::test]
async fn cas_are_replaced_in_place_and_open_connections_stay() {
    let folder = TempDir::new().unwrap();
    let server = mounted(folder.path(), &["ca.crt"]);
    let version = |number: u8| folder.path().join(format!("..v{number}"));
    let copy_pair = |from: u8, to: u8| {
        std::fs::create_dir_all(version(to)).unwrap();
        for name in ["tls.crt", "tls.key"] {
            std::fs::copy(version(from).join(name), version(to).join(name)).unwrap();
        }
    };
    let (before, after) = (Ca::new(), Ca::new());
    write_cas(&version(1), &[&before]);
    let address = serve(folder.path(), ClientAuth::Optional(folder.path().join("ca.crt")));
    let versions = rustls::ALL_VERSIONS;
    let (old, new) = (before.sign(2090), after.sign(2090));
    let old_client = client(&server, Some(&old), versions);
    let mut open = connect(address, &old_client).await.unwrap();
    assert_eq!(known(&mut open).await.unwrap(), old.0.to_vec());

    copy_pair(1, 2);
    write_cas(&version(2), &[&after]);
    swap(folder.path(), "..v2");
    let new_client = client(&server, Some(&new), versions);
    until("the new CA counts", async || admitted(address, &new_client).await == Some(new.0.to_vec())).await;
    assert_eq!(admitted(address, &old_client).await, None);
    assert_eq!(known(&mut open).await.unwrap(), old.0.to_vec());

    // What is half there keeps what was, and nothing else from being renewed.
    let renewed = write_pair(&version(3));
    let pem = after.0.pem();
    std::fs::write(version(3).join("ca.crt"), &pem[..pem.len() / 2]).unwrap();
    swap(folder.path(), "..v3");
    let new_client = client(&renewed, Some(&new), versions);
    until("the new pair is served", async || admitted(address, &new_client).await == Some(new.0.to_vec())).await;
    assert_eq!(admitted(address, &client(&renewed, Some(&old), versions)).await, None);

    copy_pair(2, 4);
    std::fs::write(version(4).join("tls.key"), "half").unwrap();
    write_cas(&version(4), &[&before, &after]);
    swap(folder.path(), "..v4");
    let old_client = client(&renewed, Some(&old), versions);
    until("both CAs count", async || admitted(address, &old_client).await == Some(old.0.to_vec())).await;
}

/// A session that is resumed brings the certificate along without a look at it: after its end, too.
#[tokio::test]
async fn no_session_of_a_listener_that_asks_for_certificates_is_resumed() {
    let folder = TempDir::new().unwrap();
    let server = write_pair(folder.path());
    let ca = Ca::new();
    write_cas(folder.path(), &[&ca]);
    let asking = serve(folder.path(), ClientAuth::Optional(folder.path().join("ca.crt")));
    let unasked = serve(folder.path(), ClientAuth::None);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for (address, expected) in [(asking, HandshakeKind::Full), (unasked, HandshakeKind::Resumed)] {
            let client = client(&server, Some(&ca.sign(2090)), versions);
            admitted(address, &client).await.unwrap();
            let mut again = connect(address, &client).await.unwrap();
            known(&mut again).await.unwrap();
            assert_eq!(again.get_ref().1.handshake_kind(), Some(expected), "{versions:?}");
        }
    }
}

#[tokio::test]
async fn files_that_hold_no_ca_are_named() {
    install_crypto_provider();
    let folder = TempDir::new().unwrap();
    write_pair(folder.path());
    let error = |ca: &str| {
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let client_auth = ClientAuth::Required(folder.path().join(ca));
        let error = TlsFiles { cert, key, client_auth }.watch().err().unwrap().to_string();
        error.replace(&folder.path().display().to_string(), "")
    };
    assert_eq!(error("none.crt"), "--tls-client-ca /none.crt: No such file or directory (os error 2)");
    assert_eq!(error("tls.key"), "--tls-client-ca /tls.key: no certificate in it");
    std::fs::write(folder.path().join("odd.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(error("odd.crt").starts_with("--tls-client-ca /odd.crt: "));
}
