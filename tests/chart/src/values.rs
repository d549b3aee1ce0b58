//! The values of the chart: names, defaults, and what each means. `values.yaml`, `values.schema.json` and the table of the
//! chart's README are made of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_api::{AdapterSpec, ClientAuth, Resources};

/// Labels or annotations.
pub type Texts = BTreeMap<String, String>;

/// The values of the chart.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Values {
    /// Replaces the beginning of every object's name. Default: the release's name, with `-tidegate` where that is not in it.
    pub fullname_override: String,
    /// Labels of every object.
    pub common_labels: Texts,
    /// The image of the operator, of Adapters that name none, and of the test.
    pub image: Image,
    /// The namespaces whose Things, Channels, Secrets and Adapters count, and in which the operator has any right; all
    /// where empty. The release's own has to be among them.
    pub watch_namespaces: Vec<String>,
    /// The operator.
    pub operator: Operator,
    /// The faces that devices speak with, as Adapters of the release's namespace. Others may be applied beside them.
    pub adapters: Adapters,
    /// RabbitMQ.
    pub broker: Broker,
    /// How the definitions of Thing, Channel and Adapter stay as new as the operator.
    pub definitions: Definitions,
    /// Rights of people.
    pub rbac: Rbac,
    /// Who may connect a Thing to a Channel of another namespace: whoever has the right `connect` on that Channel there.
    pub admission_policy: Switch,
    /// What may talk to what. Works where the network of the cluster enforces NetworkPolicies.
    pub network_policy: NetworkPolicy,
    /// What Prometheus and Grafana are given.
    pub monitoring: Monitoring,
    /// Values of a parent chart. Nothing here reads them.
    pub global: BTreeMap<String, Value>,
}

/// An image.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Image {
    /// Registry and name.
    pub repository: String,
    /// The tag. Default: the version of the chart.
    pub tag: String,
    /// `sha256:…`; counts instead of the tag.
    #[schemars(regex(pattern = "^(sha256:[0-9a-f]{64})?$"))]
    pub digest: String,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
    /// Secrets of the release's namespace that open the registry, as `[{name: …}]`.
    pub pull_secrets: Vec<SecretName>,
}

/// When an image is pulled.
#[derive(Debug, Serialize, JsonSchema)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// Where the node has it not.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// Names a Secret.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// Its name.
    pub name: String,
}

/// The operator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operator {
    /// Pods. One of them writes, all serve adapters.
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u32,
    /// `error`, `warn`, `info`, `debug`, or a filter as `info,tidegate_runtime=debug`.
    pub log_level: String,
    /// `json` or `text`.
    pub log_format: LogFormat,
    /// Writes to the API server in a second, at most.
    #[schemars(range(min = 1, max = 10_000))]
    pub writes_per_second: u32,
    /// What a pod asks for and may take. 100,000 Things take 600 MiB.
    pub resources: Resources,
    /// Labels that a node must have.
    pub node_selector: Texts,
    /// Taints of nodes that the pods bear.
    pub tolerations: Vec<Toleration>,
    /// Which nodes and neighbors the pods prefer, need and avoid.
    pub affinity: Affinity,
    /// How the pods are spread; without a labelSelector the operator's own are counted. Default: on as many nodes as may be.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The PriorityClass of the pods.
    pub priority_class_name: String,
    /// More labels of the pods.
    pub pod_labels: Texts,
    /// More annotations of the pods.
    pub pod_annotations: Texts,
    /// Annotations of the ServiceAccount.
    pub service_account_annotations: Texts,
    /// At most one pod at a time is taken away on purpose.
    pub pod_disruption_budget: Switch,
}

/// How a log is written.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// On or off.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Switch {
    /// Whether it is there.
    pub enabled: bool,
}

/// The faces.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Adapters {
    /// HTTP: publish by POST, subscribe by server-sent events.
    pub http: Adapter,
    /// WebSocket: a channel as a socket, and MQTT over WebSocket under `/mqtt`.
    pub websocket: Adapter,
    /// MQTT 5.0, 3.1.1 and 3.1. What is retained, the sessions of clients that are away and shared subscriptions are so far
    /// each pod's own.
    pub mqtt: Adapter,
    /// CoAP over UDP and DTLS: publish by POST, subscribe by GET with Observe.
    pub coap: Adapter,
}

/// A face.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Adapter {
    /// Whether it is there.
    pub enabled: bool,
    /// A listener with TLS beside the one in plain text, where a certificate is given. CoAP's listener with DTLS is there
    /// without one too, for pre-shared keys. Where the spec has listeners, those have to name the Secrets that are named here.
    pub tls: Tls,
    /// The Adapter's spec: see `kubectl explain adapter.spec`. Listeners that are given here count instead of those that
    /// the chart would make; imagePullSecrets are those of image.pullSecrets where none are given.
    #[schemars(with = "AdapterSpec")]
    pub spec: Value,
}

