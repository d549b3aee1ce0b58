//! Why a device is told no: the rows of the outcome table.
//!
//! Each face has one function from [`Refusal`] to its own language, so a new row here breaks every face until each says
//! what it means.

use std::time::Duration;

use crate::topic::TopicError;

/// Which operation met a broker that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A message was to be published.
    Publish,
    /// A subscription was to be made or ended.
    Subscribe,
}

/// A device's operation is not accepted. `Display` is what the device may read: never a key, never a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no credential, or none that the table knows, or it is not valid at this time.
    #[error("no valid credential")]
    Unauthenticated,
    /// The Thing is known and has no grant for this action on this topic, or the channel is unknown.
    #[error("no grant for this action on this channel and subtopic")]
    Forbidden,
    /// The address has not the form of a channel's.
    #[error("no such path: messages are under channels/<channel>/messages")]
    UnknownPath,
    /// The subtopic or the filter is not a legal one.
    #[error("malformed subtopic or filter: {0}")]
    MalformedTopic(TopicError),
    /// The payload is larger than the channel admits.
    #[error("payload larger than the {bytes_max} bytes that this channel admits")]
    PayloadTooLarge {
        /// The channel's limit.
        bytes_max: u32,
    },
    /// The content type is none that the channel admits.
    #[error("content type not admitted by this channel")]
    ContentTypeNotAdmitted,
    /// The payload is not valid for the format that it declares. Says where and why, never what it holds.
    #[error("invalid payload: {0}")]
    InvalidPayload(Box<str>),
    /// The broker is away or blocked, and has been for longer than the bound.
    #[error("the message broker is not available")]
    BrokerUnavailable {
        /// What could not be done.
        operation: Operation,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The device, its channel or this server is over a rate or a bound on work in progress.
    #[error("too many requests")]
    RateLimited {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// A key was removed, a Thing disabled or a grant withdrawn while the device was connected.
    #[error("access withdrawn")]
    Revoked,
    /// This server is going away; others serve on.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// A short name for metrics and problem types, from a closed set.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::UnknownPath => "unknown-path",
            Self::MalformedTopic(_) => "malformed-topic",
            Self::PayloadTooLarge { .. } => "payload-too-large",
            Self::ContentTypeNotAdmitted => "content-type-not-admitted",
            Self::InvalidPayload(_) => "invalid-payload",
            Self::BrokerUnavailable { .. } => "broker-unavailable",
            Self::RateLimited { .. } => "rate-limited",
            Self::Revoked => "revoked",
            Self::ShuttingDown => "shutting-down",
        }
    }

    /// When it is worth trying again, where it is: at least one second, rounded up, so that nobody comes back too early.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let span = match self {
            Self::BrokerUnavailable { retry_after, .. } | Self::RateLimited { retry_after } => *retry_after,
            Self::ShuttingDown => Duration::from_secs(1),
            Self::Unauthenticated
            | Self::Forbidden
            | Self::UnknownPath
            | Self::MalformedTopic(_)
            | Self::PayloadTooLarge { .. }
            | Self::ContentTypeNotAdmitted
            | Self::InvalidPayload(_)
            | Self::Revoked => return None,
        };
        Some(u32::try_from(span.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1))
    }
}
