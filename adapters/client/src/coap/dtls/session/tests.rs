//! A session against a server of the same library, in simulated time.

use std::sync::Arc;

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, DtlsCertificate, PskResolver};
use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, KeyPair};

use super::*;
use crate::Credential;
use crate::tls::Identity;

const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a server knows of devices.
struct Known(&'static str, &'static str);

impl PskResolver for Known {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        (identity == self.0.as_bytes()).then(|| self.1.as_bytes().to_vec())
    }
}

/// A device and a server, and what lies between them.
struct Pair {
    device: Session,
    server: Dtls,
    server_wakes_at: Instant,
    begun: Instant,
    now: Instant,
    /// What the server has received.
    heard: Vec<String>,
    /// What the device has shown it.
    shown: Vec<Vec<u8>>,
    /// Datagrams that the server has sent.
    sent: usize,
}

#[expect(clippy::disallowed_methods, reason = "a test has to begin at some time")]
fn begin() -> Instant {
    Instant::now()
}

fn config_of(thing: &str, key: &str) -> DtlsConfig {
    DtlsConfig::new("gate.test", &Credential::of_key(thing, key), None).unwrap()
}

impl Pair {
    fn new(config: &DtlsConfig, make_server: impl FnOnce(Instant) -> Dtls) -> Self {
        let now = begin();
        let device = Session::new(config, SILENCE_MAX, now);
        let mut server = make_server(now);
        server.handle_timeout(now).unwrap();
        let (heard, shown) = (Vec::new(), Vec::new());
        Self { device, server, server_wakes_at: now, begun: now, now, heard, shown, sent: 0 }
    }

    fn of_key(config: &DtlsConfig) -> Self {
        Self::new(config, |now| {
            let config = Config::builder()
                .with_psk_server(None, Arc::new(Known("lab.sensor", "secret")))
                .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
                .dtls13_cipher_suites(&[])
                .build();
            Dtls::new_12_psk(Arc::new(config.unwrap()), now)
        })
    }

    /// What the server has to say, once it has taken what came.
    fn hear(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let mut said = Vec::new();
        loop {
            match self.server.poll_output(&mut buffer) {
                Output::Packet(bytes) => said.push(bytes.to_vec()),
                Output::PeerCert(certificate) => self.shown.push(certificate.to_vec()),
                Output::ApplicationData(bytes) => self.heard.push(String::from_utf8(bytes.to_vec()).unwrap()),
                Output::CloseNotify => self.heard.push("farewell".to_owned()),
                Output::Timeout(at) => {
                    self.server_wakes_at = at;
                    return said;
                }
                Output::BufferTooSmall { .. } | Output::Connected | Output::KeyingMaterial(..) | _ => {}
            }
        }
    }

    /// Lets them speak while there is anything to say. Datagrams are numbered from 0 in each direction; those that are lost
    /// are told by `loses`, with whether it is one of the device's.
    fn speak(&mut self, loses: &mut impl FnMut(bool) -> bool) {
        loop {
            let mut is_silent = true;
            while let Some(datagram) = self.device.poll_datagram() {
                is_silent = false;
                if !loses(true) {
                    // What it makes of it is its own affair.
                    let _ = self.server.handle_packet(&datagram);
                }
            }
            for datagram in self.hear() {
                is_silent = false;
                self.sent += 1;
                if !loses(false) {
                    self.device.handle_datagram(&datagram, self.now);
                }
            }
            if is_silent {
                return;
            }
        }
    }

    /// Lets them speak, and time pass, until the handshake has ended. How many seconds it took, and how it ended.
    fn shake_hands(&mut self, mut loses: impl FnMut(bool) -> bool) -> (u64, Result<(), Failure>) {
        loop {
            self.speak(&mut loses);
            if let Some(outcome) = self.device.outcome() {
                return ((self.now - self.begun).as_secs(), outcome);
            }
            self.now = self.now.max(self.device.poll_timeout().min(self.server_wakes_at));
            self.device.handle_timeout(self.now);
            // A server that gives up says nothing.
            let _ = self.server.handle_timeout(self.now);
        }
    }
}

#[test]
fn messages_go_both_ways_and_both_take_leave() {
    let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
    assert!(matches!(pair.shake_hands(|_| false), (0, Ok(()))));
    let large = "x".repeat(MESSAGE_BYTES_MAX);
    for message in ["one", &large] {
        pair.device.handle_message(message.as_bytes(), pair.now);
        pair.server.send_application_data(message.as_bytes()).unwrap();
        pair.speak(&mut |_| false);
        assert_eq!(pair.heard.pop().as_deref(), Some(message));
        assert_eq!(pair.device.poll_message().as_deref(), Some(message.as_bytes()));
    }
    pair.device.handle_close(pair.now);
    pair.speak(&mut |_| false);
    assert_eq!(pair.heard, ["farewell"]);

    let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
    assert!(matches!(pair.shake_hands(|_| false), (0, Ok(()))));
    pair.server.close().unwrap();
    pair.speak(&mut |_| false);
    assert!(matches!(pair.device.failure(), Some(Failure::Closed)));
    // It is answered, and then nothing is said.
    assert_eq!(pair.heard, ["farewell"]);
    pair.device.handle_message(b"two", pair.now);
    assert_eq!(pair.device.poll_datagram(), None);
}

