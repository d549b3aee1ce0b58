//! Topic names and filters, as far as the standard alone decides.

/// Whether a text is the name of a topic, as a message is published to.
//= MQTT5 3.3.2-2, 4.7.0-1, 4.7.1-1, 4.7.3-1
//= MQTT3 3.3.2-2, 4.7.1-1, 4.7.3-1
#[must_use]
pub fn is_topic_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#'])
}

/// Whether a text is a topic filter, as one subscribes to.
//= MQTT5 4.7.1-2, 4.7.3-1
//= MQTT3 4.7.1-2, 4.7.1-3
#[must_use]
pub fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let legal = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !level.contains(['+', '#']),
        };
        if !legal {
            return false;
        }
    }
    !text.is_empty()
}

/// Whether a filter is that of a shared subscription: `$share/<group>/<filter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared<'a> {
    /// It is not.
    No,
    /// It is.
    Of {
        /// Who share it.
        group: &'a str,
        /// What they get one of.
        filter: &'a str,
    },
    /// It begins as one, and no group or no filter follows.
    Malformed,
}

/// What a filter says of sharing.
//= MQTT5 4.8.2-1
//= MQTT5 4.8.2-2
#[must_use]
pub fn shared(text: &str) -> Shared<'_> {
    let Some(rest) = text.strip_prefix("$share") else { return Shared::No };
    let Some(rest) = rest.strip_prefix('/') else {
        return if rest.is_empty() { Shared::Malformed } else { Shared::No };
    };
    match rest.split_once('/') {
        Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) && is_filter(filter) => {
            Shared::Of { group, filter }
        }
        Some(_) | None => Shared::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_alone_in_a_level_and_a_hash_at_the_end() {
        for legal in ["a", "/", "a//b", "+", "#", "a/+/b", "a/#", "+/+/#", "$SYS/#", " "] {
            assert!(is_filter(legal), "{legal}");
        }
        for wrong in ["", "a#", "a/#/b", "#/", "a+/b", "+a", "a/b+", "##", "++"] {
            assert!(!is_filter(wrong), "{wrong}");
        }
        assert!(is_topic_name("a//b") && !is_topic_name("a/+") && !is_topic_name("a#") && !is_topic_name(""));
    }

    #[test]
    fn a_shared_subscription_has_a_group_and_a_filter() {
        assert_eq!(shared("$share/g/a/+"), Shared::Of { group: "g", filter: "a/+" });
        assert_eq!(shared("$share/g//"), Shared::Of { group: "g", filter: "/" });
        assert_eq!((shared("a/$share"), shared("$shared/a")), (Shared::No, Shared::No));
        for wrong in ["$share", "$share/", "$share//a", "$share/g", "$share/g/", "$share/g+/a", "$share/g/a#"] {
            assert_eq!(shared(wrong), Shared::Malformed, "{wrong}");
        }
    }
}
