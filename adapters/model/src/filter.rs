//! Topic filters: what a device subscribes to and what a grant allows.
//!
//! Kept in the MQTT spelling whatever face it came from: `+` is one level, a trailing `#` is the rest including the
//! parent. A level that is `*` or `>` is a wildcard only where it was read from a URL.

use std::fmt;

use crate::name::{ChannelId, ChannelRef};
use crate::refusal::Refusal;
use crate::topic::{
    RoutingKey, Subtopic, TopicError, TopicLimits, Wildcards, check_length, check_level, mqtt_levels, mqtt_spelling,
    path_levels, push_level, push_word, split_mqtt, split_parts, split_path,
};

/// A pattern over the levels below `messages`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubtopicFilter(Box<str>);

impl SubtopicFilter {
    /// Reads levels joined by `/` with MQTT's wildcards, as a grant's `subtopics` have them.
    ///
    /// # Errors
    /// [`TopicError`] for what is no filter.
    pub fn parse(text: &str, limits: &TopicLimits) -> Result<Self, TopicError> {
        from_levels(mqtt_levels(Some(text)), Wildcards::Mqtt, limits)
    }

    /// The pattern that matches every topic of a channel.
    #[must_use]
    pub fn everything() -> Self {
        Self("/#".into())
    }

    /// The pattern in the MQTT spelling, or `None` where it is the channel's own topic alone.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.strip_prefix('/')
    }

    /// The levels in order, wildcards as `+` and `#`.
    pub fn levels(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split('/').skip(1)
    }

    /// Whether `subtopic` is among what the pattern describes.
    //= MQTT-4.7.1-2
    //= MQTT-4.7.1-3
    #[must_use]
    pub fn matches(&self, subtopic: &Subtopic) -> bool {
        let mut levels = subtopic.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (literal, Some(level)) if literal == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic that `other` matches is matched by this pattern too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let mut levels = other.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                (_, Some("#") | None) => return false,
                ("+", Some(_)) => {}
                (literal, Some(level)) if literal == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// The AMQP binding key under `channel`. Of a pattern that does not fit into 255 bytes, a wider one that does: the
    /// messages that match are then picked by [`SubtopicFilter::matches`].
    #[must_use]
    pub fn binding_key(&self, channel: &ChannelId) -> RoutingKey {
        let mut key = RoutingKey::of_channel(channel);
        for level in self.levels() {
            let word_at = key.len();
            match level {
                "#" => key.push_str(".#"),
                "+" => key.push_str(".*"),
                literal => {
                    if !push_word(&mut key, literal) {
                        return Self::widened(key, word_at);
                    }
                }
            }
            if key.len() > RoutingKey::BYTES_MAX {
                return Self::widened(key, word_at);
            }
        }
        RoutingKey::from_parts(key, true)
    }

    /// Cuts the key at `word_at` or at an earlier word so that `.#` fits behind it.
    fn widened(mut key: String, word_at: usize) -> RoutingKey {
        key.truncate(word_at);
        while key.len() + 2 > RoutingKey::BYTES_MAX {
            let cut = key.rfind('.').expect("a key begins with three words");
            key.truncate(cut);
        }
        key.push_str(".#");
        RoutingKey::from_parts(key, false)
    }

    fn suffix(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubtopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn from_levels<'a>(
    levels: impl Iterator<Item = Result<std::borrow::Cow<'a, str>, TopicError>>,
    wildcards: Wildcards,
    limits: &TopicLimits,
) -> Result<SubtopicFilter, TopicError> {
    let mut suffix = String::new();
    let mut ended = false;
    for (depth, level) in levels.enumerate() {
        let level = level?;
        check_level(&level)?;
        if ended {
            return Err(TopicError::RestNotLast);
        }
        let canonical = if wildcards.is_single(&level) {
            "+"
        } else if wildcards.is_rest(&level) {
            ended = true;
            "#"
        } else if level.contains(['+', '#']) {
            return Err(TopicError::Wildcard);
        } else {
            &level
        };
        push_level(&mut suffix, canonical, depth, limits)?;
    }
    Ok(SubtopicFilter(suffix.into()))
}

/// What a device subscribes to, as it wrote it: one channel, not resolved yet, and a pattern below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    /// The channel as the device wrote it; never a wildcard.
    pub channel: ChannelRef,
    /// The pattern over the levels below `messages`.
    pub subtopic: SubtopicFilter,
}

impl TopicFilter {
    /// Reads `/channels/<channel>/messages[/<filter>]` from the path of a URL, still percent-encoded. There `*` says the
    /// same as `+` and `>` the same as `#`; empty levels collapse.
    ///
    /// # Errors
    /// [`Refusal::UnknownPath`] when it is no channel's path, [`Refusal::MalformedTopic`] when the filter is not legal.
    pub fn parse_path(path: &str, limits: &TopicLimits) -> Result<Self, Refusal> {
        let (channel, levels) = split_path(path)?;
        let channel = channel_of_filter(&channel, Wildcards::Url)?;
        let subtopic = from_levels(path_levels(levels), Wildcards::Url, limits)?;
        check_length(&channel, subtopic.suffix(), limits)?;
        Ok(Self { channel, subtopic })
    }

    /// Reads the same path whose parts came one by one, not encoded: a `/` in one separates nothing.
    ///
    /// # Errors
    /// As [`TopicFilter::parse_path`].
    //= RFC7252 6.4
    pub fn parse_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>, limits: &TopicLimits) -> Result<Self, Refusal> {
        let (channel, levels) = split_parts(parts)?;
        let channel = channel_of_filter(channel, Wildcards::Url)?;
        let subtopic = from_levels(levels, Wildcards::Url, limits)?;
        check_length(&channel, subtopic.suffix(), limits)?;
        Ok(Self { channel, subtopic })
    }

    /// Reads an MQTT topic filter. A shared subscription's `$share/<group>/` is taken off before.
    ///
    /// # Errors
    /// As [`TopicFilter::parse_path`].
    pub fn parse_mqtt(filter: &str, limits: &TopicLimits) -> Result<Self, Refusal> {
        let (channel, levels) = split_mqtt(filter)?;
        let channel = channel_of_filter(channel, Wildcards::Mqtt)?;
        let subtopic = from_levels(mqtt_levels(levels), Wildcards::Mqtt, limits)?;
        check_length(&channel, subtopic.suffix(), limits)?;
        Ok(Self { channel, subtopic })
    }

    /// The MQTT spelling.
    #[must_use]
    pub fn to_mqtt(&self) -> String {
        mqtt_spelling(&self.channel, self.subtopic.suffix())
    }
}

fn channel_of_filter(text: &str, wildcards: Wildcards) -> Result<ChannelRef, Refusal> {
    if wildcards.is_single(text) || wildcards.is_rest(text) {
        return Err(TopicError::SpansChannels.into());
    }
    ChannelRef::parse(text).ok_or(Refusal::UnknownPath)
}

#[cfg(test)]
mod tests;
