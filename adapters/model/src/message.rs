//! What a device says, without where it says it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::time::Timestamp;

/// Longest AMQP short string, in bytes: what a content type and a message id must fit.
const SHORT_STRING_BYTES_MAX: usize = 255;

/// Where a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// A WebSocket frame.
    WebSocket,
    /// MQTT, whatever its transport.
    Mqtt,
    /// CoAP, whatever its transport.
    Coap,
    /// A back-end service that publishes to the exchange itself.
    Amqp,
}

impl Protocol {
    /// The name that stands in `x-protocol` and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::WebSocket => "ws",
            Self::Mqtt => "mqtt",
            Self::Coap => "coap",
            Self::Amqp => "amqp",
        }
    }

    /// The protocol of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Http, Self::WebSocket, Self::Mqtt, Self::Coap, Self::Amqp].into_iter().find(|p| p.as_str() == name)
    }
}

/// How surely a publisher wants a message to arrive, for subscribers of a face that knows the difference. Every message
/// that is accepted was confirmed by the broker, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// Once or not at all.
    AtMostOnce,
    /// Once or more often.
    #[default]
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}

impl QoS {
    /// As MQTT counts: 0, 1 or 2.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// The one of this level.
    #[must_use]
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A content type cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content type is <type>/<subtype>, printable, at most 255 bytes")]
pub struct ContentTypeError;

/// A content type as the device wrote it. Carried on byte for byte; compared by its essence only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContentType(Arc<str>);

impl ContentType {
    /// Takes a content type as written.
    ///
    /// # Errors
    /// When it is longer than 255 bytes, has no `/` between two non-empty parts, or holds what is not printable ASCII.
    pub fn parse(text: &str) -> Result<Self, ContentTypeError> {
        let printable = text.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\t');
        if text.len() > SHORT_STRING_BYTES_MAX || !printable {
            return Err(ContentTypeError);
        }
        let (kind, subtype) = essence(text).split_once('/').ok_or(ContentTypeError)?;
        if !is_token(kind) || !is_token(subtype) {
            return Err(ContentTypeError);
        }
        Ok(Self(text.into()))
    }

    /// The content type as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `type/subtype` without parameters, in the case that was written.
    #[must_use]
    pub fn essence(&self) -> &str {
        essence(&self.0)
    }

    /// Whether both name the same media type: letter case and parameters do not count.
    //= RFC9110 8.3.1
    #[must_use]
    pub fn same_media_type(&self, other: &Self) -> bool {
        self.is(other.essence())
    }

    /// Whether this is the media type `essence`.
    #[must_use]
    pub fn is(&self, essence: &str) -> bool {
        self.essence().eq_ignore_ascii_case(essence)
    }
}

fn essence(text: &str) -> &str {
    text.split_once(';').map_or(text, |(essence, _)| essence).trim_matches([' ', '\t'])
}

//= RFC9110 5.6.2
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Names one message, the same over every try to publish it, so that consumers can drop duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// Takes `text`, or `None` when it is empty or longer than the 255 bytes that AMQP can say.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (1..=SHORT_STRING_BYTES_MAX).contains(&text.len()).then(|| Self(text.into()))
    }

    /// The id as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a message says beside its payload, in the words of MQTT 5. Not `Debug`: it is the device's own, as the payload is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Names and values, in the publisher's order; a name may come more than once.
    pub user_properties: Vec<(Box<str>, Box<str>)>,
    /// Where an answer is awaited.
    pub response_topic: Option<Box<str>>,
    /// What the answer is to bear.
    pub correlation_data: Option<Bytes>,
    /// The block of properties as a client of MQTT 5 sent it, which says all of this and more; empty where none did.
    pub property_block: Bytes,
}

impl Extras {
    /// Most bytes of them: with the longest topic they fit one frame of AMQP, in which some of it stands twice.
    pub const BYTES_MAX: u32 = 16_384;

    /// Bytes that they take as MQTT 5 writes them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        if !self.property_block.is_empty() {
            return self.property_block.len();
        }
        let user_properties = self.user_properties.iter().map(|(name, value)| 5 + name.len() + value.len());
        let response_topic = self.response_topic.as_ref().map_or(0, |topic| 3 + topic.len());
        let correlation_data = self.correlation_data.as_ref().map_or(0, |data| 3 + data.len());
        user_properties.sum::<usize>() + response_topic + correlation_data
    }
}

/// A device's payload and what travels beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique per message, chosen by the face that took it in.
    pub id: MessageId,
    /// The device's bytes, never altered.
    pub payload: Bytes,
    /// As the device wrote it, or the channel's default.
    pub content_type: ContentType,
    /// The face that took it in.
    pub protocol: Protocol,
    /// How surely it is to arrive.
    pub qos: QoS,
    /// Whether it is kept for those who subscribe later, in the place of the one before it.
    pub retain: bool,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// How long after `received_at` it is still worth delivering; for ever when absent.
    pub expires_in: Option<Duration>,
    /// The W3C trace context that the device sent, if it sent a valid one.
    pub traceparent: Option<Box<str>>,
    /// What else its publisher said of it.
    pub extras: Option<Box<Extras>>,
}

impl Message {
    /// Whether its time is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_in.is_some_and(|span| now >= self.received_at.saturating_add(span))
    }

    /// How long it is worth delivering from `now` on; none where that is for ever.
    #[must_use]
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        self.expires_in.map(|span| span.saturating_sub(now.saturating_since(self.received_at)))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("payload_bytes", &self.payload.len())
            .field("content_type", &self.content_type)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
