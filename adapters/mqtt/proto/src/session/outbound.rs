//! What is published to the client: matched once, sent within its windows, and kept until it has it.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Instant;

use crate::encode::publish_bytes;
use crate::packet::{Delivery, Packet, PacketId, Publish, QoS};
use crate::property::{Properties, Property};
use crate::reason::Reason;
use crate::text::Text;

use super::state::{InFlight, Message, Outgoing, Stage};
use super::{Limits, Session};

/// What this connection's client takes.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Messages of QoS 1 and 2 on their way.
    send_max: NonZeroU16,
    packet_bytes_max: Option<NonZeroU32>,
    alias_max: u16,
    aliases: BTreeMap<Text, NonZeroU16>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self { send_max: NonZeroU16::MAX, packet_bytes_max: None, alias_max: 0, aliases: BTreeMap::new() }
    }
}

impl Outbound {
    /// Takes up what a CONNECT says of it.
    //= MQTT5 4.9.0-1
    pub(crate) fn take_up(&mut self, properties: &Properties, limits: &Limits) {
        self.send_max = limits.send_max;
        for property in properties.iter() {
            if let Property::ReceiveMaximum(max) = property {
                self.send_max = max.min(limits.send_max);
            } else if let Property::MaximumPacketSize(max) = property {
                self.packet_bytes_max = Some(max);
            } else if let Property::TopicAliasMaximum(max) = property {
                self.alias_max = max.min(limits.topic_alias_out_max);
            }
        }
    }

    /// Bytes of a packet that the client takes, where it says so.
    pub(crate) fn packet_bytes_max(&self) -> Option<usize> {
        self.packet_bytes_max.map(|max| max.get() as usize)
    }

    /// The topic as it is said, and the alias that goes with it: the first topics get one, and from then on it alone.
    //= MQTT5 3.1.2-26, 3.1.2-27, 3.3.2-11
    fn topic(&mut self, topic: &Text) -> (Text, Option<NonZeroU16>) {
        if let Some(alias) = self.aliases.get(topic) {
            return (Text::default(), Some(*alias));
        }
        let next = u16::try_from(self.aliases.len() + 1).ok().filter(|next| *next <= self.alias_max);
        let alias = next.and_then(NonZeroU16::new);
        if let Some(alias) = alias {
            self.aliases.insert(topic.clone(), alias);
        }
        (topic.clone(), alias)
    }
}

impl Session {
    /// A message that these filters of the session match. `is_own` says that the client published it itself.
    pub fn deliver(&mut self, message: Message, matched: &[Text], is_own: bool, now: Instant) {
        if !self.is_open() {
            // It waits for the connection that comes after this one.
            let is_kept = self.state.keep(message, matched, is_own, &self.limits);
            self.dropped.full += u64::from(!is_kept);
        } else if let Some(outgoing) = self.state.matched(message, matched, is_own) {
            self.enqueue(outgoing, now);
        }
    }

    /// A message that was kept, for a subscription that is new or wants it again.
    //= MQTT5 3.3.1-8
    //= MQTT3 3.3.1-8
    pub fn deliver_retained(&mut self, message: Message, filter: &Text, now: Instant) {
        let Some(subscription) = self.state.subscriptions.get(filter).copied().filter(|_| self.is_open()) else {
            return;
        };
        let qos = message.qos.min(subscription.options.qos);
        let identifiers = subscription.identifier.into_iter().collect();
        let filters = vec![filter.clone()];
        self.enqueue(Outgoing { message, qos, retain: true, identifiers, filters }, now);
    }

    fn enqueue(&mut self, outgoing: Outgoing, now: Instant) {
        if outgoing.qos == QoS::AtMostOnce {
            // What nobody waits for is the first to go.
            if self.output.len() >= self.limits.waiting_max || self.output_bytes >= self.limits.waiting_bytes_max {
                self.dropped.full += 1;
            } else if let Some(publish) = self.said(&outgoing, Delivery::AtMostOnce, now) {
                self.send(Packet::Publish(publish));
            }
        } else if self.state.push(outgoing, &self.limits) {
            self.pump(now);
        } else {
            self.dropped.full += 1;
        }
    }

    /// Sends again what the client has not acknowledged, in its order, and then what waits.
    //= MQTT5 4.4.0-1, 4.6.0-1
    //= MQTT3 4.4.0-1, 4.6.0-1
    pub(super) fn resume(&mut self, now: Instant) {
        for exchange in &mut self.state.in_flight {
            exchange.is_said = false;
        }
        self.pump(now);
    }

    /// Sends what the client's window has room for.
    //= MQTT5 3.3.4-9, 3.3.4-10, 4.6.0-5, 4.6.0-6, 4.9.0-2
    //= MQTT3 4.6.0-5, 4.6.0-6
    pub(super) fn pump(&mut self, now: Instant) {
        let window = usize::from(self.outbound.send_max.get());
        let mut said = self.state.in_flight.iter().filter(|exchange| exchange.is_said).count();
        let mut next = 0;
        // Beyond so many bytes that are not even taken off our hands, one at a time will do.
        let has_room = |session: &Self, said| said == 0 || session.output_bytes < session.limits.waiting_bytes_max;
        while said < window && self.is_open() && has_room(self, said) {
            while self.state.in_flight.get(next).is_some_and(|exchange| exchange.is_said) {
                next += 1;
            }
            if next < self.state.in_flight.len() {
                if self.say_again(next, now) {
                    said += 1;
                }
                continue;
            }
            let Some(outgoing) = self.state.waiting.pop_front() else { return };
            self.state.waiting_bytes = self.state.waiting_bytes.saturating_sub(outgoing.message.bytes());
            let id = self.state.next_id();
            let Some(publish) = self.said(&outgoing, delivery(outgoing.qos, id, false), now) else { continue };
            self.send(Packet::Publish(publish));
            let stage = Stage::Publish(Box::new(outgoing));
            self.state.in_flight.push_back(InFlight { id, stage, is_said: true });
            said += 1;
        }
    }

