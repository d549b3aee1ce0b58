//! An operator that is for a few namespaces has rights in those alone, and serves those alone.

use conformance::until;
use operator_tests::{NAMESPACE, ground_with};

#[test]
fn what_lies_beside_the_watched_namespaces_counts_for_nothing_and_needs_no_right() {
    let ground = ground_with(&["plant-a", "plant-b"], &["watchNamespaces={tidegate,plant-a}"]).unwrap();
    let operator = ground.operator_with(0, &["--watch-namespace=tidegate,plant-a"]).unwrap();
    for namespace in [NAMESPACE, "plant-a", "plant-b"] {
        let manifests = format!(
            "apiVersion: tidegate.io/v1alpha1
kind: Channel
metadata: {{name: telemetry, namespace: {namespace}}}
spec: {{allowedThings: {{namespaces: All}}}}
---
apiVersion: tidegate.io/v1alpha1
kind: Thing
metadata: {{name: sensor, namespace: {namespace}}}
spec: {{connections: [{{channel: telemetry, namespace: tidegate}}]}}
"
        );
        ground.cluster.apply(&manifests).unwrap();
    }
    let adapter = ground.adapter(&operator, &[]).unwrap();
    let object = |namespace: &str, object: &str, path: &str| {
        let output = format!("--output=jsonpath={path}");
        ground.cluster.kubectl(&["get", "--namespace", namespace, object, &output]).unwrap().ok().unwrap()
    };
    let key = |namespace: &str| ground.key(namespace, "sensor-credentials", "key");
    for namespace in [NAMESPACE, "plant-a"] {
        let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
        until("the Thing is ready", || object(namespace, "thing/sensor", ready) == "True");
        let key = key(namespace).unwrap();
        let topic = "channels/tidegate.telemetry/messages";
        assert_eq!(adapter.publish(topic, &key, "application/senml+json", b"[{\"n\":\"a\",\"v\":1}]").unwrap(), 202);
    }
    assert_eq!(object("plant-b", "thing/sensor", "{.status}"), "");
    assert!(key("plant-b").is_err(), "a key was made where nothing is watched");
    // What vanishes in one of them is noticed.
    let gone = key("plant-a").unwrap();
    ground.cluster.kubectl(&["delete", "--namespace", "plant-a", "thing/sensor"]).unwrap().ok().unwrap();
    let status = || adapter.publish("channels/tidegate.telemetry/messages", &gone, "application/senml+json", b"[]");
    until("its key is gone", || status().is_ok_and(|status| status == 401));
    let log = operator.log();
    assert!(!log.contains("is forbidden"), "{log}");
}
