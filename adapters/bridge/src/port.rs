//! The ports: what a broker does for the bridge, and the values that pass through.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{ChannelId, FilterPermit, Message, MessageId, Permit, Subtopic, ThingId, Timestamp};
use tokio::sync::watch;

use crate::fanout::DeliveryQueue;

/// A future of a port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A message with the right to publish it. Only a [`Permit`] makes one.
#[derive(Debug)]
pub struct Publication {
    publisher: ThingId,
    channel: ChannelId,
    subtopic: Subtopic,
    message: Message,
}

impl Publication {
    /// Spends the permit on one message.
    #[must_use]
    pub fn new(permit: Permit, message: Message) -> Self {
        let (publisher, channel, subtopic) = permit.spend();
        Self { publisher, channel, subtopic, message }
    }

    /// The verified publisher.
    #[must_use]
    pub const fn publisher(&self) -> &ThingId {
        &self.publisher
    }

    /// Where it goes.
    #[must_use]
    pub const fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The levels below `messages`.
    #[must_use]
    pub const fn subtopic(&self) -> &Subtopic {
        &self.subtopic
    }

    /// What is said.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// What subscribers of a broker in this process receive.
    #[must_use]
    pub fn into_delivery(self) -> Delivery {
        let Self { publisher, channel, subtopic, message } = self;
        Delivery { publisher: Some(publisher), channel, subtopic, message }
    }

    /// The same, and the publication stays.
    pub(crate) fn to_delivery(&self) -> Delivery {
        let Self { publisher, channel, subtopic, message } = self;
        Delivery {
            publisher: Some(publisher.clone()),
            channel: channel.clone(),
            subtopic: subtopic.clone(),
            message: message.clone(),
        }
    }
}

/// The broker has the message: it will not be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The id under which the broker has it.
    pub message_id: MessageId,
}

/// A message on its way to subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The verified publisher; absent when a back-end service published it.
    pub publisher: Option<ThingId>,
    /// Where it was published.
    pub channel: ChannelId,
    /// The levels below `messages`.
    pub subtopic: Subtopic,
    /// What was said.
    pub message: Message,
}

/// The broker cannot do it now: it is away, blocked or overloaded, and has been for longer than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is not available")]
pub struct Unavailable {
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// Takes messages.
pub trait Publisher: Send + Sync + 'static {
    /// Publishes, and returns only when the broker has confirmed it or the bound is over.
    ///
    /// A caller that stops waiting leaves the message in an unknown state, as any lost answer does.
    ///
    /// # Errors
    /// [`Unavailable`] when it is not confirmed within the broker's bound.
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Receipt, Unavailable>>;
}

/// Delivers messages.
pub trait Subscriber: Send + Sync + 'static {
    /// Opens a queue that receives every message that the permit's filter matches and that is confirmed after this
    /// returns; in a group, every one of those that is this member's turn.
    ///
    /// # Errors
    /// [`Unavailable`] when the broker cannot be asked within its bound; nothing is left half-made.
    fn subscribe(&self, permit: FilterPermit, terms: Terms) -> BoxFuture<'_, Result<DeliveryQueue, Unavailable>>;
}

/// How a subscriber is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Who shares its messages.
    pub group: Option<GroupName>,
    /// What becomes of it when it does not take them in time.
    pub overflow: Overflow,
}

/// What becomes of a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It reads what it holds, and is told that it has ended.
    #[default]
    End,
    /// It goes on, and loses messages: of QoS 0 first, then those that come. Each is counted.
    Drop,
}

/// Names subscribers of one filter that share its messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

/// Keeps the last message of each topic that was to be kept.
pub trait Retained: Send + Sync + 'static {
    /// Whether there is room for this one.
    fn has_room(&self, delivery: &Delivery) -> bool;
    /// Keeps it, unless what is kept of its topic is newer; one without a payload takes away what is kept.
    fn keep(&self, delivery: Delivery);
    /// What is kept of what the permit's filter matches and is worth delivering at `now`, the oldest first.
    fn matching(&self, permit: &FilterPermit, now: Timestamp) -> Vec<Arc<Delivery>>;
    /// Gives up what is kept of other channels.
    fn keep_only(&self, wanted: &dyn Fn(&ChannelId) -> bool);
}

/// A broker: both ports and the state of the link to it.
pub trait Broker: Publisher + Subscriber {
    /// Whether the link is up, and each change of that.
    fn link_up(&self) -> watch::Receiver<bool>;
}
