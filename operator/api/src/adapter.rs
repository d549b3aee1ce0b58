//! Adapter: one protocol face, as pods and what leads to them.

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

/// Pods where nothing is said.
const REPLICAS_DEFAULT: i32 = 2;
/// How long pods that are told to end wait for connections, where nothing is said.
const DRAIN_DEFAULT: Duration = Duration::from_secs(30);
/// How long they may wait.
const DRAIN_MAX: Duration = Duration::from_secs(3_600);
/// How long an event stream may be silent at most: what proxies bear.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(30);
/// How often a WebSocket is pinged, and how long it may be silent, where nothing is said.
const PING_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How long a WebSocket may be silent at most.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Any other span.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Origins of one Adapter.
const ORIGINS_MAX: usize = 64;
/// Characters of an origin.
const ORIGIN_CHARS_MAX: usize = 253;

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
    /// 80, for WebSocket named ws on port 80, for MQTT named mqtt on port 1883.
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
            "rule": "self.all(a, self.all(b, !has(a.tls) || !has(b.tls) || a.tls.secretRef.name == b.tls.secretRef.name))",
            "message": "the listeners of an Adapter share one certificate"
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

/// A port on which devices are served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.transport) && self.transport == 'WebSocket') || \
        has(self.tls) == (has(self.transport) && self.transport == 'TLS')",
    "message": "tls goes with transport: TLS and WebSocket, and TLS needs it"
}]))]
pub struct Listener {
    /// Names the port of the Service.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The port of the Service; pods listen on one of their own.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// TCP for plain text, as behind an Ingress; TLS for an end of TLS in the pods; WebSocket, with tls or without, for MQTT
    /// over WebSocket. Default: TCP.
    #[serde(default)]
    pub transport: Transport,
    /// The certificate; for transport TLS, and for WebSocket that is to be wss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What carries the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// Plain text.
    #[default]
    TCP,
    /// TLS 1.2 or 1.3.
    TLS,
    /// WebSocket, for MQTT: with tls wss, without it ws.
    WebSocket,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// A Secret of the Adapter's namespace with `tls.crt` and `tls.key`, as cert-manager makes it; reloaded in place.
    pub secret_ref: SecretName,
}

/// Names a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
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

/// How the adapter program behaves: its options, where their defaults stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// How long a publish may wait for the broker before it is refused: at most 10m. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) > duration('0s') && duration(self) <= duration('10m'))",
        "message": "more than 0 and at most 10m"
    }]))]
    pub publish_timeout: Option<String>,
    /// Open connections of one listener of one pod; more wait until one ends. Default: 20000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// What is logged: error, warn, info, debug, trace, or directives by module. Default: info.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub log_level: Option<String>,
    /// How logs are written: Json for machines, Text for people. Default: Json.
    pub log_format: LogFormat,
    /// What is HTTP's own.
    pub http: HttpSettings,
    /// What is MQTT's own.
    pub mqtt: MqttSettings,
    /// What is WebSocket's own.
    pub websocket: WebSocketSettings,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// What is HTTP's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpSettings {
    /// How long an event stream may be silent before a comment is sent: at most 30s. Default: 15s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) > duration('0s') && duration(self) <= duration('30s'))",
        "message": "more than 0 and at most 30s"
    }]))]
    pub keep_alive: Option<String>,
    /// How long a client may take to send a request's head, or its body, or to take any of an answer: at most 10m.
    /// Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) > duration('0s') && duration(self) <= duration('10m'))",
        "message": "more than 0 and at most 10m"
    }]))]
    pub timeout: Option<String>,
    /// Bytes of all bodies that one pod holds at once; beyond it requests are answered 429. Default: 268435456.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 68_719_476_736_i64))]
    pub bodies_max_bytes: Option<i64>,
}

/// What is MQTT's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MqttSettings {
    /// The longest keep alive of a client; one that says more, or none, is told this: 1s to 18h. Default: as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1s') && duration(self) <= duration('18h'))",
        "message": "at least 1s and at most 18h"
    }]))]
    pub keep_alive_max: Option<String>,
    /// How long a session may outlive its connection: 0s to 8760h. Default: 168h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('0s') && duration(self) <= duration('8760h'))",
        "message": "at most 8760h"
    }]))]
    pub session_expiry_max: Option<String>,
    /// Bytes of one packet. Default: 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 268_435_455))]
    pub packet_max_bytes: Option<i32>,
    /// Messages of QoS 1 and 2 that wait for one client, there or away; more are dropped and counted. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_waiting: Option<i32>,
    /// Bytes of them. Default: 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_073_741_824))]
    pub waiting_max_bytes: Option<i32>,
    /// Connections that one pod takes on in a second; more wait. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connects_per_second: Option<i32>,
    /// Connections of one pod that may wait at once to be let in; more are closed. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_half_open: Option<i32>,
}

