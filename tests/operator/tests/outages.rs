//! Who is away is missed by nobody: the leader, the operator, the API server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;

use conformance::{Adapter, status, until};
use operator_tests::{Ground, NAMESPACE, ground};

fn thing(name: &str, key: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{namespace: lab, name: {name}, labels: {{tidegate.io/credentials: 'true'}}}}\nstringData: {{k: key-number-{key}-0123456789}}\n---\napiVersion: tidegate.io/v1alpha1\nkind: Thing\nmetadata: {{namespace: lab, name: {name}}}\nspec: {{connections: [{{channel: t}}], credentials: {{secretRefs: [{{id: a, name: {name}, key: k}}]}}}}\n---\n"
    )
}

const CHANNEL: &str =
    "apiVersion: tidegate.io/v1alpha1\nkind: Channel\nmetadata: {namespace: lab, name: t}\nspec: {}\n---\n";

fn publish(adapter: &Adapter, key: u8) -> u16 {
    let head = format!("POST /channels/t/messages/a HTTP/1.1\nAuthorization: key-number-{key}-0123456789");
    status(&adapter.request(&head, b"[]").unwrap()).unwrap()
}

fn lab() -> Ground {
    let ground = ground().unwrap();
    ground.cluster.kubectl(&["create", "namespace", "lab"]).unwrap().ok().unwrap();
    ground.cluster.apply(&(CHANNEL.to_owned() + &thing("one", 1) + &thing("two", 2))).unwrap();
    ground
}

fn holder(ground: &Ground) -> String {
    ground.jsonpath(&["lease", "-n", NAMESPACE, "tidegate-operator"], "{.spec.holderIdentity}").unwrap()
}

/// Must show 7: the next leader writes when the first is killed; a released lease is taken at once.
#[test]
fn the_next_replica_leads_when_the_leader_is_killed_and_when_it_gives_the_lease_back() {
    let ground = lab();
    let mut first = ground.operator().unwrap();
    until("the first leads", || holder(&ground) == "operator-0");
    let mut second = ground.operator().unwrap();
    until("it says so", || first.metric("tidegate_operator_leading").unwrap() == 1);
    assert_eq!(holder(&ground), "operator-0");
    first.kill().unwrap();
    until("the second leads", || holder(&ground) == "operator-1");
    ground.cluster.apply(&thing("three", 3)).unwrap();
    until("it writes", || !ground.condition("lab", "thing/three", "Accepted").is_empty());
    assert_eq!(second.terminate().unwrap(), Some(0));
    assert_eq!(holder(&ground), "");
}

/// Must show 7: known devices go on, a restarted adapter begins with the table on its disk, and all that changed
/// meanwhile counts once the operator is back, deletions too.
#[test]
fn devices_go_on_while_the_operator_is_away_and_what_was_deleted_meanwhile_is_refused_afterwards() {
    let ground = lab();
    // A port of its own, so that the operator comes back where it was.
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut operator = ground.operator_at(port).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("key"), [7; 32]).unwrap();
    let (cache, key) = (path("cache"), path("key"));
    let kept = ["--grants-cache", cache.as_str(), "--grants-cache-key", key.as_str()];
    let adapter = ground.adapter(&operator, &kept).unwrap();
    until("the Things are known", || publish(&adapter, 1) == 202 && publish(&adapter, 2) == 202);
    ground.ready("lab", "thing/two").unwrap();

    operator.kill().unwrap();
    assert_eq!(publish(&adapter, 1), 202);
    drop(adapter);
    let adapter = ground.adapter_at(port, &kept).unwrap();
    assert_eq!((publish(&adapter, 1), publish(&adapter, 9)), (202, 401));

    ground.cluster.kubectl(&["-n", "lab", "delete", "thing", "one"]).unwrap().ok().unwrap();
    ground.cluster.apply(&thing("three", 3)).unwrap();
    assert_eq!(publish(&adapter, 1), 202, "who is deleted while nobody can tell is known until somebody can");
    let _back = ground.operator_at(port).unwrap();
    until("the deletion counts", || publish(&adapter, 1) == 401);
    assert_eq!((publish(&adapter, 2), publish(&adapter, 3)), (202, 202));
}

/// Must show 7: the API server is away, and whatever happens when it is back is applied, with no restart of ours.
#[test]
fn devices_go_on_while_the_api_server_is_away() {
    let ground = lab();
    let operator = ground.operator().unwrap();
    let adapter = ground.adapter(&operator, &[]).unwrap();
    until("the Things are known", || publish(&adapter, 1) == 202);
    ground.cluster.stop_api_server().unwrap();
    assert_eq!((publish(&adapter, 1), publish(&adapter, 9)), (202, 401));
    ground.cluster.start_api_server().unwrap();
    ground.cluster.kubectl(&["-n", "lab", "delete", "thing", "one"]).unwrap().ok().unwrap();
    until("the deletion counts", || publish(&adapter, 1) == 401);
    assert_eq!(publish(&adapter, 2), 202);
}

