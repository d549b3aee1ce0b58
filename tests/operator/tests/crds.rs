//! The definitions before a real API server: what it refuses and in which words, what it keeps, what it shows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use cluster_rig::Namespace;
use conformance::until;
use expect_test::{Expect, expect};
use operator_tests::{ground, shared};

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// What `kubectl apply` says of a document, one line for each thing that is wrong.
fn refusal(lab: &Namespace<'_>, document: &str) -> String {
    let answer = shared().cluster.kubectl_with(&["apply", "--namespace", lab, "--filename=-"], document).unwrap();
    if answer.success {
        return format!("ACCEPTED: {}", answer.stdout.trim());
    }
    let said = answer.stderr.replace("for: \"STDIN\": ", "").replace("error when patching \"STDIN\": ", "");
    said.trim().to_owned()
}

/// What is wrong, and the kind, the name and the spec that have it. HASH stands for a hash.
type Case = (&'static str, &'static str, &'static str, &'static str);

const THINGS: &[Case] = &[
    ("a duplicate connection", "Thing", "dev", "{connections: [{channel: a}, {channel: a}]}"),
    ("65 connections", "Thing", "dev", "{connections: [MANY]}"),
    ("an unknown field", "Thing", "dev", "{suspnded: true}"),
    ("an id of its own", "Thing", "dev", "{id: mine}"),
    ("a name with a dot", "Thing", "a.b", "{}"),
    ("a name that is too long", "Thing", "a234567890b234567890c234567890d234567890e234567890f234567890g234", "{}"),
    ("an alias with a dot", "Thing", "dev", "{aliases: [a.b]}"),
    ("a permission that is none", "Thing", "dev", "{connections: [{channel: a, permissions: [Read]}]}"),
];

const KEYS: &[Case] = &[
    (
        "a generated key and a given one",
        "Thing",
        "dev",
        "{credentials: {generate: {}, keyHashes: [{id: a, sha256: HASH}]}}",
    ),
    (
        "one id for two keys",
        "Thing",
        "dev",
        "{credentials: {secretRefs: [{id: a, name: s, key: k}], keyHashes: [{id: a, sha256: HASH}]}}",
    ),
    (
        "a key that ends before it begins",
        "Thing",
        "dev",
        "{credentials: {keyHashes: [{id: a, sha256: HASH, notBefore: '2030-01-01T00:00:00Z', notAfter: '2030-01-01T00:00:00+01:00'}]}}",
    ),
    ("a certificate without a name", "Thing", "dev", "{credentials: {certificate: {}}}"),
    (
        "a certificate of two names",
        "Thing",
        "dev",
        "{credentials: {certificate: {subject: 'CN=a', uriSan: 'urn:dev:1'}}}",
    ),
    ("a name in a certificate that is empty", "Thing", "dev", "{credentials: {certificate: {dnsSan: ''}}}"),
    ("an overlap that is too long", "Thing", "dev", "{credentials: {overlap: 721h}}"),
    ("an overlap that is none", "Thing", "dev", "{credentials: {overlap: 1 day}}"),
];

const CHANNELS: &[Case] = &[
    ("a name with a dot", "Channel", "a.b", "{}"),
    ("namespaces that do not count", "Channel", "c", "{allowedThings: {namespaces: Same, list: [a]}}"),
    ("a payload that is too large", "Channel", "c", "{payload: {maxBytes: 99999999}}"),
    ("a content type that is not admitted", "Channel", "c", "{payload: {admit: [text/plain]}}"),
];

