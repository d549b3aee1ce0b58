//! Names of Things and Channels, and what a device may write instead of them.

use std::fmt;
use std::sync::Arc;

/// Longest DNS label, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest alias, in bytes.
const ALIAS_BYTES_MAX: usize = 64;

/// Why a name is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The namespace or the name is no DNS label.
    #[error("an id is <namespace>.<name>, each a DNS label: a-z, 0-9 and '-', at most 63 bytes")]
    NotAnId,
    /// The alias breaks its pattern.
    #[error("an alias is 1 to 64 of A-Z, a-z, 0-9, '_' and '-'")]
    NotAnAlias,
}

/// Whether `text` is a DNS label: 1 to 63 of a-z, 0-9 and `-`, neither first nor last a `-`.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=LABEL_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_alias(text: &str) -> bool {
    (1..=ALIAS_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// `<namespace>.<name>` in one shared allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct QualifiedName {
    text: Arc<str>,
    /// Bytes of the namespace; a DNS label, so at most 63.
    namespace_bytes: u8,
}

impl QualifiedName {
    fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        if !is_dns_label(namespace) || !is_dns_label(name) {
            return Err(NameError::NotAnId);
        }
        Ok(Self::trusted(namespace, name))
    }

    /// For parts that were checked before.
    fn trusted(namespace: &str, name: &str) -> Self {
        let namespace_bytes = u8::try_from(namespace.len()).expect("a DNS label has at most 63 bytes");
        Self { text: [namespace, ".", name].concat().into(), namespace_bytes }
    }

    fn parse(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('.').ok_or(NameError::NotAnId)?;
        Self::new(namespace, name)
    }

    fn namespace(&self) -> &str {
        &self.text[..usize::from(self.namespace_bytes)]
    }

    fn name(&self) -> &str {
        &self.text[usize::from(self.namespace_bytes) + 1..]
    }
}

macro_rules! qualified {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(QualifiedName);

        impl $type {
            /// The id of `name` in `namespace`.
            ///
            /// # Errors
            /// [`NameError::NotAnId`] when either is no DNS label.
            pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
                QualifiedName::new(namespace, name).map(Self)
            }

            /// Reads `<namespace>.<name>`; the first dot separates.
            ///
            /// # Errors
            /// [`NameError::NotAnId`] for anything else.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                QualifiedName::parse(text).map(Self)
            }

            /// The whole id, `<namespace>.<name>`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0.text
            }

            /// The part before the dot.
            #[must_use]
            pub fn namespace(&self) -> &str {
                self.0.namespace()
            }

            /// The part after the dot.
            #[must_use]
            pub fn name(&self) -> &str {
                self.0.name()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

qualified! {
    /// A Thing: `<namespace>.<name>`, at most 127 bytes. Cheap to clone.
    ThingId
}
qualified! {
    /// A Channel: `<namespace>.<name>`, at most 127 bytes. Cheap to clone.
    ChannelId
}

/// Another id of a Thing or a Channel, for devices that are already flashed: `[A-Za-z0-9_-]{1,64}`, so never with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(Box<str>);

impl Alias {
    /// Takes `text` as an alias.
    ///
    /// # Errors
    /// [`NameError::NotAnAlias`] when it breaks the pattern.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_alias(text) { Ok(Self(text.into())) } else { Err(NameError::NotAnAlias) }
    }

    /// The alias as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a device writes where a channel belongs: an id, an alias, or the bare name of a Channel in its own namespace.
///
/// Only the grant table knows which Channel is meant, since that depends on who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelRef(Box<str>);

impl ChannelRef {
    /// Takes `text` as a reference, or says with `None` that no channel can be written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let legal = match text.split_once('.') {
            Some((namespace, name)) => is_dns_label(namespace) && is_dns_label(name),
            None => is_alias(text),
        };
        legal.then(|| Self(text.into()))
    }

    /// The reference as the device wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ThingId {
    /// An id whose parts were checked when they were taken in.
    pub(crate) fn trusted(namespace: &str, name: &str) -> Self {
        Self(QualifiedName::trusted(namespace, name))
    }
}

impl From<&ChannelId> for ChannelRef {
    fn from(id: &ChannelId) -> Self {
        Self(id.as_str().into())
    }
}
