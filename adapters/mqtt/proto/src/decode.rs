//! From a frame to the packet in it, or to what is wrong with it.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::frame::{Frame, PacketType};
use crate::packet::{
    Acknowledgement, Auth, ConnAck, Connect, Delivery, Disconnect, Packet, Publish, QoS, RetainHandling, Secret,
    SubAck, Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe, Version, Will,
};
use crate::property::{Holder, Properties, Property};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::text::Text;
use crate::topic::{Shared, is_filter, is_topic_name, shared};

type Result<T> = std::result::Result<T, DecodeError>;

/// Who has sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A client.
    Client,
    /// A server.
    Server,
}

/// The packet of a frame, in the version that the connection speaks; a CONNECT says its own.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(frame: Frame, version: Version, sender: Sender) -> Result<Packet> {
    let Frame { packet, flags, body, is_minimal } = frame;
    let mut decoder = Decoder { version, sender, packet, body: Reader(body), says_version: false };
    let decoded = decoder.decode(flags);
    //= MQTT5 1.5.5-1
    let padded = || DecodeError::Malformed("a length in more bytes than it needs");
    let is_padded = !is_minimal && decoder.is_v5();
    decoded.and_then(|packet| if is_padded { Err(padded()) } else { Ok(packet) }).map_err(|error| {
        // Who says a version that is served can be told what is wrong.
        let Decoder { version, says_version, .. } = decoder;
        if says_version { DecodeError::Connect { version, reason: error.reason() } } else { error }
    })
}

struct Decoder {
    version: Version,
    sender: Sender,
    packet: PacketType,
    body: Reader,
    /// Whether it is a CONNECT whose version is known by now.
    says_version: bool,
}

impl Decoder {
    fn decode(&mut self, flags: u8) -> Result<Packet> {
        let of_client = self.sender == Sender::Client;
        let of_wrong_side = match self.packet {
            PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => !of_client,
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => of_client,
            PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Auth => false,
            PacketType::Disconnect => !of_client && !self.is_v5(),
        };
        if of_wrong_side {
            return Err(DecodeError::Protocol("a packet that only the other side sends"));
        }
        let packet = match self.packet {
            PacketType::Connect => Packet::Connect(Box::new(self.connect(flags)?)),
            PacketType::ConnAck => Packet::ConnAck(self.conn_ack()?),
            // Its payload is what is left.
            PacketType::Publish => return self.publish(flags).map(Packet::Publish),
            PacketType::PubAck => Packet::PubAck(self.acknowledgement()?),
            PacketType::PubRec => Packet::PubRec(self.acknowledgement()?),
            PacketType::PubRel => Packet::PubRel(self.acknowledgement()?),
            PacketType::PubComp => Packet::PubComp(self.acknowledgement()?),
            PacketType::Subscribe => Packet::Subscribe(self.subscribe()?),
            PacketType::SubAck => Packet::SubAck(self.sub_ack()?),
            PacketType::Unsubscribe => Packet::Unsubscribe(self.unsubscribe()?),
            PacketType::UnsubAck => Packet::UnsubAck(self.unsub_ack()?),
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => Packet::Disconnect(self.disconnect()?),
            PacketType::Auth => Packet::Auth(self.auth()?),
        };
        self.body.end()?;
        Ok(packet)
    }

    fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// The properties of the packet, or of what is in it; none before MQTT 5.
    fn properties(&mut self, holder: Holder) -> Result<Properties> {
        if !self.is_v5() {
            return Ok(Properties::NONE);
        }
        let length = self.body.length()?;
        let block = self.body.take(length)?;
        Properties::check(block, holder, self.sender == Sender::Server)
    }

    fn own_properties(&mut self) -> Result<Properties> {
        self.properties(Holder::Packet(self.packet))
    }

    fn reason(&self, code: u8) -> Result<Reason> {
        Reason::of(self.packet, code).ok_or(DecodeError::Malformed("a reason code that this packet may not bear"))
    }

    /// A string that names something: without control characters, which the standard leaves to the receiver.
    //= MQTT5 1.5.4
    fn name(&mut self) -> Result<Option<Text>> {
        let text = self.body.text()?;
        Ok(Some(text).filter(|text| !text.as_str().chars().any(char::is_control)))
    }