const ADAPTERS: &[Case] = &[
    ("no protocol", "Adapter", "http", "{}"),
    ("a protocol that is none", "Adapter", "http", "{protocol: Smoke}"),
    ("replicas and autoscaling", "Adapter", "http", "{protocol: HTTP, replicas: 2, autoscaling: {maxReplicas: 3}}"),
    ("fewest above most", "Adapter", "http", "{protocol: HTTP, autoscaling: {minReplicas: 4, maxReplicas: 3}}"),
    (
        "TLS without a certificate",
        "Adapter",
        "http",
        "{protocol: HTTP, listeners: [{name: a, port: 443, transport: TLS}]}",
    ),
    (
        "two listeners of one transport",
        "Adapter",
        "http",
        "{protocol: HTTP, listeners: [{name: a, port: 80}, {name: b, port: 81}]}",
    ),
    (
        "a certificate for plain text",
        "Adapter",
        "ws",
        "{protocol: WebSocket, listeners: [{name: a, port: 80, tls: {secretRef: {name: b}}}]}",
    ),
    (
        "two certificates",
        "Adapter",
        "mqtt",
        "{protocol: MQTT, listeners: [{name: a, port: 8883, transport: TLS, tls: {secretRef: {name: a}}}, \
            {name: b, port: 443, transport: WebSocket, tls: {secretRef: {name: b}}}]}",
    ),
    (
        "WebSocket that does not carry MQTT",
        "Adapter",
        "ws",
        "{protocol: WebSocket, listeners: [{name: a, port: 80, transport: WebSocket}]}",
    ),
    (
        "one certificate, and devices' own on one of two listeners",
        "Adapter",
        "mqtt",
        "{protocol: MQTT, listeners: [{name: a, port: 8883, transport: TLS, tls: {secretRef: {name: a}, clientCaRef: {name: c}}}, \
            {name: b, port: 443, transport: WebSocket, tls: {secretRef: {name: a}}}]}",
    ),
    (
        "devices' certificates of nobody",
        "Adapter",
        "http",
        "{protocol: HTTP, listeners: [{name: a, port: 443, transport: TLS, tls: {secretRef: {name: b}, clientAuth: Required}}]}",
    ),
    (
        "a word that is none for devices' certificates",
        "Adapter",
        "http",
        "{protocol: HTTP, listeners: [{name: a, port: 443, transport: TLS, tls: {secretRef: {name: b}, clientCaRef: {name: c}, clientAuth: Maybe}}]}",
    ),
    ("a setting of MQTT that is none", "Adapter", "mqtt", "{protocol: MQTT, settings: {mqtt: {maxWaitin: 3}}}"),
    ("a way in that MQTT does not take", "Adapter", "mqtt", "{protocol: MQTT, ingress: {}}"),
    ("two ways in", "Adapter", "http", "{protocol: HTTP, ingress: {}, gateway: {parentRefs: [{name: g}]}}"),
    ("a label of the operator", "Adapter", "http", "{protocol: HTTP, podLabels: {app.kubernetes.io/name: x}}"),
    ("a class without a load balancer", "Adapter", "http", "{protocol: HTTP, service: {loadBalancerClass: x}}"),
    ("a silence that is too long", "Adapter", "http", "{protocol: HTTP, settings: {http: {keepAlive: 1m}}}"),
    ("pings that are too many", "Adapter", "ws", "{protocol: WebSocket, settings: {websocket: {pingInterval: 900ms}}}"),
    ("pings that come too late", "Adapter", "ws", "{protocol: WebSocket, settings: {websocket: {pingInterval: 1m}}}"),
    (
        "a socket that is kept too long",
        "Adapter",
        "ws",
        "{protocol: WebSocket, settings: {websocket: {idleTimeout: 61m}}}",
    ),
    (
        "a socket that waits for nothing",
        "Adapter",
        "ws",
        "{protocol: WebSocket, settings: {websocket: {maxInFlight: 0}}}",
    ),
    ("no origin at all", "Adapter", "ws", "{protocol: WebSocket, settings: {websocket: {origins: []}}}"),
    (
        "origins that are none",
        "Adapter",
        "ws",
        "{protocol: WebSocket, settings: {websocket: {origins: ['https://a.test', 'https://a.test/', 'https://a.test,https://b.test', '*']}}}",
    ),
    ("a name that is no Service's", "Adapter", "1st", "{protocol: HTTP}"),
];

const COAP: &[Case] = &[
    ("CoAP over what is said nowhere", "Adapter", "coap", "{protocol: CoAP, listeners: [{name: a, port: 5683}]}"),
    (
        "CoAP over TLS",
        "Adapter",
        "coap",
        "{protocol: CoAP, listeners: [{name: a, port: 5684, transport: TLS, tls: {secretRef: {name: b}}}]}",
    ),
    ("HTTP over UDP", "Adapter", "http", "{protocol: HTTP, listeners: [{name: a, port: 80, transport: UDP}]}"),
    ("MQTT over DTLS", "Adapter", "mqtt", "{protocol: MQTT, listeners: [{name: a, port: 8883, transport: DTLS}]}"),
    (
        "a certificate for datagrams in plain text",
        "Adapter",
        "coap",
        "{protocol: CoAP, listeners: [{name: a, port: 5683, transport: UDP, tls: {secretRef: {name: b}}}]}",
    ),
    ("a way in that CoAP does not take", "Adapter", "coap", "{protocol: CoAP, gateway: {parentRefs: [{name: g}]}}"),
    ("an observer that is asked too often", "Adapter", "coap", "{protocol: CoAP, settings: {coap: {pingPeriod: 59m}}}"),
    ("an observer that is asked too late", "Adapter", "coap", "{protocol: CoAP, settings: {coap: {pingPeriod: 25h}}}"),
];

const WITHOUT_EFFECT: &[Case] = &[
    ("connections of CoAP", "Adapter", "coap", "{protocol: CoAP, settings: {maxConnections: 100}}"),
    ("a connection of CoAP that is slow", "Adapter", "coap", "{protocol: CoAP, settings: {http: {timeout: 9s}}}"),
    ("event streams of MQTT", "Adapter", "mqtt", "{protocol: MQTT, settings: {http: {keepAlive: 9s}}}"),
    ("bodies of WebSocket", "Adapter", "ws", "{protocol: WebSocket, settings: {http: {bodiesMaxBytes: 1024}}}"),
    ("MQTT of HTTP", "Adapter", "http", "{protocol: HTTP, settings: {mqtt: {maxWaiting: 3}}}"),
    ("MQTT of CoAP", "Adapter", "coap", "{protocol: CoAP, settings: {mqtt: {maxWaiting: 3}}}"),
    ("WebSocket of HTTP", "Adapter", "http", "{protocol: HTTP, settings: {websocket: {maxInFlight: 3}}}"),
    ("WebSocket of MQTT that has none", "Adapter", "mqtt", "{protocol: MQTT, settings: {websocket: {maxInFlight: 3}}}"),
    ("origins of MQTT", "Adapter", "mqtt", "{protocol: MQTT, settings: {websocket: {origins: ['https://a.test']}}}"),
    (
        "pings of MQTT over WebSocket",
        "Adapter",
        "mqtt",
        "{protocol: MQTT, listeners: [{name: a, port: 1, transport: WebSocket}], settings: {websocket: {pingInterval: 9s}}}",
    ),
    ("CoAP of HTTP", "Adapter", "http", "{protocol: HTTP, settings: {coap: {pingPeriod: 2h}}}"),
    (
        "sessions of DTLS without DTLS",
        "Adapter",
        "coap",
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}], settings: {coap: {maxSessions: 3}}}",
    ),
    (
        "handshakes of DTLS without DTLS",
        "Adapter",
        "coap",
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}], settings: {coap: {maxHandshakesPerSecond: 3}}}",
    ),
];

