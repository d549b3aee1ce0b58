//! The last message of each topic that was to be kept, in memory and within bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_bridge::{Delivery, Retained};
use tidegate_model::{ChannelId, FilterPermit, Timestamp};

/// What may be kept in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedLimits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes of their payloads and topics.
    pub bytes_max: usize,
}

impl Default for RetainedLimits {
    fn default() -> Self {
        Self { messages_max: 100_000, bytes_max: 64 * 1_024 * 1_024 }
    }
}

#[derive(Default)]
struct Kept {
    /// By channel, and by the levels below `messages`.
    channels: BTreeMap<ChannelId, BTreeMap<Box<str>, Arc<Delivery>>>,
    messages: usize,
    bytes: usize,
}

impl Kept {
    fn of(&self, delivery: &Delivery) -> Option<&Arc<Delivery>> {
        self.channels.get(&delivery.channel)?.get(topic(delivery))
    }

    fn has_room(&self, delivery: &Delivery, limits: &RetainedLimits) -> bool {
        let old = self.of(delivery);
        let messages = self.messages + usize::from(old.is_none());
        let all = self.bytes - old.map_or(0, |old| bytes(old)) + bytes(delivery);
        messages <= limits.messages_max && all <= limits.bytes_max
    }

    fn keep_only(&mut self, wanted: &dyn Fn(&ChannelId, &Delivery) -> bool) {
        self.channels.retain(|channel, topics| {
            topics.retain(|_, delivery| wanted(channel, delivery));
            !topics.is_empty()
        });
        self.messages = self.channels.values().map(BTreeMap::len).sum();
        self.bytes = self.channels.values().flat_map(BTreeMap::values).map(|delivery| bytes(delivery)).sum();
    }

    fn remove(&mut self, delivery: &Delivery) {
        let Some(channel) = self.channels.get_mut(&delivery.channel) else { return };
        let Some(old) = channel.remove(topic(delivery)) else { return };
        if channel.is_empty() {
            self.channels.remove(&delivery.channel);
        }
        self.messages -= 1;
        self.bytes -= bytes(&old);
    }
}

fn topic(delivery: &Delivery) -> &str {
    delivery.subtopic.text().unwrap_or_default()
}

fn bytes(delivery: &Delivery) -> usize {
    let extras = delivery.message.extras.as_ref().map_or(0, |extras| extras.property_block.len());
    delivery.message.payload.len() + topic(delivery).len() + extras
}

/// Keeps them until the process ends.
pub struct MemoryRetained {
    kept: Mutex<Kept>,
    limits: RetainedLimits,
    messages: Gauge,
    bytes: Gauge,
}

impl MemoryRetained {
    /// Nothing is kept yet; the gauges are in `registry`.
    #[must_use]
    pub fn new(limits: RetainedLimits, registry: &mut Registry) -> Self {
        let (messages, bytes) = (Gauge::default(), Gauge::default());
        registry.register("retained_messages", "Retained messages that this process keeps", messages.clone());
        registry.register("retained_bytes", "Bytes of retained messages", bytes.clone());
        Self { kept: Mutex::default(), limits, messages, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kept: &Kept) {
        self.messages.set(i64::try_from(kept.messages).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(kept.bytes).unwrap_or(i64::MAX));
    }
}

impl Retained for MemoryRetained {
    fn has_room(&self, delivery: &Delivery) -> bool {
        let mut kept = self.lock();
        if delivery.message.payload.is_empty() || kept.has_room(delivery, &self.limits) {
            return true;
        }
        // What is of no use any more makes room.
        kept.keep_only(&|_, old| !old.message.is_expired(delivery.message.received_at));
        self.tell(&kept);
        kept.has_room(delivery, &self.limits)
    }

    //= MQTT5 3.3.1-5, 3.3.1-6, 3.3.1-7
    //= MQTT3 3.1.2-7, 3.3.1-5, 3.3.1-7, 3.3.1-10, 3.3.1-11
    fn keep(&self, delivery: Delivery) {
        let mut kept = self.lock();
        let age = |delivery: &Delivery| (delivery.message.received_at, delivery.message.id.clone());
        if kept.of(&delivery).is_some_and(|old| age(old) > age(&delivery)) {
            return;
        }
        kept.remove(&delivery);
        if !delivery.message.payload.is_empty() {
            kept.messages += 1;
            kept.bytes += bytes(&delivery);
            let topic = Box::from(topic(&delivery));
            // A copy of its own: the payload may be a small part of what was read.
            let mut delivery = delivery;
            delivery.message.payload = Bytes::copy_from_slice(&delivery.message.payload);
            kept.channels.entry(delivery.channel.clone()).or_default().insert(topic, Arc::new(delivery));
        }
        self.tell(&kept);
    }

