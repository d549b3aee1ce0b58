//! The schemas that the API server gets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_api::{
    AdapterSpec, ChannelSpec, ConditionStatus, ConditionType, Reason, Stored, Thing, ThingSpec, Time, Transport,
    condition, crds, keep_transitions,
};

/// The schema of a part of a resource.
fn schema(kind: &str, part: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let json = serde_json::to_value(&crd).unwrap();
    json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// Calls `visit` with every schema of every resource and its path.
fn each_schema(visit: &mut dyn FnMut(&str, &Value)) {
    fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        for (part, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[part].is_object() {
                walk(&format!("{path}{mark}"), &schema[part], visit);
            }
        }
    }
    for kind in ["Thing", "Channel", "Adapter"] {
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &schema(kind, part), visit);
        }
    }
}

#[test]
fn every_list_map_and_text_has_a_bound() {
    let (mut seen, mut unbounded) = (0, Vec::new());
    each_schema(&mut |path, schema| {
        let bound = match schema["type"].as_str() {
            Some("string") if schema["enum"].is_null() => "maxLength",
            Some("array") => "maxItems",
            Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
            Some("integer") if path.contains(".spec.") && !path.contains("affinity") => "maximum",
            _ => return,
        };
        seen += 1;
        // Whole numbers of Kubernetes' own types are bounded by their format.
        let foreign = ["tolerations", "topologySpreadConstraints"].iter().any(|part| path.contains(part));
        if schema[bound].is_null() && !(foreign && bound == "maximum") {
            unbounded.push(path.to_owned());
        }
    });
    assert!(seen > 150, "only {seen} bounds were found");
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_field_is_explained() {
    each_schema(&mut |path, schema| {
        let is_field = path.rsplit('.').next().is_some_and(|last| !last.ends_with(['}', ']']));
        let explained = schema["description"].as_str().is_some_and(|text| text.len() >= 10);
        assert!(explained || !is_field, "{path} is not explained");
    });
}

#[test]
fn nothing_is_stored_that_nobody_wrote_and_that_says_nothing() {
    each_schema(&mut |path, schema| {
        assert!(schema["nullable"].is_null(), "{path} takes null");
        assert!(schema.get("default").is_none_or(|d| !d.is_null() && !d.is_object()), "{path}: {}", schema["default"]);
        let format = schema["format"].as_str().unwrap_or("int32");
        assert!(["int32", "int64", "date-time"].contains(&format), "{path} has the format {format}");
    });
}

#[test]
fn lists_that_two_may_write_are_keyed() {
    for (kind, part, list, keys) in [
        ("Thing", "spec", "connections", vec!["namespace", "channel"]),
        ("Thing", "status", "conditions", vec!["type"]),
        ("Thing", "status", "connections", vec!["namespace", "channel"]),
        ("Thing", "status", "keys", vec!["id"]),
        ("Channel", "status", "conditions", vec!["type"]),
        ("Adapter", "status", "conditions", vec!["type"]),
        ("Adapter", "spec", "listeners", vec!["name"]),
    ] {
        let schema = schema(kind, part);
        let list = &schema["properties"][list];
        assert_eq!(list["x-kubernetes-list-type"], "map", "{kind} {list}");
        assert_eq!(list["x-kubernetes-list-map-keys"], serde_json::json!(keys), "{kind} {list}");
    }
}

#[test]
fn what_a_newer_version_stored_is_passed_over_and_what_makes_no_sense_is_not() {
    let thing = serde_json::json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "Thing",
        "metadata": {"name": "dev", "namespace": "lab", "labels": {"anything": "stays"}},
        "spec": {"suspended": true, "fromTomorrow": {"a": 1}, "connections": [{"channel": "telemetry", "quality": 2}]},
        "status": {"id": "lab.dev", "keys": [{"id": "key", "state": "Frozen"}]},
    });
    let strict = serde_json::from_value::<Thing>(thing.clone()).unwrap_err().to_string();
    assert!(strict.contains("unknown field"), "{strict}");
    let Stored(read) = serde_json::from_value::<Stored<Thing>>(thing.clone()).unwrap();
    assert!(read.spec.suspended && read.spec.connections[0].channel == "telemetry");
    assert_eq!(read.metadata.labels.unwrap()["anything"], "stays");
    assert_eq!(read.status, None, "a status that nobody here can read");

    let mut known = thing.clone();
    known["status"] = serde_json::json!({"id": "lab.dev", "mood": "fine"});
    let Stored(read) = serde_json::from_value::<Stored<Thing>>(known).unwrap();
    assert_eq!(read.status.unwrap().id.as_deref(), Some("lab.dev"));

    let mut wrong = thing;
    wrong["spec"]["connections"] = "all".into();
    assert!(serde_json::from_value::<Stored<Thing>>(wrong).is_err());
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let at = |second: i64| Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap());
    let of =
        |status, reason, second| condition(ConditionType::Ready, status, (reason, "words"), Some(second), at(second));
    let found = [of(ConditionStatus::False, Reason::Pending, 1)];
    let mut wanted = [of(ConditionStatus::False, Reason::NoAdapters, 2)];
    keep_transitions(&mut wanted, &found);
    assert_eq!((wanted[0].last_transition_time.clone(), wanted[0].reason.as_str()), (at(1), "NoAdapters"));
    let mut turned = [of(ConditionStatus::True, Reason::Ready, 3)];
    keep_transitions(&mut turned, &found);
    assert_eq!(turned[0].last_transition_time, at(3));
}

