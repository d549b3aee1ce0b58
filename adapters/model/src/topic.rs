//! Topics: one parser, three spellings.
//!
//! | spelling | `a`, then `b.c`, then an empty level |
//! |---|---|
//! | URL path | cannot be said: empty levels collapse there |
//! | MQTT | `channels/<channel>/messages/a/b.c/` |
//! | AMQP routing key | `channels.<namespace>.<name>.a.b%2Ec.` |
//!
//! A [`Subtopic`] is the levels below `messages`. It is kept in the MQTT spelling, each level behind its slash, so that
//! no level at all (``) and one empty level (`/`) differ.

use std::borrow::Cow;
use std::fmt;

use percent::{decode_segment, encode_segment};

use crate::name::{ChannelId, ChannelRef};
use crate::refusal::Refusal;

mod percent;

/// The first level of every topic.
const ROOT: &str = "channels";
/// The level between the channel and the subtopic.
const MESSAGES: &str = "messages";

/// Why a subtopic or a filter is not a legal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// A percent sign without two hex digits, or octets that are not UTF-8.
    #[error("not UTF-8 after percent-decoding")]
    NotText,
    /// U+0000 or another control character.
    #[error("a level holds a control character")]
    ControlCharacter,
    /// A slash inside a level, which no other face could say.
    #[error("a level holds a slash")]
    SlashInLevel,
    /// A wildcard where a message is published, or one that does not fill its level.
    #[error("a wildcard is out of place")]
    Wildcard,
    /// A filter for the rest of the levels that is not the last level.
    #[error("the wildcard for all remaining levels is not the last level")]
    RestNotLast,
    /// A filter whose channel is a wildcard.
    #[error("a filter cannot span channels")]
    SpansChannels,
    /// More bytes than [`TopicLimits::topic_bytes_max`].
    #[error("too many bytes")]
    TooLong,
    /// More levels than [`TopicLimits::levels_max`].
    #[error("too many levels")]
    TooDeep,
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        Self::MalformedTopic(error)
    }
}

/// Bounds on what a device may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// Bytes of the whole topic in its MQTT spelling.
    pub topic_bytes_max: usize,
    /// Levels below `messages`.
    pub levels_max: usize,
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self { topic_bytes_max: 65_535, levels_max: 200 }
    }
}

/// Which characters are wildcards where a topic or filter is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wildcards {
    /// A URL face: `+` and `*`, `#` and `>`.
    Url,
    /// MQTT: `+` and `#` alone.
    Mqtt,
}

impl Wildcards {
    pub(crate) fn is_single(self, level: &str) -> bool {
        level == "+" || (self == Self::Url && level == "*")
    }

    pub(crate) fn is_rest(self, level: &str) -> bool {
        level == "#" || (self == Self::Url && level == ">")
    }

    /// Whether the level is, or on any face would hold, a wildcard: no message can be published there.
    fn is_reserved(self, level: &str) -> bool {
        level.contains(['+', '#']) || self.is_single(level) || self.is_rest(level)
    }
}

/// The levels below `messages` of one topic; no wildcards.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Subtopic(Box<str>);

impl Subtopic {
    /// The topic that is the channel itself.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads levels joined by `/`, as `x-subtopic` has them: the text of [`Subtopic::text`].
    ///
    /// # Errors
    /// [`TopicError`] for what no device may publish.
    pub fn parse(text: &str, limits: &TopicLimits) -> Result<Self, TopicError> {
        from_levels(text.split('/').map(|l| Ok(Cow::Borrowed(l))), Wildcards::Mqtt, limits)
    }

    /// The levels joined by `/`, or `None` where there is no level.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.strip_prefix('/')
    }

    /// The levels in order.
    pub fn levels(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split('/').skip(1)
    }

    pub(crate) fn suffix(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subtopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn from_levels<'a>(
    levels: impl Iterator<Item = Result<Cow<'a, str>, TopicError>>,
    wildcards: Wildcards,
    limits: &TopicLimits,
) -> Result<Subtopic, TopicError> {
    let mut suffix = String::new();
    for (depth, level) in levels.enumerate() {
        let level = level?;
        check_level(&level)?;
        if wildcards.is_reserved(&level) {
            return Err(TopicError::Wildcard);
        }
        push_level(&mut suffix, &level, depth, limits)?;
    }
    Ok(Subtopic(suffix.into()))
}

/// Appends a level that was found legal, within the limits.
pub(crate) fn push_level(
    suffix: &mut String,
    level: &str,
    depth: usize,
    limits: &TopicLimits,
) -> Result<(), TopicError> {
    if depth >= limits.levels_max {
        return Err(TopicError::TooDeep);
    }
    if suffix.len() + level.len() >= limits.topic_bytes_max {
        return Err(TopicError::TooLong);
    }
    suffix.push('/');
    suffix.push_str(level);
    Ok(())
}

