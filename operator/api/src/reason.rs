//! Why an object, or a part of one, does or does not do what its author wanted: a closed set.

use std::fmt;

/// The reason of a condition, in the spelling of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing is wrong with the object itself.
    Accepted,
    /// A field is beyond its bounds; the object counts for nothing until it is mended.
    InvalidSpec,
    /// An id or an alias belongs to an older object; this one counts for nothing.
    IdConflict,
    /// The Thing is suspended by its author.
    Suspended,
    /// The annotation `tidegate.io/paused` keeps the operator from writing anything for this object.
    ReconciliationPaused,
    /// A Thing has neither a key nor a certificate that could be used, so it cannot connect.
    NoCredentials,
    /// A key has fewer than 16 bytes; it is not used.
    WeakKey,
    /// A key is another Thing's already; it is not used here.
    DuplicateKey,
    /// The name in the certificate is another Thing's already; it is not used here.
    DuplicateCertificate,
    /// Every Secret and every Channel that the object names is there and may be used.
    ResolvedRefs,
    /// There is no such Secret, or it lacks the label that lets it hold keys.
    SecretNotFound,
    /// The Secret has no such entry.
    KeyNotFound,
    /// The Secret's entry has white space at its ends, or is no key for another reason.
    SecretInvalid,
    /// A Secret that the operator did not make has the name that it wants to use; it is left alone.
    SecretConflict,
    /// A connection names a Channel that does not exist; the other connections count.
    ChannelNotFound,
    /// The Channel does not admit Things of this namespace; the other connections count.
    NotPermitted,
    /// Every live adapter pod has acknowledged a grant table at least as new.
    Programmed,
    /// It has not been looked at yet, or waits for something that is under way.
    Pending,
    /// There is no live adapter pod that could acknowledge anything.
    NoAdapters,
    /// Some live adapter pod has not acknowledged yet.
    AdapterLagging,
    /// The broker has what the Channel needs.
    BrokerReady,
    /// No connection to the broker can be had.
    BrokerUnreachable,
    /// The broker refuses the operator's credentials, or what it may do.
    BrokerAuthFailed,
    /// The broker has an object of this name that is declared otherwise.
    BrokerConflict,
    /// Every condition that counts is true.
    Ready,
    /// Enough pods of the Adapter are ready.
    Available,
    /// Too few pods of the Adapter are ready.
    Unavailable,
    /// Pods are being made or replaced.
    RollingOut,
    /// Every pod is as the Adapter says, and ready.
    RolledOut,
    /// The pods do not become as the Adapter says: the rollout ran out of time.
    RolloutStuck,
    /// Something that the operator did not make has the name that it wants to use; it is left alone.
    NameConflict,
    /// The API server refused something that belongs to the Adapter.
    WriteRefused,
    /// Nothing is degraded.
    Healthy,
    /// The Adapter is to have no pods.
    ScaledToZero,
}

impl Reason {
    /// All of them, in the order in which they stand above.
    pub const ALL: [Self; 34] = [
        Self::Accepted,
        Self::InvalidSpec,
        Self::IdConflict,
        Self::Suspended,
        Self::ReconciliationPaused,
        Self::NoCredentials,
        Self::WeakKey,
        Self::DuplicateKey,
        Self::DuplicateCertificate,
        Self::ResolvedRefs,
        Self::SecretNotFound,
        Self::KeyNotFound,
        Self::SecretInvalid,
        Self::SecretConflict,
        Self::ChannelNotFound,
        Self::NotPermitted,
        Self::Programmed,
        Self::Pending,
        Self::NoAdapters,
        Self::AdapterLagging,
        Self::BrokerReady,
        Self::BrokerUnreachable,
        Self::BrokerAuthFailed,
        Self::BrokerConflict,
        Self::Ready,
        Self::Available,
        Self::Unavailable,
        Self::RollingOut,
        Self::RolledOut,
        Self::RolloutStuck,
        Self::NameConflict,
        Self::WriteRefused,
        Self::Healthy,
        Self::ScaledToZero,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
