//! Topics in their three spellings.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::{Refusal, TopicFilter};

fn verdict<T>(outcome: Result<T, Refusal>, show: impl Fn(&T) -> String) -> String {
    match outcome {
        Ok(value) => show(&value),
        Err(Refusal::MalformedTopic(error)) => format!("malformed: {error}"),
        Err(refusal) => refusal.code().to_owned(),
    }
}

fn check(parse: impl Fn(&str) -> Result<Topic, Refusal>, script: &[&str], expected: &Expect) {
    let mut transcript = String::new();
    for text in script {
        writeln!(transcript, "{text} => {}", verdict(parse(text), Topic::to_mqtt)).unwrap();
    }
    expected.assert_eq(&transcript);
}

fn path(text: &str) -> Result<Topic, Refusal> {
    Topic::parse_path(text, &TopicLimits::default())
}

fn mqtt(text: &str) -> Result<Topic, Refusal> {
    Topic::parse_mqtt(text, &TopicLimits::default())
}

//= RFC3986 2.1
//= RFC3986 3.3
#[test]
fn a_path_is_decoded_once_and_its_empty_levels_collapse() {
    check(
        path,
        &[
            "/channels/lab.telemetry/messages",
            "/channels/lab.telemetry/messages/",
            "/channels/lab.telemetry/messages//a///b/",
            "/channels/lab.telemetry/messages/a.b/c%2Ed",
            "/channels/lab.telemetry/messages/caf%C3%A9/./..",
            "/channels/lab.telemetry/messages/a%2525",
            "/%63hannels/lab%2Etelemetry/messages/a%20b",
            "/channels/old-id_7/messages/a*/%3Eb",
            "/channels/telemetry/messages",
        ],
        &expect![[r#"
            /channels/lab.telemetry/messages => channels/lab.telemetry/messages
            /channels/lab.telemetry/messages/ => channels/lab.telemetry/messages
            /channels/lab.telemetry/messages//a///b/ => channels/lab.telemetry/messages/a/b
            /channels/lab.telemetry/messages/a.b/c%2Ed => channels/lab.telemetry/messages/a.b/c.d
            /channels/lab.telemetry/messages/caf%C3%A9/./.. => channels/lab.telemetry/messages/café/./..
            /channels/lab.telemetry/messages/a%2525 => channels/lab.telemetry/messages/a%25
            /%63hannels/lab%2Etelemetry/messages/a%20b => channels/lab.telemetry/messages/a b
            /channels/old-id_7/messages/a*/%3Eb => channels/old-id_7/messages/a*/>b
            /channels/telemetry/messages => channels/telemetry/messages
        "#]],
    );
}

#[test]
fn a_path_that_is_no_topic_says_why() {
    check(
        path,
        &[
            "",
            "/",
            "channels/a/messages",
            "/channels",
            "/channels/lab.telemetry",
            "/channels/lab.telemetry/message",
            "//channels/lab.telemetry/messages",
            "/channels//messages",
            "/channels/lab.tele.metry/messages",
            "/channels/lab.Telemetry/messages",
            "/channels/lab%2Ftelemetry/messages",
            "/channels/%ff/messages",
            "/channels/a/messages/b+c",
            "/channels/a/messages/b%23",
            "/channels/a/messages/+",
            "/channels/a/messages/*",
            "/channels/a/messages/%3E",
            "/channels/a/messages/b%2Fc",
            "/channels/a/messages/b%00",
            "/channels/a/messages/b%0A",
            "/channels/a/messages/b%C2%85",
            "/channels/a/messages/b%",
            "/channels/a/messages/b%2",
            "/channels/a/messages/b%zz",
            "/channels/a/messages/%ED%A0%80",
        ],
        &expect![[r#"
             => unknown-path
            / => unknown-path
            channels/a/messages => unknown-path
            /channels => unknown-path
            /channels/lab.telemetry => unknown-path
            /channels/lab.telemetry/message => unknown-path
            //channels/lab.telemetry/messages => unknown-path
            /channels//messages => unknown-path
            /channels/lab.tele.metry/messages => unknown-path
            /channels/lab.Telemetry/messages => unknown-path
            /channels/lab%2Ftelemetry/messages => unknown-path
            /channels/%ff/messages => unknown-path
            /channels/a/messages/b+c => malformed: a wildcard is out of place
            /channels/a/messages/b%23 => malformed: a wildcard is out of place
            /channels/a/messages/+ => malformed: a wildcard is out of place
            /channels/a/messages/* => malformed: a wildcard is out of place
            /channels/a/messages/%3E => malformed: a wildcard is out of place
            /channels/a/messages/b%2Fc => malformed: a level holds a slash
            /channels/a/messages/b%00 => malformed: a level holds a control character
            /channels/a/messages/b%0A => malformed: a level holds a control character
            /channels/a/messages/b%C2%85 => malformed: a level holds a control character
            /channels/a/messages/b% => malformed: not UTF-8 after percent-decoding
            /channels/a/messages/b%2 => malformed: not UTF-8 after percent-decoding
            /channels/a/messages/b%zz => malformed: not UTF-8 after percent-decoding
            /channels/a/messages/%ED%A0%80 => malformed: not UTF-8 after percent-decoding
        "#]],
    );
}

//= MQTT-1.5.4-2
#[test]
fn an_mqtt_topic_keeps_every_level() {
    check(
        mqtt,
        &[
            "channels/a/messages",
            "channels/a/messages/",
            "channels/a/messages//b//",
            "channels/a/messages/*/>/%2F",
            "channels/a/messages/b+",
            "channels/a/messages/#",
            "/channels/a/messages",
            "channels/+/messages",
            "channels/a",
        ],
        &expect![[r#"
            channels/a/messages => channels/a/messages
            channels/a/messages/ => channels/a/messages/
            channels/a/messages//b// => channels/a/messages//b//
            channels/a/messages/*/>/%2F => channels/a/messages/*/>/%2F
            channels/a/messages/b+ => malformed: a wildcard is out of place
            channels/a/messages/# => malformed: a wildcard is out of place
            /channels/a/messages => unknown-path
            channels/+/messages => unknown-path
            channels/a => unknown-path
        "#]],
    );
}

#[test]
fn the_limits_are_the_last_that_is_accepted() {
    let levels = |n: usize| format!("channels/a/messages{}", "/x".repeat(n));
    assert!(mqtt(&levels(200)).is_ok());
    assert_eq!(mqtt(&levels(201)), Err(TopicError::TooDeep.into()));
    let bytes = |n: usize| format!("channels/a/messages/{}", "x".repeat(n - "channels/a/messages/".len()));
    assert!(mqtt(&bytes(65_535)).is_ok());
    assert_eq!(mqtt(&bytes(65_536)), Err(TopicError::TooLong.into()));
}

fn subtopic(text: &str) -> Subtopic {
    Subtopic::parse(text, &TopicLimits::default()).unwrap()
}

#[test]
fn a_routing_key_escapes_what_amqp_would_read() {
    let channel = ChannelId::new("lab", "telemetry").unwrap();
    let key = |s: &Subtopic| RoutingKey::new(&channel, s).as_str().to_owned();
    assert_eq!(key(&Subtopic::none()), "channels.lab.telemetry");
    assert_eq!(key(&subtopic("a/b.c")), "channels.lab.telemetry.a.b%2Ec");
    assert_eq!(key(&subtopic("*/%/")), "channels.lab.telemetry.%2A.%25.");
    assert_eq!(key(&subtopic("")), "channels.lab.telemetry.");
}

#[test]
fn a_topic_longer_than_a_routing_key_keeps_whole_levels() {
    let channel = ChannelId::new("lab", "telemetry").unwrap();
    let long = subtopic(&["x".repeat(100), "y".repeat(100), "z".repeat(100)].join("/"));
    let key = RoutingKey::new(&channel, &long);
    assert!(!key.is_whole());
    assert_eq!(key.as_str(), format!("channels.lab.telemetry.{}.{}", "x".repeat(100), "y".repeat(100)));
}

#[test]
fn a_routing_key_has_one_spelling() {
    let parse = |key: &str| verdict(RoutingKey::parse(key, &TopicLimits::default()), |(c, s)| format!("{c} {s:?}"));
    assert_eq!(parse("channels.lab.t.a.b%2Ec."), "lab.t \"/a/b.c/\"");
    for key in
        ["channels.lab.t.%2e", "channels.lab.t.%41", "channels.lab.t.*", "channels.lab.t.%2F", "channels.lab.t.%"]
    {
        assert!(parse(key).starts_with("malformed"), "{key}");
    }
    for key in ["", "channels", "channels.lab", "other.lab.t", "channels.Lab.t"] {
        assert_eq!(parse(key), "unknown-path", "{key}");
    }
}

/// Levels that every spelling can say, those that need escaping among them.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,3}",
        prop::sample::select(vec![".", "..", "%", "%2F", "a.b", "*", ">", "a*b", "ü", "😀", " ", "~!$&'()"])
            .prop_map(str::to_owned),
        "[^/+#\\p{Cc}]{0,6}",
    ]
}

/// The path of a URL with these parts, each byte of them encoded.
fn encoded(parts: &[Vec<u8>]) -> String {
    let octet = |byte: &u8| format!("%{byte:02X}");
    parts.iter().flat_map(|part| std::iter::once("/".to_owned()).chain(part.iter().map(octet))).collect()
}

proptest! {
    //= RFC7252 6.4
    #[test]
    fn parts_are_read_as_the_path_that_says_the_same(
        begin in prop_oneof![Just(vec!["channels", "lab.t", "messages"]), Just(vec!["channels", "+", "messages"]), Just(vec!["a"])],
        more in prop::collection::vec(prop_oneof!["[a/+*>#.%é]{0,3}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..3)], 0..5),
    ) {
        let limits = TopicLimits::default();
        let parts: Vec<Vec<u8>> = begin.into_iter().map(Vec::from).chain(more).collect();
        let (path, parts) = (encoded(&parts), || parts.iter().map(Vec::as_slice));
        prop_assert_eq!(Topic::parse_parts(parts(), &limits), Topic::parse_path(&path, &limits));
        prop_assert_eq!(TopicFilter::parse_parts(parts(), &limits), TopicFilter::parse_path(&path, &limits));
    }

    #[test]
    fn mqtt_parse_and_render_are_inverse(levels in prop::collection::vec(level(), 0..6)) {
        let text = levels.iter().fold("channels/lab.t/messages".to_owned(), |text, level| text + "/" + level);
        prop_assert_eq!(mqtt(&text).unwrap().to_mqtt(), text);
    }

    #[test]
    fn path_parse_and_render_are_inverse(levels in prop::collection::vec(level(), 0..6)) {
        let text = levels.iter().fold("channels/lab.t/messages".to_owned(), |text, level| text + "/" + level);
        let topic = mqtt(&text).unwrap();
        let sayable = levels.iter().all(|l| !l.is_empty() && l != "*" && l != ">");
        match topic.to_path() {
            Some(rendered) => {
                prop_assert!(sayable);
                prop_assert_eq!(path(&rendered).unwrap(), topic);
            }
            None => prop_assert!(!sayable),
        }
    }

    #[test]
    fn routing_key_parse_and_render_are_inverse(levels in prop::collection::vec(level(), 0..6)) {
        let subtopic = if levels.is_empty() { Subtopic::none() } else { subtopic(&levels.join("/")) };
        let channel = ChannelId::new("lab", "t").unwrap();
        let key = RoutingKey::new(&channel, &subtopic);
        prop_assert!(key.as_str().len() <= RoutingKey::BYTES_MAX);
        if key.is_whole() {
            prop_assert_eq!(RoutingKey::parse(key.as_str(), &TopicLimits::default()).unwrap(), (channel, subtopic));
        }
    }

    #[test]
    fn no_input_panics(text in "\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let noise = String::from_utf8_lossy(&bytes);
        for text in [text.as_str(), &noise, &format!("/channels/a/messages/{noise}")] {
            let _ = path(text);
            let _ = mqtt(text);
            let _ = RoutingKey::parse(text, &TopicLimits::default());
        }
    }
}
