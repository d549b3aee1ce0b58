//! Adapter: one protocol face, as pods and what leads to them.

mod listener;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{Check, Violation, is_dns_label, span};
use crate::foreign::{bounded, quantities, read_quantities, texts};
use crate::status::AdapterStatus;

pub use listener::{ClientAuth, Listener, SecretName, Tls, Transport};
pub use settings::{CoapSettings, HttpSettings, LogFormat, MqttSettings, Settings, WebSocketSettings};

/// Pods where nothing is said.
const REPLICAS_DEFAULT: i32 = 2;
/// How long pods that are told to end wait for connections, where nothing is said.
const DRAIN_DEFAULT: Duration = Duration::from_secs(30);
/// How long they may wait.
const DRAIN_MAX: Duration = Duration::from_secs(3_600);

/// An Adapter: pods that speak one protocol with devices, and the Service and the rest that they need.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "Adapter",
    doc = "An Adapter: pods that speak one protocol with devices, and the Service and the rest that they need.",
    namespaced,
    shortname = "tgad",
    category = "tidegate",
    status = "AdapterStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[0].value"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of an Adapter has at most 52 of a-z, 0-9 and '-', no dot, and begins with a letter"),
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.replicas) || !has(self.autoscaling)",
        "message": "the number of pods is either given or found: replicas excludes autoscaling"
    },
    {
        "rule": "!has(self.ingress) || !has(self.gateway)",
        "message": "one way leads in: ingress excludes gateway"
    },
    {
        "rule": "self.protocol in ['HTTP', 'WebSocket'] || (!has(self.ingress) && !has(self.gateway))",
        "message": "ingress and gateway lead to protocol: HTTP and WebSocket alone"
    },
    {
        "rule": "self.protocol == 'MQTT' || !has(self.listeners) || \
            self.listeners.all(l, !has(l.transport) || l.transport != 'WebSocket')",
        "message": "transport: WebSocket goes with protocol: MQTT alone; protocol: WebSocket has TCP and TLS"
    },
    {
        "rule": "!has(self.listeners) || self.listeners.all(l, \
            (self.protocol == 'CoAP') == (has(l.transport) && l.transport in ['UDP', 'DTLS']))",
        "message": "transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given"
    },
    {
        "rule": "self.protocol != 'CoAP' || !has(self.settings) || (\
            (!has(self.settings.maxConnections) || oldSelf.?settings.?maxConnections.hasValue()) && \
            (!has(self.settings.http) || !has(self.settings.http.timeout) || \
            oldSelf.?settings.?http.?timeout.hasValue()))",
        "message": "settings.maxConnections and settings.http.timeout are of connections, which protocol: CoAP does not have",
        "optionalOldSelf": true
    },
    {
        "rule": "self.protocol == 'HTTP' || !has(self.settings) || !has(self.settings.http) || (\
            (!has(self.settings.http.keepAlive) || oldSelf.?settings.?http.?keepAlive.hasValue()) && \
            (!has(self.settings.http.bodiesMaxBytes) || oldSelf.?settings.?http.?bodiesMaxBytes.hasValue()))",
        "message": "settings.http.keepAlive and settings.http.bodiesMaxBytes go with protocol: HTTP alone",
        "optionalOldSelf": true
    },
    {
        "rule": "self.protocol in ['MQTT', 'WebSocket'] || !has(self.settings) || !has(self.settings.mqtt) || \
            oldSelf.?settings.?mqtt.hasValue()",
        "message": "settings.mqtt goes with protocol: MQTT and WebSocket alone",
        "optionalOldSelf": true
    },
    {
        "rule": "self.protocol == 'WebSocket' || !has(self.settings) || !has(self.settings.websocket) || (\
            (!has(self.settings.websocket.pingInterval) || oldSelf.?settings.?websocket.?pingInterval.hasValue()) && \
            (!has(self.settings.websocket.idleTimeout) || oldSelf.?settings.?websocket.?idleTimeout.hasValue()) && \
            (!has(self.settings.websocket.maxInFlight) || oldSelf.?settings.?websocket.?maxInFlight.hasValue()))",
        "message": "settings.websocket.pingInterval, idleTimeout and maxInFlight go with protocol: WebSocket alone",
        "optionalOldSelf": true
    },
    {
        "rule": "self.protocol == 'WebSocket' || !has(self.settings) || !has(self.settings.websocket) || \
            !has(self.settings.websocket.origins) || (self.protocol == 'MQTT' && has(self.listeners) && \
            self.listeners.exists(l, has(l.transport) && l.transport == 'WebSocket')) || \
            oldSelf.?settings.?websocket.?origins.hasValue()",
        "message": "settings.websocket.origins goes with protocol: WebSocket, and with MQTT that has a listener of transport: WebSocket",
        "optionalOldSelf": true
    },
    {
        "rule": "self.protocol == 'CoAP' || !has(self.settings) || !has(self.settings.coap) || \
            oldSelf.?settings.?coap.hasValue()",
        "message": "settings.coap goes with protocol: CoAP alone",
        "optionalOldSelf": true
    },
    {
        "rule": "self.protocol != 'CoAP' || !has(self.settings) || !has(self.settings.coap) || \
            !has(self.listeners) || size(self.listeners) == 0 || \
            self.listeners.exists(l, has(l.transport) && l.transport == 'DTLS') || (\
            (!has(self.settings.coap.maxSessions) || oldSelf.?settings.?coap.?maxSessions.hasValue()) && \
            (!has(self.settings.coap.maxHalfOpen) || oldSelf.?settings.?coap.?maxHalfOpen.hasValue()) && \
            (!has(self.settings.coap.maxHandshakesPerSecond) || \
            oldSelf.?settings.?coap.?maxHandshakesPerSecond.hasValue()))",
        "message": "settings.coap.maxSessions, maxHalfOpen and maxHandshakesPerSecond go with a listener of transport: DTLS",
        "optionalOldSelf": true
    }
]))]
pub struct AdapterSpec {
    /// What the pods speak with devices.
    pub protocol: Protocol,
    /// How many pods. Default: 2. Excludes autoscaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub replicas: Option<i32>,
    /// Between how many pods the cluster chooses, by their load. Excludes replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// The ports of the Service, at most one of each transport. Default: one of transport TCP, for HTTP named http on port
    /// 80, for WebSocket named ws on port 80, for MQTT named mqtt on port 1883; for CoAP one of transport UDP named coap on
    /// port 5683 and one of transport DTLS named coaps on port 5684.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.all(a, self.exists_one(b, b.transport == a.transport))",
            "message": "at most one listener of each transport"
        },
        {
            "rule": "self.all(a, self.exists_one(b, b.port == a.port))",
            "message": "two listeners have the same port"
        },
        {
            "rule": "self.all(a, self.all(b, !has(a.tls) || !has(b.tls) || a.tls == b.tls))",
            "message": "the listeners of an Adapter share one tls: the certificate, clientCaRef and clientAuth"
        }
    ]))]
    pub listeners: Vec<Listener>,
    /// The Service in front of the pods.
    #[serde(default)]
    pub service: ServiceTemplate,
    /// An Ingress that leads to the Service. Excludes gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// An HTTPRoute of the Gateway API that leads to the Service. Excludes ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// How the adapter program behaves. A change replaces the pods.
    #[serde(default)]
    pub settings: Settings,
    /// How pods end.
    #[serde(default)]
    pub drain: Drain,
    /// What each pod asks for, and may take at most, of CPU and memory.
    #[serde(default)]
    pub resources: Resources,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounded::<Vec<Toleration>>")]
    pub tolerations: Vec<Toleration>,
    /// Which nodes and neighbors the pods prefer, need and avoid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounded::<Affinity>")]
    pub affinity: Option<Affinity>,
    /// How the pods are spread; without a labelSelector this Adapter's own pods are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounded::<Vec<TopologySpreadConstraint>>")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// More labels of the pods; those that the operator sets itself cannot be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.exists(k, k.startsWith('tidegate.io/') || k.startsWith('app.kubernetes.io/'))",
        "message": "labels that begin with tidegate.io/ or app.kubernetes.io/ are the operator's"
    }]))]
    pub pod_labels: BTreeMap<String, String>,
    /// More annotations of the pods; those that the operator sets itself cannot be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<4_096>")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.exists(k, k.startsWith('tidegate.io/'))",
        "message": "annotations that begin with tidegate.io/ are the operator's"
    }]))]
    pub pod_annotations: BTreeMap<String, String>,
    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// The image of the pods. Default: the one that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Secrets of the Adapter's namespace that open the registry of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<SecretName>,
}