/// What is WebSocket's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.pingInterval) ? self.pingInterval : '30s', has(self.idleTimeout) ? self.idleTimeout : '60s']\
        .exists(s, !s.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')) || \
        duration(has(self.pingInterval) ? self.pingInterval : '30s') < \
        duration(has(self.idleTimeout) ? self.idleTimeout : '60s')",
    "message": "pingInterval must be below idleTimeout, since a client that has nothing to say answers pings alone"
}]))]
pub struct WebSocketSettings {
    /// How often a ping is sent: 1s to 10m, and below idleTimeout. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1s') && duration(self) <= duration('10m'))",
        "message": "at least 1s and at most 10m"
    }]))]
    pub ping_interval: Option<String>,
    /// How long a client may be silent, its pongs included, before its socket is closed: 1s to 1h. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1s') && duration(self) <= duration('1h'))",
        "message": "at least 1s and at most 1h"
    }]))]
    pub idle_timeout: Option<String>,
    /// The origins whose pages may open a socket, such as `https://app.example.com`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 253), regex(pattern = "^(null|[a-z][-+.a-z0-9]*://[a-z0-9._:\\[\\]-]+)$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub origins: Option<Vec<String>>,
    /// Messages of one socket that wait for the broker; no more of it are read meanwhile. Default: 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight: Option<i32>,
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

    /// The listeners, or the one that counts where none is given.
    #[must_use]
    pub fn listeners_wanted(&self) -> Vec<Listener> {
        if !self.listeners.is_empty() {
            return self.listeners.clone();
        }
        let (name, port) = match self.protocol {
            Protocol::HTTP => ("http", 80),
            Protocol::WebSocket => ("ws", 80),
            Protocol::MQTT => ("mqtt", 1883),
        };
        vec![Listener { name: name.into(), port, transport: Transport::TCP, tls: None }]
    }

    /// How long a pod that is told to end waits for its connections. What is no span counts as the default.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.drain.timeout.as_deref().and_then(span).unwrap_or(DRAIN_DEFAULT)
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
        self.check_listeners(&mut check);
        self.settings.websocket.check(&mut check);
        let settings = &self.settings;
        let [second, least] = [Duration::from_secs(1), Duration::from_millis(1)];
        for (text, min, max, field) in [
            (&settings.publish_timeout, least, TIMEOUT_MAX, "spec.settings.publishTimeout"),
            (&settings.http.keep_alive, least, KEEP_ALIVE_MAX, "spec.settings.http.keepAlive"),
            (&settings.http.timeout, least, TIMEOUT_MAX, "spec.settings.http.timeout"),
            (&settings.websocket.ping_interval, second, TIMEOUT_MAX, "spec.settings.websocket.pingInterval"),
            (&settings.websocket.idle_timeout, second, IDLE_TIMEOUT_MAX, "spec.settings.websocket.idleTimeout"),
            (&self.drain.timeout, Duration::ZERO, DRAIN_MAX, "spec.drain.timeout"),
        ] {
            let fits = text.as_deref().is_none_or(|text| span(text).is_some_and(|span| (min..=max).contains(&span)));
            check.that(fits, field, "a span as 30s or 5m within its bounds is needed");
        }
        check.0
    }

    fn check_listeners(&self, check: &mut Check) {
        for (index, listener) in self.listeners.iter().enumerate() {
            let field = format!("spec.listeners[{index}]");
            let before = &self.listeners[..index];
            let same = |other: &Listener| other.transport == listener.transport;
            check.that(!before.iter().any(same), &field, "at most one listener of each transport");
            let same = |other: &Listener| other.port == listener.port;
            check.that(!before.iter().any(same), &field, "two listeners have the same port");
            let other = |other: &Listener| listener.tls.is_some() && other.tls.is_some() && other.tls != listener.tls;
            check.that(!before.iter().any(other), &field, "the listeners of an Adapter share one certificate");
            let tls = match listener.transport {
                Transport::TCP => listener.tls.is_none(),
                Transport::TLS => listener.tls.is_some(),
                Transport::WebSocket => true,
            };
            check.that(tls, &field, "tls goes with transport: TLS and WebSocket, and TLS needs it");
        }
    }
}

impl WebSocketSettings {
    fn check(&self, check: &mut Check) {
        let or = |given: &Option<String>, default| given.as_deref().map_or(Some(default), span);
        let spans = or(&self.ping_interval, PING_INTERVAL_DEFAULT).zip(or(&self.idle_timeout, IDLE_TIMEOUT_DEFAULT));
        let below =
            "pingInterval must be below idleTimeout, since a client that has nothing to say answers pings alone";
        check.that(spans.is_none_or(|(ping, idle)| ping < idle), "spec.settings.websocket", below);
        let (origins, field) = (self.origins.as_deref(), "spec.settings.websocket.origins");
        check.that(origins.is_none_or(|origins| !origins.is_empty()), field, "at least 1 item, or none of it");
        check.at_most(origins.map_or(0, <[String]>::len), ORIGINS_MAX, field);
        for (index, origin) in origins.unwrap_or_default().iter().enumerate() {
            let message = "an origin as https://app.example.com is needed";
            check.that(is_origin(origin), &format!("{field}[{index}]"), message);
        }
    }
}

/// As a browser says it, in lower case: a scheme and a host, perhaps a port, and no path; `null` of a page that has none.
fn is_origin(text: &str) -> bool {
    let of = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || more.contains(&b))
    };
    let named = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split_once("://").is_some_and(|(scheme, host)| of(scheme, b"-+.") && of(host, b"-._:[]"));
    text.len() <= ORIGIN_CHARS_MAX && (named || text == "null")
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
