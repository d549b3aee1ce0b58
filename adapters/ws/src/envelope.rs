//! The frames of `tidegate.v1`: JSON in text, each of the client's answered under the id that the client gave it.

use std::borrow::Cow;

use axum::extract::ws::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_bridge::Delivery;
use tidegate_http::query::EXPIRY_SECONDS_MAX;
use tidegate_model::{ChannelRef, Extras, QoS, Refusal, Timestamp, Topic};

/// What the client calls a frame: text or a whole number; null where it could not be read.
pub(crate) type FrameId = Value;

/// Longest name of a frame, in characters.
const ID_CHARS_MAX: usize = 64;

/// A message that a client wants published.
pub(crate) struct Frame {
    pub(crate) id: FrameId,
    pub(crate) payload: Bytes,
    pub(crate) content_type: Option<String>,
    /// The levels below `messages`; those of the socket where absent.
    pub(crate) subtopic: Option<String>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Seconds.
    pub(crate) expiry: Option<u32>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// A frame that cannot be read.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) id: FrameId,
    pub(crate) why: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Said<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    id: Value,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload_base64: Option<Cow<'a, str>>,
    content_type: Option<String>,
    subtopic: Option<String>,
    qos: Option<u8>,
    #[serde(default)]
    retain: bool,
    expiry: Option<u32>,
    #[serde(default)]
    user_properties: Vec<(Box<str>, Box<str>)>,
}

/// The name alone, of a frame that has more wrong with it.
#[derive(Deserialize)]
struct Named {
    id: Option<Value>,
}

/// Reads a frame.
pub(crate) fn read(text: &str) -> Result<Frame, Malformed> {
    let said = serde_json::from_str::<Said<'_>>(text).map_err(|_| {
        let named = serde_json::from_str::<Named>(text).ok().and_then(|named| named.id).filter(is_name);
        Malformed { id: named.unwrap_or_default(), why: "not JSON with the members of a frame, each of its type" }
    })?;
    if !is_name(&said.id) {
        return Err(Malformed { id: Value::Null, why: "id is text of 1 to 64 characters, or a whole number" });
    }
    let id = said.id.clone();
    frame(said).map_err(|why| Malformed { id, why })
}

