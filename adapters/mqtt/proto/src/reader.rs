//! Reads a packet's body from its beginning to its end, without copying.

use bytes::{Buf, Bytes};

use crate::error::DecodeError;
use crate::frame;
use crate::packet::PacketId;
use crate::text::Text;

type Result<T> = std::result::Result<T, DecodeError>;

/// The rest of a body.
pub(crate) struct Reader(pub(crate) Bytes);

const SHORT: DecodeError = DecodeError::Malformed("the packet ends too soon");

impl Reader {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    /// So many bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes> {
        if count > self.0.len() { Err(SHORT) } else { Ok(self.0.split_to(count)) }
    }

    /// Bytes after their length.
    pub(crate) fn binary(&mut self) -> Result<Bytes> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(crate) fn text(&mut self) -> Result<Text> {
        Text::new(self.binary()?).ok_or(DecodeError::Malformed("a string that is not UTF-8, or holds U+0000"))
    }

    /// A variable byte integer, in as few bytes as it can be.
    //= MQTT5 1.5.5-1
    pub(crate) fn length(&mut self) -> Result<usize> {
        let (value, bytes) = frame::length(&self.0)?.ok_or(SHORT)?;
        if bytes != frame::bytes_of(value) {
            return Err(DecodeError::Malformed("a length in more bytes than it needs"));
        }
        self.0.advance(bytes);
        Ok(value)
    }

    //= MQTT5 2.2.1-2, 2.2.1-3
    //= MQTT3 2.3.1-1, 2.3.1-5
    pub(crate) fn packet_id(&mut self) -> Result<PacketId> {
        PacketId::new(self.u16()?).ok_or(DecodeError::Protocol("the packet identifier is 0"))
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the end of the packet")) }
    }
}
