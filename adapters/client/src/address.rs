//! Where a message goes, spelled as each face has it.

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
        let mut path = format!("/channels/{}/messages", utf8_percent_encode(&self.channel, SEGMENT));
        for level in self.subtopic.split('/').filter(|level| !level.is_empty()) {
            path.push('/');
            path.extend(utf8_percent_encode(level, SEGMENT));
        }
        path
    }

    /// As a topic of MQTT, where empty levels are levels.
    #[must_use]
    pub fn topic(&self) -> String {
        let Self { channel, subtopic } = self;
        let slash = if subtopic.is_empty() { "" } else { "/" };
        format!("channels/{channel}/messages{slash}{subtopic}")
    }
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
}