#[test]
fn reasons_are_distinct_words_that_a_condition_may_have() {
    let mut words: Vec<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Reason::ALL.len());
    assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_alphabetic()) && word.len() <= 64), "{words:?}");
}

/// A reason is its condition's own name, or stands beside it.
#[test]
fn the_readme_has_every_reason_and_no_other() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, table) = readme.split_once("| condition | of | reasons beside its own name |\n").unwrap();
    let rows = table.lines().skip(1).map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |"));
    let (mut conditions, mut told) = (Vec::new(), BTreeSet::new());
    for row in rows {
        let [condition, _, reasons] = row.split(" | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
        conditions.push(condition);
        told.extend(reasons.split(", ").chain([condition]).map(str::to_owned));
    }
    use ConditionType::{Accepted, Available, BrokerReady, Degraded, Programmed, Progressing, ResolvedRefs};
    let all = [Accepted, ResolvedRefs, BrokerReady, Available, Progressing, Degraded, Programmed];
    assert_eq!(conditions, all.map(|condition| condition.to_string()));
    // These two are good when they are false, and have no reason of their own name.
    let known = Reason::ALL.iter().map(ToString::to_string).chain([Progressing, Degraded].map(|kind| kind.to_string()));
    // Ready is all of the others together, and has their reasons.
    let known: BTreeSet<String> = known.filter(|reason| reason != "Ready").collect();
    assert_eq!(told, known);
}

#[test]
fn an_adapter_that_says_only_its_protocol_has_the_documented_defaults() {
    let spec: AdapterSpec = serde_yaml::from_str("protocol: HTTP").unwrap();
    assert_eq!(spec.violations(), []);
    assert_eq!((spec.replicas_wanted(), spec.drain_timeout().as_secs()), (Some(2), 30));
    assert_eq!((spec.listeners_wanted()[0].name.as_str(), spec.listeners_wanted()[0].port), ("http", 80));
    let listener = |protocol: &str| {
        let spec: AdapterSpec = serde_yaml::from_str(&format!("protocol: {protocol}")).unwrap();
        (spec.listeners_wanted()[0].name.clone(), spec.listeners_wanted()[0].port)
    };
    assert_eq!((listener("WebSocket"), listener("MQTT")), (("ws".into(), 80), ("mqtt".into(), 1_883)));
    let coap: AdapterSpec = serde_yaml::from_str("protocol: CoAP").unwrap();
    let coap = coap.listeners_wanted();
    let coap: Vec<_> = coap.iter().map(|of| (of.name.as_str(), of.port, of.transport, of.tls.is_some())).collect();
    assert_eq!(coap, [("coap", 5_683, Transport::UDP, false), ("coaps", 5_684, Transport::DTLS, false)]);
    let scaled: AdapterSpec = serde_yaml::from_str("{protocol: HTTP, autoscaling: {maxReplicas: 5}}").unwrap();
    assert_eq!((scaled.replicas_wanted(), scaled.autoscaling.unwrap().min_replicas), (None, 2));
    let amounts: AdapterSpec =
        serde_yaml::from_str("{protocol: HTTP, resources: {requests: {cpu: 1, memory: 64Mi}}}").unwrap();
    assert_eq!(amounts.resources.requests["cpu"].0, "1");
}

