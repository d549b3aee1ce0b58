//! The bounds on every list and text, checked here as the API server checks them by the schema.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Aliases of a Thing or a Channel.
pub(crate) const ALIASES_MAX: usize = 4;
/// Connections of a Thing.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// Patterns of one action of a connection.
pub(crate) const SUBTOPICS_MAX: usize = 16;
/// Characters of a pattern.
pub(crate) const PATTERN_CHARS_MAX: usize = 1_024;
/// References to Secrets, and hashes, of a Thing.
pub(crate) const CREDENTIALS_MAX: usize = 4;
/// Characters of a name in a certificate.
pub(crate) const CERTIFICATE_CHARS_MAX: usize = 1_024;
/// Namespaces that a Channel lists.
pub(crate) const NAMESPACES_MAX: usize = 64;
/// Content types that a Channel admits.
pub(crate) const ADMIT_MAX: usize = 16;
/// Characters of a content type.
pub(crate) const CONTENT_TYPE_CHARS_MAX: usize = 255;
/// Bytes of a payload: what a RabbitMQ takes by default.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 16 * 1_024 * 1_024;
/// Characters of any other name.
pub(crate) const NAME_CHARS_MAX: usize = 253;
/// Characters of a time.
pub(crate) const TIME_CHARS_MAX: usize = 64;
/// Characters of a hash.
pub(crate) const SHA256_CHARS: usize = 64;
/// How long a previous key stays valid where nothing is said.
pub(crate) const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// How long a previous key may stay valid.
pub(crate) const OVERLAP_MAX: Duration = Duration::from_secs(720 * 3_600);

/// A value beyond its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, as `spec.connections[0].channel`.
    pub field: String,
    /// What the bound is. Never repeats the value.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Whether `text` is a DNS label: 1 to 63 of a-z, 0-9 and `-`, neither first nor last a `-`.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// Whether `text` is a DNS subdomain, as the names of most objects are: 1 to 253 of a-z, 0-9, `-` and `.`, with one of
/// a-z and 0-9 at either end.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= NAME_CHARS_MAX
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// A span of time as Kubernetes' Gateway API writes it (GEP-2257), `24h`, `90m`, `1h30m`: 1 to 4 whole numbers of at most
/// 5 digits, each with its unit `h`, `m`, `s` or `ms`.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let mut parts = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let known = matches!(&rest[digits..digits + unit], "h" | "m" | "s" | "ms");
        if !(1..=5).contains(&digits) || !known {
            return None;
        }
        (parts, rest) = (parts + 1, &rest[digits + unit..]);
    }
    // The parser knows more units and spellings, which the API server would refuse.
    if (1..=4).contains(&parts) { humantime::parse_duration(text).ok() } else { None }
}

/// Collects violations.
#[derive(Default)]
pub(crate) struct Check(pub(crate) Vec<Violation>);

impl Check {
    pub(crate) fn that(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.0.push(Violation { field: field.to_owned(), message: message.to_owned() });
        }
    }

    /// Where a span of time is given, it is one and within these bounds.
    pub(crate) fn span(&mut self, text: &Option<String>, bounds: RangeInclusive<Duration>, field: &str) {
        let fits = text.as_deref().is_none_or(|text| span(text).is_some_and(|span| bounds.contains(&span)));
        self.that(fits, field, "a span as 30s or 5m within its bounds is needed");
    }

    pub(crate) fn at_most(&mut self, count: usize, max: usize, field: &str) {
        self.that(count <= max, field, &format!("at most {max} items"));
    }

    pub(crate) fn label(&mut self, text: &str, field: &str) {
        self.that(is_dns_label(text), field, "a DNS label is needed: a-z, 0-9 and '-', at most 63, no dot");
    }

    pub(crate) fn name(&mut self, text: &str, field: &str) {
        let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count());
        self.that(fits, field, &format!("1 to {NAME_CHARS_MAX} characters are needed"));
    }

    pub(crate) fn aliases(&mut self, aliases: &[String]) {
        self.at_most(aliases.len(), ALIASES_MAX, "spec.aliases");
        for (index, alias) in aliases.iter().enumerate() {
            let legal = (1..=64).contains(&alias.len())
                && alias.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            self.that(legal, &format!("spec.aliases[{index}]"), "1 to 64 of A-Z, a-z, 0-9, '_' and '-' are needed");
        }
    }
}
