//! What is known of each option by its number, and what every number says by itself.

use std::fmt;

/// The number of an option.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionNumber(pub u16);

/// What the values of an option are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing.
    Empty,
    /// Bytes.
    Opaque,
    /// A number.
    Uint,
    /// UTF-8.
    Text,
}

/// What a standard says of an option.
struct Definition {
    number: OptionNumber,
    name: &'static str,
    format: Format,
    bytes_min: usize,
    bytes_max: usize,
    is_repeatable: bool,
}

//= RFC7252 5.10
//= RFC7641 2
//= RFC7959 2.1, 4
//= RFC7967 2
//= RFC9175 2.2.1, 3.2.1
#[expect(missing_docs, reason = "the standards' own names")]
impl OptionNumber {
    pub const IF_MATCH: Self = Self(1);
    pub const URI_HOST: Self = Self(3);
    pub const ETAG: Self = Self(4);
    pub const IF_NONE_MATCH: Self = Self(5);
    pub const OBSERVE: Self = Self(6);
    pub const URI_PORT: Self = Self(7);
    pub const LOCATION_PATH: Self = Self(8);
    pub const OSCORE: Self = Self(9);
    pub const URI_PATH: Self = Self(11);
    pub const CONTENT_FORMAT: Self = Self(12);
    pub const MAX_AGE: Self = Self(14);
    pub const URI_QUERY: Self = Self(15);
    pub const HOP_LIMIT: Self = Self(16);
    pub const ACCEPT: Self = Self(17);
    pub const LOCATION_QUERY: Self = Self(20);
    pub const BLOCK2: Self = Self(23);
    pub const BLOCK1: Self = Self(27);
    pub const SIZE2: Self = Self(28);
    pub const PROXY_URI: Self = Self(35);
    pub const PROXY_SCHEME: Self = Self(39);
    pub const SIZE1: Self = Self(60);
    pub const ECHO: Self = Self(252);
    pub const NO_RESPONSE: Self = Self(258);
    pub const REQUEST_TAG: Self = Self(292);
}

const DEFINITIONS: [Definition; 24] = [
    once(OptionNumber::URI_HOST, "Uri-Host", Format::Text, 1, 255),
    once(OptionNumber::IF_NONE_MATCH, "If-None-Match", Format::Empty, 0, 0),
    once(OptionNumber::OBSERVE, "Observe", Format::Uint, 0, 3),
    once(OptionNumber::URI_PORT, "Uri-Port", Format::Uint, 0, 2),
    once(OptionNumber::OSCORE, "OSCORE", Format::Opaque, 0, 255),
    once(OptionNumber::CONTENT_FORMAT, "Content-Format", Format::Uint, 0, 2),
    once(OptionNumber::MAX_AGE, "Max-Age", Format::Uint, 0, 4),
    once(OptionNumber::HOP_LIMIT, "Hop-Limit", Format::Uint, 1, 1),
    once(OptionNumber::ACCEPT, "Accept", Format::Uint, 0, 2),
    once(OptionNumber::BLOCK2, "Block2", Format::Uint, 0, 3),
    once(OptionNumber::BLOCK1, "Block1", Format::Uint, 0, 3),
    once(OptionNumber::SIZE2, "Size2", Format::Uint, 0, 4),
    once(OptionNumber::PROXY_URI, "Proxy-Uri", Format::Text, 1, 1034),
    once(OptionNumber::PROXY_SCHEME, "Proxy-Scheme", Format::Text, 1, 255),
    once(OptionNumber::SIZE1, "Size1", Format::Uint, 0, 4),
    once(OptionNumber::ECHO, "Echo", Format::Opaque, 1, 40),
    once(OptionNumber::NO_RESPONSE, "No-Response", Format::Uint, 0, 1),
    often(OptionNumber::IF_MATCH, "If-Match", Format::Opaque, 0, 8),
    often(OptionNumber::ETAG, "ETag", Format::Opaque, 1, 8),
    often(OptionNumber::LOCATION_PATH, "Location-Path", Format::Text, 0, 255),
    often(OptionNumber::URI_PATH, "Uri-Path", Format::Text, 0, 255),
    often(OptionNumber::URI_QUERY, "Uri-Query", Format::Text, 0, 255),
    often(OptionNumber::LOCATION_QUERY, "Location-Query", Format::Text, 0, 255),
    often(OptionNumber::REQUEST_TAG, "Request-Tag", Format::Opaque, 0, 8),
];

const fn once(number: OptionNumber, name: &'static str, format: Format, min: usize, max: usize) -> Definition {
    Definition { number, name, format, bytes_min: min, bytes_max: max, is_repeatable: false }
}

const fn often(number: OptionNumber, name: &'static str, format: Format, min: usize, max: usize) -> Definition {
    Definition { number, name, format, bytes_min: min, bytes_max: max, is_repeatable: true }
}

impl OptionNumber {
    /// Whether who does not know it may not go on.
    //= RFC7252 5.4.1, 5.4.6
    #[must_use]
    pub const fn is_critical(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether a proxy that does not know it may not forward it.
    //= RFC7252 5.4.2, 5.4.6
    #[must_use]
    pub const fn is_unsafe(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether requests that differ in it alone are the same request; of no meaning where it is unsafe.
    //= RFC7252 5.4.2, 5.4.6
    #[must_use]
    pub const fn is_no_cache_key(self) -> bool {
        self.0 & 0x1e == 0x1c
    }

    /// Whether there may be more than one of it. What is not known might be.
    //= RFC7252 5.4.5
    #[must_use]
    pub fn is_repeatable(self) -> bool {
        self.definition().is_none_or(|definition| definition.is_repeatable)
    }

    /// Whether a value of so many bytes is one of it. What is not known has no bounds.
    //= RFC7252 5.4.3
    #[must_use]
    pub fn admits(self, bytes: usize) -> bool {
        self.definition().is_none_or(|definition| (definition.bytes_min..=definition.bytes_max).contains(&bytes))
    }

    /// What its values are, where it is known.
    #[must_use]
    pub fn format(self) -> Option<Format> {
        self.definition().map(|definition| definition.format)
    }

    fn definition(self) -> Option<&'static Definition> {
        DEFINITIONS.iter().find(|definition| definition.number == self)
    }
}

impl fmt::Debug for OptionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.definition() {
            Some(definition) => f.write_str(definition.name),
            None => write!(f, "{}", self.0),
        }
    }
}
