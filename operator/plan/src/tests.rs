//! Plans as tables: what is in force, and what is said.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use tidegate_model::{Generation, GrantTableBuilder};

use super::*;

/// Reads documents of Channels, Things and Secrets; a Secret is `secret: ns/name`, labelled, with `entries`.
fn observed(yaml: &str) -> Observed {
    let mut observed = Observed::default();
    for document in yaml.split("---\n").filter(|d| !d.trim().is_empty()) {
        let value: serde_yaml::Value = serde_yaml::from_str(document).unwrap();
        match value.get("kind").and_then(|kind| kind.as_str()) {
            Some("Thing") => observed.things.push(serde_yaml::from_value(value).unwrap()),
            Some("Channel") => observed.channels.push(serde_yaml::from_value(value).unwrap()),
            _ => {
                let entries: BTreeMap<String, String> = serde_yaml::from_value(value["entries"].clone()).unwrap();
                let (namespace, name) = value["secret"].as_str().unwrap().split_once('/').unwrap();
                observed.secrets.push(KeySecret {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    labelled: value.get("unlabelled").is_none(),
                    entries: entries.into_iter().map(|(k, v)| (k, v.into_bytes())).collect(),
                    annotations: value
                        .get("end")
                        .into_iter()
                        .map(|end| {
                            let name = tidegate_api::PREVIOUS_KEY_NOT_AFTER_ANNOTATION;
                            (name.to_owned(), end.as_str().unwrap().to_owned())
                        })
                        .collect(),
                    made_for: None,
                    owner_uid: None,
                });
            }
        }
    }
    observed
}

fn say(plan: &Plan) -> String {
    let mut text = String::new();
    for channel in &plan.contents.channels {
        writeln!(text, "channel {} {:?}", channel.id, channel.aliases.iter().map(|a| a.as_str()).collect::<Vec<_>>())
            .unwrap();
    }
    for thing in &plan.contents.things {
        let grants: Vec<String> = thing
            .grants
            .iter()
            .map(|g| {
                let (p, s) = (g.permissions.publish, g.permissions.subscribe);
                format!("{}{}{}", g.channel, if p { "+p" } else { "" }, if s { "+s" } else { "" })
            })
            .collect();
        write!(text, "thing {} keys={} ", thing.id, thing.keys.len()).unwrap();
        thing.certificate.iter().for_each(|name| write!(text, "[{name}] ").unwrap());
        writeln!(text, "{}", grants.join(" ")).unwrap();
    }
    for finding in &plan.findings {
        writeln!(text, "{finding}").unwrap();
    }
    text
}

fn check(yaml: &str, expected: &Expect) {
    let plan = plan(observed(yaml));
    GrantTableBuilder::table_of(&plan.contents, Generation(1), 1).unwrap();
    expected.assert_eq(&say(&plan));
}

fn meta(kind: &str, namespace: &str, name: &str, created: &str) -> String {
    let created = if created.is_empty() { String::new() } else { format!(", creationTimestamp: '{created}'") };
    format!(
        "---\napiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}{created}}}\n"
    )
}

fn thing(name: &str, spec: &str) -> String {
    meta("Thing", "lab", name, "") + "spec: " + spec + "\n"
}

fn channel(namespace: &str, name: &str, spec: &str) -> String {
    meta("Channel", namespace, name, "") + "spec: " + spec + "\n"
}

const SECRETS: &str = r#"---
secret: lab/keys
entries: {a: "key-a-0123456789abc", b: "key-b-0123456789abc", line: "key-l-0123456789abc\n", short: "short", blank: " key-x-0123456789abc", lines: "key-y-0123456789abc\n\n"}
---
secret: lab/plain
unlabelled: true
entries: {a: "key-p-0123456789abc"}
"#;

fn key(id: &str, entry: &str) -> String {
    format!("{{id: {id}, name: keys, key: {entry}}}")
}

