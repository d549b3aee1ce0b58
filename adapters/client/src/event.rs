//! What a subscription yields, and server-sent events, from bytes to events; sans-IO.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// Bytes of one event; the server's payloads are smaller.
const EVENT_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// One event, with the fields that this project adds to the standard's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `message`, `gap` or `end`; a payload in base64 is a `message` here too.
    pub kind: String,
    /// The message's id.
    pub id: Option<String>,
    /// The topic in the MQTT spelling; over CoAP, where no delivery tells it, only what was subscribed to is known.
    pub topic: Option<String>,
    /// The payload's content type.
    pub content_type: Option<String>,
    /// The verified publisher.
    pub publisher: Option<String>,
    /// Names and values that the publisher gave it, in its order.
    pub user_properties: Vec<(String, String)>,
    /// The payload, byte for byte.
    pub payload: Vec<u8>,
}

/// Takes bytes as they come and yields events.
//= HTML 9.2.6
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    after_cr: bool,
    started: bool,
    event: Event,
    data: Option<Vec<u8>>,
}

/// An event is larger than can be, or its base64 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an event that cannot be read")]
pub struct MalformedEvent;

impl EventParser {
    /// Takes the next bytes; returns the events that they complete.
    ///
    /// # Errors
    /// [`MalformedEvent`]; the stream is of no use afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, MalformedEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            let ends_line = byte == b'\n' || byte == b'\r';
            // The line feed of a carriage return and line feed ends no second line.
            if byte == b'\n' && std::mem::take(&mut self.after_cr) {
                continue;
            }
            self.after_cr = byte == b'\r';
            if !ends_line {
                self.line.push(byte);
                if self.line.len() + self.data.as_ref().map_or(0, Vec::len) > EVENT_BYTES_MAX {
                    return Err(MalformedEvent);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let first = !std::mem::replace(&mut self.started, true);
            let line = if first { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line) } else { &line };
            events.extend(self.take_line(line)?);
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Event>, MalformedEvent> {
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match name {
            b"data" => {
                let data = self.data.get_or_insert_default();
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            b"event" => self.event.kind = text().unwrap_or_default(),
            b"id" => self.event.id = text(),
            b"topic" => self.event.topic = text(),
            b"content-type" => self.event.content_type = text(),
            b"publisher" => self.event.publisher = text(),
            b"user-property" => {
                let property = String::from_utf8_lossy(value);
                let (name, value) = property.split_once('=').unwrap_or((&property, ""));
                let decoded = [name, value].map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
                self.event.user_properties.push(decoded.into());
            }
            _ => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Result<Option<Event>, MalformedEvent> {
        let mut event = std::mem::take(&mut self.event);
        let Some(mut data) = self.data.take() else { return Ok(None) };
        data.pop();
        match event.kind.as_str() {
            "base64" => {
                event.payload = STANDARD.decode(&data).map_err(|_| MalformedEvent)?;
                "message".clone_into(&mut event.kind);
            }
            "" => {
                event.payload = data;
                "message".clone_into(&mut event.kind);
            }
            _ => event.payload = data,
        }
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    //! Streams of events, whole and in pieces.

    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = EventParser::default();
        pieces.iter().flat_map(|piece| parser.feed(piece).unwrap()).collect()
    }

    const STREAM: &str = "\u{feff}: subscribed\n\nid: 1\ntopic: channels/a.b/messages/c\ncontent-type: text/plain\npublisher: a.d\ndata: x\ndata:  y\n\ndata\r\n\r\nevent: base64\rdata: AA0K\r\revent: gap\ndata: lost\n\nid: lonely\n\ndata: unfinished";

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let events = parse(&[STREAM.as_bytes()]);
        let said: Vec<(&str, &[u8])> = events.iter().map(|e| (e.kind.as_str(), e.payload.as_slice())).collect();
        assert_eq!(
            said,
            [("message", b"x\n y".as_slice()), ("message", b""), ("message", b"\0\r\n"), ("gap", b"lost")]
        );
        assert_eq!(events[0].topic.as_deref(), Some("channels/a.b/messages/c"));
        assert_eq!(events[1].topic, None);
    }

    #[test]
    fn it_does_not_matter_where_the_stream_is_cut() {
        let (bytes, whole) = (STREAM.as_bytes(), parse(&[STREAM.as_bytes()]));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_stream_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = EventParser::default().feed(&bytes);
        }
    }
}