fn is_name(id: &Value) -> bool {
    match id {
        Value::String(text) => !text.is_empty() && text.chars().count() <= ID_CHARS_MAX,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn frame(said: Said<'_>) -> Result<Frame, &'static str> {
    if said.kind != "publish" {
        return Err("type is publish");
    }
    let payload = match (said.payload, said.payload_base64) {
        (Some(text), None) => Bytes::from(text.into_owned()),
        (None, Some(encoded)) => STANDARD.decode(&*encoded).map_err(|_| "payloadBase64 is not base64")?.into(),
        (None, None) | (Some(_), Some(_)) => return Err("one of payload and payloadBase64 is needed"),
    };
    let qos = said.qos.map_or(Some(QoS::default()), QoS::from_level).ok_or("qos is 0, 1 or 2")?;
    if said.expiry.is_some_and(|seconds| !(1..=EXPIRY_SECONDS_MAX).contains(&seconds)) {
        return Err("expiry is a whole number of seconds, from 1 to 4294967");
    }
    let user_properties = said.user_properties;
    if user_properties.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err("userProperties hold U+0000");
    }
    let extras = Extras { user_properties, ..Extras::default() };
    if extras.bytes() > Extras::BYTES_MAX as usize {
        return Err("userProperties have more than 16384 bytes, 5 for each and their names and values");
    }
    let extras = (extras != Extras::default()).then(|| Box::new(extras));
    Ok(Frame {
        id: said.id,
        payload,
        content_type: said.content_type,
        subtopic: said.subtopic,
        qos,
        retain: said.retain,
        expiry: said.expiry,
        extras,
    })
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Saying<'a> {
    Ready {
        publish: bool,
        subscribe: bool,
    },
    Accepted {
        id: &'a FrameId,
    },
    Refused {
        id: &'a FrameId,
        code: &'a str,
        detail: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
    },
    Message {
        id: &'a str,
        topic: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        publisher: Option<&'a str>,
        content_type: &'a str,
        time: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        retain: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        expiry: Option<u64>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        user_properties: &'a [(Box<str>, Box<str>)],
        #[serde(flatten)]
        payload: Payload<'a>,
    },
    Gap,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Payload<'a> {
    Payload(&'a str),
    PayloadBase64(String),
}

fn text(saying: &Saying<'_>) -> Message {
    Message::text(serde_json::to_string(saying).expect("its keys are text"))
}

/// What the socket may do.
pub(crate) fn ready(publish: bool, subscribe: bool) -> Message {
    text(&Saying::Ready { publish, subscribe })
}

/// The broker has it.
pub(crate) fn accepted(id: &FrameId) -> Message {
    text(&Saying::Accepted { id })
}

/// It is not published.
pub(crate) fn refused(id: &FrameId, refusal: &Refusal) -> Message {
    let retry_after = refusal.retry_after_seconds();
    text(&Saying::Refused { id, code: refusal.code(), detail: refusal.to_string(), retry_after })
}

/// It could not be read.
pub(crate) fn malformed(malformed: &Malformed) -> Message {
    let Malformed { id, why } = malformed;
    text(&Saying::Refused { id, code: "malformed-frame", detail: (*why).to_owned(), retry_after: None })
}

/// Messages may be missing here.
pub(crate) fn gap() -> Message {
    text(&Saying::Gap)
}

/// A message as it is at `now`.
pub(crate) fn message(delivery: &Delivery, now: Timestamp) -> Message {
    let message = &delivery.message;
    let topic = Topic { channel: ChannelRef::from(&delivery.channel), subtopic: delivery.subtopic.clone() };
    let expiry = message.time_left(now).map(|left| left.as_secs());
    let payload = std::str::from_utf8(&message.payload)
        .map_or_else(|_| Payload::PayloadBase64(STANDARD.encode(&message.payload)), Payload::Payload);
    text(&Saying::Message {
        id: message.id.as_str(),
        topic: topic.to_mqtt(),
        publisher: delivery.publisher.as_ref().map(|publisher| publisher.as_str()),
        content_type: message.content_type.as_str(),
        time: rfc3339(message.received_at),
        retain: message.retain,
        expiry,
        user_properties: message.extras.as_ref().map_or(&[], |extras| &extras.user_properties),
        payload,
    })
}

/// To the millisecond.
fn rfc3339(at: Timestamp) -> String {
    let nanos = i128::from(at.as_nanos());
    jiff::Timestamp::from_nanosecond(nanos).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_strictly_and_called_by_its_name_when_it_cannot_be() {
        let check = |text: &str, expected: Result<&str, (Value, &str)>| match (read(text), expected) {
            (Ok(frame), Ok(payload)) => assert_eq!(frame.payload, payload, "{text}"),
            (Err(Malformed { id, why }), Err(expected)) => {
                assert!(why.contains(expected.1) && id == expected.0, "{text}: {id} {why}");
            }
            (read, _) => panic!("{text}: {:?}", read.map(|frame| frame.payload).map_err(|malformed| malformed.why)),
        };
        check(r#"{"type":"publish","id":1,"payload":"a"}"#, Ok("a"));
        check(r#"{"type":"publish","id":"x","payloadBase64":"YQ=="}"#, Ok("a"));
        check(r#"{"type":"publish","id":-7,"payload":""}"#, Ok(""));
        check("", Err((Value::Null, "not JSON")));
        check("[]", Err((Value::Null, "not JSON")));
        check(r#"{"type":"publish","payload":"a"}"#, Err((Value::Null, "not JSON")));
        check(r#"{"type":"publish","id":1.5,"payload":"a"}"#, Err((Value::Null, "whole number")));
        check(r#"{"type":"publish","id":"","payload":"a"}"#, Err((Value::Null, "64 characters")));
        check(r#"{"type":"subscribe","id":1,"payload":"a"}"#, Err((1.into(), "type is publish")));
        check(r#"{"type":"publish","id":1}"#, Err((1.into(), "one of payload")));
        check(r#"{"type":"publish","id":1,"payload":"a","payloadBase64":"YQ=="}"#, Err((1.into(), "one of payload")));
        check(r#"{"type":"publish","id":1,"payloadBase64":"?"}"#, Err((1.into(), "not base64")));
        check(r#"{"type":"publish","id":"x","payload":7}"#, Err(("x".into(), "not JSON")));
        check(r#"{"type":"publish","id":1,"payload":"a","reatin":true}"#, Err((1.into(), "not JSON")));
        check(r#"{"type":"publish","id":1,"payload":"a","qos":3}"#, Err((1.into(), "qos")));
        check(r#"{"type":"publish","id":1,"payload":"a","expiry":0}"#, Err((1.into(), "expiry")));
        check(
            r#"{"type":"publish","id":1,"payload":"a","userProperties":[["a","\u0000"]]}"#,
            Err((1.into(), "U+0000")),
        );
    }
}
