//! The pods of an Adapter: who they are, what they run, how many, and how many may be missing.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, KeyToPath,
    Lifecycle, LifecycleHandler, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, ServiceAccount,
    ServiceAccountTokenProjection, SleepAction, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidegate_api::{Adapter, Autoscaling, Listener, Protocol, SecretName, Transport};

use super::config::{
    ADMIN_PORT, BROKER_DIR, CA_ENTRY, CACHE_DIR, CLIENT_CA_DIR, CONFIG_DIR, CONFIG_ENTRY, RUN_DIR, TLS_DIR, TOKEN_DIR,
    TOKEN_ENTRY, tls,
};
use super::{BrokerSecret, Installation, label_selector, labels, metadata};

/// The user and the group of the program: nobody that a node knows.
const USER: i64 = 65_532;
/// How long a pod goes on as if nothing were when it is told to end: so long it may take until nobody sends anything new
/// to it.
const PRE_STOP: Duration = Duration::from_secs(5);
/// What a pod has beyond its drain to end.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a token lasts; the kubelet brings a new one before.
const TOKEN_SECONDS: i64 = 3_600;
/// The annotation of pods by which a change of the configuration replaces them.
const CONFIG_ANNOTATION: &str = "tidegate.io/config";
/// The names of container ports, by which Services and policies find them.
pub(super) const ADMIN: &str = "admin";
const CONTAINER: &str = "adapter";

/// The container port behind a listener: its name and its number. A transport that the protocol does not have counts as its
/// plain one: such a spec comes to nothing.
pub(super) const fn container_port(protocol: Protocol, listener: &Listener) -> (&'static str, u16) {
    use Transport::{DTLS, TCP, TLS, UDP, WebSocket};
    match (protocol, listener.transport) {
        (Protocol::HTTP, TLS) => ("https", 8443),
        (Protocol::HTTP, TCP | WebSocket | UDP | DTLS) => ("http", 8080),
        (Protocol::WebSocket, TLS) => ("wss", 8443),
        (Protocol::WebSocket, TCP | WebSocket | UDP | DTLS) => ("ws", 8080),
        (Protocol::MQTT, TLS) => ("mqtts", 8883),
        (Protocol::MQTT, WebSocket) if listener.tls.is_some() => ("mqtt-wss", 8084),
        (Protocol::MQTT, WebSocket) => ("mqtt-ws", 8083),
        (Protocol::MQTT, TCP | UDP | DTLS) => ("mqtt", 1883),
        (Protocol::CoAP, DTLS) => ("coaps", 5684),
        (Protocol::CoAP, UDP | TCP | TLS | WebSocket) => ("coap", 5683),
    }
}

/// By what the ports of listeners are reached, as Kubernetes says it.
pub(super) const fn ip_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::HTTP | Protocol::WebSocket | Protocol::MQTT => "TCP",
        Protocol::CoAP => "UDP",
    }
}

/// Its name alone, by which Services and policies find it.
pub(super) const fn port_name(adapter: &Adapter, listener: &Listener) -> &'static str {
    container_port(adapter.spec.protocol, listener).0
}

pub(super) fn service_account(adapter: &Adapter) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(adapter, &BTreeMap::new()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub(super) fn disruption_budget(adapter: &Adapter) -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(label_selector(adapter)),
        // A pod that does not work keeps nobody from emptying a node.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..PodDisruptionBudgetSpec::default()
    };
    PodDisruptionBudget { metadata: metadata(adapter, &BTreeMap::new()), spec: Some(spec), status: None }
}

pub(super) fn autoscaler(adapter: &Adapter, autoscaling: &Autoscaling) -> HorizontalPodAutoscaler {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(autoscaling.target_cpu_utilization_percentage),
        ..MetricTarget::default()
    };
    let cpu = MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..MetricSpec::default()
    };
    let spec = HorizontalPodAutoscalerSpec {
        min_replicas: Some(autoscaling.min_replicas),
        max_replicas: autoscaling.max_replicas,
        metrics: Some(vec![cpu]),
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: "Deployment".to_owned(),
            name: adapter.metadata.name.clone().unwrap_or_default(),
        },
        ..HorizontalPodAutoscalerSpec::default()
    };
    HorizontalPodAutoscaler { metadata: metadata(adapter, &BTreeMap::new()), spec: Some(spec), status: None }
}

/// `config` is a digest of the configuration.
pub(super) fn deployment(
    adapter: &Adapter,
    installation: &Installation,
    image: &str,
    broker: &BrokerSecret,
    config: &str,
) -> Deployment {
    let spec = &adapter.spec;
    let mut pod_labels = spec.pod_labels.clone();
    pod_labels.extend(labels(adapter));
    let mut pod_annotations = spec.pod_annotations.clone();
    pod_annotations.insert(CONFIG_ANNOTATION.to_owned(), config.to_owned());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(pod_annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(adapter, installation, image, broker)),
    };
    // Those that are there go on until the new ones are ready.
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::String("25%".to_owned())),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    let spec = DeploymentSpec {
        replicas: spec.replicas_wanted(),
        revision_history_limit: Some(3),
        selector: label_selector(adapter),
        strategy: Some(DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: Some(rolling) }),
        template,
        ..DeploymentSpec::default()
    };
    Deployment { metadata: metadata(adapter, &BTreeMap::new()), spec: Some(spec), status: None }
}

