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
use tokio_rustls::TlsAcceptor;

use crate::watch::watch;

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

    /// The CAs, at least one where there is a file of them.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.ca().map_or_else(|| Ok(Vec::new()), |path| certificates(CLIENT_CA, path))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let Some(path) = self.ca() else { return Ok(WebPkiClientVerifier::no_client_auth()) };
        let wrong = |reason: String| TlsError::File { option: CLIENT_CA, path: path.to_owned(), reason };
        let mut anchors = RootCertStore::empty();
        for ca in self.authorities()? {
            anchors.add(ca).map_err(|error| wrong(error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider));
        let builder = if matches!(self, Self::Optional(_)) { builder.allow_unauthenticated() } else { builder };
        let verifier = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(verifier)
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
    /// The protocols to agree on, preferred first.
    pub alpn: Vec<Vec<u8>>,
}

/// What the files hold.
struct Loaded {
    pair: Arc<CertifiedKey>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl TlsFiles {
    /// All of them, to be watched.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let ca = self.client_auth.ca().map(Path::to_owned);
        [self.cert.clone(), self.key.clone()].into_iter().chain(ca).collect()
    }

    /// The certificate chain, at least the leaf.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates("--tls-cert", &self.cert)
    }

    /// The private key.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let wrong = |error| TlsError::File { option: "--tls-key", path: self.key.clone(), reason: reason(&error) };
        PrivateKeyDer::from_pem_file(&self.key).map_err(wrong)
    }

    fn pair(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let pair = CertifiedKey::from_der(self.chain()?, self.private_key()?, provider);
        pair.map(Arc::new).map_err(|error| TlsError::Pair { path: self.cert.clone(), reason: error.to_string() })
    }

    fn load(&self, provider: &Arc<CryptoProvider>) -> Result<Loaded, TlsError> {
        Ok(Loaded { pair: self.pair(provider)?, verifier: self.client_auth.verifier(provider)? })
    }

    /// What there is now: each of the two as it was before where it is not good, so that one that is broken does not keep
    /// the other from being renewed.
    fn reload(&self, provider: &Arc<CryptoProvider>, loaded: &mut Loaded) {
        let pair = self.pair(provider);
        told("certificate", &self.cert, pair.as_ref().err());
        let verifier = self.client_auth.verifier(provider);
        if let Some(ca) = self.client_auth.ca() {
            told("CAs of clients", ca, verifier.as_ref().err());
        }
        loaded.pair = pair.unwrap_or_else(|_told| Arc::clone(&loaded.pair));
        loaded.verifier = verifier.unwrap_or_else(|_told| Arc::clone(&loaded.verifier));
    }

    fn config(&self, provider: &Arc<CryptoProvider>, loaded: &Loaded) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
        let builder = builder.expect("this provider has suites for each version");
        let pair = SingleCertAndKey::from(Arc::clone(&loaded.pair));
        let mut config =
            builder.with_client_cert_verifier(Arc::clone(&loaded.verifier)).with_cert_resolver(Arc::new(pair));
        config.alpn_protocols.clone_from(&self.alpn);
        if self.client_auth.ca().is_some() {
            // Nobody would look again at the certificate of a session that is resumed, whose time may be over by then.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config
    }
}

/// Says what came of reading a file again.
fn told(what: &str, path: &Path, error: Option<&TlsError>) {
    match error {
        None => tracing::info!(path = %path.display(), "{what} reloaded"),
        Some(error) => tracing::warn!(%error, "{what} not reloaded, what was before stays"),
    }
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

    /// Loads the files, and again whenever they change. A pair that is half-written or does not fit together keeps the
    /// one before, and so does a file of CAs. Connections that are open keep what they have.
    ///
    /// # Errors
    /// [`TlsError`] when the files are not good at the start.
    pub fn watched(files: TlsFiles) -> Result<Self, TlsError> {
        let mut changes = watch(files.paths());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut loaded = files.load(&provider)?;
        let tls = Self::of(files.config(&provider, &loaded));
        let current = Arc::downgrade(&tls.0);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(current) = current.upgrade() else { break };
                files.reload(&provider, &mut loaded);
                current.store(Arc::new(files.config(&provider, &loaded)));
            }
        });
        Ok(tls)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}
