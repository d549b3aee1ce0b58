//! What is said of an Adapter.

use jiff::Timestamp;
use serde_json::Value;
use tidegate_api::{Adapter, AdapterStatus, Address, AddressType, ConditionStatus, ConditionType, Reason};

use super::selector;
use crate::objects::Fault;
use crate::status::{Conditions, is_paused};

/// What was seen of an Adapter, beside itself.
#[derive(Clone, Debug, Default)]
pub struct AdapterObserved<'a> {
    /// Its Deployment.
    pub deployment: Option<&'a Value>,
    /// Its Service.
    pub service: Option<&'a Value>,
    /// Its Ingress.
    pub ingress: Option<&'a Value>,
    /// Why something of it could not be made as it should be.
    pub fault: Option<Fault>,
    /// What its pods say of grants.
    pub heard: Heard,
}

/// What the pods of an Adapter say of grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heard {
    /// No pod takes any.
    #[default]
    Nobody,
    /// Every one that takes them has the newest, or is about to.
    All,
    /// One has not had the newest for a while.
    Lagging,
}

/// The pods, as their Deployment counts them.
struct Pods {
    /// How many there are to be.
    wanted: i64,
    /// How many there are.
    present: i64,
    /// How many are as the newest spec has them.
    updated: i64,
    ready: i64,
    available: i64,
    /// Whether the counts are about the newest spec.
    current: bool,
    stuck: bool,
}

impl Pods {
    fn of(deployment: Option<&Value>) -> Self {
        let none = Value::Null;
        let deployment = deployment.unwrap_or(&none);
        let (spec, status) = (&deployment["spec"], &deployment["status"]);
        let count = |of: &Value, field: &str| of[field].as_i64().unwrap_or(0);
        let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let stuck = |condition: &Value| {
            condition["type"] == "Progressing"
                && condition["status"] == "False"
                && condition["reason"] == "ProgressDeadlineExceeded"
        };
        Self {
            wanted: count(spec, "replicas"),
            present: count(status, "replicas"),
            updated: count(status, "updatedReplicas"),
            ready: count(status, "readyReplicas"),
            available: count(status, "availableReplicas"),
            current: deployment["metadata"]["generation"]
                .as_i64()
                .is_some_and(|g| g <= count(status, "observedGeneration")),
            stuck: conditions.iter().any(stuck),
        }
    }

    fn is_rolled_out(&self) -> bool {
        self.current && self.present == self.wanted && self.updated == self.wanted && self.available == self.wanted
    }
}

/// The status of an Adapter. Its conditions `Progressing` and `Degraded` are good when they are false.
#[must_use]
pub fn adapter_status(adapter: &Adapter, observed: &AdapterObserved<'_>, now: Timestamp) -> AdapterStatus {
    let before = adapter.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let pods = Pods::of(observed.deployment);
    let mut conditions = Conditions::new(adapter.metadata.generation, now);
    say_available(&mut conditions, &pods);
    say_progress(&mut conditions, &pods, is_paused(adapter.metadata.annotations.as_ref()));
    let fault = observed
        .fault
        .clone()
        .or_else(|| pods.stuck.then(|| (Reason::RolloutStuck, "the pods do not become ready in time".to_owned())));
    match fault {
        Some((reason, message)) => conditions.add_bad(ConditionType::Degraded, true, reason, &message),
        None => conditions.add_bad(ConditionType::Degraded, false, Reason::Healthy, &healthy(adapter)),
    }
    let (status, reason, message) = match observed.heard {
        Heard::All => (ConditionStatus::True, Reason::Programmed, "every live pod has the newest grants"),
        Heard::Nobody => (ConditionStatus::False, Reason::NoAdapters, "no pod takes grants"),
        Heard::Lagging => {
            (ConditionStatus::False, Reason::AdapterLagging, "a pod has not had the newest grants for a while")
        }
    };
    conditions.add(ConditionType::Programmed, status, reason, message);
    let selector = selector(adapter).iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    AdapterStatus {
        observed_generation: adapter.metadata.generation,
        conditions: conditions.finish(before),
        replicas: i32::try_from(pods.present).ok(),
        ready_replicas: i32::try_from(pods.ready).ok(),
        selector: Some(selector.join(",")),
        addresses: addresses(adapter, observed),
    }
}

/// Nothing is wrong, though something may be in vain.
fn healthy(adapter: &Adapter) -> String {
    let in_vain: Vec<String> = adapter.spec.without_effect().into_iter().map(|said| said.message).collect();
    if in_vain.is_empty() {
        return "nothing is wrong".to_owned();
    }
    format!("nothing is wrong, and some settings have no effect: {}", in_vain.join("; "))
}

fn say_available(conditions: &mut Conditions, pods: &Pods) {
    let Pods { wanted, available, .. } = pods;
    let said = format!("{available} of {wanted} pods are available");
    let (status, reason) = match (*wanted, *available) {
        (0, _) => (ConditionStatus::False, Reason::ScaledToZero),
        (_, 0) => (ConditionStatus::False, Reason::Unavailable),
        // As a Deployment has it: a rollout may take a quarter away.
        (wanted, available) if available * 4 < wanted * 3 => (ConditionStatus::False, Reason::Unavailable),
        _ => (ConditionStatus::True, Reason::Available),
    };
    conditions.add(ConditionType::Available, status, reason, &said);
}

fn say_progress(conditions: &mut Conditions, pods: &Pods, paused: bool) {
    let (progressing, reason, message) = if paused {
        (false, Reason::ReconciliationPaused, "the annotation tidegate.io/paused is true")
    } else if pods.stuck {
        (false, Reason::RolloutStuck, "the rollout ran out of time")
    } else if pods.is_rolled_out() {
        (false, Reason::RolledOut, "every pod is as the Adapter says")
    } else {
        (true, Reason::RollingOut, "pods are being made or replaced")
    };
    conditions.add_neutral(ConditionType::Progressing, progressing, reason, message);
}

/// Where devices reach the Adapter from outside: what leads in, or the Service's own addresses.
fn addresses(adapter: &Adapter, observed: &AdapterObserved<'_>) -> Vec<Address> {
    /// As many as a status holds.
    const MAX: usize = 16;
    let spec = &adapter.spec;
    let host = spec.ingress.as_ref().and_then(|ingress| ingress.host.as_ref());
    let host = host.or_else(|| spec.gateway.as_ref().and_then(|gateway| gateway.host.as_ref()));
    if let Some(host) = host {
        return vec![Address { kind: AddressType::Hostname, value: host.clone() }];
    }
    let points = [observed.ingress, observed.service].into_iter().flatten();
    let points = points.filter_map(|object| object["status"]["loadBalancer"]["ingress"].as_array()).flatten();
    let address = |point: &Value| {
        let of = |field: &str, kind| point[field].as_str().map(|value| Address { kind, value: value.to_owned() });
        of("hostname", AddressType::Hostname).or_else(|| of("ip", AddressType::IPAddress))
    };
    let mut addresses: Vec<Address> = points.filter_map(address).collect();
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MAX);
    addresses
}
