//! Properties of MQTT 5: a block that is checked once, kept as it came, and read when somebody asks.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{put_binary, put_length};
use crate::error::DecodeError;
use crate::frame::{self, PacketType};
use crate::reader::Reader;
use crate::text::Text;
use crate::topic::is_topic_name;

/// What may bear properties: a packet, or the will of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Packet(PacketType),
    Will,
}

/// A property.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own names")]
pub enum Property {
    /// Whether the payload is UTF-8.
    PayloadFormatIndicator(bool),
    /// Seconds.
    MessageExpiryInterval(u32),
    ContentType(Text),
    ResponseTopic(Text),
    CorrelationData(Bytes),
    /// 1 to 268,435,455.
    SubscriptionIdentifier(NonZeroU32),
    /// Seconds; 0xFFFFFFFF is for ever.
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(Text),
    /// Seconds.
    ServerKeepAlive(u16),
    AuthenticationMethod(Text),
    AuthenticationData(Bytes),
    RequestProblemInformation(bool),
    /// Seconds.
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(Text),
    ServerReference(Text),
    ReasonString(Text),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    /// Whether QoS 1 is the maximum, and not QoS 0.
    MaximumQoS(bool),
    RetainAvailable(bool),
    UserProperty(Text, Text),
    /// Bytes.
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// Identifiers, and which packets may bear the property; Table 2-4 of the standard.
//= MQTT5 2.2.2.2
const fn allowed(id: u8, holder: Holder) -> bool {
    use PacketType::{
        Auth, ConnAck, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe, UnsubAck,
        Unsubscribe,
    };
    let packet = match holder {
        Holder::Will => return matches!(id, 0x01 | 0x02 | 0x03 | 0x08 | 0x09 | 0x18 | 0x26),
        Holder::Packet(packet) => packet,
    };
    match id {
        0x01 | 0x02 | 0x03 | 0x08 | 0x09 | 0x23 => matches!(packet, Publish),
        0x0B => matches!(packet, Publish | Subscribe),
        0x11 => matches!(packet, Connect | ConnAck | Disconnect),
        0x12 | 0x13 | 0x1A | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => matches!(packet, ConnAck),
        0x15 | 0x16 => matches!(packet, Connect | ConnAck | Auth),
        0x17 | 0x19 => matches!(packet, Connect),
        0x1C => matches!(packet, ConnAck | Disconnect),
        0x1F => matches!(packet, ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth),
        0x21 | 0x22 | 0x27 => matches!(packet, Connect | ConnAck),
        0x26 => !matches!(packet, PacketType::PingReq | PacketType::PingResp) || matches!(packet, Unsubscribe),
        _ => false,
    }
}

/// The properties of a packet, in their order.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Properties(Bytes);

impl Properties {
    /// None at all.
    pub const NONE: Self = Self(Bytes::new());

    /// Checks a block, which `holder` bears; a publish of a server may say what one of a client may not.
    //= MQTT5 1.5.7-1, 3.3.2-13, 3.3.2-19
    pub(crate) fn check(block: Bytes, holder: Holder, of_server: bool) -> Result<Self, DecodeError> {
        let properties = Self(block);
        let mut seen = 0_u64;
        let (mut method, mut data) = (false, false);
        let mut reader = Reader(properties.0.clone());
        while !reader.is_empty() {
            let id = reader.u8()?;
            if !allowed(id, holder) {
                return Err(DecodeError::Malformed("a property that this packet may not bear"));
            }
            let property = read(id, &mut reader)?;
            let bit = 1 << id;
            // User properties may be many, and so may the subscriptions that a message of a server matches.
            let many = id == 0x26 || (id == 0x0B && of_server && holder == Holder::Packet(PacketType::Publish));
            if seen & bit != 0 && !many {
                return Err(DecodeError::Protocol("a property twice"));
            }
            seen |= bit;
            //= MQTT5 3.3.2-14
            if matches!(&property, Property::ResponseTopic(topic) if !is_topic_name(topic.as_str())) {
                return Err(DecodeError::Protocol("the response topic is no topic name"));
            }
            //= MQTT5 3.3.4-6
            let of_message = id == 0x0B && holder == Holder::Packet(PacketType::Publish);
            if of_message && !of_server {
                return Err(DecodeError::Protocol("a client's message with a subscription identifier"));
            }
            method |= id == 0x15;
            data |= id == 0x16;
        }
        //= MQTT5 3.1.2.11.10
        if data && !method {
            return Err(DecodeError::Protocol("authentication data without a method"));
        }
        Ok(properties)
    }

