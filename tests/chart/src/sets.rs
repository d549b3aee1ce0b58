//! Sets of values that users have, and what the chart makes of them.

use crate::{chart, helm};

/// A set of values, by the name of its golden.
pub const SETS: [(&str, &[&str]); 26] = [
    ("default", &[]),
    (
        "one-replica",
        &["operator.replicas=1", "operator.podDisruptionBudget.enabled=false", "adapters.http.spec.replicas=1"],
    ),
    ("own-broker", &["broker.secretRef.name=rabbitmq-default-user"]),
    (
        "own-broker-tls",
        &[
            "broker.secretRef.name=mq",
            "broker.secretRef.urlEntry=url",
            "broker.secretRef.caEntry=ca.crt",
            "broker.exchange=iot",
        ],
    ),
    (
        "embedded-persistent",
        &[
            "broker.embedded.persistence.enabled=true",
            "broker.embedded.persistence.storageClassName=fast",
            "broker.embedded.priorityClassName=high",
        ],
    ),
    ("namespaces", &["watchNamespaces={tidegate,plant-a,plant-b}"]),
    ("tls-secret", &["adapters.http.tls.secretName=http-tls"]),
    (
        "tls-issuer",
        &[
            "adapters.http.tls.issuerRef.name=ca",
            "adapters.http.tls.issuerRef.kind=ClusterIssuer",
            "adapters.http.tls.dnsNames={iot.example.org}",
        ],
    ),
    (
        "ingress",
        &[
            "adapters.http.spec.ingress.host=iot.example.org",
            "adapters.http.spec.ingress.prefix=/http",
            "adapters.http.spec.ingress.className=nginx",
            "adapters.websocket.spec.ingress.host=iot.example.org",
            "adapters.websocket.spec.ingress.prefix=/ws",
            "adapters.websocket.spec.ingress.className=nginx",
        ],
    ),
    (
        "gateway",
        &[
            "adapters.http.spec.gateway.parentRefs[0].name=edge",
            "adapters.http.spec.gateway.prefix=/http",
            "adapters.websocket.spec.gateway.parentRefs[0].name=edge",
            "adapters.websocket.spec.gateway.prefix=/ws",
        ],
    ),
    (
        "load-balancer",
        &[
            "adapters.http.spec.service.type=LoadBalancer",
            "adapters.http.spec.service.externalTrafficPolicy=Local",
            "adapters.http.spec.autoscaling.maxReplicas=9",
        ],
    ),
    ("http-alone", &["adapters.websocket.enabled=false", "adapters.mqtt.enabled=false", "adapters.coap.enabled=false"]),
    ("mqtt-tls", &["adapters.mqtt.tls.secretName=mqtt-tls"]),
    (
        "mqtt-websocket",
        &[
            "adapters.mqtt.spec.listeners[0].name=mqtt-ws",
            "adapters.mqtt.spec.listeners[0].port=8083",
            "adapters.mqtt.spec.listeners[0].transport=WebSocket",
        ],
    ),
    (
        "websocket-tls",
        &[
            "adapters.websocket.tls.secretName=ws-tls",
            "adapters.websocket.spec.settings.websocket.origins={https://app.example.org}",
        ],
    ),
    (
        "coap-tls",
        &[
            "adapters.coap.tls.secretName=coap-tls",
            "adapters.coap.tls.clientCaSecretName=devices",
            "adapters.coap.spec.settings.coap.pingPeriod=24h",
            "adapters.coap.spec.service.type=LoadBalancer",
        ],
    ),
    (
        "coap-dtls-alone",
        &[
            "adapters.coap.spec.listeners[0].name=coaps",
            "adapters.coap.spec.listeners[0].port=15684",
            "adapters.coap.spec.listeners[0].transport=DTLS",
        ],
    ),
    // A certificate that the chart asks for, and listeners of one's own that show it.
    (
        "mqtt-listeners-issuer",
        &[
            "adapters.mqtt.tls.issuerRef.name=ca",
            "adapters.mqtt.spec.listeners[0].name=mqtts",
            "adapters.mqtt.spec.listeners[0].port=18883",
            "adapters.mqtt.spec.listeners[0].transport=TLS",
            "adapters.mqtt.spec.listeners[0].tls.secretRef.name=tidegate-mqtt-tls",
            "adapters.mqtt.spec.listeners[1].name=mqtt-wss",
            "adapters.mqtt.spec.listeners[1].port=18884",
            "adapters.mqtt.spec.listeners[1].transport=WebSocket",
            "adapters.mqtt.spec.listeners[1].tls.secretRef.name=tidegate-mqtt-tls",
        ],
    ),
    (
        "http-tls-alone",
        &[
            "adapters.http.tls.serverCaSecretName=servers",
            "adapters.http.spec.listeners[0].name=https",
            "adapters.http.spec.listeners[0].port=8443",
            "adapters.http.spec.listeners[0].transport=TLS",
            "adapters.http.spec.listeners[0].tls.secretRef.name=http-tls",
        ],
    ),
    (
        "other-ports",
        &[
            "adapters.http.spec.listeners[0].name=http",
            "adapters.http.spec.listeners[0].port=18080",
            "adapters.websocket.spec.listeners[0].name=ws",
            "adapters.websocket.spec.listeners[0].port=18081",
            "adapters.mqtt.spec.listeners[0].name=mqtt",
            "adapters.mqtt.spec.listeners[0].port=11883",
            "adapters.coap.spec.listeners[0].name=coap",
            "adapters.coap.spec.listeners[0].port=15683",
            "adapters.coap.spec.listeners[0].transport=UDP",
        ],
    ),
    ("coap-issuer", &["adapters.coap.tls.issuerRef.name=ca"]),
    (
        "coap-certificates-alone",
        &[
            "adapters.coap.tls.secretName=coap-tls",
            "adapters.coap.tls.clientCaSecretName=devices",
            "adapters.coap.tls.clientAuth=Required",
        ],
    ),
    (
        "client-certificates",
        &[
            "adapters.mqtt.tls.issuerRef.name=ca",
            "adapters.mqtt.tls.clientCaSecretName=devices",
            "adapters.mqtt.tls.clientAuth=Required",
        ],
    ),
    ("default-deny", &["networkPolicy.defaultDeny=true"]),
    (
        "monitoring",
        &[
            "monitoring.podMonitor.enabled=true",
            "monitoring.podMonitor.labels.release=prometheus",
            "monitoring.prometheusRule.enabled=true",
            "monitoring.dashboard.enabled=true",
        ],
    ),
    (
        "everything",
        &[
            "fullnameOverride=iot",
            "commonLabels.team=plant",
            "image.repository=registry.test/own",
            "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "image.pullSecrets[0].name=pull",
            "definitions.upgrade=false",
            "rbac.aggregate=false",
            "admissionPolicy.enabled=false",
            "networkPolicy.enabled=false",
            "operator.nodeSelector.disk=fast",
            "operator.tolerations[0].key=iot",
            "operator.tolerations[0].operator=Exists",
            "operator.priorityClassName=high",
            "operator.podLabels.team=plant",
            "operator.podAnnotations.note=hello",
            "operator.serviceAccountAnnotations.role=arn",
            "operator.topologySpreadConstraints[0].maxSkew=2",
            "operator.topologySpreadConstraints[0].topologyKey=zone",
            "operator.topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule",
        ],
    ),
];

/// What `helm template` prints for these values; or why they are refused.
///
/// # Errors
/// What Helm said.
///
/// # Panics
/// When Helm cannot be run.
pub fn render(sets: &[&str]) -> Result<String, String> {
    render_with(sets, &[])
}

/// The same with more arguments of Helm.
///
/// # Errors
/// What Helm said.
///
/// # Panics
/// When Helm cannot be run.
pub fn render_with(sets: &[&str], more: &[&str]) -> Result<String, String> {
    let chart = chart();
    let mut args = vec!["template", "tidegate", &chart, "--namespace", "tidegate"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    args.extend(more);
    let output = helm(&args).expect("helm");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
