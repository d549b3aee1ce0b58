//! From an Adapter to the objects that it is made of, to what has drifted of them, and to what is said of it.
//!
//! Pure: the same Adapter in the same installation always makes the same objects, byte for byte, since a change of the
//! order of anything would replace every pod. Must not know what the API server fills in.

mod config;
mod drift;
mod pods;
mod status;
mod traffic;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate_api::{API_VERSION, Adapter, Reason};

use crate::objects::{Fault, ObjectId};

pub use drift::{differs, projection};
pub use status::{AdapterObserved, Heard, adapter_status};

/// The label of what the operator owns: its value is [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The operator, in [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "tidegate";
/// The label of what belongs to an Adapter: the Adapter's name.
pub const ADAPTER_LABEL: &str = "tidegate.io/adapter";
/// The annotation of each owned object by which the operator knows whether it still is what the Adapter asks for.
pub const APPLIED_ANNOTATION: &str = "tidegate.io/applied";
const NAME_LABEL: &str = "app.kubernetes.io/name";
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// How the operator was installed, as far as Adapters are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The image of pods whose Adapter names none.
    pub image: Option<String>,
    /// Where pods call the grant stream.
    pub grants_url: String,
    /// The audience of the tokens that they show there.
    pub audience: String,
    /// The authorities that they trust there, PEM.
    pub grants_ca: String,
    /// The Secret of the Adapter's namespace that holds the broker's URL.
    pub broker: Option<BrokerSecret>,
    /// The broker's exchange.
    pub exchange: String,
}

/// Where pods find the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSecret {
    /// The Secret's name, in the Adapter's namespace.
    pub name: String,
    /// The entry that holds the URL.
    pub url_entry: String,
    /// The entry that holds the CA of an `amqps://` broker.
    pub ca_entry: Option<String>,
}

/// A kind of object that an Adapter owns; all of them bear the Adapter's name. In the order in which they are written:
/// what others need comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnedKind {
    /// Who the pods are; without any right.
    ServiceAccount,
    /// The configuration of the program, and whom it trusts.
    ConfigMap,
    /// What may reach the pods.
    NetworkPolicy,
    /// How many pods may be taken away at once.
    PodDisruptionBudget,
    /// The pods.
    Deployment,
    /// The address in front of them.
    Service,
    /// How many pods there are, where the cluster chooses.
    HorizontalPodAutoscaler,
    /// The way in from outside.
    Ingress,
    /// The same by the Gateway API.
    HTTPRoute,
}

impl OwnedKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::Service,
        Self::HorizontalPodAutoscaler,
        Self::Ingress,
        Self::HTTPRoute,
    ];

    /// Group, version and plural.
    #[must_use]
    pub const fn resource(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "serviceaccounts"),
            Self::ConfigMap => ("", "v1", "configmaps"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "networkpolicies"),
            Self::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
            Self::Deployment => ("apps", "v1", "deployments"),
            Self::Service => ("", "v1", "services"),
            Self::HorizontalPodAutoscaler => ("autoscaling", "v2", "horizontalpodautoscalers"),
            Self::Ingress => ("networking.k8s.io", "v1", "ingresses"),
            Self::HTTPRoute => ("gateway.networking.k8s.io", "v1", "httproutes"),
        }
    }
}

/// Everything that an Adapter is to be made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterPlan {
    /// What is to be there, as it is applied. What is owned and not here is to go.
    pub objects: BTreeMap<OwnedKind, Value>,
}

/// What an Adapter is to be made of.
///
/// # Errors
/// Why nothing can be made of it. What is there stays as it is then.
pub fn adapter_plan(adapter: &Adapter, installation: &Installation) -> Result<AdapterPlan, Fault> {
    let violations: Vec<String> = adapter.violations().iter().map(ToString::to_string).collect();
    if !violations.is_empty() {
        return Err((Reason::InvalidSpec, violations.join("; ")));
    }
    let Some(image) = adapter.spec.image.as_ref().or(installation.image.as_ref()) else {
        let message = "spec.image is needed, since the operator was started without --adapter-image";
        return Err((Reason::InvalidSpec, message.to_owned()));
    };
    let Some(broker) = &installation.broker else {
        let message = "there is no broker for the pods: the operator was started without --broker-secret";
        return Err((Reason::BrokerUnreachable, message.to_owned()));
    };
    let config = config::config(adapter, installation, broker);
    let mut objects = BTreeMap::new();
    let mut put = |kind: OwnedKind, object: Value| drop(objects.insert(kind, marked(object)));
    put(OwnedKind::ServiceAccount, value(&pods::service_account(adapter)));
    put(OwnedKind::ConfigMap, value(&config::config_map(adapter, installation, &config)));
    put(OwnedKind::NetworkPolicy, value(&traffic::network_policy(adapter)));
    put(OwnedKind::PodDisruptionBudget, value(&pods::disruption_budget(adapter)));
    put(OwnedKind::Deployment, value(&pods::deployment(adapter, installation, image, broker, &digest(&config))));
    put(OwnedKind::Service, value(&traffic::service(adapter)));
    if let Some(autoscaling) = &adapter.spec.autoscaling {
        put(OwnedKind::HorizontalPodAutoscaler, value(&pods::autoscaler(adapter, autoscaling)));
    }
    if let Some(ingress) = &adapter.spec.ingress {
        put(OwnedKind::Ingress, value(&traffic::ingress(adapter, ingress)));
    }
    if let Some(gateway) = &adapter.spec.gateway {
        put(OwnedKind::HTTPRoute, traffic::route(adapter, gateway));
    }
    Ok(AdapterPlan { objects })
}

/// What decides whether an object is what it was applied as.
#[must_use]
pub fn applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][APPLIED_ANNOTATION].as_str()
}

fn marked(mut object: Value) -> Value {
    let digest = digest(&object.to_string());
    object["metadata"]["annotations"][APPLIED_ANNOTATION] = digest.into();
    object
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("an object of Kubernetes is JSON")
}

/// 16 hexadecimal digits that are others for another text.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// By which the pods of an Adapter are known; never changes, since a Deployment's selector cannot.
fn selector(adapter: &Adapter) -> BTreeMap<String, String> {
    let name = adapter.metadata.name.clone().unwrap_or_default();
    [(NAME_LABEL.to_owned(), "adapter".to_owned()), (ADAPTER_LABEL.to_owned(), name)].into()
}

fn label_selector(adapter: &Adapter) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(adapter)), ..LabelSelector::default() }
}

fn labels(adapter: &Adapter) -> BTreeMap<String, String> {
    let name = adapter.metadata.name.clone().unwrap_or_default();
    let mut labels = selector(adapter);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(INSTANCE_LABEL.to_owned(), name);
    labels
}

/// The metadata of what an Adapter owns.
fn metadata(adapter: &Adapter, annotations: &BTreeMap<String, String>) -> ObjectMeta {
    let ObjectId { namespace, name } = ObjectId::of(&adapter.metadata);
    let owner = OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "Adapter".to_owned(),
        name: name.to_string(),
        uid: adapter.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    ObjectMeta {
        namespace: Some(namespace.to_string()),
        name: Some(name.to_string()),
        labels: Some(labels(adapter)),
        annotations: Some(annotations.clone()).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
