//! From nothing to a first message, and to nothing again.

use std::path::Path;
use std::process::{Command, Stdio};

use chart_tests::chart;
use conformance::until;
use serde_json::json;
use system_tests::{NAMESPACE, RELEASE, system};

use crate::certificates::{Folder, secret};
use crate::{OPERATOR_PODS, two_pods};

#[test]
fn the_chart_runs_under_the_restricted_standard_and_its_own_test_passes() {
    let system = system();
    let said = system.helm(&["test", RELEASE, "--logs"]).unwrap();
    assert!(said.contains("http: accepted after "), "{said}");
    let enforced = system.json(&["namespace", NAMESPACE], r"{.metadata.labels.pod-security\.kubernetes\.io/enforce}");
    assert_eq!(enforced.unwrap(), "restricted");
    let adapters = ["http", "websocket", "mqtt", "coap"].map(|face| format!("tidegate.io/adapter=tidegate-{face}"));
    for selector in [OPERATOR_PODS].into_iter().chain(adapters.iter().map(String::as_str)) {
        assert_eq!(system.pods(NAMESPACE, selector).unwrap().len(), 2, "{selector}");
    }
    let restarts =
        system.json(&["--namespace", NAMESPACE, "pods"], "{.items[*].status.containerStatuses[*].restartCount}");
    let restarts = restarts.unwrap();
    assert!(restarts.split(' ').all(|count| count == "0"), "restarts: {restarts}");
    let password = system.secret(NAMESPACE, "tidegate-broker", "password").unwrap();
    for pod in system.pods(NAMESPACE, OPERATOR_PODS).unwrap() {
        let log = system.kubectl(&["--namespace", NAMESPACE, "logs", &pod]).unwrap().ok().unwrap();
        assert!(!log.contains("forbidden") && !log.contains(&password), "{log}");
    }
}

/// With certificates of one's own, of an authority that the chart is told of.
#[test]
fn the_charts_own_test_passes_over_tls_too() {
    let faces = ["http", "websocket", "mqtt"];
    let (system, folder) = (system(), Folder::new());
    folder.authority("servers");
    let names = faces.map(|face| format!("DNS:tidegate-{face}.{NAMESPACE}.svc")).join(",");
    folder.sign("servers", "server", "/CN=server", &["-addext", &format!("subjectAltName={names}")]);
    let entry = |name, kind| folder.read(name, kind);
    let entries = json!({
        "tls.crt": entry("server", "crt"), "tls.key": entry("server", "key"), "ca.crt": entry("servers", "crt"),
    });
    let secret = secret("servers", &entries).to_string();
    system.api().kubectl_with(&["--namespace", NAMESPACE, "apply", "--filename=-"], &secret).unwrap().ok().unwrap();
    let sets = faces.map(|face| {
        let of = format!("adapters.{face}.tls");
        format!("{of}.secretName=servers,{of}.serverCaSecretName=servers")
    });
    system.install_with(&chart(), &["--set", &sets.join(",")]).unwrap();
    let hooks = system.helm(&["get", "hooks", RELEASE]).unwrap();
    for (scheme, face, port) in [("https", "http", 443), ("wss", "websocket", 443), ("mqtts", "mqtt", 8883)] {
        let url = format!("--url={scheme}://tidegate-{face}.{NAMESPACE}.svc:{port}");
        assert!(hooks.lines().any(|line| line.trim() == format!("- {url}")), "{url} is not checked: {hooks}");
    }
    // It passes when each of its containers does.
    system.helm(&["test", RELEASE]).unwrap();
    system.install(&chart()).unwrap();
    system.kubectl(&["--namespace", NAMESPACE, "delete", "secret", "servers"]).unwrap().ok().unwrap();
}

#[test]
fn the_first_message_is_accepted_by_the_commands_that_the_chart_prints() {
    let system = system();
    let notes = system.helm(&["get", "notes", RELEASE]).unwrap();
    let from = |first: &str| {
        let begin = notes.find(first).expect("commands in the notes");
        let end = notes[begin..].find("\n\n").expect("an end of them") + begin;
        &notes[begin..end]
    };
    let (over_http, over_mqtt) =
        (from("kubectl apply"), from("kubectl port-forward --namespace tidegate service/tidegate-mqtt"));
    // Its exit code says nothing, and of what is accepted it is silent unless it is asked.
    let over_coap = from("ADDRESS=").replace("coap-client-notls", "coap-client-notls -v 7");
    system.wait(NAMESPACE, "condition=Ready", &["adapter/tidegate-coap"]);
    let mut shell = Command::new("bash");
    // What runs behind goes with the shell.
    let script = format!("trap 'kill $(jobs -p)' EXIT\n{over_http}\n{over_mqtt}\necho MQTT too\n{over_coap} 2>&1");
    shell.args(["-e", "-c", &script]).env("KUBECONFIG", system.api().kubeconfig_path()).stdin(Stdio::null());
    let output = shell.env("PATH", path_with_kubectl()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("HTTP/1.1 202") && said.contains("MQTT too") && said.contains("2.04"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    system.kubectl(&["--namespace", NAMESPACE, "delete", "thing/sensor", "channel/telemetry"]).unwrap().ok().unwrap();
}

fn path_with_kubectl() -> String {
    let home = Command::new(chart_tests::in_tree("tests/cluster/build.sh")).arg("home").output().unwrap();
    let bin = Path::new(String::from_utf8_lossy(&home.stdout).trim()).join("bin");
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it_whether_an_operator_runs_or_not() {
    let system = system();
    for operators in ["2", "0"] {
        let lab = system.lab().unwrap();
        lab.furnish(two_pods()).unwrap();
        let replicas = format!("--replicas={operators}");
        let scale = ["--namespace", NAMESPACE, "scale", "deployment", "tidegate-operator", &replicas];
        system.kubectl(&scale).unwrap().ok().unwrap();
        let count = operators.parse::<usize>().unwrap();
        until("so many operators are there", || {
            system.pods(NAMESPACE, OPERATOR_PODS).is_ok_and(|pods| pods.len() == count)
        });
        let name = lab.namespace.name();
        system.kubectl(&["delete", "namespace", name, "--wait=true", "--timeout=60s"]).unwrap().ok().unwrap();
    }
    let scale = ["--namespace", NAMESPACE, "scale", "deployment", "tidegate-operator", "--replicas=2"];
    system.kubectl(&scale).unwrap().ok().unwrap();
    system.wait(NAMESPACE, "condition=Available", &["deployment/tidegate-operator"]);
}
