//! The connection that delivers: one exclusive queue for the whole process, bound to the channels that have
//! subscribers, and a fan-out behind it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Consumer};
use tidegate_bridge::{Clock, Fanout, SystemClock};
use tidegate_model::{ChannelId, MessageId, SubtopicFilter};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::config::AmqpConfig;
use crate::link::{Connector, Link};
use crate::metrics::Metrics;
use crate::wire::{delivery, short};

/// Bytes that the broker keeps for this process when it reads too slowly; the oldest are dropped beyond, one of them into
/// a second queue, so that the loss does not go unnoticed.
const QUEUE_BYTES_MAX: i64 = 64 * 1_024 * 1_024;
/// How often a link without traffic is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bindings that are asked for at once.
const BATCH_MAX: usize = 64;

pub(crate) struct Reader {
    pub(crate) config: Arc<AmqpConfig>,
    pub(crate) fanout: Arc<Fanout>,
    /// Told when a channel gets its first subscriber or loses its last.
    pub(crate) wake: Arc<Notify>,
    /// The channels that are bound on the link that is up; none while it is down.
    pub(crate) bound: watch::Sender<BTreeSet<ChannelId>>,
    pub(crate) metrics: Metrics,
    /// Whether this connection is up.
    pub(crate) up: watch::Sender<bool>,
}

impl Reader {
    /// Delivers for ever.
    pub(crate) async fn run(self) {
        let mut connector = Connector::new(Arc::clone(&self.config), "subscriber");
        loop {
            let link = connector.establish().await;
            let cause = match open(&link.channel).await {
                Ok(Opened { queue, consumer, dropped }) => {
                    let cause = tokio::select! {
                        cause = self.consume(consumer) => cause,
                        cause = self.notice(dropped) => cause,
                        cause = self.bind(&link, &queue) => cause,
                    };
                    self.up.send_replace(false);
                    self.bound.send_replace(BTreeSet::new());
                    // The queue is gone with the connection, and with it whatever came meanwhile.
                    self.fanout.mark_gap();
                    cause
                }
                Err(error) => Some(error),
            };
            connector.lost(cause.as_ref());
            self.metrics.connections_lost.inc();
        }
    }

    /// Delivers until the consumer is at its end; returns what it died of.
    async fn consume(&self, mut consumer: Consumer) -> Option<lapin::Error> {
        while let Some(received) = consumer.next().await {
            match received {
                Ok(received) => match delivery(received, SystemClock.now(), made_up_id) {
                    Some(delivery) => self.fanout.deliver(delivery),
                    None => drop(self.metrics.unreadable.inc()),
                },
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Tells of what the broker dropped because this process read too slowly.
    async fn notice(&self, mut dropped: Consumer) -> Option<lapin::Error> {
        while let Some(received) = dropped.next().await {
            if let Err(error) = received {
                return Some(error);
            }
            self.metrics.dropped.inc();
            self.fanout.mark_gap();
        }
        None
    }

    /// Keeps the bindings as the subscribers need them; returns when the link is dead, with what it died of. The
    /// connection counts as up once everything is bound.
    async fn bind(&self, link: &Link, queue: &str) -> Option<lapin::Error> {
        loop {
            let wanted: BTreeSet<ChannelId> = self.fanout.channels().into_iter().collect();
            let missing: Vec<_> = wanted.difference(&self.bound.borrow()).take(BATCH_MAX).cloned().collect();
            let superfluous: Vec<_> = self.bound.borrow().difference(&wanted).take(BATCH_MAX).cloned().collect();
            if missing.is_empty() && superfluous.is_empty() {
                self.up.send_if_modified(|up| !std::mem::replace(up, true));
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                if !link.is_up() {
                    return None;
                }
                continue;
            }
            let done = async {
                self.bind_all(&link.channel, queue, missing).await?;
                self.unbind_all(&link.channel, queue, superfluous).await
            };
            match tokio::time::timeout(self.config.stall_max, done).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(error),
                Err(_elapsed) => return None,
            }
        }
    }

    async fn bind_all(&self, channel: &Channel, queue: &str, missing: Vec<ChannelId>) -> lapin::Result<()> {
        let exchange = || short(&self.config.exchange);
        try_join_all(missing.iter().map(|id| {
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(short(queue), exchange(), binding_key(id), options, arguments)
        }))
        .await?;
        if !missing.is_empty() {
            self.bound.send_modify(|bound| bound.extend(missing));
        }
        Ok(())
    }

    async fn unbind_all(&self, channel: &Channel, queue: &str, superfluous: Vec<ChannelId>) -> lapin::Result<()> {
        for id in superfluous {
            // Under the lock of `bound`: a subscriber that came meanwhile either keeps the binding, or finds it gone and
            // waits for a new one.
            let removed = self.bound.send_if_modified(|bound| !self.fanout.has_channel(&id) && bound.remove(&id));
            if removed {
                let (exchange, arguments) = (short(&self.config.exchange), FieldTable::default());
                channel.queue_unbind(short(queue), exchange, binding_key(&id), arguments).await?;
            }
        }
        Ok(())
    }
}

/// What one connection reads from.
struct Opened {
    queue: String,
    consumer: Consumer,
    /// What did not fit the queue, as far as one message.
    dropped: Consumer,
}

/// The queues of this connection, under new names each time: old ones may still be held by a connection that the broker
/// takes for alive.
async fn open(channel: &Channel) -> lapin::Result<Opened> {
    let queue = format!("adapter.{}", made_up_id().as_str());
    let overflow = format!("{queue}.dropped");
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let drop_head = ("x-overflow", text("drop-head"));
    let one = [("x-max-length", AMQPValue::LongLongInt(1)), drop_head.clone()];
    let bounded = [
        ("x-max-length-bytes", AMQPValue::LongLongInt(QUEUE_BYTES_MAX)),
        drop_head,
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&overflow)),
    ];
    let dropped = consume(channel, &overflow, one).await?;
    let consumer = consume(channel, &queue, bounded).await?;
    Ok(Opened { queue, consumer, dropped })
}

async fn consume<const N: usize>(
    channel: &Channel,
    queue: &str,
    arguments: [(&'static str, AMQPValue); N],
) -> lapin::Result<Consumer> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    let options = QueueDeclareOptions::exclusive().auto_delete();
    channel.queue_declare(short(queue), options, table).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(short(queue), short(queue), options, FieldTable::default()).await
}

/// Everything below a channel: the fan-out picks what each subscriber asked for.
fn binding_key(channel: &ChannelId) -> lapin::types::ShortString {
    short(SubtopicFilter::everything().binding_key(channel).as_str())
}

#[expect(clippy::disallowed_methods, reason = "a driver names what has no name of its own")]
fn made_up_id() -> MessageId {
    MessageId::parse(&Uuid::new_v4().to_string()).expect("a UUID has 36 characters")
}
