//! What the client publishes and asks for: answered in the order in which it came, and never before it was settled.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU16;

use crate::packet::{
    Acknowledgement, Delivery, Packet, PacketId, Publish, QoS, SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
};
use crate::property::{Properties, Property};
use crate::reason::Reason;
use crate::text::Text;
use crate::{PacketType, SubscriptionOptions};

use super::state::Subscription;
use super::{Output, Session, Ticket, Wanted};

/// What came of something that was asked.
type Verdict = Result<(), Reason>;

/// A message that is not settled, or whose turn to be answered has not come.
#[derive(Debug)]
struct Unsettled {
    ticket: Ticket,
    delivery: Delivery,
    verdict: Option<Verdict>,
}

/// A question that is not answered yet.
#[derive(Debug)]
enum Question {
    Subscribe { id: PacketId, wanted: Vec<Wanted>, identifier: Option<std::num::NonZeroU32> },
    Unsubscribe { id: PacketId, filters: Vec<Text> },
}

/// What this connection's client has under way.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// In the order in which they came.
    unsettled: VecDeque<Unsettled>,
    questions: BTreeMap<Ticket, Question>,
    aliases: BTreeMap<NonZeroU16, Text>,
    /// Messages of QoS 2 that came again on this connection, with a fingerprint of what was in them.
    repeated: BTreeMap<PacketId, u64>,
}

impl Inbound {
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.len() + self.questions.len()
    }

    /// The names of messages of QoS 2 that were taken and not answered.
    pub(super) fn taken(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.unsettled.iter().filter_map(|message| match (message.delivery, message.verdict) {
            (Delivery::ExactlyOnce { id, .. }, Some(Ok(()))) => Some(id),
            _ => None,
        })
    }

    /// Those whose client waits for an answer.
    fn in_flight(&self) -> usize {
        self.unsettled.iter().filter(|message| message.delivery != Delivery::AtMostOnce).count()
    }

    fn is_under_way(&self, id: PacketId) -> bool {
        self.unsettled.iter().any(|message| match message.delivery {
            Delivery::AtMostOnce => false,
            Delivery::AtLeastOnce { id: other, .. } | Delivery::ExactlyOnce { id: other, .. } => other == id,
        })
    }
}

