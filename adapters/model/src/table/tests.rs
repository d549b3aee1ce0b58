//! Who may do what.

use super::*;
use crate::{Operation, SubtopicFilter, Topic, TopicFilter, TopicLimits};

const LIMITS: TopicLimits = TopicLimits { topic_bytes_max: 65_535, levels_max: 200 };
const NOW: Timestamp = Timestamp::from_secs(1_000);

fn key_entry(key: &str) -> KeyEntry {
    KeyEntry { hash: KeyHash::of(key.as_bytes()), shared: None, not_before: None, not_after: None }
}

fn channel(id: &str, aliases: &[&str]) -> ChannelEntry {
    ChannelEntry {
        id: ChannelId::parse(id).unwrap(),
        aliases: aliases.iter().map(|a| Alias::parse(a).unwrap()).collect(),
        payload: PayloadPolicy {
            content_type: ContentType::parse("application/senml+json").unwrap(),
            admit: vec![],
            validate: Validation::None,
            bytes_max: 1_024,
        },
    }
}

fn grant(channel: &str, publish: bool, subscribe: bool) -> GrantEntry {
    GrantEntry {
        channel: ChannelId::parse(channel).unwrap(),
        permissions: Permissions { publish, subscribe },
        publish: None,
        subscribe: None,
    }
}

fn filters(patterns: &[&str]) -> Option<Vec<SubtopicFilter>> {
    Some(patterns.iter().map(|p| SubtopicFilter::parse(p, &LIMITS).unwrap()).collect())
}

fn thing(id: &str, keys: &[&str], grants: Vec<GrantEntry>) -> ThingEntry {
    ThingEntry {
        id: ThingId::parse(id).unwrap(),
        aliases: vec![],
        keys: keys.iter().map(|k| key_entry(k)).collect(),
        certificate: None,
        grants,
    }
}

fn contents() -> TableContents {
    let mut limited = grant("lab.telemetry", true, true);
    limited.publish = filters(&["engine/#", "door"]);
    limited.subscribe = filters(&["engine/+"]);
    let mut aliased = thing(
        "lab.dev1",
        &["key-one"],
        vec![grant("lab.telemetry", true, true), grant("lab.orders", false, true), grant("plant.events", true, false)],
    );
    aliased.aliases = vec![Alias::parse("flashed-7").unwrap()];
    TableContents {
        channels: vec![
            channel("lab.telemetry", &["old-channel"]),
            channel("lab.orders", &[]),
            channel("plant.events", &["orders"]),
            channel("plant.telemetry", &[]),
        ],
        things: vec![
            aliased,
            thing("lab.dev2", &["key-two", "key-2b"], vec![limited]),
            thing("lab.idle", &["key-3"], vec![]),
        ],
    }
}

fn table(generation: u64, contents: &TableContents) -> GrantTable {
    GrantTableBuilder::table_of(contents, Generation(generation), 7).unwrap()
}

fn principal(table: &GrantTable, key: &str) -> Principal {
    table.authenticate(&Credential::Key(key.as_bytes()), NOW).unwrap()
}

fn authorize(table: &GrantTable, key: &str, action: Action, topic: &str) -> Result<String, Refusal> {
    let topic = Topic::parse_mqtt(topic, &LIMITS).unwrap();
    let permit = table.authorize(&principal(table, key), action, topic, NOW)?;
    Ok(format!("{} {}{}", permit.thing(), permit.channel(), permit.subtopic().suffix()))
}

fn authorize_filter(table: &GrantTable, key: &str, filter: &str) -> Result<String, Refusal> {
    let filter = TopicFilter::parse_mqtt(filter, &LIMITS).unwrap();
    let permit = table.authorize_filter(&principal(table, key), filter, NOW)?;
    Ok(format!("{} {} {:?}", permit.thing(), permit.channel(), permit.filter()))
}

