//! The forms in which a request shows a key.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use tidegate_model::{Credential, Refusal};

use crate::query;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request shows. Not `Debug`: it holds a key.
pub struct Shown {
    thing: Option<String>,
    key: Vec<u8>,
}

impl Shown {
    /// Reads `Authorization: <key>`, `Thing <key>`, `Bearer <key>` or Basic, else `?authorization=<key>`.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when none of them is there, or more than one that differ.
    pub fn read(headers: &HeaderMap, query: Option<&str>) -> Result<Self, Refusal> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::of_header(value.as_bytes()).ok_or(Refusal::Unauthenticated),
            (Some(_), Some(_)) => Err(Refusal::Unauthenticated),
            (None, _) => query::value(query, "authorization")
                .ok()
                .flatten()
                .map(|key| Self { thing: None, key: key.into_owned() })
                .ok_or(Refusal::Unauthenticated),
        }
    }

    //= RFC9110 11.4
    fn of_header(value: &[u8]) -> Option<Self> {
        let Some(space) = value.iter().position(|byte| *byte == b' ') else {
            return Some(Self { thing: None, key: value.to_vec() });
        };
        let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"basic") {
            return Self::of_basic(rest);
        }
        let known = [b"thing".as_slice(), b"bearer"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        // A key of the user's own may hold a space.
        Some(Self { thing: None, key: if known { rest } else { value }.to_vec() })
    }

    //= RFC7617 2
    fn of_basic(encoded: &[u8]) -> Option<Self> {
        let decoded = BASE64.decode(encoded).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
        Some(Self { thing: Some(user).filter(|user| !user.is_empty()), key: decoded[colon + 1..].to_vec() })
    }

    /// What it proves, if the table knows it.
    #[must_use]
    pub fn credential(&self) -> Credential<'_> {
        match &self.thing {
            Some(thing) => Credential::ThingKey { thing, key: &self.key },
            None => Credential::Key(&self.key),
        }
    }
}