#[test]
fn what_is_wrong_with_an_adapter_is_named_without_an_api_server() {
    let check = |yaml: &str, expected: &str| {
        let spec: AdapterSpec = serde_yaml::from_str(yaml).unwrap();
        let said: Vec<String> = spec.violations().iter().map(ToString::to_string).collect();
        assert_eq!(said, [expected], "{yaml}");
    };
    check(
        "{protocol: HTTP, replicas: 1, autoscaling: {maxReplicas: 5}}",
        "spec: the number of pods is either given or found: replicas excludes autoscaling",
    );
    check(
        "{protocol: HTTP, ingress: {}, gateway: {parentRefs: [{name: a}]}}",
        "spec: one way leads in: ingress excludes gateway",
    );
    check(
        "{protocol: HTTP, listeners: [{name: a, port: 1, transport: TLS}]}",
        "spec.listeners[0]: tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it",
    );
    check(
        "{protocol: WebSocket, listeners: [{name: a, port: 1, tls: {secretRef: {name: b}}}]}",
        "spec.listeners[0]: tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it",
    );
    check(
        "{protocol: WebSocket, listeners: [{name: a, port: 1, transport: WebSocket}]}",
        "spec: transport: WebSocket goes with protocol: MQTT alone; protocol: WebSocket has TCP and TLS",
    );
    check(
        "{protocol: MQTT, listeners: [{name: a, port: 1, transport: TLS, tls: {secretRef: {name: b}}}, {name: b, port: 2, transport: WebSocket, tls: {secretRef: {name: c}}}]}",
        "spec.listeners[1]: the listeners of an Adapter share one tls: the certificate, clientCaRef and clientAuth",
    );
    check(
        "{protocol: HTTP, drain: {timeout: 2h}}",
        "spec.drain.timeout: a span as 30s or 5m within its bounds is needed",
    );
    check(
        "{protocol: WebSocket, settings: {websocket: {pingInterval: 900ms}}}",
        "spec.settings.websocket.pingInterval: a span as 30s or 5m within its bounds is needed",
    );
    check(
        "{protocol: WebSocket, settings: {websocket: {idleTimeout: 2h}}}",
        "spec.settings.websocket.idleTimeout: a span as 30s or 5m within its bounds is needed",
    );
    let below = "spec.settings.websocket: pingInterval must be below idleTimeout, since a client that has nothing to say answers pings alone";
    check("{protocol: WebSocket, settings: {websocket: {pingInterval: 60s}}}", below);
    check("{protocol: WebSocket, settings: {websocket: {idleTimeout: 30s}}}", below);
    check("{protocol: WebSocket, settings: {websocket: {pingInterval: 2m, idleTimeout: 120s}}}", below);
    check(
        "{protocol: WebSocket, settings: {websocket: {origins: []}}}",
        "spec.settings.websocket.origins: at least 1 item, or none of it",
    );
}

#[test]
fn what_is_wrong_with_coap_and_with_certificates_of_devices_is_named_without_an_api_server() {
    let check = |yaml: &str, expected: &[&str]| {
        let spec: AdapterSpec = serde_yaml::from_str(yaml).unwrap();
        let said: Vec<String> = spec.violations().iter().map(ToString::to_string).collect();
        assert_eq!(said, expected, "{yaml}");
    };
    let datagrams = "spec: transport: UDP and DTLS go with protocol: CoAP alone, which has no others; it is TCP where none is given";
    for protocol in ["HTTP", "WebSocket", "MQTT"] {
        for transport in ["UDP", "DTLS"] {
            let listener = format!("{{name: a, port: 1, transport: {transport}}}");
            check(&format!("{{protocol: {protocol}, listeners: [{listener}]}}"), &[datagrams]);
        }
    }
    check("{protocol: CoAP, listeners: [{name: a, port: 5683}]}", &[datagrams]);
    check(
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: TLS, tls: {secretRef: {name: b}}}]}",
        &[datagrams],
    );
    check("{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}, {name: b, port: 2}]}", &[datagrams]);
    let needs = "tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it";
    check(
        "{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP, tls: {secretRef: {name: b}}}]}",
        &[&format!("spec.listeners[0]: {needs}")],
    );
    let alone = "ingress and gateway lead to protocol: HTTP and WebSocket alone";
    check("{protocol: CoAP, ingress: {}}", &[&format!("spec: {alone}")]);
    check("{protocol: CoAP, gateway: {parentRefs: [{name: a}]}}", &[&format!("spec: {alone}")]);
    for period in ["59m", "25h", "0s"] {
        let field = "spec.settings.coap.pingPeriod: a span as 30s or 5m within its bounds is needed";
        check(&format!("{{protocol: CoAP, settings: {{coap: {{pingPeriod: {period}}}}}}}"), &[field]);
    }
    for auth in ["None", "Optional", "Required"] {
        let tls = format!("{{secretRef: {{name: b}}, clientAuth: {auth}}}");
        let said = "spec.listeners[0].tls: clientAuth needs clientCaRef: whose certificates devices may show";
        let listener = format!("{{name: a, port: 1, transport: TLS, tls: {tls}}}");
        check(&format!("{{protocol: HTTP, listeners: [{listener}]}}"), &[said]);
    }
    let one = |tls: &str| {
        let first = format!("{{name: a, port: 1, transport: TLS, tls: {tls}}}");
        format!(
            "{{protocol: MQTT, listeners: [{first}, {{name: b, port: 2, transport: WebSocket, tls: {{secretRef: {{name: b}}}}}}]}}"
        )
    };
    let shared =
        "spec.listeners[1]: the listeners of an Adapter share one tls: the certificate, clientCaRef and clientAuth";
    check(&one("{secretRef: {name: b}, clientCaRef: {name: c}}"), &[shared]);
    check(&one("{secretRef: {name: c}}"), &[shared]);
    check(&one("{secretRef: {name: b}}"), &[]);
}

