//! From `kubectl apply` to what a device may do, and back out again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::OnceLock;

use conformance::{Adapter, status, until};
use operator_tests::{Ground, NAMESPACE, Operator, shared};

/// The operator and the adapter that these tests share.
fn running() -> (&'static Ground, &'static Operator, &'static Adapter) {
    static RUNNING: OnceLock<(Operator, Adapter)> = OnceLock::new();
    let ground = shared();
    let (operator, adapter) = RUNNING.get_or_init(|| {
        let operator = ground.operator().unwrap();
        let adapter = ground.adapter(&operator, &[]).unwrap();
        (operator, adapter)
    });
    (ground, operator, adapter)
}

fn thing(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: Thing\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n---\n"
    )
}

fn channel(namespace: &str, name: &str, spec: &str) -> String {
    thing(namespace, name, spec).replace("kind: Thing", "kind: Channel")
}

fn publish(adapter: &Adapter, channel: &str, key: &str) -> u16 {
    let head = format!("POST /channels/{channel}/messages/a HTTP/1.1\nAuthorization: {key}");
    status(&adapter.request(&head, b"[]").unwrap()).unwrap()
}

/// Must show 1: one file, any order; `kubectl wait`, the key from the Secret, and the first message is accepted.
#[test]
fn a_thing_and_its_channel_are_ready_and_the_first_message_is_accepted() {
    let (ground, _, adapter) = running();
    for order in [0, 1] {
        let lab = ground.cluster.namespace("lab").unwrap();
        let mut documents =
            [thing(&lab, "dev", "{connections: [{channel: telemetry}]}"), channel(&lab, "telemetry", "{}")];
        documents.rotate_left(order);
        ground.cluster.apply(&documents.concat()).unwrap();
        ground.ready(&lab, "thing/dev").unwrap();
        ground.ready(&lab, "channel.tidegate.io/telemetry").unwrap();
        let key = ground.key(&lab, "dev-credentials", "key").unwrap();
        assert_eq!(publish(adapter, &format!("{lab}.telemetry"), &key), 202);
        assert_eq!(publish(adapter, "telemetry", &key), 202);
        assert_eq!(ground.jsonpath(&["-n", &lab, "thing/dev"], "{.status.id}").unwrap(), format!("{lab}.dev"));
        let owner = "{.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name}";
        assert_eq!(ground.jsonpath(&["secret", "-n", &lab, "dev-credentials"], owner).unwrap(), "Thing/dev");
    }
}