/// What the pods speak with devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2: publish by POST, subscribe by server-sent events.
    HTTP,
    /// WebSocket: a channel as a socket, and MQTT over WebSocket under `/mqtt`.
    WebSocket,
    /// MQTT 5.0, 3.1.1 and 3.1. What is retained, the sessions of clients that are away and shared subscriptions are so far
    /// each pod's own.
    MQTT,
    /// CoAP over UDP and over DTLS: publish by POST, subscribe by GET with Observe. An observation lives in one pod.
    CoAP,
}

/// Between how many pods the cluster chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
    "message": "minReplicas is above maxReplicas"
}]))]
pub struct Autoscaling {
    /// Fewest pods. Default: 2.
    #[serde(default = "replicas_default")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_replicas: i32,
    /// Most pods.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_replicas: i32,
    /// The CPU that pods should use on average, in percent of what each asks for; so resources.requests.cpu is needed for
    /// it to work. Default: 70.
    #[serde(rename = "targetCPUUtilizationPercentage", default = "target_default")]
    #[schemars(range(min = 1, max = 1_000))]
    pub target_cpu_utilization_percentage: i32,
}

fn replicas_default() -> i32 {
    REPLICAS_DEFAULT
}

fn target_default() -> i32 {
    70
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')",
        "message": "loadBalancerClass goes with type: LoadBalancer"
    },
    {
        "rule": "!has(self.externalTrafficPolicy) || (has(self.type) && self.type != 'ClusterIP')",
        "message": "externalTrafficPolicy goes with type: LoadBalancer or NodePort"
    }
]))]
pub struct ServiceTemplate {
    /// ClusterIP, NodePort or LoadBalancer. Default: ClusterIP.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Annotations of the Service, by which clouds are told what load balancer to make.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<4_096>")]
    pub annotations: BTreeMap<String, String>,
    /// Which implementation makes the load balancer. Kubernetes lets nobody change it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// Local keeps the devices' addresses and balances by node; Cluster balances by pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// From where the Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From within the cluster.
    #[default]
    ClusterIP,
    /// From a port of every node too.
    NodePort,
    /// From an address of its own too.
    LoadBalancer,
}