#[test]
fn a_key_says_whose_it_is_and_a_claim_must_agree() {
    let table = table(1, &contents());
    let who = |credential: Credential<'_>| table.authenticate(&credential, NOW).map(|p| p.thing().to_string());
    assert_eq!(who(Credential::Key(b"key-one")).as_deref(), Ok("lab.dev1"));
    assert_eq!(who(Credential::Key(b"key-2b")).as_deref(), Ok("lab.dev2"));
    for (thing, key, expected) in [
        ("lab.dev1", "key-one", Ok("lab.dev1")),
        ("flashed-7", "key-one", Ok("lab.dev1")),
        ("lab.dev2", "key-one", Err(&Refusal::Unauthenticated)),
        ("flashed-8", "key-one", Err(&Refusal::Unauthenticated)),
        ("", "key-one", Err(&Refusal::Unauthenticated)),
        ("lab.dev1", "", Err(&Refusal::Unauthenticated)),
        ("lab.dev1", "key-onf", Err(&Refusal::Unauthenticated)),
    ] {
        let credential = Credential::ThingKey { thing, key: key.as_bytes() };
        assert_eq!(who(credential).as_deref(), expected, "{thing} {key}");
    }
}

#[test]
fn the_empty_table_refuses_everyone() {
    let outcome = GrantTable::empty().authenticate(&Credential::Key(b"key-one"), NOW);
    assert_eq!(outcome.map(|_| ()), Err(Refusal::Unauthenticated));
}

#[test]
fn a_key_is_good_from_its_first_to_its_last_instant() {
    let mut contents = contents();
    contents.things[0].keys[0].not_before = Some(Timestamp::from_secs(900));
    contents.things[0].keys[0].not_after = Some(Timestamp::from_secs(1_100));
    let table = table(1, &contents);
    let good = |now: u64| table.authenticate(&Credential::Key(b"key-one"), Timestamp::from_nanos(now)).is_ok();
    let second = 1_000_000_000;
    assert_eq!(
        [900 * second - 1, 900 * second, 1_100 * second, 1_100 * second + 1].map(good),
        [false, true, true, false]
    );
    let topic = || Topic::parse_mqtt("channels/lab.telemetry/messages", &LIMITS).unwrap();
    let late = Timestamp::from_secs(1_101);
    let outcome = table.authorize(&principal(&table, "key-one"), Action::Publish, topic(), late);
    assert_eq!(outcome.map(|_| ()), Err(Refusal::Unauthenticated));
}

#[test]
fn a_channel_is_an_id_or_a_name_at_home_or_an_alias() {
    let table = table(1, &contents());
    let publish = |topic: &str| authorize(&table, "key-one", Action::Publish, topic);
    assert_eq!(publish("channels/lab.telemetry/messages/a").as_deref(), Ok("lab.dev1 lab.telemetry/a"));
    assert_eq!(publish("channels/telemetry/messages/a").as_deref(), Ok("lab.dev1 lab.telemetry/a"));
    assert_eq!(publish("channels/old-channel/messages").as_deref(), Ok("lab.dev1 lab.telemetry"));
    // `orders` is a Channel at home, so the alias of another team's Channel does not take its place.
    assert_eq!(publish("channels/orders/messages"), Err(Refusal::Forbidden));
    assert_eq!(publish("channels/plant.events/messages").as_deref(), Ok("lab.dev1 plant.events"));
}

#[test]
fn an_unknown_channel_looks_like_one_without_a_grant() {
    let table = table(1, &contents());
    for topic in ["channels/lab.nothing/messages", "channels/nothing/messages", "channels/plant.telemetry/messages"] {
        assert_eq!(authorize(&table, "key-one", Action::Publish, topic), Err(Refusal::Forbidden), "{topic}");
    }
    assert_eq!(authorize(&table, "key-3", Action::Publish, "channels/telemetry/messages"), Err(Refusal::Forbidden));
}

#[test]
fn permissions_are_per_action() {
    let table = table(1, &contents());
    let subscribe = |topic: &str| authorize_filter(&table, "key-one", topic);
    assert_eq!(subscribe("channels/lab.orders/messages/#").as_deref(), Ok("lab.dev1 lab.orders \"/#\""));
    assert_eq!(subscribe("channels/plant.events/messages"), Err(Refusal::Forbidden));
    assert_eq!(authorize(&table, "key-one", Action::Publish, "channels/lab.orders/messages"), Err(Refusal::Forbidden));
}

