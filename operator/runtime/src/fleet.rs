//! The Adapters, what they own as the API server has it, and which of them there is something to do about.
//!
//! Pure bookkeeping: decides nothing, and knows neither a clock nor a client.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidegate_api::Adapter;
use tidegate_plan::{ADAPTER_LABEL, Installation, MANAGED_BY, MANAGED_BY_LABEL, ObjectId, OwnedKind};

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    adapters: BTreeMap<ObjectId, Adapter>,
    owned: BTreeMap<ObjectId, BTreeMap<OwnedKind, Value>>,
    /// What is being written, and was not observed since that began.
    unobserved: BTreeSet<(OwnedKind, ObjectId)>,
    listed: BTreeSet<OwnedKind>,
    adapters_listed: bool,
    /// How the operator was installed; not before its authority is known.
    installation: Option<Installation>,
    touched: BTreeSet<ObjectId>,
}

impl Fleet {
    /// An Adapter, as it is now.
    pub(crate) fn observe_adapter(&mut self, id: &ObjectId, adapter: Option<Adapter>) {
        match adapter {
            Some(adapter) => drop(self.adapters.insert(id.clone(), adapter)),
            None => {
                self.adapters.remove(id);
                self.unobserved.retain(|(_, of)| of != id);
            }
        }
        self.touched.insert(id.clone());
    }

    /// All Adapters were seen.
    pub(crate) fn adapters_listed(&mut self) {
        self.adapters_listed = true;
        self.touch_all();
    }

    /// Something that an Adapter owns is about to be written.
    pub(crate) fn begin_write(&mut self, kind: OwnedKind, id: ObjectId) {
        self.unobserved.insert((kind, id));
    }

    /// It was written, and came out as `object`. That may be older than what was observed meanwhile, which then stands:
    /// whatever is missing in it is still to be observed.
    pub(crate) fn wrote(&mut self, kind: OwnedKind, id: ObjectId, object: Value) {
        if self.unobserved.contains(&(kind, id.clone())) {
            self.observe_owned(kind, id, Some(object));
        }
    }

    /// Something that an Adapter owns, as it is now.
    pub(crate) fn observe_owned(&mut self, kind: OwnedKind, id: ObjectId, object: Option<Value>) {
        self.unobserved.remove(&(kind, id.clone()));
        let of = self.owned.entry(id.clone()).or_default();
        match object {
            Some(object) => drop(of.insert(kind, object)),
            None => drop(of.remove(&kind)),
        }
        if of.is_empty() {
            self.owned.remove(&id);
        }
        self.touched.insert(id);
    }

    /// All that there are of a kind.
    pub(crate) fn observe_all_owned(&mut self, kind: OwnedKind, all: BTreeMap<ObjectId, Value>) {
        self.unobserved.retain(|(unobserved, _)| *unobserved != kind);
        for of in self.owned.values_mut() {
            of.remove(&kind);
        }
        for (id, object) in all {
            self.owned.entry(id).or_default().insert(kind, object);
        }
        self.owned.retain(|_, of| !of.is_empty());
        self.listed.insert(kind);
        self.touch_all();
    }

    /// How the operator is installed.
    pub(crate) fn install(&mut self, installation: Installation) {
        if self.installation.as_ref() != Some(&installation) {
            self.installation = Some(installation);
            self.touch_all();
        }
    }

    /// Looks at every Adapter once more.
    pub(crate) fn touch_all(&mut self) {
        let (adapters, owned) = (self.adapters.keys(), self.owned.keys());
        self.touched.extend(adapters.chain(owned).cloned());
    }

