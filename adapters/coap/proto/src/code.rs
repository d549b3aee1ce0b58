//! The code of a message: what is asked for, or how it went.

use std::fmt;

/// Class and detail, as `4.04`: a method in class 0, an outcome in the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u8);

//= RFC7252 12.1.1, 12.1.2
#[expect(missing_docs, reason = "the standards' own names")]
impl Code {
    pub const EMPTY: Self = Self::new(0, 0);
    pub const GET: Self = Self::new(0, 1);
    pub const POST: Self = Self::new(0, 2);
    pub const PUT: Self = Self::new(0, 3);
    pub const DELETE: Self = Self::new(0, 4);
    pub const FETCH: Self = Self::new(0, 5);
    pub const PATCH: Self = Self::new(0, 6);
    pub const IPATCH: Self = Self::new(0, 7);
    pub const CREATED: Self = Self::new(2, 1);
    pub const DELETED: Self = Self::new(2, 2);
    pub const VALID: Self = Self::new(2, 3);
    pub const CHANGED: Self = Self::new(2, 4);
    pub const CONTENT: Self = Self::new(2, 5);
    pub const CONTINUE: Self = Self::new(2, 31);
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    pub const UNAUTHORIZED: Self = Self::new(4, 1);
    pub const BAD_OPTION: Self = Self::new(4, 2);
    pub const FORBIDDEN: Self = Self::new(4, 3);
    pub const NOT_FOUND: Self = Self::new(4, 4);
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    pub const NOT_ACCEPTABLE: Self = Self::new(4, 6);
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    pub const PRECONDITION_FAILED: Self = Self::new(4, 12);
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::new(4, 13);
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::new(4, 15);
    pub const UNPROCESSABLE_ENTITY: Self = Self::new(4, 22);
    pub const TOO_MANY_REQUESTS: Self = Self::new(4, 29);
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(5, 0);
    pub const NOT_IMPLEMENTED: Self = Self::new(5, 1);
    pub const BAD_GATEWAY: Self = Self::new(5, 2);
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);
    pub const GATEWAY_TIMEOUT: Self = Self::new(5, 4);
    pub const PROXYING_NOT_SUPPORTED: Self = Self::new(5, 5);
}

impl Code {
    /// Of a class of three bits and a detail of five; higher bits are cut off.
    //= RFC7252 3
    #[must_use]
    pub const fn new(class: u8, detail: u8) -> Self {
        Self(class << 5 | (detail & 0x1f))
    }

    /// As the byte that it is.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// 0 to 7.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// 0 to 31.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Whether it is a method, known or not.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.detail() != 0
    }

    /// Whether it says how a request went. Of the classes, 1, 6 and 7 are reserved.
    //= RFC7252 3, 4.2
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2..=5)
    }

    /// Whether it went well.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