#[test]
fn subtopics_limit_topics_and_filters() {
    let table = table(1, &contents());
    let publish =
        |sub: &str| authorize(&table, "key-two", Action::Publish, &format!("channels/telemetry/messages{sub}"));
    let subscribe = |sub: &str| authorize_filter(&table, "key-two", &format!("channels/telemetry/messages{sub}"));
    for sub in ["/engine", "/engine/oil/hot", "/door"] {
        assert!(publish(sub).is_ok(), "{sub}");
    }
    for sub in ["", "/", "/doors", "/door/", "/window"] {
        assert_eq!(publish(sub), Err(Refusal::Forbidden), "{sub}");
    }
    for sub in ["/engine/+", "/engine/oil"] {
        assert!(subscribe(sub).is_ok(), "{sub}");
    }
    for sub in ["/#", "/engine/#", "/engine", "/+/+", ""] {
        assert_eq!(subscribe(sub), Err(Refusal::Forbidden), "{sub}");
    }
}

#[test]
fn a_later_table_decides_for_a_principal_of_an_earlier_one() {
    let first = table(1, &contents());
    let known = principal(&first, "key-one");
    let topic = || Topic::parse_mqtt("channels/telemetry/messages", &LIMITS).unwrap();
    let ask = |table: &GrantTable| table.authorize(&known, Action::Publish, topic(), NOW).map(|_| ());

    let mut moved = contents();
    moved.things.reverse();
    assert_eq!(ask(&table(2, &moved)), Ok(()));

    let mut withdrawn = contents();
    withdrawn.things[0].grants.remove(0);
    assert_eq!(ask(&table(3, &withdrawn)), Err(Refusal::Forbidden));

    let mut rotated = contents();
    rotated.things[0].keys = vec![key_entry("key-new")];
    assert_eq!(ask(&table(4, &rotated)), Err(Refusal::Unauthenticated));

    let mut taken_over = contents();
    taken_over.things[0].keys = vec![];
    taken_over.things[1].keys = vec![key_entry("key-one")];
    assert_eq!(ask(&table(5, &taken_over)), Err(Refusal::Unauthenticated));
}

#[test]
fn a_permit_held_over_a_change_is_asked_again() {
    let first = table(1, &contents());
    let known = principal(&first, "key-one");
    let permit = || {
        let topic = Topic::parse_mqtt("channels/old-channel/messages/a", &LIMITS).unwrap();
        first.authorize(&known, Action::Publish, topic, NOW).unwrap()
    };
    let renewed = table(2, &contents()).renew(permit(), &known, NOW).unwrap();
    assert_eq!((renewed.channel().as_str(), renewed.subtopic().text()), ("lab.telemetry", Some("a")));
    let mut withdrawn = contents();
    withdrawn.things.remove(0);
    assert!(matches!(table(3, &withdrawn).renew(permit(), &known, NOW), Err(Refusal::Unauthenticated)));
}

#[test]
fn contents_that_make_no_table_are_named() {
    let fails = |change: &dyn Fn(&mut TableContents)| {
        let mut contents = contents();
        change(&mut contents);
        GrantTableBuilder::table_of(&contents, Generation(1), 7).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(fails(&|c| c.things.push(c.things[0].clone())), "lab.dev1: its id is taken");
    assert_eq!(fails(&|c| c.things[1].aliases = c.things[0].aliases.clone()), "lab.dev2: its alias is taken");
    assert_eq!(fails(&|c| c.things[1].keys = c.things[0].keys.clone()), "lab.dev2: its key is taken");
    assert_eq!(fails(&|c| c.channels.push(c.channels[0].clone())), "lab.telemetry: its id is taken");
    assert_eq!(fails(&|c| c.channels[1].aliases = c.channels[0].aliases.clone()), "lab.orders: its alias is taken");
    assert_eq!(fails(&|c| drop(c.channels.remove(0))), "lab.dev1: no channel lab.telemetry in the table");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let table = table(1, &contents());
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        table,
        principal(&table, "key-one"),
        Credential::Key(b"key-one"),
        contents().things[0]
    );
    assert!(!shown.contains("key-one"), "{shown}");
    let hash = KeyHash::of(b"key-one");
    assert!(!shown.contains(&format!("{:?}", hash.as_bytes())), "{shown}");
}

