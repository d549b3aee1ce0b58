//! The identity of DTLS: the certificate that TLS has too, as far as DTLS can use it, reloaded with it.

use std::sync::Arc;

use anyhow::{Context, Result};
use tidegate_coap::{CoapFace, DtlsLimits, Identity};
use tidegate_daemon as daemon;
use tidegate_daemon::tls::{ClientAuth, TlsFiles};
use tokio::sync::watch;

use crate::options::Options;

/// The identity of the options' files, and what tells of their changes.
pub(crate) struct Watched {
    files: TlsFiles,
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
        let files = TlsFiles { cert, key, client_auth, alpn: Vec::new() };
        let changes = daemon::watch::watch(files.paths());
        let first = match identity(&files) {
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
                match identity(&files) {
                    Ok(identity) => face.set_identity(Some(identity)),
                    Err(error) => tracing::warn!("certificate of DTLS not reloaded, the one before stays: {error:#}"),
                }
            }
        });
    }
}

fn identity(files: &TlsFiles) -> Result<Identity> {
    let (chain, key, client_ca) = (files.chain()?, files.private_key()?, files.client_auth.authorities()?);
    let leaf = chain.first().context("a chain has a leaf")?;
    let identity = Identity::new(leaf, &key, &client_ca).with_context(|| files.cert.display().to_string())?;
    Ok(if matches!(files.client_auth, ClientAuth::Required(_)) { identity.required() } else { identity })
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
