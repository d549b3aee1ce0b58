//! From what happened to what CoAP says: codes, content formats, and words for people.

use tidegate_bridge::Delivery;
use tidegate_coap_proto::{Code, ContentFormat, OptionNumber, Options, Response};
use tidegate_model::{ContentType, Refusal, Timestamp};

/// For how long a response is fresh that does not say so.
//= RFC7252 5.10.5
const MAX_AGE_SECONDS: u64 = 60;

/// The content formats that are known, and what they are called elsewhere.
//= RFC7252 12.3
const FORMATS: [(ContentFormat, &str); 6] = [
    (ContentFormat::SENML_JSON, "application/senml+json"),
    (ContentFormat::SENML_CBOR, "application/senml+cbor"),
    (ContentFormat::JSON, "application/json"),
    (ContentFormat::CBOR, "application/cbor"),
    (ContentFormat::OCTETS, "application/octet-stream"),
    (ContentFormat::TEXT, "text/plain"),
];

/// What a content format is called elsewhere.
pub(crate) fn content_type(format: ContentFormat) -> Option<&'static str> {
    if format == ContentFormat::TEXT {
        return Some("text/plain;charset=utf-8");
    }
    FORMATS.iter().find(|(known, _)| *known == format).map(|(_, name)| *name)
}

/// The number of a content type; none where CoAP has none, or none that is known here.
pub(crate) fn content_format(content_type: &ContentType) -> Option<ContentFormat> {
    FORMATS.iter().find(|(_, name)| content_type.is(name)).map(|(format, _)| *format)
}

/// What CoAP calls a refusal.
const fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Unauthenticated => Code::UNAUTHORIZED,
        Refusal::Forbidden | Refusal::Revoked => Code::FORBIDDEN,
        Refusal::UnknownPath => Code::NOT_FOUND,
        Refusal::MalformedTopic(_) => Code::BAD_REQUEST,
        Refusal::PayloadTooLarge { .. } => Code::REQUEST_ENTITY_TOO_LARGE,
        Refusal::ContentTypeNotAdmitted => Code::UNSUPPORTED_CONTENT_FORMAT,
        Refusal::InvalidPayload(_) => Code::UNPROCESSABLE_ENTITY,
        Refusal::BrokerUnavailable { .. } | Refusal::ShuttingDown => Code::SERVICE_UNAVAILABLE,
        Refusal::RateLimited { .. } => Code::TOO_MANY_REQUESTS,
    }
}

/// A refusal, with when it is worth another try and how much would be taken, and in words.
//= RFC7252 5.5.2, 5.9.2.9, 5.9.3.4
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let mut options = Options::NONE;
    if let Some(seconds) = refusal.retry_after_seconds() {
        options = options.with_uint(OptionNumber::MAX_AGE, seconds);
    }
    if let Refusal::PayloadTooLarge { bytes_max } = refusal {
        options = options.with_uint(OptionNumber::SIZE1, *bytes_max);
    }
    Response { code: code_of(refusal), options, payload: refusal.to_string().into() }
}

/// The content of a topic at `now`: its last message, empty where there is none or its time is over.
pub(crate) fn content(last: Option<&Delivery>, now: Timestamp) -> Response {
    let Some(message) = last.map(|last| &last.message).filter(|message| !message.is_expired(now)) else {
        return Response::of(Code::CONTENT);
    };
    let mut options = Options::NONE;
    if let Some(ContentFormat(format)) = content_format(&message.content_type) {
        options = options.with_uint(OptionNumber::CONTENT_FORMAT, format.into());
    }
    let left = message.time_left(now).map(|left| left.as_secs()).filter(|left| *left < MAX_AGE_SECONDS);
    if let Some(left) = left.and_then(|left| u32::try_from(left).ok()) {
        options = options.with_uint(OptionNumber::MAX_AGE, left);
    }
    Response { code: Code::CONTENT, options, payload: message.payload.clone() }
}

