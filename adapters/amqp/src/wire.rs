//! What a message looks like in AMQP: properties and headers, both ways.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use tidegate_bridge::{Delivery, Publication};
use tidegate_model::{
    ChannelId, ContentType, Message, MessageId, Protocol, QoS, RoutingKey, Subtopic, ThingId, Timestamp, TopicLimits,
};

use crate::extras;

/// Kept by the broker over its restart.
const PERSISTENT: u8 = 2;
/// What a message is published as.
const TYPE: &str = "message";
/// Who publishes it, as far as RabbitMQ is concerned.
const APP_ID: &str = "tidegate";
/// The content type of a message that names none.
const OCTETS: &str = "application/octet-stream";

/// A short string, or an empty one where the text has over 255 bytes; what is passed was bounded where it came in.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

pub(crate) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

pub(crate) fn routing_key(publication: &Publication) -> ShortString {
    short(RoutingKey::new(publication.channel(), publication.subtopic()).as_str())
}

pub(crate) fn properties(publication: &Publication) -> BasicProperties {
    let message = publication.message();
    let mut headers = FieldTable::default();
    headers.insert("x-channel".into(), long(publication.channel().as_str()));
    if let Some(subtopic) = publication.subtopic().text() {
        headers.insert("x-subtopic".into(), long(subtopic));
    }
    headers.insert("x-thing".into(), long(publication.publisher().as_str()));
    headers.insert("x-protocol".into(), long(message.protocol.as_str()));
    headers.insert("x-qos".into(), AMQPValue::LongInt(message.qos.level().into()));
    let received_at = i64::try_from(message.received_at.as_nanos()).unwrap_or(i64::MAX);
    headers.insert("x-received-at".into(), AMQPValue::LongLongInt(received_at));
    if message.retain {
        headers.insert("x-retain".into(), AMQPValue::Boolean(true));
    }
    if let Some(traceparent) = &message.traceparent {
        headers.insert("traceparent".into(), long(traceparent));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(short(message.content_type.as_str()))
        .with_message_id(short(message.id.as_str()))
        .with_timestamp(message.received_at.as_secs())
        .with_type(TYPE.into())
        .with_app_id(APP_ID.into())
        .with_headers(headers);
    let properties = match &message.extras {
        Some(extras) => extras::put(extras, properties),
        None => properties,
    };
    match message.expires_in {
        Some(span) => properties.with_expiration(short(&expiration(span).to_string())),
        None => properties,
    }
}

/// Milliseconds as RabbitMQ takes them, which is for some 49 days at most.
fn expiration(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// Reads a message of the exchange, of ours or of a back-end service; `None` when it is under no channel.
pub(crate) fn delivery(
    received: lapin::message::Delivery,
    now: Timestamp,
    made_up: fn() -> MessageId,
) -> Option<Delivery> {
    let properties = &received.properties;
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty);
    let text = |name: &str| headers.inner().get(name).and_then(text_of);
    let limits = TopicLimits::default();
    let of_key = RoutingKey::parse(received.routing_key.as_str(), &limits).ok();
    // The headers have the whole topic, the key perhaps a part of it; what only the key says counts where they agree.
    let of_headers = || {
        let channel = ChannelId::parse(text("x-channel")?).ok()?;
        let subtopic = match text("x-subtopic") {
            Some(text) => Subtopic::parse(text, &limits).ok()?,
            None => of_key.clone().filter(|(other, _)| *other == channel).map_or(Subtopic::none(), |(_, s)| s),
        };
        Some((channel, subtopic))
    };
    let (channel, subtopic) = of_headers().or_else(|| of_key.clone())?;
    let content_type = properties.content_type().as_ref().and_then(|text| ContentType::parse(text.as_str()).ok());
    let octets = || ContentType::parse(OCTETS).expect("a content type");
    let received_at = match headers.inner().get("x-received-at") {
        Some(AMQPValue::LongLongInt(nanos)) => u64::try_from(*nanos).map_or(now, Timestamp::from_nanos),
        _ => now,
    };
    let qos = match headers.inner().get("x-qos") {
        Some(AMQPValue::LongInt(level)) => u8::try_from(*level).ok().and_then(QoS::from_level),
        _ => None,
    };
    let expires_in = properties.expiration().as_ref().and_then(|text| text.as_str().parse().ok());
    let message = Message {
        id: properties.message_id().as_ref().and_then(|id| MessageId::parse(id.as_str())).unwrap_or_else(made_up),
        content_type: content_type.unwrap_or_else(octets),
        protocol: text("x-protocol").and_then(Protocol::from_name).unwrap_or(Protocol::Amqp),
        qos: qos.unwrap_or_default(),
        retain: headers.inner().get("x-retain") == Some(&AMQPValue::Boolean(true)),
        received_at,
        expires_in: expires_in.map(Duration::from_millis),
        traceparent: text("traceparent").map(Into::into),
        extras: extras::read(properties),
        payload: received.data.into(),
    };
    let publisher = headers.inner().get("x-thing").and_then(text_of).and_then(|id| ThingId::parse(id).ok());
    Some(Delivery { publisher, channel, subtopic, message })
}

pub(crate) fn text_of(value: &AMQPValue) -> Option<&str> {
    if let AMQPValue::LongString(text) = value { std::str::from_utf8(text.as_bytes()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(key: &str, properties: BasicProperties, data: &[u8]) -> lapin::message::Delivery {
        let mut delivery = lapin::message::Delivery::mock(1, "messages".into(), short(key), false, data.to_vec());
        delivery.properties = properties;
        delivery
    }

    fn made_up() -> MessageId {
        MessageId::parse("made-up").unwrap()
    }

    const NOW: Timestamp = Timestamp::from_secs(7);

    /// Renders what a foreign message is read as.
    fn check(key: &str, headers: &[(&'static str, AMQPValue)], properties: BasicProperties, expected: &str) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        let read = delivery(received(key, properties.with_headers(table), b"x"), NOW, made_up);
        let shown = read.map_or("unreadable".to_owned(), |read| {
            let message = &read.message;
            let publisher = read.publisher.as_ref().map_or("-", ThingId::as_str);
            let (channel, subtopic) = (read.channel.as_str(), read.subtopic.text().unwrap_or("-"));
            let expires = message.expires_in.map_or("-".to_owned(), |span| format!("{span:?}"));
            let (id, content_type) = (message.id.as_str(), message.content_type.as_str());
            let (protocol, at) = (message.protocol.as_str(), message.received_at.as_secs());
            format!("{channel} {subtopic} by {publisher} over {protocol} at {at}: {id} {content_type} {expires}")
        });
        assert_eq!(shown, expected, "{key}");
    }

    #[test]
    fn a_message_of_a_back_end_service_needs_no_more_than_its_routing_key() {
        let plain = BasicProperties::default;
        check(
            "channels.lab.t.a.b%2Ec",
            &[],
            plain(),
            "lab.t a/b.c by - over amqp at 7: made-up application/octet-stream -",
        );
        check("channels.lab.t", &[], plain(), "lab.t - by - over amqp at 7: made-up application/octet-stream -");
        check("something.else", &[], plain(), "unreadable");
    }

    #[test]
    fn headers_say_what_a_key_is_too_short_for() {
        let headers = [("x-channel", long("lab.t")), ("x-subtopic", long("a/b")), ("x-thing", long("lab.dev"))];
        let expected = "lab.t a/b by lab.dev over amqp at 7: made-up application/octet-stream -";
        check("channels.lab.t", &headers, BasicProperties::default(), expected);
    }

    #[test]
    fn properties_and_headers_of_other_types_are_passed_over() {
        let headers = [
            ("x-channel", AMQPValue::LongInt(1)),
            ("x-subtopic", AMQPValue::Boolean(true)),
            ("x-thing", long("no id")),
            ("x-protocol", long("telepathy")),
            ("x-received-at", AMQPValue::LongLongInt(-1)),
        ];
        let properties = BasicProperties::default().with_content_type("nonsense".into()).with_expiration("soon".into());
        let expected = "lab.t a by - over amqp at 7: made-up application/octet-stream -";
        check("channels.lab.t.a", &headers, properties, expected);
    }

    #[test]
    fn what_is_said_well_is_taken() {
        let headers = [("x-protocol", long("http")), ("x-received-at", AMQPValue::LongLongInt(5_000_000_000))];
        let properties = BasicProperties::default()
            .with_content_type("text/plain; charset=utf-8".into())
            .with_message_id("id-1".into())
            .with_expiration("1500".into());
        let expected = "lab.t a by - over http at 5: id-1 text/plain; charset=utf-8 1.5s";
        check("channels.lab.t.a", &headers, properties, expected);
    }

    #[test]
    fn a_text_that_an_amqp_short_string_cannot_hold_does_not_panic() {
        assert_eq!(short(&"x".repeat(255)).as_str().len(), 255);
        assert_eq!(short(&"x".repeat(256)).as_str(), "");
    }

    #[test]
    fn an_expiry_beyond_what_rabbitmq_takes_becomes_its_longest() {
        assert_eq!(expiration(Duration::from_millis(1_500)), 1_500);
        assert_eq!(expiration(Duration::from_secs(u64::from(u32::MAX))), u32::MAX);
    }
}
