//! DTLS 1.2 under CoAP: what both ends show each other, and why they come to no agreement.
//!
//! With a key that both ends share (RFC 4279), or with certificates. The library checks that the server has the private key of
//! the certificate that it shows; whose certificate that is, is checked here, as over TLS.

mod session;

use std::io;
use std::sync::Arc;

use dimpl::crypto::{Dtls12CipherSuite, aws_lc_rs};
use dimpl::{Config, ConfigBuilder, DtlsCertificate, PskResolver};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::Credential;
use crate::error::{ClientError, Status};
use crate::tls::{Identity, roots};

pub(super) use session::{MESSAGE_BYTES_MAX, Session};

/// Bytes of a Thing's id, and of its key, that a handshake can say.
//= RFC4279 2
const SECRET_BYTES_MAX: usize = 65_535;
/// Bytes of a datagram of the handshake, as the smallest networks take them.
const MTU: usize = 1_150;

/// What a device shows of itself, and whom it trusts. Not `Debug`: it holds the key.
#[derive(Clone)]
pub(super) struct DtlsConfig {
    config: Arc<Config>,
    certificates: Option<Certificates>,
}

/// What is shown and trusted where no key is shared.
#[derive(Clone)]
struct Certificates {
    own: DtlsCertificate,
    server: Trust,
}

/// Whose certificate a server may show.
#[derive(Clone)]
struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

/// The key that both ends share.
struct SharedKey(Vec<u8>);

impl PskResolver for SharedKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

impl DtlsConfig {
    /// Of a device that speaks to the server of this name or address.
    pub(super) fn new(host: &str, credential: &Credential, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        let Credential { thing, key, identity } = credential;
        match (identity, key) {
            (Some(identity), _) => Self::of_certificates(host, identity, ca_pem),
            (None, Some(key)) => Self::of_key(thing, key),
            (None, None) => Err(ClientError::Setup("a key is needed, or a certificate where TLS is spoken")),
        }
    }

    fn of_key(thing: &str, key: &str) -> Result<Self, ClientError> {
        if thing.is_empty() {
            return Err(ClientError::Setup(
                "over DTLS the Thing has to be named: --thing <namespace>.<name>, or its alias",
            ));
        }
        if key.is_empty() || key.len() > SECRET_BYTES_MAX || thing.len() > SECRET_BYTES_MAX {
            return Err(ClientError::Setup("the key is empty, or it or the Thing's id is longer than DTLS can say"));
        }
        let secret = Arc::new(SharedKey(key.as_bytes().to_vec()));
        let builder = Config::builder()
            .with_psk_client(thing.as_bytes().to_vec(), secret)
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8]);
        Ok(Self { config: built(builder)?, certificates: None })
    }

    fn of_certificates(host: &str, identity: &Identity, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        const NOT_ECDSA: ClientError =
            ClientError::Setup("over DTLS the device's certificate has to be of ECDSA, on P-256 or P-384");
        let config = built(Config::builder())?;
        let [certificate, ..] = identity.chain() else { return Err(NOT_ECDSA) };
        let (certificate, private_key) = (certificate.to_vec(), identity.key().secret_der().to_vec());
        // The library takes it for granted that it can read the key.
        config.crypto_provider().key_provider.load_private_key(&private_key).map_err(|_| NOT_ECDSA)?;
        let own = DtlsCertificate { certificate, private_key };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ClientError::Setup("the server's host is no name that a certificate can have"))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), default_provider().into())
            .build()
            .map_err(|_| ClientError::Setup("no TLS with these certificates"))?;
        Ok(Self { config, certificates: Some(Certificates { own, server: Trust { verifier, name } }) })
    }

    /// Whose handshake fails, in words.
    const fn refusal(&self) -> &'static str {
        match self.certificates {
            None => "the server does not know this Thing or its key",
            Some(_) => "the server does not take this certificate",
        }
    }

    /// What a failure means to who tried `operation` with the server at `host` and `port`.
    pub(super) fn error(&self, failure: Failure, operation: &'static str, host: &str, port: u16) -> ClientError {
        let refused = |alert| ClientError::Refused { status: Status::Dtls(alert), detail: self.refusal().to_owned() };
        match failure {
            Failure::Unknown => refused(None),
            Failure::Refused(alert) => refused(Some(alert)),
            Failure::Silence => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let words = format!("nothing answers at {host}:{port} over DTLS");
                ClientError::Connection { operation, source: Box::new(io::Error::new(io::ErrorKind::TimedOut, words)) }
            }
            failure @ (Failure::Late
            | Failure::Alert(_)
            | Failure::Untrusted(_)
            | Failure::Closed
            | Failure::Broken(_)
            | Failure::Socket(_)) => ClientError::Connection { operation, source: Box::new(failure) },
        }
    }
}

