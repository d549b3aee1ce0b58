//! From a message to its bytes: the exact inverse of reading them.

use bytes::{BufMut, BytesMut};

use crate::code::Code;
use crate::decode::{ACKNOWLEDGEMENT, CONFIRMABLE, HEADER_BYTES, NON_CONFIRMABLE, RESET};
use crate::message::{Carried, Message, MessageId, Token};
use crate::option::Options;

/// What stands between options and payload.
pub(crate) const MARKER: u8 = 0xff;

/// Puts a message behind what is in `out`. How many bytes a datagram may have is not known here.
//= RFC7252 3
pub fn encode(message: &Message, out: &mut BytesMut) {
    out.reserve(bytes_max(message));
    match message {
        Message::Ping(id) => put_header(CONFIRMABLE, Code::EMPTY, *id, &Token::EMPTY, out),
        Message::Acknowledgement(id) => put_header(ACKNOWLEDGEMENT, Code::EMPTY, *id, &Token::EMPTY, out),
        Message::Reset(id) => put_header(RESET, Code::EMPTY, *id, &Token::EMPTY, out),
        Message::Request { id, is_confirmable, token, request } => {
            let kind = if *is_confirmable { CONFIRMABLE } else { NON_CONFIRMABLE };
            put_header(kind, request.method, *id, token, out);
            put_content(&request.options, &request.payload, out);
        }
        Message::Response { id, carried, token, response } => {
            let kind = match carried {
                Carried::Confirmable => CONFIRMABLE,
                Carried::NonConfirmable => NON_CONFIRMABLE,
                Carried::Piggybacked => ACKNOWLEDGEMENT,
            };
            put_header(kind, response.code, *id, token, out);
            put_content(&response.options, &response.payload, out);
        }
    }
}

/// Bytes that it takes, at most.
fn bytes_max(message: &Message) -> usize {
    let content = match message {
        Message::Ping(_) | Message::Acknowledgement(_) | Message::Reset(_) => return HEADER_BYTES,
        Message::Request { request, .. } => request.options.as_bytes().len() + request.payload.len(),
        Message::Response { response, .. } => response.options.as_bytes().len() + response.payload.len(),
    };
    HEADER_BYTES + Token::BYTES_MAX + 1 + content
}

fn put_header(kind: u8, code: Code, id: MessageId, token: &Token, out: &mut BytesMut) {
    out.put_slice(&[1 << 6 | kind << 4 | token.length(), code.byte()]);
    out.put_u16(id.0);
    out.put_slice(token.as_bytes());
}

fn put_content(options: &Options, payload: &[u8], out: &mut BytesMut) {
    out.put_slice(options.as_bytes());
    if !payload.is_empty() {
        out.put_u8(MARKER);
        out.put_slice(payload);
    }
}
