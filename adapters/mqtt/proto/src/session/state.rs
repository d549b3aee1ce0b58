//! What of a session outlives its connection: subscriptions, messages on their way in both directions, and those that wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Instant;

use bytes::Bytes;

use crate::packet::{PacketId, QoS, SubscriptionOptions};
use crate::property::{Properties, Property};
use crate::text::Text;

use super::Limits;

/// A message for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published to.
    pub topic: Text,
    /// What.
    pub payload: Bytes,
    /// How surely its publisher wanted it to arrive.
    pub qos: QoS,
    /// Whether its publisher wanted it to be kept; for a message that was kept, true.
    pub retain: bool,
    /// As its publisher said them, but for the topic alias, which is of a connection, and the expiry, which is below.
    pub properties: Properties,
    /// When it is of no use any more.
    pub expires: Option<Instant>,
}

impl Message {
    /// What it takes in a queue, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.as_bytes().len() + self.payload.len() + self.properties.as_bytes().len()
    }

    /// Without what is not for every receiver.
    pub(crate) fn shared_properties(&self) -> impl Iterator<Item = Property> + use<> {
        self.properties.iter().filter(|property| {
            !matches!(
                property,
                Property::TopicAlias(_) | Property::MessageExpiryInterval(_) | Property::SubscriptionIdentifier(_)
            )
        })
    }
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<NonZeroU32>,
}

/// A message on its way to the client, as it was matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    /// Of what was wanted and what was granted, the lesser.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Of every subscription that it matched.
    pub(crate) identifiers: Vec<NonZeroU32>,
    /// The subscriptions that it is for.
    pub(crate) filters: Vec<Text>,
}

/// How far an exchange with the client has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The message itself is on its way.
    Publish(Box<Outgoing>),
    /// It has it; the name of the message is being given back.
    Release,
}

/// An exchange with the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) id: PacketId,
    pub(crate) stage: Stage,
    /// Whether it was said on this connection.
    pub(crate) is_said: bool,
}

/// What of a session outlives its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) subscriptions: BTreeMap<Text, Subscription>,
    pub(crate) in_flight: VecDeque<InFlight>,
    pub(crate) waiting: VecDeque<Outgoing>,
    pub(crate) waiting_bytes: usize,
    /// Names of messages of QoS 2 that were taken from the client and not given back yet.
    pub(crate) received: BTreeSet<PacketId>,
    pub(crate) last_id: u16,
}

impl State {
    /// The filters of its subscriptions.
    pub fn filters(&self) -> impl Iterator<Item = (&Text, SubscriptionOptions)> {
        self.subscriptions.iter().map(|(filter, subscription)| (filter, subscription.options))
    }

    /// A message that these filters match: what the client is to get of it, if anything. `is_own` says that the client
    /// published it itself.
    //= MQTT5 3.8.4-8, 4.5.0-1, 4.8.2-3
    //= MQTT3 3.3.1-9, 3.3.5-1, 3.8.4-6, 4.5.0-1
    pub(crate) fn matched(&self, message: Message, matched: &[Text], is_own: bool) -> Option<Outgoing> {
        let subscriptions = matched.iter().filter_map(|filter| self.subscriptions.get_key_value(filter));
        //= MQTT5 3.8.3-3
        let subscriptions: Vec<_> =
            subscriptions.filter(|(_, subscription)| !(is_own && subscription.options.no_local)).collect();
        //= MQTT5 3.3.4-2
        let granted = subscriptions.iter().map(|(_, subscription)| subscription.options.qos).max()?;
        //= MQTT5 3.3.1-12
        //= MQTT5 3.3.1-13
        let retain =
            message.retain && subscriptions.iter().any(|(_, subscription)| subscription.options.retain_as_published);
        //= MQTT5 3.3.4-3
        //= MQTT5 3.3.4-4
        let identifiers = subscriptions.iter().filter_map(|(_, subscription)| subscription.identifier).collect();
        let filters = subscriptions.iter().map(|(filter, _)| (*filter).clone()).collect();
        Some(Outgoing { qos: message.qos.min(granted), message, retain, identifiers, filters })
    }

    /// Lets a message of QoS 1 or 2 wait; whether there is room for it.
    pub(crate) fn push(&mut self, outgoing: Outgoing, limits: &Limits) -> bool {
        let bytes = outgoing.message.bytes();
        // One message always fits, however large it is.
        let is_full = self.waiting.len() >= limits.waiting_max
            || (!self.waiting.is_empty() && self.waiting_bytes + bytes > limits.waiting_bytes_max);
        if !is_full {
            self.waiting_bytes += bytes;
            self.waiting.push_back(outgoing);
        }
        !is_full
    }

    /// A message for a client that is away: it waits, unless it is of QoS 0, which nobody waits for. Whether nothing was
    /// dropped that should have waited.
    //= MQTT5 4.8.2-4
    //= MQTT3 3.1.2-5
    pub fn keep(&mut self, message: Message, matched: &[Text], is_own: bool, limits: &Limits) -> bool {
        match self.matched(message, matched, is_own) {
            Some(outgoing) if outgoing.qos != QoS::AtMostOnce => self.push(outgoing, limits),
            Some(_) | None => true,
        }
    }

    /// A subscription is over for a reason of ours: what is for it alone does not reach the client any more.
    pub fn revoke(&mut self, filter: &Text) {
        self.subscriptions.remove(filter);
        let is_for_others = |outgoing: &mut Outgoing| {
            outgoing.filters.retain(|other| other != filter);
            !outgoing.filters.is_empty()
        };
        self.waiting.retain_mut(is_for_others);
        self.waiting_bytes = self.waiting.iter().map(|outgoing| outgoing.message.bytes()).sum();
        self.in_flight.retain_mut(|exchange| match &mut exchange.stage {
            Stage::Publish(outgoing) => is_for_others(outgoing),
            Stage::Release => true,
        });
    }

    /// Messages that wait for the client, those that were sent and not acknowledged among them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// A name that no message on its way has.
    //= MQTT5 2.2.1-4, 4.3.2-1, 4.3.3-1
    //= MQTT3 2.3.1-4, 4.3.2-1, 4.3.3-1
    pub(crate) fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id)
                && !self.in_flight.iter().any(|other| other.id == id)
            {
                return id;
            }
        }
    }
}
