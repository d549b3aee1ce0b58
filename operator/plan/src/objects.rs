//! The objects of one kind, and which of them count: in their bounds, and with aliases that are their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_api::{Channel, ObjectMeta, Reason, Thing, Violation};

use crate::Kind;

/// Which object of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectId {
    /// The object of that name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The object with that metadata.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }
}

/// Orders objects by age, the oldest first. Those that tell no age come last; among equals the namespace and the name
/// decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    created: (bool, Option<i128>),
    pub(crate) id: ObjectId,
}

impl Rank {
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0.as_nanosecond());
        Self { created: (created.is_none(), created), id: ObjectId::of(metadata) }
    }
}

/// What the rules for ids need of an object.
pub(crate) trait Object {
    const KIND: Kind;
    fn metadata(&self) -> &ObjectMeta;
    fn aliases(&self) -> &[String];
    fn violations(&self) -> Vec<Violation>;
    /// Whether nothing follows from the one that does not follow from the other: they differ in their status at most.
    fn is_same(&self, other: &Self) -> bool;
}

fn is_same_metadata(was: &ObjectMeta, is: &ObjectMeta) -> bool {
    (&was.uid, was.generation, &was.annotations, &was.creation_timestamp)
        == (&is.uid, is.generation, &is.annotations, &is.creation_timestamp)
}

macro_rules! object {
    ($type:ident) => {
        impl Object for $type {
            const KIND: Kind = Kind::$type;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn aliases(&self) -> &[String] {
                &self.spec.aliases
            }

            fn violations(&self) -> Vec<Violation> {
                self.violations()
            }

            fn is_same(&self, other: &Self) -> bool {
                self.spec == other.spec && is_same_metadata(&self.metadata, &other.metadata)
            }
        }
    };
}

object!(Channel);
object!(Thing);

/// Why something does not count, and the same for people.
pub type Fault = (Reason, String);

/// An object as it was read last.
#[derive(Debug)]
pub(crate) struct Held<O> {
    object: O,
    rank: Rank,
    /// What is wrong with it alone.
    invalid: Option<String>,
    /// The alias that an older one has.
    taken: Option<String>,
}

impl<O: Object> Held<O> {
    /// The object, if it counts.
    pub(crate) fn counting(&self) -> Result<&O, Fault> {
        if let Some(invalid) = &self.invalid {
            return Err((Reason::InvalidSpec, invalid.clone()));
        }
        match &self.taken {
            Some(alias) => Err((Reason::IdConflict, format!("the alias {alias} belongs to an older {:?}", O::KIND))),
            None => Ok(&self.object),
        }
    }

    pub(crate) const fn object(&self) -> &O {
        &self.object
    }

    pub(crate) const fn rank(&self) -> &Rank {
        &self.rank
    }

    /// The aliases that it asks for: an object that is out of its bounds asks for none.
    fn claims(&self) -> &[String] {
        if self.invalid.is_some() { &[] } else { self.object.aliases() }
    }
}

#[derive(Debug)]
pub(crate) struct Objects<O> {
    held: BTreeMap<ObjectId, Held<O>>,
    /// Who asks for an alias.
    claims: BTreeMap<String, BTreeSet<ObjectId>>,
}

impl<O> Default for Objects<O> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), claims: BTreeMap::new() }
    }
}

impl<O: Object> Objects<O> {
    pub(crate) fn get(&self, id: &ObjectId) -> Option<&Held<O>> {
        self.held.get(id)
    }

    /// Keeps what is only said otherwise, as when a status was written; hands back what there is to follow from.
    pub(crate) fn unless_same(&mut self, id: &ObjectId, object: Option<O>) -> Option<Option<O>> {
        match (self.held.get_mut(id), object) {
            (Some(held), Some(object)) if held.object.is_same(&object) => {
                held.object = object;
                None
            }
            (_, object) => Some(object),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.held.keys()
    }

    /// Takes in what became of one object; returns every object that this concerns, itself included.
    pub(crate) fn set(&mut self, id: &ObjectId, object: Option<O>) -> BTreeSet<ObjectId> {
        let mut aliases: Vec<String> = Vec::new();
        if let Some(before) = self.held.remove(id) {
            aliases.extend(before.claims().iter().cloned());
            for alias in before.claims() {
                if let Some(claimants) = self.claims.get_mut(alias) {
                    claimants.remove(id);
                    if claimants.is_empty() {
                        self.claims.remove(alias);
                    }
                }
            }
        }
        if let Some(object) = object {
            let held = Held { rank: Rank::of(object.metadata()), invalid: invalid(&object), taken: None, object };
            for alias in held.claims() {
                self.claims.entry(alias.clone()).or_default().insert(id.clone());
                aliases.push(alias.clone());
            }
            self.held.insert(id.clone(), held);
        }
        let mut concerned = self.judge(aliases);
        concerned.insert(id.clone());
        concerned
    }

    /// Decides who has which alias among all that are tied to these ones by aliases they share; returns those that count
    /// now and did not, or the other way round.
    fn judge(&mut self, aliases: Vec<String>) -> BTreeSet<ObjectId> {
        let (mut seen, mut tied) = (BTreeSet::new(), BTreeSet::new());
        let mut open = aliases;
        while let Some(alias) = open.pop() {
            for id in self.claims.get(&alias).into_iter().flatten() {
                if let Some(held) = self.held.get(id).filter(|held| tied.insert(held.rank.clone())) {
                    open.extend(held.claims().iter().filter(|alias| !seen.contains(*alias)).cloned());
                }
            }
            seen.insert(alias);
        }
        let (mut given, mut turned) = (BTreeSet::new(), BTreeSet::new());
        for Rank { id, .. } in tied {
            let Some(held) = self.held.get_mut(&id) else { continue };
            let taken = held.claims().iter().find(|alias| given.contains(*alias)).cloned();
            if taken.is_none() {
                given.extend(held.claims().iter().cloned());
            }
            if taken != held.taken {
                held.taken = taken;
                turned.insert(id);
            }
        }
        turned
    }
}

/// What is wrong with an object alone.
fn invalid<O: Object>(object: &O) -> Option<String> {
    let mut violations = object.violations();
    if !tidegate_api::is_dns_label(object.metadata().namespace.as_deref().unwrap_or_default()) {
        let message = "a DNS label is needed: a-z, 0-9 and '-', at most 63, no dot".to_owned();
        violations.insert(0, Violation { field: "metadata.namespace".to_owned(), message });
    }
    let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
    (!said.is_empty()).then(|| said.join("; "))
}