/// The content for one that takes this format alone, if any does.
//= RFC7252 5.10.4
pub(crate) fn acceptable(accept: Option<ContentFormat>, content: Response) -> Response {
    let is_empty = content.payload.is_empty();
    if accept.is_none_or(|accept| is_empty || content.options.content_format() == Some(accept)) {
        content
    } else {
        Response::refusal(Code::NOT_ACCEPTABLE, "it is of another format")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;
    use tidegate_model::{ChannelId, Message, MessageId, Protocol, QoS, Subtopic};

    fn delivery(content_type: &str, expires_in: Option<Duration>) -> Delivery {
        Delivery {
            publisher: None,
            channel: ChannelId::new("lab", "t").unwrap(),
            subtopic: Subtopic::none(),
            message: Message {
                id: MessageId::parse("1").unwrap(),
                payload: Bytes::from_static(b"[]"),
                content_type: ContentType::parse(content_type).unwrap(),
                protocol: Protocol::Mqtt,
                qos: QoS::default(),
                retain: true,
                received_at: Timestamp::from_secs(1_000),
                expires_in,
                traceparent: None,
                extras: None,
            },
        }
    }

    //= RFC7252 5.10.5
    #[test]
    fn a_message_is_as_fresh_as_it_says_and_nothing_when_its_time_is_over() {
        let check = |expires_in: Option<u64>, now: u64, max_age: Option<u32>, bytes: usize| {
            let delivery = delivery("application/json", expires_in.map(Duration::from_secs));
            let Response { options, payload, .. } = content(Some(&delivery), Timestamp::from_secs(now));
            let said = (options.uint(OptionNumber::MAX_AGE), payload.len());
            assert_eq!(said, (max_age, bytes), "{expires_in:?} {now}");
        };
        check(None, 1_000_000, None, 2);
        check(Some(100), 1_040, None, 2);
        check(Some(100), 1_041, Some(59), 2);
        check(Some(100), 1_099, Some(1), 2);
        check(Some(100), 1_100, None, 0);
        assert_eq!(content(None, Timestamp::from_secs(0)), Response::of(Code::CONTENT));
    }

    //= RFC7252 5.10.4
    #[test]
    fn who_takes_one_format_is_told_nothing_else() {
        let check = |content_type: Option<&str>, accept: Option<ContentFormat>, expected: Code| {
            let delivery = content_type.map(|content_type| delivery(content_type, None));
            let content = content(delivery.as_ref(), Timestamp::from_secs(1_000));
            assert_eq!(acceptable(accept, content).code, expected, "{content_type:?} {accept:?}");
        };
        check(Some("application/json"), None, Code::CONTENT);
        check(Some("application/json"), Some(ContentFormat::JSON), Code::CONTENT);
        check(Some("application/json"), Some(ContentFormat::CBOR), Code::NOT_ACCEPTABLE);
        check(Some("image/png"), None, Code::CONTENT);
        check(Some("image/png"), Some(ContentFormat::JSON), Code::NOT_ACCEPTABLE);
        check(None, Some(ContentFormat::JSON), Code::CONTENT);
        // What takes away what is kept says nothing in any format.
        let mut cleared = delivery("application/json", None);
        cleared.message.payload = Bytes::new();
        let content = content(Some(&cleared), Timestamp::from_secs(1_000));
        assert_eq!(acceptable(Some(ContentFormat::CBOR), content).code, Code::CONTENT);
    }

    #[test]
    fn formats_are_the_same_both_ways() {
        for (format, _) in FORMATS {
            let content_type = ContentType::parse(content_type(format).unwrap()).unwrap();
            assert_eq!(content_format(&content_type), Some(format));
        }
        assert_eq!(content_type(ContentFormat::LINK_FORMAT), None);
        assert_eq!(
            content_format(&ContentType::parse("Application/JSON; charset=utf-8").unwrap()),
            Some(ContentFormat::JSON)
        );
        assert_eq!(content_format(&ContentType::parse("image/png").unwrap()), None);
    }
}