    /// Those that there may be something to do about; nothing while not everything was listed once.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<ObjectId> {
        // HTTPRoute is an extension: it may never be there.
        let listed = OwnedKind::ALL.iter().all(|kind| *kind == OwnedKind::HTTPRoute || self.listed.contains(kind));
        if !listed || !self.adapters_listed || self.installation.is_none() {
            return BTreeSet::new();
        }
        std::mem::take(&mut self.touched)
    }

    /// Every Adapter.
    pub(crate) fn adapters(&self) -> impl Iterator<Item = &ObjectId> {
        self.adapters.keys()
    }

    /// An Adapter.
    pub(crate) fn adapter(&self, id: &ObjectId) -> Option<&Adapter> {
        self.adapters.get(id)
    }

    /// How the operator is installed, once that is known.
    pub(crate) const fn installation(&self) -> Option<&Installation> {
        self.installation.as_ref()
    }

    /// Whether a kind was listed once.
    pub(crate) fn is_listed(&self, kind: OwnedKind) -> bool {
        self.listed.contains(&kind)
    }

    /// What bears the name of an Adapter and the operator's labels.
    pub(crate) fn owned(&self, id: &ObjectId) -> BTreeMap<OwnedKind, Value> {
        self.owned.get(id).cloned().unwrap_or_default()
    }

    /// The Adapter whose pods run under a ServiceAccount of this name, one that is there and belongs to it; nothing when
    /// there is none.
    pub(crate) fn adapter_of_account(&self, id: &ObjectId) -> Option<&Adapter> {
        let adapter = self.adapters.get(id)?;
        let account = self.owned.get(id)?.get(&OwnedKind::ServiceAccount)?;
        belongs(account, adapter).then_some(adapter)
    }
}

/// Whether an object is this Adapter's: it names it as its owner, or bears the labels that the operator gave it, as one
/// that came back from a backup does.
pub(crate) fn belongs(object: &Value, adapter: &Adapter) -> bool {
    let metadata = &object["metadata"];
    let (name, uid) = (adapter.metadata.name.as_deref(), adapter.metadata.uid.as_deref());
    let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let labels = &metadata["labels"];
    let labelled = labels[MANAGED_BY_LABEL] == MANAGED_BY && labels[ADAPTER_LABEL].as_str() == name;
    labelled || owners.any(|owner| uid.is_some() && owner["uid"].as_str() == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> Installation {
        Installation {
            image: None,
            grants_url: "https://grants".to_owned(),
            audience: "a".to_owned(),
            grants_ca: String::new(),
            broker: None,
            exchange: "messages".to_owned(),
        }
    }

    #[test]
    fn nothing_is_to_be_done_before_everything_was_listed_once() {
        let mut fleet = Fleet::default();
        let id = ObjectId::new("lab", "http");
        fleet.observe_owned(OwnedKind::Service, id.clone(), Some(Value::Null));
        fleet.install(installation());
        fleet.adapters_listed();
        for kind in OwnedKind::ALL {
            if kind != OwnedKind::HTTPRoute {
                assert!(fleet.take_touched().is_empty(), "{kind:?}");
                fleet.observe_all_owned(kind, BTreeMap::from([(id.clone(), Value::Null)]));
            }
        }
        assert_eq!(fleet.take_touched(), BTreeSet::from([id]));
        assert!(fleet.take_touched().is_empty());
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let mut fleet = Fleet::default();
        let id = ObjectId::new("lab", "http");
        fleet.observe_owned(OwnedKind::Service, id.clone(), Some(Value::Null));
        fleet.observe_all_owned(OwnedKind::Service, BTreeMap::new());
        assert!(fleet.owned(&id).is_empty());
    }

    #[test]
    fn what_came_of_a_write_does_not_hide_what_was_observed_meanwhile() {
        let id = ObjectId::new("lab", "http");
        let (kind, old, new) = (OwnedKind::Deployment, Value::from(1), Value::from(2));
        let after = |meanwhile: &dyn Fn(&mut Fleet)| {
            let mut fleet = Fleet::default();
            fleet.begin_write(kind, id.clone());
            meanwhile(&mut fleet);
            fleet.wrote(kind, id.clone(), old.clone());
            fleet.owned(&id).get(&kind).cloned()
        };
        assert_eq!(after(&|_| {}), Some(old.clone()));
        assert_eq!(after(&|fleet| fleet.observe_owned(OwnedKind::Service, id.clone(), None)), Some(old.clone()));
        assert_eq!(after(&|fleet| fleet.observe_owned(kind, id.clone(), Some(new.clone()))), Some(new.clone()));
        assert_eq!(after(&|fleet| fleet.observe_owned(kind, id.clone(), None)), None);
        assert_eq!(after(&|fleet| fleet.observe_all_owned(kind, BTreeMap::new())), None);
    }
}
