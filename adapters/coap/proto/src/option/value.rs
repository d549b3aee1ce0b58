//! Options by what they mean.

use super::{OptionNumber, Options, uint};

/// What a payload is, by number.
//= RFC7252 12.3
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentFormat(pub u16);

#[expect(missing_docs, reason = "the registry's own names")]
impl ContentFormat {
    pub const TEXT: Self = Self(0);
    pub const LINK_FORMAT: Self = Self(40);
    pub const OCTETS: Self = Self(42);
    pub const JSON: Self = Self(50);
    pub const CBOR: Self = Self(60);
    pub const SENML_JSON: Self = Self(110);
    pub const SENML_CBOR: Self = Self(112);
}

/// Which part of a body a payload is.
//= RFC7959 2.2
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// How many blocks of this size come before it.
    pub number: u32,
    /// Whether there are more behind it.
    pub more: bool,
    /// The exponent of its size: 0 to 6.
    pub exponent: u8,
}

impl Block {
    /// Largest exponent: 1,024 bytes. 7 is reserved.
    pub const EXPONENT_MAX: u8 = 6;
    /// Largest number.
    pub const NUMBER_MAX: u32 = (1 << 20) - 1;

    /// Of the number that stands in the option; nothing when its size is the reserved one or it has more than 24 bits.
    //= RFC7959 2.2
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        let exponent = value.to_be_bytes()[3] & 0b111;
        if exponent > Self::EXPONENT_MAX || value >> 24 != 0 {
            return None;
        }
        Some(Self { number: value >> 4, more: value & 0b1000 != 0, exponent })
    }

    /// Of what stands in the option.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        if value.len() <= 3 { Self::new(uint(value)) } else { None }
    }

    /// The number that stands in the option.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.number << 4 | (self.more as u32) << 3 | self.exponent as u32
    }

    /// Bytes of a block: 16 to 1,024.
    #[must_use]
    pub const fn bytes(self) -> usize {
        16 << self.exponent
    }

    /// Bytes before it.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.number as usize * self.bytes()
    }
}

/// What is asked for in a GET with Observe.
//= RFC7641 2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observe {
    /// To be told of what comes, beside being told what is.
    Register,
    /// Not to be told any more.
    Deregister,
}

/// Which outcomes a client does not want to be told of, as bits: 2 for 2.xx, 8 for 4.xx, 16 for 5.xx.
//= RFC7967 2.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoResponse(pub u8);

impl NoResponse {
    /// Whether it wants none of that class.
    #[must_use]
    pub const fn has(self, class: u8) -> bool {
        class >= 1 && class <= 8 && self.0 & (1 << (class - 1)) != 0
    }
}

/// What they mean, one by one. An elective option whose value is not legal counts as not there.
//= RFC7252 5.4.3
impl Options {
    /// The parts of the path, not decoded further: a `/` in one is no separator.
    //= RFC7252 5.10.1, 6.5
    pub fn uri_path(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::URI_PATH)
    }

    /// The arguments behind the path.
    //= RFC7252 5.10.1, 6.5
    pub fn uri_query(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::URI_QUERY)
    }

    /// What the payload is.
    //= RFC7252 5.10.3
    #[must_use]
    pub fn content_format(&self) -> Option<ContentFormat> {
        self.short(OptionNumber::CONTENT_FORMAT).map(ContentFormat)
    }

    /// What the payload of the answer is to be.
    //= RFC7252 5.10.4
    #[must_use]
    pub fn accept(&self) -> Option<ContentFormat> {
        self.short(OptionNumber::ACCEPT).map(ContentFormat)
    }

    /// How long a representation is fresh, or when a refused request is worth another try, in seconds.
    //= RFC7252 5.10.5
    #[must_use]
    pub fn max_age(&self) -> Option<u32> {
        self.uint(OptionNumber::MAX_AGE)
    }

    /// Whether a request begins an observation or ends one; other values mean nothing.
    //= RFC7641 2
    #[must_use]
    pub fn observe(&self) -> Option<Observe> {
        match self.uint(OptionNumber::OBSERVE)? {
            0 => Some(Observe::Register),
            1 => Some(Observe::Deregister),
            _ => None,
        }
    }

    /// The names of representations.
    //= RFC7252 5.10.6
    pub fn etags(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::ETAG).filter(|tag| OptionNumber::ETAG.admits(tag.len()))
    }

    /// What the resource has to be for the request to be done.
    //= RFC7252 5.10.8.1
    pub fn if_match(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::IF_MATCH)
    }

    /// Whether the request is to be done only where nothing is yet.
    //= RFC7252 5.10.8.2
    #[must_use]
    pub fn if_none_match(&self) -> bool {
        self.first(OptionNumber::IF_NONE_MATCH).is_some()
    }

    /// Where what was made is.
    //= RFC7252 5.10.7
    pub fn location_path(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::LOCATION_PATH)
    }

    /// The arguments of where it is.
    //= RFC7252 5.10.7
    pub fn location_query(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::LOCATION_QUERY)
    }

    /// Whether it is for a proxy.
    //= RFC7252 5.10.2
    #[must_use]
    pub fn asks_proxy(&self) -> bool {
        [OptionNumber::PROXY_URI, OptionNumber::PROXY_SCHEME].iter().any(|number| self.values(*number).next().is_some())
    }

    /// Which block of its body the request brings, or the response is about. In a request that an endpoint lets through it is
    /// legal where it is there.
    //= RFC7959 2.1
    #[must_use]
    pub fn block1(&self) -> Option<Block> {
        self.first(OptionNumber::BLOCK1).and_then(Block::of)
    }

    /// Which block of its body the response is, or is to be.
    //= RFC7959 2.1
    #[must_use]
    pub fn block2(&self) -> Option<Block> {
        self.first(OptionNumber::BLOCK2).and_then(Block::of)
    }

    /// How many bytes the body of the request has.
    //= RFC7959 4
    #[must_use]
    pub fn size1(&self) -> Option<u32> {
        self.uint(OptionNumber::SIZE1)
    }

    /// How many bytes the body of the response has; in a request, whether that is wanted.
    //= RFC7959 4
    #[must_use]
    pub fn size2(&self) -> Option<u32> {
        self.uint(OptionNumber::SIZE2)
    }

    /// What shows that who asks can be reached where it says it is.
    //= RFC9175 2.2.1
    #[must_use]
    pub fn echo(&self) -> Option<&[u8]> {
        self.first(OptionNumber::ECHO)
    }

    /// What tells bodies of one request from another's.
    //= RFC9175 3.2.1
    pub fn request_tags(&self) -> impl Iterator<Item = &[u8]> {
        self.values(OptionNumber::REQUEST_TAG)
    }

    /// Which outcomes are not wanted.
    //= RFC7967 2
    #[must_use]
    pub fn no_response(&self) -> NoResponse {
        let value = self.uint(OptionNumber::NO_RESPONSE).and_then(|value| u8::try_from(value).ok());
        NoResponse(value.unwrap_or(0))
    }

    fn short(&self, number: OptionNumber) -> Option<u16> {
        self.uint(number).and_then(|value| u16::try_from(value).ok())
    }
}
