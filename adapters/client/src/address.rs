//! Where a message goes, spelled as each face has it, and where a server is.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a segment of a path must not hold as it is.
const SEGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// A channel and the levels below its `messages`: a topic, or a filter with `+` and `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    channel: String,
    subtopic: String,
}

impl Address {
    /// Of a channel (`<namespace>.<name>`, an alias, or the name of one in the Thing's namespace) and the levels below it,
    /// split by `/`; none where empty. The server says what is malformed.
    #[must_use]
    pub fn new(channel: &str, subtopic: &str) -> Self {
        Self { channel: channel.to_owned(), subtopic: subtopic.to_owned() }
    }

    /// As the path of a URL, where empty levels are none.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.segments() {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        path
    }

    /// The segments of that path, as they are.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        let levels = self.subtopic.split('/').filter(|level| !level.is_empty());
        ["channels", &self.channel, "messages"].into_iter().chain(levels)
    }

    /// Whether it is a filter of more than one topic, as a path spells it.
    pub(crate) fn has_wildcard(&self) -> bool {
        self.segments().any(|segment| matches!(segment, "+" | "#" | "*" | ">"))
    }

    /// As a topic of MQTT, where empty levels are levels.
    #[must_use]
    pub fn topic(&self) -> String {
        let Self { channel, subtopic } = self;
        let slash = if subtopic.is_empty() { "" } else { "/" };
        format!("channels/{channel}/messages{slash}{subtopic}")
    }
}

/// The host and the port of HOST or HOST:PORT. An IPv6 address keeps its brackets.
pub(crate) fn host_and_port(address: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match address.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (address, default),
    };
    let is_name = |host: &str| !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    Some((host, port)).filter(|(host, _)| is_name(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_face_has_its_spelling() {
        let check = |subtopic: &str, path: &str, topic: &str| {
            let address = Address::new("plant.a", subtopic);
            assert_eq!(address.path(), format!("/channels/plant.a/messages{path}"));
            assert_eq!(address.topic(), format!("channels/plant.a/messages{topic}"));
        };
        check("", "", "");
        check("engine/oil", "/engine/oil", "/engine/oil");
        check("a//b/", "/a/b", "/a//b/");
        check("#", "/%23", "/#");
        check("50 % ü?", "/50%20%25%20%C3%BC%3F", "/50 % ü?");
    }
    #[test]
    fn a_filter_is_told_from_a_topic() {
        for filter in ["#", "a/+", "+/a", "*", "a/>"] {
            assert!(Address::new("plant.a", filter).has_wildcard(), "{filter}");
        }
        for topic in ["", "a/b", "a+b", "a*"] {
            assert!(!Address::new("plant.a", topic).has_wildcard(), "{topic}");
        }
    }

    #[test]
    fn a_server_has_a_host_and_maybe_a_port() {
        let check = |address: &str, expected: Option<(&str, u16)>| {
            assert_eq!(host_and_port(address, 1883), expected, "{address}");
        };
        check("localhost", Some(("localhost", 1883)));
        check("10.0.0.1:2000", Some(("10.0.0.1", 2000)));
        check("[::1]", Some(("[::1]", 1883)));
        check("[::1]:1", Some(("[::1]", 1)));
        for none in ["", ":1883", "host:port", "host:99999", "user@host", "host/path"] {
            check(none, None);
        }
    }
}
