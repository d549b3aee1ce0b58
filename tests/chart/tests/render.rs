//! What the chart makes of values, as goldens; and what it refuses.

use chart_tests::sets::{SETS, render};
use chart_tests::{chart, helm, in_tree};
use expect_test::{expect, expect_file};

#[test]
fn values_become_these_objects() {
    let whole = render(&[]).unwrap();
    for (name, sets) in SETS {
        let rendered = render(sets).unwrap();
        // What is as without any values is in the first golden.
        let text = if name == "default" {
            rendered
        } else {
            let documents = |text: &str| text.split("---\n").map(str::to_owned).collect::<Vec<_>>();
            let (before, after) = (documents(&whole), documents(&rendered));
            let gone = before.iter().filter(|document| !after.contains(document));
            let come = after.iter().filter(|document| !before.contains(document));
            let source =
                |document: &String| format!("# not as before: {}\n", document.lines().next().unwrap_or_default());
            gone.map(source).chain(come.map(|document| format!("---\n{document}"))).collect()
        };
        expect_file![in_tree(&format!("tests/chart/golden/{name}.yaml"))].assert_eq(&text);
    }
}

#[test]
fn what_is_rendered_twice_is_the_same() {
    assert_eq!(render(&[]).unwrap(), render(&[]).unwrap());
}

#[test]
fn each_document_is_yaml_without_a_key_twice() {
    for (name, sets) in SETS {
        let rendered = render(sets).unwrap();
        for document in rendered.split("\n---") {
            let parsed: Result<serde_yaml::Value, _> = serde_yaml::from_str(document.trim_start_matches("---"));
            assert!(parsed.is_ok(), "{name}: {parsed:?}\n{document}");
        }
    }
}

/// The checks of `helm test`, each by its URL.
fn checks(sets: &[&str]) -> Vec<String> {
    let rendered = render(sets).expect("these values are right");
    rendered.lines().filter_map(|line| line.trim().strip_prefix("- --url=")).map(str::to_owned).collect()
}

