//! What goes wrong between a device and the server.

use std::error::Error;
use std::fmt;

use crate::event::MalformedEvent;

/// What went wrong. Never the key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA or the URL cannot be used.
    #[error("{0}")]
    Setup(&'static str),
    /// The server cannot be reached, or the connection broke.
    #[error("cannot {operation}")]
    Connection {
        /// What was tried.
        operation: &'static str,
        /// Why it did not work.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server refused.
    #[error("refused with {status}: {detail}")]
    Refused {
        /// The status.
        status: Status,
        /// The server's words.
        detail: String,
    },
    /// The server sent what is no event.
    #[error(transparent)]
    Malformed(#[from] MalformedEvent),
}

/// How a server refuses, in the words of its protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// A status code of HTTP.
    Http(u16),
    /// The name of a reason code of MQTT 5, as `NotAuthorized`.
    Mqtt(String),
    /// The code of a frame that was refused over WebSocket, as `content-type-not-admitted`.
    WebSocket(String),
    /// The code of the close frame that ended a WebSocket.
    Closed(u16),
    /// A code of CoAP as a message carries it, three bits of class and five of detail: 0x83 is 4.03.
    Coap(u8),
    /// The alert that ended a handshake of DTLS, by its number; none where the server has just fallen silent, as most do
    /// when the other's key is not theirs.
    Dtls(Option<u8>),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(code) => write!(f, "{code}"),
            Self::Mqtt(name) | Self::WebSocket(name) => f.write_str(name),
            Self::Closed(code) => write!(f, "close code {code}"),
            //= RFC7252 3
            Self::Coap(code) => write!(f, "{}.{:02}", code >> 5, code & 0x1f),
            Self::Dtls(Some(alert)) => write!(f, "DTLS alert {alert}"),
            Self::Dtls(None) => f.write_str("silence"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_its_protocol_writes_it() {
        let check = |status: Status, expected: &str| assert_eq!(status.to_string(), expected);
        check(Status::Http(403), "403");
        check(Status::Mqtt("NotAuthorized".to_owned()), "NotAuthorized");
        check(Status::Closed(1008), "close code 1008");
        check(Status::Coap(0x83), "4.03");
        check(Status::Coap(0x9d), "4.29");
        check(Status::Coap(0xa3), "5.03");
        check(Status::Dtls(Some(115)), "DTLS alert 115");
        check(Status::Dtls(None), "silence");
    }
}
