//! From one stream of deliveries to many subscribers: a trie over the levels, and a bounded queue for each. Of a group
//! that shares a filter, each message is for one.
//!
//! A queue that is full ends its subscriber, who reads what it holds and then learns of the end, or loses messages on those
//! terms; a gap in the stream itself is told to all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tidegate_model::{ChannelId, FilterPermit, QoS, SubtopicFilter};
use tokio::sync::Notify;

use crate::port::{Delivery, GroupName, Overflow, Terms};
use trie::Trie;

mod trie;

/// What one subscriber may leave unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Deliveries in the queue.
    pub deliveries_max: usize,
    /// Bytes of their payloads; one delivery always fits an empty queue.
    pub bytes_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { deliveries_max: 1_024, bytes_max: 4 * 1_024 * 1_024 }
    }
}

/// What a subscriber reads from its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// A message.
    Delivery(Arc<Delivery>),
    /// Messages may be missing between what came before and what comes after: the link to the broker was lost.
    Gap,
    /// The queue was full and has ended; nothing comes after.
    Overrun,
}

#[derive(Default)]
struct QueueState {
    events: VecDeque<QueueEvent>,
    payload_bytes: usize,
    ended: bool,
}

impl QueueState {
    /// Takes the oldest delivery of QoS 0 out for one of a higher; whether there was one that is not smaller.
    fn make_room(&mut self, delivery: &Delivery) -> bool {
        let bytes = delivery.message.payload.len();
        let gives_way = |event: &QueueEvent| {
            matches!(event, QueueEvent::Delivery(old)
                if old.message.qos == QoS::AtMostOnce && old.message.payload.len() >= bytes)
        };
        if delivery.message.qos == QoS::AtMostOnce {
            return false;
        }
        let Some(at) = self.events.iter().position(gives_way) else { return false };
        if let Some(QueueEvent::Delivery(old)) = self.events.remove(at) {
            self.payload_bytes -= old.message.payload.len();
        }
        true
    }
}

/// The queue of one subscriber.
struct Queue {
    state: Mutex<QueueState>,
    readable: Notify,
    /// Whether its device is away; others of its group come first then.
    rests: AtomicBool,
    overflow: Overflow,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    /// It is in the queue, or the queue had ended before.
    Taken,
    /// The queue has ended with it.
    Ended,
    /// It is lost, or one of QoS 0 was in its place.
    Dropped,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a delivery, as far as there is room.
    fn push(&self, delivery: &Arc<Delivery>, limits: &QueueLimits) -> Pushed {
        let mut state = self.lock();
        if state.ended {
            return Pushed::Taken;
        }
        let payload_bytes = state.payload_bytes + delivery.message.payload.len();
        let full = state.events.len() >= limits.deliveries_max
            || (payload_bytes > limits.bytes_max && !state.events.is_empty());
        let pushed = match self.overflow {
            _ if !full => Pushed::Taken,
            Overflow::End => Pushed::Ended,
            Overflow::Drop => Pushed::Dropped,
        };
        let has_place = match pushed {
            Pushed::Taken => true,
            Pushed::Ended => {
                state.ended = true;
                state.events.push_back(QueueEvent::Overrun);
                false
            }
            Pushed::Dropped => state.make_room(delivery),
        };
        if has_place {
            state.payload_bytes += delivery.message.payload.len();
            state.events.push_back(QueueEvent::Delivery(Arc::clone(delivery)));
        }
        drop(state);
        self.readable.notify_one();
        pushed
    }

    /// Whether another delivery of that size would not end it.
    fn has_room(&self, payload_bytes: usize, limits: &QueueLimits) -> bool {
        let state = self.lock();
        let fits = state.events.is_empty() || state.payload_bytes + payload_bytes <= limits.bytes_max;
        !state.ended && state.events.len() < limits.deliveries_max && fits
    }

    fn push_gap(&self) {
        let mut state = self.lock();
        if !state.ended && state.events.back() != Some(&QueueEvent::Gap) {
            state.events.push_back(QueueEvent::Gap);
        }
        drop(state);
        self.readable.notify_one();
    }

    fn pop(&self) -> Option<QueueEvent> {
        let mut state = self.lock();
        let event = state.events.pop_front();
        if let Some(QueueEvent::Delivery(delivery)) = &event {
            state.payload_bytes -= delivery.message.payload.len();
        }
        if state.events.is_empty() {
            state.events.shrink_to(0);
        }
        event
    }
}

/// Names one subscriber of a [`Fanout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SubscriberId(u64);

struct Entry {
    channel: ChannelId,
    filter: SubtopicFilter,
    queue: Arc<Queue>,
    group: Option<GroupName>,
}

/// Subscribers that share the messages of one filter.
struct Group {
    /// What the trie knows them by.
    id: SubscriberId,
    members: Vec<(SubscriberId, Arc<Queue>)>,
    /// Whose turn it is.
    next: AtomicUsize,
}