/// Must show 3: whatever takes a right away closes the open stream and refuses the next request.
#[test]
fn every_way_to_take_a_right_away_closes_the_open_stream() {
    let (ground, _, adapter) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let plant = ground.cluster.namespace("plant").unwrap();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{namespace: {lab}, name: own, labels: {{tidegate.io/credentials: 'true'}}}}\nstringData: {{k: own-key-0123456789}}\n---\n"
    );
    let shared_channel = channel(&plant, "far", "{allowedThings: {namespaces: All}}");
    let ways: [(&str, &[&str]); 5] = [
        ("deleted", &["delete", "thing", "dev"]),
        ("suspended", &["patch", "thing", "dev", "--type=merge", "-p", r#"{"spec":{"suspended":true}}"#]),
        ("disconnected", &["patch", "thing", "dev", "--type=merge", "-p", r#"{"spec":{"connections":[]}}"#]),
        ("keyless", &["delete", "secret", "own"]),
        ("unwanted", &[]),
    ];
    for (way, command) in ways {
        let spec = format!(
            "{{suspended: false, connections: [{{channel: far, namespace: {plant}}}], credentials: {{secretRefs: [{{id: a, name: own, key: k}}]}}}}"
        );
        ground.cluster.apply(&(secret.clone() + &shared_channel + &thing(&lab, "dev", &spec))).unwrap();
        ground.ready(&lab, "thing/dev").unwrap();
        let topic = format!("channels/{plant}.far/messages/a");
        let events = adapter.subscribe(&topic, "own-key-0123456789").unwrap();
        assert_eq!(publish(adapter, &format!("{plant}.far"), "own-key-0123456789"), 202);
        if command.is_empty() {
            ground.cluster.apply(&channel(&plant, "far", "{allowedThings: {namespaces: Same}}")).unwrap();
        } else {
            ground.cluster.kubectl(&[&["-n", &*lab], command].concat()).unwrap().ok().unwrap();
        }
        let seen = events.to_end().unwrap();
        assert!(seen.contains("event: end") && seen.contains("problem/revoked"), "{way}: {seen}");
        let refused = publish(adapter, &format!("{plant}.far"), "own-key-0123456789");
        assert!([401, 403].contains(&refused), "{way}: {refused}");
    }
    until("it is said", || ground.condition(&lab, "thing/dev", "ResolvedRefs") == "False/NotPermitted");
}

/// Must show 4: a rotation that no device notices, and keys that nothing else changes.
#[test]
fn both_keys_count_within_the_overlap_and_the_old_one_not_after_it() {
    let (ground, _, adapter) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let spec = "{connections: [{channel: t}], credentials: {overlap: 5s}}";
    ground.cluster.apply(&(channel(&lab, "t", "{}") + &thing(&lab, "dev", spec))).unwrap();
    ground.ready(&lab, "thing/dev").unwrap();
    let old = ground.key(&lab, "dev-credentials", "key").unwrap();
    let annotate = ["-n", &*lab, "annotate", "thing", "dev", "tidegate.io/rotate=1"];
    ground.cluster.kubectl(&annotate).unwrap().ok().unwrap();
    until("there is a new key", || ground.key(&lab, "dev-credentials", "key").unwrap() != old);
    let new = ground.key(&lab, "dev-credentials", "key").unwrap();
    until("the new key counts", || publish(adapter, "t", &new) == 202);
    assert_eq!(publish(adapter, "t", &old), 202, "the old key ended with the rotation");
    until("the old key ends", || publish(adapter, "t", &old) == 401);
    assert_eq!(publish(adapter, "t", &new), 202);
    until("the old key is taken out", || ground.key(&lab, "dev-credentials", "previousKey").is_err());
    assert_eq!(ground.key(&lab, "dev-credentials", "key").unwrap(), new);
}

/// Must show 5: the oldest keeps an alias and a key, the newer is told why and not whose it is, and comes into its own.
#[test]
fn what_two_things_claim_is_the_older_ones_until_it_is_gone() {
    let (ground, _, adapter) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    // SHA-256 of the key below.
    let key = "twice-claimed-0123456789";
    let hash = "7326364b0639672265339916f671a54906a7a8fc132f50e9881555d1d6b2bac8";
    let alias = lab.replace('-', "_");
    let spec = format!(
        "{{aliases: [{alias}], connections: [{{channel: t}}], credentials: {{keyHashes: [{{id: a, sha256: {hash}}}]}}}}"
    );
    let keyed = format!("{{connections: [{{channel: t}}], credentials: {{keyHashes: [{{id: a, sha256: {hash}}}]}}}}");
    ground.cluster.apply(&(channel(&lab, "t", "{}") + &thing(&lab, "older", &spec))).unwrap();
    ground.ready(&lab, "thing/older").unwrap();
    // Creation times have whole seconds: the next one is younger by name alone.
    ground.cluster.apply(&(thing(&lab, "same-alias", &spec) + &thing(&lab, "same-key", &keyed))).unwrap();
    until("the alias is refused", || ground.condition(&lab, "thing/same-alias", "Accepted") == "False/IdConflict");
    until("the key is refused", || ground.condition(&lab, "thing/same-key", "Accepted") == "False/DuplicateKey");
    let said = ground.jsonpath(&["-n", &lab, "thing/same-key"], "{.status}").unwrap();
    assert!(!said.contains("older"), "{said}");
    assert_eq!(publish(adapter, "t", key), 202);
    ground.cluster.kubectl(&["-n", &lab, "delete", "thing", "older"]).unwrap().ok().unwrap();
    ground.ready(&lab, "thing/same-alias").unwrap();
    assert_eq!(publish(adapter, "t", key), 202);
}

/// Must show 8: both consents, each taken away by itself.
#[test]
fn a_channel_of_another_namespace_takes_two_consents() {
    let (ground, _, _) = running();
    let (lab, plant) = (ground.cluster.namespace("lab").unwrap(), ground.cluster.namespace("plant").unwrap());
    let account = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: writer, namespace: {lab}}}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: writer, namespace: {lab}}}\nrules: [{{apiGroups: [tidegate.io], resources: [things], verbs: ['*']}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: writer, namespace: {lab}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}}\nsubjects: [{{kind: ServiceAccount, name: writer, namespace: {lab}}}]\n---\n"
    );
    ground.cluster.apply(&(account + &channel(&plant, "far", "{}"))).unwrap();
    let writer = ground.cluster.kubeconfig_path_for(&lab, "writer").unwrap();
    let document = thing(&lab, "dev", &format!("{{connections: [{{channel: far, namespace: {plant}}}]}}"));
    let apply = || ground.cluster.kubectl_as(&writer, &["apply", "-f", "-"], &document).unwrap();
    until("the policy is in force", || apply().stderr.contains("needs the right to connect"));
    assert!(!apply().success);

    let consent = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: connect, namespace: {plant}}}\nrules: [{{apiGroups: [tidegate.io], resources: [channels], resourceNames: [far], verbs: [connect]}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: connect, namespace: {plant}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: connect}}\nsubjects: [{{kind: ServiceAccount, name: writer, namespace: {lab}}}]\n"
    );
    ground.cluster.apply(&consent).unwrap();
    until("the writer may connect", || apply().success);
    until("the Channel has not consented", || {
        ground.condition(&lab, "thing/dev", "ResolvedRefs") == "False/NotPermitted"
    });
    ground
        .cluster
        .apply(&channel(&plant, "far", &format!("{{allowedThings: {{namespaces: List, list: [{lab}]}}}}")))
        .unwrap();
    ground.ready(&lab, "thing/dev").unwrap();
}

