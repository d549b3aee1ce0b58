//! The frames of `tidegate.v1`, which are JSON: what a device says and what it is told; sans-IO.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::event::{Event, MalformedEvent};
use crate::{Publication, QoS};

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// First, once.
    Ready {
        /// Whether messages will come.
        subscribe: bool,
    },
    /// The broker has confirmed the message of this number.
    Accepted(u64),
    /// A message is not published.
    Refused {
        /// Its number, where the server could read one.
        id: Option<u64>,
        /// The refusal's code.
        code: String,
        /// The server's words.
        detail: String,
    },
    /// A message or a gap.
    Event(Event),
    /// What a later server may add.
    Other,
}

impl Frame {
    pub(super) fn parse(text: &str) -> Result<Self, MalformedEvent> {
        let mut frame: Value = serde_json::from_str(text).map_err(|_| MalformedEvent)?;
        let own = |name: &str| frame[name].as_str().map(str::to_owned);
        match frame["type"].as_str().ok_or(MalformedEvent)? {
            "ready" => Ok(Self::Ready { subscribe: frame["subscribe"].as_bool().ok_or(MalformedEvent)? }),
            "accepted" => frame["id"].as_u64().map(Self::Accepted).ok_or(MalformedEvent),
            "refused" => Ok(Self::Refused {
                id: frame["id"].as_u64(),
                code: own("code").ok_or(MalformedEvent)?,
                detail: own("detail").unwrap_or_else(|| "no reason given".to_owned()),
            }),
            "message" => Ok(Self::Event(Event {
                kind: "message".to_owned(),
                id: own("id"),
                topic: own("topic"),
                content_type: own("contentType"),
                publisher: own("publisher"),
                user_properties: user_properties(&frame["userProperties"])?,
                payload: payload(&mut frame)?,
            })),
            "gap" => Ok(Self::Event(Event { kind: "gap".to_owned(), ..Event::default() })),
            _ => Ok(Self::Other),
        }
    }
}

fn user_properties(list: &Value) -> Result<Vec<(String, String)>, MalformedEvent> {
    let pair = |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()));
    list.as_array().into_iter().flatten().map(|property| pair(property).ok_or(MalformedEvent)).collect()
}

fn payload(frame: &mut Value) -> Result<Vec<u8>, MalformedEvent> {
    if let Value::String(text) = frame["payload"].take() {
        return Ok(text.into_bytes());
    }
    frame["payloadBase64"].as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(MalformedEvent)
}

/// The frame that publishes where the socket was opened.
pub(super) fn publish(id: u64, publication: &Publication) -> String {
    let Publication { content_type, qos, retain, expiry, user_properties, payload } = publication;
    let payload = match std::str::from_utf8(payload) {
        Ok(text) => ("payload", json!(text)),
        Err(_) => ("payloadBase64", json!(STANDARD.encode(payload))),
    };
    let said = [
        content_type.as_ref().map(|content_type| ("contentType", json!(content_type))),
        (*qos != QoS::default()).then(|| ("qos", json!(qos.level()))),
        retain.then(|| ("retain", json!(true))),
        expiry.map(|seconds| ("expiry", json!(seconds))),
        (!user_properties.is_empty()).then(|| ("userProperties", json!(user_properties))),
        Some(payload),
    ];
    let mut frame = json!({"type": "publish", "id": id});
    for (name, value) in said.into_iter().flatten() {
        frame[name] = value;
    }
    frame.to_string()
}

#[cfg(test)]
mod tests {
    //! Frames as the contract of the face spells them.

    use proptest::prelude::*;

    use super::*;

    fn said(publication: &Publication) -> Value {
        serde_json::from_str(&publish(7, publication)).unwrap()
    }

