//! What leads to the pods of an Adapter: Service, policy, Ingress and HTTPRoute.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use tidegate_api::{Adapter, ExternalTrafficPolicy, Gateway, Listener, Protocol, ServiceType, Transport};

use super::pods::{ADMIN, ip_protocol, port_name};
use super::{label_selector, metadata, selector, value};

/// How long datagrams of an address go to the pod that had the last of them: as long as an observation may go without a
/// sign of life (the longest `pingPeriod`), which is also the longest that Kubernetes takes. An observation, a body in
/// blocks and a session of DTLS live in one pod, and what is said of them anywhere else is said to nobody.
const AFFINITY: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn service(adapter: &Adapter) -> Service {
    let template = &adapter.spec.service;
    let port = |listener: &Listener| ServicePort {
        name: Some(listener.name.clone()),
        port: listener.port,
        protocol: Some(ip_protocol(adapter.spec.protocol).to_owned()),
        target_port: Some(IntOrString::String(port_name(adapter, listener).to_owned())),
        ..ServicePort::default()
    };
    let kind = match template.kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let policy = template.external_traffic_policy.map(|policy| match policy {
        ExternalTrafficPolicy::Cluster => "Cluster".to_owned(),
        ExternalTrafficPolicy::Local => "Local".to_owned(),
    });
    // A connection stays where it is; datagrams have none.
    let affinity = (adapter.spec.protocol == Protocol::CoAP).then(|| SessionAffinityConfig {
        client_ip: Some(ClientIPConfig { timeout_seconds: i32::try_from(AFFINITY.as_secs()).ok() }),
    });
    let spec = ServiceSpec {
        session_affinity: affinity.as_ref().map(|_| "ClientIP".to_owned()),
        session_affinity_config: affinity,
        type_: Some(kind.to_owned()),
        external_traffic_policy: policy,
        load_balancer_class: template.load_balancer_class.clone(),
        ports: Some(adapter.spec.listeners_wanted().iter().map(port).collect()),
        selector: Some(selector(adapter)),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(adapter, &template.annotations), spec: Some(spec), status: None }
}

/// Devices reach the listeners from everywhere, and so does who reads metrics; nothing else is open.
pub(super) fn network_policy(adapter: &Adapter) -> NetworkPolicy {
    let port = |name: &str, protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::String(name.to_owned())),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    };
    let listeners = adapter.spec.listeners_wanted();
    let mut ports: Vec<_> = listeners
        .iter()
        .map(|listener| port(port_name(adapter, listener), ip_protocol(adapter.spec.protocol)))
        .collect();
    ports.push(port(ADMIN, "TCP"));
    let rule = NetworkPolicyIngressRule { ports: Some(ports), ..NetworkPolicyIngressRule::default() };
    let spec = NetworkPolicySpec {
        ingress: Some(vec![rule]),
        pod_selector: Some(label_selector(adapter)),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ..NetworkPolicySpec::default()
    };
    NetworkPolicy { metadata: metadata(adapter, &BTreeMap::new()), spec: Some(spec) }
}

/// The listener that a proxy calls: the one in plain text, where there is one.
fn behind_a_proxy(adapter: &Adapter) -> Listener {
    let listeners = adapter.spec.listeners_wanted();
    let plain = listeners.iter().find(|listener| listener.transport == Transport::TCP);
    plain.or(listeners.first()).cloned().expect("there is at least one listener")
}

pub(super) fn ingress(adapter: &Adapter, wanted: &tidegate_api::Ingress) -> Ingress {
    let backend = IngressServiceBackend {
        name: adapter.metadata.name.clone().unwrap_or_default(),
        port: Some(ServiceBackendPort { name: Some(behind_a_proxy(adapter).name), number: None }),
    };
    let path = HTTPIngressPath {
        backend: IngressBackend { service: Some(backend), resource: None },
        path: Some(wanted.prefix.clone()),
        path_type: "Prefix".to_owned(),
    };
    let tls = wanted.tls_secret.as_ref().map(|secret| IngressTLS {
        hosts: wanted.host.clone().map(|host| vec![host]),
        secret_name: Some(secret.clone()),
    });
    let rule = IngressRule { host: wanted.host.clone(), http: Some(HTTPIngressRuleValue { paths: vec![path] }) };
    let spec = IngressSpec {
        ingress_class_name: wanted.class_name.clone(),
        rules: Some(vec![rule]),
        tls: tls.map(|tls| vec![tls]),
        ..IngressSpec::default()
    };
    Ingress { metadata: metadata(adapter, &wanted.annotations), spec: Some(spec), status: None }
}

/// The Gateway API is not among the types of Kubernetes itself.
pub(super) fn route(adapter: &Adapter, wanted: &Gateway) -> Value {
    let parents: Vec<Value> = wanted
        .parent_refs
        .iter()
        .map(|parent| {
            let mut reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": parent.name});
            for (field, given) in [("namespace", &parent.namespace), ("sectionName", &parent.section_name)] {
                if let Some(given) = given {
                    reference[field] = given.as_str().into();
                }
            }
            reference
        })
        .collect();
    let mut spec = json!({
        "parentRefs": parents,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": wanted.prefix}}],
            "backendRefs": [{
                "kind": "Service",
                "name": adapter.metadata.name,
                "port": behind_a_proxy(adapter).port,
            }],
        }],
    });
    if let Some(host) = &wanted.host {
        spec["hostnames"] = json!([host]);
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": value(&metadata(adapter, &BTreeMap::new())),
        "spec": spec,
    })
}