impl Group {
    /// Who is to get a message: those with room in turn, and who is away only where nobody else has any.
    fn turn(&self, payload_bytes: usize, limits: &QueueLimits) -> Option<&Arc<Queue>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn =
            |step: usize| self.members.get(first.wrapping_add(step) % self.members.len()).map(|(_, queue)| queue);
        let with_room = || (0..self.members.len()).filter_map(in_turn).filter(|q| q.has_room(payload_bytes, limits));
        let awake = with_room().find(|queue| !queue.rests.load(Ordering::Relaxed));
        awake.or_else(|| with_room().next()).or_else(|| self.members.first().map(|(_, queue)| queue))
    }
}

/// What a group shares: the channel, its name and the filter.
type GroupKey = (ChannelId, GroupName, Box<str>);

#[derive(Default)]
struct Subscribers {
    channels: HashMap<ChannelId, Trie<SubscriberId>>,
    entries: HashMap<SubscriberId, Entry>,
    groups: BTreeMap<GroupKey, Group>,
    /// By what the trie knows them by.
    group_keys: HashMap<SubscriberId, GroupKey>,
    next_id: u64,
}

impl Subscribers {
    fn id(&mut self) -> SubscriberId {
        self.next_id += 1;
        SubscriberId(self.next_id)
    }

    fn group(&self, id: SubscriberId) -> Option<&Group> {
        self.groups.get(self.group_keys.get(&id)?)
    }
}

/// Whether an attachment or its end changes what the channel as a whole needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The channel has had subscribers before and has some after.
    Another,
    /// The first subscriber of the channel came.
    First,
}

/// Called with a channel when its last subscriber is gone.
type Abandoned = Box<dyn Fn(&ChannelId) + Send + Sync>;

/// What the fan-out counts.
#[derive(Clone, Debug, Default)]
pub struct FanoutMetrics {
    overruns: Counter,
    dropped: Counter,
    gaps: Counter,
}

impl FanoutMetrics {
    /// Counters that stand in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let overruns = "Subscribers that were ended because their queue was full";
        registry.register("subscriber_overruns", overruns, metrics.overruns.clone());
        let dropped = "Messages that subscribers lost because their queue was full";
        registry.register("subscriber_dropped", dropped, metrics.dropped.clone());
        let gaps = "Times that subscribers were told that messages may be missing";
        registry.register("subscriber_gaps", gaps, metrics.gaps.clone());
        metrics
    }
}

/// The subscribers of this process.
pub struct Fanout {
    subscribers: RwLock<Subscribers>,
    limits: QueueLimits,
    metrics: FanoutMetrics,
    abandoned: Abandoned,
}

