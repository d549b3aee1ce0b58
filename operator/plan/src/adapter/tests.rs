//! What an Adapter becomes, what of it has drifted, and what is said of it.

use expect_test::{expect, expect_file};
use serde_json::json;

use super::*;

fn installation() -> Installation {
    Installation {
        image: Some("registry.test/tidegate:1".to_owned()),
        grants_url: "https://tidegate-operator.tidegate.svc:9443".to_owned(),
        audience: "tidegate-grants".to_owned(),
        grants_ca: "PEM\n".to_owned(),
        broker: Some(BrokerSecret {
            name: "rabbitmq-default-user".to_owned(),
            url_entry: "connection_string".to_owned(),
            ca_entry: None,
        }),
        exchange: "messages".to_owned(),
    }
}

fn adapter(spec: &str) -> Adapter {
    serde_yaml::from_str(&format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: Adapter\nmetadata: {{namespace: lab, name: http, uid: u-1, labels: {{theirs: x}}, annotations: {{theirs: x}}}}\nspec: {spec}"
    ))
    .unwrap()
}

const EVERYTHING: &str = r#"
  protocol: HTTP
  autoscaling: {minReplicas: 3, maxReplicas: 9, targetCPUUtilizationPercentage: 60}
  listeners:
  - {name: plain, port: 80}
  - {name: secure, port: 443, transport: TLS, tls: {secretRef: {name: http-tls}, clientCaRef: {name: devices}, clientAuth: Required}}
  service: {type: LoadBalancer, annotations: {cloud/lb: fast}, loadBalancerClass: c/d, externalTrafficPolicy: Local}
  gateway: {parentRefs: [{name: edge, namespace: infra, sectionName: https}], host: iot.example.org, prefix: /http}
  settings:
    publishTimeout: 5s
    maxConnections: 1000
    logLevel: debug
    logFormat: Text
    http: {keepAlive: 10s, timeout: 20s, bodiesMaxBytes: 1048576}
    mqtt:
      keepAliveMax: 10m
      sessionExpiryMax: 24h
      packetMaxBytes: 65536
      maxWaiting: 100
      waitingMaxBytes: 65536
      maxHalfOpen: 50
      maxConnectsPerSecond: 100
    websocket:
      pingInterval: 20s
      idleTimeout: 45s
      origins: ['https://app.example.org', 'https://desk.example.org:8443']
      maxInFlight: 16
    coap: {pingPeriod: 6h, maxRequestsPerSecond: 700, maxSessions: 5000, maxHalfOpen: 500, maxHandshakesPerSecond: 50}
  drain: {timeout: 90s, connectionsPerSecond: 50}
  resources: {requests: {cpu: 1500m, memory: 64Mi}, limits: {memory: 1024Mi}}
  nodeSelector: {disk: fast}
  tolerations: [{key: iot, operator: Exists}]
  topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
  podLabels: {team: plant, app.kubernetes.io/name: mine}
  podAnnotations: {note: hello}
  priorityClassName: high
  image: registry.test/own:2
  imagePullSecrets: [{name: pull}]
"#;

fn objects(spec: &str) -> BTreeMap<OwnedKind, Value> {
    adapter_plan(&adapter(spec), &installation()).unwrap().objects
}

fn yaml(spec: &str) -> String {
    objects(spec).values().map(|object| format!("---\n{}", serde_yaml::to_string(object).unwrap())).collect()
}

#[test]
fn an_adapter_of_few_words_becomes_these_objects() {
    expect_file!["golden/least.yaml"].assert_eq(&yaml("{protocol: HTTP}"));
    let tls = "{name: mqtts, port: 8883, transport: TLS, tls: {secretRef: {name: mqtt-tls}}}";
    let mqtt = format!("{{protocol: MQTT, listeners: [{{name: mqtt, port: 1883}}, {tls}]}}");
    expect_file!["golden/mqtt.yaml"].assert_eq(&yaml(&mqtt));
    let tls = "{name: wss, port: 443, transport: TLS, tls: {secretRef: {name: ws-tls}}}";
    let websocket = format!("{{protocol: WebSocket, listeners: [{{name: ws, port: 80}}, {tls}]}}");
    expect_file!["golden/websocket.yaml"].assert_eq(&yaml(&websocket));
    let listener = "{name: mqtt-ws, port: 8083, transport: WebSocket}";
    let carried = format!("{{protocol: MQTT, listeners: [{{name: mqtt, port: 1883}}, {listener}]}}");
    expect_file!["golden/mqtt-websocket.yaml"].assert_eq(&yaml(&carried));
    expect_file!["golden/coap.yaml"].assert_eq(&yaml("{protocol: CoAP}"));
}