//= RFC6347 4.2.4
#[test]
fn what_is_lost_of_a_handshake_is_said_again() {
    let check = |what: &str, loses: &dyn Fn(usize) -> bool| {
        let mut count = 0;
        let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
        let (seconds, outcome) = pair.shake_hands(|_| {
            count += 1;
            loses(count)
        });
        assert!(outcome.is_ok(), "{what}: {seconds} s, {outcome:?}");
        assert!(count > 6 && seconds < HANDSHAKE_MAX.as_secs(), "{what}: {count} datagrams in {seconds} s");
    };
    for lost in 1..=6 {
        check(&format!("number {lost}"), &|number| number == lost);
    }
    check("every third", &|number| number % 3 == 0);
}

#[test]
fn a_server_that_is_not_there_is_given_up() {
    let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
    let mut asked = 0;
    let outcome = pair.shake_hands(|is_of_device| {
        asked += usize::from(is_of_device);
        true
    });
    assert!(matches!(outcome, (10, Err(Failure::Silence))), "{outcome:?}");
    assert_eq!((asked, pair.sent), (4, 0));
}

#[test]
fn a_server_that_goes_away_is_given_up() {
    let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
    let mut heard = 0;
    let outcome = pair.shake_hands(|is_of_device| {
        heard += usize::from(is_of_device);
        heard > 1
    });
    assert!(matches!(outcome, (20, Err(Failure::Late))), "{outcome:?}");
}

#[test]
fn a_server_that_falls_silent_at_the_proof_does_not_know_the_key() {
    for (thing, key) in [("lab.sensor", "another"), ("lab.other", "secret")] {
        let mut pair = Pair::of_key(&config_of(thing, key));
        let outcome = pair.shake_hands(|_| false);
        assert!(matches!(outcome, (8, Err(Failure::Unknown))), "{thing}: {outcome:?}");
    }
}

#[test]
fn what_is_no_dtls_is_not_heard() {
    let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
    for other in [&b""[..], b"\x16", b"HTTP/1.1 400", &[22; HANDSHAKE_BYTES_MAX + 1]] {
        pair.device.handle_datagram(other, pair.now);
    }
    assert!(matches!(pair.shake_hands(|_| true), (10, Err(Failure::Silence))));
}

/// An alert of a server that has no keys yet.
fn alert(description: u8) -> Vec<u8> {
    [&[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2][..], &[description]].concat()
}

//= RFC4279 2
#[test]
fn an_alert_says_why() {
    let fail = |lost_from: usize, description: u8| {
        let mut pair = Pair::of_key(&config_of("lab.sensor", "secret"));
        let mut heard = 0;
        pair.speak(&mut |is_of_device| {
            heard += usize::from(is_of_device);
            heard > lost_from
        });
        pair.device.handle_datagram(&alert(description), pair.now);
        pair.device.outcome()
    };
    // Before anything is proved, it is about the handshake.
    assert!(matches!(fail(0, 40), Some(Err(Failure::Alert(40)))));
    for unknown in [20, 51, 115] {
        assert!(matches!(fail(2, unknown), Some(Err(Failure::Refused(description))) if description == unknown));
    }
    assert!(matches!(fail(2, 80), Some(Err(Failure::Alert(80)))));
}

/// A CA, and what it has signed for a name: the certificate and its private key.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap(), key)
    }

    /// A device of this CA and one that trusts it, with the server of that name.
    fn pair(&self, name: &str, trusted: &Self, algorithm: &'static rcgen::SignatureAlgorithm) -> (Pair, Vec<u8>) {
        let (own, key) = self.sign("lab.sensor", algorithm);
        let identity = Identity::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let credential = Credential { identity: Some(identity), ..Credential::default() };
        let config = DtlsConfig::new("gate.test", &credential, Some(trusted.0.pem().as_bytes())).unwrap();
        let (server, key) = self.sign(name, &rcgen::PKCS_ECDSA_P256_SHA256);
        let certificate = DtlsCertificate { certificate: server.der().to_vec(), private_key: key.serialize_der() };
        let pair = Pair::new(&config, |now| {
            let config = Config::builder().dtls13_cipher_suites(&[]).build();
            Dtls::new_12(Arc::new(config.unwrap()), certificate, now)
        });
        (pair, own.der().to_vec())
    }
}

#[test]
fn both_show_certificates() {
    let ca = Ca::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let (mut pair, own) = ca.pair("gate.test", &ca, algorithm);
        assert!(matches!(pair.shake_hands(|_| false), (0, Ok(()))));
        assert_eq!(pair.shown, [own]);
    }
}

#[test]
fn a_server_with_the_wrong_certificate_is_told_nothing() {
    let (ca, other) = (Ca::new(), Ca::new());
    for (name, trusted) in [("other.test", &ca), ("gate.test", &other)] {
        let (mut pair, _) = ca.pair(name, trusted, &rcgen::PKCS_ECDSA_P256_SHA256);
        let outcome = pair.shake_hands(|_| false);
        assert!(matches!(outcome, (0, Err(Failure::Untrusted(_)))), "{name}: {outcome:?}");
        assert_eq!(pair.shown, Vec::<Vec<u8>>::new());
    }
}
