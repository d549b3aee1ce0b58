//! From what happened to what HTTP says.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tidegate_model::Refusal;

/// The media type of RFC 9457.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The ways to show a key that a client can learn from a refusal.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"tidegate\", Basic realm=\"tidegate\"");
/// What a channel's path can be asked.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS, POST");

/// Why a request is answered with an error: a refusal, or what only HTTP knows.
#[derive(Debug)]
pub enum Problem {
    /// A row of the outcome table.
    Refused(Refusal),
    /// A method that a channel's path does not have.
    MethodNotAllowed,
    /// The client takes nothing that could be sent.
    NotAcceptable,
    /// Not one host is named, as HTTP/1.1 asks for.
    BadHost,
    /// A query that says something impossible; the text names it.
    BadQuery(&'static str),
    /// The body did not come in time.
    Slow,
    /// The body broke off.
    Incomplete,
    /// What is there can only be asked for by a WebSocket handshake, of the version that is spoken.
    UpgradeRequired,
    /// A WebSocket handshake that is none; the text says why.
    BadHandshake(&'static str),
    /// A page of that origin may not speak to this server.
    ForeignOrigin,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What HTTP calls a refusal.
const fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden | Refusal::Revoked => StatusCode::FORBIDDEN,
        Refusal::UnknownPath => StatusCode::NOT_FOUND,
        Refusal::MalformedTopic(_) => StatusCode::BAD_REQUEST,
        Refusal::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::ContentTypeNotAdmitted => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::InvalidPayload(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::BrokerUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl Problem {
    fn parts(&self) -> (StatusCode, Option<u32>, &'static str, String) {
        match self {
            Self::Refused(refusal) => {
                (status_of(refusal), refusal.retry_after_seconds(), refusal.code(), refusal.to_string())
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                None,
                "method-not-allowed",
                "publish with POST, subscribe with GET".into(),
            ),
            Self::NotAcceptable => {
                (StatusCode::NOT_ACCEPTABLE, None, "not-acceptable", "subscribe with Accept: text/event-stream".into())
            }
            Self::BadHost => (StatusCode::BAD_REQUEST, None, "bad-host", "one Host header is needed".into()),
            Self::BadQuery(why) => (StatusCode::BAD_REQUEST, None, "bad-query", (*why).to_owned()),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, None, "slow-request", "the body did not come in time".into()),
            Self::Incomplete => (StatusCode::BAD_REQUEST, None, "incomplete-request", "the body broke off".into()),
            Self::UpgradeRequired => (
                StatusCode::UPGRADE_REQUIRED,
                None,
                "upgrade-required",
                "a WebSocket handshake of version 13 is needed here".into(),
            ),
            Self::BadHandshake(why) => (StatusCode::BAD_REQUEST, None, "bad-handshake", (*why).to_owned()),
            Self::ForeignOrigin => {
                (StatusCode::FORBIDDEN, None, "foreign-origin", "pages of this origin are not admitted".into())
            }
        }
    }

    /// The answer, with the headers that its status asks for.
    //= RFC9457 3
    #[must_use]
    pub fn answer(&self) -> Response<Body> {
        let (status, retry_after, ..) = self.parts();
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        //= RFC9110 11.6.1
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        //= RFC9110 15.5.6
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, ALLOW);
        }
        //= RFC9110 15.5.22
        //= RFC6455 4.4
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }

    /// The problem itself, in one line.
    pub(crate) fn json(&self) -> String {
        let (status, _, code, detail) = self.parts();
        json!({
            "type": format!("tag:tidegate.io,2026:problem/{code}"),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": detail,
        })
        .to_string()
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// What a channel's path can be asked.
//= RFC9110 9.3.7
pub(crate) fn options() -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(header::ALLOW, ALLOW);
    response
}
