//! From watches to the state: every change, and what vanished between two lists.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use tidegate_api::{Adapter, CREDENTIALS_LABEL, Channel, PREVIOUS_KEY_NOT_AFTER_ANNOTATION, ROTATED_ANNOTATION, Thing};
use tidegate_plan::{KeySecret, ObjectId, OwnedKind, THING_LABEL};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::state::{Known, State, Subject};
use crate::watches::{Change, Owned, Seen};

/// Changes of one kind that wait to be taken in.
pub(crate) const WAITING_MAX: usize = 256;

/// The changes of every kind.
pub(crate) struct Changes {
    /// Of Things.
    pub(crate) things: mpsc::Receiver<Change<Thing>>,
    /// Of Channels.
    pub(crate) channels: mpsc::Receiver<Change<Channel>>,
    /// Of Secrets with the label.
    pub(crate) secrets: mpsc::Receiver<Change<Secret>>,
    /// Of Adapters.
    pub(crate) adapters: mpsc::Receiver<Change<Adapter>>,
    /// Of what Adapters own.
    pub(crate) owned: mpsc::Receiver<(OwnedKind, Change<Owned>)>,
}

/// Which kinds were listed once.
#[derive(Default)]
struct Listed {
    things: bool,
    channels: bool,
    secrets: bool,
}

/// Takes in changes for ever. What comes together is settled together.
pub(crate) async fn run(mut changes: Changes, state: &State, now: impl Fn() -> Instant) {
    let mut listed = Listed::default();
    let (mut things, mut channels, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut adapters, mut owned) = (Vec::new(), Vec::new());
    loop {
        let taken = tokio::select! {
            taken = changes.adapters.recv_many(&mut adapters, WAITING_MAX) => taken,
            taken = changes.owned.recv_many(&mut owned, WAITING_MAX) => taken,
            taken = changes.things.recv_many(&mut things, WAITING_MAX) => taken,
            taken = changes.channels.recv_many(&mut channels, WAITING_MAX) => taken,
            taken = changes.secrets.recv_many(&mut secrets, WAITING_MAX) => taken,
        };
        if taken == 0 {
            return;
        }
        if !adapters.is_empty() || !owned.is_empty() {
            {
                let mut known = state.known();
                adapters.drain(..).for_each(|change| observe(change, &mut known));
                owned.drain(..).for_each(|(kind, change)| observe_owned(kind, change, &mut known));
            }
            state.wake();
            continue;
        }
        {
            let mut known = state.known();
            for change in channels.drain(..) {
                listed.channels |= matches!(change, Change::All(_));
                observe(change, &mut known);
            }
            for change in secrets.drain(..) {
                listed.secrets |= matches!(change, Change::All(_));
                observe(change, &mut known);
            }
            for change in things.drain(..) {
                listed.things |= matches!(change, Change::All(_));
                observe(change, &mut known);
            }
        }
        state.settle(listed.things && listed.channels && listed.secrets, now());
    }
}

/// What a kind does to what is known.
trait Observed: Sized {
    /// `None` when it is gone, or when it cannot be read: then nothing may follow from it.
    fn observe(known: &mut Known, id: &ObjectId, object: Option<Self>);
    fn id(&self) -> ObjectId;
    /// Who is told of one that cannot be read.
    fn subject(id: &ObjectId) -> Option<Subject>;
    /// Those that are known and not among `present`.
    fn beside(known: &Known, present: &BTreeSet<ObjectId>) -> Vec<ObjectId>;
    /// All of them were seen.
    fn listed(_: &mut Known) {}
}

fn observe<K: Observed>(change: Change<K>, known: &mut Known) {
    match change {
        Change::Applied(seen) => drop(observe_seen(seen, known)),
        Change::Gone(metadata) => {
            let id = ObjectId::of(&metadata);
            K::subject(&id).into_iter().for_each(|subject| known.observe_unreadable(subject, None));
            K::observe(known, &id, None);
        }
        Change::All(all) => {
            let present = all.into_iter().map(|seen| observe_seen(seen, known)).collect();
            for id in K::beside(known, &present) {
                K::observe(known, &id, None);
            }
            K::listed(known);
        }
    }
}

