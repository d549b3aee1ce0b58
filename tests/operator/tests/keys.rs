//! Who is told keys in clear: those who need them for DTLS, and nobody else a byte of one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use conformance::until;
use operator_tests::{Ground, NAMESPACE, Told, shared};

fn object(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n---\n"
    )
}

fn generated(ground: &Ground, lab: &str, name: &str) -> String {
    let secret = format!("{name}-credentials");
    until("there is a key", || ground.key(lab, &secret, "key").is_ok());
    ground.key(lab, &secret, "key").unwrap()
}

/// A token of the account of an Adapter's pods.
fn token_of_pods(ground: &Ground, lab: &str, name: &str) -> String {
    let account = ["get", "serviceaccount", "-n", lab, name];
    until("its pods have an account", || ground.cluster.kubectl(&account).is_ok_and(|answer| answer.success));
    ground.cluster.token_for(lab, name, Some("tidegate-grants")).unwrap()
}

/// Whatever was told before is told by now: a Thing that came later is.
fn caught_up(ground: &Ground, lab: &str, mark: &str, all: &[&Told]) {
    ground.cluster.apply(&object("Thing", lab, mark, "{}")).unwrap();
    let id = format!("{lab}.{mark}");
    until("the mark is told", || all.iter().all(|told| told.has(&id)));
}

#[test]
fn keys_in_clear_are_told_to_pods_of_coap_that_ask_and_to_no_other_pods() {
    let ground = shared();
    let lab = ground.cluster.namespace("lab").unwrap();
    let mut documents = object("Channel", &lab, "t", "{}");
    for (name, protocol) in [("coap", "CoAP"), ("http", "HTTP"), ("mqtt", "MQTT")] {
        documents += &object("Adapter", &lab, name, &format!("{{protocol: {protocol}}}"));
    }
    let own = "own-key-0123456789-of-a-secret";
    documents += &format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{namespace: {lab}, name: own, labels: {{tidegate.io/credentials: 'true'}}}}\nstringData: {{k: {own}}}\n---\n"
    );
    documents += &object("Thing", &lab, "dev", "{connections: [{channel: t}]}");
    documents += &object("Thing", &lab, "given", "{credentials: {secretRefs: [{id: a, name: own, key: k}]}}");
    let operator = ground.operator().unwrap();
    ground.cluster.apply(&documents).unwrap();
    let key = generated(ground, &lab, "dev");

    let asks = |name: &str| ground.told(&operator, &token_of_pods(ground, &lab, name), "?keys=shared").unwrap();
    let (coap, http, mqtt) = (asks("coap"), asks("http"), asks("mqtt"));
    let modest = ground.told(&operator, &token_of_pods(ground, &lab, "coap"), "").unwrap();
    let others = [&http, &mqtt, &modest];
    until("the keys are told", || coap.has(&key) && coap.has(own));
    caught_up(ground, &lab, "mark-1", &[&coap, &http, &mqtt, &modest]);
    assert!(others.iter().all(|told| !told.has(&key) && !told.has(own)), "a key was told to who may not have it");

    // A rotation: both keys, until the end of the overlap.
    let annotate = ["-n", &*lab, "annotate", "thing", "dev", "tidegate.io/rotate=1"];
    ground.cluster.kubectl(&annotate).unwrap().ok().unwrap();
    until("the new key is told", || {
        let new = ground.key(&lab, "dev-credentials", "key").unwrap();
        new != key && coap.has(&new)
    });
    let new = ground.key(&lab, "dev-credentials", "key").unwrap();
    caught_up(ground, &lab, "mark-2", &[&coap, &http, &mqtt, &modest]);
    assert!(others.iter().all(|told| !told.has(&new) && !told.has(&key)), "a key was told to who may not have it");
    // Another replica knows no history, only what is.
    let second = ground.operator().unwrap();
    let fresh = ground.told(&second, &token_of_pods(ground, &lab, "coap"), "?keys=shared").unwrap();
    caught_up(ground, &lab, "mark-3", &[&fresh]);
    assert!(fresh.has(&new) && fresh.has(&key), "both keys count");

    // Revocation takes them away: by suspension, by deletion of the Secret.
    let suspend = ["patch", "-n", &*lab, "thing", "dev", "--type=merge", "-p", r#"{"spec":{"suspended":true}}"#];
    ground.cluster.kubectl(&suspend).unwrap().ok().unwrap();
    ground.cluster.kubectl(&["delete", "-n", &lab, "secret", "own"]).unwrap().ok().unwrap();
    until("it is said", || {
        ground.condition(&lab, "thing/dev", "Accepted") == "False/Suspended"
            && ground.condition(&lab, "thing/given", "ResolvedRefs") == "False/SecretNotFound"
    });
    let third = ground.operator().unwrap();
    let fresh = ground.told(&third, &token_of_pods(ground, &lab, "coap"), "?keys=shared").unwrap();
    let mark = generated(ground, &lab, "mark-1");
    caught_up(ground, &lab, "mark-4", &[&fresh]);
    assert!(fresh.has(&mark), "those of others are told on");
    assert!([&*new, &key, own].iter().all(|gone| !fresh.has(gone)), "a key that counts no more was told");
    for told in [&operator, &second, &third] {
        assert!([&*new, &key, own].iter().all(|key| !told.log().contains(key)), "a key is in the log");
    }
}