    /// Those of a message, from a block that was kept of it; nothing when it is none.
    #[must_use]
    pub fn of_message(block: Bytes) -> Option<Self> {
        Self::check(block, Holder::Packet(PacketType::Publish), false).ok()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they are in a packet, without the length before them.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Each of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property> + use<> {
        let mut reader = Reader(self.0.clone());
        std::iter::from_fn(move || {
            let id = reader.u8().ok()?;
            read(id, &mut reader).ok()
        })
    }

    /// The first of which `pick` makes something.
    pub fn find<T>(&self, pick: impl FnMut(Property) -> Option<T>) -> Option<T> {
        self.iter().find_map(pick)
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<Property> for Properties {
    fn from_iter<I: IntoIterator<Item = Property>>(properties: I) -> Self {
        let mut block = BytesMut::new();
        properties.into_iter().for_each(|property| put(&property, &mut block));
        Self(block.freeze())
    }
}

fn flag(reader: &mut Reader) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Protocol("a property that is neither 0 nor 1")),
    }
}

fn read(id: u8, reader: &mut Reader) -> Result<Property, DecodeError> {
    let zero = DecodeError::Protocol("a property that may not be 0");
    Ok(match id {
        0x01 => Property::PayloadFormatIndicator(flag(reader)?),
        0x02 => Property::MessageExpiryInterval(reader.u32()?),
        0x03 => Property::ContentType(reader.text()?),
        0x08 => Property::ResponseTopic(reader.text()?),
        0x09 => Property::CorrelationData(reader.binary()?),
        0x0B => {
            let id = u32::try_from(reader.length()?).ok().and_then(NonZeroU32::new);
            Property::SubscriptionIdentifier(id.ok_or(zero)?)
        }
        0x11 => Property::SessionExpiryInterval(reader.u32()?),
        0x12 => Property::AssignedClientIdentifier(reader.text()?),
        0x13 => Property::ServerKeepAlive(reader.u16()?),
        0x15 => Property::AuthenticationMethod(reader.text()?),
        0x16 => Property::AuthenticationData(reader.binary()?),
        0x17 => Property::RequestProblemInformation(flag(reader)?),
        0x18 => Property::WillDelayInterval(reader.u32()?),
        0x19 => Property::RequestResponseInformation(flag(reader)?),
        0x1A => Property::ResponseInformation(reader.text()?),
        0x1C => Property::ServerReference(reader.text()?),
        0x1F => Property::ReasonString(reader.text()?),
        0x21 => Property::ReceiveMaximum(NonZeroU16::new(reader.u16()?).ok_or(zero)?),
        0x22 => Property::TopicAliasMaximum(reader.u16()?),
        //= MQTT5 3.3.2-8
        0x23 => Property::TopicAlias(NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAlias)?),
        0x24 => Property::MaximumQoS(flag(reader)?),
        0x25 => Property::RetainAvailable(flag(reader)?),
        0x26 => Property::UserProperty(reader.text()?, reader.text()?),
        0x27 => Property::MaximumPacketSize(NonZeroU32::new(reader.u32()?).ok_or(zero)?),
        0x28 => Property::WildcardSubscriptionAvailable(flag(reader)?),
        0x29 => Property::SubscriptionIdentifierAvailable(flag(reader)?),
        0x2A => Property::SharedSubscriptionAvailable(flag(reader)?),
        _ => return Err(DecodeError::Malformed("a property that there is not")),
    })
}

fn put(property: &Property, out: &mut BytesMut) {
    let mut byte = |id: u8, value: bool| out.put_slice(&[id, u8::from(value)]);
    match property {
        Property::PayloadFormatIndicator(value) => byte(0x01, *value),
        Property::RequestProblemInformation(value) => byte(0x17, *value),
        Property::RequestResponseInformation(value) => byte(0x19, *value),
        Property::MaximumQoS(value) => byte(0x24, *value),
        Property::RetainAvailable(value) => byte(0x25, *value),
        Property::WildcardSubscriptionAvailable(value) => byte(0x28, *value),
        Property::SubscriptionIdentifierAvailable(value) => byte(0x29, *value),
        Property::SharedSubscriptionAvailable(value) => byte(0x2A, *value),
        Property::MessageExpiryInterval(value) => put_u32(0x02, *value, out),
        Property::SessionExpiryInterval(value) => put_u32(0x11, *value, out),
        Property::WillDelayInterval(value) => put_u32(0x18, *value, out),
        Property::MaximumPacketSize(value) => put_u32(0x27, value.get(), out),
        Property::ServerKeepAlive(value) => put_u16(0x13, *value, out),
        Property::ReceiveMaximum(value) => put_u16(0x21, value.get(), out),
        Property::TopicAliasMaximum(value) => put_u16(0x22, *value, out),
        Property::TopicAlias(value) => put_u16(0x23, value.get(), out),
        Property::ContentType(text) => put_text(0x03, text, out),
        Property::ResponseTopic(text) => put_text(0x08, text, out),
        Property::AssignedClientIdentifier(text) => put_text(0x12, text, out),
        Property::AuthenticationMethod(text) => put_text(0x15, text, out),
        Property::ResponseInformation(text) => put_text(0x1A, text, out),
        Property::ServerReference(text) => put_text(0x1C, text, out),
        Property::ReasonString(text) => put_text(0x1F, text, out),
        Property::CorrelationData(bytes) => put_bytes(0x09, bytes, out),
        Property::AuthenticationData(bytes) => put_bytes(0x16, bytes, out),
        Property::SubscriptionIdentifier(id) => {
            out.put_u8(0x0B);
            put_length(id.get() as usize, out);
        }
        Property::UserProperty(name, value) => {
            put_text(0x26, name, out);
            put_binary(value.as_bytes(), out);
        }
    }
}

fn put_u16(id: u8, value: u16, out: &mut BytesMut) {
    out.put_u8(id);
    out.put_u16(value);
}

fn put_u32(id: u8, value: u32, out: &mut BytesMut) {
    out.put_u8(id);
    out.put_u32(value);
}

fn put_text(id: u8, text: &Text, out: &mut BytesMut) {
    put_bytes(id, text.as_bytes(), out);
}

fn put_bytes(id: u8, bytes: &Bytes, out: &mut BytesMut) {
    out.put_u8(id);
    put_binary(bytes, out);
}

/// Bytes of a block with its length before it.
pub(crate) fn length_with(properties: &Properties) -> usize {
    frame::bytes_of(properties.0.len()) + properties.0.len()
}
