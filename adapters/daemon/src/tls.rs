//! TLS for listeners: one certificate, replaced in place when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::watch::watch;

/// Makes aws-lc the cryptography of this process. Call it first in `main`.
pub fn install_crypto_provider() {
    // Only a second call fails, and then it is in force already.
    let _ = aws_lc_rs::default_provider().install_default();
}

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

/// The files of a server's identity.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, PEM, leaf first.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// The protocols to agree on, preferred first.
    pub alpn: Vec<Vec<u8>>,
}

impl TlsFiles {
    fn load(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::File {
            option: "--tls-key",
            path: self.key.clone(),
            reason: reason(&error),
        })?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Pair { path: self.cert.clone(), reason: error.to_string() })?;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File { option: "--tls-cert", path: path.to_owned(), reason };
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
    /// one before. Connections that are open keep what they have.
    ///
    /// # Errors
    /// [`TlsError`] when the files are not good at the start.
    pub fn watched(files: TlsFiles) -> Result<Self, TlsError> {
        let mut changes = watch(vec![files.cert.clone(), files.key.clone()]);
        let tls = Self::of(files.load()?);
        let current = Arc::downgrade(&tls.0);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(current) = current.upgrade() else { break };
                match files.load() {
                    Ok(config) => {
                        current.store(Arc::new(config));
                        tracing::info!(cert = %files.cert.display(), "certificate reloaded");
                    }
                    Err(error) => tracing::warn!(%error, "certificate not reloaded, the one before stays"),
                }
            }
        });
        Ok(tls)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}