impl Session {
    //= MQTT5 3.3.4-1, 4.3.2-5, 4.3.3-12, 4.3.3-13, 4.9.0-3
    //= MQTT3 3.3.4-1, 4.3.2-2, 4.3.3-2
    pub(super) fn handle_publish(&mut self, mut publish: Publish) {
        if let Err((reason, why)) = self.resolve_alias(&mut publish) {
            return self.end(reason, Some(why));
        }
        //= MQTT5 3.2.2-14
        if publish.retain && !self.limits.retains && self.version == Version::V5 {
            return self.end(Reason::RetainNotSupported, None);
        }
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::ExactlyOnce { id, .. } if self.state.received.contains(&id) => {
                let mut hasher = DefaultHasher::new();
                (&publish.topic, &publish.payload).hash(&mut hasher);
                let fingerprint = hasher.finish();
                // Once is a client that did not hear us; one that goes on never gives the name back.
                if self.inbound.repeated.insert(id, fingerprint) == Some(fingerprint) {
                    return self.end(Reason::ProtocolError, Some("a message of QoS 2 for the third time"));
                }
                //= MQTT5 4.3.3-10
                return self.acknowledge(Packet::PubRec, id, Reason::Success, None);
            }
            //= MQTT5 4.3.3-9
            Delivery::ExactlyOnce { id, .. } if self.inbound.is_under_way(id) => return,
            Delivery::AtLeastOnce { .. } | Delivery::ExactlyOnce { .. } => {
                //= MQTT5 3.3.4-7
                let in_flight = self.inbound.in_flight() + self.state.received.len();
                if self.version == Version::V5 && in_flight >= usize::from(self.limits.receive_max.get()) {
                    return self.end(Reason::ReceiveMaximumExceeded, None);
                }
            }
        }
        let ticket = self.ticket();
        self.inbound.unsettled.push_back(Unsettled { ticket, delivery: publish.delivery, verdict: None });
        self.output.push_back(Output::Publish(ticket, publish));
    }

    /// Gives the message its whole topic, and remembers the alias that it sets.
    //= MQTT5 3.3.2-7
    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), (Reason, &'static str)> {
        let alias = publish
            .properties
            .find(|property| if let Property::TopicAlias(alias) = property { Some(alias) } else { None });
        let Some(alias) = alias else { return Ok(()) };
        //= MQTT5 3.3.2-9
        if alias.get() > self.limits.topic_alias_max {
            return Err((Reason::TopicAliasInvalid, "beyond the maximum"));
        }
        if publish.topic.is_empty() {
            //= MQTT5 3.3.2-12
            let topic = self.inbound.aliases.get(&alias);
            publish.topic = topic.cloned().ok_or((Reason::ProtocolError, "a topic alias that was not set"))?;
        } else {
            self.inbound.aliases.insert(alias, publish.topic.detached());
        }
        Ok(())
    }

    /// A message was confirmed, or refused for a reason. What is not asked any more is not heard.
    pub fn settle(&mut self, ticket: Ticket, verdict: Result<(), Reason>, why: Option<&str>) {
        let Some(message) = self.inbound.unsettled.iter_mut().find(|message| message.ticket == ticket) else { return };
        message.verdict = Some(verdict);
        //= MQTT5 4.6.0-2
        //= MQTT5 4.6.0-3
        while let Some(front) = self.inbound.unsettled.front()
            && let Some(verdict) = front.verdict
        {
            let delivery = front.delivery;
            self.inbound.unsettled.pop_front();
            self.answer_publish(delivery, verdict, why);
        }
    }

    fn answer_publish(&mut self, delivery: Delivery, verdict: Verdict, why: Option<&str>) {
        if let Delivery::ExactlyOnce { id, .. } = delivery
            && verdict.is_ok()
        {
            self.state.received.insert(id);
        }
        // Who is gone is not answered, and still sends it no second time.
        if !self.is_open() {
            return;
        }
        let (packet, make, id): (_, fn(Acknowledgement) -> Packet, _) = match delivery {
            Delivery::AtMostOnce => {
                if let Err(reason) = verdict {
                    self.end(reason, why);
                }
                return;
            }
            Delivery::AtLeastOnce { id, .. } => (PacketType::PubAck, Packet::PubAck, id),
            Delivery::ExactlyOnce { id, .. } => (PacketType::PubRec, Packet::PubRec, id),
        };
        match verdict {
            Ok(()) => {
                //= MQTT5 4.3.2-4
                //= MQTT5 4.3.3-8
                self.acknowledge(make, id, Reason::Success, None);
            }
            Err(reason) if self.version == Version::V5 && reason.fits(packet) => {
                self.acknowledge(make, id, reason, why);
            }
            // Earlier versions have no word for it.
            //= MQTT3 3.3.5-2
            Err(reason) => self.end(reason, why),
        }
    }

    //= MQTT5 2.2.1-5, 3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1
    //= MQTT3 2.3.1-6
    pub(super) fn acknowledge(
        &mut self,
        make: fn(Acknowledgement) -> Packet,
        id: PacketId,
        reason: Reason,
        why: Option<&str>,
    ) {
        let properties = self.explanation(why);
        self.send(make(Acknowledgement { id, reason, properties }));
    }

    //= MQTT5 4.3.3-11
    pub(super) fn handle_pub_rel(&mut self, id: PacketId) {
        let known = self.state.received.remove(&id);
        self.inbound.repeated.remove(&id);
        let unknown = !known && self.version == Version::V5;
        let reason = if unknown { Reason::PacketIdentifierNotFound } else { Reason::Success };
        self.acknowledge(Packet::PubComp, id, reason, None);
    }

    pub(super) fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let identifier = subscribe
            .properties
            .find(|property| if let Property::SubscriptionIdentifier(id) = property { Some(id) } else { None });
        let known = &self.state.subscriptions;
        let wanted = subscribe.filters.into_iter().map(|(filter, options)| {
            let is_new = !known.contains_key(&filter);
            Wanted { filter: filter.detached(), options, is_new }
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let ticket = self.ticket();
        let question = Question::Subscribe { id: subscribe.id, wanted: wanted.clone(), identifier };
        self.inbound.questions.insert(ticket, question);
        self.output.push_back(Output::Subscribe(ticket, wanted));
    }

    /// What came of each filter of a subscription, in their order: the QoS that is granted, or why none is.
    //= MQTT5 2.2.1-6, 3.8.4-5, 3.8.4-7, 3.9.3-1
    //= MQTT3 2.3.1-7, 3.8.4-1, 3.8.4-2, 3.8.4-4, 3.8.4-5, 3.9.3-1
    pub fn subscribed(&mut self, ticket: Ticket, outcomes: Vec<Result<QoS, Reason>>, why: Option<&str>) {
        let Some(Question::Subscribe { id, wanted, identifier }) = self.inbound.questions.remove(&ticket) else {
            return;
        };
        if !self.is_open() {
            return;
        }
        let mut reasons = Vec::with_capacity(wanted.len());
        let mut outcomes = outcomes.into_iter();
        //= MQTT5 3.8.4-6
        for Wanted { filter, options, .. } in wanted {
            let outcome = outcomes.next().unwrap_or(Err(Reason::UnspecifiedError));
            let full = self.state.subscriptions.len() >= self.limits.subscriptions_max
                && !self.state.subscriptions.contains_key(&filter);
            reasons.push(match outcome {
                Ok(_) if full => Reason::QuotaExceeded,
                Ok(granted) => {
                    //= MQTT5 3.8.4-3
                    let options = SubscriptionOptions { qos: granted.min(options.qos), ..options };
                    self.state.subscriptions.insert(filter, Subscription { options, identifier });
                    match options.qos {
                        QoS::AtMostOnce => Reason::Success,
                        QoS::AtLeastOnce => Reason::GrantedQoS1,
                        QoS::ExactlyOnce => Reason::GrantedQoS2,
                    }
                }
                Err(reason) if reason.fits(PacketType::SubAck) => reason,
                Err(_) => Reason::UnspecifiedError,
            });
        }
        let properties = if self.version == Version::V5 { self.explanation(why) } else { Properties::NONE };
        //= MQTT5 3.8.4-1
        //= MQTT5 3.8.4-2
        self.send(Packet::SubAck(SubAck { id, properties, reasons }));
    }

    pub(super) fn handle_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let ticket = self.ticket();
        let filters = unsubscribe.filters;
        let question = Question::Unsubscribe { id: unsubscribe.id, filters: filters.clone() };
        self.inbound.questions.insert(ticket, question);
        self.output.push_back(Output::Unsubscribe(ticket, filters));
    }

    /// The subscriptions are ended, or none of them is, for a reason.
    //= MQTT5 3.10.4-1, 3.10.4-6, 3.11.3-1, 3.11.3-2
    //= MQTT3 3.10.4-1, 3.10.4-4, 3.10.4-5, 3.10.4-6
    pub fn unsubscribed(&mut self, ticket: Ticket, verdict: Result<(), Reason>) {
        let Some(Question::Unsubscribe { id, filters }) = self.inbound.questions.remove(&ticket) else { return };
        if !self.is_open() {
            return;
        }
        let reasons = filters.iter().map(|filter| match verdict {
            Ok(()) if self.state.subscriptions.remove(filter).is_some() => Reason::Success,
            Ok(()) => Reason::NoSubscriptionExisted,
            Err(reason) if reason.fits(PacketType::UnsubAck) => reason,
            Err(_) => Reason::UnspecifiedError,
        });
        let reasons = reasons.collect();
        //= MQTT5 3.10.4-4
        //= MQTT5 3.10.4-5
        self.send(Packet::UnsubAck(UnsubAck { id, properties: Properties::NONE, reasons }));
    }

    /// A subscription is over for a reason of ours: nothing comes of it any more.
    pub fn revoke(&mut self, filter: &Text) {
        self.state.revoke(filter);
    }
}
