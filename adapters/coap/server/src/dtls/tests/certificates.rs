//! Clients that show certificates.

use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

pub(super) struct Authorities {
    pub(super) ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    of_another: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authorities {
    pub(super) fn new() -> Self {
        let authority = || {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
        };
        Self { ca: authority(), of_another: authority() }
    }

    pub(super) fn issued(
        issuer: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
        name: &str,
        year: i32,
    ) -> DtlsCertificate {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        DtlsCertificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() }
    }

    pub(super) fn identity(&self, asks_clients: bool) -> Identity {
        let own = Self::issued(&self.ca, "server", 2_040);
        let ca = CertificateDer::from(self.ca.der().to_vec());
        let key = PrivateKeyDer::try_from(own.private_key).unwrap();
        let client_ca = if asks_clients { vec![ca] } else { vec![] };
        Identity::new(&CertificateDer::from(own.certificate), &key, &client_ca).unwrap()
    }
}

#[test]
fn a_certificate_says_who_a_client_is() {
    let authorities = Authorities::new();
    let name = CertificateName::subject("CN=pump-7").unwrap();
    let registrar = Registrar::of(&[("lab.dev1", &[NEW], Some(name))]);
    let come = |net: &mut Net, certificate| {
        net.clients.insert(at(1), Client::of_certificate(certificate, net.now));
        net.settle();
        net.client(1).is_connected.then(|| {
            net.say(1, b"hello");
            let peer = net.received.last().unwrap().0;
            net.known(&peer)
        })
    };
    let issued = |name, year| Authorities::issued(&authorities.ca, name, year);
    let mut net = Net::new(LIMITS, &registrar, Some(authorities.identity(true)));
    assert_eq!(come(&mut net, issued("pump-7", 2_040)), Some(Some("lab.dev1".to_owned())));
    assert_eq!(come(&mut net, issued("pump-8", 2_040)), Some(None), "it is to show a key");
    assert_eq!(come(&mut net, issued("pump-7", 2_020)), None, "it has ended");
    assert_eq!(come(&mut net, Authorities::issued(&authorities.of_another, "pump-7", 2_040)), None);
    assert!(net.client(1).has_failed, "it is told so");
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    assert!(net.client(1).is_connected, "a key does too");
    let mut net = Net::new(LIMITS, &registrar, Some(authorities.identity(true).required()));
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    assert!(net.client(1).has_failed, "not where certificates are required");
    assert_eq!(come(&mut net, issued("pump-7", 2_040)), Some(Some("lab.dev1".to_owned())));
    let mut net = Net::new(LIMITS, &registrar, Some(authorities.identity(false)));
    assert_eq!(come(&mut net, issued("pump-7", 2_040)), Some(None), "it is not asked for one");
}

#[test]
fn a_certificate_may_become_somebodys_while_its_session_is_there() {
    let authorities = Authorities::new();
    let name = CertificateName::subject("CN=pump-7").unwrap();
    let registrar = Registrar::of(&[]);
    let mut net = Net::new(LIMITS, &registrar, Some(authorities.identity(true)));
    let certificate = Authorities::issued(&authorities.ca, "pump-7", 2_040);
    net.clients.insert(at(1), Client::of_certificate(certificate, net.now));
    net.settle();
    net.say(1, b"hello");
    let peer = net.received[0].0;
    assert_eq!(net.known(&peer), None);
    registrar.replace(Registrar::table(2, &[("lab.dev1", &[], Some(name))]));
    assert_eq!(net.known(&peer).as_deref(), Some("lab.dev1"));
    assert!(net.sessions.sweep_at.is_some(), "its end is known");
    registrar.replace(Registrar::table(3, &[]));
    net.sessions.handle_grants(net.now);
    net.pass(Duration::ZERO);
    net.pass(Duration::from_secs(1));
    net.settle();
    assert!(net.client(1).is_closed);
}

#[test]
fn a_session_ends_when_the_certificate_does() {
    let authorities = Authorities::new();
    let name = CertificateName::subject("CN=pump-7").unwrap();
    let registrar = Registrar::of(&[("lab.dev1", &[], Some(name))]);
    let mut net = Net::new(LIMITS, &registrar, Some(authorities.identity(true)));
    let certificate = Authorities::issued(&authorities.ca, "pump-7", 2_028);
    net.clients.insert(at(1), Client::of_certificate(certificate, net.now));
    net.settle();
    net.say(1, b"hello");
    let span = net.sessions.sweep_at.unwrap() - net.now;
    assert!(span > Duration::from_hours(24) && span < Duration::from_hours(400 * 24), "{span:?}");
    registrar.pass(span);
    // Whoever speaks keeps a session, but not its right.
    net.now += span - Duration::from_secs(60);
    net.say(1, b"hello");
    net.pass(Duration::from_secs(60));
    net.pass(Duration::from_secs(1));
    net.settle();
    assert!(net.client(1).is_closed);
}

#[test]
fn a_certificate_may_be_long_and_one_that_is_too_long_harms_nobody() {
    let authorities = Authorities::new();
    let name = CertificateName::subject("CN=pump-7").unwrap();
    let registrar = Registrar::of(&[("lab.dev1", &[NEW], Some(name))]);
    let limits = DtlsLimits { half_open_max: 100, ..LIMITS };
    let mut net = Net::new(limits, &registrar, Some(authorities.identity(true)));
    for (names, is_let_in) in [(500, true), (5_000, false)] {
        let names = (0..names).map(|number| format!("pump-{number}.plant.example")).collect::<Vec<_>>();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "pump-7");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authorities.ca).unwrap().der().to_vec();
        assert_eq!(certificate.len() < ROOM_BYTES, is_let_in);
        let certificate = DtlsCertificate { certificate, private_key: key.serialize_der() };
        net.clients.insert(at(1), Client::of_certificate(certificate, net.now));
        net.settle();
        assert_eq!(net.client(1).is_connected, is_let_in);
    }
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    assert!(net.client(1).is_connected);
}

#[test]
fn an_identity_is_of_a_key_that_fits() {
    let authorities = Authorities::new();
    let own = Authorities::issued(&authorities.ca, "server", 2_040);
    let certificate = CertificateDer::from(own.certificate);
    let key = PrivateKeyDer::try_from(own.private_key).unwrap();
    let garbage = PrivateKeyDer::try_from(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der());
    assert_eq!(Identity::new(&certificate, &garbage.unwrap(), &[]).err(), Some(IdentityError::Key));
    let no_ca = [CertificateDer::from(vec![1, 2, 3])];
    assert_eq!(Identity::new(&certificate, &key, &no_ca).err(), Some(IdentityError::ClientCa));
    let other = Authorities::issued(&authorities.ca, "server", 2_040);
    let other = PrivateKeyDer::try_from(other.private_key).unwrap();
    assert_eq!(Identity::new(&certificate, &other, &[]).err(), Some(IdentityError::Key), "of another certificate");
}
