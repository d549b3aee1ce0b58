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
use crate::link::{Connector, Link};
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
    fn bytes(&self) -> usize {
        self.publication.message().payload.len()
    }

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

/// What a link died of, as far as the client knows.
type Dead = Option<lapin::Error>;

/// What a confirm said: the job's number, and whether the broker has the message.
type Confirmed = (Sequence, Result<bool, Dead>);

/// The jobs that were sent on one link.
#[derive(Default)]
struct InFlight {
    next: Sequence,
    jobs: BTreeMap<Sequence, Job>,
    /// Of the payloads of `jobs`.
    bytes: usize,
    confirms: FuturesUnordered<BoxFuture<'static, Confirmed>>,
}

impl InFlight {
    fn len(&self) -> i64 {
        i64::try_from(self.jobs.len()).unwrap_or(i64::MAX)
    }

    /// How many more messages may be sent at once.
    fn room(&self, config: &AmqpConfig) -> usize {
        let room = config.window.saturating_sub(self.jobs.len()).min(BATCH_MAX);
        if self.bytes < config.window_bytes { room } else { 0 }
    }
}

impl Writer {
    /// Publishes until nobody can hand in a job any more.
    pub(crate) async fn run(mut self) {
        let mut connector = Connector::new(Arc::clone(&self.config), "publisher");
        let mut pending = VecDeque::new();
        while !self.jobs.is_closed() || !pending.is_empty() {
            let link = self.wait_for(&mut connector, &mut pending).await;
            self.up.send_replace(true);
            let (unsettled, cause) = self.serve(&link, pending).await;
            self.up.send_replace(false);
            connector.lost(cause.as_ref());
            self.metrics.connections_lost.inc();
            pending = unsettled;
            // The broker has what it confirmed; whoever stopped waiting does not want the message any more.
            pending.retain(|job| !job.verdict.is_closed());
            self.metrics.republished.inc_by(pending.len() as u64);
        }
    }

    /// Waits for the next link. Whoever stops waiting for it meanwhile leaves no message behind, however long it takes.
    async fn wait_for(&mut self, connector: &mut Connector, pending: &mut VecDeque<Job>) -> Link {
        let mut establish = std::pin::pin!(connector.establish());
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut gathered = Vec::new();
        loop {
            let room = self.config.window.saturating_sub(pending.len());
            tokio::select! {
                link = &mut establish => return link,
                _ = look.tick() => pending.retain(|job| !job.verdict.is_closed()),
                taken = self.jobs.recv_many(&mut gathered, room), if room > 0 => {
                    if taken == 0 {
                        look.tick().await;
                    }
                    pending.extend(gathered.drain(..));
                }
            }
        }
    }

