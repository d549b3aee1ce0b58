//! One connection that publishes, owned by one task.
//!
//! Only this task publishes on its channel, since confirms are matched by counting. It sends what has gathered in one
//! go, keeps up to a window of messages in flight, and tells each publisher what became of its message. A link whose
//! confirms stay out counts as dead, reset or not; what was in flight then goes first on the next one, in order and
//! under the same message id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use lapin::Confirmation;
use lapin::options::BasicPublishOptions;
use tidegate_bridge::{Publication, Receipt, Unavailable};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::AmqpConfig;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::wire::{properties, routing_key, short};

/// Messages that are sent in one go.
const BATCH_MAX: usize = 256;
/// How often a link without traffic is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// When it is worth trying again after a refusal.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A message to publish, and who waits for what becomes of it.
pub(crate) struct Job {
    pub(crate) publication: Publication,
    pub(crate) verdict: oneshot::Sender<Result<Receipt, Unavailable>>,
}

impl Job {
    fn settle(self, confirmed: bool) {
        let receipt = Receipt { message_id: self.publication.message().id.clone() };
        let verdict = if confirmed { Ok(receipt) } else { Err(Unavailable { retry_after: RETRY_AFTER }) };
        // Whoever stopped waiting was refused already.
        let _ = self.verdict.send(verdict);
    }
}

pub(crate) struct Writer {
    pub(crate) config: Arc<AmqpConfig>,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) metrics: Metrics,
    /// Whether this connection is up.
    pub(crate) up: watch::Sender<bool>,
}

/// The number of a job in the order in which it was sent.
type Sequence = u64;

/// What a confirm said: the job's number, and whether the broker has the message; `None` when the link broke.
type Confirmed = (Sequence, Option<bool>);

/// The jobs that were sent on one link.
#[derive(Default)]
struct InFlight {
    next: Sequence,
    jobs: BTreeMap<Sequence, Job>,
    confirms: FuturesUnordered<BoxFuture<'static, Confirmed>>,
}

impl Writer {
    /// Publishes until nobody can hand in a job any more.
    pub(crate) async fn run(mut self) {
        let mut pending = VecDeque::new();
        while !self.jobs.is_closed() || !pending.is_empty() {
            let link = Link::establish(&self.config, "publisher").await;
            self.up.send_replace(true);
            let unsettled = self.serve(&link, pending).await;
            self.up.send_replace(false);
            self.metrics.connections_lost.inc();
            pending = unsettled;
            // The broker has what it confirmed; whoever stopped waiting does not want the message any more.
            pending.retain(|job| !job.verdict.is_closed());
            self.metrics.republished.inc_by(pending.len() as u64);
        }
    }

    /// Publishes on one link until it is dead; returns the jobs without a verdict, in order.
    async fn serve(&mut self, link: &Link, mut pending: VecDeque<Job>) -> VecDeque<Job> {
        let mut in_flight = InFlight::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut idle_looks, looks_max) = (0_u128, self.config.stall_max.as_millis() / LOOK_EVERY.as_millis());
        let mut gathered = Vec::with_capacity(BATCH_MAX);
        loop {
            let room = self.config.window.saturating_sub(in_flight.jobs.len()).min(BATCH_MAX);
            if room > 0 && !pending.is_empty() {
                gathered.extend(pending.drain(..room.min(pending.len())));
                if !self.send(link, &mut gathered, &mut in_flight).await {
                    break;
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(confirmed) = in_flight.confirms.next(), if !in_flight.jobs.is_empty() => {
                    idle_looks = 0;
                    if !self.settle(confirmed, &mut in_flight) {
                        break;
                    }
                }
                taken = self.jobs.recv_many(&mut gathered, room), if room > 0 => {
                    if taken == 0 && in_flight.jobs.is_empty() {
                        break;
                    }
                    if taken > 0 && !self.send(link, &mut gathered, &mut in_flight).await {
                        break;
                    }
                    if taken == 0 {
                        // Nobody hands in jobs any more: only confirms are left.
                        look.tick().await;
                    }
                }
                _ = look.tick() => {
                    idle_looks += u128::from(!in_flight.jobs.is_empty());
                    if !link.is_up() || idle_looks > looks_max {
                        break;
                    }
                }
            }
        }
        self.metrics.in_flight.set(0);
        // Those that could not be sent come after those that were.
        in_flight.jobs.into_values().chain(gathered).chain(pending).collect()
    }

    /// Sends jobs in one go; `false` when the link is dead. Either way every job is in flight or still gathered.
    async fn send(&self, link: &Link, gathered: &mut Vec<Job>, in_flight: &mut InFlight) -> bool {
        gathered.retain(|job| !job.verdict.is_closed());
        // All from this one task and in this order: a confirm belongs to a message by its number on the channel.
        let sent = join_all(gathered.iter().map(|Job { publication, .. }| {
            link.channel.basic_publish(
                short(&self.config.exchange),
                routing_key(publication),
                BasicPublishOptions::default(),
                &publication.message().payload,
                properties(publication),
            )
        }));
        let Ok(sent) = tokio::time::timeout(self.config.stall_max, sent).await else { return false };
        let mut all_sent = true;
        for (job, sent) in gathered.drain(..).zip(sent) {
            let sequence = in_flight.next;
            in_flight.next += 1;
            in_flight.jobs.insert(sequence, job);
            match sent {
                Ok(confirm) => in_flight.confirms.push(Box::pin(async move {
                    match confirm.await {
                        Ok(Confirmation::Ack(None)) => (sequence, Some(true)),
                        Ok(Confirmation::Nack(_)) => (sequence, Some(false)),
                        // Without `mandatory` nothing is returned, and confirms were asked for: the link is not sane.
                        Ok(Confirmation::Ack(Some(_)) | Confirmation::NotRequested) | Err(_) => (sequence, None),
                    }
                })),
                Err(_broken) => all_sent = false,
            }
        }
        self.metrics.in_flight.set(i64::try_from(in_flight.jobs.len()).unwrap_or(i64::MAX));
        all_sent
    }

    /// Tells the publisher; `false` when the confirm says that the link is dead.
    fn settle(&self, (sequence, confirmed): Confirmed, in_flight: &mut InFlight) -> bool {
        let Some(confirmed) = confirmed else { return false };
        if let Some(job) = in_flight.jobs.remove(&sequence) {
            if confirmed {
                self.metrics.confirmed.inc()
            } else {
                self.metrics.rejected.inc()
            };
            job.settle(confirmed);
        }
        self.metrics.in_flight.set(i64::try_from(in_flight.jobs.len()).unwrap_or(i64::MAX));
        true
    }
}
