//! Which objects count: in their bounds, and with ids that are their own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidegate_api::{Channel, Reason, Thing, Violation};

use crate::{Finding, KeySecret, Kind, Observed};

/// Objects that count, each with ids that are its own, oldest first.
#[derive(Debug, Default)]
pub struct Validated {
    pub(crate) channels: Vec<Channel>,
    pub(crate) things: Vec<Thing>,
    /// By namespace and name.
    pub(crate) secrets: BTreeMap<(String, String), KeySecret>,
    pub(crate) findings: Vec<Finding>,
}

/// What the rules for ids need of an object.
trait Object {
    const KIND: Kind;
    fn metadata(&self) -> (&str, &str);
    fn created(&self) -> Option<i128>;
    fn aliases(&self) -> &[String];
    fn violations(&self) -> Vec<Violation>;
    fn spec(&self) -> Value;
}

macro_rules! object {
    ($type:ident) => {
        impl Object for $type {
            const KIND: Kind = Kind::$type;

            fn metadata(&self) -> (&str, &str) {
                let (namespace, name) = (self.metadata.namespace.as_deref(), self.metadata.name.as_deref());
                (namespace.unwrap_or_default(), name.unwrap_or_default())
            }

            fn created(&self) -> Option<i128> {
                self.metadata.creation_timestamp.as_ref().map(|time| time.0.as_nanosecond())
            }

            fn aliases(&self) -> &[String] {
                &self.spec.aliases
            }

            fn violations(&self) -> Vec<Violation> {
                self.violations()
            }

            fn spec(&self) -> Value {
                serde_json::to_value(&self.spec).unwrap_or_default()
            }
        }
    };
}

object!(Channel);
object!(Thing);

impl Validated {
    /// Sorts out what does not count, and says why.
    #[must_use]
    pub fn of(observed: Observed) -> Self {
        let mut findings = Vec::new();
        let channels = unconflicted(observed.channels, &mut findings);
        let things = unconflicted(observed.things, &mut findings);
        let mut found = observed.secrets;
        found.sort_unstable();
        let mut secrets = BTreeMap::new();
        for secret in found {
            let id = (secret.namespace.clone(), secret.name.clone());
            if let Some(KeySecret { namespace, name, .. }) = secrets.get(&id) {
                let message = "another Secret has this name".to_owned();
                let (namespace, name) = (namespace.clone(), name.clone());
                findings.push(Finding { kind: Kind::Secret, namespace, name, reason: Reason::IdConflict, message });
            } else {
                secrets.insert(id, secret);
            }
        }
        Self { channels, things, secrets, findings }
    }
}

/// The objects in their bounds whose id and aliases no older one has, oldest first. Those that tell no age come last;
/// among equals the namespace and the name decide, and for one name twice the content.
fn unconflicted<O: Object>(objects: Vec<O>, findings: &mut Vec<Finding>) -> Vec<O> {
    let mut objects: Vec<_> = objects
        .into_iter()
        .map(|object| {
            let (namespace, name) = object.metadata();
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let created = object.created();
            ((created.is_none(), created, namespace, name, object.spec().to_string()), object)
        })
        .collect();
    objects.sort_by(|(a, _), (b, _)| a.cmp(b));

    let (mut ids, mut aliases) = (BTreeSet::new(), BTreeSet::new());
    let mut counted = Vec::new();
    for ((_, _, namespace, name, _), object) in objects {
        let mut say = |reason, message: String| {
            let (namespace, name) = (namespace.clone(), name.clone());
            findings.push(Finding { kind: O::KIND, namespace, name, reason, message });
        };
        let mut violations = object.violations();
        if !tidegate_api::is_dns_label(&namespace) {
            let message = "a DNS label is needed: a-z, 0-9 and '-', at most 63, no dot".to_owned();
            violations.insert(0, Violation { field: "metadata.namespace".to_owned(), message });
        }
        if !violations.is_empty() {
            let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
            say(Reason::InvalidSpec, said.join("; "));
            continue;
        }
        if ids.contains(&(namespace.clone(), name.clone())) {
            say(Reason::IdConflict, format!("another {:?} has this name", O::KIND));
            continue;
        }
        if let Some(taken) = object.aliases().iter().find(|alias| aliases.contains(*alias)) {
            say(Reason::IdConflict, format!("the alias {taken} belongs to an older {:?}", O::KIND));
            continue;
        }
        aliases.extend(object.aliases().iter().cloned());
        ids.insert((namespace, name));
        counted.push(object);
    }
    counted
}