/// What of an Adapter has to do with its listeners, one line for each thing.
fn said_of_listeners(spec: &str) -> String {
    let objects = objects(spec);
    let config = objects[&OwnedKind::ConfigMap]["data"]["adapter.yaml"].as_str().unwrap();
    let options = config.lines().filter(|line| line.starts_with("listen-") || line.starts_with("tls-"));
    let ports = objects[&OwnedKind::Service]["spec"]["ports"].as_array().unwrap();
    let ports = ports.iter().map(|port| format!("{} leads to {}", port["port"], port["targetPort"]));
    let volumes = objects[&OwnedKind::Deployment]["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let of = |name: &'static str| volumes.iter().filter(move |volume| volume["name"] == name);
    let secrets = of("tls").map(|volume| format!("certificate of {}", volume["secret"]["secretName"]));
    let authorities = of("client-ca").map(|volume| {
        let entries: Vec<_> = volume["secret"]["items"].as_array().unwrap().iter().map(|item| &item["key"]).collect();
        format!("authorities of {}, of which {entries:?}", volume["secret"]["secretName"])
    });
    let lines = options.map(str::to_owned).chain(ports).chain(secrets).chain(authorities);
    lines.map(|line| line + "\n").collect()
}

#[test]
fn mqtt_over_websocket_has_a_port_and_options_of_its_own_and_a_certificate_where_it_is_to_have_one() {
    let check = |listeners: &str, said: expect_test::Expect| {
        said.assert_eq(&said_of_listeners(&format!("{{protocol: MQTT, listeners: [{listeners}]}}")));
    };
    check(
        "{name: ws, port: 80, transport: WebSocket}",
        expect![[r#"
        listen-mqtt: "off"
        listen-mqtt-ws: "8083"
        listen-mqtt-wss: "off"
        listen-mqtts: "off"
        80 leads to "mqtt-ws"
    "#]],
    );
    check(
        "{name: wss, port: 443, transport: WebSocket, tls: {secretRef: {name: a}}}",
        expect![[r#"
        listen-mqtt: "off"
        listen-mqtt-ws: "off"
        listen-mqtt-wss: "8084"
        listen-mqtts: "off"
        tls-cert: "/etc/tidegate/tls/tls.crt"
        tls-key: "/etc/tidegate/tls/tls.key"
        443 leads to "mqtt-wss"
        certificate of "a"
    "#]],
    );
    check(
        "{name: mqtts, port: 8883, transport: TLS, tls: {secretRef: {name: a}}}, {name: wss, port: 443, transport: WebSocket, tls: {secretRef: {name: a}}}",
        expect![[r#"
            listen-mqtt: "off"
            listen-mqtt-ws: "off"
            listen-mqtt-wss: "8084"
            listen-mqtts: "8883"
            tls-cert: "/etc/tidegate/tls/tls.crt"
            tls-key: "/etc/tidegate/tls/tls.key"
            8883 leads to "mqtts"
            443 leads to "mqtt-wss"
            certificate of "a"
        "#]],
    );
}

#[test]
fn coap_is_served_over_udp_and_over_dtls_which_needs_no_certificate_and_may_have_one() {
    let check = |spec: &str, said: expect_test::Expect| said.assert_eq(&said_of_listeners(spec));
    check(
        "{protocol: CoAP}",
        expect![[r#"
        listen-coap: "5683"
        listen-coaps: "5684"
        5683 leads to "coap"
        5684 leads to "coaps"
    "#]],
    );
    check(
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}]}",
        expect![[r#"
        listen-coap: "5683"
        listen-coaps: "off"
        1 leads to "coap"
    "#]],
    );
    check(
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: DTLS}]}",
        expect![[r#"
        listen-coap: "off"
        listen-coaps: "5684"
        1 leads to "coaps"
    "#]],
    );
    check(
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}, {name: b, port: 2, transport: DTLS, tls: {secretRef: {name: c}, clientCaRef: {name: d}}}]}",
        expect![[r#"
            listen-coap: "5683"
            listen-coaps: "5684"
            tls-cert: "/etc/tidegate/tls/tls.crt"
            tls-client-ca: "/etc/tidegate/client-ca/ca.crt"
            tls-key: "/etc/tidegate/tls/tls.key"
            1 leads to "coap"
            2 leads to "coaps"
            certificate of "c"
            authorities of "d", of which [String("ca.crt")]
        "#]],
    );
}

#[test]
fn devices_are_asked_for_certificates_where_an_authority_of_theirs_is_named() {
    let check = |spec: &str, said: expect_test::Expect| said.assert_eq(&said_of_listeners(spec));
    check(
        "{protocol: HTTP, listeners: [{name: a, port: 443, transport: TLS, tls: {secretRef: {name: c}, clientCaRef: {name: d}, clientAuth: Required}}]}",
        expect![[r#"
            listen-http: "off"
            listen-https: "8443"
            tls-cert: "/etc/tidegate/tls/tls.crt"
            tls-client-auth: "required"
            tls-client-ca: "/etc/tidegate/client-ca/ca.crt"
            tls-key: "/etc/tidegate/tls/tls.key"
            443 leads to "https"
            certificate of "c"
            authorities of "d", of which [String("ca.crt")]
        "#]],
    );
    let tls = "tls: {secretRef: {name: c}, clientCaRef: {name: d}, clientAuth: None}";
    check(
        &format!(
            "{{protocol: MQTT, listeners: [{{name: a, port: 1, transport: TLS, {tls}}}, {{name: b, port: 2, transport: WebSocket, {tls}}}]}}"
        ),
        expect![[r#"
            listen-mqtt: "off"
            listen-mqtt-ws: "off"
            listen-mqtt-wss: "8084"
            listen-mqtts: "8883"
            tls-cert: "/etc/tidegate/tls/tls.crt"
            tls-client-auth: "none"
            tls-client-ca: "/etc/tidegate/client-ca/ca.crt"
            tls-key: "/etc/tidegate/tls/tls.key"
            1 leads to "mqtts"
            2 leads to "mqtt-wss"
            certificate of "c"
            authorities of "d", of which [String("ca.crt")]
        "#]],
    );
    check(
        "{protocol: WebSocket, listeners: [{name: a, port: 443, transport: TLS, tls: {secretRef: {name: c}, clientCaRef: {name: d}, clientAuth: Optional}}]}",
        expect![[r#"
            listen-http: "off"
            listen-https: "8443"
            tls-cert: "/etc/tidegate/tls/tls.crt"
            tls-client-auth: "optional"
            tls-client-ca: "/etc/tidegate/client-ca/ca.crt"
            tls-key: "/etc/tidegate/tls/tls.key"
            443 leads to "wss"
            certificate of "c"
            authorities of "d", of which [String("ca.crt")]
        "#]],
    );
}

/// Datagrams of a device come to the pod that knows it, and everything beside is as it is for others.
#[test]
fn datagrams_of_an_address_stay_with_a_pod() {
    let [coap, mqtt] = ["CoAP", "MQTT"].map(|protocol| objects(&format!("{{protocol: {protocol}}}")));
    let spec = |objects: &BTreeMap<OwnedKind, Value>, kind| objects[&kind]["spec"].clone();
    let service = spec(&coap, OwnedKind::Service);
    assert_eq!(service["sessionAffinity"], "ClientIP");
    assert_eq!(service["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 86_400}}));
    assert!(service["ports"].as_array().unwrap().iter().all(|port| port["protocol"] == "UDP"), "{service}");
    assert!(spec(&mqtt, OwnedKind::Service).get("sessionAffinity").is_none());
    // Probes and metrics go by TCP as ever.
    let admin = json!({"containerPort": 9090, "name": "admin", "protocol": "TCP"});
    let ports = &spec(&coap, OwnedKind::Deployment)["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports.as_array().unwrap().last(), Some(&admin));
    assert_eq!(spec(&coap, OwnedKind::PodDisruptionBudget), spec(&mqtt, OwnedKind::PodDisruptionBudget));
    let scaled = |protocol: &str| objects(&format!("{{protocol: {protocol}, autoscaling: {{maxReplicas: 5}}}}"));
    let [coap, mqtt] = ["CoAP", "MQTT"].map(scaled);
    assert_eq!(spec(&coap, OwnedKind::HorizontalPodAutoscaler), spec(&mqtt, OwnedKind::HorizontalPodAutoscaler));
}

#[test]
fn another_ping_period_replaces_the_pods() {
    let template = |spec: &str| objects(spec)[&OwnedKind::Deployment]["spec"]["template"].clone();
    let config = |spec: &str| objects(spec)[&OwnedKind::ConfigMap]["data"]["adapter.yaml"].to_string();
    let slower = "{protocol: CoAP, settings: {coap: {pingPeriod: 24h}}}";
    assert!(config(slower).contains(r#"coap-ping-period: \"24h\""#), "{}", config(slower));
    assert!(!config("{protocol: CoAP}").contains("coap-ping-period"));
    assert_ne!(template("{protocol: CoAP}"), template(slower));
}

#[test]
fn an_adapter_that_says_everything_becomes_these_objects() {
    expect_file!["golden/everything.yaml"].assert_eq(&yaml(EVERYTHING));
}

/// BR-41: the same Adapter is the same objects, whatever the order in which it was read.
#[test]
fn nothing_of_what_is_made_depends_on_an_order() {
    let reordered = EVERYTHING.replace("{disk: fast}", "{\"disk\": \"fast\"}").replace(
        "{requests: {cpu: 1500m, memory: 64Mi}, limits: {memory: 1024Mi}}",
        "{limits: {memory: 1024Mi}, requests: {memory: 64Mi, cpu: 1500m}}",
    );
    let made = yaml(EVERYTHING);
    assert!((0..10).all(|_| yaml(&reordered) == made));
}

#[test]
fn a_changed_configuration_replaces_the_pods_and_changed_authorities_do_not() {
    let template = |objects: &BTreeMap<OwnedKind, Value>| objects[&OwnedKind::Deployment]["spec"]["template"].clone();
    let first = objects("{protocol: HTTP}");
    let slower = objects("{protocol: HTTP, settings: {publishTimeout: 9s}}");
    assert_ne!(template(&first), template(&slower));
    let renewed = Installation { grants_ca: "OTHER\n".to_owned(), ..installation() };
    let renewed = adapter_plan(&adapter("{protocol: HTTP}"), &renewed).unwrap().objects;
    assert_eq!(first[&OwnedKind::Deployment], renewed[&OwnedKind::Deployment]);
    assert_ne!(applied(&first[&OwnedKind::ConfigMap]), applied(&renewed[&OwnedKind::ConfigMap]));
}

#[test]
fn what_no_pods_can_be_made_of_says_why() {
    let check = |spec: &str, installation: Installation, said: expect_test::Expect| {
        let (reason, message) = adapter_plan(&adapter(spec), &installation).unwrap_err();
        said.assert_eq(&format!("{reason}: {message}"));
    };
    check(
        "{protocol: MQTT, ingress: {}}",
        installation(),
        expect!["InvalidSpec: spec: ingress and gateway lead to protocol: HTTP and WebSocket alone"],
    );
    check(
        "{protocol: HTTP, listeners: [{name: ws, port: 80, transport: WebSocket}]}",
        installation(),
        expect![
            "InvalidSpec: spec: transport: WebSocket goes with protocol: MQTT alone; protocol: WebSocket has TCP and TLS"
        ],
    );
    check(
        "{protocol: CoAP, gateway: {parentRefs: [{name: a}]}, listeners: [{name: coap, port: 5683}]}",
        installation(),
        expect![
            "InvalidSpec: spec: ingress and gateway lead to protocol: HTTP and WebSocket alone; spec: transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given"
        ],
    );
    check(
        "{protocol: HTTP, drain: {timeout: 2h}}",
        installation(),
        expect!["InvalidSpec: spec.drain.timeout: a span as 30s or 5m within its bounds is needed"],
    );
    check(
        "{protocol: HTTP}",
        Installation { image: None, ..installation() },
        expect!["InvalidSpec: spec.image is needed, since the operator was started without --adapter-image"],
    );
    check(
        "{protocol: HTTP}",
        Installation { broker: None, ..installation() },
        expect!["BrokerUnreachable: there is no broker for the pods: the operator was started without --broker-secret"],
    );
}

/// As the API server returns it: with defaults, amounts in its own way, and what others have put there.
fn stored(mut object: Value) -> Value {
    object["metadata"]["resourceVersion"] = "7".into();
    object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1".into();
    object["status"] = json!({"replicas": 1});
    if object["kind"] == "Deployment" {
        object["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now".into();
        object["spec"]["progressDeadlineSeconds"] = 600.into();
        let container = &mut object["spec"]["template"]["spec"]["containers"][0];
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["resources"]["requests"]["cpu"] = "1.5".into();
        container["resources"]["limits"]["memory"] = "1Gi".into();
        let sidecar = json!({"name": "sidecar", "image": "theirs"});
        object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().insert(0, sidecar);
    }
    object
}

/// BR-43: what others put beside is theirs; BR-44: what is ours is seen when it is otherwise.
#[test]
fn what_others_add_is_no_difference_and_what_they_change_is_one() {
    let plan = objects(EVERYTHING);
    for (kind, wanted) in &plan {
        assert!(!differs(wanted, &stored(wanted.clone())), "{kind:?}");
    }
    let check = |kind: OwnedKind, change: fn(&mut Value)| {
        let mut found = stored(plan[&kind].clone());
        change(&mut found);
        assert!(differs(&plan[&kind], &found), "{kind:?}");
    };
    check(OwnedKind::Deployment, |found| {
        found["spec"]["template"]["spec"]["containers"][1]["image"] = "other".into();
    });
    check(OwnedKind::Deployment, |found| {
        found["spec"]["template"]["spec"]["containers"][1]["args"].as_array_mut().unwrap().push("--log".into());
    });
    check(OwnedKind::Deployment, |found| {
        found["spec"]["template"]["spec"]["containers"][1]["resources"]["requests"]["cpu"] = "1400m".into();
    });
    check(OwnedKind::Deployment, |found| {
        found["spec"]["template"]["spec"]["volumes"].as_array_mut().unwrap().pop();
    });
    check(OwnedKind::Service, |found| found["spec"]["ports"][0]["port"] = 81.into());
    check(OwnedKind::Service, |found| found["metadata"]["labels"] = json!({}));
    check(OwnedKind::ConfigMap, |found| found["data"]["adapter.yaml"] = "".into());
    check(OwnedKind::HorizontalPodAutoscaler, |found| found["spec"]["maxReplicas"] = 99.into());
    check(OwnedKind::HTTPRoute, |found| found["spec"]["rules"] = json!([]));
}

#[test]
fn what_the_api_server_made_of_it_is_known_again_by_its_projection() {
    let wanted = json!({"spec": {"image": "a", "ports": [{"name": "x", "port": 1}]}});
    let found =
        json!({"spec": {"image": "docker.io/a", "more": 1, "ports": [{"name": "y"}, {"name": "x", "port": 2}]}});
    let seen = projection(&wanted, &found);
    assert_eq!(seen, json!({"spec": {"image": "docker.io/a", "ports": [{"name": "x", "port": 2}]}}));
    let mut later = found;
    later["spec"]["more"] = 2.into();
    assert_eq!(projection(&wanted, &later), seen);
    later["spec"]["image"] = "b".into();
    assert_ne!(projection(&wanted, &later), seen);
}

fn said(spec: &str, deployment: &Value, heard: Heard, fault: Option<Fault>) -> String {
    let service = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.test"}]}}});
    let observed =
        AdapterObserved { deployment: Some(deployment), service: Some(&service), ingress: None, fault, heard };
    let status = adapter_status(&adapter(spec), &observed, "2026-06-01T00:00:00Z".parse().unwrap());
    let conditions = status.conditions.iter().map(|condition| {
        let tidegate_api::Condition { type_, status, reason, message, .. } = condition;
        format!("{type_}={status} {reason}: {message}\n")
    });
    let addresses = status.addresses.iter().map(|address| format!("{:?} {}\n", address.kind, address.value));
    conditions.chain(addresses).collect()
}

fn pods(wanted: i64, present: i64, updated: i64, available: i64) -> Value {
    json!({
        "metadata": {"generation": 3},
        "spec": {"replicas": wanted},
        "status": {
            "observedGeneration": 3, "replicas": present, "updatedReplicas": updated,
            "readyReplicas": available, "availableReplicas": available,
        },
    })
}

#[test]
fn an_adapter_is_ready_when_its_pods_are_and_have_their_grants() {
    expect![[r"
        Available=True Available: 2 of 2 pods are available
        Progressing=False RolledOut: every pod is as the Adapter says
        Degraded=False Healthy: nothing is wrong
        Programmed=True Programmed: every live pod has the newest grants
        Ready=True Ready: it is in force
        IPAddress 192.0.2.1
        Hostname lb.test
    "]]
    .assert_eq(&said("{protocol: HTTP}", &pods(2, 2, 2, 2), Heard::All, None));
    expect![[r"
        Available=False Unavailable: 0 of 2 pods are available
        Progressing=True RollingOut: pods are being made or replaced
        Degraded=False Healthy: nothing is wrong
        Programmed=False NoAdapters: no pod takes grants
        Ready=False Unavailable: 0 of 2 pods are available
        Hostname iot.test
    "]]
    .assert_eq(&said("{protocol: HTTP, ingress: {host: iot.test}}", &pods(2, 2, 2, 0), Heard::Nobody, None));
    // During a rollout that takes nothing away, devices notice nothing.
    expect![[r"
        Available=True Available: 2 of 2 pods are available
        Progressing=True RollingOut: pods are being made or replaced
        Degraded=False Healthy: nothing is wrong
        Programmed=True Programmed: every live pod has the newest grants
        Ready=True Ready: it is in force
        IPAddress 192.0.2.1
        Hostname lb.test
    "]]
    .assert_eq(&said("{protocol: HTTP}", &pods(2, 3, 1, 2), Heard::All, None));
}

/// The API server keeps what is stored already: nothing stops for it.
#[test]
fn settings_that_nothing_comes_of_are_told_and_stop_nothing() {
    let spec = "{protocol: CoAP, settings: {maxConnections: 1, mqtt: {maxWaiting: 1}}}";
    assert!(objects(spec).contains_key(&OwnedKind::Deployment));
    expect![[r"
        Available=True Available: 2 of 2 pods are available
        Progressing=False RolledOut: every pod is as the Adapter says
        Degraded=False Healthy: nothing is wrong, and some settings have no effect: settings.maxConnections and settings.http.timeout are of connections, which protocol: CoAP does not have; settings.mqtt goes with protocol: MQTT and WebSocket alone
        Programmed=True Programmed: every live pod has the newest grants
        Ready=True Ready: it is in force
        IPAddress 192.0.2.1
        Hostname lb.test
    "]]
    .assert_eq(&said(spec, &pods(2, 2, 2, 2), Heard::All, None));
}

#[test]
fn what_is_wrong_is_said_before_what_follows_from_it() {
    let fault = Some((Reason::NameConflict, "a Service http is there already".to_owned()));
    expect![[r"
        Available=False Unavailable: 0 of 2 pods are available
        Progressing=True RollingOut: pods are being made or replaced
        Degraded=True NameConflict: a Service http is there already
        Programmed=False NoAdapters: no pod takes grants
        Ready=False NameConflict: a Service http is there already
        IPAddress 192.0.2.1
        Hostname lb.test
    "]]
    .assert_eq(&said("{protocol: HTTP}", &pods(2, 2, 2, 0), Heard::Nobody, fault));
    let mut stuck = pods(2, 3, 1, 2);
    stuck["status"]["conditions"] =
        json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    expect![[r"
        Available=True Available: 2 of 2 pods are available
        Progressing=False RolloutStuck: the rollout ran out of time
        Degraded=True RolloutStuck: the pods do not become ready in time
        Programmed=False AdapterLagging: a pod has not had the newest grants for a while
        Ready=False RolloutStuck: the pods do not become ready in time
        IPAddress 192.0.2.1
        Hostname lb.test
    "]]
    .assert_eq(&said("{protocol: HTTP}", &stuck, Heard::Lagging, None));
    expect![[r"
        Available=False ScaledToZero: 0 of 0 pods are available
        Progressing=False RolledOut: every pod is as the Adapter says
        Degraded=False Healthy: nothing is wrong
        Programmed=False NoAdapters: no pod takes grants
        Ready=False ScaledToZero: 0 of 0 pods are available
        IPAddress 192.0.2.1
        Hostname lb.test
    "]]
    .assert_eq(&said("{protocol: HTTP, replicas: 0}", &pods(0, 0, 0, 0), Heard::Nobody, None));
}
