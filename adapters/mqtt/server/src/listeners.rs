//! The subscriptions of one session, whether its client is there or away: what comes of them, each message once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll};
use tidegate_bridge::{Delivery, Rest, Scope, Subscription, SubscriptionEnd, SubscriptionEvent};
use tidegate_model::MessageId;
use tidegate_mqtt_proto::{Shared, Text, shared};

/// Copies of messages that more than one filter matches, and that are still to come by the other filters.
const COPIES_MAX: usize = 1_024;

/// A subscription that is being listened to.
struct Listening {
    scope: Scope,
    /// Whether each message is for one of a group: then it is no copy of what other filters match.
    is_shared: bool,
    rest: Rest,
    stop: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

/// What came of the subscriptions.
pub(crate) enum News {
    /// A message, and the filters that it is for.
    Message { delivery: Arc<Delivery>, first: Text, matched: Vec<Text>, is_own: bool },
    /// The right to this subscription is gone, and it with it.
    Revoked(Text),
    /// Messages were not taken in time, and some are lost: the subscription is over.
    Overrun(Text),
    /// Nothing that concerns the client.
    Nothing,
}

/// All subscriptions of a session.
#[derive(Default)]
pub(crate) struct Listeners {
    listening: BTreeMap<Text, Listening>,
    events: SelectAll<BoxStream<'static, (Text, SubscriptionEvent)>>,
    copies: Copies,
    /// What this client published lately, where it does not want that back.
    own: Option<VecDeque<MessageId>>,
}

impl Listeners {
    /// Listens to one more; one of the same filter ends with this.
    pub(crate) fn listen(&mut self, filter: Text, subscription: Subscription) {
        let listening = Listening {
            scope: subscription.scope(),
            is_shared: !matches!(shared(filter.as_str()), Shared::No),
            rest: subscription.rest(),
            stop: self.hear(filter.clone(), subscription),
        };
        self.listening.insert(filter, listening);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.listening.len()
    }

    /// Whether it listens to this very filter.
    pub(crate) fn has(&self, filter: &Text) -> bool {
        self.listening.contains_key(filter)
    }

    /// Remembers from now on what this client publishes.
    pub(crate) fn begin_to_remember_own(&mut self) {
        self.own.get_or_insert_default();
    }

    /// Listens to it no more.
    pub(crate) fn unlisten(&mut self, filter: &Text) {
        self.listening.remove(filter);
    }

    /// Says whether the client is away.
    pub(crate) fn rest(&self, rests: bool) {
        self.listening.values().for_each(|listening| listening.rest.set(rests));
    }

    /// The client published this itself.
    pub(crate) fn remember_own(&mut self, id: &MessageId) {
        if let Some(own) = &mut self.own {
            own.push_back(id.clone());
            if own.len() > COPIES_MAX {
                own.pop_front();
            }
        }
    }

    fn hear(&mut self, filter: Text, subscription: Subscription) -> AbortHandle {
        let (told, stop) = subscription.named(filter);
        self.events.push(told);
        stop
    }

    /// Waits for what comes next; for ever while there is no subscription. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> News {
        match self.events.next().await {
            Some((filter, event)) => self.handle(filter, event),
            None => std::future::pending().await,
        }
    }

    fn handle(&mut self, filter: Text, event: SubscriptionEvent) -> News {
        if !self.listening.contains_key(&filter) {
            return News::Nothing;
        }
        match event {
            SubscriptionEvent::Delivery(delivery) => self.message(&filter, delivery),
            // MQTT has no word for it; the next message shows that the client is served again.
            SubscriptionEvent::Gap => News::Nothing,
            SubscriptionEvent::Ended(end) => {
                self.listening.remove(&filter);
                match end {
                    SubscriptionEnd::Revoked => News::Revoked(filter),
                    SubscriptionEnd::Overrun => News::Overrun(filter),
                }
            }
        }
    }

    /// One copy of a message, whichever of its filters brings it first; and one for each group that it came through.
    //= MQTT5 3.3.4-2, 3.3.4-5
    fn message(&mut self, first: &Text, delivery: Arc<Delivery>) -> News {
        let id = &delivery.message.id;
        let is_own = self.own.as_ref().is_some_and(|own| own.contains(id));
        if self.listening.get(first).is_some_and(|listening| listening.is_shared) {
            return News::Message { first: first.clone(), matched: vec![first.clone()], delivery, is_own };
        }
        if self.copies.take(id) {
            return News::Nothing;
        }
        let matched = self.listening.iter().filter(|(_, other)| !other.is_shared && other.scope.matches(&delivery));
        let matched: Vec<Text> = matched.map(|(filter, _)| filter.clone()).collect();
        if matched.len() > 1 {
            self.copies.expect(id, matched.len() - 1);
        }
        News::Message { first: first.clone(), matched, delivery, is_own }
    }
}

/// Messages of which copies are still to come, the oldest of them forgotten where there are too many.
#[derive(Default)]
struct Copies {
    left: HashMap<MessageId, usize>,
    order: VecDeque<MessageId>,
}

impl Copies {
    /// Whether this is a copy of a message that came before.
    fn take(&mut self, id: &MessageId) -> bool {
        let Some(left) = self.left.get_mut(id) else { return false };
        *left -= 1;
        if *left == 0 {
            self.left.remove(id);
        }
        true
    }

    /// So many are still to come.
    fn expect(&mut self, id: &MessageId, count: usize) {
        if self.order.len() >= COPIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.left.remove(&oldest);
        }
        self.left.insert(id.clone(), count);
        self.order.push_back(id.clone());
    }
}
