//! The connection: made again for as long as it takes, watched for silence, and acknowledged when a table is in force
//! and whoever it revokes is gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use prometheus_client::registry::Registry;
use reqwest::{Certificate, Client, Response, StatusCode};
use tidegate_bridge::{Clock, Grants, SystemClock};
use tidegate_grants_proto::{
    ACKNOWLEDGED_PATH, Acknowledgement, Cursor, Epoch, Found, GRANTS_PATH, Keys, LEAVING_PATH, LOOKUP_PATH, Leaving,
    Lookup, Progress, Replica, Resume,
};
use tidegate_model::{Generation, KeyHash, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use crate::cache::{Cache, CacheError};
use crate::keep::Keep;
use crate::lookup::{Answer, Misses};
use crate::metrics::Metrics;
use crate::{CacheOptions, GrantStreamOptions};

/// A stream on which nothing came for so long is dead: the operator sends something every 5 s.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a connection, or an answer that ends, may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Waits between connections: the first, and the longest.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// The first wait, and the longest, before another attempt.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the age of the table is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pieces of the stream that make one table at most, where they are here already: building it costs more than they do.
const PIECES_MAX: usize = 64;

/// The stream cannot be begun as configured.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The URL is none.
    #[error("--grants: https://host:port is needed")]
    Url,
    /// A file cannot be read.
    #[error("{option} {}: {source}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no certificate in the CA's file.
    #[error("--grants-ca: no PEM certificate in it")]
    Ca,
    /// The last table cannot be kept.
    #[error("--grants-cache: {0}")]
    Cache(#[source] CacheError),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{option}")]
    File { option: &'static str, source: std::io::Error },
    #[error("cannot reach the operator")]
    Http(#[source] reqwest::Error),
    #[error("the operator answered {0}")]
    Status(StatusCode),
    #[error("nothing came for {SILENCE_MAX:?}")]
    Silent,
    #[error("the operator ended the stream")]
    Closed,
    #[error("what came is no grant stream")]
    Stream(#[source] tidegate_grants_proto::StreamError),
    #[error("what came makes no table")]
    Table(#[source] tidegate_model::TableError),
}

/// What pieces of the stream said.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// There is a newer table.
    settled: bool,
    /// The operator has no newer table than the one that is known.
    current: bool,
}

/// Keeps a [`Grants`] as the operator has it.
pub struct GrantStream {
    options: GrantStreamOptions,
    grants: Arc<Grants>,
    /// This process, unlike any other.
    instance: String,
    client: watch::Sender<Option<Client>>,
    /// The stream, as the operator named it.
    number: AtomicU64,
    /// The table in force, once there is one.
    in_force: watch::Sender<Option<Resume>>,
    /// When the operator was last heard of, or the table on disk was known to be good.
    heard: watch::Sender<Option<Timestamp>>,
    metrics: Metrics,
}

impl GrantStream {
    /// Puts the last table in force, if there is a good one, and begins to connect; must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError`] when the configuration cannot be right.
    pub fn start(
        options: GrantStreamOptions,
        grants: &Arc<Grants>,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        if !options.url.starts_with("https://") || reqwest::Url::parse(&options.url).is_err() {
            return Err(StartError::Url);
        }
        for (option, path) in [("--grants-ca", &options.ca), ("--grants-token", &options.token)] {
            std::fs::read(path).map_err(|source| StartError::File { option, path: path.clone(), source })?;
        }
        client(&options).map_err(|_| StartError::Ca)?;
        let open = |options: &CacheOptions| Cache::open(options).map_err(StartError::Cache);
        let cache = options.cache.as_ref().map(open).transpose()?;
        let stream = Arc::new(Self {
            options,
            instance: instance(),
            client: watch::Sender::new(None),
            number: AtomicU64::new(0),
            in_force: watch::Sender::new(None),
            heard: watch::Sender::new(None),
            metrics: Metrics::registered(registry),
            grants: Arc::clone(grants),
        });
        let replica = stream.last_table(cache.as_ref());
        grants.look_up_misses(Arc::new(Misses::new(Arc::clone(&stream), now())));
        tokio::spawn(Arc::clone(&stream).run(replica, Keep::new(cache)));
        tokio::spawn(Arc::clone(&stream).watch_age());
        Ok(stream)
    }

    /// The table in force, and each change of that; nothing until there is one.
    #[must_use]
    pub fn table(&self) -> watch::Receiver<Option<Resume>> {
        self.in_force.subscribe()
    }

    /// Waits until a table at least as new, of the same history, is in force.
    pub(crate) async fn in_force(&self, epoch: Epoch, cursor: Cursor) {
        let mut in_force = self.in_force.subscribe();
        let reached = |now: Resume| now.epoch == epoch && now.cursor >= cursor;
        // The sender lives as long as this.
        let _ = in_force.wait_for(|now| now.is_some_and(reached)).await;
    }

    /// Tells the operator that nobody is served here any more, so that it does not wait for this process to have what is
    /// new. The stream is of no use afterward.
    pub async fn leave(&self) {
        let Some(client) = self.client.borrow().clone() else { return };
        let body = Leaving { stream: self.number.load(Ordering::Relaxed) }.to_cbor();
        let told = tokio::time::timeout(LEAVE_MAX, self.post(&client, LEAVING_PATH, body)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!("the operator was not told of the end");
        }
    }

    /// Asks the operator whose a key is.
    pub(crate) async fn ask(&self, key: &KeyHash) -> Answer {
        let Some(client) = self.client.borrow().clone() else { return Answer::Unanswered };
        self.metrics.lookups.inc();
        let body = Lookup { sha256: (*key.as_bytes()).into() }.to_cbor();
        let found = async { self.post(&client, LOOKUP_PATH, body).await.ok()?.bytes().await.ok() };
        let Some(Found { cursor, epoch }) = found.await.and_then(|bytes| Found::from_cbor(&bytes)) else {
            return Answer::Unanswered;
        };
        match (cursor, epoch) {
            (Some(cursor), Some(epoch)) => Answer::Known(Epoch(epoch.into()), Cursor(cursor)),
            (Some(_), None) => Answer::Unanswered,
            (None, _) => Answer::Nobody,
        }
    }

    /// The table on disk, put in force; an empty replica where there is none, or none of use.
    fn last_table(&self, cache: Option<&Cache>) -> Replica {
        match self.kept(cache) {
            Ok(Some((replica, table))) => {
                tracing::info!(cursor = table.cursor.0, "the last table is in force");
                self.in_force.send_replace(Some(table));
                replica
            }
            Ok(None) => Replica::new(),
            Err(error) => {
                tracing::warn!(error = &*error, "the table on disk is not used");
                Replica::new()
            }
        }
    }

    fn kept(
        &self,
        cache: Option<&Cache>,
    ) -> Result<Option<(Replica, Resume)>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(cache) = cache else { return Ok(None) };
        let Some((replica, at)) = cache.load(SystemClock.now(), self.options.staleness_max)? else { return Ok(None) };
        let Some(table) = self.replace(&replica)? else { return Ok(None) };
        self.heard.send_replace(Some(at));
        Ok(Some((replica, table)))
    }

    /// Puts the replica's table in force, if it has one.
    fn replace(&self, replica: &Replica) -> Result<Option<Resume>, Ended> {
        let generation = Generation(tidegate_bridge::GrantSource::table(&*self.grants).generation().0 + 1);
        let table = replica.table(generation, seed()).map_err(Ended::Table)?;
        // Only this task replaces tables, so each is newer than the one before.
        let _ = self.grants.replace(table);
        Ok(replica.resume())
    }

    async fn run(self: Arc<Self>, mut replica: Replica, mut keep: Keep) {
        let mut wait = RETRY_FIRST;
        loop {
            let before = replica.resume();
            let ended = Arc::clone(&self).follow(&mut replica, &mut keep).await;
            self.metrics.connected.set(0);
            self.client.send_replace(None);
            if matches!(ended, Ended::Table(_)) {
                replica.forget();
            }
            replica.handle_disconnect();
            if replica.resume() != before {
                wait = RETRY_FIRST;
            }
            tracing::warn!(
                error = &ended as &dyn std::error::Error,
                "no grant stream, trying on; the last table counts"
            );
            // Spread, so that adapters that lost the operator together do not come back together.
            tokio::time::sleep(wait.mul_f64(0.5 + jitter())).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Follows one stream to its end.
    async fn follow(self: Arc<Self>, replica: &mut Replica, keep: &mut Keep) -> Ended {
        let mut stream = match self.open(replica).await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        self.metrics.connections.inc();
        self.metrics.connected.set(1);
        let acknowledge = self.acknowledger();
        let (mut number, mut has_complained) = (0, false);
        loop {
            let piece = tokio::select! {
                piece = tokio::time::timeout(SILENCE_MAX, stream.chunk()) => piece,
                () = keep.due(now()) => {
                    keep.store(replica, now());
                    continue;
                }
            };
            let heard = match piece {
                Ok(Ok(Some(piece))) => take_in(piece, &mut stream, replica, &mut number, &self.metrics),
                Ok(Ok(None)) => return Ended::Closed,
                Ok(Err(error)) => return Ended::Http(error),
                Err(_elapsed) => return Ended::Silent,
            };
            let heard = match heard {
                Ok(heard) => heard,
                Err(ended) => return ended,
            };
            // A table that was given up since it was too old may be the operator's still.
            let settled = heard.settled || (heard.current && self.in_force.borrow().is_none());
            if settled {
                let table = match tokio::task::block_in_place(|| self.replace(replica)) {
                    Ok(table) => table,
                    Err(ended) => return ended,
                };
                self.in_force.send_replace(table);
                let cursor = table.map_or(0, |table| table.cursor.0);
                self.metrics.cursor.set(i64::try_from(cursor).unwrap_or(i64::MAX));
                keep.is_new();
            }
            // Other bytes say nothing of whether the table in force is the operator's.
            if let Some(table) = replica.resume().filter(|_| settled || heard.current) {
                self.complain_of(table.keys, &mut has_complained);
                let at = SystemClock.now();
                self.heard.send_replace(Some(at));
                keep.is_good(at);
                self.number.store(number, Ordering::Relaxed);
                acknowledge.send_replace(Some(Acknowledgement { stream: number, cursor: table.cursor.0 }));
            }
        }
    }

    /// Says once a stream that there are no keys in clear where some were asked for.
    fn complain_of(&self, keys: Keys, has_complained: &mut bool) {
        if self.options.shared_keys && keys == Keys::Hashed && !std::mem::replace(has_complained, true) {
            tracing::warn!(
                "the operator gives no keys in clear, so pre-shared keys are refused over DTLS: this takes the pods of an \
                 Adapter of CoAP that takes them over DTLS, or the verb get on adapters/keys in group tidegate.io"
            );
        }
    }

    /// Tells the operator of the newest table that is in force, once nobody whom it revokes has an open session; ends
    /// with the stream, whose end of it this returns.
    fn acknowledger(self: &Arc<Self>) -> watch::Sender<Option<Acknowledgement>> {
        let (newest, mut told) = watch::channel(None::<Acknowledgement>);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            while told.changed().await.is_ok() {
                let (said, client) = (*told.borrow_and_update(), this.client.borrow().clone());
                let (Some(said), Some(client)) = (said, client) else { continue };
                this.grants.revoked_ended(SystemClock.now()).await;
                if let Err(error) = this.post(&client, ACKNOWLEDGED_PATH, said.to_cbor()).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a table is not acknowledged");
                }
            }
        });
        newest
    }

    async fn open(&self, replica: &Replica) -> Result<Response, Ended> {
        let client = client(&self.options)?;
        let resume = replica.resume().map(|resume| format!("&{}", resume.to_query())).unwrap_or_default();
        let keys = if self.options.shared_keys { format!("&{}", Keys::SHARED_QUERY) } else { String::new() };
        let url = format!("{}{GRANTS_PATH}?instance={}{keys}{resume}", self.options.url, self.instance);
        let sent = client.get(url).bearer_auth(self.token()?).send();
        let answer = match tokio::time::timeout(ANSWER_MAX, sent).await {
            Ok(answer) => answer.map_err(Ended::Http)?,
            Err(_elapsed) => return Err(Ended::Silent),
        };
        if !answer.status().is_success() {
            return Err(Ended::Status(answer.status()));
        }
        self.client.send_replace(Some(client));
        Ok(answer)
    }

    async fn post(&self, client: &Client, path: &str, body: Vec<u8>) -> Result<Response, Ended> {
        let request = client.post(format!("{}{path}", self.options.url)).bearer_auth(self.token()?);
        let answer = request.timeout(ANSWER_MAX).body(body).send().await.map_err(Ended::Http)?;
        if answer.status().is_success() { Ok(answer) } else { Err(Ended::Status(answer.status())) }
    }

    fn token(&self) -> Result<String, Ended> {
        let read = std::fs::read_to_string(&self.options.token);
        Ok(read.map_err(|source| Ended::File { option: "--grants-token", source })?.trim().to_owned())
    }

    /// Refuses everyone once the operator was not heard of for too long.
    async fn watch_age(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(heard) = *self.heard.borrow() else { continue };
            let age = SystemClock.now().saturating_since(heard);
            self.metrics.age_seconds.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            let too_old = !self.options.staleness_max.is_zero() && age > self.options.staleness_max;
            if too_old && self.in_force.borrow().is_some() {
                tracing::error!(?age, "the table is too old: everyone is refused until the operator is heard of");
                let generation = tidegate_bridge::GrantSource::table(&*self.grants).generation();
                let refusing = tidegate_model::GrantTableBuilder::new(Generation(generation.0 + 1), 0).build();
                let _ = self.grants.replace(refusing);
                self.in_force.send_replace(None);
            }
        }
    }
}

/// Takes in a piece of the stream, and all others that are here already.
fn take_in(
    mut piece: Bytes,
    stream: &mut Response,
    replica: &mut Replica,
    number: &mut u64,
    metrics: &Metrics,
) -> Result<Heard, Ended> {
    let mut heard = Heard::default();
    let mut taken = 1;
    loop {
        metrics.bytes.inc_by(piece.len() as u64);
        replica.handle_bytes(&piece);
        while let Some(progress) = replica.poll_progress().map_err(Ended::Stream)? {
            match progress {
                Progress::Opened { stream } => *number = stream,
                Progress::Settled(_) => heard.settled = true,
                Progress::Alive(cursor) => {
                    heard.current = replica.resume().is_some_and(|table| table.cursor == cursor);
                }
            }
        }
        if taken == PIECES_MAX {
            return Ok(heard);
        }
        // The end, however it comes, is told again to whoever waits for the next piece.
        let Some(Ok(Some(next))) = stream.chunk().now_or_never() else { return Ok(heard) };
        piece = next;
        taken += 1;
    }
}

/// A client that trusts the operator's CA and nobody else.
fn client(options: &GrantStreamOptions) -> Result<Client, Ended> {
    let pem = std::fs::read(&options.ca).map_err(|source| Ended::File { option: "--grants-ca", source })?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(Ended::Http)?;
    let builder = Client::builder().tls_certs_only(certificates).http2_prior_knowledge().https_only(true).no_proxy();
    builder.connect_timeout(ANSWER_MAX).build().map_err(Ended::Http)
}

#[expect(clippy::disallowed_methods, reason = "a driver names its process")]
fn instance() -> String {
    Uuid::new_v4().to_string()
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    u64::from_be_bytes(bytes)
}

/// From 0 to 1.
fn jitter() -> f64 {
    f64::from(u32::try_from(seed() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[expect(clippy::disallowed_methods, reason = "a driver reads the clock")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tidegate_grants_proto::{Journal, JournalLimits};

    use super::*;

    /// However many pieces are here at once, none is lost.
    #[tokio::test]
    async fn a_table_of_many_pieces_is_taken_in_whole() {
        let (frames, _) = Journal::new(Epoch([1; 16]), JournalLimits::default()).open(None, 5, Keys::Hashed);
        // A byte a piece: the table, and heartbeats, far more than are taken at once.
        let beat = Journal::new(Epoch([1; 16]), JournalLimits::default()).heartbeat();
        let beats = std::iter::repeat_n(beat, 100).flatten();
        let bytes: Vec<u8> = frames.into_iter().flatten().chain(beats).collect();
        assert!(bytes.len() > 3 * PIECES_MAX, "{} pieces", bytes.len());
        let pieces: Vec<_> = bytes.iter().map(|byte| Ok::<_, Infallible>(Bytes::copy_from_slice(&[*byte]))).collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let mut stream = Response::from(http::Response::new(body));
        let (mut replica, mut number, mut rounds) = (Replica::new(), 0, 0);
        let metrics = Metrics::default();
        while let Some(piece) = stream.chunk().await.unwrap() {
            take_in(piece, &mut stream, &mut replica, &mut number, &metrics).unwrap();
            rounds += 1;
        }
        assert_eq!((number, replica.resume().unwrap().cursor), (5, Cursor(0)));
        assert_eq!(metrics.bytes.get(), bytes.len() as u64);
        assert!(rounds > 3, "{rounds}");
    }
}
