//! Everything that happens to pods, the broker and the API server while messages flow. Each test counts what was accepted
//! and what the broker has of it.

use conformance::until;
use serde_json::json;
use system_tests::{Accepted, Lab, Listener, NAMESPACE, System, Traffic, Witness, adapter, channel, system, thing};
use tidegate_client::{Address, Client, ClientError, Publication, Status};

use crate::{ADAPTER_PODS, OPERATOR_PODS, two_pods};

/// Stops the traffic, and makes sure that the broker has all that was accepted.
pub(crate) fn nothing_is_lost(what: &str, traffic: Traffic, witness: &Witness) -> Accepted {
    let accepted = traffic.stop();
    let missing = witness.missing(&accepted.numbers).unwrap();
    eprintln!(
        "{what}: {} accepted, {} of them missing; refused {:?}, unanswered {:?}, longest gap {:.1?}",
        accepted.numbers.len(),
        missing.len(),
        accepted.refused,
        accepted.unanswered,
        accepted.longest_gap
    );
    assert!(missing.is_empty(), "{what}: the broker lacks {missing:?}");
    accepted
}

/// Every message was accepted: what happened is nothing that a device may notice.
fn nothing_failed(accepted: &Accepted) {
    assert!(accepted.refused.is_empty(), "{:?}", accepted.refused);
    assert!(accepted.unanswered.is_empty(), "{:?}", accepted.unanswered);
}

#[test]
fn a_pod_that_is_killed_costs_its_devices_no_message() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let (witness, listener, traffic) = (lab.witness().unwrap(), lab.listener().unwrap(), lab.traffic().unwrap());
    let pods = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    system.replace(&lab.namespace, ADAPTER_PODS, &pods[..1]);
    traffic.goes_on(100);
    system.replace(&lab.namespace, ADAPTER_PODS, &pods[1..]);
    until("the device listens to another pod", || listener.is_open() && listener.subscriptions() > 1);
    traffic.goes_on(100);
    nothing_is_lost("one pod killed after the other", traffic, &witness);
    eprintln!(
        "a device was away for {:.1?} at most, subscribed {} times",
        listener.longest_absence(),
        listener.subscriptions()
    );
}

/// Changes a setting that the two pods of an Adapter have to be replaced for, and returns when others are ready.
pub(crate) fn replace_by_setting(system: &System, lab: &Lab<'_>, adapter: &str, patch: &str) {
    let before = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    lab.kubectl(&["patch", "adapter", adapter, "--type=merge", "--patch", patch]).unwrap();
    until("other pods are there", || {
        let now = system.pods(&lab.namespace, ADAPTER_PODS).unwrap_or_default();
        now.len() == 2 && !now.iter().any(|pod| before.contains(pod))
    });
    lab.ready(&[&format!("adapter/{adapter}")]);
}

#[test]
fn all_pods_are_replaced_without_a_message_lost() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.furnish(json!({"protocol": "HTTP", "replicas": 2, "drain": {"timeout": "20s", "connectionsPerSecond": 50}}))
        .unwrap();
    let (witness, listener, traffic) = (lab.witness().unwrap(), lab.listener().unwrap(), lab.traffic().unwrap());
    replace_by_setting(&system, &lab, "http", r#"{"spec": {"settings": {"logLevel": "debug"}}}"#);
    until("the device listens to a new pod", || listener.is_open() && listener.subscriptions() > 1);
    traffic.goes_on(100);
    let accepted = nothing_is_lost("adapters replaced", traffic, &witness);
    assert!(accepted.refused.is_empty(), "a pod that ends refused: {:?}", accepted.refused);
    assert!(listener.ends().iter().all(|end| end.contains("503")), "{:?}", listener.ends());
    eprintln!("a device was away for {:.1?} at most", listener.longest_absence());
}

/// Both ways on connections that are kept: pods replaced by a new setting, and then killed. What is under way when a pod ends
/// is not accepted, and why is said: by one of these.
fn clients_move_to_other_pods(protocol: &str, scheme: &str, patch: &str, told: &[Status]) {
    let system = system();
    let lab = system.lab().unwrap();
    lab.apply(&channel("telemetry")).unwrap();
    lab.apply(&thing("sensor", &["telemetry"])).unwrap();
    lab.apply(&adapter(scheme, json!({"protocol": protocol, "replicas": 2, "drain": {"timeout": "20s"}}))).unwrap();
    lab.ready(&["channel/telemetry", "thing/sensor", &format!("adapter/{scheme}")]);
    let address = system.address(&lab.namespace, scheme).unwrap();
    let device = lab.device("sensor", &format!("{scheme}://{address}"));
    let witness = lab.witness().unwrap();
    let listener = Listener::start(&device, &Address::new("telemetry", "#"));
    let traffic = Traffic::start(&device, &Address::new("telemetry", "load"));
    replace_by_setting(&system, &lab, scheme, patch);
    until("the device listens to a new pod", || listener.is_open() && listener.subscriptions() > 1);
    traffic.goes_on(100);
    let pods = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    for pod in pods.chunks(1) {
        system.replace(&lab.namespace, ADAPTER_PODS, pod);
        traffic.goes_on(100);
    }
    let before = listener.numbers().len();
    until("the device hears more", || listener.numbers().len() > before);
    let accepted = nothing_is_lost(&format!("{protocol} adapters replaced and killed"), traffic, &witness);
    assert!(accepted.refused.keys().all(|status| told.contains(status)), "{:?}", accepted.refused);
    eprintln!("a device was away for {:.1?} at most", listener.longest_absence());
}

