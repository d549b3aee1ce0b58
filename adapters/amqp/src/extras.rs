//! What a message says beside its payload, in AMQP: user properties as headers for those who read AMQP, and all of it as the
//! block of properties of MQTT 5, which our own faces read, so that nothing is altered or reordered.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tidegate_model::Extras;

use crate::wire::{long, short, text_of};

/// How the names of headers begin that are user properties.
const USER: &str = "x-user-";
/// The header of the block.
const BLOCK: &str = "x-properties";
/// Bytes of a short string.
const SHORT_BYTES_MAX: usize = 255;

/// Adds them to the properties of a message.
pub(crate) fn put(extras: &Extras, properties: BasicProperties) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    put_user_properties(extras, &mut headers);
    let block = if extras.property_block.is_empty() { block_of(extras) } else { extras.property_block.to_vec() };
    headers.insert(BLOCK.into(), AMQPValue::ByteArray(block.into()));
    let mut properties = properties.with_headers(headers);
    // The pseudo-queue of RabbitMQ's direct replies would be taken for a consumer of ours.
    let is_plain = |text: &&str| text.len() <= SHORT_BYTES_MAX && text.starts_with("channels/");
    if let Some(topic) = extras.response_topic.as_deref().filter(is_plain) {
        properties = properties.with_reply_to(short(topic));
    }
    let data = extras.correlation_data.as_ref().and_then(|data| std::str::from_utf8(data).ok());
    if let Some(text) = data.filter(|text| text.len() <= SHORT_BYTES_MAX) {
        properties = properties.with_correlation_id(short(text));
    }
    properties
}

/// Each under its name; the values of one that comes more than once as an array.
fn put_user_properties(extras: &Extras, headers: &mut FieldTable) {
    let mut by_name = BTreeMap::<ShortString, Vec<AMQPValue>>::new();
    for (name, value) in &extras.user_properties {
        // A name that no header can have is in the block alone.
        if let Ok(header) = ShortString::try_new(format!("{USER}{name}")) {
            by_name.entry(header).or_default().push(long(value));
        }
    }
    for (header, mut values) in by_name {
        let value = if values.len() > 1 { AMQPValue::FieldArray(values.into()) } else { values.remove(0) };
        headers.insert(header, value);
    }
}

/// What the publisher said beside the payload, a device or a back-end service.
pub(crate) fn read(properties: &BasicProperties) -> Option<Box<Extras>> {
    let headers = properties.headers().as_ref();
    let block = headers.and_then(|headers| headers.inner().get(BLOCK));
    let property_block = match block {
        Some(AMQPValue::ByteArray(block)) => Bytes::copy_from_slice(block.as_slice()),
        _ => Bytes::new(),
    };
    let of_block = user_properties_of(property_block.clone()).filter(|all| !all.is_empty());
    let user_properties = of_block.unwrap_or_else(|| headers.map(user_properties).unwrap_or_default());
    let extras = Extras {
        user_properties,
        response_topic: properties.reply_to().as_ref().map(|text| text.as_str().into()),
        correlation_data: properties.correlation_id().as_ref().map(|id| Bytes::copy_from_slice(id.as_str().as_bytes())),
        property_block,
    };
    (extras != Extras::default()).then(|| Box::new(extras))
}

fn user_properties(headers: &FieldTable) -> Vec<(Box<str>, Box<str>)> {
    let mut all = Vec::new();
    for (header, value) in headers.inner() {
        let Some(name) = header.as_str().strip_prefix(USER) else { continue };
        let values =
            if let AMQPValue::FieldArray(values) = value { values.as_slice() } else { std::slice::from_ref(value) };
        all.extend(values.iter().filter_map(text_of).map(|text| (name.into(), text.into())));
    }
    all
}