/// What Adapters own is kept for the eyes of whoever reconciles them.
fn observe_owned(kind: OwnedKind, change: Change<Owned>, known: &mut Known) {
    match change {
        Change::Applied(Seen::Object(Owned { id, object })) => known.fleet.observe_owned(kind, id, Some(object)),
        Change::Gone(metadata) => known.fleet.observe_owned(kind, ObjectId::of(&metadata), None),
        Change::All(all) => {
            let all = all.into_iter().filter_map(|seen| match seen {
                Seen::Object(Owned { id, object }) => Some((id, object)),
                Seen::Unreadable { .. } => None,
            });
            known.fleet.observe_all_owned(kind, all.collect());
        }
        Change::Applied(Seen::Unreadable { .. }) => {}
    }
    known.queue_adapters();
}

fn observe_seen<K: Observed>(seen: Seen<K>, known: &mut Known) -> ObjectId {
    match seen {
        Seen::Object(object) => {
            let id = object.id();
            K::subject(&id).into_iter().for_each(|subject| known.observe_unreadable(subject, None));
            K::observe(known, &id, Some(object));
            id
        }
        Seen::Unreadable { metadata, why } => {
            let id = ObjectId::of(&metadata);
            tracing::warn!(namespace = %id.namespace, name = %id.name, why, "an object cannot be read and counts for nothing");
            K::observe(known, &id, None);
            if let Some(subject) = K::subject(&id) {
                known.observe_unreadable(subject, Some((*metadata, why)));
            }
            id
        }
    }
}

macro_rules! observed {
    ($type:ident, $observe:ident, $beside:ident) => {
        impl Observed for $type {
            fn observe(known: &mut Known, id: &ObjectId, object: Option<Self>) {
                known.compiler.$observe(id, object);
            }

            fn id(&self) -> ObjectId {
                ObjectId::of(&self.metadata)
            }

            fn subject(id: &ObjectId) -> Option<Subject> {
                Some(Subject::$type(id.clone()))
            }

            fn beside(known: &Known, present: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
                known.compiler.$beside(present)
            }
        }
    };
}

observed!(Thing, observe_thing, things_beside);
observed!(Channel, observe_channel, channels_beside);

impl Observed for Secret {
    fn observe(known: &mut Known, id: &ObjectId, object: Option<Self>) {
        known.compiler.observe_secret(id, object.map(|secret| key_secret(&secret)));
    }

    fn id(&self) -> ObjectId {
        ObjectId::of(&self.metadata)
    }

    fn subject(_: &ObjectId) -> Option<Subject> {
        None
    }

    fn beside(known: &Known, present: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        known.compiler.secrets_beside(present)
    }
}

impl Observed for Adapter {
    fn observe(known: &mut Known, id: &ObjectId, object: Option<Self>) {
        known.fleet.observe_adapter(id, object);
        known.queue_adapters();
    }

    fn id(&self) -> ObjectId {
        ObjectId::of(&self.metadata)
    }

    fn subject(id: &ObjectId) -> Option<Subject> {
        Some(Subject::Adapter(id.clone()))
    }

    fn beside(known: &Known, present: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        known.fleet.adapters().filter(|id| !present.contains(id)).cloned().collect()
    }

    fn listed(known: &mut Known) {
        known.fleet.adapters_listed();
        known.queue_adapters();
    }
}

/// A Secret as far as keys are concerned.
#[must_use]
pub(crate) fn key_secret(secret: &Secret) -> KeySecret {
    let metadata = &secret.metadata;
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name));
    let entries = secret.data.iter().flatten().map(|(name, value)| (name.clone(), value.0.clone())).collect();
    let ours = [PREVIOUS_KEY_NOT_AFTER_ANNOTATION, ROTATED_ANNOTATION];
    let annotations = metadata.annotations.iter().flatten().filter(|(name, _)| ours.contains(&name.as_str()));
    let owners = metadata.owner_references.iter().flatten();
    KeySecret {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        labelled: label(CREDENTIALS_LABEL).is_some_and(|value| value == "true"),
        entries,
        annotations: annotations.map(|(name, value)| (name.clone(), value.clone())).collect(),
        made_for: label(THING_LABEL).cloned(),
        owner_uid: owners.filter(|owner| owner.kind == "Thing").map(|owner| owner.uid.clone()).next(),
    }
}
