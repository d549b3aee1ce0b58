//! A message in the words of MQTT and in those of the bridge, both ways.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_bridge::Delivery;
use tidegate_model::{Extras, Message as BridgeMessage, QoS as MessageQoS, Timestamp};
use tidegate_mqtt_proto::{Message, Properties, Property, QoS, Shared, Text, shared};

/// A delivery as a client gets it by a filter: the channel is called as it is there, so that the filter matches. `today` and
/// `now` are the same moment.
//= MQTT5 3.3.2-3
//= MQTT3 3.3.2-3
pub(crate) fn of_delivery(delivery: &Delivery, filter: &Text, today: Timestamp, now: Instant) -> Option<Message> {
    let message = &delivery.message;
    let filter = filter.as_str();
    let filter = if let Shared::Of { filter, .. } = shared(filter) { filter } else { filter };
    let channel = filter.split('/').nth(1)?;
    let suffix = delivery.subtopic.text().map(|text| format!("/{text}")).unwrap_or_default();
    let topic = Text::try_from(format!("channels/{channel}/messages{suffix}").as_str()).ok()?;
    let expires = message.time_left(today).map(|left| now + left);
    Some(Message {
        topic,
        payload: message.payload.clone(),
        qos: qos(message.qos),
        retain: message.retain,
        properties: properties(message),
        expires,
    })
}

/// As the publisher said them, where it speaks MQTT 5 too; else as far as they are known. A content type there always is.
//= MQTT5 3.1.3-10, 3.3.2-4, 3.3.2-15, 3.3.2-16, 3.3.2-17, 3.3.2-18, 3.3.2-20
fn properties(message: &BridgeMessage) -> Properties {
    let content_type = || Text::try_from(message.content_type.as_str()).ok().map(Property::ContentType);
    let Some(extras) = &message.extras else { return content_type().into_iter().collect() };
    let whole = Some(&extras.property_block).filter(|block| !block.is_empty());
    if let Some(said) = whole.and_then(|block| Properties::of_message(block.clone())) {
        let names_type = said.iter().any(|property| matches!(property, Property::ContentType(_)));
        return said.iter().chain(content_type().filter(|_| !names_type)).collect();
    }
    let text = |text: &str| Text::try_from(text).ok();
    let response_topic = extras.response_topic.as_deref().and_then(text).map(Property::ResponseTopic);
    let correlation_data = extras.correlation_data.clone().map(Property::CorrelationData);
    let user = extras
        .user_properties
        .iter()
        .filter_map(|(name, value)| Some(Property::UserProperty(text(name)?, text(value)?)));
    content_type().into_iter().chain(response_topic).chain(correlation_data).chain(user).collect()
}

/// What a client says of its message beyond what every face can say.
pub(crate) fn extras(properties: &Properties) -> Option<Box<Extras>> {
    let mut extras = Extras::default();
    let mut is_text = false;
    for property in properties.iter() {
        if let Property::UserProperty(name, value) = property {
            extras.user_properties.push((name.as_str().into(), value.as_str().into()));
        } else if let Property::ResponseTopic(topic) = property {
            extras.response_topic = Some(topic.as_str().into());
        } else if let Property::CorrelationData(data) = property {
            extras.correlation_data = Some(Bytes::copy_from_slice(&data));
        } else if let Property::PayloadFormatIndicator(_) = property {
            is_text = true;
        }
    }
    if extras == Extras::default() && !is_text {
        return None;
    }
    // A copy of its own: the packet's buffer may be much larger.
    extras.property_block = Bytes::copy_from_slice(properties.as_bytes());
    Some(Box::new(extras))
}

pub(crate) fn content_type(properties: &Properties) -> Option<Text> {
    properties.find(|property| if let Property::ContentType(text) = property { Some(text) } else { None })
}

pub(crate) fn expiry(properties: &Properties) -> Option<Duration> {
    let seconds = properties
        .find(|property| if let Property::MessageExpiryInterval(seconds) = property { Some(seconds) } else { None });
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

pub(crate) const fn qos(qos: MessageQoS) -> QoS {
    match qos {
        MessageQoS::AtMostOnce => QoS::AtMostOnce,
        MessageQoS::AtLeastOnce => QoS::AtLeastOnce,
        MessageQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

pub(crate) const fn message_qos(qos: QoS) -> MessageQoS {
    match qos {
        QoS::AtMostOnce => MessageQoS::AtMostOnce,
        QoS::AtLeastOnce => MessageQoS::AtLeastOnce,
        QoS::ExactlyOnce => MessageQoS::ExactlyOnce,
    }
}