#[test]
fn mqtt_clients_move_to_other_pods_and_nothing_that_was_acknowledged_is_lost() {
    let patch = r#"{"spec": {"settings": {"mqtt": {"maxWaiting": 2000}}}}"#;
    clients_move_to_other_pods("MQTT", "mqtt", patch, &[Status::Mqtt("ServerShuttingDown".to_owned())]);
}

#[test]
fn sockets_move_to_other_pods_and_nothing_that_was_answered_is_lost() {
    let patch = r#"{"spec": {"settings": {"websocket": {"maxInFlight": 100}}}}"#;
    // The handshake with a pod that ends is refused.
    clients_move_to_other_pods("WebSocket", "ws", patch, &[Status::Closed(1012), Status::Http(503)]);
}

#[test]
fn devices_go_on_while_no_operator_runs_and_new_ones_come_in_when_it_is_back() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let (witness, traffic) = (lab.witness().unwrap(), lab.traffic().unwrap());
    let adapters = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    let pods = system.pods(NAMESPACE, OPERATOR_PODS).unwrap();
    assert_eq!(pods.len(), 2);
    system.replace(NAMESPACE, OPERATOR_PODS, &pods);
    lab.apply(&thing("late", &["telemetry"])).unwrap();
    lab.ready(&["thing/late"]);
    traffic.goes_on(100);
    let deployment = "deployment/tidegate-operator";
    system.kubectl(&["--namespace", NAMESPACE, "rollout", "restart", deployment]).unwrap().ok().unwrap();
    let rolled = ["--namespace", NAMESPACE, "rollout", "status", deployment, "--timeout=90s"];
    system.kubectl(&rolled).unwrap().ok().unwrap();
    lab.apply(&thing("later", &["telemetry"])).unwrap();
    lab.ready(&["thing/later"]);
    assert_eq!(system.pods(&lab.namespace, ADAPTER_PODS).unwrap(), adapters, "an operator replaced pods");
    let accepted = nothing_is_lost("operators killed, then replaced", traffic, &witness);
    nothing_failed(&accepted);
}

#[test]
fn what_was_accepted_outlives_the_broker_that_is_killed() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let (witness, listener, traffic) = (lab.witness().unwrap(), lab.listener().unwrap(), lab.traffic().unwrap());
    // A queue of this broker is not on its disk the moment that it is declared.
    traffic.goes_on(1_500);
    let broker = ["tidegate-broker-0".to_owned()];
    let uid = || system.json(&["--namespace", NAMESPACE, "pod", &broker[0]], "{.metadata.uid}").unwrap_or_default();
    let before = uid();
    let kill = ["--namespace", NAMESPACE, "delete", "pod", &broker[0], "--grace-period=0", "--force"];
    system.kubectl(&kill).unwrap().ok().unwrap();
    until("another broker is there", || !uid().is_empty() && uid() != before);
    system.wait(NAMESPACE, "condition=Ready", &["pod", &broker[0]]);
    traffic.goes_on(200);
    until("the device listens", || listener.is_open());
    lab.ready(&["channel/telemetry"]);
    let accepted = nothing_is_lost("broker killed", traffic, &witness);
    assert!(accepted.refused.keys().all(|status| *status == Status::Http(503)), "{:?}", accepted.refused);
}

#[test]
fn devices_do_not_notice_that_the_api_server_is_away() {
    let system = system();
    if !system.cluster().is_owned() {
        return;
    }
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let (witness, listener, traffic) = (lab.witness().unwrap(), lab.listener().unwrap(), lab.traffic().unwrap());
    system.cluster().stop_api_server().unwrap();
    traffic.goes_on(300);
    system.cluster().start_api_server().unwrap();
    lab.apply(&thing("late", &["telemetry"])).unwrap();
    lab.ready(&["thing/late"]);
    assert_eq!(listener.subscriptions(), 1, "the subscription was cut off: {:?}", listener.ends());
    let accepted = nothing_is_lost("API server killed", traffic, &witness);
    nothing_failed(&accepted);
}

