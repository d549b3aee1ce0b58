//! From references, hashes and names to the keys and the certificate of a Thing.

use jiff::Timestamp as Instant;
use tidegate_api::{
    Certificate, Credentials, KEY_ENTRY, PREVIOUS_KEY_ENTRY, PREVIOUS_KEY_NOT_AFTER_ANNOTATION, Reason,
};
use tidegate_model::{CertificateName, KeyEntry, KeyHash, SharedKey, Timestamp};

use crate::KeySecret;
use crate::objects::Fault;

/// Fewest bytes of a key.
const KEY_BYTES_MIN: usize = 16;
/// Most bytes of a key that is told in clear: what libraries take as a pre-shared key.
const SHARED_KEY_BYTES_MAX: usize = 512;

/// What came of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOutcome {
    /// Its id within the Thing.
    pub id: String,
    /// The key, or why it is not used.
    pub key: Result<KeyEntry, Fault>,
}

/// The keys of the Thing `thing_name`, each with what came of it.
pub(crate) fn keys<'a>(
    credentials: &Credentials,
    thing_name: &str,
    secret: impl Fn(&str) -> Option<&'a KeySecret>,
) -> Vec<KeyOutcome> {
    if let Some(name) = credentials.generated_secret(thing_name) {
        return generated(&name, secret(&name));
    }
    let from_secrets = credentials.secret_refs.iter().map(|reference| {
        let entry = || {
            let key = key_in(secret(&reference.name), &reference.key)?;
            entry(key, reference.not_before.as_deref(), reference.not_after.as_deref())
        };
        KeyOutcome { id: reference.id.clone(), key: entry() }
    });
    let from_hashes = credentials.key_hashes.iter().map(|given| {
        let entry = || {
            let hash = hash_of(&given.sha256)?;
            entry((hash, None), given.not_before.as_deref(), given.not_after.as_deref())
        };
        KeyOutcome { id: given.id.clone(), key: entry() }
    });
    from_secrets.chain(from_hashes).collect()
}

/// The name that a certificate is to bear, or why there is none.
pub(crate) fn certificate_name(certificate: &Certificate) -> Result<CertificateName, Fault> {
    let Certificate { subject, uri_san, dns_san } = certificate;
    let name = match (subject, uri_san, dns_san) {
        (Some(subject), None, None) => CertificateName::subject(subject).map_err(|error| ("subject", error)),
        (None, Some(uri), None) => CertificateName::uri(uri).map_err(|error| ("uriSan", error)),
        (None, None, Some(name)) => CertificateName::dns(name).map_err(|error| ("dnsSan", error)),
        // Such a Thing is out of its bounds as a whole.
        _ => return refuse(Reason::InvalidSpec, "certificate: exactly one name is needed"),
    };
    name.map_err(|(field, error)| (Reason::InvalidSpec, format!("certificate.{field}: {error}")))
}

/// The key that the operator made, and the one before it while it is valid.
fn generated(name: &str, secret: Option<&KeySecret>) -> Vec<KeyOutcome> {
    let Some(secret) = secret else {
        let message = format!("the Secret {name} with the generated key is not there yet");
        return vec![KeyOutcome { id: KEY_ENTRY.to_owned(), key: Err((Reason::SecretNotFound, message)) }];
    };
    let key = key_in(Some(secret), KEY_ENTRY).and_then(|key| entry(key, None, None));
    let mut keys = vec![KeyOutcome { id: KEY_ENTRY.to_owned(), key }];
    if secret.entries.contains_key(PREVIOUS_KEY_ENTRY) {
        let previous = match secret.annotations.get(PREVIOUS_KEY_NOT_AFTER_ANNOTATION) {
            Some(end) => key_in(Some(secret), PREVIOUS_KEY_ENTRY).and_then(|key| entry(key, None, Some(end))),
            None => refuse(Reason::SecretInvalid, "the Secret does not say until when the previous key is valid"),
        };
        keys.push(KeyOutcome { id: PREVIOUS_KEY_ENTRY.to_owned(), key: previous });
    }
    keys
}

fn refuse<T>(reason: Reason, message: &str) -> Result<T, Fault> {
    Err((reason, message.to_owned()))
}

/// A key as it is looked for, and as it is where DTLS may need it.
type Key = (KeyHash, Option<SharedKey>);

fn key_in(secret: Option<&KeySecret>, key: &str) -> Result<Key, Fault> {
    let Some(secret) = secret else { return refuse(Reason::SecretNotFound, "there is no such Secret") };
    if !secret.labelled {
        return refuse(Reason::SecretNotFound, "the Secret lacks the label tidegate.io/credentials: \"true\"");
    }
    let Some(value) = secret.entries.get(key) else {
        return refuse(Reason::KeyNotFound, "the Secret has no such entry");
    };
    // `kubectl create secret --from-file` leaves the line end of the file.
    let value = value.strip_suffix(b"\n").map_or(value.as_slice(), |line| line.strip_suffix(b"\r").unwrap_or(line));
    if value.trim_ascii().len() != value.len() {
        return refuse(Reason::SecretInvalid, "the key has white space at its ends");
    }
    if value.len() < KEY_BYTES_MIN {
        return refuse(Reason::WeakKey, "a key needs at least 16 bytes");
    }
    let shared = (value.len() <= SHARED_KEY_BYTES_MAX).then(|| SharedKey::new(value));
    Ok((KeyHash::of(value), shared))
}

fn hash_of(hex: &str) -> Result<KeyHash, Fault> {
    let mut bytes = [0; 32];
    let digit = |at: usize| hex.as_bytes().get(at).and_then(|b| char::from(*b).to_digit(16));
    for (index, byte) in bytes.iter_mut().enumerate() {
        let (Some(high), Some(low)) = (digit(2 * index), digit(2 * index + 1)) else {
            return refuse(Reason::InvalidSpec, "sha256: 64 hexadecimal digits are needed");
        };
        *byte = u8::try_from(high * 16 + low).unwrap_or_default();
    }
    Ok(KeyHash::from_bytes(bytes))
}

fn entry((hash, shared): Key, not_before: Option<&str>, not_after: Option<&str>) -> Result<KeyEntry, Fault> {
    let time = |text: Option<&str>| match text.map(str::parse::<Instant>) {
        None => Ok(None),
        // What lies before 1970 has always been.
        Some(Ok(time)) => Ok(Some(Timestamp::from_nanos(u64::try_from(time.as_nanosecond()).unwrap_or(0)))),
        Some(Err(_)) => refuse(Reason::InvalidSpec, "a time as 2026-01-31T00:00:00Z is needed"),
    };
    let (not_before, not_after) = (time(not_before)?, time(not_after)?);
    if not_before.zip(not_after).is_some_and(|(before, after)| before > after) {
        return refuse(Reason::InvalidSpec, "notBefore is after notAfter");
    }
    Ok(KeyEntry { hash, shared, not_before, not_after })
}
