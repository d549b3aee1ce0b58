//! Whom a device trusts over TLS and DTLS, and what it shows of itself there.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::error::ClientError;

/// A device's certificate, the chain to its CA, and its private key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    /// All of it, in PEM.
    pem: Arc<[u8]>,
}

impl Identity {
    /// Of a certificate, with those of intermediate CAs after it, and of its private key, both in PEM.
    ///
    /// # Errors
    /// [`ClientError::Setup`] where either is not PEM, or one does not belong to the other.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, ClientError> {
        const NO_CERTIFICATE: ClientError = ClientError::Setup("the device's certificate is not PEM");
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(NO_CERTIFICATE)?;
        let pem = [certificate, b"\n", key].concat().into();
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| ClientError::Setup("the private key of the device's certificate is not PEM"))?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider())
            .map_err(|_| ClientError::Setup("the device's certificate and its private key do not belong together"))?;
        Ok(Self { chain, key: Arc::new(key), pem })
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(crate) fn pem(&self) -> &[u8] {
        &self.pem
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The CAs that may have signed a server's certificate; the machine's own where none is given.
pub(crate) fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
                added.ok_or(ClientError::Setup("the CA is not PEM"))?;
            }
        }
        // One that cannot be read is no reason to do without the others.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(ClientError::Setup("no TLS with these certificates"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> (String, String) {
        let own = rcgen::generate_simple_self_signed(["lab.sensor".to_owned()]).unwrap();
        (own.cert.pem(), own.signing_key.serialize_pem())
    }

    #[test]
    fn an_identity_is_a_certificate_and_its_own_key() {
        let ((certificate, key), (_, other)) = (pem(), pem());
        let check = |certificate: &str, key: &str, expected: &str| {
            let outcome = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
            assert_eq!(outcome.map_or_else(|error| error.to_string(), |_| String::new()), expected);
        };
        check(&certificate, &key, "");
        check("", &key, "the device's certificate is not PEM");
        check(&certificate, "", "the private key of the device's certificate is not PEM");
        check(&certificate, &other, "the device's certificate and its private key do not belong together");
    }

    #[test]
    fn a_private_key_is_not_shown() {
        let (certificate, key) = pem();
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(format!("{identity:?}"), "Identity { certificates: 1, .. }");
    }
}
