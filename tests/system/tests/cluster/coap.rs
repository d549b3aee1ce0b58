//! CoAP: datagrams have no connection that could break, so devices find out by themselves that their pod is gone.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use conformance::{until, until_within};
use serde_json::json;
use system_tests::{Listener, Traffic, adapter, channel, system, thing};
use tidegate_client::{Address, Status};

use crate::ADAPTER_PODS;
use crate::outages::{nothing_is_lost, replace_by_setting};

/// How long it may take an observer to find out: a notification holds for 60 s, and 5 to 15 s later who has none registers
/// again.
const OBSERVES_WITHIN: Duration = Duration::from_secs(120);
/// What counts messages that a pod has accepted.
const PUBLISHED: &str = r#"tidegate_publishes_total{protocol="coap",outcome="accepted"}"#;
/// 5.03.
const UNAVAILABLE: Status = Status::Coap(0xa3);

/// Waits until a device hears what it has not heard yet.
fn hears_more(listener: &Listener, what: &str) {
    let before = listener.numbers().last().copied();
    until_within(OBSERVES_WITHIN, what, || listener.numbers().last().copied() > before);
}

#[test]
fn devices_move_to_other_pods_and_nothing_that_was_answered_is_lost() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.apply(&channel("telemetry")).unwrap();
    lab.apply(&thing("sensor", &["telemetry"])).unwrap();
    lab.apply(&adapter("coap", json!({"protocol": "CoAP", "replicas": 2, "drain": {"timeout": "20s"}}))).unwrap();
    lab.ready(&["channel/telemetry", "thing/sensor", "adapter/coap"]);
    let address = system.address(&lab.namespace, "coap").unwrap();
    let device = lab.device("sensor", &format!("coap://{address}"));
    let witness = lab.witness().unwrap();
    let listener = Listener::start(&device, &Address::new("telemetry", "#"));
    let traffic = Traffic::start(&device, &Address::new("telemetry", "load"));
    hears_more(&listener, "the device observes");

    let replaced = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    let patch = r#"{"spec": {"settings": {"coap": {"pingPeriod": "1h"}}}}"#;
    replace_by_setting(&system, &lab, "coap", patch);
    // A pod that ends goes on with its observations until it takes leave of them.
    let objects: Vec<String> = replaced.iter().map(|pod| format!("pod/{pod}")).collect();
    system.wait(&lab.namespace, "delete", &objects.iter().map(String::as_str).collect::<Vec<_>>());
    hears_more(&listener, "the device observes in a new pod");
    let told = listener.ends();
    assert!(!told.is_empty() && told.iter().all(|end| end.starts_with("5.03")), "{told:?}");

    let pods = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    for pod in pods.chunks(1) {
        system.replace(&lab.namespace, ADAPTER_PODS, pod);
        traffic.goes_on(100);
        hears_more(&listener, "the device observes in a pod that is there");
    }
    let accepted = nothing_is_lost("CoAP adapters replaced and killed", traffic, &witness);
    assert!(accepted.refused.keys().all(|status| *status == UNAVAILABLE), "{:?}", accepted.refused);
    let (away, times) = (listener.longest_absence(), listener.subscriptions());
    eprintln!("a device was away for {away:.1?} at most when it was told, and observed {times} times");
}

/// What libcoap's client says of a message that it sends over DTLS, with the answer, if there is one.
fn sent_over_dtls(uri: &str, identity: &str, key: &str) -> String {
    let mut client = Command::new("coap-client-openssl");
    // It waits for so many seconds at most.
    client.args(["-v", "7", "-B", "10", "-m", "post", "-t", "50", "-e", "7", "-u", identity, "-k", key, uri]);
    let Output { stdout, stderr, .. } = client.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
}

#[test]
fn a_device_is_known_over_dtls_by_the_key_that_was_generated_for_it() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.apply(&channel("telemetry")).unwrap();
    lab.apply(&thing("sensor", &["telemetry"])).unwrap();
    lab.apply(&adapter("coap", json!({"protocol": "CoAP", "replicas": 2}))).unwrap();
    lab.ready(&["channel/telemetry", "thing/sensor", "adapter/coap"]);
    let host = system.json(&["--namespace", &lab.namespace, "service", "coap"], "{.spec.clusterIP}").unwrap();
    let uri = format!("coaps://{host}/channels/telemetry/messages/dtls");
    let (identity, key, witness) = (format!("{}.sensor", lab.namespace), lab.key("sensor"), lab.witness().unwrap());
    until("the Service leads to a pod", || sent_over_dtls(&uri, &identity, &key).contains("2.04"));
    assert!(witness.missing(&[7].into()).unwrap().is_empty());
    // Each of them has another port, and all one address: what is sent from it stays with one pod.
    for _ in 0..7 {
        assert!(sent_over_dtls(&uri, &identity, &key).contains("2.04"));
    }
    let pods = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    let accepted = |pod: &String| {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/metrics", &*lab.namespace);
        let metrics = system.kubectl(&["get", "--raw", &path]).unwrap().ok().unwrap();
        let count = metrics.lines().find_map(|line| line.strip_prefix(PUBLISHED)).map(|count| count.trim().to_owned());
        count.unwrap_or_else(|| "0".to_owned())
    };
    let mut counts: Vec<String> = pods.iter().map(accepted).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["0", "8"]);
    for (identity, key) in [(&*identity, "another"), ("nobody.at-all", &*key)] {
        let said = sent_over_dtls(&uri, identity, key);
        assert!(!said.contains("2.04"), "{identity}: {said}");
    }
    // A new key counts from the moment that the Thing is ready, and the old one for as long as it overlaps.
    lab.kubectl(&["annotate", "thing", "sensor", "tidegate.io/rotate=1"]).unwrap();
    until("there is another key", || lab.key("sensor") != key);
    lab.ready(&["thing/sensor"]);
    for key in [lab.key("sensor"), key] {
        let said = sent_over_dtls(&uri, &identity, &key);
        assert!(said.contains("2.04"), "{said}");
    }
}
