//! The Lease object: holds it, renews it, and tells the process when it may write.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::now;
use crate::election::{Attempt, Election, ElectionTimes, LeaseRecord};

/// How long one write to the API server may take. With [`ElectionTimes`] it makes sure that a holder's last write has
/// ended before the next holder's first: 10 s until it gives up, and 4 s, are less than 15 s.
const WRITE_MAX: Duration = Duration::from_secs(4);

/// Bounds a call by [`WRITE_MAX`]: the client alone would try for minutes.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(WRITE_MAX, call).await {
        Ok(outcome) => outcome,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}

/// The right to write, asked before each write. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether this process may begin a write now that takes [`WRITE_MAX`] at most.
    #[must_use]
    pub(crate) fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| now() < until)
    }

    /// Waits until the lease is held.
    pub(crate) async fn held(&mut self) {
        // The sender lives as long as the process.
        let _ = self.0.wait_for(Option::is_some).await;
    }
}

/// Where the lease lies and who asks for it.
#[derive(Clone, Debug)]
pub(crate) struct LeaseOptions {
    /// Its namespace: the operator's own.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// This process, unlike any other.
    pub(crate) identity: String,
    /// How long each step may take.
    pub(crate) times: ElectionTimes,
    /// Where other replicas reach this one.
    pub(crate) advertised: Option<SocketAddr>,
}

/// The annotation of the lease that says where its holder is reached.
const ADDRESS_ANNOTATION: &str = "tidegate.io/address";

/// The lease was held and is not any more: the process must end.
#[derive(Debug, thiserror::Error)]
#[error("the lease {namespace}/{name} was lost")]
pub struct LeaseLost {
    namespace: String,
    name: String,
}

/// Competes for the lease.
pub(crate) struct LeaseHolder {
    api: Api<Lease>,
    options: LeaseOptions,
    election: Election,
    until: watch::Sender<Option<Instant>>,
    leader: watch::Sender<Option<SocketAddr>>,
}

impl LeaseHolder {
    /// A candidate, and what tells the rest of the process whether it may write.
    #[must_use]
    pub(crate) fn new(client: Client, options: LeaseOptions) -> (Self, Leadership) {
        let (until, leadership) = watch::channel(None);
        let election = Election::new(options.identity.clone(), options.times);
        let api = Api::namespaced(client, &options.namespace);
        (Self { api, options, election, until, leader: watch::Sender::new(None) }, Leadership(leadership))
    }

    /// Where the holder is, as it says, if it is another.
    pub(crate) fn leader(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.leader.subscribe()
    }

    /// Competes until the lease is lost, or until `stop` comes true, and then gives it back.
    ///
    /// # Errors
    /// [`LeaseLost`] when it was held and could not be renewed.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), LeaseLost> {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = self.round() => {}
                () = &mut stop => {
                    self.release().await;
                    return Ok(());
                }
            }
            if self.election.is_lost(now()) {
                self.until.send_replace(None);
                let LeaseOptions { namespace, name, .. } = self.options;
                return Err(LeaseLost { namespace, name });
            }
            tokio::select! {
                () = tokio::time::sleep(self.options.times.retry_period) => {}
                () = &mut stop => {
                    self.release().await;
                    return Ok(());
                }
            }
        }
    }

    /// One look at the lease, and one write where it is ours to write.
    async fn round(&mut self) {
        if let Err(error) = in_time(self.attempt()).await {
            tracing::warn!(%error, "the lease could not be read or written");
        }
    }

    async fn attempt(&mut self) -> Result<(), Error> {
        let found = self.api.get_opt(&self.options.name).await?;
        let seen = found.as_ref().map(record);
        let other = found.as_ref().filter(|lease| record(lease).holder != self.options.identity).and_then(address);
        self.leader.send_if_modified(|leader| std::mem::replace(leader, other) != other);
        let begun = now();
        let written = match self.election.handle_lease(seen, begun) {
            Attempt::Wait => return Ok(()),
            Attempt::Create => self.api.create(&PostParams::default(), &self.lease(None)).await,
            Attempt::Take { seen } => {
                let lease = self.lease(found.as_ref().map(|lease| (lease, seen.transitions + 1)));
                self.api.replace(&self.options.name, &PostParams::default(), &lease).await
            }
            Attempt::Renew { seen } => {
                let lease = self.lease(found.as_ref().map(|lease| (lease, seen.transitions)));
                self.api.replace(&self.options.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                if self.election.held_until().is_none() {
                    tracing::info!(identity = self.options.identity, "holding the lease");
                }
                self.election.handle_written(record(&lease), begun);
                self.until.send_replace(self.election.held_until());
                Ok(())
            }
            // Somebody else was faster.
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The lease as this process would have it; over `before`, of which the version and the foreign fields stay.
    fn lease(&self, before: Option<(&Lease, i32)>) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        let ours = |lease: &Lease| record(lease).holder == self.options.identity;
        let kept = before.filter(|(lease, _)| ours(lease)).and_then(|(lease, _)| lease.spec.clone());
        let acquired = kept.and_then(|spec| spec.acquire_time).unwrap_or_else(|| now.clone());
        let mut metadata = before.map_or_else(
            || ObjectMeta { name: Some(self.options.name.clone()), ..ObjectMeta::default() },
            |(lease, _)| lease.metadata.clone(),
        );
        let annotations = metadata.annotations.get_or_insert_default();
        match self.options.advertised {
            Some(address) => drop(annotations.insert(ADDRESS_ANNOTATION.to_owned(), address.to_string())),
            None => drop(annotations.remove(ADDRESS_ANNOTATION)),
        }
        let seconds = i32::try_from(self.options.times.lease_duration.as_secs()).unwrap_or(i32::MAX);
        let spec = LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(acquired),
            renew_time: Some(now),
            lease_transitions: Some(before.map_or(0, |(_, transitions)| transitions)),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Gives the lease back, so that the next one need not wait for its end.
    async fn release(&mut self) {
        if self.election.held_until().is_none() {
            return;
        }
        self.until.send_replace(None);
        if in_time(self.give_back()).await.is_err() {
            tracing::warn!("the lease could not be given back: it ends by itself");
        }
    }

    async fn give_back(&self) -> Result<(), Error> {
        let mut lease = self.api.get(&self.options.name).await?;
        if record(&lease).holder != self.options.identity {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        }
        self.api.replace(&self.options.name, &PostParams::default(), &lease).await.map(drop)
    }
}

fn record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseRecord {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15)),
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

fn address(lease: &Lease) -> Option<SocketAddr> {
    lease.metadata.annotations.as_ref()?.get(ADDRESS_ANNOTATION)?.parse().ok()
}