/// Settings that pods read, of each protocol.
const WITH_EFFECT: &[(&str, &str)] = &[
    (
        "http",
        "{protocol: HTTP, settings: {maxConnections: 9, http: {timeout: 9s, keepAlive: 9s, bodiesMaxBytes: 1024}}}",
    ),
    (
        "ws",
        "{protocol: WebSocket, settings: {maxConnections: 9, http: {timeout: 9s}, websocket: {maxInFlight: 3}, mqtt: {maxWaiting: 3}}}",
    ),
    ("mqtt", "{protocol: MQTT, settings: {maxConnections: 9, http: {timeout: 9s}, mqtt: {maxWaiting: 3}}}"),
    (
        "carried",
        "{protocol: MQTT, listeners: [{name: a, port: 1, transport: WebSocket}], settings: {websocket: {origins: ['https://a.test']}}}",
    ),
    (
        "coap",
        "{protocol: CoAP, settings: {coap: {pingPeriod: 2h, maxSessions: 3, maxHalfOpen: 3, maxHandshakesPerSecond: 3}}}",
    ),
    ("dtls", "{protocol: CoAP, listeners: [{name: a, port: 1, transport: DTLS}], settings: {coap: {maxSessions: 3}}}"),
    (
        "udp",
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}], settings: {coap: {maxRequestsPerSecond: 3}}}",
    ),
];

/// Applies each case and compares what `kubectl` says.
fn check(cases: &[Case], expected: &Expect) {
    let lab = shared().cluster.namespace("lab").unwrap();
    let many: Vec<String> = (0..65).map(|n| format!("{{channel: c{n}}}")).collect();
    let mut said = String::new();
    for (case, kind, name, spec) in cases {
        let spec = spec.replace("HASH", &"0f".repeat(32)).replace("MANY", &many.join(","));
        writeln!(said, "## {case}\n{}", refusal(&lab, &object(kind, name, &spec))).unwrap();
    }
    expected.assert_eq(&said);
}

// Must show 2.

