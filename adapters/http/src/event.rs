//! A delivery as a server-sent event.
//!
//! ```text
//! id: 019ac6d2-5c0a-7d3e-9c0e-5d1f0c7a7d11
//! topic: channels/lab.telemetry/messages/engine
//! content-type: application/senml+json
//! publisher: lab.sensor
//! user-property: unit=%C2%B0C
//! data: [{"n":"t","v":1}]
//! ```
//!
//! Parsers ignore fields that they do not know, so `data` is the payload, byte for byte; our own client reads the others
//! too. A payload that is no text that an event can carry comes as `event: base64`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tidegate_bridge::Delivery;
use tidegate_model::{ChannelRef, Topic};

/// What is percent-encoded of the name and the value of a user property.
const PROPERTY: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'=');
/// Sent at once, so that the client knows that it is subscribed.
pub(crate) const SUBSCRIBED: &str = ": subscribed\n\n";
/// Sent when nothing else was for a while.
pub(crate) const KEEP_ALIVE: &str = ": keep-alive\n\n";
/// Sent to a client that asks to go on where it was.
pub(crate) const NO_REPLAY: &str = ": no replay: what was sent before is not kept\n\n";
/// Messages may be missing here.
pub(crate) const GAP: &str = "event: gap\ndata: the link to the broker was lost; messages may be missing\n\n";

/// The last event of a stream that the server ends; `problem` is one line of JSON.
pub(crate) fn end(problem: &str) -> String {
    format!("event: end\ndata: {problem}\n\n")
}

//= HTML 9.2.5
pub(crate) fn message(delivery: &Delivery) -> Bytes {
    let message = &delivery.message;
    let mut event = Vec::with_capacity(256 + message.payload.len());
    let mut field = |name: &str, value: &str| {
        // A line end would end the field: only what a back-end service made up can hold one.
        if !value.contains(['\r', '\n', '\0']) {
            event.extend_from_slice([name, ": ", value, "\n"].concat().as_bytes());
        }
    };
    let topic = Topic { channel: ChannelRef::from(&delivery.channel), subtopic: delivery.subtopic.clone() };
    field("id", message.id.as_str());
    field("topic", &topic.to_mqtt());
    field("content-type", message.content_type.as_str());
    if let Some(publisher) = &delivery.publisher {
        field("publisher", publisher.as_str());
    }
    for (name, value) in message.extras.iter().flat_map(|extras| &extras.user_properties) {
        let encoded = [name, value].map(|text| utf8_percent_encode(text, PROPERTY).to_string());
        field("user-property", &encoded.join("="));
    }
    match std::str::from_utf8(&message.payload) {
        Ok(text) if !text.contains(['\r', '\0']) => {
            for line in text.split('\n') {
                event.extend_from_slice(["data: ", line, "\n"].concat().as_bytes());
            }
        }
        _ => {
            let encoded = STANDARD.encode(&message.payload);
            event.extend_from_slice(["event: base64\ndata: ", &encoded, "\n"].concat().as_bytes());
        }
    }
    event.push(b'\n');
    event.into()
}
