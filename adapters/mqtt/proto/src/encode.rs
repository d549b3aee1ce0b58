//! From a packet to its bytes: the exact inverse of reading them.

use bytes::{BufMut, BytesMut};

use crate::frame::{PacketType, bytes_of};
use crate::packet::{Acknowledgement, Connect, Delivery, Packet, Publish, SubscriptionOptions, Version, Will};
use crate::property::{Properties, length_with};
use crate::reason::Reason;
use crate::text::Text;

/// Most bytes that a packet may have behind its length.
const BODY_BYTES_MAX: usize = 268_435_455;

/// A packet that cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It has more bytes than a length can say.
    #[error("a packet of {0} bytes")]
    TooLarge(usize),
    /// Its version has no such packet.
    #[error("this version has no such packet")]
    Version,
}

/// Puts a packet behind what is in `out`, in that version; a CONNECT says its own.
///
/// # Errors
/// [`EncodeError`]; nothing was put then.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let v5 = version == Version::V5;
    let (kind, flags) = header(packet);
    if kind == PacketType::Auth && !v5 {
        return Err(EncodeError::Version);
    }
    if let Packet::Connect(connect) = packet {
        let will = connect.will.as_ref().map_or(0, |will| will.payload.len());
        let password = connect.password.as_ref().map_or(0, |password| password.0.len());
        if will.max(password) > Text::BYTES_MAX {
            return Err(EncodeError::TooLarge(will.max(password)));
        }
    }
    let length = body_length(packet, v5);
    if length > BODY_BYTES_MAX {
        return Err(EncodeError::TooLarge(length));
    }
    out.reserve(1 + bytes_of(length) + length);
    out.put_u8((kind as u8) << 4 | flags);
    put_length(length, out);
    let begin = out.len();
    put_body(packet, v5, out);
    debug_assert_eq!(out.len() - begin, length, "{packet:?}");
    Ok(())
}

fn header(packet: &Packet) -> (PacketType, u8) {
    let kind = packet.kind();
    let Packet::Publish(publish) = packet else { return (kind, kind.flags()) };
    let qos = publish.delivery.qos() as u8;
    (kind, u8::from(publish.delivery.is_again()) << 3 | qos << 1 | u8::from(publish.retain))
}

/// What the parts of a packet take; each is put by the function beside it.
fn body_length(packet: &Packet, v5: bool) -> usize {
    let properties = |properties: &Properties| if v5 { length_with(properties) } else { 0 };
    match packet {
        Packet::Connect(connect) => connect_length(connect, v5),
        Packet::ConnAck(ack) => 2 + properties(&ack.properties),
        Packet::Publish(publish) => publish_length(publish, v5),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            2 + outcome_length(ack.reason, &ack.properties, v5)
        }
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters.iter().map(|(filter, _)| text_length(filter) + 1);
            2 + properties(&subscribe.properties) + filters.sum::<usize>()
        }
        Packet::SubAck(ack) => 2 + properties(&ack.properties) + ack.reasons.len(),
        Packet::Unsubscribe(unsubscribe) => {
            2 + properties(&unsubscribe.properties) + unsubscribe.filters.iter().map(text_length).sum::<usize>()
        }
        Packet::UnsubAck(ack) => 2 + properties(&ack.properties) + if v5 { ack.reasons.len() } else { 0 },
        Packet::PingReq | Packet::PingResp => 0,
        Packet::Disconnect(end) => outcome_length(end.reason, &end.properties, v5),
        Packet::Auth(auth) => outcome_length(auth.reason, &auth.properties, v5),
    }
}

fn publish_length(publish: &Publish, v5: bool) -> usize {
    let id = if publish.delivery == Delivery::AtMostOnce { 0 } else { 2 };
    let properties = if v5 { length_with(&publish.properties) } else { 0 };
    text_length(&publish.topic) + id + properties + publish.payload.len()
}

/// Bytes of the whole packet, without writing it.
pub(crate) fn publish_bytes(publish: &Publish, version: Version) -> usize {
    let length = publish_length(publish, version == Version::V5);
    1 + bytes_of(length) + length
}

/// The same of any packet.
pub(crate) fn packet_bytes(packet: &Packet, version: Version) -> usize {
    let length = body_length(packet, version == Version::V5);
    1 + bytes_of(length) + length
}