#[test]
fn what_is_wrong_with_the_spans_of_mqtt_is_named_without_an_api_server() {
    for (field, span, is_wrong) in [
        ("keepAliveMax", "999ms", true),
        ("keepAliveMax", "1s", false),
        ("keepAliveMax", "18h", false),
        ("keepAliveMax", "18h1s", true),
        ("sessionExpiryMax", "0s", false),
        ("sessionExpiryMax", "8760h", false),
        ("sessionExpiryMax", "8761h", true),
    ] {
        let yaml = format!("{{protocol: MQTT, settings: {{mqtt: {{{field}: {span}}}}}}}");
        let spec: AdapterSpec = serde_yaml::from_str(&yaml).unwrap();
        let fields: Vec<String> = spec.violations().into_iter().map(|violation| violation.field).collect();
        let expected: &[String] = if is_wrong { &[format!("spec.settings.mqtt.{field}")] } else { &[] };
        assert_eq!(fields, expected, "{yaml}");
    }
    let error = serde_yaml::from_str::<AdapterSpec>("{protocol: MQTT, settings: {mqtt: {maxWaitin: 3}}}").unwrap_err();
    assert!(error.to_string().contains("maxWaitin"), "{error}");
}

#[test]
fn settings_that_nothing_comes_of_are_named_without_an_api_server() {
    let check = |yaml: &str, expected: &[&str]| {
        let spec: AdapterSpec = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(spec.violations(), [], "{yaml}: pods are made of it all the same");
        let said: Vec<String> = spec.without_effect().iter().map(ToString::to_string).collect();
        assert_eq!(said, expected, "{yaml}");
    };
    let of = |protocol: &str, settings: &str| format!("{{protocol: {protocol}, settings: {{{settings}}}}}");
    let connections = "spec: settings.maxConnections and settings.http.timeout are of connections, which protocol: CoAP does not have";
    let bodies = "spec: settings.http.keepAlive and settings.http.bodiesMaxBytes go with protocol: HTTP alone";
    let mqtt = "spec: settings.mqtt goes with protocol: MQTT and WebSocket alone";
    let websocket =
        "spec: settings.websocket.pingInterval, idleTimeout and maxInFlight go with protocol: WebSocket alone";
    let origins = "spec: settings.websocket.origins goes with protocol: WebSocket, and with MQTT that has a listener of transport: WebSocket";
    let coap = "spec: settings.coap goes with protocol: CoAP alone";
    for (settings, but, said) in [
        ("publishTimeout: 1s, logLevel: warn, logFormat: Text", &["HTTP", "WebSocket", "MQTT", "CoAP"][..], ""),
        ("maxConnections: 1", &["HTTP", "WebSocket", "MQTT"], connections),
        ("http: {timeout: 1s}", &["HTTP", "WebSocket", "MQTT"], connections),
        ("http: {}", &["HTTP", "WebSocket", "MQTT", "CoAP"], ""),
        ("http: {keepAlive: 1s}", &["HTTP"], bodies),
        ("http: {bodiesMaxBytes: 1024}", &["HTTP"], bodies),
        ("mqtt: {}", &["WebSocket", "MQTT"], mqtt),
        ("mqtt: {maxWaiting: 1}", &["WebSocket", "MQTT"], mqtt),
        ("websocket: {}", &["HTTP", "WebSocket", "MQTT", "CoAP"], ""),
        ("websocket: {pingInterval: 1s}", &["WebSocket"], websocket),
        ("websocket: {idleTimeout: 1m}", &["WebSocket"], websocket),
        ("websocket: {maxInFlight: 1}", &["WebSocket"], websocket),
        ("websocket: {origins: ['https://a']}", &["WebSocket"], origins),
        ("coap: {pingPeriod: 1h}", &["CoAP"], coap),
        ("coap: {maxSessions: 1, maxHalfOpen: 1, maxHandshakesPerSecond: 1}", &["CoAP"], coap),
    ] {
        for protocol in ["HTTP", "WebSocket", "MQTT", "CoAP"] {
            let expected: &[&str] = if but.contains(&protocol) { &[] } else { &[said] };
            check(&of(protocol, settings), expected);
        }
    }
    let all = "maxConnections: 1, http: {keepAlive: 1s}, mqtt: {}, websocket: {maxInFlight: 1, origins: ['https://a']}";
    check(&of("CoAP", all), &[connections, bodies, mqtt, websocket, origins]);
    let carried = "listeners: [{name: a, port: 1}, {name: b, port: 2, transport: WebSocket}]";
    check(&format!("{{protocol: MQTT, {carried}, settings: {{websocket: {{origins: ['https://a']}}}}}}"), &[]);
    check(&format!("{{protocol: MQTT, {carried}, settings: {{websocket: {{maxInFlight: 1}}}}}}"), &[websocket]);
    let needed =
        "spec: settings.coap.maxSessions, maxHalfOpen and maxHandshakesPerSecond go with a listener of transport: DTLS";
    for (setting, plain) in [
        ("maxSessions: 1", &[needed][..]),
        ("maxHalfOpen: 1", &[needed]),
        ("maxHandshakesPerSecond: 1", &[needed]),
        ("maxRequestsPerSecond: 1", &[]),
        ("pingPeriod: 1h", &[]),
    ] {
        let with = |transport: &str| {
            let listener = format!("{{name: a, port: 1, transport: {transport}}}");
            format!("{{protocol: CoAP, listeners: [{listener}], settings: {{coap: {{{setting}}}}}}}")
        };
        check(&with("UDP"), plain);
        check(&with("DTLS"), &[]);
        check(&format!("{{protocol: CoAP, listeners: [], settings: {{coap: {{{setting}}}}}}}"), &[]);
    }
}

