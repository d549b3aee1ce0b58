//! The only part that writes to the API server, and only while the lease is held: generated Secrets, and statuses.
//!
//! Objects are looked at one by one, the newest change first; what is as it should be is not written.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::EventType;
use kube::{Client, Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tidegate_api::{
    API_VERSION, Adapter, AdapterStatus, CREDENTIALS_LABEL, Channel, ChannelStatus, Condition, KEY_ENTRY,
    PREVIOUS_KEY_ENTRY, PREVIOUS_KEY_NOT_AFTER_ANNOTATION, ROTATED_ANNOTATION, Reason, Thing, ThingStatus,
};
use tidegate_plan::{
    ObjectId, SecretStep, THING_LABEL, WantedSecret, channel_status, secret_step, thing_changes_at, thing_status,
};
use tokio::time::{Interval, MissedTickBehavior};

use crate::clock::{now, timestamp, whole_seconds};
use crate::events::{Events, reference};
use crate::intake::key_secret;
use crate::lease::{Leadership, in_time};
use crate::metrics::Metrics;
use crate::reconcile::Accepted;
use crate::state::{State, Subject};

/// The field manager of everything that the operator writes.
pub(crate) const FIELD_MANAGER: &str = "tidegate";
/// How soon an object is looked at again when it could not be written.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long after a write its outcome has been observed, by any measure.
const OBSERVED_AFTER: Duration = Duration::from_secs(5);
/// How soon a name that is in use is looked at again.
const CONFLICT_AGAIN: Duration = Duration::from_secs(10);
/// Objects that are written at once.
pub(crate) const AT_ONCE: usize = 8;

/// Writes what there is to write.
pub(crate) struct Writer {
    /// What is known.
    pub(crate) state: Arc<State>,
    /// The API server.
    pub(crate) client: Client,
    /// Whether it may write.
    pub(crate) leadership: Leadership,
    /// The broker's exchange, for the status of Channels.
    pub(crate) exchange: String,
    /// When the next write may begin.
    pub(crate) pace: tokio::sync::Mutex<Interval>,
    /// What it counts.
    pub(crate) metrics: Metrics,
    /// What it tells people.
    pub(crate) events: Events,
    /// What the API server made of owned objects.
    pub(crate) accepted: Accepted,
}

/// A kind whose status the operator writes.
pub(crate) trait Stated:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug
{
    /// Its status.
    type Status: Serialize + PartialEq + Send + Sync;
    /// What it says now.
    fn stated(&self) -> Option<&Self::Status>;
    /// The conditions of a status.
    fn conditions(status: &Self::Status) -> &[Condition];
}

macro_rules! stated {
    ($type:ident, $status:ident) => {
        impl Stated for $type {
            type Status = $status;

            fn stated(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn conditions(status: &$status) -> &[Condition] {
                &status.conditions
            }
        }
    };
}

stated!(Thing, ThingStatus);
stated!(Channel, ChannelStatus);
stated!(Adapter, AdapterStatus);

/// At most so many writes in a second.
#[must_use]
pub(crate) fn pace(writes_per_second: u32) -> tokio::sync::Mutex<Interval> {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / writes_per_second.max(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::sync::Mutex::new(interval)
}

/// What came of a write.
pub(crate) enum Written {
    /// It is as it should be.
    Done,
    /// Its status was written. Whether that still stands shows once it has been observed.
    Said,
    /// The lease is not held, or the object changed meanwhile: look again.
    Again,
}

impl Writer {
    /// Looks at objects for ever; several of these may run.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut leadership = self.leadership.clone();
        loop {
            leadership.held().await;
            let subject = self.state.next_subject(now).await;
            self.tell_unreadable(&subject).await;
            let outcome = match &subject {
                Subject::Thing(id) => self.thing(id, &subject).await,
                Subject::Channel(id) => self.channel(id, &subject).await,
                Subject::Adapter(id) => self.adapter(id).await,
            };
            match outcome {
                Ok(Written::Done) => {}
                // What was to be said may have changed back before it was observed, and looked as if it were said already.
                Ok(Written::Said) => self.state.look_again(subject.clone(), now() + OBSERVED_AFTER),
                Ok(Written::Again) => self.state.look_again(subject.clone(), now() + RETRY_AFTER),
                Err(error) => {
                    self.metrics.failed_writes.inc();
                    tracing::warn!(?subject, error = &error as &dyn std::error::Error, "cannot write, trying again");
                    self.state.look_again(subject.clone(), now() + RETRY_AFTER);
                }
            }
            self.state.looked_at(subject);
        }
    }

    /// An object that cannot be read has no status that could be written: its author is told by an event.
    async fn tell_unreadable(&self, subject: &Subject) {
        let Some(unreadable) = self.state.known().take_untold(subject) else { return };
        let kind = match subject {
            Subject::Thing(_) => "Thing",
            Subject::Channel(_) => "Channel",
            Subject::Adapter(_) => "Adapter",
        };
        let (of, reason) = (reference(kind, &unreadable.metadata), Reason::InvalidSpec.to_string());
        let note = format!("it cannot be read and counts for nothing: {}", unreadable.why);
        self.events.tell(&of, EventType::Warning, &reason, &note).await;
    }

    async fn thing(&self, id: &ObjectId, subject: &Subject) -> Result<Written, Error> {
        let Some(thing) = self.state.known().compiler.thing(id).cloned() else { return Ok(Written::Done) };
        if thing.metadata.deletion_timestamp.is_none()
            && let Written::Again = self.generated_secret(id, &thing).await?
        {
            return Ok(Written::Again);
        }
        let (wanted, thing) = {
            let mut known = self.state.known();
            let Some(programmed) = known.programmed(subject, now()) else { return Ok(Written::Done) };
            let (Some(thing), Some(outcome)) = (known.compiler.thing(id), known.compiler.thing_outcome(id)) else {
                return Ok(Written::Done);
            };
            let wanted = thing_status(thing, &outcome, known.conflicts.contains(id), programmed, whole_seconds());
            let thing = thing.clone();
            if let Some(at) = thing_changes_at(&outcome, timestamp()) {
                let span = at.saturating_since(timestamp()) + Duration::from_millis(10);
                known.look_again(subject.clone(), now() + span.min(Duration::from_secs(24 * 60 * 60)));
            }
            (wanted, thing)
        };
        self.status(&thing, id, &wanted).await
    }

    async fn channel(&self, id: &ObjectId, subject: &Subject) -> Result<Written, Error> {
        let (wanted, channel) = {
            let mut known = self.state.known();
            let Some(programmed) = known.programmed(subject, now()) else { return Ok(Written::Done) };
            let (Some(channel), Some(outcome)) = (known.compiler.channel(id), known.compiler.channel_outcome(id))
            else {
                return Ok(Written::Done);
            };
            let said = (&*self.exchange, known.broker);
            (channel_status(channel, &outcome, said, programmed, whole_seconds()), channel.clone())
        };
        self.status(&channel, id, &wanted).await
    }

    /// Whether a write may begin; waits for its turn.
    pub(crate) async fn may_write(&self) -> bool {
        self.pace.lock().await.tick().await;
        self.leadership.is_held()
    }

    /// Says what is to be said of an object, where it is not said yet.
    pub(crate) async fn status<K: Stated>(&self, of: &K, id: &ObjectId, wanted: &K::Status) -> Result<Written, Error> {
        if of.stated() == Some(wanted) {
            return Ok(Written::Done);
        }
        if !self.may_write().await {
            return Ok(Written::Again);
        }
        let kind = K::kind(&());
        let api: Api<K> = Api::namespaced(self.client.clone(), &id.namespace);
        let patch = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": &*id.name}, "status": wanted});
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match in_time(api.patch_status(&id.name, &params, &Patch::Apply(&patch))).await {
            Ok(_) => {
                self.metrics.status_writes.inc();
                let before = of.stated().map_or(&[][..], K::conditions);
                self.events.ready_changed(&reference(&kind, of.meta()), before, K::conditions(wanted)).await;
                Ok(Written::Said)
            }
            // It is gone: the watch will say so too.
            Err(Error::Api(status)) if status.is_not_found() => Ok(Written::Done),
            Err(error) => Err(error),
        }
    }

    /// Makes or mends the Secret of a generated key.
    async fn generated_secret(&self, id: &ObjectId, thing: &Thing) -> Result<Written, Error> {
        let Some(name) = thing.spec.credentials.generated_secret(&id.name) else {
            self.state.known().conflicts.remove(id);
            return Ok(Written::Done);
        };
        let secret_id = ObjectId::new(&id.namespace, &name);
        let seen = self.state.known().compiler.secret(&secret_id).cloned();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &id.namespace);
        match secret_step(thing, seen.as_ref(), whole_seconds(), random) {
            SecretStep::Leave => {
                self.state.known().conflicts.remove(id);
                Ok(Written::Done)
            }
            SecretStep::Conflict => {
                self.conflict(id);
                Ok(Written::Done)
            }
            SecretStep::Create(wanted) => self.create(&api, id, thing, &name, wanted).await,
            SecretStep::Update(_) => self.update(&api, id, thing, &name).await,
        }
    }

    fn conflict(&self, id: &ObjectId) {
        self.state.known().conflicts.insert(id.clone());
        self.state.look_again(Subject::Thing(id.clone()), now() + CONFLICT_AGAIN);
    }

    async fn create(
        &self,
        api: &Api<Secret>,
        id: &ObjectId,
        thing: &Thing,
        name: &str,
        wanted: WantedSecret,
    ) -> Result<Written, Error> {
        if !self.may_write().await {
            return Ok(Written::Again);
        }
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let mut secret = Secret { metadata, type_: Some("Opaque".to_owned()), ..Secret::default() };
        put(&mut secret, thing, wanted);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match in_time(api.create(&params, &secret)).await {
            Ok(_) => {
                self.metrics.keys_generated.inc();
                self.state.known().conflicts.remove(id);
                Ok(Written::Done)
            }
            // Either it is not ours, or the watch has not brought it yet.
            Err(Error::Api(status)) if status.is_already_exists() => self.update(api, id, thing, name).await,
            Err(error) => Err(error),
        }
    }

    async fn update(&self, api: &Api<Secret>, id: &ObjectId, thing: &Thing, name: &str) -> Result<Written, Error> {
        let Some(mut secret) = in_time(api.get_opt(name)).await? else { return Ok(Written::Again) };
        match secret_step(thing, Some(&key_secret(&secret)), whole_seconds(), random) {
            SecretStep::Leave | SecretStep::Create(_) => {
                self.state.known().conflicts.remove(id);
                return Ok(Written::Done);
            }
            SecretStep::Conflict => {
                self.conflict(id);
                return Ok(Written::Done);
            }
            SecretStep::Update(wanted) => put(&mut secret, thing, wanted),
        }
        if !self.may_write().await {
            return Ok(Written::Again);
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match in_time(api.replace(name, &params, &secret)).await {
            Ok(_) => {
                self.state.known().conflicts.remove(id);
                Ok(Written::Done)
            }
            Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(Written::Again),
            Err(error) => Err(error),
        }
    }
}

/// Puts what is ours into a Secret, and leaves what is others'.
fn put(secret: &mut Secret, thing: &Thing, wanted: WantedSecret) {
    let WantedSecret { key, previous, rotated } = wanted;
    let data = secret.data.get_or_insert_default();
    data.insert(KEY_ENTRY.to_owned(), ByteString(key));
    let annotations = secret.metadata.annotations.get_or_insert_default();
    match previous {
        Some((previous, end)) => {
            data.insert(PREVIOUS_KEY_ENTRY.to_owned(), ByteString(previous));
            annotations.insert(PREVIOUS_KEY_NOT_AFTER_ANNOTATION.to_owned(), end);
        }
        None => {
            data.remove(PREVIOUS_KEY_ENTRY);
            annotations.remove(PREVIOUS_KEY_NOT_AFTER_ANNOTATION);
        }
    }
    match rotated {
        Some(rotated) => drop(annotations.insert(ROTATED_ANNOTATION.to_owned(), rotated)),
        None => drop(annotations.remove(ROTATED_ANNOTATION)),
    }
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.insert(CREDENTIALS_LABEL.to_owned(), "true".to_owned());
    labels.extend(thing.metadata.name.clone().map(|name| (THING_LABEL.to_owned(), name)));
    let owners = secret.metadata.owner_references.get_or_insert_default();
    owners.retain(|owner| owner.kind != "Thing");
    owners.push(OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "Thing".to_owned(),
        name: thing.metadata.name.clone().unwrap_or_default(),
        uid: thing.metadata.uid.clone().unwrap_or_default(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    });
}

pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}
