//! The identity of DTLS: the certificate that TLS has too, as far as DTLS can use it, reloaded with it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Error, Result};
use tidegate_coap::{CoapFace, Identity, IdentityError};
use tidegate_daemon::tls::{self, ClientAuth, TlsError, TlsFiles, WatchedFiles};
use tokio::sync::watch;

/// The identity of watched files.
pub(crate) struct Watched {
    held: watch::Receiver<tls::Identity>,
    files: TlsFiles,
    /// A certificate that DTLS can use, the newest.
    pair: Option<tls::Identity>,
    /// CAs that DTLS can use, the newest.
    authorities: tls::Identity,
    first: Option<Identity>,
}

impl Watched {
    /// Of `files`, which are watched. With a certificate that is of no use for DTLS, as one of RSA, shared keys alone are
    /// spoken: that is logged, and an error only where devices must show certificates.
    pub(crate) fn new(watched: &WatchedFiles, files: TlsFiles) -> Result<Self> {
        let mut held = watched.identity();
        let now = held.borrow_and_update().clone();
        let first = match identity(&now, &now, &files) {
            Ok(identity) => Some(identity),
            Err(error) => {
                let error = Error::new(error).context(path(&files, error).display().to_string());
                if is_required(&files) {
                    return Err(error.context("--listen-coaps, with --tls-client-auth required"));
                }
                tracing::warn!("DTLS is served without certificates: {error:#}");
                None
            }
        };
        Ok(Self { held, files, pair: first.is_some().then(|| now.clone()), authorities: now, first })
    }

    /// Gives the face the identity, and again whenever the files change.
    pub(crate) fn keep(mut self, face: &Arc<CoapFace>) {
        if let Some(first) = self.first.take() {
            face.set_identity(Some(first));
        }
        let face = Arc::downgrade(face);
        tokio::spawn(async move {
            while self.held.changed().await.is_ok() {
                let Some(face) = face.upgrade() else { break };
                if let Some(identity) = self.renewed() {
                    face.set_identity(Some(identity));
                }
            }
        });
    }

    /// What is to be shown and believed now: of the certificate and the CAs each as it was before where the new one is of no
    /// use for DTLS. Nothing where there has never been a certificate for it.
    fn renewed(&mut self) -> Option<Identity> {
        let new = self.held.borrow_and_update().clone();
        match Identity::new(new.leaf(), new.private_key(), &[]) {
            Ok(_) => self.pair = Some(new.clone()),
            Err(error) => tls::not_reloaded("certificate of DTLS", &wrong(&self.files, error)),
        }
        let pair = self.pair.as_ref()?;
        match identity(pair, &new, &self.files) {
            Ok(identity) => {
                self.authorities = new;
                Some(identity)
            }
            Err(error) => {
                tls::not_reloaded("CAs of clients of DTLS", &wrong(&self.files, error));
                identity(pair, &self.authorities, &self.files).ok()
            }
        }
    }
}

/// Of the certificate of the one and the CAs of the other.
fn identity(pair: &tls::Identity, authorities: &tls::Identity, files: &TlsFiles) -> Result<Identity, IdentityError> {
    let identity = Identity::new(pair.leaf(), pair.private_key(), authorities.authorities())?;
    Ok(if is_required(files) { identity.required() } else { identity })
}

/// Whether devices must show certificates.
const fn is_required(files: &TlsFiles) -> bool {
    matches!(files.client_auth, ClientAuth::Required(_))
}

/// The file that an error is about.
fn path(files: &TlsFiles, error: IdentityError) -> &Path {
    match error {
        IdentityError::Key => &files.cert,
        IdentityError::ClientCa => files.client_auth.ca().unwrap_or(&files.cert),
    }
}

fn wrong(files: &TlsFiles, error: IdentityError) -> TlsError {
    let option = match error {
        IdentityError::Key => "--tls-cert",
        IdentityError::ClientCa => "--tls-client-ca",
    };
    TlsError::File { option, path: path(files, error).to_owned(), reason: error.to_string() }
}
