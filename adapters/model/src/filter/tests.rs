//! Filters: what they match and what they contain.

use proptest::prelude::*;

use super::*;

const LIMITS: TopicLimits = TopicLimits { topic_bytes_max: 65_535, levels_max: 200 };

fn filter(text: &str) -> SubtopicFilter {
    SubtopicFilter::parse(text, &LIMITS).unwrap()
}

fn url(text: &str) -> Result<String, Refusal> {
    TopicFilter::parse_path(text, &LIMITS).map(|filter| filter.to_mqtt())
}

fn mqtt(text: &str) -> Result<String, Refusal> {
    TopicFilter::parse_mqtt(text, &LIMITS).map(|filter| filter.to_mqtt())
}

#[test]
fn a_url_says_wildcards_in_two_ways() {
    for (path, expected) in [
        ("/channels/a/messages", "channels/a/messages"),
        ("/channels/a/messages/+/x/%23", "channels/a/messages/+/x/#"),
        ("/channels/a/messages/*/x/>", "channels/a/messages/+/x/#"),
        ("/channels/a/messages/%2A//%3E", "channels/a/messages/+/#"),
        ("/channels/a/messages/a*/>b", "channels/a/messages/a*/>b"),
    ] {
        assert_eq!(url(path).as_deref(), Ok(expected), "{path}");
    }
}

//= MQTT-4.7.1-1
#[test]
fn what_is_no_filter_says_why() {
    use TopicError::{RestNotLast, SpansChannels, Wildcard};
    for (path, error) in [
        ("/channels/a/messages/%23/b", RestNotLast),
        ("/channels/a/messages/>/b", RestNotLast),
        ("/channels/a/messages/a+", Wildcard),
        ("/channels/a/messages/a%23", Wildcard),
        ("/channels/+/messages", SpansChannels),
        ("/channels/*/messages", SpansChannels),
    ] {
        assert_eq!(url(path), Err(error.into()), "{path}");
    }
    assert_eq!(mqtt("channels/+/messages"), Err(SpansChannels.into()));
    assert_eq!(mqtt("channels/*/messages"), Err(Refusal::UnknownPath));
    assert_eq!(mqtt("#"), Err(Refusal::UnknownPath));
    assert_eq!(mqtt("channels/#"), Err(Refusal::UnknownPath));
}

#[test]
fn mqtt_takes_a_star_to_the_letter() {
    assert_eq!(mqtt("channels/a/messages/*/>").as_deref(), Ok("channels/a/messages/*/>"));
    assert!(!filter("*").matches(&Subtopic::parse("a", &LIMITS).unwrap()));
}

//= MQTT-4.7.1-2
//= MQTT-4.7.1-3
#[test]
fn the_rest_includes_the_parent_and_plus_takes_an_empty_level() {
    let topic = |text: Option<&str>| text.map_or(Subtopic::none(), |t| Subtopic::parse(t, &LIMITS).unwrap());
    for (pattern, text, matches) in [
        ("#", None, true),
        ("#", Some(""), true),
        ("a/#", Some("a"), true),
        ("a/#", Some("a/"), true),
        ("a/#", Some("ab"), false),
        ("a/#", None, false),
        ("+", None, false),
        ("+", Some(""), true),
        ("+/+", Some("/"), true),
        ("+", Some("a/"), false),
        ("", Some(""), true),
        ("", None, false),
    ] {
        assert_eq!(filter(pattern).matches(&topic(text)), matches, "{pattern} {text:?}");
    }
}

#[test]
fn a_binding_key_that_does_not_fit_is_widened() {
    let channel = ChannelId::new("lab", "t").unwrap();
    let key = |text: &str| filter(text).binding_key(&channel);
    assert_eq!(key("a.b/+/#").as_str(), "channels.lab.t.a%2Eb.*.#");
    let long = key(&format!("a/{}/b", "x".repeat(250)));
    assert!(!long.is_whole());
    assert_eq!(long.as_str(), "channels.lab.t.a.#");
    let many = key(&vec!["+"; 200].join("/"));
    assert!(many.as_str().len() <= RoutingKey::BYTES_MAX && many.as_str().ends_with(".*.#"));
}