    #[test]
    fn a_publication_says_what_differs_from_the_defaults() {
        let plain = Publication { payload: "{}".into(), ..Publication::default() };
        assert_eq!(said(&plain), json!({"type": "publish", "id": 7, "payload": "{}"}));
        let full = Publication {
            content_type: Some("application/cbor".to_owned()),
            qos: QoS::ExactlyOnce,
            retain: true,
            expiry: Some(60),
            user_properties: vec![("unit".to_owned(), "°C".to_owned()), ("unit".to_owned(), "K".to_owned())],
            payload: vec![0xff, 0x00].into(),
        };
        assert_eq!(
            said(&full),
            json!({
                "type": "publish", "id": 7, "contentType": "application/cbor", "qos": 2,
                "retain": true, "expiry": 60, "userProperties": [["unit", "°C"], ["unit", "K"]], "payloadBase64": "/wA=",
            })
        );
    }

    #[test]
    fn answers_are_read_by_their_number() {
        let check = |text: &str, expected: Frame| assert_eq!(Frame::parse(text), Ok(expected), "{text}");
        let refused = |id, code: &str, detail: &str| Frame::Refused { id, code: code.into(), detail: detail.into() };
        check(r#"{"type":"ready","publish":true,"subscribe":false}"#, Frame::Ready { subscribe: false });
        check(r#"{"type":"accepted","id":1}"#, Frame::Accepted(1));
        check(
            r#"{"type":"refused","id":1,"code":"forbidden","detail":"no","retryAfter":1}"#,
            refused(Some(1), "forbidden", "no"),
        );
        check(
            r#"{"type":"refused","id":null,"code":"malformed-frame"}"#,
            refused(None, "malformed-frame", "no reason given"),
        );
        check(r#"{"type":"new"}"#, Frame::Other);
    }

    #[test]
    fn a_message_has_all_that_an_event_can_say() {
        let text = r#"{"type":"message","id":"019a","topic":"channels/lab.t/messages/engine","publisher":"lab.sensor",
            "contentType":"application/json","time":"2026-01-01T12:00:00.000Z","payload":"{}","retain":true,"expiry":5,
            "userProperties":[["unit","°C"],["unit",""]]}"#;
        let event = Event {
            kind: "message".to_owned(),
            id: Some("019a".to_owned()),
            topic: Some("channels/lab.t/messages/engine".to_owned()),
            content_type: Some("application/json".to_owned()),
            publisher: Some("lab.sensor".to_owned()),
            user_properties: vec![("unit".to_owned(), "°C".to_owned()), ("unit".to_owned(), String::new())],
            payload: b"{}".to_vec(),
        };
        assert_eq!(Frame::parse(text), Ok(Frame::Event(event)));
        let Ok(Frame::Event(event)) = Frame::parse(r#"{"type":"message","payloadBase64":"/wA="}"#) else {
            unreachable!()
        };
        assert_eq!((event.publisher, event.payload), (None, vec![0xff, 0]));
        let Ok(Frame::Event(event)) = Frame::parse(r#"{"type":"gap"}"#) else { unreachable!() };
        assert_eq!(event.kind, "gap");
    }

    #[test]
    fn what_is_no_frame_is_not_taken_for_one() {
        for text in [
            "",
            "1",
            "{}",
            r#"{"type":"ready"}"#,
            r#"{"type":"accepted","id":"1"}"#,
            r#"{"type":"refused","id":1}"#,
            r#"{"type":"message"}"#,
            r#"{"type":"message","payloadBase64":"?"}"#,
            r#"{"type":"message","payload":"","userProperties":[["a"]]}"#,
        ] {
            assert_eq!(Frame::parse(text), Err(MalformedEvent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_payload_survives_both_ways(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut frame = said(&Publication { payload: bytes.clone().into(), ..Publication::default() });
            frame["type"] = json!("message");
            let Ok(Frame::Event(event)) = Frame::parse(&frame.to_string()) else { unreachable!() };
            prop_assert_eq!(event.payload, bytes);
        }

        #[test]
        fn no_text_panics(text in r#"\{"type":"(ready|accepted|refused|message|gap)"(,"[a-zB64]{1,13}":("[^"]{0,5}"|[0-9]|\[\]|null)){0,3}\}"#) {
            let _ = Frame::parse(&text);
        }
    }
}