fn signal(pid: u32, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Programmed speaks of every live adapter, whichever replica it takes its grants from.
#[test]
fn a_thing_is_ready_when_the_adapters_of_every_replica_have_it() {
    let ground = lab();
    let leader = ground.operator().unwrap();
    until("the first leads", || leader.metric("tidegate_operator_leading").unwrap() == 1);
    let mut follower = ground.operator().unwrap();
    let there = ground.adapter(&follower, &[]).unwrap();
    until("it is heard of", || leader.metric("tidegate_operator_peers").unwrap() == 1);
    assert_eq!(leader.metric("tidegate_operator_adapters").unwrap(), 0);
    // Nobody takes grants from the one that leads.
    ground.ready("lab", "thing/two").unwrap();
    assert_eq!(publish(&there, 2), 202);

    let here = ground.adapter(&leader, &[]).unwrap();
    ground.cluster.apply(&thing("three", 3)).unwrap();
    ground.ready("lab", "thing/three").unwrap();
    assert_eq!((publish(&here, 3), publish(&there, 3)), (202, 202));

    // One adapter of the other replica stands still.
    signal(there.pid(), "-STOP");
    ground.cluster.apply(&thing("four", 4)).unwrap();
    until("it is missed", || ground.condition("lab", "thing/four", "Programmed") == "False/Pending");
    assert_eq!(publish(&here, 4), 202);
    until("it is said to lag", || ground.condition("lab", "thing/four", "Programmed") == "False/AdapterLagging");
    signal(there.pid(), "-CONT");
    ground.ready("lab", "thing/four").unwrap();
    assert_eq!(publish(&there, 4), 202);

    // With its replica gone, an adapter counts until it must be elsewhere or gone for good.
    follower.kill().unwrap();
    drop(there);
    ground.cluster.apply(&thing("five", 5)).unwrap();
    until("it is in force here", || publish(&here, 5) == 202);
    until("the other replica is given up", || ground.condition("lab", "thing/five", "Programmed") == "True/Programmed");
}

/// Definitions that are older than the operator drop fields without a word: it says which, and serves all the same.
#[test]
fn an_operator_that_is_newer_than_the_definitions_names_what_they_lack() {
    let ground = lab();
    let without =
        r#"[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/aliases"}]"#;
    let patch = ["patch", "crd", "things.tidegate.io", "--type=json", "-p", without];
    ground.cluster.kubectl(&patch).unwrap().ok().unwrap();
    let operator = ground.operator_unready().unwrap();
    until("it names the field", || operator.admin("/readyz").is_ok_and(|said| said.contains("definitions")));
    assert!(operator.log().contains("drops fields that the operator honors: spec.aliases"), "{}", operator.log());
    let told = ["get", "events.v1.events.k8s.io", "-n", "default", "-o", "jsonpath={.items[*].note}"];
    until("it is told", || ground.cluster.kubectl(&told).unwrap().stdout.contains("spec.aliases"));
    let adapter = ground.adapter(&operator, &[]).unwrap();
    until("grants are served", || publish(&adapter, 1) == 202);
}

/// Must show 7: a leader that stood still while another took over writes nothing any more: it ends.
#[test]
fn a_leader_that_slept_through_its_lease_ends() {
    let ground = lab();
    let mut first = ground.operator().unwrap();
    until("the first leads", || holder(&ground) == "operator-0");
    let second = ground.operator().unwrap();
    signal(first.pid(), "-STOP");
    until("the second leads", || holder(&ground) == "operator-1");
    signal(first.pid(), "-CONT");
    assert_eq!(first.ended().unwrap(), Some(69));
    assert!(first.log().contains("the lease tidegate/tidegate-operator was lost"), "{}", first.log());
    until("the second says so", || second.metric("tidegate_operator_leading").unwrap() == 1);
    ground.cluster.apply(&thing("three", 3)).unwrap();
    until("the second writes", || !ground.condition("lab", "thing/three", "Accepted").is_empty());
}

/// Must show 4: no number of reconciles, restarts and leaders changes a key that was generated.
#[test]
fn nothing_but_a_rotation_changes_a_key() {
    let ground = lab();
    let mut operator = ground.operator().unwrap();
    let document = "apiVersion: tidegate.io/v1alpha1\nkind: Thing\nmetadata: {namespace: lab, name: dev}\nspec: {connections: [{channel: t}]}\n";
    ground.cluster.apply(document).unwrap();
    let secret = || ground.jsonpath(&["secret", "-n", "lab", "dev-credentials"], "{.data}{.metadata.resourceVersion}");
    until("there is a key", || secret().is_ok());
    let made = secret().unwrap();
    for round in 0..50 {
        // A new generation each time: the status says that it was looked at.
        let patch = format!(r#"{{"spec":{{"credentials":{{"overlap":"{}s"}}}}}}"#, round + 1);
        let arguments = ["patch", "-n", "lab", "thing", "dev", "--type=merge", "-p", &patch];
        ground.cluster.kubectl(&arguments).unwrap().ok().unwrap();
    }
    let seen = || ground.jsonpath(&["-n", "lab", "thing/dev"], "{.metadata.generation} {.status.observedGeneration}");
    until("every one was looked at", || seen().is_ok_and(|seen| seen == "51 51"));
    assert_eq!(secret().unwrap(), made);
    for round in 0..3 {
        operator.terminate().unwrap();
        operator = ground.operator().unwrap();
        let patch = format!(r#"{{"spec":{{"credentials":{{"overlap":"{round}h"}}}}}}"#);
        let arguments = ["patch", "-n", "lab", "thing", "dev", "--type=merge", "-p", &patch];
        ground.cluster.kubectl(&arguments).unwrap().ok().unwrap();
        let generation = format!("{0} {0}", 52 + round);
        until("the next leader has looked", || seen().is_ok_and(|seen| seen == generation));
    }
    assert_eq!(secret().unwrap(), made);
}
