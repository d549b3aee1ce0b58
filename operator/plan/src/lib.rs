//! From Channels, Things and Secrets to the contents of a grant table: `Observed -> Validated -> Plan`.
//!
//! Pure and deterministic: the same objects in any order make the same plan, and one bad object never harms another.
//! Must not know a clock, a client, a file; must never put a key or a hash into words.

mod compile;
mod keys;
mod validate;

use std::collections::BTreeMap;
use std::fmt;

use tidegate_api::{Channel, Reason, Thing};
use tidegate_model::TableContents;

pub use validate::Validated;

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
    compile::compile(Validated::of(observed))
}

#[cfg(test)]
mod tests;
