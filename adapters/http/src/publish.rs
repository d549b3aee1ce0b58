//! POST: refuse what can be refused, read the body, publish, and answer when the broker has it.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use percent_encoding::percent_decode_str;
use tidegate_bridge::{Draft, fresh_message_id};
use tidegate_model::{Extras, PayloadPolicy, Permit, Principal, Protocol, Refusal, Topic};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{Problem, empty};
use crate::credential::Proof;
use crate::face::HttpFace;
use crate::query;

/// The header of a user property.
const USER_PROPERTY: &str = "user-property";

/// A message that may be published, read whole.
struct Ready {
    principal: Principal,
    permit: Permit,
    draft: Draft,
    /// The room that its bytes take, given back when it is published.
    room: Option<OwnedSemaphorePermit>,
}

impl HttpFace {
    pub(crate) async fn publish(&self, path: &str, head: &Parts, body: &mut Body) -> Result<Response<Body>, Problem> {
        // The bridge counts what comes to it.
        let ready = self.prepare(path, head, body).await.inspect_err(|problem| {
            if let Problem::Refused(refusal) = problem {
                self.bridge.count_refused_publish(Protocol::Http, refusal);
            }
        })?;
        let Ready { principal, permit, draft, room } = ready;
        let outcome = self.bridge.publish(&principal, permit, draft).await;
        drop(room);
        outcome?;
        Ok(empty(StatusCode::ACCEPTED))
    }

    async fn prepare(&self, path: &str, head: &Parts, body: &mut Body) -> Result<Ready, Problem> {
        let query = head.uri.query();
        let topic = Topic::parse_path(path, &self.limits.topic)?;
        let principal = Proof::read(head)?.principal(&self.bridge).await?;
        let permit = self.bridge.permit(&principal, topic)?;
        let expires_in = query::expiry(query)?;
        let qos = query::qos(query)?;
        let retain = query::retain(query)?;
        let extras = extras(&head.headers)?;
        let announced = body.size_hint().exact();
        let content_type = self.bridge.admit(&permit, content_type(&head.headers)?, announced)?;

        let read = tokio::time::timeout(self.limits.body_read_max, self.read(body, permit.payload()));
        let (payload, room) = read.await.map_err(|_elapsed| Problem::Slow)??;
        let draft = Draft {
            id: fresh_message_id(),
            payload,
            content_type,
            protocol: Protocol::Http,
            qos,
            retain,
            expires_in,
            traceparent: traceparent(&head.headers),
            extras,
        };
        Ok(Ready { principal, permit, draft, room })
    }

    /// Reads the body, and stops at the first byte that is too many.
    async fn read(
        &self,
        body: &mut Body,
        policy: &PayloadPolicy,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
        let bytes_max = policy.bytes_max as usize;
        let (mut payload, mut more, mut room) = (Bytes::new(), BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Problem::Incomplete)?;
            let Ok(data) = frame.into_data() else { continue };
            let bytes = payload.len() + more.len() + data.len();
            if bytes > bytes_max {
                return Err(Refusal::PayloadTooLarge { bytes_max: policy.bytes_max }.into());
            }
            self.reserve(&mut room, bytes)?;
            // Most bodies come in one piece, which then is the payload.
            if bytes == data.len() {
                payload = data;
                continue;
            }
            more.extend_from_slice(&std::mem::take(&mut payload));
            more.extend_from_slice(&data);
        }
        Ok((if more.is_empty() { payload } else { more.freeze() }, room))
    }
}

/// The content type as written; more than one, or one that is not text, cannot be carried.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refusal::ContentTypeNotAdmitted),
        (Some(_), Some(_)) => Err(Refusal::ContentTypeNotAdmitted),
    }
}

/// The user properties, each `User-Property: name=value` with both percent-encoded where they must be.
fn extras(headers: &HeaderMap) -> Result<Option<Box<Extras>>, Problem> {
    let wrong = || Problem::BadQuery("User-Property is name=value, both percent-encoded UTF-8 without U+0000");
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().ok().filter(|text| !text.contains('\0'));
        text.map(|text| Box::from(&*text)).ok_or_else(wrong)
    };
    let mut user_properties = Vec::new();
    for header in headers.get_all(USER_PROPERTY) {
        let (name, value) = header.to_str().ok().and_then(|text| text.split_once('=')).ok_or_else(wrong)?;
        user_properties.push((decoded(name)?, decoded(value)?));
    }
    let extras = Extras { user_properties, ..Extras::default() };
    if extras.bytes() > Extras::BYTES_MAX as usize {
        return Err(Problem::BadQuery(
            "User-Property headers have more than 16384 bytes, 5 for each and its name and value",
        ));
    }
    Ok(headers.contains_key(USER_PROPERTY).then(|| Box::new(extras)))
}

/// The W3C trace context, where it has the form `<version>-<trace id>-<parent id>-<flags>` and both ids name something.
fn traceparent(headers: &HeaderMap) -> Option<Box<str>> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let well_formed = [2, 32, 16, 2].iter().all(|digits| {
        parts.next().is_some_and(|part| {
            part.len() == *digits && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    });
    let names_nothing = |start: usize, end: usize| text.bytes().skip(start).take(end - start).all(|byte| byte == b'0');
    let valid = well_formed && parts.next().is_none() && !text.starts_with("ff");
    (valid && !names_nothing(3, 35) && !names_nothing(36, 52)).then(|| text.into())
}
