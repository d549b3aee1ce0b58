//! What is wrong with bytes that make no packet.

use crate::{Reason, Version};

/// Why bytes make no packet; the connection is of no use afterward.
//= MQTT5 4.13.1-1
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They cannot be read as the standard says.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// They can be read, and say what may not be said.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A topic name with a wildcard in it, or none at all.
    #[error("the topic name is none")]
    TopicName,
    /// A topic filter with a control character in it.
    #[error("the topic filter is none")]
    TopicFilter,
    /// A client identifier that is no string, or has a control character in it.
    #[error("the client identifier is none")]
    ClientIdentifier,
    /// A topic alias of 0.
    #[error("the topic alias is 0")]
    TopicAlias,
    /// More bytes than are taken.
    #[error("a packet of {bytes} bytes, of which {bytes_max} are taken")]
    TooLarge {
        /// How many there would be.
        bytes: usize,
        /// How many may be.
        bytes_max: usize,
    },
    /// A protocol name or level that is not served.
    //= MQTT5 3.1.2-2
    #[error("the protocol version is not served")]
    Version {
        /// Whether it is one after MQTT 5, which may understand an answer of that.
        is_newer: bool,
    },
    /// A CONNECT of a version that is served, with something wrong in it.
    #[error("a CONNECT that is refused: {reason:?}")]
    Connect {
        /// What it speaks.
        version: Version,
        /// What is wrong.
        reason: Reason,
    },
}

impl DecodeError {
    /// How a peer that speaks MQTT 5 is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::MalformedPacket,
            Self::Protocol(_) => Reason::ProtocolError,
            Self::TopicName => Reason::TopicNameInvalid,
            Self::TopicFilter => Reason::TopicFilterInvalid,
            Self::ClientIdentifier => Reason::ClientIdentifierNotValid,
            Self::TopicAlias => Reason::TopicAliasInvalid,
            Self::TooLarge { .. } => Reason::PacketTooLarge,
            Self::Version { .. } => Reason::UnsupportedProtocolVersion,
            Self::Connect { reason, .. } => reason,
        }
    }
}
