//! From a datagram to the message in it, or to what is wrong with it.

use bytes::Bytes;

use crate::code::Code;
use crate::error::{DecodeError, Malformed, Rejection};
use crate::message::{Carried, Message, MessageId, Request, Response, Token};
use crate::option::Options;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 4;
/// Numbers of the types.
pub(crate) const CONFIRMABLE: u8 = 0;
pub(crate) const NON_CONFIRMABLE: u8 = 1;
pub(crate) const ACKNOWLEDGEMENT: u8 = 2;
pub(crate) const RESET: u8 = 3;

/// The message of a datagram. Options that nobody knows are left in it: what they are worth is decided later.
///
/// # Errors
/// [`DecodeError`], with what is to be said to the sender. A confirmable message is reset wherever its id can be read; what
/// came as an acknowledgement or a reset is never answered, nor is another version or what has no header.
//= RFC7252 3, 4.2, 4.3
pub fn decode(datagram: &Bytes) -> Result<Message, DecodeError> {
    let [first, code, high, low, ..] = datagram[..] else {
        return Err(DecodeError { malformed: Malformed::Header, rejection: Rejection::Silence });
    };
    let id = MessageId(u16::from_be_bytes([high, low]));
    // What another version means by a type is not known.
    let is_reset = first >> 4 == (1 << 2 | CONFIRMABLE);
    let rejection = if is_reset { Rejection::Reset(id) } else { Rejection::Silence };
    let header = Header { first, code: Code::from_byte(code), id };
    header.message(datagram).map_err(|malformed| DecodeError { malformed, rejection })
}

#[derive(Clone, Copy)]
struct Header {
    first: u8,
    code: Code,
    id: MessageId,
}

impl Header {
    fn message(self, datagram: &Bytes) -> Result<Message, Malformed> {
        let Self { first, code, id } = self;
        if first >> 6 != 1 {
            return Err(Malformed::Version);
        }
        let kind = (first >> 4) & 0b11;
        if code == Code::EMPTY {
            return self.empty(kind, datagram.len());
        }
        if !code.is_request() && !code.is_response() {
            return Err(Malformed::Code);
        }
        if kind == RESET || (kind == ACKNOWLEDGEMENT && code.is_request()) {
            return Err(Malformed::Type);
        }
        let begin = HEADER_BYTES + usize::from(first & 0x0f);
        let token = datagram.get(HEADER_BYTES..begin).and_then(Token::new).ok_or(Malformed::Token)?;
        let (options, payload) = Options::split(datagram.slice(begin..))?;
        Ok(if code.is_request() {
            let request = Request { method: code, options, payload };
            Message::Request { id, is_confirmable: kind == CONFIRMABLE, token, request }
        } else {
            let carried = match kind {
                CONFIRMABLE => Carried::Confirmable,
                NON_CONFIRMABLE => Carried::NonConfirmable,
                _ => Carried::Piggybacked,
            };
            Message::Response { id, carried, token, response: Response { code, options, payload } }
        })
    }

    //= RFC7252 4.1
    fn empty(self, kind: u8, bytes: usize) -> Result<Message, Malformed> {
        if bytes > HEADER_BYTES || self.first & 0x0f != 0 {
            return Err(Malformed::Empty);
        }
        match kind {
            CONFIRMABLE => Ok(Message::Ping(self.id)),
            ACKNOWLEDGEMENT => Ok(Message::Acknowledgement(self.id)),
            RESET => Ok(Message::Reset(self.id)),
            _ => Err(Malformed::Type),
        }
    }
}
