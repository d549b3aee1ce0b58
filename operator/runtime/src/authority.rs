//! The certificate authority behind the grant stream: made by the operator, kept in one Secret, renewed without a gap.
//!
//! Adapters trust the bundle `ca.crt` and learn of a new one only when their kubelet brings it, so an authority is
//! announced a day before it signs, and the one before it stays trusted until it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_model::Timestamp;
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority is good.
const AUTHORITY_DAYS: u32 = 365;
/// How long before its end an authority's successor is announced.
const ANNOUNCED_BEFORE_END: Duration = Duration::from_secs(122 * 24 * 60 * 60);
/// How long a successor is announced before it signs.
const ANNOUNCED_FOR: Duration = DAY;
/// How long a server's certificate is good; a new one is made at half of it.
pub(crate) const SERVING_DAYS: u32 = 14;

/// The entries of the Secret.
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
pub(crate) const BUNDLE: &str = "ca.crt";
/// Unix seconds, beside each certificate, so that none has to be parsed.
const NOT_AFTER: &str = "not-after";
const NEXT_NOT_AFTER: &str = "next-not-after";
const NEXT_SINCE: &str = "next-since";
const PREVIOUS_CERT: &str = "previous.crt";
const PREVIOUS_NOT_AFTER: &str = "previous-not-after";

/// The data of the Secret that holds the authority.
pub(crate) type Entries = BTreeMap<String, Vec<u8>>;

