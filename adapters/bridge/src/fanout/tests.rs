//! The fan-out: who gets what, and who is told of what they did not get.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_model::{
    ChannelEntry, ContentType, Credential, Generation, GrantEntry, GrantTableBuilder, KeyEntry, KeyHash, Message,
    MessageId, PayloadPolicy, Permissions, Protocol, QoS, Subtopic, TableContents, ThingEntry, ThingId, Timestamp,
    TopicFilter, TopicLimits, Validation,
};

use super::*;

const KEY: &[u8] = b"a key of the fixture";

fn permit(filter: &str) -> FilterPermit {
    let id = ChannelId::new("lab", "c").unwrap();
    let content_type = ContentType::parse("text/plain").unwrap();
    let payload = PayloadPolicy { content_type, admit: vec![], validate: Validation::None, bytes_max: 1_000 };
    let permissions = Permissions { publish: true, subscribe: true };
    let contents = TableContents {
        channels: vec![ChannelEntry { id: id.clone(), aliases: vec![], payload }],
        things: vec![ThingEntry {
            id: ThingId::new("lab", "t").unwrap(),
            aliases: vec![],
            keys: vec![KeyEntry { hash: KeyHash::of(KEY), shared: None, not_before: None, not_after: None }],
            certificate: None,
            grants: vec![GrantEntry { channel: id, permissions, publish: None, subscribe: None }],
        }],
    };
    let table = GrantTableBuilder::table_of(&contents, Generation(1), 1).unwrap();
    let now = Timestamp::from_secs(1);
    let principal = table.authenticate(&Credential::Key(KEY), now).unwrap();
    let filter = TopicFilter::parse_mqtt(&format!("channels/c/messages{filter}"), &TopicLimits::default()).unwrap();
    table.authorize_filter(&principal, filter, now).unwrap()
}

fn delivery(subtopic: &str, payload: &'static [u8]) -> Delivery {
    let subtopic = subtopic
        .strip_prefix('/')
        .map_or(Subtopic::none(), |text| Subtopic::parse(text, &TopicLimits::default()).unwrap());
    Delivery {
        publisher: None,
        channel: ChannelId::new("lab", "c").unwrap(),
        subtopic,
        message: Message {
            id: MessageId::parse("1").unwrap(),
            payload: Bytes::from_static(payload),
            content_type: ContentType::parse("text/plain").unwrap(),
            protocol: Protocol::Http,
            qos: QoS::default(),
            retain: false,
            received_at: Timestamp::from_secs(1),
            expires_in: None,
            traceparent: None,
            extras: None,
        },
    }
}

fn fanout(limits: QueueLimits) -> Arc<Fanout> {
    Fanout::new(limits, FanoutMetrics::default(), |_| {})
}

/// What is in the queue now: payload bytes of deliveries, and the marks.
fn drain(queue: &DeliveryQueue) -> Vec<String> {
    std::iter::from_fn(|| queue.queue.pop())
        .map(|event| match event {
            QueueEvent::Delivery(delivery) => String::from_utf8_lossy(&delivery.message.payload).into_owned(),
            QueueEvent::Gap => "gap".to_owned(),
            QueueEvent::Overrun => "overrun".to_owned(),
        })
        .collect()
}

#[test]
fn a_full_queue_ends_its_subscriber_and_nobody_else() {
    let fanout = fanout(QueueLimits { deliveries_max: 2, bytes_max: 1_000 });
    let ((slow, _), (quick, _)) =
        (fanout.attach(&permit("/#"), Terms::default()), fanout.attach(&permit("/#"), Terms::default()));
    for payload in [b"1", b"2", b"3", b"4"] {
        fanout.deliver(delivery("/a", payload));
        assert_eq!(drain(&quick).len(), 1);
    }
    assert_eq!(drain(&slow), ["1", "2", "overrun"]);
    assert_eq!(fanout.metrics.overruns.get(), 1);
}

#[test]
fn a_queue_is_bounded_in_bytes_and_takes_one_large_message() {
    let fanout = fanout(QueueLimits { deliveries_max: 100, bytes_max: 4 });
    let (queue, _) = fanout.attach(&permit(""), Terms::default());
    fanout.deliver(delivery("", b"large"));
    assert_eq!(drain(&queue), ["large"]);
    for payload in [b"ab", b"cd", b"ef"] {
        fanout.deliver(delivery("", payload));
    }
    assert_eq!(drain(&queue), ["ab", "cd", "overrun"]);
}

#[test]
fn a_gap_is_told_to_everyone_once_in_a_row() {
    let fanout = fanout(QueueLimits::default());
    let ((a, _), (b, _)) =
        (fanout.attach(&permit("/#"), Terms::default()), fanout.attach(&permit("/x/+"), Terms::default()));
    fanout.deliver(delivery("/x/y", b"1"));
    fanout.mark_gap();
    fanout.mark_gap();
    fanout.deliver(delivery("/x/y", b"2"));
    assert_eq!(drain(&a), ["1", "gap", "2"]);
    assert_eq!(drain(&b), ["1", "gap", "2"]);
}

