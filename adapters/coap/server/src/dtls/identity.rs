//! What the server shows, and whom it believes: its certificate, and those who may sign devices' ones.

use std::sync::Arc;
use std::time::Duration;

use dimpl::crypto::{Buf, Dtls12CipherSuite};
use dimpl::{Config, Dtls, DtlsCertificate, PskResolver};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use tidegate_model::{CertificateNames, Timestamp};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// How long a handshake may take.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a datagram that is sent in a handshake: what every path takes.
const DATAGRAM_BYTES_MAX: usize = 1_152;
/// Datagrams of a handshake that wait for those before them.
pub(super) const WAITING_MAX: usize = 16;

/// Why there is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// DTLS has ECDSA alone here.
    #[error("DTLS needs an ECDSA key of P-256 or P-384 that fits the certificate")]
    Key,
    /// A certificate of the client CA is none.
    #[error("the client CA holds something that is no certificate of an authority")]
    ClientCa,
}

/// A server's certificate, and whose certificates of devices it believes.
pub struct Identity {
    certificate: DtlsCertificate,
    config: Arc<Config>,
    anchors: Vec<TrustAnchor<'static>>,
    is_required: bool,
}

impl Identity {
    /// Of the server's own certificate and key. With certificates in `client_ca` a device that wants to use certificates has
    /// to show one that one of those has signed itself: DTLS here sees no certificates in between. Without any, it shows its
    /// key in the request.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn new(
        certificate: &CertificateDer<'_>,
        key: &PrivateKeyDer<'_>,
        client_ca: &[CertificateDer<'_>],
    ) -> Result<Self, IdentityError> {
        let anchor = |der| anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned());
        let anchors = client_ca.iter().map(anchor).collect::<Result<Vec<_>, _>>();
        let anchors = anchors.map_err(|_| IdentityError::ClientCa)?;
        let config = settings().require_client_certificate(!anchors.is_empty()).build();
        let config = Arc::new(config.map_err(|_| IdentityError::Key)?);
        let certificate = DtlsCertificate { certificate: certificate.to_vec(), private_key: key.secret_der().to_vec() };
        // A key that cannot be loaded would end the process at the first handshake, one that does not fit, each handshake.
        fits(&config, &certificate).map_err(|_| IdentityError::Key)?;
        Ok(Self { certificate, config, anchors, is_required: false })
    }

    /// The same where devices must show certificates: handshakes with shared keys are refused.
    #[must_use]
    pub fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub(super) const fn is_required(&self) -> bool {
        self.is_required
    }

    pub(super) fn begin(&self, now: std::time::Instant) -> Dtls {
        Dtls::new_12(Arc::clone(&self.config), self.certificate.clone(), now)
    }

    /// Who a device's certificate says it is, if it is to be believed at `now`.
    //= RFC5280 6
    pub(super) fn verify(&self, der: &[u8], now: Timestamp) -> Option<CertificateNames> {
        let der = CertificateDer::from(der);
        let certificate = EndEntityCert::try_from(&der).ok()?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let usage = KeyUsage::client_auth();
        certificate.verify_for_usage(ALL_VERIFICATION_ALGS, &self.anchors, &[], time, usage, None, None).ok()?;
        CertificateNames::of_der(&der).filter(|names| now <= names.not_after)
    }
}

/// Signs with the key, and verifies that with the certificate.
fn fits(config: &Config, certificate: &DtlsCertificate) -> Result<(), dimpl::CryptoError> {
    let provider = config.crypto_provider();
    let mut key = provider.key_provider.load_private_key(&certificate.private_key)?;
    let (words, mut signature) = (b"whether the key fits".as_slice(), Buf::new());
    let (hash, algorithm) = (key.hash_algorithm(), key.algorithm());
    key.sign(words, hash, &mut signature)?;
    provider.signature_verification.verify_signature(&certificate.certificate, words, &signature, hash, algorithm)
}

fn settings() -> dimpl::ConfigBuilder {
    Config::builder()
        .mtu(DATAGRAM_BYTES_MAX)
        .max_queue_rx(WAITING_MAX)
        .handshake_timeout(HANDSHAKE_MAX)
        .dtls13_cipher_suites(&[])
}

/// How handshakes with shared keys are made.
//= RFC7252 9.1.3.1
pub(super) fn shared_key_config(resolver: Arc<dyn PskResolver>) -> Arc<Config> {
    let config = settings().dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8]).kx_groups(&[]);
    Arc::new(config.with_psk_server(None, resolver).build().expect("it says nothing that depends on anything"))
}
