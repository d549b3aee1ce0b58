//! From an Adapter to what it is made of, whatever anybody does to that.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use conformance::{Adapter, until};
use operator_tests::{Ground, Operator, ground, shared};
use serde_json::Value;

fn adapter(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: Adapter\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n---\n"
    )
}

/// The operator that these tests share.
fn running() -> (&'static Ground, &'static Operator) {
    static RUNNING: OnceLock<Operator> = OnceLock::new();
    (shared(), RUNNING.get_or_init(|| shared().operator().unwrap()))
}

/// Every kind that a plain Adapter owns.
const KINDS: [&str; 6] =
    ["serviceaccount", "configmap", "networkpolicy", "poddisruptionbudget", "deployment", "service"];

fn get(ground: &Ground, namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let json = ["-o", "json", "--show-managed-fields"];
    let answer = ground.cluster.kubectl(&[&["get", "-n", namespace, kind, name], &json[..]].concat()).unwrap();
    answer.success.then(|| serde_json::from_str(&answer.stdout).unwrap())
}

fn patch(ground: &Ground, namespace: &str, object: &str, patch: &str) {
    let manager = "--field-manager=somebody";
    ground
        .cluster
        .kubectl(&["patch", "-n", namespace, object, "--type=merge", manager, "-p", patch])
        .unwrap()
        .ok()
        .unwrap();
}

/// Waits until every object is there and the Deployment's controller has nothing to do any more.
fn made(ground: &Ground, namespace: &str, name: &str) -> BTreeMap<&'static str, Value> {
    let all = || {
        KINDS.iter().map(|kind| Some((*kind, get(ground, namespace, kind, name)?))).collect::<Option<BTreeMap<_, _>>>()
    };
    let settled = |deployment: &Value| {
        deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
            && deployment["status"]["updatedReplicas"] == deployment["spec"]["replicas"]
    };
    until("everything is made", || all().is_some_and(|all| settled(&all["deployment"])));
    all().unwrap()
}

/// What the operator wrote of owned objects, by the API server's own account.
fn writes(ground: &Ground, namespace: &str) -> Vec<String> {
    let log = std::fs::read_to_string(ground.cluster.audit_log().unwrap()).unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries
        .filter(|entry| {
            entry["user"]["username"] == "system:serviceaccount:tidegate:tidegate-operator"
                && entry["stage"] == "ResponseComplete"
                && entry["objectRef"]["namespace"] == namespace
                && ["create", "update", "patch", "delete"].iter().any(|verb| entry["verb"] == *verb)
                && entry["objectRef"]["resource"] != "events"
        })
        .map(|entry| {
            format!("{} {} {}", entry["verb"], entry["objectRef"]["resource"], entry["objectRef"]["subresource"])
        })
        .collect()
}

/// One Adapter becomes its objects under the restricted standard, and real pods are asked for; its status follows.
#[test]
fn an_adapter_becomes_its_objects_in_a_restricted_namespace() {
    let (ground, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let enforce = ["label", "namespace", &*lab, "pod-security.kubernetes.io/enforce=restricted"];
    ground.cluster.kubectl(&enforce).unwrap().ok().unwrap();
    ground.cluster.apply(&adapter(&lab, "http", "{protocol: HTTP}")).unwrap();
    let made = made(ground, &lab, "http");
    for (kind, object) in &made {
        assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "http", "{kind}");
        let managers = object["metadata"]["managedFields"].as_array().unwrap();
        let ours: Vec<_> = managers.iter().filter(|entry| entry["manager"] == "tidegate").collect();
        assert_eq!((ours.len(), &ours[0]["operation"]), (1, &"Apply".into()), "{kind}");
    }
    // The API server admitted the pods: the ReplicaSet says so.
    assert_eq!(made["deployment"]["status"]["replicas"], 2);
    assert_eq!(ground.condition(&lab, "adapter.tidegate.io/http", "Available"), "False/Unavailable");
    assert_eq!(ground.condition(&lab, "adapter.tidegate.io/http", "Progressing"), "True/RollingOut");
    until("it is counted", || ground.jsonpath(&["-n", &lab, "tgad/http"], "{.status.replicas}").unwrap() == "2");
    let columns = ground.cluster.kubectl(&["get", "tgad", "-n", &lab]).unwrap().ok().unwrap();
    assert!(columns.contains("HTTP       2         0"), "{columns}");
    // Nobody but RBAC gives the pods a right, and nobody did.
    let account = format!("--as=system:serviceaccount:{lab}:http");
    let can = ground.cluster.kubectl(&["auth", "can-i", "--list", &account, "-n", &lab]).unwrap().ok().unwrap();
    assert!(!can.contains("secrets") && !can.contains("tidegate.io"), "{can}");
}