#[test]
fn what_only_certificates_open_is_not_checked_with_a_key() {
    let all = checks(&[]);
    let coaps = "coaps://tidegate-coap.tidegate.svc:5684".to_owned();
    assert!(all.contains(&coaps), "{all:?}");
    let others: Vec<String> = all.iter().filter(|url| **url != coaps).cloned().collect();
    assert_eq!(others.len(), 4, "{others:?}");
    let tls = |face: &str, auth: &str| {
        let of = |value: &str| format!("adapters.{face}.tls.{value}");
        [of("secretName=server"), of("clientCaSecretName=devices"), of(&format!("clientAuth={auth}"))]
    };
    let with = |values: &[String]| checks(&values.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(with(&tls("coap", "Required")), others);
    assert_eq!(with(&tls("coap", "Optional")), all);
    for face in ["http", "websocket", "mqtt"] {
        assert_eq!(with(&tls(face, "Required")), all, "{face} is checked in plain text");
    }
    // And where listeners are said in the spec.
    let listener = |auth: &str| {
        let of = |value: &str| format!("adapters.coap.spec.listeners[0].{value}");
        ["name=coaps", "port=5684", "transport=DTLS", "tls.secretRef.name=server", "tls.clientCaRef.name=devices"]
            .map(of)
            .into_iter()
            .chain([of(&format!("tls.clientAuth={auth}"))])
            .collect::<Vec<_>>()
    };
    assert!(with(&listener("Optional")).contains(&coaps));
    let without = with(&listener("Required"));
    assert!(!without.iter().any(|url| url.starts_with("coap")), "{without:?}");
}

/// Listeners with TLS are checked where it is known who signed the certificate, and what is left out is printed.
#[test]
fn listeners_with_tls_are_checked_where_their_authority_is_known() {
    let of = |face: &str, sets: &[&str]| -> Vec<String> {
        let sets: Vec<String> = sets.iter().map(|set| format!("adapters.{face}.{set}")).collect();
        let all = checks(&sets.iter().map(String::as_str).collect::<Vec<_>>());
        all.into_iter().filter(|url| url.contains(&format!("tidegate-{face}."))).collect()
    };
    let listener = ["spec.listeners[0].name=a", "spec.listeners[0].port=4430", "spec.listeners[0].transport=TLS"];
    let named = [&listener[..], &["spec.listeners[0].tls.secretRef.name=server"]].concat();
    let devices = ["tls.clientCaSecretName=devices", "tls.clientAuth=Required"];
    for (face, scheme, plain, secure) in
        [("http", "http", 80, 443), ("websocket", "ws", 80, 443), ("mqtt", "mqtt", 1883, 8883)]
    {
        let host = format!("tidegate-{face}.tidegate.svc");
        let (plain, tls) = (format!("{scheme}://{host}:{plain}"), format!("{scheme}s://{host}:{secure}"));
        let (both, plain) = ([plain.clone(), tls], [plain]);
        assert_eq!(of(face, &[]), plain);
        assert_eq!(of(face, &["tls.issuerRef.name=ca"]), both);
        assert_eq!(of(face, &["tls.secretName=server"]), plain);
        assert_eq!(of(face, &["tls.secretName=server", "tls.serverCaSecretName=server"]), both);
        assert_eq!(of(face, &[&["tls.issuerRef.name=ca"], &devices[..]].concat()), plain);
        assert_eq!(of(face, &named), Vec::<String>::new());
        let known = [&named[..], &["tls.serverCaSecretName=server"]].concat();
        assert_eq!(of(face, &known), [format!("{scheme}s://{host}:4430")]);
    }
}

/// What is printed after the installation.
fn notes(sets: &[&str]) -> String {
    let chart = chart();
    let mut args = vec!["install", "tidegate", &chart, "--namespace", "tidegate", "--dry-run=client"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let output = helm(&args).expect("helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_once("\nNOTES:\n").expect("notes").1.to_owned()
}

#[test]
fn the_commands_that_are_printed_fit_the_listeners() {
    let sets = [
        "default",
        "other-ports",
        "http-tls-alone",
        "mqtt-listeners-issuer",
        "coap-dtls-alone",
        "coap-certificates-alone",
        "tls-secret",
    ];
    let default = notes(&[]);
    for name in sets {
        let (_, values) = SETS.iter().find(|(set, _)| *set == name).unwrap();
        let notes = notes(values);
        let text = if name == "default" {
            notes
        } else {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            let (before, after) = (lines(&default), lines(&notes));
            let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}\n"));
            gone.chain(after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}\n"))).collect()
        };
        expect_file![in_tree(&format!("tests/chart/golden/notes/{name}.txt"))].assert_eq(&text);
    }
}

/// What is wrong, without where the chart lies.
fn refusal(set: &str) -> String {
    let said = render(&set.split(' ').collect::<Vec<_>>()).expect_err(set);
    let of_schema = said.lines().rev().find(|line| line.trim_start().starts_with("- at '"));
    let of_template = said.lines().find_map(|line| line.strip_prefix("Error: execution error at "));
    let of_template = of_template.and_then(|line| Some(line.split_once("): ")?.1));
    of_schema.or(of_template).unwrap_or(&said).trim_start_matches([' ', '-']).to_owned()
}

/// What says nothing, or is used before the pods, is left alone beside listeners of the user's own.
#[test]
fn what_is_of_use_beside_listeners_is_taken() {
    let listener = |face: &str, more: &[&str]| {
        let of = |value: &&str| format!("adapters.{face}.spec.listeners[0].{value}");
        ["name=a"].iter().chain(more).map(of).collect::<Vec<_>>()
    };
    let ingress = ["adapters.http.tls.issuerRef.name=ca", "adapters.http.spec.ingress.host=a.test"].map(str::to_owned);
    let clients = ["adapters.mqtt.tls.issuerRef.name=ca", "adapters.mqtt.tls.clientCaSecretName=devices"];
    let required =
        ["port=8883", "transport=TLS", "tls.secretRef.name=tidegate-mqtt-tls", "tls.clientCaRef.name=devices"];
    let required = [&required[..], &["tls.clientAuth=Required"]].concat();
    for sets in [
        [listener("http", &["port=80"]), ingress.to_vec()].concat(),
        [listener("mqtt", &required), clients.map(str::to_owned).to_vec()].concat(),
    ] {
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        assert!(!checks(&sets).is_empty(), "{sets:?}");
    }
}

#[test]
fn what_is_wrong_is_refused_and_named() {
    let sets = [
        "image.repo=x",
        "operator.replica=3",
        "operator.replicas=-1",
        "operator.replicas=many",
        "operator.logFormat=xml",
        "image.digest=latest",
        "image.pullPolicy=Sometimes",
        "adapters.smoke.enabled=true",
        "adapters.http.spec.protocol=Smoke",
        "adapters.http.spec.replics=3",
        "adapters.http.spec.service.type=NoPort",
        "adapters.coap.tls.clientAuth=Maybe",
        "adapters.coap.tls.clientCaSecretName=devices",
        "adapters.mqtt.tls.clientCaSecretName=devices",
        "adapters.coap.tls.clientAuth=Required",
        "adapters.http.tls.clientAuth=Required",
        "adapters.http.tls.dnsNames={a.test}",
        "adapters.http.tls.secretName=a adapters.http.spec.listeners[0].name=a adapters.http.spec.listeners[0].port=80",
        "adapters.mqtt.tls.issuerRef.name=ca adapters.mqtt.spec.listeners[0].name=a adapters.mqtt.spec.listeners[0].port=8883 adapters.mqtt.spec.listeners[0].transport=TLS adapters.mqtt.spec.listeners[0].tls.secretRef.name=b",
        "adapters.coap.tls.secretName=a adapters.coap.tls.clientCaSecretName=devices adapters.coap.spec.listeners[0].name=a adapters.coap.spec.listeners[0].port=5684 adapters.coap.spec.listeners[0].transport=DTLS adapters.coap.spec.listeners[0].tls.secretRef.name=a",
        "adapters.coap.tls.secretName=a adapters.coap.tls.clientCaSecretName=devices adapters.coap.tls.clientAuth=Required adapters.coap.spec.listeners[0].name=a adapters.coap.spec.listeners[0].port=5684 adapters.coap.spec.listeners[0].transport=DTLS adapters.coap.spec.listeners[0].tls.secretRef.name=a adapters.coap.spec.listeners[0].tls.clientCaRef.name=devices",
        "adapters.http.tls.serverCaSecretName=a",
        "adapters.coap.tls.serverCaSecretName=a",
        "broker.embedded.enabled=false",
        "broker.secretRef=mq",
        "watchNamespaces={plant-a}",
        "watchNamespaces=plant-a",
        "networkPolicy.apiServerPorts={70000}",
        "monitoring.podMonitor.every=1s",
        "unknown=1",
    ];
    let refusals: Vec<String> = sets.iter().map(|set| format!("{set}: {}", refusal(set))).collect();
    expect![[r#"
        image.repo=x: at '/image': additional properties 'repo' not allowed
        operator.replica=3: at '/operator': additional properties 'replica' not allowed
        operator.replicas=-1: at '/operator/replicas': minimum: got -1, want 0
        operator.replicas=many: at '/operator/replicas': got string, want integer
        operator.logFormat=xml: at '/operator/logFormat': value must be one of 'json', 'text'
        image.digest=latest: at '/image/digest': 'latest' does not match pattern '^(sha256:[0-9a-f]{64})?$'
        image.pullPolicy=Sometimes: at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'
        adapters.smoke.enabled=true: at '/adapters': additional properties 'smoke' not allowed
        adapters.http.spec.protocol=Smoke: at '/adapters/http/spec/protocol': value must be one of 'HTTP', 'WebSocket', 'MQTT', 'CoAP'
        adapters.http.spec.replics=3: at '/adapters/http/spec': additional properties 'replics' not allowed
        adapters.http.spec.service.type=NoPort: at '/adapters/http/spec/service/type': value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'
        adapters.coap.tls.clientAuth=Maybe: at '/adapters/coap/tls/clientAuth': value must be one of 'None', 'Optional', 'Required'
        adapters.coap.tls.clientCaSecretName=devices: adapters.coap.tls.clientCaSecretName needs a certificate: name its Secret in secretName, or an issuer
        adapters.mqtt.tls.clientCaSecretName=devices: adapters.mqtt.tls.clientCaSecretName needs a certificate: name its Secret in secretName, or an issuer
        adapters.coap.tls.clientAuth=Required: adapters.coap.tls.clientAuth=Required needs clientCaSecretName: the Secret with the authorities that sign devices' certificates
        adapters.http.tls.clientAuth=Required: adapters.http.tls.clientAuth=Required needs clientCaSecretName: the Secret with the authorities that sign devices' certificates
        adapters.http.tls.dnsNames={a.test}: adapters.http.tls.dnsNames needs issuerRef.name: the issuer that makes a certificate with these names
        adapters.http.tls.secretName=a adapters.http.spec.listeners[0].name=a adapters.http.spec.listeners[0].port=80: adapters.http.tls.secretName counts for nothing, since adapters.http.spec.listeners says what the listeners are: name the Secret a in tls.secretRef of those with TLS, or leave the listeners to the chart
        adapters.mqtt.tls.issuerRef.name=ca adapters.mqtt.spec.listeners[0].name=a adapters.mqtt.spec.listeners[0].port=8883 adapters.mqtt.spec.listeners[0].transport=TLS adapters.mqtt.spec.listeners[0].tls.secretRef.name=b: adapters.mqtt.tls.issuerRef.name counts for nothing, since adapters.mqtt.spec.listeners says what the listeners are: name the Secret tidegate-mqtt-tls in tls.secretRef of those with TLS, or leave the listeners to the chart
        adapters.coap.tls.secretName=a adapters.coap.tls.clientCaSecretName=devices adapters.coap.spec.listeners[0].name=a adapters.coap.spec.listeners[0].port=5684 adapters.coap.spec.listeners[0].transport=DTLS adapters.coap.spec.listeners[0].tls.secretRef.name=a: adapters.coap.tls.clientCaSecretName counts for nothing, since adapters.coap.spec.listeners says what the listeners are: name the Secret devices in their tls.clientCaRef, or leave the listeners to the chart
        adapters.coap.tls.secretName=a adapters.coap.tls.clientCaSecretName=devices adapters.coap.tls.clientAuth=Required adapters.coap.spec.listeners[0].name=a adapters.coap.spec.listeners[0].port=5684 adapters.coap.spec.listeners[0].transport=DTLS adapters.coap.spec.listeners[0].tls.secretRef.name=a adapters.coap.spec.listeners[0].tls.clientCaRef.name=devices: adapters.coap.tls.clientAuth=Required counts for nothing, since adapters.coap.spec.listeners says what the listeners are: say Required in their tls.clientAuth too, or leave the listeners to the chart
        adapters.http.tls.serverCaSecretName=a: adapters.http.tls.serverCaSecretName needs a listener with TLS, whose certificate it is about
        adapters.coap.tls.serverCaSecretName=a: adapters.coap.tls.serverCaSecretName is of no use: what `helm test` shows over DTLS is a key, which needs no certificate
        broker.embedded.enabled=false: there is no broker: name the Secret of yours in broker.secretRef.name, or set broker.embedded.enabled
        broker.secretRef=mq: at '/broker/secretRef': got string, want object
        watchNamespaces={plant-a}: watchNamespaces has to name the release's own namespace too: tidegate
        watchNamespaces=plant-a: at '/watchNamespaces': got string, want array
        networkPolicy.apiServerPorts={70000}: at '/networkPolicy/apiServerPorts/0': maximum: got 70,000, want 65,535
        monitoring.podMonitor.every=1s: at '/monitoring/podMonitor': additional properties 'every' not allowed
        unknown=1: at '': additional properties 'unknown' not allowed"#]].assert_eq(&refusals.join("\n"));
}

#[test]
fn helm_finds_nothing_to_say() {
    let output = helm(&["lint", "--strict", &chart()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn dashboards_and_alerts_name_metrics_that_there_are() {
    let read = |path: &str| std::fs::read_to_string(in_tree(path)).unwrap();
    let (adapters, operator) = (read("adapters/README.md"), read("operator/README.md"));
    let documented = |name: &str| {
        let rest = |prefix: &str| name.strip_prefix(prefix).map(|rest| format!("`_{rest}`"));
        [adapters.as_str(), operator.as_str()].iter().any(|text| {
            text.contains(&format!("`{name}`"))
                || [rest("tidegate_grants_"), rest("tidegate_operator_")]
                    .iter()
                    .flatten()
                    .any(|rest| text.contains(rest))
        })
    };
    let mut found = 0;
    for path in ["charts/tidegate/files/dashboard.json", "charts/tidegate/files/alerts.yaml"] {
        for word in read(path).split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("tidegate_") {
                assert!(documented(word), "{path}: {word}");
                found += 1;
            }
        }
    }
    assert!(found > 20, "only {found} metrics found");
}