    //= MQTT5 3.1.2-9, 3.1.2-16, 3.1.2-17, 3.1.2-18, 3.1.2-19, 3.1.3-3, 3.1.3-12, 3.1.4-1
    //= MQTT3 3.1.2-1, 3.1.2-3, 3.1.2-9, 3.1.2-11, 3.1.2-13, 3.1.2-14, 3.1.2-15, 3.1.2-18, 3.1.2-19, 3.1.2-20
    //= MQTT3 3.1.2-21, 3.1.3-1, 3.1.3-3, 3.1.3-4, 3.1.3-11, 3.1.4-1
    fn connect(&mut self, header_flags: u8) -> Result<Connect> {
        //= MQTT5 3.1.2-1
        let name = self.body.text()?;
        self.version = match (name.as_str(), self.body.u8()?) {
            ("MQTT", 5) => Version::V5,
            ("MQTT", 4) => Version::V3_1_1,
            ("MQIsdp", 3) => Version::V3_1,
            (name, level) => return Err(DecodeError::Version { is_newer: name == "MQTT" && level > 5 }),
        };
        self.says_version = true;
        // To MQTT 3.1 neither meant anything.
        let is_strict = self.version != Version::V3_1;
        //= MQTT3 2.2.2-2
        if is_strict && header_flags != PacketType::Connect.flags() {
            return Err(DecodeError::Malformed("flags of the fixed header"));
        }
        let flags = self.body.u8()?;
        let has = |bit: u8| flags & (1 << bit) != 0;
        //= MQTT5 3.1.2-3
        if is_strict && has(0) {
            return Err(DecodeError::Malformed("the reserved flag of CONNECT"));
        }
        let will_qos = QoS::new((flags >> 3) & 0b11);
        //= MQTT5 3.1.2-12
        let will_qos = will_qos.ok_or(DecodeError::Malformed("the QoS of the will is 3"))?;
        //= MQTT5 3.1.2-11
        //= MQTT5 3.1.2-13
        if !has(2) && (will_qos != QoS::AtMostOnce || has(5)) {
            return Err(DecodeError::Malformed("flags of a will, and no will"));
        }
        //= MQTT3 3.1.2-22
        if !self.is_v5() && has(6) && !has(7) {
            return Err(DecodeError::Malformed("a password, and no user name"));
        }
        let keep_alive = self.body.u16()?;
        let properties = self.own_properties()?;
        //= MQTT5 3.1.3-1
        //= MQTT5 3.1.3-4
        let client_id = self.name().ok().flatten().ok_or(DecodeError::ClientIdentifier)?;
        let will = has(2).then(|| self.will(will_qos, has(5))).transpose()?;
        let user_name = has(7).then(|| self.name()).transpose()?;
        let user_name = user_name.map(|name| name.ok_or(DecodeError::Malformed("control characters"))).transpose()?;
        let password = has(6).then(|| self.body.binary()).transpose()?.map(Secret);
        let (version, clean_start) = (self.version, has(1));
        Ok(Connect { version, clean_start, keep_alive, properties, client_id, will, user_name, password })
    }

    //= MQTT3 3.1.3-10
    fn will(&mut self, qos: QoS, retain: bool) -> Result<Will> {
        let properties = self.properties(Holder::Will)?;
        //= MQTT5 3.1.3-11
        let topic = self.name()?.filter(|topic| is_topic_name(topic.as_str())).ok_or(DecodeError::TopicName)?;
        Ok(Will { qos, retain, properties, topic, payload: self.body.binary()? })
    }

    fn conn_ack(&mut self) -> Result<ConnAck> {
        let flags = self.body.u8()?;
        //= MQTT5 3.2.2-1
        if flags & !1 != 0 {
            return Err(DecodeError::Malformed("flags of CONNACK"));
        }
        let (session_present, code) = (flags == 1, self.body.u8()?);
        let reason = if self.is_v5() {
            self.reason(code)?
        } else {
            Reason::of_connect_return_code(code).ok_or(DecodeError::Malformed("a return code that there is not"))?
        };
        //= MQTT5 3.2.2-6
        if session_present && reason != Reason::Success {
            return Err(DecodeError::Protocol("a session, and no success"));
        }
        Ok(ConnAck { session_present, reason, properties: self.own_properties()? })
    }