/// A certificate, and whose certificates devices may show.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// The Secret with tls.crt and tls.key; where an issuer is given too, cert-manager makes it under this name.
    pub secret_name: String,
    /// The issuer of cert-manager that makes the certificate.
    pub issuer_ref: IssuerRef,
    /// The names in that certificate, beside that of the Service.
    pub dns_names: Vec<String>,
    /// The Secret with ca.crt, the authority that signed the certificate, where that has the Service's name
    /// `<service>.<namespace>.svc` among its names: by it `helm test` checks the listener. Default: with an issuer, the Secret
    /// that cert-manager makes. Not for CoAP.
    pub server_ca_secret_name: String,
    /// The Secret with ca.crt, the authorities that sign devices' certificates; devices are asked for none where empty.
    pub client_ca_secret_name: String,
    /// Whether devices are asked for a certificate of those authorities: None, Optional or Required, which refuses pre-shared
    /// keys of DTLS too.
    pub client_auth: ClientAuth,
}

/// An issuer of cert-manager.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IssuerRef {
    /// Its name; none is asked where empty.
    pub name: String,
    /// Issuer or ClusterIssuer.
    pub kind: String,
    /// The group of an issuer that is not cert-manager's own.
    pub group: String,
}

/// RabbitMQ.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Broker {
    /// The Secret that says where your RabbitMQ is. It has to lie in the namespace of every Adapter.
    pub secret_ref: BrokerSecret,
    /// The topic exchange that messages go to.
    #[schemars(length(min = 1, max = 240))]
    pub exchange: String,
    /// A RabbitMQ of one node, to try Tidegate with; for production bring your own. It is not there where secretRef names a
    /// Secret.
    pub embedded: EmbeddedBroker,
}

/// Where the broker is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BrokerSecret {
    /// The Secret; the `<name>-default-user` of RabbitMQ's own operator will do.
    pub name: String,
    /// The entry with the URL: `amqp://user:password@host:port/vhost` or `amqps://…`.
    pub url_entry: String,
    /// The entry with the CA of an `amqps://` broker, PEM.
    pub ca_entry: String,
}

/// A broker of one node.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmbeddedBroker {
    /// Whether it is there, where secretRef names no Secret.
    pub enabled: bool,
    /// Its image: RabbitMQ 4.
    pub image: BrokerImage,
    /// The user that it runs as: the one that the image was made for.
    pub run_as_user: i64,
    /// What it asks for and may take.
    pub resources: Resources,
    /// Bytes of memory beyond which it takes no messages: less than the limit of memory.
    pub memory_high_watermark: String,
    /// A volume for what waits in queues. Without one that is lost with the pod.
    pub persistence: Persistence,
    /// Labels that the node must have.
    pub node_selector: Texts,
    /// Taints of nodes that the pod bears.
    pub tolerations: Vec<Toleration>,
    /// Which nodes and neighbors the pod prefers, needs and avoids.
    pub affinity: Affinity,
    /// The PriorityClass of the pod.
    pub priority_class_name: String,
}

/// The image of the embedded broker.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BrokerImage {
    /// Registry and name.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
}

/// A volume.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Persistence {
    /// Whether there is one. A release cannot change it later.
    pub enabled: bool,
    /// Its size.
    pub size: String,
    /// Its StorageClass. Default: the cluster's.
    pub storage_class_name: String,
}

/// The definitions.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Definitions {
    /// A Job before each installation and upgrade brings the definitions of this version to the cluster, since Helm itself
    /// installs them once and never touches them again. Neither ever deletes them.
    pub upgrade: bool,
}

/// Rights of people.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rbac {
    /// Who may view, edit or administer a namespace may do so with its Things and Channels too, by Kubernetes' own roles
    /// `view`, `edit` and `admin`. Adapters stay the administrator's of the cluster.
    pub aggregate: bool,
}

/// What may talk to what.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// Closes every port of the operator and the embedded broker that is not meant to be called. Adapters have policies of
    /// their own.
    pub enabled: bool,
    /// Denies everything else in the release's namespace, in both directions, and allows what the operator, Adapters and the
    /// embedded broker need.
    pub default_deny: bool,
    /// The ports of the API server, for that.
    pub api_server_ports: Vec<u16>,
    /// The ports of the broker, for that.
    pub broker_ports: Vec<u16>,
}