impl Fanout {
    /// A fan-out without subscribers. `abandoned` is called, without a lock held, when a channel's last one is gone.
    #[must_use]
    pub fn new(
        limits: QueueLimits,
        metrics: FanoutMetrics,
        abandoned: impl Fn(&ChannelId) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { subscribers: RwLock::default(), limits, metrics, abandoned: Box::new(abandoned) })
    }

    /// Adds a subscriber. It receives what is delivered after this returns, until its queue is dropped.
    pub fn attach(self: &Arc<Self>, permit: &FilterPermit, terms: Terms) -> (DeliveryQueue, Attachment) {
        let Terms { group, overflow } = terms;
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            readable: Notify::new(),
            rests: AtomicBool::new(false),
            overflow,
        });
        let (channel, filter) = (permit.channel().clone(), permit.filter().clone());
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        let id = subscribers.id();
        let attachment =
            if subscribers.channels.contains_key(&channel) { Attachment::Another } else { Attachment::First };
        let in_trie = match &group {
            None => Some(id),
            Some(name) => {
                let key = (channel.clone(), name.clone(), filter.text().unwrap_or_default().into());
                let group_id = subscribers.id();
                let is_new = !subscribers.groups.contains_key(&key);
                let new = || Group { id: group_id, members: Vec::new(), next: AtomicUsize::new(0) };
                let group = subscribers.groups.entry(key.clone()).or_insert_with(new);
                group.members.push((id, Arc::clone(&queue)));
                if is_new {
                    subscribers.group_keys.insert(group_id, key);
                }
                is_new.then_some(group_id)
            }
        };
        if let Some(in_trie) = in_trie {
            subscribers.channels.entry(channel.clone()).or_default().insert(&filter, in_trie);
        }
        subscribers.entries.insert(id, Entry { channel, filter, queue: Arc::clone(&queue), group });
        drop(subscribers);
        (DeliveryQueue { fanout: Arc::clone(self), id, queue }, attachment)
    }

    /// Hands a delivery to every subscriber whose filter matches. Never waits.
    pub fn deliver(&self, delivery: Delivery) {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        let Some(trie) = subscribers.channels.get(&delivery.channel) else { return };
        let delivery = Arc::new(delivery);
        trie.for_each_match(&delivery.subtopic, &mut |id| {
            let alone = subscribers.entries.get(id).map(|entry| &entry.queue);
            let bytes = delivery.message.payload.len();
            let queue = alone.or_else(|| subscribers.group(*id)?.turn(bytes, &self.limits));
            if let Some(queue) = queue {
                self.count(queue.push(&delivery, &self.limits));
            }
        });
    }

    fn count(&self, pushed: Pushed) {
        match pushed {
            Pushed::Taken => {}
            Pushed::Ended => drop(self.metrics.overruns.inc()),
            Pushed::Dropped => drop(self.metrics.dropped.inc()),
        }
    }

    /// Tells every subscriber that messages may be missing here.
    pub fn mark_gap(&self) {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        if subscribers.entries.is_empty() {
            return;
        }
        self.metrics.gaps.inc();
        for trie in sorted(subscribers.channels.keys()).into_iter().filter_map(|c| subscribers.channels.get(c)) {
            trie.for_each(&mut |id| {
                if let Some(entry) = subscribers.entries.get(id) {
                    entry.queue.push_gap();
                } else if let Some(group) = subscribers.group(*id) {
                    group.members.iter().for_each(|(_, queue)| queue.push_gap());
                }
            });
        }
    }

    /// The channels that have subscribers, in order.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelId> {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        sorted(subscribers.channels.keys()).into_iter().cloned().collect()
    }

    /// Whether the channel has subscribers.
    #[must_use]
    pub fn has_channel(&self, channel: &ChannelId) -> bool {
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner).channels.contains_key(channel)
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers.read().unwrap_or_else(PoisonError::into_inner).entries.len()
    }

    /// Whether there is no subscriber.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn detach(&self, id: SubscriberId) {
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry { channel, filter, queue, group }) = subscribers.entries.remove(&id) else { return };
        let in_trie = match group {
            None => Some(id),
            Some(name) => self.leave(
                &mut subscribers,
                &(channel.clone(), name, filter.text().unwrap_or_default().into()),
                id,
                &queue,
            ),
        };
        let Some(in_trie) = in_trie else { return };
        let Some(trie) = subscribers.channels.get_mut(&channel) else { return };
        trie.remove(&filter, &in_trie);
        let abandoned = trie.is_empty();
        if abandoned {
            subscribers.channels.remove(&channel);
        }
        drop(subscribers);
        if abandoned {
            (self.abandoned)(&channel);
        }
    }
}

impl Fanout {
    /// Takes a member out of its group, and hands what it has not read to the others. Where there are none, the group goes:
    /// what the trie knows it by.
    fn leave(
        &self,
        subscribers: &mut Subscribers,
        key: &GroupKey,
        id: SubscriberId,
        queue: &Queue,
    ) -> Option<SubscriberId> {
        let group = subscribers.groups.get_mut(key)?;
        group.members.retain(|(member, _)| *member != id);
        if group.members.is_empty() {
            let group_id = group.id;
            subscribers.groups.remove(key);
            subscribers.group_keys.remove(&group_id);
            return Some(group_id);
        }
        while let Some(event) = queue.pop() {
            let QueueEvent::Delivery(delivery) = event else { continue };
            let next = group.turn(delivery.message.payload.len(), &self.limits);
            if let Some(queue) = next {
                self.count(queue.push(&delivery, &self.limits));
            }
        }
        None
    }
}

fn sorted<'a>(keys: impl Iterator<Item = &'a ChannelId>) -> Vec<&'a ChannelId> {
    let mut sorted: Vec<_> = keys.collect();
    sorted.sort_unstable();
    sorted
}

/// The reading end of a subscriber's queue. Dropping it ends the subscription.
pub struct DeliveryQueue {
    fanout: Arc<Fanout>,
    id: SubscriberId,
    queue: Arc<Queue>,
}

impl DeliveryQueue {
    /// Waits for the next event. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> QueueEvent {
        loop {
            if let Some(event) = self.queue.pop() {
                return event;
            }
            self.queue.readable.notified().await;
        }
    }

    /// Whether it was full and has ended, though that may not be read yet.
    pub(crate) fn is_overrun(&self) -> bool {
        self.queue.lock().ended
    }

    /// What says whether its device is away.
    #[must_use]
    pub fn rest(&self) -> Rest {
        Rest(Arc::clone(&self.queue))
    }
}

/// Says of a subscriber whether its device is away: then others of its group come first.
#[derive(Clone)]
pub struct Rest(Arc<Queue>);

impl Rest {
    /// Says it.
    pub fn set(&self, rests: bool) {
        self.0.rests.store(rests, Ordering::Relaxed);
    }
}

impl Drop for DeliveryQueue {
    fn drop(&mut self) {
        self.fanout.detach(self.id);
    }
}

#[cfg(test)]
mod tests;