/// Why there is no authority to sign with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The Secret lacks an entry, or holds something else in it. Never says what it holds.
    #[error("the entry {0} of the authority's Secret is missing or unusable")]
    Entry(&'static str),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[source] rcgen::Error),
    /// A certificate was made that TLS does not take.
    #[error("cannot serve with the certificate: {0}")]
    Serve(#[source] rustls::Error),
}

/// What the Secret should hold instead of `entries`, or nothing when it is right as it is.
///
/// # Errors
/// When a certificate cannot be made.
pub(crate) fn renewed(entries: &Entries, now: Timestamp) -> Result<Option<Entries>, AuthorityError> {
    let mut renewed = entries.clone();
    let ends = |entries: &Entries, name: &'static str| instant(entries, name).unwrap_or(Timestamp::from_secs(0));
    let usable = text(&renewed, CERT).is_ok() && key(&renewed, KEY).is_ok() && ends(&renewed, NOT_AFTER) > now;
    if !usable {
        renewed = Entries::new();
        add(&mut renewed, (CERT, KEY, NOT_AFTER), now)?;
    }
    if ends(&renewed, PREVIOUS_NOT_AFTER) <= now {
        renewed.remove(PREVIOUS_CERT);
        renewed.remove(PREVIOUS_NOT_AFTER);
    }
    let announced = renewed.contains_key(NEXT_CERT);
    if !announced && ends(&renewed, NOT_AFTER).saturating_since(now) < ANNOUNCED_BEFORE_END {
        add(&mut renewed, (NEXT_CERT, NEXT_KEY, NEXT_NOT_AFTER), now)?;
        renewed.insert(NEXT_SINCE.to_owned(), seconds(now));
    } else if announced && now.saturating_since(ends(&renewed, NEXT_SINCE)) >= ANNOUNCED_FOR {
        for (from, to) in [
            (CERT, PREVIOUS_CERT),
            (NOT_AFTER, PREVIOUS_NOT_AFTER),
            (NEXT_CERT, CERT),
            (NEXT_KEY, KEY),
            (NEXT_NOT_AFTER, NOT_AFTER),
        ] {
            let moved = renewed.remove(from).ok_or(AuthorityError::Entry("next.crt"))?;
            renewed.insert(to.to_owned(), moved);
        }
        renewed.remove(NEXT_SINCE);
    }
    let bundle = [CERT, NEXT_CERT, PREVIOUS_CERT].iter().filter_map(|name| renewed.get(*name)).flatten();
    let bundle: Vec<u8> = bundle.copied().collect();
    renewed.insert(BUNDLE.to_owned(), bundle);
    Ok((renewed != *entries).then_some(renewed))
}

/// A server's identity under these names, signed by the authority, good for [`SERVING_DAYS`].
///
/// # Errors
/// When the Secret holds no authority, or no certificate can be made of it.
pub(crate) fn identity(entries: &Entries, names: &[String], now: Timestamp) -> Result<ServerConfig, AuthorityError> {
    let issuer = Issuer::new(authority_params(now), key(entries, KEY)?);
    let mut params = CertificateParams::new(names.to_vec()).map_err(AuthorityError::Make)?;
    params.distinguished_name = named("Tidegate grants");
    (params.not_before, params.not_after) = validity(now, SERVING_DAYS);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = KeyPair::generate().map_err(AuthorityError::Make)?;
    let cert = params.signed_by(&own, &issuer).map_err(AuthorityError::Make)?;
    let key = PrivateKeyDer::from_pem_slice(own.serialize_pem().as_bytes());
    let key = key.map_err(|_| AuthorityError::Entry("the server's own key"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(cert.der().to_vec())], key)
        .map_err(AuthorityError::Serve)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Tidegate grants CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(now, AUTHORITY_DAYS);
    params
}

fn add(
    entries: &mut Entries,
    (cert_name, key_name, end_name): (&str, &str, &str),
    now: Timestamp,
) -> Result<(), AuthorityError> {
    let key = KeyPair::generate().map_err(AuthorityError::Make)?;
    let cert = authority_params(now).self_signed(&key).map_err(AuthorityError::Make)?;
    entries.insert(cert_name.to_owned(), cert.pem().into_bytes());
    entries.insert(key_name.to_owned(), key.serialize_pem().into_bytes());
    entries.insert(end_name.to_owned(), seconds(now.saturating_add(DAY * AUTHORITY_DAYS)));
    Ok(())
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// From a day before `now`, for clocks that are behind, until `days` later.
fn validity(now: Timestamp, days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let at = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    let begin = now.as_secs().saturating_sub(DAY.as_secs());
    (at(begin), at(now.saturating_add(DAY * days).as_secs()))
}

fn seconds(at: Timestamp) -> Vec<u8> {
    at.as_secs().to_string().into_bytes()
}

fn instant(entries: &Entries, name: &'static str) -> Result<Timestamp, AuthorityError> {
    let seconds = text(entries, name)?.parse().map_err(|_| AuthorityError::Entry(name))?;
    Ok(Timestamp::from_secs(seconds))
}

fn text(entries: &Entries, name: &'static str) -> Result<String, AuthorityError> {
    let bytes = entries.get(name).ok_or(AuthorityError::Entry(name))?;
    String::from_utf8(bytes.clone()).map_err(|_| AuthorityError::Entry(name))
}

fn key(entries: &Entries, name: &'static str) -> Result<KeyPair, AuthorityError> {
    KeyPair::from_pem(&text(entries, name)?).map_err(|_| AuthorityError::Entry(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> Timestamp {
        Timestamp::from_secs((20_000 + days) * 24 * 60 * 60)
    }

    /// What adapters are given to trust.
    fn certificates(entries: &Entries) -> usize {
        text(entries, BUNDLE).unwrap().matches("BEGIN CERTIFICATE").count()
    }

    #[test]
    fn an_authority_is_made_once_and_then_stays() {
        let made = renewed(&Entries::new(), at(0)).unwrap().unwrap();
        assert_eq!(certificates(&made), 1);
        assert!(identity(&made, &["localhost".to_owned()], at(0)).is_ok());
        assert_eq!(renewed(&made, at(1)).unwrap(), None);
        assert_eq!(renewed(&made, at(200)).unwrap(), None);
    }

    #[test]
    fn a_successor_is_announced_before_it_signs_and_the_old_one_is_trusted_until_it_ends() {
        let first = renewed(&Entries::new(), at(0)).unwrap().unwrap();
        let announced = renewed(&first, at(250)).unwrap().unwrap();
        assert_eq!((certificates(&announced), &announced[CERT]), (2, &first[CERT]));
        assert_eq!(renewed(&announced, at(250)).unwrap(), None);
        let signing = renewed(&announced, at(251)).unwrap().unwrap();
        assert_eq!((certificates(&signing), &signing[CERT]), (2, &announced[NEXT_CERT]));
        assert_eq!(signing[PREVIOUS_CERT], first[CERT]);
        assert_eq!(renewed(&signing, at(300)).unwrap(), None);
        let alone = renewed(&signing, at(366)).unwrap().unwrap();
        assert_eq!((certificates(&alone), &alone[CERT]), (1, &signing[CERT]));
    }

    #[test]
    fn a_secret_that_holds_something_else_is_made_anew() {
        let mut entries = renewed(&Entries::new(), at(0)).unwrap().unwrap();
        entries.insert(KEY.to_owned(), b"no key".to_vec());
        let mended = renewed(&entries, at(0)).unwrap().unwrap();
        assert!(identity(&mended, &["localhost".to_owned()], at(0)).is_ok());
    }

    #[test]
    fn an_authority_that_ended_while_nobody_looked_is_replaced() {
        let first = renewed(&Entries::new(), at(0)).unwrap().unwrap();
        let next = renewed(&first, at(1_000)).unwrap().unwrap();
        assert_ne!(next[CERT], first[CERT]);
        assert_eq!(certificates(&next), 1);
    }
}