fn pod(adapter: &Adapter, installation: &Installation, image: &str, broker: &BrokerSecret) -> PodSpec {
    let spec = &adapter.spec;
    let some = |list: &[SecretName]| {
        let list = list.iter().map(|secret| LocalObjectReference { name: secret.name.clone() }).collect::<Vec<_>>();
        Some(list).filter(|list| !list.is_empty())
    };
    let grace = PRE_STOP + spec.drain_timeout() + MARGIN;
    PodSpec {
        affinity: spec.affinity.clone(),
        automount_service_account_token: Some(false),
        containers: vec![container(adapter, image)],
        enable_service_links: Some(false),
        image_pull_secrets: some(&spec.image_pull_secrets),
        node_selector: Some(spec.node_selector.clone()).filter(|labels| !labels.is_empty()),
        priority_class_name: spec.priority_class_name.clone(),
        security_context: Some(PodSecurityContext {
            fs_group: Some(USER),
            run_as_group: Some(USER),
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        service_account_name: adapter.metadata.name.clone(),
        termination_grace_period_seconds: Some(i64::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)),
        tolerations: Some(spec.tolerations.clone()).filter(|list| !list.is_empty()),
        topology_spread_constraints: Some(spread(adapter)),
        volumes: Some(volumes(adapter, installation, broker)),
        ..PodSpec::default()
    }
}

/// What the Adapter says; pods on as many nodes as may be where it says nothing.
fn spread(adapter: &Adapter) -> Vec<TopologySpreadConstraint> {
    let own = |constraint: &TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: constraint.label_selector.clone().or_else(|| Some(label_selector(adapter))),
        ..constraint.clone()
    };
    if !adapter.spec.topology_spread_constraints.is_empty() {
        return adapter.spec.topology_spread_constraints.iter().map(own).collect();
    }
    vec![own(&TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    })]
}

fn container(adapter: &Adapter, image: &str) -> Container {
    let spec = &adapter.spec;
    let face = match spec.protocol {
        Protocol::HTTP => "http",
        Protocol::WebSocket => "ws",
        Protocol::MQTT => "mqtt",
        Protocol::CoAP => "coap",
    };
    let port = |name: &str, port: u16, protocol: &str| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    let mut ports: Vec<ContainerPort> = spec
        .listeners_wanted()
        .iter()
        .map(|listener| {
            let (name, number) = container_port(spec.protocol, listener);
            port(name, number, ip_protocol(spec.protocol))
        })
        .collect();
    ports.push(port(ADMIN, ADMIN_PORT, "TCP"));
    let quantities = |amounts: &BTreeMap<String, Quantity>| Some(amounts.clone()).filter(|all| !all.is_empty());
    let resources = ResourceRequirements {
        limits: quantities(&spec.resources.limits),
        requests: quantities(&spec.resources.requests),
        ..ResourceRequirements::default()
    };
    let pre_stop = LifecycleHandler {
        sleep: Some(SleepAction { seconds: i64::try_from(PRE_STOP.as_secs()).unwrap_or(0) }),
        ..LifecycleHandler::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        command: Some(vec!["adapter".to_owned()]),
        args: Some(vec![face.to_owned(), "--config".to_owned(), format!("{CONFIG_DIR}/{CONFIG_ENTRY}")]),
        lifecycle: Some(Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() }),
        liveness_probe: Some(probe("/health", 10, 3)),
        ports: Some(ports),
        readiness_probe: Some(probe("/ready", 2, 2)),
        resources: Some(resources),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(adapter)),
        ..Container::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn mounts(adapter: &Adapter) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("config", CONFIG_DIR, true),
        mount("token", TOKEN_DIR, true),
        mount("broker", BROKER_DIR, true),
        mount("cache", CACHE_DIR, false),
        mount("run", RUN_DIR, false),
    ];
    if let Some(tls) = tls(&adapter.spec) {
        mounts.push(mount("tls", TLS_DIR, true));
        mounts.extend(tls.client_ca_ref.map(|_| mount("client-ca", CLIENT_CA_DIR, true)));
    }
    mounts
}

fn volumes(adapter: &Adapter, installation: &Installation, broker: &BrokerSecret) -> Vec<Volume> {
    let named = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    let secret = |name: &str, secret: &str, entry: Option<&str>| Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            items: entry.map(|key| vec![KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None }]),
            ..SecretVolumeSource::default()
        }),
        ..named(name)
    };
    let config = ConfigMapVolumeSource {
        name: adapter.metadata.name.clone().unwrap_or_default(),
        ..ConfigMapVolumeSource::default()
    };
    let token = ServiceAccountTokenProjection {
        audience: Some(installation.audience.clone()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: TOKEN_ENTRY.to_owned(),
    };
    let token = ProjectedVolumeSource {
        sources: Some(vec![VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() }]),
        ..ProjectedVolumeSource::default()
    };
    // What proves that the kept table is this pod's own is never on the node's disk.
    let memory =
        EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(Quantity("64Ki".to_owned())) };
    let mut volumes = vec![
        Volume { config_map: Some(config), ..named("config") },
        Volume { projected: Some(token), ..named("token") },
        secret("broker", &broker.name, None),
        Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..named("cache") },
        Volume { empty_dir: Some(memory), ..named("run") },
    ];
    if let Some(tls) = tls(&adapter.spec) {
        volumes.push(secret("tls", &tls.secret_ref.name, None));
        // The Secret of an authority may hold its key too, which is none of a pod's business.
        volumes.extend(tls.client_ca_ref.map(|authority| secret("client-ca", &authority.name, Some(CA_ENTRY))));
    }
    volumes
}
