//! What a certificate calls its owner, as far as a Thing may be known by it.

use std::fmt;

use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::RdnSequence;

use crate::time::Timestamp;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// A name that a certificate may bear, in the one spelling by which names are compared: byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateName {
    /// The whole subject, as RFC 4514 writes it: `CN=pump-7,O=Acme`. Neither the kind of its strings nor spaces around
    /// its commas count; the order and the case do.
    Subject(String),
    /// A URI of the subject's alternative names: `spiffe://plant.example/pump-7`.
    Uri(String),
    /// A DNS name of the subject's alternative names, in lower case.
    Dns(String),
}

/// A text that is no name of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is needed")]
pub struct CertificateNameError(&'static str);

impl CertificateName {
    /// A subject as people write it.
    ///
    /// # Errors
    /// [`CertificateNameError`] when it is empty, too long, or not of RFC 4514.
    pub fn subject(text: &str) -> Result<Self, CertificateNameError> {
        let wrong = CertificateNameError("a distinguished name as CN=pump-7,O=Acme");
        let text = bounded(text).map(unspaced).ok_or(wrong)?;
        let names: RdnSequence = text.parse().map_err(|_| wrong)?;
        if names.is_empty() { Err(wrong) } else { Ok(Self::Subject(names.to_string())) }
    }

    /// A URI.
    ///
    /// # Errors
    /// [`CertificateNameError`] when it is too long, or not of ASCII with a scheme.
    pub fn uri(text: &str) -> Result<Self, CertificateNameError> {
        let is_uri = |text: &&str| {
            let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
            scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let uri = bounded(text).filter(is_uri);
        uri.map(|uri| Self::Uri(uri.to_owned())).ok_or(CertificateNameError("a URI as urn:dev:mac:0024befffe804ff1"))
    }

    /// A DNS name.
    ///
    /// # Errors
    /// [`CertificateNameError`] when it is too long, has a wildcard, or is none.
    pub fn dns(text: &str) -> Result<Self, CertificateNameError> {
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let name = bounded(text).filter(|name| name.bytes().all(is_letter));
        name.map(|name| Self::Dns(name.to_ascii_lowercase()))
            .ok_or(CertificateNameError("a DNS name as pump-7.example"))
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(name) => write!(f, "subject {name}"),
            Self::Uri(name) => write!(f, "URI {name}"),
            Self::Dns(name) => write!(f, "DNS name {name}"),
        }
    }
}

/// Without the spaces behind commas that separate, which people write and RFC 4514 does not.
fn unspaced(text: &str) -> String {
    let (mut is_escaped, mut follows_comma) = (false, false);
    let is_kept = |c: &char| {
        let is_space = *c == ' ' && follows_comma;
        follows_comma = is_space || (*c == ',' && !is_escaped);
        is_escaped = *c == '\\' && !is_escaped;
        !is_space
    };
    text.chars().filter(is_kept).collect()
}

fn bounded(text: &str) -> Option<&str> {
    (!text.is_empty() && text.len() <= NAME_BYTES_MAX).then_some(text)
}

/// What a certificate says of its owner. It says nothing of whether the certificate is to be believed: who makes this of
/// one has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    /// Every name that a Thing might be known by.
    pub names: Vec<CertificateName>,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

impl CertificateNames {
    /// Reads a certificate in DER; nothing where it is none. Names of other kinds and beyond the bounds are passed over.
    //= RFC5280 4.1.2.6, 4.2.1.6
    #[must_use]
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let certificate = certificate.tbs_certificate();
        let subject = certificate.subject();
        let subject = (!subject.is_empty()).then(|| CertificateName::Subject(subject.to_string()));
        let alternatives = certificate.get_extension::<SubjectAltName>().ok()?.map(|(_, SubjectAltName(names))| names);
        let alternatives = alternatives.into_iter().flatten().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => CertificateName::uri(uri.as_str()).ok(),
            GeneralName::DnsName(name) => CertificateName::dns(name.as_str()).ok(),
            GeneralName::OtherName(_)
            | GeneralName::Rfc822Name(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::IpAddress(_)
            | GeneralName::RegisteredId(_) => None,
        });
        let not_after = certificate.validity().not_after.to_unix_duration();
        Some(Self {
            names: subject.into_iter().chain(alternatives).collect(),
            not_after: Timestamp::from_secs(not_after.as_secs()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_one_spelling() {
        let check = |text: &str, expected: Option<&str>| {
            let name = CertificateName::subject(text).ok();
            assert_eq!(name, expected.map(|name| CertificateName::Subject(name.to_owned())), "{text:?}");
        };
        check("CN=pump-7,O=Acme", Some("CN=pump-7,O=Acme"));
        check("cn=pump-7,o=Acme", Some("CN=pump-7,O=Acme"));
        check("CN=pump-7, O=Acme", Some("CN=pump-7,O=Acme"));
        check("2.5.4.3=pump-7,O=Acme", Some("CN=pump-7,O=Acme"));
        check("CN=pump\\, the 7th,C=DE", Some("CN=pump\\, the 7th,C=DE"));
        check("CN=pump-7,organizationIdentifier=PSDDE-7", None);
        check("CN=pump-7,jurisdictionC=DE", None);
        check("", None);
        check("pump-7", None);
        check(&format!("CN={}", "a".repeat(NAME_BYTES_MAX)), None);
    }

    #[test]
    fn types_without_a_name_are_written_as_oids() {
        let certificate = |value: rcgen::DnValue| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 97]), value);
            params.distinguished_name.push(rcgen::DnType::CommonName, "pump-7");
            let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            CertificateNames::of_der(certificate.der()).unwrap().names
        };
        let check = |text: &str, names: &[CertificateName]| {
            assert_eq!(names, [CertificateName::subject(text).unwrap()], "{text}");
        };
        let utf8 = certificate(rcgen::DnValue::Utf8String("PSDDE-7".into()));
        let printable = certificate(rcgen::DnValue::PrintableString("PSDDE-7".try_into().unwrap()));
        check("CN=pump-7,2.5.4.97=PSDDE-7", &utf8);
        // As openssl prints it with -nameopt RFC2253,oid,dump_all.
        check("2.5.4.3=#0C0670756D702D37,2.5.4.97=#0C0750534444452D37", &utf8);
        check("2.5.4.3=#0C0670756D702D37,2.5.4.97=#130750534444452D37", &printable);
    }

    #[test]
    fn a_certificate_says_what_people_write() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CountryName, "DE");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme, Inc.");
        params.distinguished_name.push(rcgen::DnType::CommonName, "pump-7");
        params.subject_alt_names = vec![
            rcgen::SanType::URI("urn:dev:7".try_into().unwrap()),
            rcgen::SanType::DnsName("Pump-7.example".try_into().unwrap()),
            rcgen::SanType::IpAddress([192, 0, 2, 1].into()),
        ];
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let names = CertificateNames::of_der(certificate.der()).unwrap();
        let expected = [
            CertificateName::subject("CN=pump-7, O=Acme\\, Inc., C=DE").unwrap(),
            CertificateName::uri("urn:dev:7").unwrap(),
            CertificateName::dns("pump-7.example").unwrap(),
        ];
        assert_eq!(names.names, expected);
        assert_eq!(names.not_after, Timestamp::from_secs(1_893_456_000));
        assert_eq!(CertificateNames::of_der(b"no certificate"), None);
        assert_eq!(CertificateNames::of_der(&certificate.der()[..99]), None);
    }

    #[test]
    fn other_names_have_bounds() {
        assert_eq!(CertificateName::dns("Pump-7.Example").unwrap(), CertificateName::Dns("pump-7.example".into()));
        assert!(CertificateName::dns("*.example").is_err());
        assert!(CertificateName::dns("").is_err());
        let uri = "spiffe://plant.example/pump-7";
        assert_eq!(CertificateName::uri(uri).unwrap(), CertificateName::Uri(uri.into()));
        assert!(CertificateName::uri("no scheme").is_err());
        assert!(CertificateName::uri("urn:a b").is_err());
    }
}