/// What Prometheus and Grafana are given.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Monitoring {
    /// PodMonitors of Prometheus' operator, for the operator and for Adapters of all namespaces.
    pub pod_monitor: PodMonitor,
    /// A PrometheusRule of Prometheus' operator: alerts.
    pub prometheus_rule: Labelled,
    /// A ConfigMap with a dashboard, as Grafana's sidecar finds it.
    pub dashboard: Labelled,
}

/// A PodMonitor.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodMonitor {
    /// Whether they are there.
    pub enabled: bool,
    /// How often metrics are read.
    pub interval: String,
    /// Labels by which your Prometheus selects them.
    pub labels: Texts,
}

/// Something that is found by its labels.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Labelled {
    /// Whether it is there.
    pub enabled: bool,
    /// Labels by which it is found.
    pub labels: Texts,
}

fn resources(requests: Value, limits: Value) -> Resources {
    let of = |given: Value| serde_json::from_value(given).expect("quantities");
    Resources { requests: of(requests), limits: of(limits) }
}

impl Default for Image {
    fn default() -> Self {
        Self {
            repository: "tidegate/tidegate".to_owned(),
            tag: String::new(),
            digest: String::new(),
            pull_policy: PullPolicy::IfNotPresent,
            pull_secrets: vec![],
        }
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            replicas: 2,
            log_level: "info".to_owned(),
            log_format: LogFormat::Json,
            writes_per_second: 100,
            resources: resources(json!({"cpu": "50m", "memory": "64Mi"}), json!({"memory": "1Gi"})),
            node_selector: Texts::new(),
            tolerations: vec![],
            affinity: Affinity::default(),
            topology_spread_constraints: vec![],
            priority_class_name: String::new(),
            pod_labels: Texts::new(),
            pod_annotations: Texts::new(),
            service_account_annotations: Texts::new(),
            pod_disruption_budget: Switch::default(),
        }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Adapter {
    fn of(protocol: &str) -> Self {
        let spec = json!({
            "protocol": protocol,
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        });
        Self { enabled: true, tls: Tls::default(), spec }
    }
}

impl Default for Adapter {
    fn default() -> Self {
        Self::of("HTTP")
    }
}

impl Default for Adapters {
    fn default() -> Self {
        let [http, websocket, mqtt, coap] = ["HTTP", "WebSocket", "MQTT", "CoAP"].map(Adapter::of);
        Self { http, websocket, mqtt, coap }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            secret_name: String::new(),
            issuer_ref: IssuerRef::default(),
            dns_names: vec![],
            server_ca_secret_name: String::new(),
            client_ca_secret_name: String::new(),
            client_auth: ClientAuth::Optional,
        }
    }
}

impl Default for IssuerRef {
    fn default() -> Self {
        Self { name: String::new(), kind: "Issuer".to_owned(), group: "cert-manager.io".to_owned() }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            secret_ref: BrokerSecret::default(),
            exchange: "messages".to_owned(),
            embedded: EmbeddedBroker::default(),
        }
    }
}

impl Default for BrokerSecret {
    fn default() -> Self {
        Self { name: String::new(), url_entry: "connection_string".to_owned(), ca_entry: String::new() }
    }
}

impl Default for EmbeddedBroker {
    fn default() -> Self {
        Self {
            enabled: true,
            image: BrokerImage::default(),
            run_as_user: 999,
            resources: resources(json!({"cpu": "100m", "memory": "256Mi"}), json!({"memory": "1Gi"})),
            memory_high_watermark: "512MiB".to_owned(),
            persistence: Persistence::default(),
            node_selector: Texts::new(),
            tolerations: vec![],
            affinity: Affinity::default(),
            priority_class_name: String::new(),
        }
    }
}

impl Default for BrokerImage {
    fn default() -> Self {
        Self { repository: "rabbitmq".to_owned(), tag: "4".to_owned(), pull_policy: PullPolicy::IfNotPresent }
    }
}

impl Default for Persistence {
    fn default() -> Self {
        Self { enabled: false, size: "8Gi".to_owned(), storage_class_name: String::new() }
    }
}

impl Default for Definitions {
    fn default() -> Self {
        Self { upgrade: true }
    }
}

impl Default for Rbac {
    fn default() -> Self {
        Self { aggregate: true }
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, default_deny: false, api_server_ports: vec![443, 6443], broker_ports: vec![5671, 5672] }
    }
}

impl Default for Monitoring {
    fn default() -> Self {
        let label = Texts::from([("grafana_dashboard".to_owned(), "1".to_owned())]);
        Self {
            pod_monitor: PodMonitor::default(),
            prometheus_rule: Labelled { enabled: false, labels: Texts::new() },
            dashboard: Labelled { enabled: false, labels: label },
        }
    }
}

impl Default for PodMonitor {
    fn default() -> Self {
        Self { enabled: false, interval: "30s".to_owned(), labels: Texts::new() }
    }
}