/// An Adapter of each protocol with all that may be said of one.
const OF_EACH_PROTOCOL: [(&str, &str, &str); 4] = [
    (
        "http",
        "{protocol: HTTP, settings: {publishTimeout: 5s, maxConnections: 100, logLevel: debug, logFormat: Text, http: {keepAlive: 9s, timeout: 20s, bodiesMaxBytes: 65536}}, drain: {timeout: 1s, connectionsPerSecond: 9}}",
        "http-bodies-bytes-max: \"65536\"",
    ),
    (
        "ws",
        "{protocol: WebSocket, settings: {logFormat: Text, http: {timeout: 20s}, websocket: {pingInterval: 5s, idleTimeout: 20s, origins: ['https://a.test', 'https://[2001:db8::1]:8443'], maxInFlight: 8}}, drain: {timeout: 1s}}",
        "websocket-origins: \"https://a.test,https://[2001:db8::1]:8443\"",
    ),
    (
        "mqtt",
        "{protocol: MQTT, listeners: [{name: a, port: 1}, {name: b, port: 2, transport: WebSocket}], settings: {logFormat: Text, websocket: {origins: ['https://a.test']}, mqtt: {keepAliveMax: 10m, sessionExpiryMax: 24h, packetMaxBytes: 65536, maxWaiting: 100, waitingMaxBytes: 65536, maxHalfOpen: 50, maxConnectsPerSecond: 100}}, drain: {timeout: 1s}}",
        "mqtt-waiting-max: \"100\"",
    ),
    (
        "coap",
        "{protocol: CoAP, settings: {logFormat: Text, coap: {pingPeriod: 2h, maxRequestsPerSecond: 700, maxSessions: 5000, maxHalfOpen: 500, maxHandshakesPerSecond: 50}}, drain: {timeout: 1s}}",
        "coap-ping-period: \"2h\"",
    ),
];

/// The configuration is one that the program takes, and the pods' own account has the grants though it has no right.
#[test]
fn pods_take_grants_by_being_of_an_adapter() {
    let (ground, operator) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    for (name, spec, said) in OF_EACH_PROTOCOL {
        ground.cluster.apply(&adapter(&lab, name, spec)).unwrap();
        let config = made(ground, &lab, name)["configmap"]["data"]["adapter.yaml"].as_str().unwrap().to_owned();
        assert!(config.contains(said), "{config}");

        // Everything but the places on this machine is as it is in the pod.
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let here = config
            .replace("broker-file: \"/etc/tidegate/broker/connection_string\"", "broker: \"memory:\"")
            .replace("listen-mqtt-ws: \"8083\"", "listen-mqtt-ws: \"127.0.0.1:0\"")
            .replace("/var/lib/tidegate", &path("cache"))
            .replace("/run/tidegate", &folder.path().display().to_string());
        std::fs::write(path("adapter.yaml"), here).unwrap();
        let config = path("adapter.yaml");
        let port = operator.grants().unwrap().port();
        let start = || -> anyhow::Result<Adapter> { ground.adapter_as((&lab, name), port, &["--config", &config]) };
        let running = start().unwrap();
        let (object, programmed) = (format!("adapter.tidegate.io/{name}"), "Programmed");
        until("its Adapter has heard of it", || ground.condition(&lab, &object, programmed) == "True/Programmed");
        drop(running);
        until("and misses it", || ground.condition(&lab, &object, programmed) == "False/NoAdapters");
    }

    // Without its Adapter the account is like any other.
    let account = format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{namespace: {lab}, name: stranger}}\n");
    ground.cluster.apply(&account).unwrap();
    let token = ground.cluster.token_for(&lab, "stranger", Some("tidegate-grants")).unwrap();
    assert_eq!(ground.grants_status(operator, &token).unwrap(), 403);
    let token = ground.cluster.token_for(&lab, "http", Some("tidegate-grants")).unwrap();
    assert_eq!(ground.grants_status(operator, &token).unwrap(), 200);
    let token = ground.cluster.token_for(&lab, "http", None).unwrap();
    assert_eq!(ground.grants_status(operator, &token).unwrap(), 401);
}