#[test]
fn pre_shared_keys_are_taken_over_dtls_unless_certificates_are_required() {
    let takes = |yaml: &str| serde_yaml::from_str::<AdapterSpec>(yaml).unwrap().takes_shared_keys();
    for protocol in ["HTTP", "WebSocket", "MQTT"] {
        assert!(!takes(&format!("{{protocol: {protocol}}}")), "{protocol}");
    }
    assert!(takes("{protocol: CoAP}"));
    assert!(!takes("{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}]}"));
    assert!(takes("{protocol: CoAP, listeners: [{name: a, port: 1, transport: DTLS}]}"));
    let with = |tls: &str| {
        let plain = "{name: a, port: 1, transport: UDP}";
        format!("{{protocol: CoAP, listeners: [{plain}, {{name: b, port: 2, transport: DTLS, tls: {{{tls}}}}}]}}")
    };
    assert!(takes(&with("secretRef: {name: c}")));
    for (auth, expected) in [("None", true), ("Optional", true), ("Required", false)] {
        let tls = format!("secretRef: {{name: c}}, clientCaRef: {{name: d}}, clientAuth: {auth}");
        assert_eq!(takes(&with(&tls)), expected, "{auth}");
    }
}

#[test]
fn an_adapter_of_coap_may_say_so_much() {
    let check = |yaml: &str| {
        let spec: AdapterSpec = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(spec.violations(), [], "{yaml}");
    };
    check("{protocol: CoAP, listeners: [{name: a, port: 1, transport: UDP}]}");
    check("{protocol: CoAP, listeners: [{name: a, port: 1, transport: DTLS}]}");
    let tls = "{secretRef: {name: b}, clientCaRef: {name: c}, clientAuth: Required}";
    check(&format!(
        "{{protocol: CoAP, listeners: [{{name: a, port: 1, transport: UDP}}, {{name: b, port: 2, transport: DTLS, tls: {tls}}}]}}"
    ));
    check("{protocol: CoAP, settings: {coap: {pingPeriod: 1h}}}");
    check("{protocol: CoAP, settings: {coap: {pingPeriod: 24h}}}");
    for protocol in ["HTTP", "WebSocket", "MQTT"] {
        check(&format!("{{protocol: {protocol}, listeners: [{{name: a, port: 1, transport: TLS, tls: {tls}}}]}}"));
    }
}

