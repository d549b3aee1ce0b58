//! What is wrong with a datagram that is no message, and what is to be said to it.

use crate::MessageId;

/// What of the form is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer than the four bytes of a header.
    #[error("no whole header")]
    Header,
    /// A version that there is not.
    #[error("a version other than 1")]
    Version,
    /// A token of 9 bytes or more, which RFC 8974 has and this does not, or one that is cut off.
    #[error("the token")]
    Token,
    /// A code of a reserved class.
    #[error("a code of a reserved class")]
    Code,
    /// A type that does not go with the code: a reset with one, an acknowledgement that asks, an empty NON.
    #[error("a code that a message of this type does not bear")]
    Type,
    /// An Empty message with something in it.
    #[error("an empty message that is not")]
    Empty,
    /// An option whose delta or length is the reserved one.
    #[error("an option with a reserved delta or length")]
    OptionReserved,
    /// An option that is cut off.
    #[error("an option that is cut off")]
    OptionCut,
    /// An option number above 65,535.
    #[error("an option number that is too large")]
    OptionNumber,
    /// A marker with no payload behind it.
    #[error("a marker and no payload")]
    Marker,
}

/// What is said to a message that is rejected.
//= RFC7252 4.2, 4.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A reset with this id: the sender awaits something.
    Reset(MessageId),
    /// Nothing: the sender awaits nothing, or cannot be told.
    Silence,
}

/// Why bytes make no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {malformed}")]
pub struct DecodeError {
    /// What is wrong.
    pub malformed: Malformed,
    /// What is to be said.
    pub rejection: Rejection,
}
