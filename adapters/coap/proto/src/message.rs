//! What a datagram says: the eight legal of the many that type and code could make.

use std::fmt;

use bytes::Bytes;

use crate::code::Code;
use crate::option::Options;

/// Names a message until it cannot be on its way any more; each direction has its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u16);

impl MessageId {
    /// The one after it; after the last comes the first.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

/// What a client knows a request and its responses by: 0 to 8 bytes.
//= RFC7252 5.3.1
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    length: u8,
    /// Zero beyond the length.
    bytes: [u8; Self::BYTES_MAX],
}

impl Token {
    /// Longest, in bytes. RFC 8974 knows longer ones; a server without it refuses them as malformed.
    //= RFC7252 3
    //= RFC8974 2.2.2
    pub const BYTES_MAX: usize = 8;
    /// Of no bytes.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; Self::BYTES_MAX] };

    /// Of these bytes; nothing when they are more than 8.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let length = u8::try_from(bytes.len()).ok().filter(|_| bytes.len() <= Self::BYTES_MAX)?;
        let mut token = Self { length, ..Self::EMPTY };
        token.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(token)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// How many they are, 0 to 8.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, known or not.
    pub method: Code,
    /// Its options.
    pub options: Options,
    /// What comes with it, or nothing.
    pub payload: Bytes,
}

impl fmt::Debug for Request {
    /// Without the options and the payload: there may be a credential in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The outcome.
    pub code: Code,
    /// Its options.
    pub options: Options,
    /// What comes with it: a representation, or words for people where it is a refusal.
    pub payload: Bytes,
}

impl Response {
    /// An outcome with nothing else to say.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        Self { code, options: Options::NONE, payload: Bytes::new() }
    }

    /// A refusal with words for people.
    //= RFC7252 5.5.2
    #[must_use]
    pub const fn refusal(code: Code, words: &'static str) -> Self {
        Self { code, options: Options::NONE, payload: Bytes::from_static(words.as_bytes()) }
    }
}

/// In what kind of message a response comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// One to be acknowledged.
    Confirmable,
    /// One that is not.
    NonConfirmable,
    /// The acknowledgement of its request.
    Piggybacked,
}

/// A message.
//= RFC7252 4.3
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// An empty confirmable one, which asks for a reset: a ping.
    Ping(MessageId),
    /// An acknowledgement with nothing in it.
    Acknowledgement(MessageId),
    /// What was sent under this id means nothing to who got it.
    Reset(MessageId),
    /// A request.
    Request {
        /// Names the message.
        id: MessageId,
        /// Whether it is to be acknowledged.
        is_confirmable: bool,
        /// Names the request.
        token: Token,
        /// The rest.
        request: Request,
    },
    /// A response.
    Response {
        /// Names the message; that of the request where it is piggybacked.
        id: MessageId,
        /// In what kind of message it comes.
        carried: Carried,
        /// Names the request.
        token: Token,
        /// The rest.
        response: Response,
    },
}

impl Message {
    /// Names it.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        match self {
            Self::Ping(id)
            | Self::Acknowledgement(id)
            | Self::Reset(id)
            | Self::Request { id, .. }
            | Self::Response { id, .. } => *id,
        }
    }
}