#[test]
fn an_adapter_of_websocket_and_mqtt_over_it_may_say_so_much() {
    let check = |yaml: &str| {
        let spec: AdapterSpec = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(spec.violations(), [], "{yaml}");
    };
    let tls = "tls: {secretRef: {name: b}}";
    check(&format!(
        "{{protocol: WebSocket, listeners: [{{name: a, port: 1}}, {{name: b, port: 2, transport: TLS, {tls}}}]}}"
    ));
    check("{protocol: WebSocket, ingress: {prefix: /ws}}");
    check("{protocol: WebSocket, gateway: {parentRefs: [{name: a}]}}");
    check("{protocol: MQTT, listeners: [{name: a, port: 1, transport: WebSocket}]}");
    check(&format!(
        "{{protocol: MQTT, listeners: [{{name: a, port: 1, transport: TLS, {tls}}}, {{name: b, port: 2, transport: WebSocket, {tls}}}]}}"
    ));
    check("{protocol: WebSocket, settings: {websocket: {pingInterval: 10m, idleTimeout: 1h, maxInFlight: 1}}}");
}

/// An origin with a comma would be two, and one with a path or in capitals would never match.
#[test]
fn an_origin_is_what_a_browser_says() {
    let origins = |origins: &[&str]| -> Vec<String> {
        let value = serde_json::json!({"protocol": "WebSocket", "settings": {"websocket": {"origins": origins}}});
        let spec: AdapterSpec = serde_json::from_value(value).unwrap();
        spec.violations().iter().map(|violation| violation.field.clone()).collect()
    };
    let good =
        ["https://app.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443", "app+x://a_b", "null"];
    assert_eq!(origins(&good), Vec::<String>::new());
    let bad = [
        "app.example.com",
        "*",
        "",
        "https://",
        "https://a.b/",
        "https://a,b",
        "https://a b",
        "HTTPS://a",
        "https://A",
    ];
    for origin in bad {
        assert_eq!(origins(&["https://a", origin]), ["spec.settings.websocket.origins[1]"], "{origin}");
    }
    assert_eq!(origins(&[&format!("https://{}", "a".repeat(246))]), ["spec.settings.websocket.origins[0]"]);
    assert_eq!(origins(&["https://a"; 65]), ["spec.settings.websocket.origins"]);
}

#[test]
fn a_field_that_does_not_exist_is_named() {
    let error = serde_yaml::from_str::<ThingSpec>("suspnded: true").unwrap_err().to_string();
    assert!(error.contains("suspnded"), "{error}");
    let error = serde_yaml::from_str::<ChannelSpec>("payload: {maxbytes: 3}").unwrap_err().to_string();
    assert!(error.contains("maxbytes"), "{error}");
}

#[test]
fn what_is_beyond_its_bounds_is_named() {
    let thing = |yaml: &str| -> Vec<String> {
        let spec: ThingSpec = serde_yaml::from_str(yaml).unwrap();
        spec.violations().iter().map(ToString::to_string).collect()
    };
    assert_eq!(thing("connections: [{channel: a, subtopics: {publish: ['a/#']}}]"), Vec::<String>::new());
    assert_eq!(thing("aliases: [a, b, c, d, e]"), ["spec.aliases: at most 4 items"]);
    assert_eq!(thing("aliases: ['a.b']"), ["spec.aliases[0]: 1 to 64 of A-Z, a-z, 0-9, '_' and '-' are needed"]);
    assert_eq!(
        thing("connections: [{channel: a}, {channel: a}]"),
        ["spec.connections[1]: this Channel is connected already"]
    );
    assert_eq!(
        thing("connections: [{channel: a, permissions: []}]"),
        ["spec.connections[0].permissions: Publish, Subscribe or both are needed, each once"]
    );
    assert_eq!(
        thing("credentials: {keyHashes: [{id: a, sha256: xyz}]}"),
        ["spec.credentials.keyHashes[0].sha256: 64 hexadecimal digits are needed"]
    );
    let channel: ChannelSpec = serde_yaml::from_str("payload: {admit: [text/plain], maxBytes: 0}").unwrap();
    let said: Vec<String> = channel.violations().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.payload.contentType: must be among those that admit lists",
            "spec.payload.maxBytes: 1 to 16777216 is needed"
        ]
    );
}

