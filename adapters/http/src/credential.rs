//! How a request says who it is from: the forms in which it shows a key, and the certificate of its connection.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use tidegate_bridge::Bridge;
use tidegate_model::{CertificateNames, Credential, Principal, Refusal};

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
    /// Reads `Authorization: <key>`, `Thing <key>`, `Bearer <key>` or Basic, else `?authorization=<key>`; nothing where
    /// none of them is there.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when it cannot be read, or there is more than one that differ.
    pub fn read(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Self>, Refusal> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::of_header(value.as_bytes()).map(Some).ok_or(Refusal::Unauthenticated),
            (Some(_), Some(_)) => Err(Refusal::Unauthenticated),
            (None, _) => {
                let key = query::value(query, "authorization").map_err(|_twice| Refusal::Unauthenticated)?;
                Ok(key.map(|key| Self { thing: None, key: key.into_owned() }))
            }
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

/// Whether a page of another origin makes the request: whose browser shows its certificate there without being asked.
//= RFC6454 7.1
pub(crate) fn is_foreign(head: &Parts) -> bool {
    let own = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let own = own.or_else(|| head.headers.get(header::HOST).map(HeaderValue::as_bytes));
    head.headers.get_all(header::ORIGIN).iter().any(|origin| {
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host.as_bytes());
        !host.zip(own).is_some_and(|(host, own)| host.eq_ignore_ascii_case(own))
    })
}

/// What says who a request is from. Not `Debug`: it may hold a key.
pub enum Proof {
    /// A key that it shows: that is right, or nothing is.
    Key(Shown),
    /// The verified certificate of its connection, where it shows no key.
    Certificate(Arc<CertificateNames>),
}

impl Proof {
    /// Reads a request's; its head holds what its connection's certificate says, as an extension.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when it has none, or shows more than one key.
    pub fn read(head: &Parts) -> Result<Self, Refusal> {
        let certificate = || head.extensions.get().cloned().map(Self::Certificate);
        let shown = Shown::read(&head.headers, head.uri.query())?;
        shown.map(Self::Key).or_else(certificate).ok_or(Refusal::Unauthenticated)
    }

    /// Whose it is.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when it is nobody's.
    pub async fn principal(&self, bridge: &Bridge) -> Result<Principal, Refusal> {
        match self {
            Self::Key(shown) => bridge.authenticate(&shown.credential()).await,
            Self::Certificate(certificate) => bridge.identify(certificate),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_page_of_another_origin_is_foreign() {
        let check = |uri: &str, host: Option<&str>, origin: Option<&str>, expected: bool| {
            let mut request = Request::builder().uri(uri);
            for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
                request = value.into_iter().fold(request, |request, value| request.header(&name, value));
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(is_foreign(&head), expected, "{uri} {host:?} {origin:?}");
        };
        check("/a", Some("things.example"), None, false);
        check("/a", Some("things.example"), Some("https://things.example"), false);
        check("/a", Some("Things.example:8443"), Some("https://things.example:8443"), false);
        check("https://things.example:8443/a", None, Some("https://things.example:8443"), false);
        check("https://things.example/a", None, Some("https://evil.example"), true);
        check("/a", Some("things.example:8443"), Some("https://things.example"), true);
        check("/a", Some("things.example"), Some("https://evil.example/things.example"), true);
        check("/a", Some("things.example"), Some("null"), true);
        check("/a", None, Some("https://things.example"), true);
    }
}
