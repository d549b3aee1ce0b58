//! From what happened to what CoAP says: codes, content formats, and words for people.

use tidegate_bridge::Delivery;
use tidegate_coap_proto::{Code, ContentFormat, OptionNumber, Options, Response};
use tidegate_model::{ContentType, Refusal};

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

/// A message, as the content of its topic.
pub(crate) fn content(delivery: &Delivery) -> Response {
    let message = &delivery.message;
    let format = content_format(&message.content_type);
    let options =
        format.map(|ContentFormat(format)| Options::NONE.with_uint(OptionNumber::CONTENT_FORMAT, format.into()));
    Response { code: Code::CONTENT, options: options.unwrap_or_default(), payload: message.payload.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