#[test]
fn the_first_and_the_last_subscriber_of_a_channel_are_told_apart() {
    let abandoned = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&abandoned);
    let fanout = Fanout::new(QueueLimits::default(), FanoutMetrics::default(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let (first, attachment) = fanout.attach(&permit("/a"), Terms::default());
    assert_eq!(attachment, Attachment::First);
    let (second, attachment) = fanout.attach(&permit("/a"), Terms::default());
    assert_eq!(attachment, Attachment::Another);
    drop(first);
    assert_eq!((abandoned.load(Ordering::Relaxed), fanout.len()), (0, 1));
    drop(second);
    assert_eq!((abandoned.load(Ordering::Relaxed), fanout.len()), (1, 0));
    assert!(fanout.channels().is_empty());
}

#[tokio::test]
async fn a_waiting_reader_is_woken() {
    let fanout = fanout(QueueLimits::default());
    let (mut queue, _) = fanout.attach(&permit("/#"), Terms::default());
    let waiting = tokio::spawn(async move { queue.next().await });
    fanout.deliver(delivery("/a", b"1"));
    let event = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert!(matches!(event, QueueEvent::Delivery(_)));
}

fn suffix(levels: Vec<&'static str>) -> String {
    levels.into_iter().map(|level| format!("/{level}")).collect()
}

proptest! {
    #[test]
    fn the_trie_finds_what_the_filters_match(
        filters in prop::collection::vec((prop::collection::vec(prop::sample::select(vec!["", "a", "b", "+"]), 0..4), any::<bool>()), 1..8),
        topics in prop::collection::vec(prop::collection::vec(prop::sample::select(vec!["", "a", "b"]), 0..5), 1..8),
        dropped in 0_usize..8,
    ) {
        let fanout = fanout(QueueLimits::default());
        let permits: Vec<FilterPermit> =
            filters.into_iter().map(|(levels, rest)| permit(&(suffix(levels) + if rest { "/#" } else { "" }))).collect();
        let mut queues: Vec<_> = permits.iter().map(|permit| (permit, fanout.attach(permit, Terms::default()).0)).collect();
        if dropped < queues.len() {
            queues.remove(dropped);
        }
        for topic in topics {
            let delivery = delivery(&suffix(topic), b"x");
            let subtopic = delivery.subtopic.clone();
            fanout.deliver(delivery);
            for (permit, queue) in &queues {
                prop_assert_eq!(drain(queue).len(), usize::from(permit.filter().matches(&subtopic)));
            }
        }
    }
}

fn workers() -> Terms {
    Terms { group: Some(GroupName::new("workers")), ..Terms::default() }
}

#[test]
fn who_would_rather_lose_messages_loses_those_first_that_nobody_waits_for() {
    let fanout = fanout(QueueLimits { deliveries_max: 2, bytes_max: 1_000 });
    let (queue, _) = fanout.attach(&permit("/#"), Terms { overflow: Overflow::Drop, ..Terms::default() });
    let send = |payload: &'static [u8], qos| {
        let mut delivery = delivery("/x", payload);
        delivery.message.qos = qos;
        fanout.deliver(delivery);
    };
    send(b"1", QoS::AtMostOnce);
    send(b"2", QoS::AtLeastOnce);
    send(b"3", QoS::AtMostOnce);
    send(b"4", QoS::ExactlyOnce);
    send(b"5", QoS::AtLeastOnce);
    assert_eq!(drain(&queue), ["2", "4"]);
    assert_eq!(fanout.metrics.dropped.get(), 3);
    send(b"6", QoS::AtMostOnce);
    assert_eq!(drain(&queue), ["6"]);
}

#[test]
fn a_group_shares_what_it_receives_and_nobody_else_has_less_of_it() {
    let fanout = fanout(QueueLimits::default());
    let group = workers;
    let join = |filter: &str| fanout.attach(&permit(filter), group()).0;
    let (first, second, other) = (join("/#"), join("/#"), join("/x/#"));
    let alone = fanout.attach(&permit("/#"), Terms::default()).0;
    for payload in [b"1", b"2", b"3", b"4"] {
        fanout.deliver(delivery("/x", payload));
    }
    assert_eq!((drain(&first), drain(&second)), (vec!["1".into(), "3".into()], vec!["2".into(), "4".into()]));
    assert_eq!(drain(&other), ["1", "2", "3", "4"], "another filter is another group");
    assert_eq!(drain(&alone), ["1", "2", "3", "4"]);
}

#[test]
fn what_a_member_of_a_group_leaves_unread_is_for_the_others() {
    let fanout = fanout(QueueLimits::default());
    let join = || fanout.attach(&permit("/#"), workers()).0;
    let (first, second) = (join(), join());
    for payload in [b"1", b"2"] {
        fanout.deliver(delivery("/x", payload));
    }
    drop(first);
    assert_eq!(drain(&second), ["2", "1"]);
    drop(second);
    assert!(fanout.is_empty() && fanout.channels().is_empty());
    let third = join();
    fanout.deliver(delivery("/x", b"3"));
    assert_eq!(drain(&third), ["3"]);
}

#[test]
fn who_is_away_or_full_is_passed_over_as_long_as_another_is_not() {
    let fanout = fanout(QueueLimits { deliveries_max: 2, bytes_max: 1_000 });
    let join = || fanout.attach(&permit("/#"), workers()).0;
    let (away, here) = (join(), join());
    away.rest().set(true);
    for payload in [b"1", b"2", b"3"] {
        fanout.deliver(delivery("/x", payload));
    }
    assert_eq!((drain(&away), drain(&here)), (vec!["3".into()], vec!["1".into(), "2".into()]));
}