    //= MQTT3 3.3.1-2, 3.3.1-4, 3.3.2-1
    fn publish(&mut self, flags: u8) -> Result<Publish> {
        let (dup, retain) = (flags & 0b1000 != 0, flags & 1 != 0);
        //= MQTT5 3.3.1-4
        let qos = QoS::new((flags >> 1) & 0b11).ok_or(DecodeError::Malformed("QoS 3"))?;
        //= MQTT5 3.3.1-2
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::Malformed("DUP with QoS 0"));
        }
        //= MQTT5 3.3.2-1
        let topic = self.name()?.ok_or(DecodeError::TopicName)?;
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id: self.body.packet_id()?, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id: self.body.packet_id()?, dup },
        };
        let properties = self.own_properties()?;
        let alias = |property| if let Property::TopicAlias(alias) = property { Some(alias) } else { None };
        if topic.is_empty() && self.is_v5() {
            if properties.find(alias).is_none() {
                return Err(DecodeError::Protocol("neither a topic nor a topic alias"));
            }
        } else if !is_topic_name(topic.as_str()) {
            return Err(DecodeError::TopicName);
        }
        Ok(Publish { delivery, retain, topic, properties, payload: self.rest() })
    }

    fn acknowledgement(&mut self) -> Result<Acknowledgement> {
        let id = self.body.packet_id()?;
        let (reason, properties) = self.outcome()?;
        Ok(Acknowledgement { id, reason, properties })
    }

    /// A reason and properties, each of which may be left out at the end; neither before MQTT 5.
    fn outcome(&mut self) -> Result<(Reason, Properties)> {
        if !self.is_v5() || self.body.is_empty() {
            return Ok((Reason::Success, Properties::NONE));
        }
        let code = self.body.u8()?;
        let reason = self.reason(code)?;
        let properties = if self.body.is_empty() { Properties::NONE } else { self.own_properties()? };
        Ok((reason, properties))
    }

    fn filter(&mut self) -> Result<Text> {
        //= MQTT5 3.8.3-1
        //= MQTT5 3.10.3-1
        let filter = self.name()?.ok_or(DecodeError::TopicFilter)?;
        if !is_filter(filter.as_str()) {
            return Err(DecodeError::Malformed("a topic filter that is none"));
        }
        if self.is_v5() && shared(filter.as_str()) == Shared::Malformed {
            return Err(DecodeError::Protocol("a shared subscription without a group or a filter"));
        }
        Ok(filter)
    }

    /// Filters to the end of the packet.
    fn one_or_more<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if self.body.is_empty() {
            return Err(DecodeError::Protocol("no topic filter"));
        }
        let mut all = Vec::new();
        while !self.body.is_empty() {
            all.push(one(self)?);
        }
        Ok(all)
    }

    //= MQTT3 3.8.3-1, 3.8.3-3
    fn subscribe(&mut self) -> Result<Subscribe> {
        let id = self.body.packet_id()?;
        let properties = self.own_properties()?;
        //= MQTT5 3.8.3-2
        //= MQTT5 3.8.3-3
        let filters = self.one_or_more(|decoder| {
            let filter = decoder.filter()?;
            let options = decoder.options()?;
            //= MQTT5 3.8.3-4
            if options.no_local && matches!(shared(filter.as_str()), Shared::Of { .. }) {
                return Err(DecodeError::Protocol("No Local on a shared subscription"));
            }
            Ok((filter, options))
        })?;
        Ok(Subscribe { id, properties, filters })
    }

    //= MQTT3 3.8.3-4
    fn options(&mut self) -> Result<SubscriptionOptions> {
        let byte = self.body.u8()?;
        //= MQTT5 3.8.3-5
        let reserved = if self.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
        let qos = QoS::new(byte & 0b11).filter(|_| byte & reserved == 0);
        let retain_handling = match (byte >> 4) & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::Protocol("Retain Handling 3")),
        };
        Ok(SubscriptionOptions {
            qos: qos.ok_or(DecodeError::Malformed("subscription options"))?,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }

    fn sub_ack(&mut self) -> Result<SubAck> {
        let id = self.body.packet_id()?;
        let properties = self.own_properties()?;
        let codes = self.rest();
        //= MQTT5 3.9.3-2
        let reasons = codes.iter().map(|code| match (self.version, code) {
            (Version::V3_1 | Version::V3_1_1, 0..=2 | 0x80) | (Version::V5, _) => self.reason(*code),
            _ => Err(DecodeError::Malformed("a return code that there is not")),
        });
        let reasons = reasons.collect::<Result<Vec<_>>>()?;
        if reasons.is_empty() {
            Err(DecodeError::Malformed("no reason code"))
        } else {
            Ok(SubAck { id, properties, reasons })
        }
    }

    //= MQTT3 3.10.3-1, 3.10.3-2
    fn unsubscribe(&mut self) -> Result<Unsubscribe> {
        let id = self.body.packet_id()?;
        let properties = self.own_properties()?;
        //= MQTT5 3.10.3-2
        let filters = self.one_or_more(Self::filter)?;
        Ok(Unsubscribe { id, properties, filters })
    }

    fn unsub_ack(&mut self) -> Result<UnsubAck> {
        let id = self.body.packet_id()?;
        let properties = self.own_properties()?;
        if !self.is_v5() {
            return Ok(UnsubAck { id, properties, reasons: Vec::new() });
        }
        let reasons = self.rest().iter().map(|code| self.reason(*code)).collect::<Result<Vec<_>>>()?;
        Ok(UnsubAck { id, properties, reasons })
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.body.0)
    }

    fn disconnect(&mut self) -> Result<Disconnect> {
        let (reason, properties) = self.outcome()?;
        let of_server = self.sender == Sender::Server;
        for property in properties.iter() {
            //= MQTT5 3.14.2-2
            let wrong = if of_server {
                matches!(property, Property::SessionExpiryInterval(_))
            } else {
                matches!(property, Property::ServerReference(_))
            };
            if wrong {
                return Err(DecodeError::Protocol("a property that only the other side may say"));
            }
        }
        Ok(Disconnect { reason, properties })
    }

    fn auth(&mut self) -> Result<Auth> {
        if !self.is_v5() {
            return Err(DecodeError::Malformed("packet type 15"));
        }
        let (reason, properties) = self.outcome()?;
        Ok(Auth { reason, properties })
    }
}