#[test]
fn every_refusal_has_a_name_of_its_own() {
    let retry_after = std::time::Duration::from_secs(1);
    let all = [
        Refusal::Unauthenticated,
        Refusal::Forbidden,
        Refusal::UnknownPath,
        Refusal::MalformedTopic(crate::TopicError::Wildcard),
        Refusal::PayloadTooLarge { bytes_max: 1 },
        Refusal::ContentTypeNotAdmitted,
        Refusal::InvalidPayload("x".into()),
        Refusal::BrokerUnavailable { operation: Operation::Publish, retry_after },
        Refusal::RateLimited { retry_after },
        Refusal::Revoked,
        Refusal::ShuttingDown,
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(Refusal::code).collect();
    assert_eq!(codes.len(), all.len());
}

#[test]
fn a_shared_key_is_of_its_thing_alone_and_for_its_time() {
    let mut contents = contents();
    let with =
        |key: &str, not_after| KeyEntry { shared: Some(SharedKey::new(key.as_bytes())), not_after, ..key_entry(key) };
    let first = contents.things[0].id.clone();
    let of = |contents: &TableContents, claimed: &str, now: u64| -> Vec<(String, String)> {
        let table = GrantTableBuilder::table_of(contents, Generation(1), 7).unwrap();
        let found = table.shared_keys(claimed, Timestamp::from_secs(now));
        let said = |(key, who): (&SharedKey, Principal)| {
            (String::from_utf8(key.as_bytes().to_vec()).unwrap(), who.thing().to_string())
        };
        found.map(said).collect()
    };
    assert_eq!(of(&contents, first.as_str(), 1), []);
    contents.things[0].keys =
        vec![key_entry("hash alone"), with("new", None), with("old", Some(Timestamp::from_secs(9)))];
    contents.things[1].keys = vec![with("other", None)];
    let (own, other) = (first.to_string(), contents.things[1].id.to_string());
    assert_eq!(of(&contents, &own, 9), [("new".into(), own.clone()), ("old".into(), own.clone())]);
    assert_eq!(of(&contents, "flashed-7", 10), [("new".into(), own)]);
    assert_eq!(of(&contents, &other, 10), [("other".into(), other.clone())]);
    assert_eq!(of(&contents, "lab.nobody", 10), []);
}

#[test]
fn a_certificate_is_one_things_until_it_ends_or_the_thing_has_another() {
    let mut contents = contents();
    let name = CertificateName::subject("CN=pump-7,O=Acme").unwrap();
    contents.things[0].certificate = Some(name.clone());
    contents.things[1].certificate = Some(CertificateName::uri("urn:dev:2").unwrap());
    let of =
        |contents: &TableContents, number| GrantTableBuilder::table_of(contents, Generation(number), number).unwrap();
    let (table, now) = (of(&contents, 1), Timestamp::from_secs(5));
    let shown = |names: &[&CertificateName], ends| CertificateNames {
        names: names.iter().map(|name| (*name).clone()).collect(),
        not_after: Timestamp::from_secs(ends),
    };
    let uri = CertificateName::uri("urn:dev:2").unwrap();
    let principal = table.identify(&shown(&[&CertificateName::dns("pump-7").unwrap(), &name], 9), now).unwrap();
    assert_eq!(principal.thing(), &contents.things[0].id);
    assert_eq!(principal.not_after(), Some(Timestamp::from_secs(9)));
    let names = [contents.things[0].id.as_str(), "flashed-7", contents.things[1].id.as_str(), "lab.nobody", ""];
    assert_eq!(names.map(|claimed| table.is_named(&principal, claimed)), [true, true, false, false, false]);
    assert!(table.identify(&shown(&[&name], 4), now).is_err(), "it has ended");
    assert!(table.identify(&shown(&[&name, &uri], 9), now).is_err(), "it is two Things'");
    assert!(table.identify(&shown(&[], 9), now).is_err());
    let later = of(&contents, 2);
    assert!(later.refresh(&principal, now).is_ok());
    assert!(later.refresh(&principal, Timestamp::from_secs(10)).is_err());
    contents.things[0].certificate = None;
    assert!(of(&contents, 3).refresh(&principal, now).is_err());
    contents.things[1].certificate = Some(name);
    assert!(of(&contents, 4).refresh(&principal, now).is_err(), "it is another Thing's now");
    contents.things[0].certificate = contents.things[1].certificate.clone();
    assert!(GrantTableBuilder::table_of(&contents, Generation(5), 5).is_err(), "it is taken");
}