//= MQTT-1.5.4-2
pub(crate) fn check_level(level: &str) -> Result<(), TopicError> {
    if level.contains('/') {
        return Err(TopicError::SlashInLevel);
    }
    if level.chars().any(char::is_control) {
        return Err(TopicError::ControlCharacter);
    }
    Ok(())
}

/// Where a message goes, as the device wrote it: a channel, not resolved yet, and a subtopic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// The channel as the device wrote it.
    pub channel: ChannelRef,
    /// The levels below `messages`.
    pub subtopic: Subtopic,
}

impl Topic {
    /// Reads `/channels/<channel>/messages[/<level>…]` from the path of a URL, still percent-encoded.
    /// Each segment is decoded once; empty levels collapse.
    ///
    /// # Errors
    /// [`Refusal::UnknownPath`] when it is no channel's path, [`Refusal::MalformedTopic`] when its subtopic is not legal.
    pub fn parse_path(path: &str, limits: &TopicLimits) -> Result<Self, Refusal> {
        let (channel, levels) = split_path(path)?;
        let channel = ChannelRef::parse(&channel).ok_or(Refusal::UnknownPath)?;
        let subtopic = from_levels(path_levels(levels), Wildcards::Url, limits)?;
        Self { channel, subtopic }.within(limits)
    }

    /// Reads the same path whose parts came one by one, not encoded: a `/` in one separates nothing.
    ///
    /// # Errors
    /// As [`Topic::parse_path`].
    //= RFC7252 6.4
    pub fn parse_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>, limits: &TopicLimits) -> Result<Self, Refusal> {
        let (channel, levels) = split_parts(parts)?;
        let channel = ChannelRef::parse(channel).ok_or(Refusal::UnknownPath)?;
        let subtopic = from_levels(levels, Wildcards::Url, limits)?;
        Self { channel, subtopic }.within(limits)
    }

    /// Reads an MQTT topic name, `channels/<channel>/messages[/<level>…]`. Every level counts, empty ones too.
    ///
    /// # Errors
    /// As [`Topic::parse_path`].
    //= MQTT5 4.7.3-4
    //= MQTT3 4.7.3-4
    pub fn parse_mqtt(name: &str, limits: &TopicLimits) -> Result<Self, Refusal> {
        let (channel, levels) = split_mqtt(name)?;
        let channel = ChannelRef::parse(channel).ok_or(Refusal::UnknownPath)?;
        let subtopic = from_levels(mqtt_levels(levels), Wildcards::Mqtt, limits)?;
        Self { channel, subtopic }.within(limits)
    }

    /// Of a channel and levels joined by `/` as a URL face has them once they are decoded: empty levels collapse, and `*` and
    /// `>` are wildcards.
    ///
    /// # Errors
    /// [`Refusal::MalformedTopic`].
    pub fn parse_url(channel: ChannelRef, levels: &str, limits: &TopicLimits) -> Result<Self, Refusal> {
        let levels = levels.split('/').filter(|level| !level.is_empty());
        let subtopic = from_levels(levels.map(|level| Ok(Cow::Borrowed(level))), Wildcards::Url, limits)?;
        Self { channel, subtopic }.within(limits)
    }

    fn within(self, limits: &TopicLimits) -> Result<Self, Refusal> {
        check_length(&self.channel, self.subtopic.suffix(), limits)?;
        Ok(self)
    }

    /// The MQTT spelling.
    #[must_use]
    pub fn to_mqtt(&self) -> String {
        mqtt_spelling(&self.channel, self.subtopic.suffix())
    }

    /// The path of a URL, percent-encoded, or `None` where no path says this topic: an empty level, or `*` or `>` alone.
    #[must_use]
    pub fn to_path(&self) -> Option<String> {
        let mut path = format!("/{ROOT}/{}/{MESSAGES}", self.channel.as_str());
        for level in self.subtopic.levels() {
            if level.is_empty() || level == "*" || level == ">" {
                return None;
            }
            path.push('/');
            encode_segment(level, &mut path);
        }
        Some(path)
    }
}

pub(crate) fn check_length(channel: &ChannelRef, suffix: &str, limits: &TopicLimits) -> Result<(), TopicError> {
    let bytes = ROOT.len() + 1 + channel.as_str().len() + 1 + MESSAGES.len() + suffix.len();
    if bytes > limits.topic_bytes_max { Err(TopicError::TooLong) } else { Ok(()) }
}

pub(crate) fn mqtt_spelling(channel: &ChannelRef, suffix: &str) -> String {
    [ROOT, "/", channel.as_str(), "/", MESSAGES, suffix].concat()
}