/// Must show 9: an object that was stored under another schema harms nobody else.
#[test]
fn an_object_that_cannot_be_read_harms_nobody_else() {
    let (ground, operator, adapter) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let crd = ground.cluster.kubectl(&["get", "crd", "things.tidegate.io", "-o", "json"]).unwrap().ok().unwrap();
    // For a moment the API server takes anything.
    let version = "/spec/versions/0";
    let open = format!(
        r#"[{{"op":"remove","path":"{version}/selectableFields"}},
            {{"op":"replace","path":"{version}/schema/openAPIV3Schema","value":{{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}]"#
    );
    ground.cluster.kubectl(&["patch", "crd", "things.tidegate.io", "--type=json", "-p", &open]).unwrap().ok().unwrap();
    let create = ["create", "--validate=false", "-f", "-"];
    let odd = thing(&lab, "odd", "{suspended: perhaps}");
    until("it takes anything", || ground.cluster.kubectl_with(&create, &odd).unwrap().success);
    let crd: serde_json::Value = serde_json::from_str(&crd).unwrap();
    let (schema, fields) = (&crd["spec"]["versions"][0]["schema"], &crd["spec"]["versions"][0]["selectableFields"]);
    let close = format!(
        r#"[{{"op":"replace","path":"{version}/schema","value":{schema}}},
            {{"op":"add","path":"{version}/selectableFields","value":{fields}}}]"#
    );
    ground.cluster.kubectl(&["patch", "crd", "things.tidegate.io", "--type=json", "-p", &close]).unwrap().ok().unwrap();

    until("it is noticed", || operator.log().contains("an object cannot be read"));
    let events = ["get", "events.v1.events.k8s.io", "-n", &*lab, "-o", "jsonpath={.items[*].note}"];
    until("its author is told", || {
        let told = ground.cluster.kubectl(&events).unwrap().stdout;
        told.contains("it cannot be read and counts for nothing") && !told.contains("perhaps")
    });
    ground.cluster.apply(&(channel(&lab, "t", "{}") + &thing(&lab, "dev", "{connections: [{channel: t}]}"))).unwrap();
    ground.ready(&lab, "thing/dev").unwrap();
    assert_eq!(publish(adapter, "t", &ground.key(&lab, "dev-credentials", "key").unwrap()), 202);
}

/// A Secret that is in the way is left alone, and its name is used once it is free.
#[test]
fn a_secret_that_is_not_ours_is_never_touched() {
    let (ground, _, _) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    let foreign = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{namespace: {lab}, name: dev-credentials}}\nstringData: {{theirs: x}}\n---\n"
    );
    ground.cluster.apply(&(foreign + &channel(&lab, "t", "{}"))).unwrap();
    let secret = ["secret", "-n", &*lab, "dev-credentials"];
    let version = ground.jsonpath(&secret, "{.metadata.resourceVersion}").unwrap();
    ground.cluster.apply(&thing(&lab, "dev", "{connections: [{channel: t}]}")).unwrap();
    until("it is said", || ground.condition(&lab, "thing/dev", "ResolvedRefs") == "False/SecretConflict");
    assert_eq!(ground.jsonpath(&secret, "{.metadata.resourceVersion}").unwrap(), version);
    ground.cluster.kubectl(&["-n", &lab, "delete", "secret", "dev-credentials"]).unwrap().ok().unwrap();
    ground.ready(&lab, "thing/dev").unwrap();
}

/// Must show 11: nothing that is secret is said anywhere.
#[test]
fn no_key_is_in_a_log_a_status_a_metric_or_an_event() {
    let (ground, operator, adapter) = running();
    let lab = ground.cluster.namespace("lab").unwrap();
    ground.cluster.apply(&(channel(&lab, "t", "{}") + &thing(&lab, "dev", "{connections: [{channel: t}]}"))).unwrap();
    ground.ready(&lab, "thing/dev").unwrap();
    let key = ground.key(&lab, "dev-credentials", "key").unwrap();
    assert_eq!(publish(adapter, "t", &key), 202);
    let objects = ground.cluster.kubectl(&["get", "things,channels.tidegate.io,events", "-A", "-o", "yaml"]).unwrap();
    let said = [
        operator.log(),
        operator.admin("/metrics").unwrap(),
        adapter.log(),
        adapter.admin("/metrics").unwrap(),
        objects.ok().unwrap(),
    ];
    assert!(said.iter().all(|text| !text.contains(&key)), "the key is said");
    assert!(said[4].contains(&*lab) && NAMESPACE == "tidegate");
}
