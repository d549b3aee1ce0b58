//! TLS for listeners: one certificate, and the CAs of the clients', replaced in place when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Makes aws-lc the cryptography of this process. Call it first in `main`.
pub fn install_crypto_provider() {
    // Only a second call fails, and then it is in force already.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The option that names the CAs of clients.
const CLIENT_CA: &str = "--tls-client-ca";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of that kind.
    #[error("{option} {}: {reason}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never what it holds.
        reason: String,
    },
    /// Certificate and key do not fit together.
    #[error("--tls-cert {}: {reason}", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// Whether clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked for one.
    None,
    /// They may; one that is shown is verified against the CAs of this file, PEM, each of which is an anchor.
    Optional(PathBuf),
    /// They must; who shows none that these CAs signed is refused in the handshake.
    Required(PathBuf),
}

impl ClientAuth {
    /// The file of the CAs.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Optional(ca) | Self::Required(ca) => Some(ca),
        }
    }

    fn authorities(&self, provider: &Arc<CryptoProvider>) -> Result<Authorities, TlsError> {
        let Some(path) = self.ca() else {
            return Ok(Authorities { certificates: Vec::new(), verifier: WebPkiClientVerifier::no_client_auth() });
        };
        let wrong = |reason: String| TlsError::File { option: CLIENT_CA, path: path.to_owned(), reason };
        let certificates = certificates(CLIENT_CA, path)?;
        let mut anchors = RootCertStore::empty();
        for ca in &certificates {
            anchors.add(ca.clone()).map_err(|error| wrong(error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider));
        let builder = if matches!(self, Self::Optional(_)) { builder.allow_unauthenticated() } else { builder };
        let verifier = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Authorities { certificates, verifier })
    }
}

/// The files of a server's identity, and of what it knows its clients by.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, PEM, leaf first.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
}

/// A certificate and its key, which fit together.
struct Pair {
    leaf: CertificateDer<'static>,
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
}

/// The CAs of clients.
struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What the files hold, each of the two as it was when it was last whole. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    pair: Arc<Pair>,
    authorities: Arc<Authorities>,
}

impl Identity {
    /// The server's own certificate.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.pair.leaf
    }

    /// Its private key.
    #[must_use]
    pub fn private_key(&self) -> &PrivateKeyDer<'static> {
        &self.pair.key
    }

    /// The CAs of clients, at least one where there is a file of them.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities.certificates
    }

    fn config(&self, alpn: &[Vec<u8>]) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("this provider has suites for each version");
        let pair = SingleCertAndKey::from(Arc::clone(&self.pair.certified));
        let verifier = Arc::clone(&self.authorities.verifier);
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(pair));
        config.alpn_protocols = alpn.to_vec();
        if !self.authorities().is_empty() {
            // Nobody would look again at the certificate of a session that is resumed, whose time may be over by then.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config
    }
}

impl TlsFiles {
    /// Loads the files, and again whenever they change. A pair that is half-written or does not fit together keeps the
    /// one before, and so does a file of CAs; neither keeps the other from being renewed. What comes of it is logged once,
    /// whoever uses them.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TlsError`] when the files are not good at the start.
    pub fn watch(self) -> Result<WatchedFiles, TlsError> {
        // Before they are read, so that no change is missed.
        let mut changes = crate::watch::watch(self.paths());
        let identity = watch::Sender::new(self.load()?);
        let watched = WatchedFiles(identity.subscribe());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = identity.closed() => break,
                    changed = changes.changed() => if changed.is_err() { break },
                }
                let before = identity.borrow().clone();
                identity.send_replace(self.reload(before));
            }
        });
        Ok(watched)
    }

    fn paths(&self) -> Vec<PathBuf> {
        let ca = self.client_auth.ca().map(Path::to_owned);
        [self.cert.clone(), self.key.clone()].into_iter().chain(ca).collect()
    }

    fn pair(&self) -> Result<Pair, TlsError> {
        let wrong = |error| TlsError::File { option: "--tls-key", path: self.key.clone(), reason: reason(&error) };
        let chain = certificates("--tls-cert", &self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(wrong)?;
        let leaf = chain.first().expect("there is at least one").clone();
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &provider());
        let wrong = |error: rustls::Error| TlsError::Pair { path: self.cert.clone(), reason: error.to_string() };
        Ok(Pair { leaf, certified: Arc::new(certified.map_err(wrong)?), key })
    }

    fn load(&self) -> Result<Identity, TlsError> {
        let authorities = self.client_auth.authorities(&provider());
        Ok(Identity { pair: Arc::new(self.pair()?), authorities: Arc::new(authorities?) })
    }

    fn reload(&self, before: Identity) -> Identity {
        let (pair, authorities) = (self.pair(), self.client_auth.authorities(&provider()));
        told("certificate", &self.cert, pair.as_ref().err());
        if let Some(ca) = self.client_auth.ca() {
            told("CAs of clients", ca, authorities.as_ref().err());
        }
        Identity {
            pair: pair.map_or(before.pair, Arc::new),
            authorities: authorities.map_or(before.authorities, Arc::new),
        }
    }
}

/// The files of an identity, for whatever is served with it. Cheap to clone.
#[derive(Clone)]
pub struct WatchedFiles(watch::Receiver<Identity>);

impl WatchedFiles {
    /// What they hold, and whatever they hold from now on.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<Identity> {
        self.0.clone()
    }

    /// TLS that agrees on one of the protocols `alpn`, preferred first, and always has the newest identity.
    #[must_use]
    pub fn tls(&self, alpn: &[&[u8]]) -> Tls {
        let (mut identity, alpn) = (self.identity(), alpn.iter().map(|protocol| protocol.to_vec()).collect::<Vec<_>>());
        let tls = Tls::of(identity.borrow_and_update().config(&alpn));
        let current = Arc::downgrade(&tls.0);
        tokio::spawn(async move {
            while identity.changed().await.is_ok() {
                let Some(current) = current.upgrade() else { break };
                current.store(Arc::new(identity.borrow_and_update().config(&alpn)));
            }
        });
        tls
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Says what came of reading a file again.
fn told(what: &str, path: &Path, error: Option<&TlsError>) {
    match error {
        None => tracing::info!(path = %path.display(), "{what} reloaded"),
        Some(error) => not_reloaded(what, error),
    }
}

/// Says that what is new is of no use, and that what was before stays.
pub fn not_reloaded(what: &str, error: &TlsError) {
    tracing::warn!(%error, "{what} not reloaded, what was before stays");
}

fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File { option, path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(reason(&error)))?;
    if chain.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok(chain) }
}

fn reason(error: &rustls_pki_types::pem::Error) -> String {
    // The messages of the other errors may quote the file.
    if let rustls_pki_types::pem::Error::Io(error) = error {
        error.to_string()
    } else {
        "no PEM of that kind in it".to_owned()
    }
}

/// A server's identity, always the newest that was whole. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// A server's identity that its owner made and will replace.
    #[must_use]
    pub fn of(config: ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// Serves new connections with another identity; connections that are open keep what they have.
    pub fn replace(&self, config: ServerConfig) {
        self.0.store(Arc::new(config));
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}