/// Pods of CoAP that take no pre-shared key are told none, until their Adapter has them take some.
#[test]
fn keys_in_clear_are_told_where_dtls_takes_them_alone() {
    let ground = shared();
    let lab = ground.cluster.namespace("lab").unwrap();
    let operator = ground.operator().unwrap();
    let plain = "{name: coap, port: 5683, transport: UDP}";
    let dtls = |tls: &str| format!("{{name: coaps, port: 5684, transport: DTLS{tls}}}");
    let tls = |auth: &str| {
        format!(", tls: {{secretRef: {{name: server}}, clientCaRef: {{name: devices}}, clientAuth: {auth}}}")
    };
    let adapter = |name: &str, listeners: &[&str]| {
        object("Adapter", &lab, name, &format!("{{protocol: CoAP, listeners: [{}]}}", listeners.join(", ")))
    };
    let (required, optional) = (dtls(&tls("Required")), dtls(&tls("Optional")));
    let documents = [
        adapter("plain", &[plain]),
        adapter("certificates", &[plain, &required]),
        adapter("both", &[&optional]),
        object("Thing", &lab, "dev", "{}"),
    ];
    ground.cluster.apply(&documents.concat()).unwrap();
    let key = generated(ground, &lab, "dev");
    let tokens = ["plain", "certificates", "both"].map(|name| token_of_pods(ground, &lab, name));
    let mut told = tokens.each_ref().map(|token| ground.told(&operator, token, "?keys=shared").unwrap());
    let [plainly, by_certificates, by_both] = &told;
    until("the keys are told", || by_both.has(&key));
    caught_up(ground, &lab, "mark-1", &[plainly, by_certificates, by_both]);
    assert!(!plainly.has(&key), "a key was told to who has no DTLS");
    assert!(!by_certificates.has(&key), "a key was told to who takes certificates alone");

    // What was found out of a token is remembered for a minute, and what its Adapter says counts at once: who has another
    // right by now has to ask anew.
    let changed = [adapter("plain", &[plain, &dtls("")]), adapter("both", &[&required])];
    ground.cluster.apply(&changed.concat()).unwrap();
    let [plainly, by_certificates, by_both] = &mut told;
    until("the streams end", || plainly.is_over() && by_both.is_over());
    assert!(!by_certificates.is_over(), "a stream ended whose right is what it was");
    let keyed = ground.told(&operator, &tokens[0], "?keys=shared").unwrap();
    until("the key is told", || keyed.has(&key));
    let certified = ground.told(&operator, &tokens[2], "?keys=shared").unwrap();
    caught_up(ground, &lab, "mark-2", &[&certified]);
    assert!(!certified.has(&key), "a key was told to who takes certificates alone by now");
}