/// Values that break each bound of `schema` at `path`, given one that keeps them all. What that one leaves out is not
/// tried.
fn beyond(schema: &Value, good: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if good.is_null() {
        return;
    }
    if let Some(max) = schema["maxItems"].as_u64() {
        let many = vec![good[0].clone(); usize::try_from(max).unwrap() + 1];
        found.push((path.to_owned(), many.into()));
        let mut inner = Vec::new();
        beyond(&schema["items"], &good[0], &format!("{path}[0]"), &mut inner);
        found.extend(inner.into_iter().map(|(at, bad)| (at, serde_json::json!([bad]))));
    }
    if let Some(max) = schema["maxLength"].as_u64() {
        found.push((path.to_owned(), "a".repeat(usize::try_from(max).unwrap() + 1).into()));
    }
    if schema["pattern"].is_string() {
        found.push((path.to_owned(), "a.!".into()));
    }
    if schema["minLength"].as_u64().is_some_and(|min| min > 0) {
        found.push((path.to_owned(), "".into()));
    }
    for (bound, past) in [("minimum", -1), ("maximum", 1)] {
        let Some(limit) = schema[bound].as_f64() else { continue };
        if schema["type"] == "integer" && limit + f64::from(past) >= 0.0 {
            found.push((path.to_owned(), serde_json::from_str(&(limit + f64::from(past)).to_string()).unwrap()));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut inner = Vec::new();
        beyond(property, &good[name], &format!("{path}.{name}"), &mut inner);
        for (at, bad) in inner {
            let mut whole = good.clone();
            whole[name] = bad;
            found.push((at, whole));
        }
    }
}

#[test]
fn what_the_schema_refuses_is_refused_without_an_api_server() {
    let (time, later) = ("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z");
    let thing = serde_json::json!({
        "aliases": ["old-1"],
        "connections": [{"channel": "telemetry", "namespace": "plant-a", "permissions": ["Publish"],
            "subtopics": {"publish": ["engine/#"], "subscribe": ["+/state"]}}],
        "credentials": {
            "secretRefs": [{"id": "a", "name": "keys", "key": "key", "notBefore": time, "notAfter": later}],
            "keyHashes": [{"id": "b", "sha256": "0f".repeat(32), "notBefore": time, "notAfter": later}]}
    });
    let channel = serde_json::json!({
        "aliases": ["old-1"],
        "allowedThings": {"namespaces": "List", "list": ["plant-b"]},
        "payload": {"contentType": "text/plain", "admit": ["text/plain"], "validate": "None", "maxBytes": 1}
    });
    let generated = serde_json::json!({"credentials": {"generate": {"secretName": "keys"}, "overlap": "90m"}});
    let mut tried = 0;
    let mut check = |schema: Value, good: &Value, violations: &dyn Fn(Value) -> Vec<String>| {
        assert_eq!(violations(good.clone()), Vec::<String>::new());
        let mut bad = Vec::new();
        beyond(&schema, good, "spec", &mut bad);
        for (path, value) in bad {
            let said = violations(value);
            assert!(said.iter().any(|field| field.starts_with(&path)), "{path} passes: {said:?}");
            tried += 1;
        }
    };
    for good in [&thing, &generated] {
        check(schema("Thing", "spec"), good, &|value| {
            let spec: ThingSpec = serde_json::from_value(value).unwrap();
            spec.violations().into_iter().map(|violation| violation.field).collect()
        });
    }
    check(schema("Channel", "spec"), &channel, &|value| {
        let spec: ChannelSpec = serde_json::from_value(value).unwrap();
        spec.violations().into_iter().map(|violation| violation.field).collect()
    });
    assert!(tried > 30, "only {tried} bounds were tried");
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let thing: ThingSpec = serde_yaml::from_str(
        "{suspended: false, aliases: [], connections: [{channel: telemetry, permissions: [Publish], \
         subtopics: {publish: ['engine/#'], subscribe: []}}, {channel: commands}]}",
    )
    .unwrap();
    assert_eq!(thing.violations(), []);
    let [limited, plain] = thing.connections.as_slice() else { panic!("two connections are needed") };
    assert_eq!(limited.subtopics.subscribe.as_deref(), Some(&[] as &[String]));
    assert_eq!((plain.namespace.as_str(), plain.permissions.len()), ("", 2));
    assert_eq!((&plain.subtopics.publish, &plain.subtopics.subscribe), (&None, &None));
    let channel: ChannelSpec = serde_yaml::from_str("{aliases: []}").unwrap();
    assert_eq!(channel.violations(), []);
    assert_eq!((channel.payload.content_type.as_str(), channel.payload.max_bytes), ("application/senml+json", 262_144));
    assert!(channel.payload.admit.is_empty() && channel.allowed_things.admit("a", "a"));
    assert!(!channel.allowed_things.admit("a", "b"));
}

#[test]
fn a_key_is_generated_where_none_is_given() {
    let thing = |yaml: &str| -> ThingSpec { serde_yaml::from_str(yaml).unwrap() };
    let secret = |yaml: &str| thing(yaml).credentials.generated_secret("dev");
    assert_eq!(secret("{}").as_deref(), Some("dev-credentials"));
    assert_eq!(secret("credentials: {generate: {}}").as_deref(), Some("dev-credentials"));
    assert_eq!(secret("credentials: {generate: {secretName: keys}}").as_deref(), Some("keys"));
    assert_eq!(secret("credentials: {secretRefs: [{id: a, name: keys, key: key}]}"), None);
    let both = "credentials: {generate: {}, secretRefs: [{id: a, name: keys, key: key}]}";
    let said: Vec<String> = thing(both).violations().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["spec.credentials: a key is either generated or given: generate excludes secretRefs and keyHashes"]
    );
    // A certificate is enough; a key beside it has to be asked for.
    let certificate = "certificate: {dnsSan: a.example}";
    assert_eq!(secret(&format!("credentials: {{{certificate}}}")), None);
    assert_eq!(secret(&format!("credentials: {{generate: {{}}, {certificate}}}")).as_deref(), Some("dev-credentials"));
    assert_eq!(thing(&format!("credentials: {{generate: {{}}, {certificate}}}")).violations(), []);
}

