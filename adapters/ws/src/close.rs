//! How a socket is told that it ends: the WebSocket column of the outcome table.

use axum::extract::ws::{CloseFrame, close_code};
use bytes::Bytes;
use tidegate_model::Refusal;

/// Longest reason of a close frame, in bytes: a control frame has 125, two of them for the code.
//= RFC6455 5.5
const REASON_BYTES_MAX: usize = 123;

/// A code and a reason that close a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// As RFC 6455 7.4.1 and its registry say.
    pub code: u16,
    /// For people: never a key, never a payload.
    pub reason: String,
}

impl Close {
    /// Of this code, with this reason.
    #[must_use]
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Nothing came of the peer for too long.
    pub(crate) fn silent() -> Self {
        Self::new(close_code::POLICY, "nothing was heard of you for too long")
    }

    /// The queue of the subscription was full.
    pub(crate) fn overrun() -> Self {
        Self::new(close_code::POLICY, "messages are not read in time")
    }

    /// The link to the broker was lost, and a plain socket has no other word for it.
    pub(crate) fn gap() -> Self {
        Self::new(close_code::AGAIN, "the link to the broker was lost; messages may be missing")
    }

    /// The frame itself, as a server sends it, for a connection that nobody else writes to any more.
    //= RFC6455 5.2, 5.5.1
    pub(crate) fn bytes(&self) -> Bytes {
        let CloseFrame { code, reason } = self.frame();
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        let length = u8::try_from(payload.len()).expect("a reason is bounded");
        [&[0x88, length], &*payload].concat().into()
    }

    /// As a frame says it.
    pub(crate) fn frame(&self) -> CloseFrame {
        let reason = self.reason.as_str();
        let bytes = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        CloseFrame { code: self.code, reason: reason[..bytes.unwrap_or(0)].into() }
    }
}

impl From<&Refusal> for Close {
    fn from(refusal: &Refusal) -> Self {
        Self::new(code_of(refusal), refusal.to_string())
    }
}

/// What WebSocket calls a refusal.
//= RFC6455 7.4.1
const fn code_of(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::ContentTypeNotAdmitted => close_code::UNSUPPORTED,
        Refusal::InvalidPayload(_) => close_code::INVALID,
        Refusal::Unauthenticated
        | Refusal::Forbidden
        | Refusal::Revoked
        | Refusal::UnknownPath
        | Refusal::MalformedTopic(_)
        | Refusal::RateLimited { .. } => close_code::POLICY,
        Refusal::PayloadTooLarge { .. } => close_code::SIZE,
        Refusal::ShuttingDown => close_code::RESTART,
        Refusal::BrokerUnavailable { .. } => close_code::AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_where_a_character_ends() {
        let check = |reason: String, expected: usize| {
            assert_eq!(Close::new(1008, reason.as_str()).frame().reason.as_str(), &reason[..expected]);
        };
        check(String::new(), 0);
        check("a".repeat(123), 123);
        check("a".repeat(124), 123);
        check("a".repeat(122) + "é", 122);
        check("a".repeat(121) + "é", 123);
    }
}