#[test]
fn a_thing_with_a_key_gets_its_connections() {
    let yaml = channel("lab", "telemetry", "{aliases: [old]}")
        + &thing(
            "dev",
            &format!("{{connections: [{{channel: telemetry}}], credentials: {{secretRefs: [{}]}}}}", key("k", "a")),
        )
        + SECRETS;
    check(
        &yaml,
        &expect![[r#"
        channel lab.telemetry ["old"]
        thing lab.dev keys=1 lab.telemetry+p+s
    "#]],
    );
}

#[test]
fn each_key_is_judged_by_itself() {
    let refs = [key("ok", "line"), key("short", "short"), key("blank", "blank"), key("none", "none")].join(",");
    let more =
        [key("lines", "lines"), "{id: gone, name: gone, key: a}".into(), "{id: plain, name: plain, key: a}".into()]
            .join(",");
    let yaml = thing("one", &format!("{{credentials: {{secretRefs: [{refs}]}}}}"))
        + &thing("two", &format!("{{credentials: {{secretRefs: [{more}]}}}}"))
        + SECRETS;
    check(
        &yaml,
        &expect![[r#"
            thing lab.one keys=1 
            thing lab.two keys=0 
            Thing lab/one: WeakKey: key short: a key needs at least 16 bytes
            Thing lab/one: KeyNotFound: key none: the Secret has no such entry
            Thing lab/one: SecretInvalid: key blank: the key has white space at its ends
            Thing lab/two: NoCredentials: there is neither a key nor a certificate that the Thing could show
            Thing lab/two: SecretNotFound: key gone: there is no such Secret
            Thing lab/two: SecretNotFound: key plain: the Secret lacks the label tidegate.io/credentials: "true"
            Thing lab/two: SecretInvalid: key lines: the key has white space at its ends
        "#]],
    );
}

#[test]
fn a_key_belongs_to_the_oldest_thing_and_the_newer_is_not_told_whose_it_is() {
    let with = |entry: &str| format!("spec: {{credentials: {{secretRefs: [{}]}}}}\n", key("k", entry));
    let yaml = meta("Thing", "lab", "newer", "2026-02-01T00:00:00Z")
        + &with("a")
        + &meta("Thing", "lab", "older", "2026-01-01T00:00:00Z")
        + &with("a")
        + SECRETS;
    check(
        &yaml,
        &expect![[r#"
            thing lab.newer keys=0 
            thing lab.older keys=1 
            Thing lab/newer: NoCredentials: there is neither a key nor a certificate that the Thing could show
            Thing lab/newer: DuplicateKey: key k: the key is in use
        "#]],
    );
}

#[test]
fn a_hash_is_the_same_key_and_times_must_make_sense() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let hashes = format!(
        "{{credentials: {{keyHashes: [{{id: a, sha256: {hash}, notAfter: '2030-01-01T00:00:00Z'}}, {{id: b, sha256: {hash}}},
          {{id: c, sha256: {hash}, notBefore: '2031-01-01T00:00:00Z', notAfter: '2030-01-01T00:00:00Z'}}, {{id: d, sha256: {hash}, notAfter: soon}}]}}}}"
    );
    check(
        &thing("dev", &hashes),
        &expect![[r#"
        thing lab.dev keys=1 
        Thing lab/dev: InvalidSpec: key c: notBefore is after notAfter
        Thing lab/dev: InvalidSpec: key d: a time as 2026-01-31T00:00:00Z is needed
        Thing lab/dev: DuplicateKey: key b: this Thing has the key under another id too
    "#]],
    );
}

#[test]
fn connections_need_a_channel_and_its_consent() {
    let connections = "{connections: [{channel: none}, {channel: shut, namespace: plant}, {channel: open, namespace: plant, permissions: [Publish]}, {channel: listed, namespace: plant, permissions: [Subscribe]}, {channel: odd, subtopics: {publish: ['#/a']}}]}";
    let yaml = thing("dev", connections)
        + &channel("plant", "shut", "{}")
        + &channel("plant", "open", "{allowedThings: {namespaces: All}}")
        + &channel("plant", "listed", "{allowedThings: {namespaces: List, list: [lab]}}")
        + &channel("lab", "odd", "{}");
    check(
        &yaml,
        &expect![[r#"
            channel lab.odd []
            channel plant.listed []
            channel plant.open []
            channel plant.shut []
            thing lab.dev keys=0 plant.open+p plant.listed+s
            Thing lab/dev: InvalidSpec: the connection to lab/odd has a pattern that is none: the wildcard for all remaining levels is not the last level
            Thing lab/dev: NoCredentials: there is neither a key nor a certificate that the Thing could show
            Thing lab/dev: SecretNotFound: key key: the Secret dev-credentials with the generated key is not there yet
            Thing lab/dev: ChannelNotFound: there is no Channel lab/none
            Thing lab/dev: NotPermitted: the Channel plant/shut does not admit Things of this namespace
        "#]],
    );
}

#[test]
fn what_is_out_of_bounds_or_taken_does_not_count_and_harms_nobody() {
    let yaml = channel("lab", "a", "{aliases: [x]}")
        + &channel("lab", "b", "{aliases: [x, y]}")
        + &channel("lab", "c", "{aliases: [y]}")
        + &channel("lab", "d", "{payload: {maxBytes: 0}}")
        + &channel("lab", "a", "{aliases: [z]}")
        + &channel("lab", "with.dot", "{}")
        + &thing("off", "{suspended: true}");
    check(
        &yaml,
        &expect![[r#"
            channel lab.a ["x"]
            channel lab.c ["y"]
            Channel lab/a: IdConflict: another Channel has this name
            Channel lab/b: IdConflict: the alias x belongs to an older Channel
            Channel lab/d: InvalidSpec: spec.payload.maxBytes: 1 to 16777216 is needed
            Channel lab/with.dot: InvalidSpec: metadata.name: a DNS label is needed: a-z, 0-9 and '-', at most 63, no dot
            Thing lab/off: Suspended: spec.suspended is true
            Thing lab/off: NoCredentials: there is neither a key nor a certificate that the Thing could show
            Thing lab/off: SecretNotFound: key key: the Secret off-credentials with the generated key is not there yet
        "#]],
    );
}

#[test]
fn no_key_is_put_into_words() {
    let yaml =
        thing("dev", &format!("{{credentials: {{secretRefs: [{}, {}]}}}}", key("k", "short"), key("l", "a"))) + SECRETS;
    let observed = observed(&yaml);
    let shown = format!("{observed:?}") + &say(&plan(observed));
    assert!(!shown.contains("key-a-") && !shown.contains("\"short\"}"), "{shown}");
}

#[test]
fn a_key_of_a_secret_is_known_in_clear_and_one_of_a_hash_is_not() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let long = "x".repeat(513);
    let secrets = format!(
        "---\nsecret: lab/keys\nentries: {{a: \"key-a-0123456789abc\\r\\n\", long: {long}}}\n---\nsecret: lab/gen-credentials\nend: '2030-01-01T00:00:00Z'\nentries: {{key: new-key-0123456789, previousKey: old-key-0123456789}}\n"
    );
    let given = format!(
        "{{credentials: {{secretRefs: [{}, {}], keyHashes: [{{id: h, sha256: {hash}}}]}}}}",
        key("a", "a"),
        key("l", "long")
    );
    let plan = plan(observed(&(thing("gen", "{}") + &thing("dev", &given) + &secrets)));
    let shared = |thing: &tidegate_model::ThingEntry| -> Vec<Option<String>> {
        let text = |key: &tidegate_model::SharedKey| String::from_utf8(key.as_bytes().to_vec()).unwrap();
        thing.keys.iter().map(|key| key.shared.as_ref().map(text)).collect()
    };
    let known: Vec<_> = plan.contents.things.iter().map(shared).collect();
    let clear = |text: &str| Some(text.to_owned());
    assert_eq!(known[0], [clear("key-a-0123456789abc"), None, None], "no line end, nothing too long");
    assert_eq!(known[1], [clear("new-key-0123456789"), clear("old-key-0123456789")]);
    for key in plan.contents.things.iter().flat_map(|thing| &thing.keys) {
        assert!(key.shared.as_ref().is_none_or(|shared| tidegate_model::KeyHash::of(shared.as_bytes()) == key.hash));
    }
}

#[test]
fn a_certificate_is_enough_and_has_one_spelling() {
    let yaml = thing("subject", "{credentials: {certificate: {subject: 'cn=pump-7, o=Acme'}}}")
        + &thing("uri", "{credentials: {certificate: {uriSan: 'urn:dev:7'}}}")
        + &thing("dns", "{credentials: {certificate: {dnsSan: Pump-7.Example}}}")
        + &thing("both", "{credentials: {generate: {}, certificate: {uriSan: 'urn:dev:8'}}}")
        + &thing("odd", "{credentials: {certificate: {subject: pump-7}}}")
        + &thing("wild", "{credentials: {certificate: {dnsSan: '*.example'}}}")
        + &thing("none", "{credentials: {certificate: {}}}")
        + &thing("two", "{credentials: {certificate: {uriSan: 'urn:dev:9', dnsSan: a}}}");
    check(
        &yaml,
        &expect![[r#"
        thing lab.both keys=0 [URI urn:dev:8] 
        thing lab.dns keys=0 [DNS name pump-7.example] 
        thing lab.odd keys=0 
        thing lab.subject keys=0 [subject CN=pump-7,O=Acme] 
        thing lab.uri keys=0 [URI urn:dev:7] 
        thing lab.wild keys=0 
        Thing lab/both: SecretNotFound: key key: the Secret both-credentials with the generated key is not there yet
        Thing lab/none: InvalidSpec: spec.credentials.certificate: exactly one of subject, uriSan and dnsSan is needed
        Thing lab/odd: InvalidSpec: certificate.subject: a distinguished name as CN=pump-7,O=Acme is needed
        Thing lab/odd: NoCredentials: there is neither a key nor a certificate that the Thing could show
        Thing lab/two: InvalidSpec: spec.credentials.certificate: exactly one of subject, uriSan and dnsSan is needed
        Thing lab/wild: InvalidSpec: certificate.dnsSan: a DNS name as pump-7.example is needed
        Thing lab/wild: NoCredentials: there is neither a key nor a certificate that the Thing could show
    "#]],
    );
}

#[test]
fn the_name_in_a_certificate_belongs_to_the_oldest_thing_also_while_that_is_suspended() {
    let of = |name: &str, created: &str, spec: &str| meta("Thing", "lab", name, created) + "spec: " + spec + "\n";
    let yaml = of("newer", "2026-02-01T00:00:00Z", "{credentials: {certificate: {subject: 'CN=pump-7, O=Acme'}}}")
        + &of(
            "older",
            "2026-01-01T00:00:00Z",
            "{suspended: true, credentials: {certificate: {subject: 'CN=pump-7,O=Acme'}}}",
        )
        + &of(
            "newest",
            "2026-03-01T00:00:00Z",
            "{credentials: {generate: {}, certificate: {subject: 'cn=pump-7,O=Acme'}}}",
        )
        + "---\nsecret: lab/newest-credentials\nentries: {key: new-key-0123456789}\n";
    check(
        &yaml,
        &expect![[r#"
        thing lab.newer keys=0 
        thing lab.newest keys=1 
        Thing lab/newer: NoCredentials: there is neither a key nor a certificate that the Thing could show
        Thing lab/newer: DuplicateCertificate: certificate: the name is in use
        Thing lab/newest: DuplicateCertificate: certificate: the name is in use
        Thing lab/older: Suspended: spec.suspended is true
    "#]],
    );
}

#[test]
fn of_a_certificate_the_status_says_whether_it_is_its_own_and_no_secret_is_named() {
    let status = |yaml: &str| {
        let (mut compiler, observed) = (Compiler::new(), observed(yaml));
        for thing in observed.things.clone() {
            compiler.observe_thing(&ObjectId::of(&thing.metadata), Some(thing));
        }
        compiler.settle();
        let (thing, id) = (observed.things.last().unwrap(), ObjectId::of(&observed.things.last().unwrap().metadata));
        let outcome = compiler.thing_outcome(&id).unwrap();
        let status = thing_status(thing, &outcome, false, Programmed::Acknowledged, jiff::Timestamp::UNIX_EPOCH);
        let said: Vec<_> =
            status.conditions.iter().map(|c| format!("{} {}: {}", c.type_, c.reason, c.message)).collect();
        assert_eq!((status.credentials_secret, status.keys.len(), status.keys_usable), (None, 0, Some(0)));
        said.join("\n")
    };
    let own = thing("a", "{credentials: {certificate: {dnsSan: a.example}}}");
    expect![[r#"
        Accepted Accepted: it is valid, and its ids, keys and certificate are its own
        ResolvedRefs ResolvedRefs: all that it names is there
        Programmed Programmed: every live adapter has acknowledged it
        Ready Ready: it is in force"#]]
    .assert_eq(&status(&own));
    expect![[r#"
        Accepted DuplicateCertificate: certificate: the name is in use
        ResolvedRefs ResolvedRefs: all that it names is there
        Programmed Programmed: every live adapter has acknowledged it
        Ready DuplicateCertificate: certificate: the name is in use"#]]
    .assert_eq(&status(&(own + &thing("b", "{credentials: {certificate: {dnsSan: A.example}}}"))));
}

/// A handful of objects that get in each other's way.
fn objects() -> impl Strategy<Value = Vec<String>> {
    let name = || prop::sample::select(vec!["a", "b", "c", "Bad"]);
    let alias = || prop::sample::select(vec!["x", "y", "a.b"]);
    let created = || prop::sample::select(vec!["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    let channels = (name(), alias(), created()).prop_map(|(name, alias, created)| {
        meta("Channel", "lab", name, created) + &format!("spec: {{aliases: [{alias}]}}\n")
    });
    let entry = || prop::sample::select(vec!["a", "b", "line", "short"]);
    let certificate = prop::sample::select(vec!["", ", certificate: {dnsSan: p}", ", certificate: {dnsSan: P}"]);
    let said = (name(), alias(), created(), name(), entry(), certificate);
    let things = said.prop_map(|(name, alias, created, to, entry, certificate)| {
        let (to, key) = (to.to_lowercase(), key("k", entry));
        let credentials = format!("{{secretRefs: [{key}]{certificate}}}");
        meta("Thing", "lab", name, created)
            + &format!("spec: {{aliases: [{alias}], connections: [{{channel: {to}}}], credentials: {credentials}}}\n")
    });
    prop::collection::vec(prop_oneof![channels, things], 0..12)
}

proptest! {
    #[test]
    fn any_order_gives_the_same_plan_and_a_plan_makes_a_table(
        (documents, shuffled) in objects().prop_flat_map(|documents| {
            (Just(documents.clone()), Just(documents).prop_shuffle())
        }),
    ) {
        let first = plan(observed(&(documents.concat() + SECRETS)));
        prop_assert_eq!(&plan(observed(&(SECRETS.to_owned() + &shuffled.concat()))), &first);
        prop_assert!(GrantTableBuilder::table_of(&first.contents, Generation(1), 1).is_ok());
    }
}

/// What happens to a cluster, one event after the other.
#[derive(Clone, Debug)]
enum Event {
    Channel(ObjectId, Option<Box<Channel>>),
    Thing(ObjectId, Option<Box<Thing>>),
    Secret(ObjectId, Option<KeySecret>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let entry = || prop::sample::select(vec!["a", "b", "line", "short"]);
    let gone = (prop::sample::select(vec!["a", "b", "c"]), 0..3_u8).prop_map(|(name, kind)| {
        let id = ObjectId::new("lab", name);
        match kind {
            0 => Event::Channel(id, None),
            1 => Event::Thing(id, None),
            _ => Event::Secret(ObjectId::new("lab", "keys"), None),
        }
    });
    let rewritten = (entry(), entry()).prop_map(|(a, b)| {
        let mut secret = observed(SECRETS).secrets.swap_remove(0);
        let (a, b) = (secret.entries[a].clone(), secret.entries[b].clone());
        secret.entries.extend([("a".to_owned(), a), ("b".to_owned(), b)]);
        Event::Secret(ObjectId::new("lab", "keys"), Some(secret))
    });
    let applied = objects().prop_map(|documents| {
        let Observed { channels, things, .. } = observed(&documents.concat());
        let channels = channels.into_iter().map(|c| Event::Channel(ObjectId::of(&c.metadata), Some(c.into())));
        let things = things.into_iter().map(|t| Event::Thing(ObjectId::of(&t.metadata), Some(t.into())));
        channels.chain(things).collect::<Vec<_>>()
    });
    let some = prop_oneof![applied, gone.prop_map(|event| vec![event]), rewritten.prop_map(|event| vec![event])];
    prop::collection::vec(some, 0..8).prop_map(|events| events.concat())
}

/// A table as an adapter keeps it.
#[derive(Debug, Default, PartialEq)]
struct Table(BTreeMap<String, tidegate_model::ChannelEntry>, BTreeMap<String, tidegate_model::ThingEntry>);

impl Table {
    fn apply(&mut self, delta: Delta) {
        self.0.extend(delta.channels.into_iter().map(|entry| (entry.id.to_string(), entry)));
        self.1.extend(delta.things.into_iter().map(|entry| (entry.id.to_string(), entry)));
        delta.channels_gone.iter().for_each(|id| drop(self.0.remove(id.as_str())));
        delta.things_gone.iter().for_each(|id| drop(self.1.remove(id.as_str())));
    }
}

proptest! {
    /// The heart of it: whatever happens, in whatever steps it is asked for, is as if everything were compiled anew.
    #[test]
    fn what_changed_applied_to_what_was_is_what_is(events in events(), asked in prop::collection::vec(any::<bool>(), 100)) {
        let (mut compiler, mut table) = (Compiler::new(), Table::default());
        let (mut channels, mut things, mut secrets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (event, asked) in events.into_iter().zip(asked) {
            match event {
                Event::Channel(id, object) => {
                    channels.insert(id.clone(), object.clone());
                    compiler.observe_channel(&id, object.map(|object| *object));
                }
                Event::Thing(id, object) => {
                    things.insert(id.clone(), object.clone());
                    compiler.observe_thing(&id, object.map(|object| *object));
                }
                Event::Secret(id, object) => {
                    secrets.insert(id.clone(), object.clone());
                    compiler.observe_secret(&id, object);
                }
            }
            if asked {
                table.apply(compiler.settle().delta);
                // A delta makes a table at every step, not just at the end.
                let contents = TableContents {
                    channels: table.0.values().cloned().collect(),
                    things: table.1.values().cloned().collect(),
                };
                prop_assert!(GrantTableBuilder::table_of(&contents, Generation(1), 1).is_ok());
            }
        }
        table.apply(compiler.settle().delta);
        let whole = plan(Observed {
            channels: channels.into_values().flatten().map(|object| *object).collect(),
            things: things.into_values().flatten().map(|object| *object).collect(),
            secrets: secrets.into_values().flatten().collect(),
        });
        let mut anew = Table::default();
        anew.apply(whole.contents.into());
        prop_assert_eq!(table, anew);
        prop_assert_eq!(compiler.findings(), whole.findings);
    }
}

#[test]
fn a_generated_key_counts_beside_the_one_before_until_that_ends() {
    let yaml = thing("dev", "{}")
        + "---\nsecret: lab/dev-credentials\nend: '2030-01-01T00:00:00Z'\nentries: {key: new-key-0123456789, previousKey: old-key-0123456789}\n";
    let plan = plan(observed(&yaml));
    let ends: Vec<_> = plan.contents.things[0].keys.iter().map(|key| key.not_after.is_some()).collect();
    assert_eq!((ends, plan.findings), (vec![false, true], vec![]));
}
