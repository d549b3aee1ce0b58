//! From Channels, Things and Secrets to the contents of a grant table: the whole at once by [`plan`], or one change at a
//! time by [`Compiler`].
//!
//! Pure and deterministic: the same objects in any order make the same plan, and one bad object never harms another.
//! Must not know a clock, a client, a file; must never put a key or a hash into words.

mod adapter;
mod compile;
mod compiler;
mod generated;
mod keys;
mod objects;
mod status;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use tidegate_api::{Channel, Reason, Thing};
use tidegate_model::{Delta, TableContents};

use crate::objects::{Object, Rank};

pub use adapter::{
    ADAPTER_LABEL, APPLIED_ANNOTATION, AdapterObserved, AdapterPlan, BrokerSecret, Heard, Installation, MANAGED_BY,
    MANAGED_BY_LABEL, OwnedKind, adapter_plan, adapter_status, applied, differs, projection,
};
pub use compiler::{ChannelOutcome, Compiler, ConnectionOutcome, Settled, ThingOutcome};
pub use generated::{SecretStep, THING_LABEL, WantedSecret, secret_step};
pub use keys::KeyOutcome;
pub use objects::{Fault, ObjectId};
pub use status::{BrokerState, Programmed, channel_status, thing_changes_at, thing_status};

/// A Secret as far as keys are concerned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeySecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it bears the label that lets it hold keys.
    pub labelled: bool,
    /// Its entries, decoded.
    pub entries: BTreeMap<String, Vec<u8>>,
    /// Its annotations, as far as they are about keys.
    pub annotations: BTreeMap<String, String>,
    /// The Thing that the operator made it for, by its label.
    pub made_for: Option<String>,
    /// The uid of the Thing that owns it.
    pub owner_uid: Option<String>,
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySecret")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All that was found, in any order.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Channels.
    pub channels: Vec<Channel>,
    /// The Things.
    pub things: Vec<Thing>,
    /// The Secrets.
    pub secrets: Vec<KeySecret>,
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Channel.
    Channel,
    /// A Thing.
    Thing,
    /// A Secret.
    Secret,
}

/// Something about one object that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The kind of the object.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is about, from a closed set.
    pub reason: Reason,
    /// The same in words; the same failure always in the same ones.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, reason, message } = self;
        write!(f, "{kind:?} {namespace}/{name}: {reason}: {message}")
    }
}

/// What is to be in force, and what is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Always makes a table.
    pub contents: TableContents,
    /// In the order of kind, namespace and name.
    pub findings: Vec<Finding>,
}

/// Compiles everything.
#[must_use]
pub fn plan(observed: Observed) -> Plan {
    let Observed { channels, things, mut secrets } = observed;
    let (mut compiler, mut findings) = (Compiler::new(), Vec::new());
    for (id, channel) in distinct(channels, &mut findings) {
        compiler.observe_channel(&id, Some(channel));
    }
    for (id, thing) in distinct(things, &mut findings) {
        compiler.observe_thing(&id, Some(thing));
    }
    secrets.sort_unstable();
    let mut seen = BTreeSet::new();
    for secret in secrets {
        let id = ObjectId::new(&secret.namespace, &secret.name);
        if seen.insert(id.clone()) {
            compiler.observe_secret(&id, Some(secret));
        } else {
            findings.push(another_has_the_name(Kind::Secret, &id));
        }
    }
    let Delta { mut channels, mut things, .. } = compiler.settle().delta;
    channels.sort_by(|a, b| a.id.cmp(&b.id));
    things.sort_by(|a, b| a.id.cmp(&b.id));
    findings.extend(compiler.findings());
    findings.sort();
    Plan { contents: TableContents { channels, things }, findings }
}

/// The oldest object of each name; of the others it is said that they are not.
fn distinct<O: Object + Serialize>(objects: Vec<O>, findings: &mut Vec<Finding>) -> BTreeMap<ObjectId, O> {
    let mut ranked: Vec<_> = objects
        .into_iter()
        .map(|object| {
            // For one name and one age the content decides, so that the order of files does not.
            let content = serde_json::to_string(&object).unwrap_or_default();
            ((object.violations().len(), Rank::of(object.metadata()), content), object)
        })
        .collect();
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut named = BTreeMap::new();
    for (_, object) in ranked {
        match named.entry(ObjectId::of(object.metadata())) {
            Entry::Occupied(taken) => findings.push(another_has_the_name(O::KIND, taken.key())),
            Entry::Vacant(free) => drop(free.insert(object)),
        }
    }
    named
}

fn another_has_the_name(kind: Kind, id: &ObjectId) -> Finding {
    let message = format!("another {kind:?} has this name");
    let (namespace, name) = (id.namespace.to_string(), id.name.to_string());
    Finding { kind, namespace, name, reason: Reason::IdConflict, message }
}

#[cfg(test)]
mod tests;