/// The decoded channel segment and the raw rest of a URL path.
pub(crate) fn split_path(path: &str) -> Result<(Cow<'_, str>, Option<&str>), Refusal> {
    let mut segments = path.strip_prefix('/').ok_or(Refusal::UnknownPath)?.splitn(4, '/');
    let mut next = || segments.next().ok_or(Refusal::UnknownPath);
    let decoded = |raw| decode_segment(raw).map_err(|_| Refusal::UnknownPath);
    let (root, channel, messages) = (decoded(next()?)?, decoded(next()?)?, decoded(next()?)?);
    if root != ROOT || messages != MESSAGES {
        return Err(Refusal::UnknownPath);
    }
    Ok((channel, segments.next()))
}

/// The levels of the raw rest of a URL path; an empty one is none.
pub(crate) fn path_levels(rest: Option<&str>) -> impl Iterator<Item = Result<Cow<'_, str>, TopicError>> {
    rest.unwrap_or_default().split('/').filter(|raw| !raw.is_empty()).map(decode_segment)
}

/// The channel and the levels of a URL path whose parts came one by one; an empty level is none.
pub(crate) fn split_parts<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(&'a str, impl Iterator<Item = Result<Cow<'a, str>, TopicError>>), Refusal> {
    let mut parts = parts.into_iter();
    let mut next = || parts.next().and_then(|part| str::from_utf8(part).ok()).ok_or(Refusal::UnknownPath);
    let (root, channel, messages) = (next()?, next()?, next()?);
    if root != ROOT || messages != MESSAGES {
        return Err(Refusal::UnknownPath);
    }
    let text = |part| str::from_utf8(part).map(Cow::Borrowed).map_err(|_| TopicError::NotText);
    Ok((channel, parts.filter(|part| !part.is_empty()).map(text)))
}

/// The channel and the rest of an MQTT topic name or filter.
pub(crate) fn split_mqtt(name: &str) -> Result<(&str, Option<&str>), Refusal> {
    let mut parts = name.splitn(4, '/');
    let (root, channel, messages) = (parts.next(), parts.next(), parts.next());
    match (root, channel, messages) {
        (Some(ROOT), Some(channel), Some(MESSAGES)) => Ok((channel, parts.next())),
        _ => Err(Refusal::UnknownPath),
    }
}

/// The levels of the rest of an MQTT topic; an empty one counts.
pub(crate) fn mqtt_levels(rest: Option<&str>) -> impl Iterator<Item = Result<Cow<'_, str>, TopicError>> {
    rest.into_iter().flat_map(|rest| rest.split('/')).map(|level| Ok(Cow::Borrowed(level)))
}

/// An AMQP routing key or binding key, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutingKey {
    key: String,
    whole: bool,
}

impl RoutingKey {
    /// Longest AMQP short string, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// `channels.<namespace>.<name>` and the levels, each percent-escaped; of a topic that does not fit, the longest
    /// prefix of whole levels.
    #[must_use]
    pub fn new(channel: &ChannelId, subtopic: &Subtopic) -> Self {
        let mut key = Self::of_channel(channel);
        let whole = subtopic.levels().all(|level| push_word(&mut key, level));
        Self { key, whole }
    }

    /// The key of the channel itself, which is a prefix of all of its topics' keys.
    pub(crate) fn of_channel(channel: &ChannelId) -> String {
        [ROOT, ".", channel.as_str()].concat()
    }

    pub(crate) const fn from_parts(key: String, whole: bool) -> Self {
        Self { key, whole }
    }

    /// The key as AMQP has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// Whether every level is in the key: `false` where the topic was longer than a key can say.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Reads a whole routing key back.
    ///
    /// # Errors
    /// [`Refusal::UnknownPath`] when it is not under a channel, [`Refusal::MalformedTopic`] when a word is not a level's.
    pub fn parse(key: &str, limits: &TopicLimits) -> Result<(ChannelId, Subtopic), Refusal> {
        let mut words = key.split('.');
        let (root, namespace, name) = (words.next(), words.next(), words.next());
        let (Some(ROOT), Some(namespace), Some(name)) = (root, namespace, name) else {
            return Err(Refusal::UnknownPath);
        };
        let channel = ChannelId::new(namespace, name).map_err(|_| Refusal::UnknownPath)?;
        let subtopic = from_levels(words.map(percent::unescape_word), Wildcards::Mqtt, limits)?;
        Ok((channel, subtopic))
    }
}

/// Appends a level as a word, unless the key would be too long.
pub(crate) fn push_word(key: &mut String, level: &str) -> bool {
    let before = key.len();
    key.push('.');
    percent::escape_word(level, key);
    let fits = key.len() <= RoutingKey::BYTES_MAX;
    if !fits {
        key.truncate(before);
    }
    fits
}

#[cfg(test)]
mod tests;