fn levels_of(alphabet: &'static [&'static str], len: usize) -> Vec<Vec<&'static str>> {
    (0..len).fold(vec![vec![]], |shorter, _| {
        let longer = shorter.iter().flat_map(|s| alphabet.iter().map(|l| [s.as_slice(), &[l]].concat()));
        longer.chain(std::iter::once(vec![])).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    })
}

/// Every filter of up to three levels against every other, judged by every topic of up to four levels. The letter `z`
/// stands in no filter, so that it plays all the letters that a filter does not name.
#[test]
fn containment_agrees_with_brute_force() {
    let topics: Vec<Subtopic> = levels_of(&["", "a", "b", "z"], 4)
        .into_iter()
        .map(|l| if l.is_empty() { Subtopic::none() } else { Subtopic::parse(&l.join("/"), &LIMITS).unwrap() })
        .collect();
    let filters: Vec<SubtopicFilter> = levels_of(&["", "a", "b", "+", "#"], 3)
        .into_iter()
        .filter(|l| !l.is_empty())
        .filter_map(|l| SubtopicFilter::parse(&l.join("/"), &LIMITS).ok())
        .chain([from_levels(std::iter::empty(), Wildcards::Mqtt, &LIMITS).unwrap()])
        .collect();
    let matched: Vec<Vec<bool>> = filters.iter().map(|f| topics.iter().map(|t| f.matches(t)).collect()).collect();
    let mut contained = 0;
    for (outer, by_outer) in filters.iter().zip(&matched) {
        for (inner, by_inner) in filters.iter().zip(&matched) {
            let expected = by_inner.iter().zip(by_outer).all(|(inner, outer)| *outer || !*inner);
            assert_eq!(outer.contains(inner), expected, "{outer:?} contains {inner:?}");
            contained += usize::from(expected);
        }
    }
    assert!(filters.len() > 90 && contained > filters.len(), "{} filters, {contained} contained", filters.len());
}

/// RabbitMQ's rules for a topic exchange, by its documentation: `*` is one word, `#` is any number of words.
fn amqp_matches(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => (0..=words.len()).any(|skip| amqp_matches(rest, &words[skip..])),
        (Some((&"*", rest)), Some((_, words))) => amqp_matches(rest, words),
        (Some((word, rest)), Some((first, words))) => word == first && amqp_matches(rest, words),
        _ => false,
    }
}

fn topic_level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "a.b", "*", "%", "."])
}

proptest! {
    #[test]
    fn a_binding_key_matches_what_the_filter_matches(
        pattern in prop::collection::vec(prop_oneof![3 => topic_level(), 1 => Just("+")], 0..4),
        rest in any::<bool>(),
        levels in prop::collection::vec(topic_level(), 0..5),
    ) {
        let channel = ChannelId::new("lab", "t").unwrap();
        let pattern: Vec<_> = pattern.into_iter().chain(rest.then_some("#")).collect();
        let filter = from_levels(
            pattern.iter().map(|l| Ok(std::borrow::Cow::Borrowed(*l))), Wildcards::Mqtt, &LIMITS).unwrap();
        let subtopic =
            if levels.is_empty() { Subtopic::none() } else { Subtopic::parse(&levels.join("/"), &LIMITS).unwrap() };
        let (binding, key) = (filter.binding_key(&channel), RoutingKey::new(&channel, &subtopic));
        let words = |key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (binding, key) = (words(binding.as_str()), words(key.as_str()));
        let (binding, key): (Vec<&str>, Vec<&str>) =
            (binding.iter().map(String::as_str).collect(), key.iter().map(String::as_str).collect());
        prop_assert_eq!(amqp_matches(&binding, &key), filter.matches(&subtopic));
    }

    #[test]
    fn a_filter_contains_the_topics_it_matches(levels in prop::collection::vec("[ab]{0,1}", 1..4)) {
        let text = levels.join("/");
        prop_assert!(filter("#").contains(&filter(&text)));
        prop_assert!(filter(&text).contains(&filter(&text)));
        prop_assert!(filter(&text).matches(&Subtopic::parse(&text, &LIMITS).unwrap()));
    }
}
