//! Makes what an Adapter owns as it should be: by server-side apply, under one name, and only where something differs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kube::Error;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use serde_json::Value;
use tidegate_api::{Adapter, PAUSED_ANNOTATION, Reason};
use tidegate_plan::{
    AdapterObserved, AdapterPlan, Fault, ObjectId, OwnedKind, adapter_plan, adapter_status, applied, differs,
    projection,
};

use crate::clock::{now, whole_seconds};
use crate::fleet::belongs;
use crate::lease::in_time;
use crate::state::Subject;
use crate::watches::{api_resource, owned};
use crate::writer::{FIELD_MANAGER, RETRY_AFTER, Writer, Written};

/// What the API server made of what was applied last, where the two are not the same: by it nothing is applied again
/// and again that never comes out as it went in.
#[derive(Debug, Default)]
pub(crate) struct Accepted(Mutex<BTreeMap<(OwnedKind, ObjectId), Value>>);

impl Accepted {
    fn is(&self, kind: OwnedKind, id: &ObjectId, found: &Value) -> bool {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(&(kind, id.clone())) == Some(found)
    }

    fn remember(&self, kind: OwnedKind, id: &ObjectId, found: Option<Value>) {
        let mut accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(found) => drop(accepted.insert((kind, id.clone()), found)),
            None => drop(accepted.remove(&(kind, id.clone()))),
        }
    }
}

/// What came of one object.
enum Outcome {
    /// It is as it should be.
    Good,
    /// It is not, and its author should know.
    Faulty(Fault),
    /// The lease is not held.
    NotLeading,
}

impl Writer {
    /// Looks at an Adapter, at what it owns, and at what there is to say of it.
    pub(crate) async fn adapter(&self, id: &ObjectId) -> Result<Written, Error> {
        let (adapter, installation) = {
            let known = self.state.known();
            (known.fleet.adapter(id).cloned(), known.fleet.installation().cloned())
        };
        // What it owned goes with it: the API server sees to that.
        let (Some(adapter), Some(installation)) = (adapter, installation) else { return Ok(Written::Done) };
        if adapter.metadata.deletion_timestamp.is_some() {
            return Ok(Written::Done);
        }
        let annotations = adapter.metadata.annotations.as_ref();
        let paused = annotations.and_then(|all| all.get(PAUSED_ANNOTATION)).is_some_and(|value| value == "true");
        let fault = match adapter_plan(&adapter, &installation) {
            Err(fault) => Some(fault),
            Ok(_) if paused => None,
            Ok(plan) => match self.make(id, &adapter, plan).await? {
                Outcome::Good => None,
                Outcome::Faulty(fault) => Some(fault),
                Outcome::NotLeading => return Ok(Written::Again),
            },
        };
        if fault.is_some() {
            self.state.look_again(Subject::Adapter(id.clone()), now() + RETRY_AFTER * 5);
        }
        self.say(id, &adapter, fault).await
    }

    async fn say(&self, id: &ObjectId, adapter: &Adapter, fault: Option<Fault>) -> Result<Written, Error> {
        let (owned, heard) = {
            let known = self.state.known();
            (known.fleet.owned(id), known.heard(id, now()))
        };
        let of = |kind| owned.get(&kind).filter(|object| belongs(object, adapter));
        let observed = AdapterObserved {
            deployment: of(OwnedKind::Deployment),
            service: of(OwnedKind::Service),
            ingress: of(OwnedKind::Ingress),
            fault,
            heard,
        };
        let wanted = adapter_status(adapter, &observed, whole_seconds());
        self.status(adapter, id, &wanted).await
    }

    /// The first fault is told; the rest is made all the same.
    async fn make(&self, id: &ObjectId, adapter: &Adapter, plan: AdapterPlan) -> Result<Outcome, Error> {
        let found = self.state.known().fleet.owned(id);
        let mut first = None;
        for (kind, wanted) in &plan.objects {
            let outcome = self.make_one(id, adapter, *kind, wanted, found.get(kind)).await;
            match refused(outcome, *kind, id)? {
                Outcome::Good => {}
                Outcome::Faulty(fault) => first = first.or(Some(fault)),
                Outcome::NotLeading => return Ok(Outcome::NotLeading),
            }
        }
        let unwanted = found.iter().filter(|(kind, _)| !plan.objects.contains_key(kind));
        for (kind, object) in unwanted.filter(|(_, object)| belongs(object, adapter)) {
            match refused(self.unmake(id, *kind, object).await, *kind, id)? {
                Outcome::Good => {}
                Outcome::Faulty(fault) => first = first.or(Some(fault)),
                Outcome::NotLeading => return Ok(Outcome::NotLeading),
            }
        }
        Ok(first.map_or(Outcome::Good, Outcome::Faulty))
    }