/// Must show 6, BR-44: whatever is deleted or edited comes back, and then nothing is written any more.
#[test]
fn what_is_deleted_or_edited_comes_back_and_then_it_is_quiet() {
    let (ground, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let spec = "{protocol: HTTP, autoscaling: {maxReplicas: 5}, ingress: {host: iot.test}}";
    ground.cluster.apply(&adapter(&lab, "http", spec)).unwrap();
    let kinds = KINDS.iter().chain(&["horizontalpodautoscaler", "ingress"]);
    for kind in kinds.clone() {
        until("it is made", || get(ground, &lab, kind, "http").is_some());
        let uid = get(ground, &lab, kind, "http").unwrap()["metadata"]["uid"].clone();
        ground.cluster.kubectl(&["delete", "-n", &lab, kind, "http", "--wait=false"]).unwrap().ok().unwrap();
        until(kind, || get(ground, &lab, kind, "http").is_some_and(|object| object["metadata"]["uid"] != uid));
    }
    let edits = [
        ("serviceaccount", r#"{"automountServiceAccountToken":true}"#),
        ("configmap", r#"{"data":{"adapter.yaml":"log: text"}}"#),
        ("networkpolicy", r#"{"spec":{"ingress":[]}}"#),
        ("poddisruptionbudget", r#"{"spec":{"maxUnavailable":2}}"#),
        ("deployment", r#"{"spec":{"template":{"metadata":{"annotations":{"tidegate.io/config":"x"}}}}}"#),
        ("deployment", r#"{"metadata":{"ownerReferences":[]}}"#),
        ("service", r#"{"spec":{"selector":{"tidegate.io/adapter":"x"}}}"#),
        ("service", r#"{"metadata":{"labels":{"app.kubernetes.io/managed-by":"x"}}}"#),
        ("horizontalpodautoscaler", r#"{"spec":{"maxReplicas":50}}"#),
        ("ingress", r#"{"spec":{"rules":[{"host":"evil.test"}]}}"#),
    ];
    for (kind, edit) in edits {
        let before = get(ground, &lab, kind, "http").unwrap();
        patch(ground, &lab, &format!("{kind}/http"), edit);
        until(&format!("{kind} {edit}"), || {
            get(ground, &lab, kind, "http").is_some_and(|now| {
                ["spec", "data", "automountServiceAccountToken"].iter().all(|part| now[*part] == before[*part])
                    && ["labels", "ownerReferences"]
                        .iter()
                        .all(|part| now["metadata"][*part] == before["metadata"][*part])
                    && now["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
            })
        });
    }
    quiet(ground, &lab);
}

/// Makes an Adapter look at everything once more, and shows that it then writes nothing.
fn quiet(ground: &Ground, lab: &str) {
    // What is written for another Adapter comes after whatever there was to write for the first.
    ground.cluster.apply(&adapter(lab, "first", "{protocol: HTTP}")).unwrap();
    made(ground, lab, "first");
    let versions = || {
        let all = ground.cluster.kubectl(&[
            "get",
            "sa,cm,netpol,pdb,svc",
            "-n",
            lab,
            "-l",
            "tidegate.io/adapter=http",
            "-o",
            "jsonpath={.items[*].metadata.resourceVersion}",
        ]);
        let generation = ground.jsonpath(&["-n", lab, "deployment/http"], "{.metadata.generation}").unwrap();
        all.unwrap().ok().unwrap() + &generation
    };
    let before = (versions(), writes(ground, lab).iter().filter(|write| !write.contains("status")).count());
    patch(ground, lab, "adapter.tidegate.io/http", r#"{"metadata":{"annotations":{"looked":"at"}}}"#);
    patch(ground, lab, "service/http", r#"{"metadata":{"annotations":{"looked":"at"}}}"#);
    patch(ground, lab, "adapter.tidegate.io/first", r#"{"spec":{"service":{"annotations":{"a":"b"}}}}"#);
    until("the other one is written", || {
        get(ground, lab, "service", "first").is_some_and(|service| service["metadata"]["annotations"]["a"] == "b")
    });
    let after = writes(ground, lab).iter().filter(|write| !write.contains("status")).count();
    assert_eq!(after, before.1 + 1, "only the other Adapter's Service: {:?}", writes(ground, lab));
    ground.cluster.kubectl(&["delete", "-n", lab, "adapter.tidegate.io/first"]).unwrap().ok().unwrap();
}

/// Datagrams of a device are to reach the pod that knows it; what has connections does not need that.
#[test]
fn coap_keeps_devices_with_their_pods_and_another_protocol_lets_them_go() {
    let (ground, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    ground.cluster.apply(&adapter(&lab, "face", "{protocol: CoAP, service: {type: NodePort}}")).unwrap();
    let made = made(ground, &lab, "face");
    let ports = |service: &Value| {
        let ports = service["spec"]["ports"].as_array().unwrap().iter();
        ports.map(|port| format!("{} {} {}", port["name"], port["protocol"], port["port"])).collect::<Vec<_>>()
    };
    assert_eq!(ports(&made["service"]), [r#""coap" "UDP" 5683"#, r#""coaps" "UDP" 5684"#]);
    let affinity = || {
        let spec = get(ground, &lab, "service", "face").unwrap()["spec"].clone();
        (spec["sessionAffinity"].clone(), spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].clone())
    };
    let kept = (Value::from("ClientIP"), Value::from(86_400));
    assert_eq!(affinity(), kept);
    patch(ground, &lab, "service/face", r#"{"spec":{"sessionAffinity":"None","sessionAffinityConfig":null}}"#);
    until("the Service is as it was", || affinity() == kept);
    patch(ground, &lab, "adapter.tidegate.io/face", r#"{"spec":{"protocol":"MQTT"}}"#);
    until("the Service is another's", || affinity() == (Value::from("None"), Value::Null));
    let service = get(ground, &lab, "service", "face").unwrap();
    assert_eq!(ports(&service), [r#""mqtt" "TCP" 1883"#]);
    until("all is well", || ground.condition(&lab, "adapter.tidegate.io/face", "Degraded") == "False/Healthy");
}

/// The registry has a prefix, which no name is to repeat; and each is in the README.
#[test]
fn metrics_are_named_as_they_are_documented() {
    let (_, operator) = running();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../operator/README.md")).unwrap();
    let told = operator.admin("/metrics").unwrap();
    // A counter's type is of its name without `_total`.
    let names: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.starts_with("tidegate_").then(|| line.split([' ', '{']).next())?)
        .collect();
    assert!(names.len() > 10, "{told}");
    for name in names {
        let rest = name.strip_prefix("tidegate_operator_").unwrap_or_else(|| panic!("{name} is of no operator"));
        assert!(readme.contains(&format!("`{name}`")) || readme.contains(&format!("`_{rest}`")), "{name}");
    }
}

/// BR-43: what others put on what is ours stays, and nobody is fought over it.
#[test]
fn what_others_add_stays() {
    let (ground, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    ground.cluster.apply(&adapter(&lab, "http", "{protocol: HTTP, service: {type: NodePort}}")).unwrap();
    made(ground, &lab, "http");
    let port = ground.jsonpath(&["-n", &lab, "service/http"], "{.spec.ports[0].nodePort}").unwrap();
    patch(
        ground,
        &lab,
        "service/http",
        r#"{"metadata":{"annotations":{"cloud/address":"1"},"labels":{"theirs":"x"}}}"#,
    );
    let status = r#"{"status":{"conditions":[{"type":"Theirs","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    ground
        .cluster
        .kubectl(&["patch", "-n", &lab, "service/http", "--subresource=status", "--type=merge", "-p", status])
        .unwrap()
        .ok()
        .unwrap();
    ground.cluster.kubectl(&["rollout", "restart", "-n", &lab, "deployment/http"]).unwrap().ok().unwrap();
    // A change of ours goes through beside it.
    patch(
        ground,
        &lab,
        "adapter.tidegate.io/http",
        r#"{"spec":{"service":{"annotations":{"ours":"y"}},"settings":{"logLevel":"warn"}}}"#,
    );
    until("it is written", || {
        get(ground, &lab, "service", "http").unwrap()["metadata"]["annotations"]["ours"] == "y"
            && get(ground, &lab, "configmap", "http").unwrap()["data"]["adapter.yaml"]
                .as_str()
                .unwrap()
                .contains("warn")
    });
    let service = get(ground, &lab, "service", "http").unwrap();
    assert_eq!(service["metadata"]["annotations"]["cloud/address"], "1");
    assert_eq!(service["metadata"]["labels"]["theirs"], "x");
    assert_eq!(service["status"]["conditions"][0]["type"], "Theirs");
    assert_eq!(service["spec"]["ports"][0]["nodePort"].to_string(), port);
    let deployment = get(ground, &lab, "deployment", "http").unwrap();
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string(), "{annotations}");
    // What is ours and not wanted any more goes, and only that.
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"spec":{"service":{"annotations":null}}}"#);
    until("it is taken off", || {
        get(ground, &lab, "service", "http").unwrap()["metadata"]["annotations"]["ours"].is_null()
    });
    assert_eq!(get(ground, &lab, "service", "http").unwrap()["metadata"]["annotations"]["cloud/address"], "1");
}

/// BR-41: a restart of the operator, or the next leader, writes nothing and replaces no pod.
#[test]
fn a_restarted_operator_writes_nothing() {
    let ground = ground().unwrap();
    let mut operator = ground.operator().unwrap();
    ground.cluster.kubectl(&["create", "namespace", "lab"]).unwrap().ok().unwrap();
    // Amounts are written as the API server would not.
    let spec = "{protocol: HTTP, resources: {requests: {cpu: 1000m, memory: 1024Mi}}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}";
    ground.cluster.apply(&adapter("lab", "http", spec)).unwrap();
    made(&ground, "lab", "http");
    until("all is said", || ground.jsonpath(&["-n", "lab", "tgad/http"], "{.status.replicas}").unwrap() == "2");
    for _ in 0..3 {
        operator.terminate().unwrap();
        let before = writes(&ground, "lab");
        operator = ground.operator().unwrap();
        until("it leads", || operator.metric("tidegate_operator_leading").unwrap() == 1);
        // It has looked at the first when it has made the second.
        ground.cluster.apply(&adapter("lab", "other", "{protocol: HTTP}")).unwrap();
        made(&ground, "lab", "other");
        let others = writes(&ground, "lab").len() - before.len();
        let deployment = get(&ground, "lab", "deployment", "http").unwrap();
        assert_eq!(deployment["metadata"]["generation"], 1);
        assert!(others >= KINDS.len(), "{others}");
        let applied = operator.metric("tidegate_operator_applied_total").unwrap();
        assert_eq!(applied, u64::try_from(KINDS.len()).unwrap(), "more than the other's was applied");
        ground.cluster.kubectl(&["delete", "-n", "lab", "adapter.tidegate.io/other"]).unwrap().ok().unwrap();
        until("it is gone", || get(&ground, "lab", "deployment", "other").is_none());
    }
    let sets =
        ground.jsonpath(&["replicaset", "-n", "lab", "-l", "tidegate.io/adapter=http"], "{.items[*].metadata.name}");
    assert_eq!(sets.unwrap().split_whitespace().count(), 1);
}

/// The number of pods is the Adapter's, or the cluster's, and goes from one to the other without a jump.
#[test]
fn the_number_of_pods_is_left_alone_under_autoscaling() {
    let (ground, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    ground.cluster.apply(&adapter(&lab, "http", "{protocol: HTTP, replicas: 3}")).unwrap();
    made(ground, &lab, "http");
    let replicas = || get(ground, &lab, "deployment", "http").unwrap()["spec"]["replicas"].as_i64().unwrap();
    ground.cluster.kubectl(&["scale", "-n", &lab, "deployment/http", "--replicas=7"]).unwrap().ok().unwrap();
    until("the Adapter has the last word", || replicas() == 3);
    ground.cluster.kubectl(&["scale", "-n", &lab, "adapter.tidegate.io/http", "--replicas=4"]).unwrap().ok().unwrap();
    until("the Adapter itself can be scaled", || replicas() == 4);
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"spec":{"replicas":null,"autoscaling":{"maxReplicas":9}}}"#);
    until("there is an autoscaler", || get(ground, &lab, "horizontalpodautoscaler", "http").is_some());
    assert_eq!(replicas(), 4);
    // The autoscaler's own way in.
    ground.cluster.kubectl(&["scale", "-n", &lab, "deployment/http", "--replicas=6"]).unwrap().ok().unwrap();
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"spec":{"podLabels":{"a":"b"}}}"#);
    until("a change goes through", || {
        get(ground, &lab, "deployment", "http").unwrap()["spec"]["template"]["metadata"]["labels"]["a"] == "b"
    });
    assert_eq!(replicas(), 6);
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"spec":{"replicas":2,"autoscaling":null}}"#);
    until("the autoscaler is gone", || get(ground, &lab, "horizontalpodautoscaler", "http").is_none());
    until("the number is the Adapter's again", || replicas() == 2);
}

/// What has the name already is another's, and what is paused is let be.
#[test]
fn what_is_not_ours_and_what_is_paused_is_left_alone() {
    let (ground, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let theirs = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: {lab}, name: http}}\ndata: {{theirs: x}}\n---\n"
    );
    ground.cluster.apply(&(theirs + &adapter(&lab, "http", "{protocol: HTTP}"))).unwrap();
    until("it is said", || ground.condition(&lab, "adapter.tidegate.io/http", "Degraded") == "True/NameConflict");
    assert_eq!(get(ground, &lab, "configmap", "http").unwrap()["data"], serde_json::json!({"theirs": "x"}));
    let told =
        || ground.cluster.kubectl(&["get", "events.v1.events.k8s.io", "-n", &lab, "-o", "json"]).unwrap().ok().unwrap();
    until("it is told", || told().contains("NameConflict"));
    ground.cluster.kubectl(&["delete", "-n", &lab, "configmap", "http"]).unwrap().ok().unwrap();
    until("it mends itself", || ground.condition(&lab, "adapter.tidegate.io/http", "Degraded") == "False/Healthy");

    made(ground, &lab, "http");
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"metadata":{"annotations":{"tidegate.io/paused":"true"}}}"#);
    until("it is paused", || {
        ground.condition(&lab, "adapter.tidegate.io/http", "Progressing") == "False/ReconciliationPaused"
    });
    patch(ground, &lab, "service/http", r#"{"spec":{"selector":{"tidegate.io/adapter":"x"}}}"#);
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"spec":{"replicas":5}}"#);
    until("the new generation is seen", || {
        ground.jsonpath(&["-n", &lab, "tgad/http"], "{.status.observedGeneration}").unwrap() == "2"
    });
    let service = get(ground, &lab, "service", "http").unwrap();
    assert_eq!(service["spec"]["selector"]["tidegate.io/adapter"], "x");
    patch(ground, &lab, "adapter.tidegate.io/http", r#"{"metadata":{"annotations":{"tidegate.io/paused":null}}}"#);
    until("it goes on", || {
        get(ground, &lab, "service", "http").unwrap()["spec"]["selector"]["tidegate.io/adapter"] == "http"
            && get(ground, &lab, "deployment", "http").unwrap()["spec"]["replicas"] == 5
    });
}

/// A way in that is not wanted any more goes, and one that the cluster does not know is told.
#[test]
fn ways_in_come_and_go() {
    let ground = ground().unwrap();
    ground.cluster.kubectl(&["create", "namespace", "lab"]).unwrap().ok().unwrap();
    let mut operator = ground.operator().unwrap();
    let gateway = "{protocol: HTTP, gateway: {parentRefs: [{name: edge}], host: iot.test, prefix: /http}}";
    ground.cluster.apply(&adapter("lab", "http", "{protocol: HTTP, ingress: {host: iot.test}}")).unwrap();
    until("there is an Ingress", || get(&ground, "lab", "ingress", "http").is_some());
    assert_eq!(ground.jsonpath(&["-n", "lab", "tgad/http"], "{.status.addresses[0].value}").unwrap(), "iot.test");
    ground.cluster.apply(&adapter("lab", "http", gateway)).unwrap();
    until("the Ingress is gone", || get(&ground, "lab", "ingress", "http").is_none());
    until("it is said", || ground.condition("lab", "adapter.tidegate.io/http", "Degraded") == "True/WriteRefused");
    operator.terminate().unwrap();
    let routes = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: httproutes.gateway.networking.k8s.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: gateway.networking.k8s.io
  names: {kind: HTTPRoute, plural: httproutes}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
    ground.cluster.apply(routes).unwrap();
    let established = ["wait", "--for=condition=Established", "crd", "httproutes.gateway.networking.k8s.io"];
    ground.cluster.kubectl(&established).unwrap().ok().unwrap();
    let _operator = ground.operator().unwrap();
    until("there is a route", || get(&ground, "lab", "httproute", "http").is_some());
    until("all is well", || ground.condition("lab", "adapter.tidegate.io/http", "Degraded") == "False/Healthy");
    let cut = get(&ground, "lab", "httproute", "http").unwrap()["spec"]["rules"][0]["backendRefs"][0]["port"].clone();
    assert_eq!(cut, 80);
}