#[test]
fn a_certificate_has_exactly_one_name_within_its_bounds() {
    let check = |names: serde_json::Value, expected: &[&str]| {
        let spec = serde_json::json!({"credentials": {"certificate": names}});
        let spec: ThingSpec = serde_json::from_value(spec).unwrap();
        let said: Vec<String> = spec.violations().iter().map(ToString::to_string).collect();
        assert_eq!(said, expected);
    };
    let (most, more) = ("a".repeat(1_024), "a".repeat(1_025));
    check(serde_json::json!({"subject": most}), &[]);
    check(serde_json::json!({"uriSan": "urn:dev:7"}), &[]);
    check(serde_json::json!({"dnsSan": "a.example"}), &[]);
    let one = "spec.credentials.certificate: exactly one of subject, uriSan and dnsSan is needed";
    check(serde_json::json!({}), &[one]);
    check(serde_json::json!({"subject": "CN=a", "dnsSan": "a"}), &[one]);
    let bounds = |field: &str| format!("spec.credentials.certificate.{field}: 1 to 1024 characters are needed");
    check(serde_json::json!({"subject": more}), &[&bounds("subject")]);
    check(serde_json::json!({"uriSan": ""}), &[&bounds("uriSan")]);
    check(serde_json::json!({"dnsSan": more}), &[&bounds("dnsSan")]);
}

#[test]
fn an_overlap_is_a_span_of_at_most_thirty_days() {
    let check = |text: &str, hours: Option<f64>| {
        let spec: ThingSpec = serde_json::from_value(serde_json::json!({"credentials": {"overlap": text}})).unwrap();
        assert_eq!(spec.violations().is_empty(), hours.is_some(), "{text}");
        let span = spec.credentials.overlap_span().as_secs_f64() / 3_600.0;
        assert!(hours.is_none_or(|hours| (span - hours).abs() < 1e-9), "{text}: {span} h");
    };
    for (text, hours) in [("0s", 0.0), ("90m", 1.5), ("1h30m", 1.5), ("24h", 24.0), ("720h", 720.0), ("1h1ms", 1.0)] {
        check(text, Some(if text == "1h1ms" { 1.0 + 1.0 / 3_600_000.0 } else { hours }));
    }
    for text in ["", "1", "1d", "-1h", "1.5h", "721h", "999999h", "1h1h1h1h1h", "1 h", "24H"] {
        check(text, None);
    }
    assert_eq!(ThingSpec::default().credentials.overlap_span().as_secs(), 24 * 3_600);
}