/// Which pods a node hands what comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Any.
    Cluster,
    /// Its own.
    Local,
}

/// An Ingress that leads to the Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ingress {
    /// The host name that devices use. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// The IngressClass. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Which paths lead here; nothing of them is taken off. Default: `/`.
    #[serde(default = "prefix_default")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^/[!-~]*$"))]
    pub prefix: String,
    /// A Secret of the Adapter's namespace with the certificate of the host, for TLS that ends at the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret: Option<String>,
    /// Annotations of the Ingress, by which controllers and cert-manager are told the rest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<4_096>")]
    pub annotations: BTreeMap<String, String>,
}

fn prefix_default() -> String {
    "/".to_owned()
}

/// An HTTPRoute that leads to the Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// The Gateways that the route belongs to.
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub parent_refs: Vec<ParentRef>,
    /// The host name that devices use. Default: any that the Gateway takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// Which paths lead here; nothing of them is taken off. Default: `/`.
    #[serde(default = "prefix_default")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^/[!-~]*$"))]
    pub prefix: String,
}

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// The Gateway's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Gateway's namespace. Default: the Adapter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The Gateway's listener. Default: every one that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}

/// How pods end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Drain {
    /// How long a pod that is told to end waits for its connections: at most 1h. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || duration(self) <= duration('1h')",
        "message": "at most 1h"
    }]))]
    pub timeout: Option<String>,
    /// How many subscriptions a pod that is told to end closes in a second, so that devices do not all come back at once.
    /// All are closed before the timeout. Default: 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub connections_per_second: Option<i32>,
}