    /// Says again how far the exchange at this place has come; whether it still is there.
    //= MQTT5 4.3.3-6
    //= MQTT3 3.3.1-1
    fn say_again(&mut self, at: usize, now: Instant) -> bool {
        let InFlight { id, stage, .. } = self.state.in_flight[at].clone();
        match stage {
            //= MQTT5 3.3.1-1
            Stage::Publish(outgoing) => {
                let Some(publish) = self.said(&outgoing, delivery(outgoing.qos, id, true), now) else {
                    self.state.in_flight.remove(at);
                    return false;
                };
                self.send(Packet::Publish(publish));
            }
            Stage::Release => self.acknowledge(Packet::PubRel, id, Reason::Success, None),
        }
        self.state.in_flight[at].is_said = true;
        true
    }

    /// The packet, unless it is of no use any more or more than the client takes.
    fn said(&mut self, outgoing: &Outgoing, delivery: Delivery, now: Instant) -> Option<Publish> {
        let message = &outgoing.message;
        //= MQTT5 3.3.2-5
        // What was sent once is sent to its end.
        if !delivery.is_again() && message.expires.is_some_and(|at| at <= now) {
            self.dropped.expired += 1;
            return None;
        }
        let v5 = self.version == crate::Version::V5;
        let (topic, alias) = if v5 { self.outbound.topic(&message.topic) } else { (message.topic.clone(), None) };
        let properties = if v5 {
            //= MQTT5 3.3.2-6
            let expiry = message.expires.map(|at| {
                let seconds = at.saturating_duration_since(now).as_millis().div_ceil(1_000);
                Property::MessageExpiryInterval(u32::try_from(seconds).unwrap_or(u32::MAX))
            });
            let identifiers = outgoing.identifiers.iter().map(|id| Property::SubscriptionIdentifier(*id));
            let own = message.shared_properties().chain(expiry).chain(alias.map(Property::TopicAlias));
            own.chain(identifiers).collect()
        } else {
            Properties::NONE
        };
        let publish =
            Publish { delivery, retain: outgoing.retain, topic, properties, payload: message.payload.clone() };
        //= MQTT5 3.1.2-24
        //= MQTT5 3.1.2-25
        if let Some(max) = self.outbound.packet_bytes_max()
            && publish_bytes(&publish, self.version) > max
        {
            if alias.is_some_and(|alias| self.outbound.aliases.get(&message.topic) == Some(&alias))
                && !publish.topic.is_empty()
            {
                // The client never heard of it.
                self.outbound.aliases.remove(&message.topic);
            }
            self.dropped.too_large += 1;
            return None;
        }
        Some(publish)
    }

    /// How far the exchange of that name has come, and where it is; nothing where there is none.
    fn exchange(&self, id: PacketId) -> Option<(usize, Awaited)> {
        let at = self.state.in_flight.iter().position(|exchange| exchange.id == id)?;
        let awaited = match &self.state.in_flight[at].stage {
            Stage::Publish(outgoing) if outgoing.qos == QoS::AtLeastOnce => Awaited::Ack,
            Stage::Publish(_) => Awaited::Received,
            Stage::Release => Awaited::Complete,
        };
        Some((at, awaited))
    }

    /// An exchange is over, unless the client says what it may not say now.
    //= MQTT5 3.10.4-3, 4.3.3-3, 4.3.3-5, 4.4.0-2, 4.8.2-6
    //= MQTT3 3.10.4-3
    fn finish(&mut self, id: PacketId, said: Awaited, now: Instant) {
        // What is not awaited any more may have been under way when the session was resumed.
        let Some((at, awaited)) = self.exchange(id) else { return };
        if said != awaited {
            return self.end(Reason::ProtocolError, Some("an acknowledgement of another kind than is due"));
        }
        self.state.in_flight.remove(at);
        self.pump(now);
    }

    //= MQTT5 4.3.2-3
    pub(super) fn handle_pub_ack(&mut self, id: PacketId, now: Instant) {
        self.finish(id, Awaited::Ack, now);
    }

    //= MQTT5 4.3.3-4
    pub(super) fn handle_pub_rec(&mut self, id: PacketId, reason: Reason, now: Instant) {
        let Some((at, awaited)) = self.exchange(id) else {
            let v5 = self.version == crate::Version::V5;
            let unknown = if v5 { Reason::PacketIdentifierNotFound } else { Reason::Success };
            if !reason.is_error() {
                self.acknowledge(Packet::PubRel, id, unknown, None);
            }
            return;
        };
        match awaited {
            Awaited::Ack => self.finish(id, Awaited::Received, now),
            Awaited::Received if reason.is_error() => self.finish(id, Awaited::Received, now),
            // Said again, it is answered again.
            Awaited::Received | Awaited::Complete => {
                self.state.in_flight[at].stage = Stage::Release;
                self.acknowledge(Packet::PubRel, id, Reason::Success, None);
            }
        }
    }

    //= MQTT5 4.3.3-7
    pub(super) fn handle_pub_comp(&mut self, id: PacketId, now: Instant) {
        self.finish(id, Awaited::Complete, now);
    }
}

/// What the client has to say next in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// PUBACK.
    Ack,
    /// PUBREC.
    Received,
    /// PUBCOMP.
    Complete,
}

//= MQTT5 3.3.1-3, 4.3.1-1, 4.3.2-2, 4.3.3-2
//= MQTT3 3.3.1-3, 4.3.1-1
const fn delivery(qos: QoS, id: PacketId, dup: bool) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    }
}
