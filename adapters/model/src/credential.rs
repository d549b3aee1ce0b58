//! What a device shows to prove who it is, and what is kept of it.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A device's key, and with some faces the id that it claims. Borrowed from the request, never kept.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The key alone says which Thing it is.
    Key(&'a [u8]),
    /// The key must be one of the named Thing's; `thing` is an id or an alias.
    ThingKey {
        /// The id or alias that the device claims.
        thing: &'a str,
        /// The key.
        key: &'a [u8],
    },
}

impl<'a> Credential<'a> {
    /// The hash of the key that is shown.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        KeyHash::of(self.key())
    }

    pub(crate) const fn key(&self) -> &'a [u8] {
        match *self {
            Self::Key(key) | Self::ThingKey { key, .. } => key,
        }
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

/// SHA-256 of a key. Keys are random and long, so a fast hash is enough; compared in constant time.
#[derive(Clone, Copy, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of `key`.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// A hash that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(redacted)")
    }
}

/// A key in clear, which a device and the server share: DTLS with pre-shared keys needs it. Nothing else holds one.
#[derive(Clone)]
pub struct SharedKey(Arc<[u8]>);

impl SharedKey {
    /// A key that both know.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(key.into())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SharedKey {}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(redacted)")
    }
}