/// What each pod asks for and may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What the node must have left for the pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "read_quantities")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the pod may take at most.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "read_quantities")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

impl AdapterSpec {
    /// How many pods there are to be; nothing where the cluster chooses.
    #[must_use]
    pub fn replicas_wanted(&self) -> Option<i32> {
        if self.autoscaling.is_some() { None } else { Some(self.replicas.unwrap_or(REPLICAS_DEFAULT)) }
    }

    /// The listeners, or those that count where none is given.
    #[must_use]
    pub fn listeners_wanted(&self) -> Vec<Listener> {
        if !self.listeners.is_empty() {
            return self.listeners.clone();
        }
        let of = |name: &str, port, transport| Listener { name: name.into(), port, transport, tls: None };
        match self.protocol {
            Protocol::HTTP => vec![of("http", 80, Transport::TCP)],
            Protocol::WebSocket => vec![of("ws", 80, Transport::TCP)],
            Protocol::MQTT => vec![of("mqtt", 1883, Transport::TCP)],
            // A pre-shared key needs no certificate.
            Protocol::CoAP => vec![of("coap", 5683, Transport::UDP), of("coaps", 5684, Transport::DTLS)],
        }
    }

    /// How long a pod that is told to end waits for its connections. What is no span counts as the default.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.drain.timeout.as_deref().and_then(span).unwrap_or(DRAIN_DEFAULT)
    }

    /// Whether devices may show pre-shared keys: over DTLS, unless they must show certificates there.
    #[must_use]
    pub fn takes_shared_keys(&self) -> bool {
        let takes = |listener: &Listener| {
            let auth = listener.tls.as_ref().and_then(|tls| tls.client_auth);
            listener.transport == Transport::DTLS && auth != Some(ClientAuth::Required)
        };
        self.protocol == Protocol::CoAP && self.listeners_wanted().iter().any(takes)
    }

    /// Settings that nothing comes of, since pods of this protocol with these listeners do not read them. The API server refuses
    /// to add such a block or field, and leaves what is there, also where a change of protocol makes it one; pods are made all
    /// the same.
    #[must_use]
    pub fn without_effect(&self) -> Vec<Violation> {
        let mut check = Check::default();
        settings::check_effect(self, &mut check);
        check.0
    }

    /// What is beyond its bounds, as far as the API server might have let it pass.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut check = Check::default();
        let found = "the number of pods is either given or found: replicas excludes autoscaling";
        check.that(self.replicas.is_none() || self.autoscaling.is_none(), "spec", found);
        let one = "one way leads in: ingress excludes gateway";
        check.that(self.ingress.is_none() || self.gateway.is_none(), "spec", one);
        let leads = self.ingress.is_some() || self.gateway.is_some();
        let alone = "ingress and gateway lead to protocol: HTTP and WebSocket alone";
        check.that(matches!(self.protocol, Protocol::HTTP | Protocol::WebSocket) || !leads, "spec", alone);
        let carried = self.listeners.iter().any(|listener| listener.transport == Transport::WebSocket);
        let alone = "transport: WebSocket goes with protocol: MQTT alone; protocol: WebSocket has TCP and TLS";
        check.that(self.protocol == Protocol::MQTT || !carried, "spec", alone);
        let datagrams = |listener: &Listener| matches!(listener.transport, Transport::UDP | Transport::DTLS);
        let fit = self.listeners.iter().all(|listener| datagrams(listener) == (self.protocol == Protocol::CoAP));
        let alone =
            "transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given";
        check.that(fit, "spec", alone);
        listener::check(&self.listeners, &mut check);
        self.settings.check(&mut check);
        check.span(&self.drain.timeout, Duration::ZERO..=DRAIN_MAX, "spec.drain.timeout");
        check.0
    }
}

impl Adapter {
    /// What is wrong with the name and the spec.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = self.spec.violations();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name.len() > 52 || !is_dns_label(name) || name.starts_with(|first: char| first.is_ascii_digit()) {
            let message = "at most 52 of a-z, 0-9 and '-' are needed, no dot, and a letter first";
            violations.insert(0, Violation { field: "metadata.name".into(), message: message.into() });
        }
        violations
    }
}
