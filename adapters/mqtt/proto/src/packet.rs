//! Packets, of all versions in one type each: what a version cannot say is not encoded in it.

use std::num::NonZeroU16;
use std::time::Duration;

use bytes::Bytes;

use crate::frame::PacketType;
use crate::property::{Properties, Property};
use crate::reason::Reason;
use crate::text::Text;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 3.1, `MQIsdp`, level 3.
    V3_1,
    /// 3.1.1, `MQTT`, level 4.
    V3_1_1,
    /// 5.0, `MQTT`, level 5.
    V5,
}

/// How surely a message is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// Once or not at all.
    AtMostOnce = 0,
    /// Once or more often.
    AtLeastOnce = 1,
    /// Once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level of this number.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Names a message, a subscription or its end while it is in flight; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier of this number; nothing for 0.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own names")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Acknowledgement),
    PubRec(Acknowledgement),
    PubRel(Acknowledgement),
    PubComp(Acknowledgement),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(UnsubAck),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Auth),
}

impl Packet {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Its own properties, where it has any.
    pub(crate) fn properties_mut(&mut self) -> Option<&mut Properties> {
        match self {
            Self::Connect(connect) => Some(&mut connect.properties),
            Self::ConnAck(ack) => Some(&mut ack.properties),
            Self::Publish(publish) => Some(&mut publish.properties),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => Some(&mut ack.properties),
            Self::Subscribe(subscribe) => Some(&mut subscribe.properties),
            Self::SubAck(ack) => Some(&mut ack.properties),
            Self::Unsubscribe(unsubscribe) => Some(&mut unsubscribe.properties),
            Self::UnsubAck(ack) => Some(&mut ack.properties),
            Self::PingReq | Self::PingResp => None,
            Self::Disconnect(end) => Some(&mut end.properties),
            Self::Auth(auth) => Some(&mut auth.properties),
        }
    }
}

impl Will {
    /// How long after the end of the connection it is to be published, unless the session is resumed before.
    //= MQTT5 3.1.3-9
    #[must_use]
    pub fn delay(&self) -> Duration {
        let seconds = self
            .properties
            .find(|property| if let Property::WillDelayInterval(seconds) = property { Some(seconds) } else { None });
        Duration::from_secs(seconds.unwrap_or_default().into())
    }
}

/// The first packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version that it speaks.
    pub version: Version,
    /// Whether what was before is to be forgotten: Clean Start, or Clean Session.
    pub clean_start: bool,
    /// Seconds; 0 is none.
    pub keep_alive: u16,
    /// Its properties.
    pub properties: Properties,
    /// Its name for itself; empty for one that the server gives.
    pub client_id: Text,
    /// What is to be published when it vanishes.
    pub will: Option<Will>,
    /// Whose it says that it is.
    pub user_name: Option<Text>,
    /// By which it shows that. Not shown by `Debug` of anything of ours: see [`Secret`].
    pub password: Option<Secret>,
}

/// What nobody should see in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Bytes);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redacted")
    }
}

/// A message for when its client vanishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// How surely it is to arrive.
    pub qos: QoS,
    /// Whether it is to be kept.
    pub retain: bool,
    /// Its properties.
    pub properties: Properties,
    /// Where to.
    pub topic: Text,
    /// What.
    pub payload: Bytes,
}

/// The answer to a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server has a session of the client.
    pub session_present: bool,
    /// Whether the client is let in, or why not.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// How surely it is to arrive, and its name on the way.
    pub delivery: Delivery,
    /// Whether it is to be kept, or was.
    pub retain: bool,
    /// Where to; empty where a topic alias says so.
    pub topic: Text,
    /// Its properties.
    pub properties: Properties,
    /// What.
    pub payload: Bytes,
}

/// How surely a message is to arrive: what the QoS asks for, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Its name until it is acknowledged.
        id: PacketId,
        /// Whether it may have been sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Its name until the exchange is over.
        id: PacketId,
        /// Whether it may have been sent before.
        dup: bool,
    },
}

impl Delivery {
    /// Whether it was sent before.
    #[must_use]
    pub const fn is_again(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }

    /// The QoS.
    #[must_use]
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Self::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }
}

/// A step of a message's exchange: PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Of which message.
    pub id: PacketId,
    /// What came of it.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties,
}

/// A client subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// By which it is answered.
    pub id: PacketId,
    /// Its properties.
    pub properties: Properties,
    /// To what, and how; at least one.
    pub filters: Vec<(Text, SubscriptionOptions)>,
}

/// How a subscription is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The highest QoS.
    pub qos: QoS,
    /// Not the client's own messages.
    pub no_local: bool,
    /// Messages keep their retain flag.
    pub retain_as_published: bool,
    /// Which retained messages come at first.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a new subscription gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match.
    Send = 0,
    /// All that match, where there was no such subscription before.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

/// The answer to a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// To which.
    pub id: PacketId,
    /// Its properties.
    pub properties: Properties,
    /// Of each filter, in their order.
    pub reasons: Vec<Reason>,
}

/// A client ends subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// By which it is answered.
    pub id: PacketId,
    /// Its properties.
    pub properties: Properties,
    /// Of which; at least one.
    pub filters: Vec<Text>,
}

/// The answer to an UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// To which.
    pub id: PacketId,
    /// Its properties.
    pub properties: Properties,
    /// Of each filter, in their order; none before MQTT 5.
    pub reasons: Vec<Reason>,
}

/// The last packet of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties,
}

/// A step of an extended authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Which step.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties,
}