#[test]
fn a_rotated_key_overlaps_and_a_right_that_is_taken_away_ends_at_once() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let (witness, listener, traffic) = (lab.witness().unwrap(), lab.listener().unwrap(), lab.traffic().unwrap());
    let old = lab.key("sensor");
    lab.kubectl(&["annotate", "thing", "sensor", "tidegate.io/rotate=1"]).unwrap();
    until("there is another key", || lab.key("sensor") != old);
    lab.ready(&["thing/sensor"]);
    // The devices go on with the old key, and a new one comes with the new key.
    traffic.goes_on(100);
    let new = lab.traffic().unwrap();
    assert!(new.stop().refused.is_empty());
    assert!(listener.is_open() && listener.subscriptions() == 1);
    let accepted = nothing_is_lost("key rotated", traffic, &witness);
    nothing_failed(&accepted);

    let traffic = lab.traffic().unwrap();
    lab.kubectl(&["patch", "thing", "sensor", "--type=merge", "--patch", r#"{"spec": {"connections": []}}"#]).unwrap();
    until("the subscription is ended", || !listener.is_open());
    lab.ready(&["thing/sensor"]);
    // Ready says that every pod has it: from now on nothing is accepted.
    let before = traffic.count();
    let url = lab.url("http").unwrap();
    for _ in 0..20 {
        assert_eq!(publish(&lab.device("sensor", &url)), Err(Status::Http(403)));
    }
    assert_eq!(traffic.count(), before);
    let accepted = nothing_is_lost("right taken away", traffic, &witness);
    assert!(accepted.refused.keys().all(|status| *status == Status::Http(403)), "{:?}", accepted.refused);
    assert!(listener.ends().iter().all(|end| end.contains("revoked")), "{:?}", listener.ends());
}

/// The status of a publish, with a connection of its own.
fn publish(device: &Client) -> Result<(), Status> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = Address::new("telemetry", "");
    match runtime.block_on(device.publish(&address, Publication::json("0"))) {
        Ok(()) => Ok(()),
        Err(ClientError::Refused { status, .. }) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_adapter_scales_under_traffic_and_stays_as_it_is_while_paused() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let (witness, traffic) = (lab.witness().unwrap(), lab.traffic().unwrap());
    let pods = || system.pods(&lab.namespace, ADAPTER_PODS).unwrap_or_default().len();
    lab.kubectl(&["scale", "adapter", "http", "--replicas=3"]).unwrap();
    until("a third pod is there", || pods() == 3);
    lab.ready(&["adapter/http"]);
    traffic.goes_on(100);
    lab.kubectl(&["scale", "adapter", "http", "--replicas=1"]).unwrap();
    until("one pod is left", || pods() == 1);
    lab.ready(&["adapter/http"]);
    traffic.goes_on(100);
    let accepted = nothing_is_lost("scaled to three and to one", traffic, &witness);
    assert!(accepted.refused.is_empty(), "{:?}", accepted.refused);

    lab.kubectl(&["annotate", "adapter", "http", "tidegate.io/paused=true"]).unwrap();
    let traffic = lab.traffic().unwrap();
    lab.kubectl(&["scale", "adapter", "http", "--replicas=2"]).unwrap();
    // The operator has seen it when it says so, and writes nothing else.
    let seen = || {
        let path = "{.metadata.generation} {.status.observedGeneration}";
        let said = lab.kubectl(&["get", "adapter", "http", &format!("--output=jsonpath={path}")]).unwrap_or_default();
        said.split_once(' ').is_some_and(|(now, observed)| now == observed)
    };
    until("the operator has seen it", seen);
    assert_eq!(pods(), 1);
    lab.kubectl(&["annotate", "adapter", "http", "tidegate.io/paused-"]).unwrap();
    until("the second pod is there", || pods() == 2);
    lab.ready(&["adapter/http"]);
    nothing_is_lost("paused", traffic, &witness);
}

#[test]
fn a_node_that_loses_power_takes_no_accepted_message_along() {
    let system = system();
    if !system.cluster().is_owned() {
        return;
    }
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    let nodes = system.json(&["--namespace", &lab.namespace, "pods"], "{.items[*].spec.nodeName}").unwrap();
    assert!(nodes.contains("tide1") && nodes.contains("tide2"), "{nodes}");
    let (witness, listener, traffic) = (lab.witness().unwrap(), lab.listener().unwrap(), lab.traffic().unwrap());
    system.cluster().crash(2).unwrap();
    traffic.goes_on(100);
    system.wait("default", "condition=Ready=Unknown", &["node/tide2"]);
    traffic.goes_on(100);
    // Long before there is a replacement. Which replica it was on, it hears the other one.
    let before = listener.numbers().len();
    until("the device hears the other replica", || listener.numbers().len() > before);
    let accepted = nothing_is_lost("node without power", traffic, &witness);
    assert!(accepted.refused.is_empty(), "{:?}", accepted.refused);
    system.cluster().bring_back(2).unwrap();
    system.load_images().unwrap();
    system.wait("default", "condition=Ready", &["node/tide2"]);
    lab.ready(&["adapter/http"]);
    until("the device listens", || listener.is_open());
    system.wait(NAMESPACE, "condition=Available", &["deployment/tidegate-operator"]);
    eprintln!("a device was away for {:.1?} at most", listener.longest_absence());
}
