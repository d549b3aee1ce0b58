//! An open subscription: deliveries until the device leaves, its right is withdrawn, or its queue is full.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, AbortHandle, BoxStream};
use tidegate_model::{ChannelId, Generation, Principal, Protocol, SubtopicFilter, TopicFilter};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::fanout::{DeliveryQueue, QueueEvent, Rest};
use crate::grants::{GrantSource, Session};
use crate::metrics::{EndLabels, Metrics, ProtocolLabels};
use crate::port::Delivery;
use crate::presence::key_ended;

/// Why a subscription ended from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionEnd {
    /// The key, the Thing or the grant is gone, or the key's time is over.
    Revoked,
    /// The device read too slowly and its queue was full.
    Overrun,
}

/// What an open subscription tells its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionEvent {
    /// A message.
    Delivery(Arc<Delivery>),
    /// Messages may be missing here: the link to the broker was lost for a while.
    Gap,
    /// Nothing comes after this.
    Ended(SubscriptionEnd),
}

pub(crate) struct SubscriptionParts {
    pub(crate) queue: DeliveryQueue,
    pub(crate) principal: Principal,
    pub(crate) filter: TopicFilter,
    /// The Channel that the filter means.
    pub(crate) channel: ChannelId,
    pub(crate) protocol: Protocol,
    pub(crate) grants: Arc<dyn GrantSource>,
    pub(crate) changes: watch::Receiver<Generation>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What a subscription receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    channel: ChannelId,
    subtopic: SubtopicFilter,
}

impl Scope {
    /// Whether it receives this.
    #[must_use]
    pub fn matches(&self, delivery: &Delivery) -> bool {
        delivery.channel == self.channel && self.subtopic.matches(&delivery.subtopic)
    }
}

/// Receives what one filter matches. Dropping it ends the subscription.
pub struct Subscription {
    parts: SubscriptionParts,
    ended: Option<SubscriptionEnd>,
    /// Whether the table in force has been asked.
    is_asked: bool,
    _session: Session,
}

impl Subscription {
    pub(crate) fn new(parts: SubscriptionParts) -> Self {
        parts.metrics.subscriptions.get_or_create(&ProtocolLabels::of(parts.protocol)).inc();
        let session = parts.grants.open_session(parts.principal.clone(), parts.filter.clone());
        Self { parts, ended: None, is_asked: false, _session: session }
    }

    /// What it receives, without the right to it: for who must know which of several subscriptions a message is for.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { channel: self.parts.channel.clone(), subtopic: self.parts.filter.subtopic.clone() }
    }

    /// What says whether its device is away.
    #[must_use]
    pub fn rest(&self) -> Rest {
        self.parts.queue.rest()
    }

    /// Waits for the next event. A withdrawn right is told before anything that is still queued. Nothing is lost when
    /// the future is dropped; after an end, the end again.
    pub async fn next(&mut self) -> SubscriptionEvent {
        if let Some(end) = self.ended {
            return SubscriptionEvent::Ended(end);
        }
        loop {
            // A table that came meanwhile is asked before anything is told; so is the clock, where the key may end.
            let is_new = self.parts.changes.has_changed().unwrap_or(true);
            if is_new || !self.is_asked || self.parts.principal.not_after().is_some() {
                self.parts.changes.mark_unchanged();
                self.is_asked = true;
                if !self.still_allowed() {
                    return self.end(SubscriptionEnd::Revoked);
                }
            }
            let key_ended = key_ended(&self.parts.principal, self.parts.clock.now());
            let event = tokio::select! {
                biased;
                changed = self.parts.changes.changed() => match changed {
                    Ok(()) => {
                        self.is_asked = false;
                        continue;
                    }
                    Err(_source_gone) => return self.end(SubscriptionEnd::Revoked),
                },
                () = key_ended => continue,
                event = self.parts.queue.next() => event,
            };
            match event {
                QueueEvent::Overrun => return self.end(SubscriptionEnd::Overrun),
                QueueEvent::Gap => return SubscriptionEvent::Gap,
                QueueEvent::Delivery(delivery) => {
                    if delivery.message.is_expired(self.parts.clock.now()) {
                        continue;
                    }
                    self.parts.metrics.deliveries.get_or_create(&ProtocolLabels::of(self.parts.protocol)).inc();
                    return SubscriptionEvent::Delivery(delivery);
                }
            }
        }
    }

    /// What it tells, each event under this name, until it ends or is stopped: for who listens to many at once.
    pub fn named<N>(self, name: N) -> (BoxStream<'static, (N, SubscriptionEvent)>, AbortHandle)
    where
        N: Clone + Send + 'static,
    {
        let told = stream::unfold(Some(self), move |subscription| {
            let name = name.clone();
            async move {
                let mut subscription = subscription?;
                let event = subscription.next().await;
                let goes_on = !matches!(event, SubscriptionEvent::Ended(_));
                Some(((name, event), goes_on.then_some(subscription)))
            }
        });
        let (told, stop) = stream::abortable(told);
        (told.boxed(), stop)
    }

    fn end(&mut self, end: SubscriptionEnd) -> SubscriptionEvent {
        self.ended = Some(end);
        self.parts.metrics.subscription_ends.get_or_create(&EndLabels::of(self.parts.protocol, end)).inc();
        SubscriptionEvent::Ended(end)
    }

    /// Asks the table in force, and remembers its answer for as long as it is in force.
    fn still_allowed(&mut self) -> bool {
        let parts = &mut self.parts;
        let (table, now) = (parts.grants.table(), parts.clock.now());
        let Ok(principal) = table.refresh(&parts.principal, now) else { return false };
        let allowed = table.authorize_filter(&principal, parts.filter.clone(), now).is_ok();
        parts.principal = principal;
        allowed
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Who reads nothing at all does not read of the end either.
        if self.ended.is_none() && self.parts.queue.is_overrun() {
            self.end(SubscriptionEnd::Overrun);
        }
        self.parts.metrics.subscriptions.get_or_create(&ProtocolLabels::of(self.parts.protocol)).dec();
    }
}