fn built(builder: ConfigBuilder) -> Result<Arc<Config>, ClientError> {
    builder
        .with_crypto_provider(aws_lc_rs::default_provider())
        .dtls13_cipher_suites(&[])
        .mtu(MTU)
        // The session has bounds of its own, which are smaller.
        .handshake_timeout(session::HANDSHAKE_MAX * 2)
        .build()
        .map(Arc::new)
        .map_err(|_| ClientError::Setup("no DTLS with this key or certificate"))
}

impl Trust {
    /// Whether this may be the server's certificate. Certificates between it and a CA are not told by the library.
    fn verify(&self, certificate: &[u8]) -> Result<(), rustls::Error> {
        let certificate = CertificateDer::from(certificate);
        self.verifier.verify_server_cert(&certificate, &[], &self.name, &[], UnixTime::now()).map(drop)
    }
}

/// Why there is no session, or none any more. Never the key.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing has come from there.
    #[error("nothing answers over DTLS")]
    Silence,
    /// The handshake has not come to its end in time.
    #[error("the DTLS handshake did not end in time")]
    Late,
    /// The server says nothing to the proof that the device has its key.
    #[error("the server is silent")]
    Unknown,
    /// The server does not accept the proof.
    #[error("the server refuses: DTLS alert {0}")]
    Refused(u8),
    /// The server ends it for a reason of its own.
    #[error("the server ended the DTLS session: alert {0}")]
    Alert(u8),
    /// The server's certificate is not one that is trusted.
    #[error("the server's certificate is not trusted")]
    Untrusted(#[source] rustls::Error),
    /// The server takes leave.
    #[error("the server ended the DTLS session")]
    Closed,
    /// What the server said cannot be.
    #[error("the DTLS session broke")]
    Broken(#[source] dimpl::Error),
    /// There is no sending or receiving.
    #[error("no datagrams over DTLS")]
    Socket(#[source] io::Error),
}

impl From<&Failure> for io::Error {
    fn from(failure: &Failure) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, failure.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_needs_a_thing_and_a_certificate_needs_ecdsa() {
        let check = |credential: &Credential, expected: &str| {
            let outcome = DtlsConfig::new("gate.test", credential, None);
            assert_eq!(outcome.map_or_else(|error| error.to_string(), |_| String::new()), expected);
        };
        check(&Credential::of_key("lab.sensor", "secret"), "");
        let nameless = "over DTLS the Thing has to be named: --thing <namespace>.<name>, or its alias";
        check(&Credential::of_key("", "secret"), nameless);
        let unsayable = "the key is empty, or it or the Thing's id is longer than DTLS can say";
        check(&Credential::of_key("lab.sensor", ""), unsayable);
        check(&Credential::of_key("lab.sensor", &"x".repeat(65_536)), unsayable);

        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let own = rcgen::CertificateParams::new(["lab.sensor".to_owned()]).unwrap().self_signed(&key).unwrap();
        let identity = Identity::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let credential = Credential { identity: Some(identity), ..Credential::default() };
        check(&credential, "over DTLS the device's certificate has to be of ECDSA, on P-256 or P-384");
    }
}
