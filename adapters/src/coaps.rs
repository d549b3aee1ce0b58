//! The identity of DTLS: the certificate that TLS has too, as far as DTLS can use it, reloaded with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_coap::{CoapFace, DtlsLimits, Identity};
use tidegate_daemon::{self as daemon, tls::ClientAuth};
use tokio::sync::watch;

use crate::options::Options;

/// Where the identity lies.
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_auth: ClientAuth,
}

/// The identity of the options' files, and what tells of their changes.
pub(crate) struct Watched {
    files: Files,
    changes: watch::Receiver<u64>,
    first: Option<Identity>,
}

impl Watched {
    /// Of the options' files; none where they name none, or DTLS is not served. With a certificate that is of no use for DTLS,
    /// as one of RSA, shared keys alone are spoken: that is logged, and an error only where devices must show certificates.
    pub(crate) fn load(options: &Options) -> Result<Option<Self>> {
        let (Some(cert), Some(key)) = (options.tls_cert.clone(), options.tls_key.clone()) else { return Ok(None) };
        if options.listen_coaps.address().is_none() {
            return Ok(None);
        }
        let client_auth = options.client_auth();
        let watched = [cert.clone(), key.clone()].into_iter().chain(client_auth.ca().map(Path::to_owned)).collect();
        let changes = daemon::watch::watch(watched);
        let files = Files { cert, key, client_auth };
        let first = match files.load() {
            Ok(identity) => Some(identity),
            Err(error) if matches!(files.client_auth, ClientAuth::Required(_)) => {
                return Err(error.context("--listen-coaps, with --tls-client-auth required"));
            }
            Err(error) => {
                tracing::warn!("DTLS is served without certificates: {error:#}");
                None
            }
        };
        Ok(Some(Self { files, changes, first }))
    }

    /// Gives the face the identity, and again whenever its files change.
    pub(crate) fn keep(self, face: &Arc<CoapFace>) {
        let Self { files, mut changes, first } = self;
        if first.is_some() {
            face.set_identity(first);
        }
        let face = Arc::downgrade(face);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(face) = face.upgrade() else { break };
                match files.load() {
                    Ok(identity) => face.set_identity(Some(identity)),
                    Err(error) => tracing::warn!("certificate of DTLS not reloaded, the one before stays: {error:#}"),
                }
            }
        });
    }
}

impl Files {
    fn load(&self) -> Result<Identity> {
        let named = |path: &Path| path.display().to_string();
        let no_pem = |error| {
            // The messages of the others may quote the file.
            if let rustls_pki_types::pem::Error::Io(error) = error {
                anyhow::Error::from(error)
            } else {
                anyhow::anyhow!("no PEM of that kind in it")
            }
        };
        let certificate =
            CertificateDer::from_pem_file(&self.cert).map_err(no_pem).with_context(|| named(&self.cert))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(no_pem).with_context(|| named(&self.key))?;
        let client_ca = match self.client_auth.ca() {
            Some(path) => CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(no_pem)
                .with_context(|| named(path))?,
            None => Vec::new(),
        };
        let identity = Identity::new(&certificate, &key, &client_ca).with_context(|| named(&self.cert))?;
        Ok(if matches!(self.client_auth, ClientAuth::Required(_)) { identity.required() } else { identity })
    }
}

/// The bounds of one of so many sockets.
pub(crate) fn limits(options: &Options, sockets: usize) -> DtlsLimits {
    let share = |all: usize| (all / sockets.max(1)).max(1);
    let defaults = DtlsLimits::default();
    DtlsLimits {
        sessions_max: share(options.coaps_sessions_max),
        half_open_max: share(options.coaps_half_open_max),
        handshakes_per_second_max: options.coaps_handshakes_per_second_max,
        // Between two that are to be acknowledged, an observation may be as silent as that.
        idle_max: defaults.idle_max.max(options.coap_ping_period.0 * 2),
        ..defaults
    }
}