fn put_body(packet: &Packet, v5: bool, out: &mut BytesMut) {
    match packet {
        Packet::Connect(connect) => put_connect(connect, v5, out),
        Packet::ConnAck(ack) => {
            let code = if v5 { ack.reason.code() } else { ack.reason.connect_return_code() };
            out.put_slice(&[u8::from(ack.session_present), code]);
            put_properties(&ack.properties, v5, out);
        }
        Packet::Publish(publish) => put_publish(publish, v5, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            let Acknowledgement { id, reason, properties } = ack;
            out.put_u16(id.get());
            put_outcome(*reason, properties, v5, out);
        }
        Packet::Subscribe(subscribe) => {
            out.put_u16(subscribe.id.get());
            put_properties(&subscribe.properties, v5, out);
            for (filter, options) in &subscribe.filters {
                put_binary(filter.as_bytes(), out);
                out.put_u8(options_byte(*options, v5));
            }
        }
        Packet::SubAck(ack) => {
            out.put_u16(ack.id.get());
            put_properties(&ack.properties, v5, out);
            //= MQTT3 3.9.3-2
            // Before MQTT 5 there is one code for every failure.
            let code = |reason: &Reason| if v5 || !reason.is_error() { reason.code() } else { 0x80 };
            out.extend(ack.reasons.iter().map(code));
        }
        Packet::Unsubscribe(unsubscribe) => {
            out.put_u16(unsubscribe.id.get());
            put_properties(&unsubscribe.properties, v5, out);
            unsubscribe.filters.iter().for_each(|filter| put_binary(filter.as_bytes(), out));
        }
        Packet::UnsubAck(ack) => {
            out.put_u16(ack.id.get());
            put_properties(&ack.properties, v5, out);
            if v5 {
                out.extend(ack.reasons.iter().map(|reason| reason.code()));
            }
        }
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(end) => put_outcome(end.reason, &end.properties, v5, out),
        Packet::Auth(auth) => put_outcome(auth.reason, &auth.properties, v5, out),
    }
}

fn connect_length(connect: &Connect, v5: bool) -> usize {
    let name = if connect.version == Version::V3_1 { 6 } else { 4 };
    let properties = |properties: &Properties| if v5 { length_with(properties) } else { 0 };
    let will = |will: &Will| properties(&will.properties) + text_length(&will.topic) + 2 + will.payload.len();
    2 + name
        + 4
        + properties(&connect.properties)
        + text_length(&connect.client_id)
        + connect.will.as_ref().map_or(0, will)
        + connect.user_name.as_ref().map_or(0, text_length)
        + connect.password.as_ref().map_or(0, |password| 2 + password.0.len())
}

fn put_connect(connect: &Connect, v5: bool, out: &mut BytesMut) {
    let (name, level): (&[u8], u8) = match connect.version {
        Version::V3_1 => (b"MQIsdp", 3),
        Version::V3_1_1 => (b"MQTT", 4),
        Version::V5 => (b"MQTT", 5),
    };
    let will = connect.will.as_ref();
    let will_flags = will.map_or(0, |will| 1 << 2 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    let user = u8::from(connect.user_name.is_some()) << 7 | u8::from(connect.password.is_some()) << 6;
    put_binary(name, out);
    out.put_slice(&[level, u8::from(connect.clean_start) << 1 | will_flags | user]);
    out.put_u16(connect.keep_alive);
    put_properties(&connect.properties, v5, out);
    put_binary(connect.client_id.as_bytes(), out);
    if let Some(will) = will {
        put_properties(&will.properties, v5, out);
        put_binary(will.topic.as_bytes(), out);
        put_binary(&will.payload, out);
    }
    if let Some(user_name) = &connect.user_name {
        put_binary(user_name.as_bytes(), out);
    }
    if let Some(password) = &connect.password {
        put_binary(&password.0, out);
    }
}

fn put_publish(publish: &Publish, v5: bool, out: &mut BytesMut) {
    put_binary(publish.topic.as_bytes(), out);
    match publish.delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce { id, .. } | Delivery::ExactlyOnce { id, .. } => out.put_u16(id.get()),
    }
    put_properties(&publish.properties, v5, out);
    out.put_slice(&publish.payload);
}

fn options_byte(options: SubscriptionOptions, v5: bool) -> u8 {
    let qos = options.qos as u8;
    if !v5 {
        return qos;
    }
    let retain = u8::from(options.retain_as_published) << 3 | (options.retain_handling as u8) << 4;
    qos | u8::from(options.no_local) << 2 | retain
}

/// A success without properties is not said at all.
fn outcome_length(reason: Reason, properties: &Properties, v5: bool) -> usize {
    match (v5, reason, properties.is_empty()) {
        (false, _, _) | (true, Reason::Success, true) => 0,
        (true, _, true) => 1,
        (true, _, false) => 1 + length_with(properties),
    }
}

fn put_outcome(reason: Reason, properties: &Properties, v5: bool, out: &mut BytesMut) {
    let length = outcome_length(reason, properties, v5);
    if length > 0 {
        out.put_u8(reason.code());
    }
    if length > 1 {
        put_properties(properties, v5, out);
    }
}

//= MQTT5 2.2.2-1
fn put_properties(properties: &Properties, v5: bool, out: &mut BytesMut) {
    if v5 {
        put_length(properties.as_bytes().len(), out);
        out.put_slice(properties.as_bytes());
    }
}

/// A variable byte integer, in as few bytes as it can be.
//= MQTT5 1.5.5-1
pub(crate) fn put_length(value: usize, out: &mut BytesMut) {
    let mut rest = value;
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or(0x7f);
        rest >>= 7;
        out.put_u8(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            return;
        }
    }
}

/// Bytes with their length before them; what is too long for that is cut, which a [`Text`] never is.
pub(crate) fn put_binary(bytes: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&bytes[..usize::from(length)]);
}

fn text_length(text: &Text) -> usize {
    2 + text.as_bytes().len()
}