/// Who is of no Adapter may watch grants by one right, and has keys in clear by another.
#[test]
fn keys_in_clear_take_a_right_of_their_own_where_no_adapter_is() {
    let ground = shared();
    let lab = ground.cluster.namespace("lab").unwrap();
    let operator = ground.operator().unwrap();
    ground.cluster.apply(&object("Thing", &lab, "dev", "{}")).unwrap();
    let key = generated(ground, &lab, "dev");
    let account = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: edge, namespace: {lab}}}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {lab}-grants}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {NAMESPACE}-tidegate-grants}}\nsubjects: [{{kind: ServiceAccount, name: edge, namespace: {lab}}}]\n---\n"
    );
    ground.cluster.apply(&account).unwrap();
    // A fresh token each time, since what was found out of one is remembered for a while.
    let ask = || {
        let token = ground.cluster.token_for(&lab, "edge", Some("tidegate-grants")).unwrap();
        ground.told(&operator, &token, "?keys=shared").unwrap()
    };
    let hashes_alone = ask();
    caught_up(ground, &lab, "mark-1", &[&hashes_alone]);
    assert!(!hashes_alone.has(&key), "the right to watch is not one to keys");
    let right = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {lab}-keys}}\nrules: [{{apiGroups: [tidegate.io], resources: [adapters/keys], verbs: [get]}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {lab}-keys}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {lab}-keys}}\nsubjects: [{{kind: ServiceAccount, name: edge, namespace: {lab}}}]\n"
    );
    ground.cluster.apply(&right).unwrap();
    let as_edge = format!("--as=system:serviceaccount:{lab}:edge");
    let can = ["auth", "can-i", "get", "adapters.tidegate.io", "--subresource=keys", &as_edge];
    until("the right is given", || ground.cluster.kubectl(&can).is_ok_and(|answer| answer.success));
    let keyed = ask();
    until("the key is told", || keyed.has(&key));

    // A real adapter asks by itself where it serves CoAP, keeps what it is told, and says none of it.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (cache, cache_key) = (path("cache"), path("cache.key"));
    let port = operator.grants().unwrap().port();
    let more = ["--broker", "memory:", "--grants-cache", &cache, "--grants-cache-key", &cache_key];
    let adapter = ground.adapter_as((&lab, "edge"), port, &more).unwrap();
    let file = std::path::Path::new(&cache).join("grants");
    until("the table is kept", || file.exists());
    let kept = std::fs::read(&file).unwrap();
    for secret in [key.as_bytes(), format!("{lab}.dev").as_bytes()] {
        assert!(!kept.windows(secret.len()).any(|window| window == secret), "the table on disk can be read");
    }
    assert!(!adapter.log().contains(&key) && !adapter.log().contains("no keys in clear"), "{}", adapter.log());
}

/// A Thing with a certificate needs no key and gets none; of two with one name the older has it, and the newer is told
/// why and not whose it is.
#[test]
fn a_certificate_is_one_things_and_takes_no_secret() {
    let ground = shared();
    let lab = ground.cluster.namespace("lab").unwrap();
    let operator = ground.operator().unwrap();
    let _adapter = ground.adapter(&operator, &[]).unwrap();
    let spec =
        format!("{{connections: [{{channel: t}}], credentials: {{certificate: {{subject: 'CN={lab}, O=Acme'}}}}}}");
    ground.cluster.apply(&(object("Channel", &lab, "t", "{}") + &object("Thing", &lab, "older", &spec))).unwrap();
    ground.ready(&lab, "thing/older").unwrap();
    assert!(ground.key(&lab, "older-credentials", "key").is_err(), "a key that nobody asked for");
    // Creation times have whole seconds: the next one is younger by name alone.
    let same = spec.replace("CN=", "cn=").replace(", O", ",O");
    ground.cluster.apply(&object("Thing", &lab, "same", &same)).unwrap();
    until("it is refused", || ground.condition(&lab, "thing/same", "Accepted") == "False/DuplicateCertificate");
    let said = ground.jsonpath(&["-n", &lab, "thing/same"], "{.status}").unwrap();
    assert!(!said.contains("older"), "{said}");
    let suspend = ["patch", "-n", &*lab, "thing", "older", "--type=merge", "-p", r#"{"spec":{"suspended":true}}"#];
    ground.cluster.kubectl(&suspend).unwrap().ok().unwrap();
    until("it is suspended", || ground.condition(&lab, "thing/older", "Accepted") == "False/Suspended");
    assert_eq!(ground.condition(&lab, "thing/same", "Accepted"), "False/DuplicateCertificate");
    ground.cluster.kubectl(&["delete", "-n", &lab, "thing", "older"]).unwrap().ok().unwrap();
    ground.ready(&lab, "thing/same").unwrap();
}