    /// Publishes on one link until it is dead; returns the jobs without a verdict, in order, and what the link died of.
    async fn serve(&mut self, link: &Link, mut pending: VecDeque<Job>) -> (VecDeque<Job>, Option<lapin::Error>) {
        let mut in_flight = InFlight::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut idle_looks, looks_max) = (0_u128, self.config.stall_max.as_millis() / LOOK_EVERY.as_millis());
        let mut gathered = Vec::with_capacity(BATCH_MAX);
        let cause = loop {
            // What was taken while something else came first.
            pending.extend(gathered.drain(..));
            // Under the broker's alarm nothing is sent; publishers wait, and are refused after their bound.
            let blocked = link.is_blocked();
            let room = in_flight.room(&self.config);
            if !blocked && room > 0 && !pending.is_empty() {
                gathered.extend(pending.drain(..room.min(pending.len())));
                if let Err(dead) = self.send(link, &mut gathered, &mut in_flight).await {
                    break dead;
                }
                continue;
            }
            // While nothing may be sent, jobs wait where those that nobody waits for any more are thrown out.
            let take = if blocked { self.config.window.saturating_sub(pending.len()) } else { room };
            tokio::select! {
                biased;
                Some((sequence, confirmed)) = in_flight.confirms.next(), if !in_flight.jobs.is_empty() => {
                    idle_looks = 0;
                    // Whatever was being taken came after what is pending.
                    pending.extend(gathered.drain(..));
                    match confirmed {
                        Ok(confirmed) => self.settle(sequence, confirmed, &mut in_flight),
                        Err(dead) => break dead,
                    }
                }
                taken = gather(&mut self.jobs, &mut gathered, take), if take > 0 => {
                    if taken == 0 && in_flight.jobs.is_empty() {
                        break None;
                    }
                    if taken == 0 {
                        // Nobody hands in jobs any more: only confirms are left.
                        look.tick().await;
                    } else if blocked {
                        pending.extend(gathered.drain(..));
                    } else if let Err(dead) = self.send(link, &mut gathered, &mut in_flight).await {
                        break dead;
                    }
                }
                _ = look.tick() => {
                    pending.extend(gathered.drain(..));
                    pending.retain(|job| !job.verdict.is_closed());
                    idle_looks = if link.is_blocked() || in_flight.jobs.is_empty() { 0 } else { idle_looks + 1 };
                    if !link.is_up() || idle_looks > looks_max {
                        break None;
                    }
                }
            }
        };
        self.metrics.in_flight.dec_by(in_flight.len());
        // Those that could not be sent come after those that were.
        (in_flight.jobs.into_values().chain(gathered).chain(pending).collect(), cause)
    }

    /// Sends jobs in one go; an error when the link is dead. Either way every job is in flight or still gathered.
    async fn send(&self, link: &Link, gathered: &mut Vec<Job>, in_flight: &mut InFlight) -> Result<(), Dead> {
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
        let sent = tokio::select! {
            sent = sent => sent,
            () = stalled(link, self.config.stall_max) => return Err(None),
        };
        let mut outcome = Ok(());
        for (job, sent) in gathered.drain(..).zip(sent) {
            let sequence = in_flight.next;
            in_flight.next += 1;
            in_flight.bytes += job.bytes();
            in_flight.jobs.insert(sequence, job);
            self.metrics.in_flight.inc();
            match sent {
                Ok(confirm) => in_flight.confirms.push(Box::pin(async move {
                    match confirm.await {
                        Ok(Confirmation::Ack(None)) => (sequence, Ok(true)),
                        Ok(Confirmation::Nack(_)) => (sequence, Ok(false)),
                        // Without `mandatory` nothing is returned, and confirms were asked for: the link is not sane.
                        Ok(Confirmation::Ack(Some(_)) | Confirmation::NotRequested) => (sequence, Err(None)),
                        Err(error) => (sequence, Err(Some(error))),
                    }
                })),
                Err(error) => outcome = Err(Some(error)),
            }
        }
        outcome
    }

    /// Tells the publisher what became of its message.
    fn settle(&self, sequence: Sequence, confirmed: bool, in_flight: &mut InFlight) {
        let Some(job) = in_flight.jobs.remove(&sequence) else { return };
        in_flight.bytes -= job.bytes();
        self.metrics.in_flight.dec();
        if confirmed {
            self.metrics.confirmed.inc()
        } else {
            self.metrics.rejected.inc()
        };
        job.settle(confirmed);
    }
}

/// Waits for jobs and takes up to `max`; returns how many, 0 when nobody can hand in one any more. Nothing is lost when
/// the future is dropped.
async fn gather(jobs: &mut mpsc::Receiver<Job>, gathered: &mut Vec<Job>, max: usize) -> usize {
    let before = gathered.len();
    if jobs.recv_many(gathered, max).await > 0 {
        // Those that are about to hand in a job may do so first: one go is cheaper than many, for both ends.
        tokio::task::yield_now().await;
        while gathered.len() - before < max
            && let Ok(job) = jobs.try_recv()
        {
            gathered.push(job);
        }
    }
    gathered.len() - before
}

/// Returns when the link has been neither blocked nor done for `stall_max`, or is down.
async fn stalled(link: &Link, stall_max: Duration) {
    let mut waited = Duration::ZERO;
    while waited < stall_max && link.is_up() {
        tokio::time::sleep(LOOK_EVERY).await;
        waited = if link.is_blocked() { Duration::ZERO } else { waited + LOOK_EVERY };
    }
}
