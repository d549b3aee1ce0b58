//! Why an object, or a part of one, does not do what its author wanted: a closed set.

use std::fmt;

/// The reason of a condition, in the spelling of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A field is beyond its bounds; the object counts for nothing until it is mended.
    InvalidSpec,
    /// An id or an alias belongs to an older object; this one counts for nothing.
    IdConflict,
    /// A Thing has no key that could be used, so it cannot connect.
    NoCredentials,
    /// A key has fewer than 16 bytes; it is not used.
    WeakKey,
    /// A key is another Thing's already; it is not used here.
    DuplicateKey,
    /// There is no such Secret, or it lacks the label that lets it hold keys.
    SecretNotFound,
    /// The Secret has no such entry.
    KeyNotFound,
    /// The Secret's entry has white space at its ends, or is no key for another reason.
    SecretInvalid,
    /// A connection names a Channel that does not exist; the other connections count.
    ChannelNotFound,
    /// The Channel does not admit Things of this namespace; the other connections count.
    NotAllowed,
    /// The Thing is suspended by its author.
    Suspended,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
