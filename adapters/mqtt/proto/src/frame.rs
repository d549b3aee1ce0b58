//! From a stream of bytes to whole packets: the fixed header, and bounds before anything is kept.

use bytes::{Bytes, BytesMut};

use crate::error::DecodeError;

/// Most bytes of a length.
const LENGTH_BYTES_MAX: usize = 4;

/// The type of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the standard's own names")]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The flags that the header of such a packet has to have; PUBLISH has its own.
    //= MQTT5 2.1.3-1, 3.6.1-1, 3.8.1-1, 3.10.1-1, 3.14.1-1, 3.15.1-1
    //= MQTT3 2.2.2-1, 3.6.1-1, 3.8.1-1, 3.10.1-1, 3.14.1-1
    #[must_use]
    pub const fn flags(self) -> u8 {
        if matches!(self, Self::PubRel | Self::Subscribe | Self::Unsubscribe) { 0b0010 } else { 0 }
    }
}

/// A packet whose bytes are all here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub packet: PacketType,
    /// The lower half of its first byte; that of anything but PUBLISH and CONNECT is as it has to be.
    pub flags: u8,
    /// What follows the length.
    pub body: Bytes,
    /// Whether its length was said in as few bytes as it can be.
    pub is_minimal: bool,
}

/// Takes the next packet off the buffer, if all of it is here. Asks for no room beforehand: a length is only a claim.
///
/// # Errors
/// [`DecodeError`] as soon as the bytes that are here make one certain: a packet of more than `bytes_max` bytes, header
/// included, is refused by its header alone.
pub fn split(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>, DecodeError> {
    let Some(first) = buffer.first().copied() else { return Ok(None) };
    let number = usize::from(first >> 4);
    let Some(packet) = number.checked_sub(1).map(|index| PacketType::ALL[index]) else {
        return Err(DecodeError::Malformed("packet type 0"));
    };
    let flags = first & 0x0f;
    //= MQTT3 2.2.2-2
    // Those of a CONNECT depend on the version that it says.
    if !matches!(packet, PacketType::Publish | PacketType::Connect) && flags != packet.flags() {
        return Err(DecodeError::Malformed("flags of the fixed header"));
    }
    let Some((length, length_bytes)) = length(&buffer[1..])? else { return Ok(None) };
    let bytes = 1 + length_bytes + length;
    if bytes > bytes_max {
        return Err(DecodeError::TooLarge { bytes, bytes_max });
    }
    if buffer.len() < bytes {
        return Ok(None);
    }
    let mut whole = buffer.split_to(bytes).freeze();
    let body = whole.split_off(1 + length_bytes);
    Ok(Some(Frame { packet, flags, body, is_minimal: length_bytes == bytes_of(length) }))
}

/// A variable byte integer and how many bytes it has; nothing while its end is not here.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(DecodeError::Malformed("a length of more than 4 bytes")) }
}

/// How many bytes a variable byte integer takes.
//= MQTT5 1.5.5-1
pub(crate) const fn bytes_of(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_comes_in_any_pieces() {
        let whole = [0x30, 5, 0, 1, b'a', b'x', b'y', 0xc0, 0];
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let before = split(&mut buffer, 100).unwrap();
            assert_eq!(before.is_some(), cut >= 7, "{cut}");
            buffer.extend_from_slice(&whole[cut..]);
            let publish = before.map_or_else(|| split(&mut buffer, 100).unwrap(), Some).unwrap();
            assert_eq!((publish.packet, &publish.body[..]), (PacketType::Publish, &whole[2..7]));
            assert_eq!(split(&mut buffer, 100).unwrap().unwrap().packet, PacketType::PingReq);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_header() {
        let mut buffer = BytesMut::from(&[0x30, 0xff, 0xff, 0x03][..]);
        let refused = split(&mut buffer, 1_000);
        assert_eq!(refused, Err(DecodeError::TooLarge { bytes: 65_539, bytes_max: 1_000 }));
    }

    #[test]
    fn a_length_has_four_bytes_at_most() {
        assert_eq!(length(&[0xff, 0xff, 0xff, 0x7f]), Ok(Some((268_435_455, 4))));
        assert_eq!(length(&[0x80, 0x80, 0x80]), Ok(None));
        assert!(length(&[0x80, 0x80, 0x80, 0x80]).is_err());
        for value in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            assert!((1..=4).contains(&bytes_of(value)));
        }
    }
}
