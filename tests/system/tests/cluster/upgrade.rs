//! From one version to another and back, and what is left when it goes.

use std::path::Path;
use std::process::Command;

use chart_tests::{chart, in_tree};
use conformance::until;
use system_tests::{NAMESPACE, RELEASE, System, Traffic, channel, system, thing};

use crate::outages::nothing_is_lost;
use crate::{ADAPTER_PODS, two_pods};

/// The chart of the commit before; where there is none, this one.
fn chart_before(folder: &Path) -> String {
    let tar = format!("git archive HEAD~1 charts/tidegate | tar --extract --directory {}", folder.display());
    let unpacked =
        Command::new("bash").args(["-o", "pipefail", "-c", &tar]).current_dir(in_tree(".")).output().unwrap();
    if unpacked.status.success() { folder.join("charts/tidegate").display().to_string() } else { chart() }
}

/// The image under another tag, as another version would have it.
fn tag(system: &System, tag: &str) {
    let name = system.json(&["--namespace", NAMESPACE, "deployment", "tidegate-operator"], "{..image}").unwrap();
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    for node in [1, 2] {
        let other = format!("{repository}:{tag}");
        system
            .cluster()
            .inside(node, &["ctr", "--namespace=k8s.io", "images", "tag", "--force", &name, &other])
            .unwrap();
    }
}

#[test]
fn an_upgrade_and_the_way_back_lose_no_message_change_no_key_and_let_nobody_in() {
    let system = system();
    if !system.cluster().is_owned() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("tidegate-before-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let before = chart_before(&folder);
    tag(&system, "before");
    let lab = system.lab().unwrap();
    lab.furnish(two_pods()).unwrap();
    lab.apply(&thing("revoked", &["telemetry"])).unwrap();
    lab.ready(&["thing/revoked"]);
    let intruder = lab.device("revoked", &lab.url("http").unwrap());
    lab.kubectl(&["delete", "thing", "revoked"]).unwrap();
    let held = || {
        let of = |namespace: &str, secret: &str| {
            system.json(&["--namespace", namespace, "secret", secret], "{.data}").unwrap()
        };
        [
            of(&lab.namespace, "sensor-credentials"),
            of(NAMESPACE, "tidegate-broker"),
            of(NAMESPACE, "tidegate-grants-ca"),
        ]
    };
    let secrets = held();
    // The key is gone once every pod says so.
    let address = tidegate_client::Address::new("telemetry", "load");
    let probe = Traffic::begin(&intruder, &address);
    until("the revoked device is refused", || probe.refused(401) > 0);
    let accepted = probe.stop();
    eprintln!("after its Thing was deleted, {} messages of the device were accepted", accepted.numbers.len());
    let pods = || system.pods(&lab.namespace, ADAPTER_PODS).unwrap_or_default();
    let first = pods();

    let (witness, traffic) = (lab.witness().unwrap(), lab.traffic().unwrap());
    let intruders = Traffic::begin(&intruder, &address);
    for (chart, set) in [(before.as_str(), "image.tag=before"), (&chart(), "image.tag=")] {
        let earlier = pods();
        system.install_with(chart, &["--set", set]).unwrap();
        until("the Adapter of the lab has the new image", || !pods().iter().any(|pod| earlier.contains(pod)));
        lab.ready(&["adapter/http", "thing/sensor", "channel/telemetry"]);
        traffic.goes_on(100);
    }
    assert!(!pods().iter().any(|pod| first.contains(pod)));
    assert_eq!(held(), secrets);
    assert_eq!(intruders.count(), 0, "a revoked device was let in");
    assert!(intruders.refused(401) > 100);
    drop(intruders);
    let accepted = nothing_is_lost("there and back", traffic, &witness);
    assert!(accepted.refused.is_empty(), "{:?}", accepted.refused);
    std::fs::remove_dir_all(folder).unwrap();
}

/// What of these kinds there is in the release's namespace, beside what Kubernetes itself puts there.
fn left(system: &System, kinds: &str) -> Vec<String> {
    let get = ["--namespace", NAMESPACE, "get", kinds, "--output=name", "--ignore-not-found"];
    let said = system.kubectl(&get).unwrap().ok().unwrap();
    let own = said.lines().filter(|name| !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(name));
    own.map(str::to_owned).collect()
}

#[test]
fn what_goes_leaves_devices_and_their_keys_and_nothing_else() {
    let system = system();
    let apply = |object: &dyn Fn() -> serde_json::Value| {
        let mut object = object();
        object["metadata"]["namespace"] = NAMESPACE.into();
        object.as_object_mut().expect("an object").remove("status");
        system.api().apply(&object.to_string()).unwrap();
    };
    apply(&|| serde_json::to_value(channel("kept")).unwrap());
    apply(&|| serde_json::to_value(thing("kept", &["kept"])).unwrap());
    system.wait(NAMESPACE, "condition=Ready", &["thing/kept"]);
    let key = system.secret(NAMESPACE, "kept-credentials", "key").unwrap();
    system.helm(&["uninstall", RELEASE, "--wait"]).unwrap();
    let kinds = "deployments,replicasets,statefulsets,jobs,pods,services,configmaps,secrets,serviceaccounts,leases,\
        roles,rolebindings,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses,\
        persistentvolumeclaims,things,channels,adapters";
    let kept = ["secret/kept-credentials", "thing.tidegate.io/kept", "channel.tidegate.io/kept"];
    until("what was installed is gone", || left(&system, kinds) == kept);
    let cluster = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let said = system.kubectl(&["get", cluster, "--output=name"]).unwrap().ok().unwrap();
    let ours: Vec<&str> = said.lines().filter(|name| name.contains("tidegate")).collect();
    assert_eq!(ours, Vec::<&str>::new());
    let definitions = system.kubectl(&["get", "crds", "--output=name"]).unwrap().ok().unwrap();
    assert_eq!(definitions.lines().filter(|name| name.contains("tidegate.io")).count(), 3);

    system.make_volume().unwrap();
    system.install(&chart()).unwrap();
    system.wait(NAMESPACE, "condition=Ready", &["thing/kept"]);
    assert_eq!(system.secret(NAMESPACE, "kept-credentials", "key").unwrap(), key);
    system.kubectl(&["--namespace", NAMESPACE, "delete", "thing/kept", "channel/kept"]).unwrap().ok().unwrap();
}