/// The block of a message that did not come with one: its user properties alone.
//= MQTT5 3.3.2.3.7
fn block_of(extras: &Extras) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in &extras.user_properties {
        // What is too long for MQTT is in its header alone.
        let lengths = (u16::try_from(name.len()), u16::try_from(value.len()));
        if let (Ok(name_length), Ok(value_length)) = lengths {
            block.put_u8(0x26);
            block.put_u16(name_length);
            block.put_slice(name.as_bytes());
            block.put_u16(value_length);
            block.put_slice(value.as_bytes());
        }
    }
    block
}

/// The user properties of a block, in their order; nothing when it is no block of a message.
fn user_properties_of(mut block: Bytes) -> Option<Vec<(Box<str>, Box<str>)>> {
    fn take(block: &mut Bytes, count: usize) -> Option<Bytes> {
        (block.len() >= count).then(|| block.split_to(count))
    }
    fn text(block: &mut Bytes) -> Option<Bytes> {
        let length = take(block, 2)?.get_u16();
        take(block, length.into())
    }
    let mut all = Vec::new();
    while !block.is_empty() {
        match take(&mut block, 1)?[0] {
            0x01 => drop(take(&mut block, 1)?),
            0x02 => drop(take(&mut block, 4)?),
            0x03 | 0x08 | 0x09 => drop(text(&mut block)?),
            0x0B => while take(&mut block, 1)?[0] > 127 {},
            0x23 => drop(take(&mut block, 2)?),
            0x26 => {
                let (name, value) = (text(&mut block)?, text(&mut block)?);
                let said = |bytes: &Bytes| std::str::from_utf8(bytes).ok().map(Box::from);
                all.push((said(&name)?, said(&value)?));
            }
            _ => return None,
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn user_properties_keep_their_order_and_are_headers_too() {
        let user_properties = pairs(&[("b", "1"), ("a", "2"), ("b", "3")]);
        let said = Extras { user_properties, ..Extras::default() };
        let properties = put(&said, BasicProperties::default());
        let headers = properties.headers().clone().unwrap();
        assert_eq!(headers.inner().get("x-user-a"), Some(&long("2")));
        assert_eq!(headers.inner().get("x-user-b"), Some(&AMQPValue::FieldArray(vec![long("1"), long("3")].into())));
        assert!(read(&properties).unwrap().user_properties == said.user_properties);
    }

    #[test]
    fn a_back_end_service_needs_no_block() {
        let mut headers = FieldTable::default();
        headers.insert("x-user-unit".into(), long("C"));
        headers.insert("x-user-n".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default().with_headers(headers).with_reply_to("channels/a/messages".into());
        let extras = read(&properties).unwrap();
        assert!(extras.user_properties == pairs(&[("unit", "C")]));
        assert_eq!(extras.response_topic.as_deref(), Some("channels/a/messages"));
        assert!(read(&BasicProperties::default()).is_none());
    }

    #[test]
    fn the_pseudo_queue_of_direct_replies_is_never_named() {
        let said = |topic: &str| Extras { response_topic: Some(topic.into()), ..Extras::default() };
        let reply_to = |topic: &str| put(&said(topic), BasicProperties::default()).reply_to().clone();
        assert_eq!(reply_to("amq.rabbitmq.reply-to"), None);
        assert_eq!(reply_to("channels/lab.c/messages/answers"), Some("channels/lab.c/messages/answers".into()));
    }

    #[test]
    fn a_block_that_is_none_says_nothing() {
        for block in
            [&[0x26, 0][..], &[0x26, 0, 1, b'a', 0, 9, b'b'], &[0x99], &[0x0B, 0x80], &[0x26, 0, 1, 0xff, 0, 0]]
        {
            assert!(user_properties_of(Bytes::copy_from_slice(block)).is_none(), "{block:02x?}");
        }
        let whole =
            [0x01, 1, 0x02, 0, 0, 0, 9, 0x03, 0, 1, b't', 0x26, 0, 1, b'a', 0, 1, b'b', 0x23, 0, 1, 0x0B, 0x81, 1];
        assert!(user_properties_of(Bytes::copy_from_slice(&whole)).unwrap() == pairs(&[("a", "b")]));
    }
}