#[test]
fn a_thing_is_refused_at_apply_in_words_that_a_person_understands() {
    check(
        THINGS,
        &expect![[r###"
        ## a duplicate connection
        The Thing "dev" is invalid: spec.connections[1]: Duplicate value: {"channel":"a","namespace":""}
        ## 65 connections
        The Thing "dev" is invalid: 
        * spec.connections: Too many: 65: must have at most 64 items
        * <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation
        ## an unknown field
        Error from server (BadRequest): error when creating "STDIN": Thing in version "v1alpha1" cannot be handled as a Thing: strict decoding error: unknown field "spec.suspnded"
        ## an id of its own
        Error from server (BadRequest): error when creating "STDIN": Thing in version "v1alpha1" cannot be handled as a Thing: strict decoding error: unknown field "spec.id"
        ## a name with a dot
        The Thing "a.b" is invalid: <nil>: Invalid value: the name of a Thing has at most 63 of a-z, 0-9 and '-', and no dot
        ## a name that is too long
        The Thing "a234567890b234567890c234567890d234567890e234567890f234567890g234" is invalid: <nil>: Invalid value: the name of a Thing has at most 63 of a-z, 0-9 and '-', and no dot
        ## an alias with a dot
        The Thing "dev" is invalid: spec.aliases[0]: Invalid value: "a.b": spec.aliases[0] in body should match '^[A-Za-z0-9_-]+$'
        ## a permission that is none
        The Thing "dev" is invalid: 
        * spec.connections[0].permissions[0]: Unsupported value: "Read": supported values: "Publish", "Subscribe"
        * <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation
    "###]],
    );
}

#[test]
fn keys_are_refused_at_apply_in_words_that_a_person_understands() {
    check(
        KEYS,
        &expect![[r###"
            ## a generated key and a given one
            The Thing "dev" is invalid: spec.credentials: Invalid value: a key is either generated or given: generate excludes secretRefs and keyHashes
            ## one id for two keys
            The Thing "dev" is invalid: spec.credentials: Invalid value: an id names one key: secretRefs and keyHashes share one
            ## a key that ends before it begins
            The Thing "dev" is invalid: spec.credentials.keyHashes[0]: Invalid value: notBefore is after notAfter
            ## a certificate without a name
            The Thing "dev" is invalid: spec.credentials.certificate: Invalid value: exactly one of subject, uriSan and dnsSan is needed
            ## a certificate of two names
            The Thing "dev" is invalid: spec.credentials.certificate: Invalid value: exactly one of subject, uriSan and dnsSan is needed
            ## a name in a certificate that is empty
            The Thing "dev" is invalid: spec.credentials.certificate.dnsSan: Invalid value: "": spec.credentials.certificate.dnsSan in body should be at least 1 chars long
            ## an overlap that is too long
            The Thing "dev" is invalid: spec.credentials.overlap: Invalid value: "721h": at most 720h
            ## an overlap that is none
            The Thing "dev" is invalid: spec.credentials.overlap: Invalid value: "1 day": spec.credentials.overlap in body should match '^([0-9]{1,5}(h|m|s|ms)){1,4}$'
        "###]],
    );
}

#[test]
fn a_channel_is_refused_at_apply_in_words_that_a_person_understands() {
    check(
        CHANNELS,
        &expect![[r###"
        ## a name with a dot
        The Channel "a.b" is invalid: <nil>: Invalid value: the name of a Channel has at most 63 of a-z, 0-9 and '-', and no dot
        ## namespaces that do not count
        The Channel "c" is invalid: spec.allowedThings: Invalid value: list goes with namespaces: List
        ## a payload that is too large
        The Channel "c" is invalid: spec.payload.maxBytes: Invalid value: 99999999: spec.payload.maxBytes in body should be less than or equal to 16777216
        ## a content type that is not admitted
        The Channel "c" is invalid: spec.payload: Invalid value: contentType must be among those that admit lists
    "###]],
    );
}

#[test]
fn an_adapter_is_refused_at_apply_in_words_that_a_person_understands() {
    check(
        ADAPTERS,
        &expect![[r###"
            ## no protocol
            The Adapter "http" is invalid: 
            * spec.protocol: Required value
            * <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation
            ## a protocol that is none
            The Adapter "http" is invalid: 
            * spec.protocol: Unsupported value: "Smoke": supported values: "HTTP", "WebSocket", "MQTT", "CoAP"
            * <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation
            ## replicas and autoscaling
            The Adapter "http" is invalid: spec: Invalid value: the number of pods is either given or found: replicas excludes autoscaling
            ## fewest above most
            The Adapter "http" is invalid: spec.autoscaling: Invalid value: minReplicas is above maxReplicas
            ## TLS without a certificate
            The Adapter "http" is invalid: spec.listeners[0]: Invalid value: tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it
            ## two listeners of one transport
            The Adapter "http" is invalid: spec.listeners: Invalid value: at most one listener of each transport
            ## a certificate for plain text
            The Adapter "ws" is invalid: spec.listeners[0]: Invalid value: tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it
            ## two certificates
            The Adapter "mqtt" is invalid: spec.listeners: Invalid value: the listeners of an Adapter share one tls: the certificate, clientCaRef and clientAuth
            ## WebSocket that does not carry MQTT
            The Adapter "ws" is invalid: spec: Invalid value: transport: WebSocket goes with protocol: MQTT alone; protocol: WebSocket has TCP and TLS
            ## one certificate, and devices' own on one of two listeners
            The Adapter "mqtt" is invalid: spec.listeners: Invalid value: the listeners of an Adapter share one tls: the certificate, clientCaRef and clientAuth
            ## devices' certificates of nobody
            The Adapter "http" is invalid: spec.listeners[0].tls: Invalid value: clientAuth needs clientCaRef: whose certificates devices may show
            ## a word that is none for devices' certificates
            The Adapter "http" is invalid: 
            * spec.listeners[0].tls.clientAuth: Unsupported value: "Maybe": supported values: "None", "Optional", "Required"
            * <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation
            ## a setting of MQTT that is none
            Error from server (BadRequest): error when creating "STDIN": Adapter in version "v1alpha1" cannot be handled as a Adapter: strict decoding error: unknown field "spec.settings.mqtt.maxWaitin"
            ## a way in that MQTT does not take
            The Adapter "mqtt" is invalid: spec: Invalid value: ingress and gateway lead to protocol: HTTP and WebSocket alone
            ## two ways in
            The Adapter "http" is invalid: spec: Invalid value: one way leads in: ingress excludes gateway
            ## a label of the operator
            The Adapter "http" is invalid: spec.podLabels: Invalid value: labels that begin with tidegate.io/ or app.kubernetes.io/ are the operator's
            ## a class without a load balancer
            The Adapter "http" is invalid: spec.service: Invalid value: loadBalancerClass goes with type: LoadBalancer
            ## a silence that is too long
            The Adapter "http" is invalid: spec.settings.http.keepAlive: Invalid value: "1m": more than 0 and at most 30s
            ## pings that are too many
            The Adapter "ws" is invalid: spec.settings.websocket.pingInterval: Invalid value: "900ms": at least 1s and at most 10m
            ## pings that come too late
            The Adapter "ws" is invalid: spec.settings.websocket: Invalid value: pingInterval must be below idleTimeout, since a client that has nothing to say answers pings alone
            ## a socket that is kept too long
            The Adapter "ws" is invalid: spec.settings.websocket.idleTimeout: Invalid value: "61m": at least 1s and at most 1h
            ## a socket that waits for nothing
            The Adapter "ws" is invalid: spec.settings.websocket.maxInFlight: Invalid value: 0: spec.settings.websocket.maxInFlight in body should be greater than or equal to 1
            ## no origin at all
            The Adapter "ws" is invalid: spec.settings.websocket.origins: Invalid value: 0: spec.settings.websocket.origins in body should have at least 1 items
            ## origins that are none
            The Adapter "ws" is invalid: 
            * spec.settings.websocket.origins[1]: Invalid value: "https://a.test/": spec.settings.websocket.origins[1] in body should match '^(null|[a-z][-+.a-z0-9]*://[a-z0-9._:\[\]-]+)$'
            * spec.settings.websocket.origins[2]: Invalid value: "https://a.test,https://b.test": spec.settings.websocket.origins[2] in body should match '^(null|[a-z][-+.a-z0-9]*://[a-z0-9._:\[\]-]+)$'
            * spec.settings.websocket.origins[3]: Invalid value: "*": spec.settings.websocket.origins[3] in body should match '^(null|[a-z][-+.a-z0-9]*://[a-z0-9._:\[\]-]+)$'
            ## a name that is no Service's
            The Adapter "1st" is invalid: <nil>: Invalid value: the name of an Adapter has at most 52 of a-z, 0-9 and '-', no dot, and begins with a letter
        "###]],
    );
}

#[test]
fn an_adapter_of_datagrams_is_refused_at_apply_in_words_that_a_person_understands() {
    check(
        COAP,
        &expect![[r###"
            ## CoAP over what is said nowhere
            The Adapter "coap" is invalid: spec: Invalid value: transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given
            ## CoAP over TLS
            The Adapter "coap" is invalid: spec: Invalid value: transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given
            ## HTTP over UDP
            The Adapter "http" is invalid: spec: Invalid value: transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given
            ## MQTT over DTLS
            The Adapter "mqtt" is invalid: spec: Invalid value: transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given
            ## a certificate for datagrams in plain text
            The Adapter "coap" is invalid: spec.listeners[0]: Invalid value: tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it
            ## a way in that CoAP does not take
            The Adapter "coap" is invalid: spec: Invalid value: ingress and gateway lead to protocol: HTTP and WebSocket alone
            ## an observer that is asked too often
            The Adapter "coap" is invalid: spec.settings.coap.pingPeriod: Invalid value: "59m": at least 1h and at most 24h
            ## an observer that is asked too late
            The Adapter "coap" is invalid: spec.settings.coap.pingPeriod: Invalid value: "25h": at least 1h and at most 24h
        "###]],
    );
}

#[test]
fn settings_that_nothing_comes_of_are_refused_at_apply() {
    check(
        WITHOUT_EFFECT,
        &expect![[r###"
        ## connections of CoAP
        The Adapter "coap" is invalid: spec: Invalid value: settings.maxConnections and settings.http.timeout are of connections, which protocol: CoAP does not have
        ## a connection of CoAP that is slow
        The Adapter "coap" is invalid: spec: Invalid value: settings.maxConnections and settings.http.timeout are of connections, which protocol: CoAP does not have
        ## event streams of MQTT
        The Adapter "mqtt" is invalid: spec: Invalid value: settings.http.keepAlive and settings.http.bodiesMaxBytes go with protocol: HTTP alone
        ## bodies of WebSocket
        The Adapter "ws" is invalid: spec: Invalid value: settings.http.keepAlive and settings.http.bodiesMaxBytes go with protocol: HTTP alone
        ## MQTT of HTTP
        The Adapter "http" is invalid: spec: Invalid value: settings.mqtt goes with protocol: MQTT and WebSocket alone
        ## MQTT of CoAP
        The Adapter "coap" is invalid: spec: Invalid value: settings.mqtt goes with protocol: MQTT and WebSocket alone
        ## WebSocket of HTTP
        The Adapter "http" is invalid: spec: Invalid value: settings.websocket.pingInterval, idleTimeout and maxInFlight go with protocol: WebSocket alone
        ## WebSocket of MQTT that has none
        The Adapter "mqtt" is invalid: spec: Invalid value: settings.websocket.pingInterval, idleTimeout and maxInFlight go with protocol: WebSocket alone
        ## origins of MQTT
        The Adapter "mqtt" is invalid: spec: Invalid value: settings.websocket.origins goes with protocol: WebSocket, and with MQTT that has a listener of transport: WebSocket
        ## pings of MQTT over WebSocket
        The Adapter "mqtt" is invalid: spec: Invalid value: settings.websocket.pingInterval, idleTimeout and maxInFlight go with protocol: WebSocket alone
        ## CoAP of HTTP
        The Adapter "http" is invalid: spec: Invalid value: settings.coap goes with protocol: CoAP alone
        ## sessions of DTLS without DTLS
        The Adapter "coap" is invalid: spec: Invalid value: settings.coap.maxSessions, maxHalfOpen and maxHandshakesPerSecond go with a listener of transport: DTLS
        ## handshakes of DTLS without DTLS
        The Adapter "coap" is invalid: spec: Invalid value: settings.coap.maxSessions, maxHalfOpen and maxHandshakesPerSecond go with a listener of transport: DTLS
    "###]],
    );
    let lab = shared().cluster.namespace("lab").unwrap();
    for (name, spec) in WITH_EFFECT {
        let said = refusal(&lab, &object("Adapter", name, spec));
        assert!(said.starts_with("ACCEPTED"), "{spec}: {said}");
    }
}

/// One that was stored before there was a rule against it can be changed in every other way, and mended.
#[test]
fn settings_that_nothing_comes_of_stay_where_they_are_stored() {
    let ground = ground().unwrap();
    let kubectl = |args: &[&str]| ground.cluster.kubectl(&[args, &["--namespace", "lab"]].concat()).unwrap();
    ground.cluster.kubectl(&["create", "namespace", "lab"]).unwrap().ok().unwrap();
    let rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    let as_built = ground.jsonpath(
        &["crd", "adapters.tidegate.io"],
        "{.spec.versions[0].schema.openAPIV3Schema.properties.spec.x-kubernetes-validations}",
    );
    let patch_rules = |rules_now: &str| {
        let patch = format!(r#"[{{"op": "replace", "path": "{rules}", "value": {rules_now}}}]"#);
        ground
            .cluster
            .kubectl(&["patch", "crd", "adapters.tidegate.io", "--type=json", "--patch", &patch])
            .unwrap()
            .ok()
            .unwrap();
    };
    patch_rules("[]");
    let idle = "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}], settings: {maxConnections: 9, \
        http: {timeout: 9s, keepAlive: 9s, bodiesMaxBytes: 1024}, mqtt: {maxWaiting: 3}, websocket: {maxInFlight: 3}, \
        coap: {maxSessions: 3, maxHalfOpen: 3, maxHandshakesPerSecond: 3}}}";
    let wrong = "{protocol: HTTP, settings: {coap: {pingPeriod: 2h}}}";
    let taken = |name: &str, spec: &str, more: &[&str]| {
        let args = [&["apply", "--namespace", "lab", "--filename=-"], more].concat();
        ground.cluster.kubectl_with(&args, &object("Adapter", name, spec)).is_ok_and(|answer| answer.success)
    };
    until("they are stored", || taken("idle", idle, &[]) && taken("wrong", wrong, &[]));
    patch_rules(&as_built.unwrap());
    until("there are rules again", || !taken("other", wrong, &["--dry-run=server"]));

    let patch = |name: &str, patch: &str| kubectl(&["patch", "tgad", name, "--type=merge", "--patch", patch]);
    for change in [
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
        r#"{"spec":{"replicas":3}}"#,
        r#"{"spec":{"settings":{"logLevel":"warn"}}}"#,
        r#"{"spec":{"settings":{"coap":{"maxSessions":4}}}}"#,
        r#"{"spec":{"settings":{"websocket":null}}}"#,
    ] {
        patch("idle", change).ok().unwrap();
    }
    kubectl(&["scale", "tgad", "idle", "--replicas=4"]).ok().unwrap();
    let status = r#"{"status":{"replicas":4}}"#;
    kubectl(&["patch", "tgad", "idle", "--subresource=status", "--type=merge", "--patch", status]).ok().unwrap();
    // What is gone does not come back, and what was not there does not come.
    for (name, change, said) in [
        ("idle", r#"{"spec":{"settings":{"websocket":{"maxInFlight":3}}}}"#, "settings.websocket.pingInterval, "),
        ("wrong", r#"{"spec":{"settings":{"mqtt":{"maxWaiting":3}}}}"#, "settings.mqtt goes with"),
    ] {
        let answer = patch(name, change);
        assert!(!answer.success && answer.stderr.contains(said), "{change}: {}{}", answer.stdout, answer.stderr);
    }
    // An operator makes it, and says so.
    let _operator = ground.operator().unwrap();
    let degraded = || {
        let path = "{.status.conditions[?(@.type==\"Degraded\")].message}";
        ground.jsonpath(&["-n", "lab", "tgad/wrong"], path).unwrap_or_default()
    };
    until("it is said", || degraded().contains("settings.coap goes with protocol: CoAP alone"));
    assert!(kubectl(&["get", "deployment", "wrong"]).success);
    patch("wrong", r#"{"spec":{"settings":{"coap":null}}}"#).ok().unwrap();
    until("nothing is said", || degraded() == "nothing is wrong");
}

#[test]
fn two_field_managers_keep_each_others_connections_and_conditions() {
    let cluster = &shared().cluster;
    let lab = cluster.namespace("lab").unwrap();
    let apply = |manager: &str, more: &[&str], document: &str| {
        let manager = format!("--field-manager={manager}");
        let args = [&["apply", "--server-side", "--namespace", &lab, &manager, "--filename=-"], more].concat();
        cluster.kubectl_with(&args, document).unwrap().ok().unwrap()
    };
    apply("one", &[], &object("Thing", "dev", "{connections: [{channel: a, permissions: [Publish]}]}"));
    apply("two", &[], &object("Thing", "dev", "{connections: [{channel: b}]}"));
    let get = |path: &str| {
        let output = format!("--output=jsonpath={path}");
        cluster.kubectl(&["get", "thing", "dev", "--namespace", &lab, &output]).unwrap().ok().unwrap()
    };
    assert_eq!(get("{.spec.connections[*].channel}"), "a b");
    // Whoever no longer names a connection takes away that one alone.
    apply("one", &[], &object("Thing", "dev", "{suspended: true}"));
    assert_eq!(get("{.spec.connections[*].channel}"), "b");

    let status = |kind: &str| {
        format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: Thing\nmetadata: {{name: dev}}\nstatus:\n  conditions:\n  - {{type: {kind}, status: 'True', reason: Word, message: '', lastTransitionTime: '2026-01-01T00:00:00Z'}}\n"
        )
    };
    apply("one", &["--subresource=status"], &status("Healthy"));
    apply("two", &["--subresource=status"], &status("Blessed"));
    let kinds = get("{.status.conditions[*].type}");
    assert!(kinds.contains("Healthy") && kinds.contains("Blessed"), "{kinds}");
}

#[test]
fn what_is_written_is_stored_as_it_was_written() {
    let cluster = &shared().cluster;
    let lab = cluster.namespace("lab").unwrap();
    let spec = |kind: &str, name: &str, spec: &str| {
        let document = object(kind, name, spec);
        cluster.kubectl_with(&["apply", "--namespace", &lab, "--filename=-"], &document).unwrap().ok().unwrap();
        let kind = format!("{}.tidegate.io", kind.to_lowercase());
        cluster.kubectl(&["get", &kind, name, "--namespace", &lab, "--output=jsonpath={.spec}"]).unwrap().ok().unwrap()
    };
    expect![[
        r#"{"connections":[{"channel":"a","namespace":"","permissions":["Publish","Subscribe"]}],"suspended":false}"#
    ]]
    .assert_eq(&spec("Thing", "dev", "{connections: [{channel: a}]}"));
    expect![[r#"{"payload":{"contentType":"text/plain","maxBytes":262144,"validate":"None"}}"#]].assert_eq(&spec(
        "Channel",
        "telemetry",
        "{payload: {contentType: text/plain}}",
    ));
    expect![[r#"{"credentials":{"certificate":{"subject":"CN=pump-7, O=Acme"},"generate":{}},"suspended":false}"#]]
        .assert_eq(&spec(
            "Thing",
            "pump",
            "{credentials: {generate: {}, certificate: {subject: 'CN=pump-7, O=Acme'}}}",
        ));
    let full = "{protocol: HTTP, replicas: 3, listeners: [{name: http, port: 80}, {name: https, port: 443, transport: TLS, tls: {secretRef: {name: cert}}}],
        service: {type: LoadBalancer, externalTrafficPolicy: Local}, gateway: {parentRefs: [{name: gate}], host: iot.example.org},
        settings: {publishTimeout: 5s, http: {keepAlive: 20s}}, drain: {timeout: 5m}, resources: {requests: {cpu: 1, memory: 64Mi}},
        nodeSelector: {zone: a}, tolerations: [{key: iot, operator: Exists}], podLabels: {team: a}, podAnnotations: {note: b},
        affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {a: b}}}]}},
        topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}";
    expect![[r#"{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{"matchLabels":{"a":"b"}},"topologyKey":"zone"}]}},"drain":{"timeout":"5m"},"gateway":{"host":"iot.example.org","parentRefs":[{"name":"gate"}],"prefix":"/"},"listeners":[{"name":"http","port":80,"transport":"TCP"},{"name":"https","port":443,"tls":{"secretRef":{"name":"cert"}},"transport":"TLS"}],"nodeSelector":{"zone":"a"},"podAnnotations":{"note":"b"},"podLabels":{"team":"a"},"protocol":"HTTP","replicas":3,"resources":{"requests":{"cpu":1,"memory":"64Mi"}},"service":{"externalTrafficPolicy":"Local","type":"LoadBalancer"},"settings":{"http":{"keepAlive":"20s"},"logFormat":"Json","publishTimeout":"5s"},"tolerations":[{"key":"iot","operator":"Exists"}],"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]}"#]].assert_eq(&spec("Adapter", "http", full));
    let websocket = "{protocol: WebSocket, listeners: [{name: ws, port: 80}, {name: wss, port: 443, transport: TLS, tls: {secretRef: {name: cert}}}],
        ingress: {prefix: /ws}, settings: {websocket: {pingInterval: 1s, idleTimeout: 1h, origins: ['https://app.example.com', 'https://[2001:db8::1]:8443'], maxInFlight: 10000}}}";
    expect![[r#"{"ingress":{"prefix":"/ws"},"listeners":[{"name":"ws","port":80,"transport":"TCP"},{"name":"wss","port":443,"tls":{"secretRef":{"name":"cert"}},"transport":"TLS"}],"protocol":"WebSocket","settings":{"logFormat":"Json","websocket":{"idleTimeout":"1h","maxInFlight":10000,"origins":["https://app.example.com","https://[2001:db8::1]:8443"],"pingInterval":"1s"}}}"#]].assert_eq(&spec("Adapter", "ws", websocket));
    let mqtt = "{protocol: MQTT, listeners: [{name: mqtts, port: 8883, transport: TLS, tls: {secretRef: {name: cert}}},
        {name: mqtt-wss, port: 443, transport: WebSocket, tls: {secretRef: {name: cert}}}]}";
    expect![[r#"{"listeners":[{"name":"mqtts","port":8883,"tls":{"secretRef":{"name":"cert"}},"transport":"TLS"},{"name":"mqtt-wss","port":443,"tls":{"secretRef":{"name":"cert"}},"transport":"WebSocket"}],"protocol":"MQTT"}"#]].assert_eq(&spec("Adapter", "mqtt", mqtt));
    let coap = "{protocol: CoAP, listeners: [{name: coap, port: 5683, transport: UDP},
        {name: coaps, port: 5684, transport: DTLS, tls: {secretRef: {name: cert}, clientCaRef: {name: devices}, clientAuth: Optional}}],
        settings: {coap: {pingPeriod: 24h}}}";
    expect![[r#"{"listeners":[{"name":"coap","port":5683,"transport":"UDP"},{"name":"coaps","port":5684,"tls":{"clientAuth":"Optional","clientCaRef":{"name":"devices"},"secretRef":{"name":"cert"}},"transport":"DTLS"}],"protocol":"CoAP","settings":{"coap":{"pingPeriod":"24h"},"logFormat":"Json"}}"#]].assert_eq(&spec("Adapter", "coap", coap));
    let psk = "{protocol: CoAP, listeners: [{name: coaps, port: 5684, transport: DTLS}]}";
    expect![[r#"{"listeners":[{"name":"coaps","port":5684,"transport":"DTLS"}],"protocol":"CoAP"}"#]]
        .assert_eq(&spec("Adapter", "psk", psk));
    expect![[r#"{"listeners":[{"name":"ws","port":80,"transport":"WebSocket"}],"protocol":"MQTT"}"#]].assert_eq(&spec(
        "Adapter",
        "plain",
        "{protocol: MQTT, listeners: [{name: ws, port: 80, transport: WebSocket}]}",
    ));
    cluster.kubectl(&["scale", "adapter", "http", "--namespace", &lab, "--replicas=5"]).unwrap().ok().unwrap();
    let replicas = ["get", "adapter", "http", "--namespace", &lab, "--output=jsonpath={.spec.replicas}"];
    assert_eq!(cluster.kubectl(&replicas).unwrap().ok().unwrap(), "5");
}

#[test]
fn kubectl_shows_and_explains_them() {
    let cluster = &shared().cluster;
    let lab = cluster.namespace("lab").unwrap();
    let documents = [
        object("Thing", "dev", "{suspended: true}"),
        object("Channel", "telemetry", "{}"),
        object("Adapter", "http", "{protocol: HTTP}"),
    ];
    let apply = ["apply", "--namespace", &lab, "--filename=-"];
    cluster.kubectl_with(&apply, &documents.join("---\n")).unwrap().ok().unwrap();
    let heads: String = ["tgth", "tgch", "tgad"]
        .iter()
        .map(|kind| {
            let shown = cluster.kubectl(&["get", kind, "--namespace", &lab, "--output=wide"]).unwrap().ok().unwrap();
            let words: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
            words.join(" ") + "\n"
        })
        .collect();
    expect![[r#"
        NAME ID READY REASON KEYS CONNECTIONS AGE
        NAME ID READY REASON BROKER THINGS AGE
        NAME PROTOCOL DESIRED READY PROGRAMMED ADDRESS REASON AGE
    "#]]
    .assert_eq(&heads);
    let all = cluster.kubectl(&["get", "tidegate", "--namespace", &lab, "--output=name"]).unwrap().ok().unwrap();
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    assert_eq!(all, ["adapter.tidegate.io/http", "channel.tidegate.io/telemetry", "thing.tidegate.io/dev"]);
    let suspended = |value: &str| {
        let selector = format!("--field-selector=spec.suspended={value}");
        cluster.kubectl(&["get", "things", "--namespace", &lab, "--output=name", &selector]).unwrap().ok().unwrap()
    };
    assert_eq!((suspended("true").trim(), suspended("false").trim()), ("thing.tidegate.io/dev", ""));
    let explained = cluster.kubectl(&["explain", "thing.spec.connections"]).unwrap().ok().unwrap();
    for words in
        ["The Channels that the Thing may use.", "The Channel's name.", "What the Thing may do. Default: both."]
    {
        assert!(explained.contains(words), "{explained}");
    }
}

/// The definitions are upgraded before the operator, and may put a field into every object there is.
#[test]
fn an_operator_that_is_older_than_the_definitions_goes_on() {
    let ground = ground().unwrap();
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/fromTomorrow";
    let field = r#"{"type": "integer", "default": 1}"#;
    let patch = format!(r#"[{{"op": "add", "path": "{path}", "value": {field}}}]"#);
    for kind in ["things", "channels"] {
        let crd = format!("{kind}.tidegate.io");
        ground.cluster.kubectl(&["patch", "crd", &crd, "--type=json", "--patch", &patch]).unwrap().ok().unwrap();
    }
    let lab = ground.cluster.namespace("lab").unwrap();
    let documents =
        [object("Thing", "dev", "{connections: [{channel: telemetry}]}"), object("Channel", "telemetry", "{}")];
    let apply = || {
        let args = ["apply", "--namespace", &lab, "--filename=-"];
        ground.cluster.kubectl_with(&args, &documents.join("---\n")).unwrap().ok().unwrap();
        ground.jsonpath(&["-n", &lab, "thing/dev"], "{.spec.fromTomorrow}").unwrap() == "1"
    };
    until("the API server has the newer definitions", apply);
    let operator = ground.operator().unwrap();
    let _adapter = ground.adapter(&operator, &[]).unwrap();
    ground.ready(&lab, "thing/dev").unwrap();
    ground.ready(&lab, "channel.tidegate.io/telemetry").unwrap();
}