    async fn make_one(
        &self,
        id: &ObjectId,
        adapter: &Adapter,
        kind: OwnedKind,
        wanted: &Value,
        found: Option<&Value>,
    ) -> Result<Outcome, Error> {
        if kind == OwnedKind::HTTPRoute && !self.state.known().fleet.is_listed(kind) {
            let message = "the cluster does not know HTTPRoute of gateway.networking.k8s.io/v1".to_owned();
            return Ok(Outcome::Faulty((Reason::WriteRefused, message)));
        }
        if found.is_some_and(|found| self.is_good(id, kind, wanted, found)) {
            return Ok(Outcome::Good);
        }
        let api = self.owned_api(id, kind);
        // What was not seen may be another's, of the same name.
        let seen = match found {
            Some(found) => Some(found.clone()),
            None => in_time(api.get_opt(&id.name)).await?.map(|object| owned(&object).object),
        };
        if seen.as_ref().is_some_and(|seen| !belongs(seen, adapter)) {
            let message = format!("a {kind:?} {} is there already that is not of this Adapter", id.name);
            return Ok(Outcome::Faulty((Reason::NameConflict, message)));
        }
        if !self.may_write().await {
            return Ok(Outcome::NotLeading);
        }
        let body = with_replicas(wanted, seen.as_ref());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.state.known().fleet.begin_write(kind, id.clone());
        let object = in_time(api.patch(&id.name, &params, &Patch::Apply(&body))).await?;
        tracing::info!(namespace = %id.namespace, name = %id.name, ?kind, "applied");
        self.metrics.applied.inc();
        let object = owned(&object).object;
        self.accepted.remember(kind, id, differs(wanted, &object).then(|| projection(wanted, &object)));
        self.state.known().fleet.wrote(kind, id.clone(), object);
        Ok(Outcome::Good)
    }

    fn is_good(&self, id: &ObjectId, kind: OwnedKind, wanted: &Value, found: &Value) -> bool {
        applied(wanted) == applied(found)
            && (!differs(wanted, found) || self.accepted.is(kind, id, &projection(wanted, found)))
    }

    async fn unmake(&self, id: &ObjectId, kind: OwnedKind, object: &Value) -> Result<Outcome, Error> {
        if object["metadata"]["deletionTimestamp"].is_string() {
            return Ok(Outcome::Good);
        }
        if !self.may_write().await {
            return Ok(Outcome::NotLeading);
        }
        let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::background()
        };
        tracing::info!(namespace = %id.namespace, name = %id.name, ?kind, "deleted, since it is not wanted any more");
        match in_time(self.owned_api(id, kind).delete(&id.name, &params)).await {
            Ok(_) => Ok(Outcome::Good),
            Err(Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(Outcome::Good),
            Err(error) => Err(error),
        }
    }

    fn owned_api(&self, id: &ObjectId, kind: OwnedKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &id.namespace, &api_resource(kind))
    }
}

/// What the API server says no to, is told; what keeps it from saying anything is tried again.
fn refused(outcome: Result<Outcome, Error>, kind: OwnedKind, id: &ObjectId) -> Result<Outcome, Error> {
    match outcome {
        Err(Error::Api(status)) if (400..500).contains(&status.code) && !status.is_conflict() && status.code != 429 => {
            let message = format!("{kind:?} {}: {}", id.name, status.message);
            Ok(Outcome::Faulty((Reason::WriteRefused, message)))
        }
        other => other,
    }
}

/// Where the cluster chooses how many pods there are, the number that stands is taken along for as long as it is ours:
/// a field that is let go and that nobody else has is reset, and one pod would be left.
fn with_replicas(wanted: &Value, found: Option<&Value>) -> Value {
    let mut body = wanted.clone();
    let Some(found) = found else { return body };
    if wanted["kind"] != "Deployment" || !wanted["spec"]["replicas"].is_null() {
        return body;
    }
    let managers = found["metadata"]["managedFields"].as_array();
    let ours = managers.into_iter().flatten().any(|entry| {
        entry["manager"] == FIELD_MANAGER
            && entry["operation"] == "Apply"
            && !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null()
    });
    if ours {
        body["spec"]["replicas"] = found["spec"]["replicas"].clone();
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_of_pods_that_is_let_go_stays_until_somebody_else_has_it() {
        let managed = |manager: &str| {
            json!({
                "kind": "Deployment",
                "metadata": {"managedFields": [{
                    "manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}},
                }]},
                "spec": {"replicas": 7},
            })
        };
        let wanted = json!({"kind": "Deployment", "spec": {}});
        assert_eq!(with_replicas(&wanted, Some(&managed("tidegate")))["spec"]["replicas"], 7);
        assert_eq!(with_replicas(&wanted, Some(&managed("kube-controller-manager"))), wanted);
        assert_eq!(with_replicas(&wanted, None), wanted);
        let given = json!({"kind": "Deployment", "spec": {"replicas": 2}});
        assert_eq!(with_replicas(&given, Some(&managed("tidegate"))), given);
    }
}