    fn matching(&self, permit: &FilterPermit, now: Timestamp) -> Vec<Arc<Delivery>> {
        let mut kept = self.lock();
        let matching = kept.channels.get(permit.channel()).into_iter().flat_map(BTreeMap::values);
        let matching = matching.filter(|delivery| permit.filter().matches(&delivery.subtopic)).cloned();
        let (expired, mut matching): (Vec<_>, Vec<_>) = matching.partition(|delivery| delivery.message.is_expired(now));
        expired.iter().for_each(|delivery| kept.remove(delivery));
        self.tell(&kept);
        drop(kept);
        matching.sort_by_key(|delivery| (delivery.message.received_at, delivery.message.id.clone()));
        matching
    }

    fn keep_only(&self, wanted: &dyn Fn(&ChannelId) -> bool) {
        let mut kept = self.lock();
        kept.keep_only(&|channel, _| wanted(channel));
        self.tell(&kept);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_model::{ContentType, Message, MessageId, Protocol, QoS, Subtopic, TopicLimits};

    use super::*;

    fn delivery(channel: &str, topic: &str, payload: &'static [u8], second: u64) -> Delivery {
        Delivery {
            publisher: None,
            channel: ChannelId::new("lab", channel).unwrap(),
            subtopic: Subtopic::parse(topic, &TopicLimits::default()).unwrap(),
            message: Message {
                id: MessageId::parse("1").unwrap(),
                payload: Bytes::from_static(payload),
                content_type: ContentType::parse("text/plain").unwrap(),
                protocol: Protocol::Mqtt,
                qos: QoS::AtLeastOnce,
                retain: true,
                received_at: Timestamp::from_secs(second),
                expires_in: None,
                traceparent: None,
                extras: None,
            },
        }
    }

    fn shelf() -> MemoryRetained {
        let limits = RetainedLimits { messages_max: 2, bytes_max: 10 };
        MemoryRetained::new(limits, &mut Registry::default())
    }

    /// What is kept, a payload for each topic.
    fn kept(shelf: &MemoryRetained) -> Vec<String> {
        let kept = shelf.lock();
        let all = kept.channels.values().flat_map(BTreeMap::values);
        let all: Vec<String> = all.map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect();
        assert_eq!((kept.messages, shelf.messages.get()), (all.len(), i64::try_from(all.len()).unwrap()));
        let bytes: usize = kept.channels.values().flat_map(BTreeMap::values).map(|delivery| bytes(delivery)).sum();
        assert_eq!(kept.bytes, bytes);
        all
    }

    #[test]
    fn the_latest_of_a_topic_is_kept_and_an_empty_one_takes_it_away() {
        let shelf = shelf();
        shelf.keep(delivery("c", "a", b"2", 2));
        shelf.keep(delivery("c", "a", b"1", 1));
        assert_eq!(kept(&shelf), ["2"]);
        shelf.keep(delivery("c", "a", b"3", 3));
        shelf.keep(delivery("d", "a", b"4", 3));
        assert_eq!(kept(&shelf), ["3", "4"]);
        shelf.keep(delivery("c", "a", b"", 4));
        assert_eq!(kept(&shelf), ["4"]);
        shelf.keep_only(&|channel| channel.name() == "c");
        assert_eq!(kept(&shelf), Vec::<String>::new());
    }

    #[test]
    fn there_is_room_for_so_many_and_what_has_expired_makes_some() {
        let shelf = shelf();
        let mut brief = delivery("c", "a", b"1", 1);
        brief.message.expires_in = Some(Duration::from_secs(5));
        shelf.keep(brief);
        shelf.keep(delivery("c", "b", b"2", 1));
        let third = |second| delivery("c", "e", b"3", second);
        assert!(!shelf.has_room(&third(2)));
        assert!(shelf.has_room(&delivery("c", "b", b"1234567", 2)), "in the place of the one that is there");
        assert!(!shelf.has_room(&delivery("c", "b", b"12345678", 2)));
        assert!(shelf.has_room(&delivery("c", "e", b"", 2)), "an empty one is not kept");
        assert!(shelf.has_room(&third(7)));
        assert_eq!(kept(&shelf), ["2"]);
    }
}
