//! Packets that are legal and packets that are not, byte by byte; and that reading is the inverse of writing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_mqtt_proto::*;

/// More than any packet here has.
const BYTES_MAX: usize = 1 << 20;

/// Reads one packet of a client, which has to be all of the bytes.
fn read(bytes: &[u8], version: Version) -> Result<Packet, DecodeError> {
    read_of(bytes, version, Sender::Client)
}

fn read_of(bytes: &[u8], version: Version, sender: Sender) -> Result<Packet, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let frame = split(&mut buffer, BYTES_MAX)?.expect("a whole packet is never waited for");
    assert!(buffer.is_empty());
    decode(frame, version, sender)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

//= MQTT5 1.5.4-1, 1.5.4-2, 1.5.5-1, 1.5.7-1, 2.1.3-1, 2.2.1-2, 2.2.1-3, 2.2.2-1, 3.1.2-3, 3.1.2-9, 3.1.2-11, 3.1.2-12
//= MQTT5 3.1.2-13, 3.1.2-16, 3.1.2-17, 3.1.2-18, 3.1.2-19, 3.1.3-1, 3.1.3-3, 3.1.3-4, 3.1.3-11, 3.1.3-12, 3.1.4-1
//= MQTT5 3.2.2-1, 3.2.2-8, 3.3.1-2, 3.3.1-4, 3.3.2-1, 3.3.2-2, 3.3.2-8, 3.3.2-13, 3.3.2-14, 3.3.2-19, 3.3.4-6
//= MQTT5 3.4.2-1, 3.5.2-1, 3.6.1-1, 3.6.2-1, 3.7.2-1, 3.8.1-1, 3.8.3-1, 3.8.3-2, 3.8.3-4, 3.8.3-5, 3.9.3-2, 3.10.1-1
//= MQTT5 3.10.3-1, 3.10.3-2, 3.11.3-2, 3.14.1-1, 3.14.2-1, 3.14.2-2, 3.15.1-1, 3.15.2-1, 4.7.0-1, 4.7.1-1, 4.7.1-2
//= MQTT5 4.7.3-1, 4.7.3-2, 4.7.3-3, 4.8.2-1, 4.8.2-2
//= MQTT3 1.5.3-1, 1.5.3-2, 2.2.2-1, 2.2.2-2, 2.3.1-1, 2.3.1-5, 3.1.2-3, 3.1.2-9, 3.1.2-11, 3.1.2-13, 3.1.2-14
//= MQTT3 3.1.2-15, 3.1.2-18, 3.1.2-19, 3.1.2-20, 3.1.2-21, 3.1.2-22, 3.1.3-1, 3.1.3-3, 3.1.3-4, 3.1.3-10, 3.1.3-11
//= MQTT3 3.1.4-1, 3.3.1-2, 3.3.1-4, 3.3.2-1, 3.3.2-2, 3.6.1-1, 3.8.1-1, 3.8.3-1, 3.8.3-3, 3.8.3-4, 3.9.3-2, 3.10.1-1
//= MQTT3 3.10.3-1, 3.10.3-2, 3.14.1-1, 4.7.1-1, 4.7.1-2, 4.7.1-3, 4.7.3-1, 4.7.3-2, 4.7.3-3
#[test]
fn every_legal_packet_is_read_and_no_other() {
    let table = include_str!("vectors.txt");
    let mut count = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        let (verdict, version, hex) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let version = if version == "5" { Version::V5 } else { Version::V3_1_1 };
        let outcome = read(&bytes(hex), version);
        assert_eq!(outcome.is_ok(), verdict == "legal", "{line}: {outcome:?}");
        count += 1;
    }
    assert_eq!(count, 137);
}

#[test]
fn what_is_wrong_is_told_by_the_reason_that_the_standard_names() {
    let reasons = [
        ("300403612f2300", Version::V5, Reason::MalformedPacket),
        ("30060003612f2300", Version::V5, Reason::TopicNameInvalid),
        ("300800036162630323000178", Version::V5, Reason::MalformedPacket),
        ("300900036162630323000078", Version::V5, Reason::TopicAliasInvalid),
        ("32060001610000", Version::V5, Reason::MalformedPacket),
        ("320700016100000078", Version::V5, Reason::ProtocolError),
        ("82050001000000", Version::V5, Reason::MalformedPacket),
        ("100c00044d5154540602003c0000", Version::V5, Reason::UnsupportedProtocolVersion),
    ];
    for (hex, version, reason) in reasons {
        let mut buffer = BytesMut::from(&bytes(hex)[..]);
        let read = match split(&mut buffer, BYTES_MAX) {
            Ok(Some(frame)) => decode(frame, version, Sender::Client),
            // What is cut off is malformed as soon as more comes.
            Ok(None) => Err(DecodeError::Malformed("cut off")),
            Err(error) => Err(error),
        };
        assert_eq!(read.map_err(DecodeError::reason), Err(reason), "{hex}");
    }
}

#[test]
fn version_3_1_is_read_by_its_own_name_and_level() {
    let connect = "102f00064d514973647003c2003c0002633100086c61622e6465763100136b65792d646576312d30313233343536373839";
    let Ok(Packet::Connect(connect)) = read(&bytes(connect), Version::V5) else { panic!("a CONNECT") };
    assert_eq!(connect.version, Version::V3_1);
    assert_eq!(connect.user_name.as_ref().map(Text::as_str), Some("lab.dev1"));
    assert!(!format!("{connect:?}").contains("0123456789"), "a password is shown");
    let mixed = "102d00044d51545403c2003c0002633100086c61622e6465763100136b65792d646576312d30313233343536373839";
    assert_eq!(read(&bytes(mixed), Version::V5), Err(DecodeError::Version { is_newer: false }));
}

fn text() -> impl Strategy<Value = Text> {
    "[a-zé/]{0,8}".prop_map(|text| Text::try_from(text.as_str()).unwrap())
}

fn topic() -> impl Strategy<Value = Text> {
    "[a-z/]{1,8}".prop_map(|text| Text::try_from(text.as_str()).unwrap())
}

fn filter() -> impl Strategy<Value = Text> {
    let legal = ["a", "a/+", "#", "+/b/#", "$share/g/a", "/"];
    proptest::sample::select(legal.to_vec()).prop_map(|text| Text::try_from(text).unwrap())
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|number| PacketId::new(number).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..3_u8).prop_map(|level| QoS::new(level).unwrap())
}

fn version() -> impl Strategy<Value = Version> {
    proptest::sample::select(vec![Version::V3_1, Version::V3_1_1, Version::V5])
}

/// Some of these, and user properties; none before MQTT 5.
fn properties(version: Version, of: &[Property]) -> BoxedStrategy<Properties> {
    if version != Version::V5 {
        return Just(Properties::NONE).boxed();
    }
    let user = vec((text(), text()).prop_map(|(name, value)| Property::UserProperty(name, value)), 0..3);
    let some = proptest::sample::subsequence(of.to_vec(), 0..=of.len());
    (some, user).prop_map(|(some, user)| some.into_iter().chain(user).collect()).boxed()
}

fn word(text: &str) -> Text {
    Text::try_from(text).unwrap()
}

fn of_message() -> Vec<Property> {
    vec![
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(0),
        Property::ContentType(word("application/json")),
        Property::ResponseTopic(word("r/t")),
        Property::CorrelationData(Bytes::from_static(b"\xff\0")),
    ]
}

fn reason(version: Version, of: PacketType) -> BoxedStrategy<Reason> {
    let all: Vec<Reason> = Reason::ALL.iter().copied().filter(|reason| reason.fits(of)).collect();
    if version == Version::V5 { proptest::sample::select(all).boxed() } else { Just(Reason::Success).boxed() }
}

fn connect(version: Version) -> BoxedStrategy<(Packet, Sender)> {
    let of_connect = vec![
        Property::SessionExpiryInterval(u32::MAX),
        Property::ReceiveMaximum(5.try_into().unwrap()),
        Property::MaximumPacketSize(1_000.try_into().unwrap()),
        Property::TopicAliasMaximum(0),
        Property::RequestResponseInformation(true),
        Property::RequestProblemInformation(false),
    ];
    let of_will = [of_message(), vec![Property::WillDelayInterval(7)]].concat();
    let will = (qos(), any::<bool>(), properties(version, &of_will), topic(), payload());
    let will =
        will.prop_map(|(qos, retain, properties, topic, payload)| Will { qos, retain, properties, topic, payload });
    let login = (option::of(text()), option::of(payload()));
    (any::<bool>(), any::<u16>(), properties(version, &of_connect), text(), option::of(will), login)
        .prop_map(move |(clean_start, keep_alive, properties, client_id, will, (user_name, password))| {
            // Before MQTT 5 there is no password without a name.
            let password = password.filter(|_| version == Version::V5 || user_name.is_some()).map(Secret);
            let connect =
                Connect { version, clean_start, keep_alive, properties, client_id, will, user_name, password };
            (Packet::Connect(Box::new(connect)), Sender::Client)
        })
        .boxed()
}

fn publish(version: Version) -> BoxedStrategy<(Packet, Sender)> {
    let alias = vec![Property::TopicAlias(3.try_into().unwrap())];
    let delivery = prop_oneof![
        Just(Delivery::AtMostOnce),
        (id(), any::<bool>()).prop_map(|(id, dup)| Delivery::AtLeastOnce { id, dup }),
        (id(), any::<bool>()).prop_map(|(id, dup)| Delivery::ExactlyOnce { id, dup }),
    ];
    (delivery, any::<bool>(), topic(), properties(version, &[of_message(), alias].concat()), payload())
        .prop_map(|(delivery, retain, topic, properties, payload)| {
            (Packet::Publish(Publish { delivery, retain, topic, properties, payload }), Sender::Client)
        })
        .boxed()
}

fn acknowledgement(version: Version) -> BoxedStrategy<(Packet, Sender)> {
    type Make = fn(Acknowledgement) -> Packet;
    let kinds: [(PacketType, Make); 4] = [
        (PacketType::PubAck, Packet::PubAck),
        (PacketType::PubRec, Packet::PubRec),
        (PacketType::PubRel, Packet::PubRel),
        (PacketType::PubComp, Packet::PubComp),
    ];
    let of = vec![Property::ReasonString(word("why"))];
    proptest::sample::select(kinds.to_vec())
        .prop_flat_map(move |(kind, make)| {
            let parts = (id(), reason(version, kind), properties(version, &of));
            parts.prop_map(move |(id, reason, properties)| {
                (make(Acknowledgement { id, reason, properties }), Sender::Server)
            })
        })
        .boxed()
}

fn subscription(version: Version) -> BoxedStrategy<(Packet, Sender)> {
    let identifier = vec![Property::SubscriptionIdentifier(268_435_455.try_into().unwrap())];
    let handling = vec![RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let options = (qos(), any::<bool>(), any::<bool>(), proptest::sample::select(handling));
    let one = (filter(), options).prop_map(move |(filter, (qos, no_local, retain_as_published, retain_handling))| {
        let v5 = version == Version::V5;
        let no_local = no_local && v5 && !filter.as_str().starts_with("$share");
        let retain_handling = if v5 { retain_handling } else { RetainHandling::Send };
        let retain_as_published = retain_as_published && v5;
        (filter, SubscriptionOptions { qos, no_local, retain_as_published, retain_handling })
    });
    let subscribe = (id(), properties(version, &identifier), vec(one, 1..4)).prop_map(|(id, properties, filters)| {
        (Packet::Subscribe(Subscribe { id, properties, filters }), Sender::Client)
    });
    let unsubscribe = (id(), properties(version, &[]), vec(filter(), 1..4)).prop_map(|(id, properties, filters)| {
        (Packet::Unsubscribe(Unsubscribe { id, properties, filters }), Sender::Client)
    });
    prop_oneof![subscribe, unsubscribe].boxed()
}

fn answer(version: Version) -> BoxedStrategy<(Packet, Sender)> {
    let before = [Reason::Success, Reason::GrantedQoS1, Reason::GrantedQoS2, Reason::UnspecifiedError];
    let granted = if version == Version::V5 {
        reason(version, PacketType::SubAck)
    } else {
        proptest::sample::select(before.to_vec()).boxed()
    };
    let why = vec![Property::ReasonString(word("why"))];
    let sub_ack = (id(), properties(version, &why), vec(granted, 1..4))
        .prop_map(|(id, properties, reasons)| (Packet::SubAck(SubAck { id, properties, reasons }), Sender::Server));
    let count = if version == Version::V5 { 1..4 } else { 0..1 };
    let unsub_ack = (id(), properties(version, &why), vec(reason(version, PacketType::UnsubAck), count))
        .prop_map(|(id, properties, reasons)| (Packet::UnsubAck(UnsubAck { id, properties, reasons }), Sender::Server));
    let of_conn_ack = vec![
        Property::AssignedClientIdentifier(word("id")),
        Property::ServerKeepAlive(10),
        Property::MaximumQoS(true),
        Property::RetainAvailable(false),
        Property::SharedSubscriptionAvailable(true),
        Property::ServerReference(word("other")),
    ];
    let spoken = reason(version, PacketType::ConnAck);
    let conn_ack =
        (any::<bool>(), spoken, properties(version, &of_conn_ack)).prop_map(|(present, reason, properties)| {
            let session_present = present && reason == Reason::Success;
            (Packet::ConnAck(ConnAck { session_present, reason, properties }), Sender::Server)
        });
    prop_oneof![sub_ack, unsub_ack, conn_ack, Just((Packet::PingResp, Sender::Server))].boxed()
}

fn end(version: Version) -> BoxedStrategy<(Packet, Sender)> {
    let of = vec![Property::SessionExpiryInterval(9), Property::ReasonString(word("why"))];
    let parts = (reason(version, PacketType::Disconnect), properties(version, &of));
    let disconnect =
        parts.prop_map(|(reason, properties)| (Packet::Disconnect(Disconnect { reason, properties }), Sender::Client));
    prop_oneof![disconnect, Just((Packet::PingReq, Sender::Client))].boxed()
}

fn packet() -> impl Strategy<Value = (Version, Packet, Sender)> {
    version().prop_flat_map(|version| {
        let any = prop_oneof![
            connect(version),
            publish(version),
            acknowledgement(version),
            subscription(version),
            answer(version),
            end(version),
        ];
        any.prop_map(move |(packet, sender)| (version, packet, sender))
    })
}

/// What the codec of mqtt-proto makes of these bytes: written again, or nothing where it takes them for no packet.
fn by_another_codec(bytes: &[u8], version: Version) -> Option<Vec<u8>> {
    if version == Version::V5 {
        let packet = mqtt_proto::v5::Packet::decode(bytes).ok()??;
        return Some(packet.encode().ok()?.as_ref().to_vec());
    }
    let packet = mqtt_proto::v3::Packet::decode(bytes).ok()??;
    Some(packet.encode().ok()?.as_ref().to_vec())
}

/// The same of the codec of mqtt-protocol-core, which keeps the order of properties. It knows no CONNECT of MQTT 3.1.
fn by_a_third_codec(bytes: &[u8], version: Version) -> Option<Vec<u8>> {
    use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};

    macro_rules! again {
        ($module:ident, $first:ident, $body:ident: $($kind:literal $packet:ident)*) => {
            match $first >> 4 {
                3 => $module::Publish::parse($first & 0x0f, $body.into()).map(|(it, read)| (it.to_continuous_buffer(), read)),
                $($kind => $module::$packet::parse($body).map(|(it, read)| (it.to_continuous_buffer(), read)),)*
                _ => return None,
            }
        };
        ($module:ident, $first:ident, $body:ident) => {
            again!($module, $first, $body:
                1 Connect 2 Connack 4 Puback 5 Pubrec 6 Pubrel 7 Pubcomp 8 Subscribe 9 Suback 10 Unsubscribe 11 Unsuback
                12 Pingreq 13 Pingresp 14 Disconnect)
        };
    }
    let (first, body) = (bytes[0], &bytes[2 + bytes[1..].iter().position(|byte| byte & 0x80 == 0)?..]);
    let outcome = if version == Version::V5 { again!(v5_0, first, body) } else { again!(v3_1_1, first, body) };
    outcome.ok().filter(|(_, read)| *read == body.len()).map(|(written, _)| written)
}

/// What another codec may refuse: a payload that is said to be text and is none, which a receiver may look at or not; and a
/// DISCONNECT with reason 0x8C, which one table of the standard has (2.4) and another has not (3.14.2.1).
fn is_disputed(packet: &Packet) -> bool {
    let is_wrong = |properties: &Properties, payload: &[u8]| {
        let says = properties.iter().any(|property| property == Property::PayloadFormatIndicator(true));
        says && std::str::from_utf8(payload).is_err()
    };
    let of_will =
        |connect: &Connect| connect.will.as_ref().is_some_and(|will| is_wrong(&will.properties, &will.payload));
    matches!(packet, Packet::Publish(publish) if is_wrong(&publish.properties, &publish.payload))
        || matches!(packet, Packet::Connect(connect) if of_will(connect))
        || matches!(packet, Packet::Disconnect(end) if end.reason == Reason::BadAuthenticationMethod)
}

/// What mqtt-protocol-core refuses, and the standard allows: a password without a user name (MQTT 5, 3.1.2.9).
fn is_lost_on_the_third(packet: &Packet) -> bool {
    matches!(packet, Packet::Connect(connect) if connect.password.is_some() && connect.user_name.is_none())
}

//= MQTT5 2.1.3-1, 3.6.1-1, 3.8.1-1, 3.10.1-1, 3.14.1-1, 3.15.1-1
//= MQTT3 2.2.2-1, 2.2.2-2, 3.6.1-1, 3.8.1-1, 3.10.1-1, 3.14.1-1
#[test]
fn the_flags_of_a_header_are_as_they_have_to_be() {
    let with_two = [PacketType::PubRel, PacketType::Subscribe, PacketType::Unsubscribe];
    for kind in PacketType::ALL {
        assert_eq!(kind.flags(), if with_two.contains(&kind) { 0b0010 } else { 0 });
        for flags in 0..16 {
            let mut buffer = BytesMut::from(&[(kind as u8) << 4 | flags, 0][..]);
            // Those of PUBLISH say something, and those of CONNECT are looked at when its version is known.
            let is_right = matches!(kind, PacketType::Publish | PacketType::Connect) || flags == kind.flags();
            assert_eq!(split(&mut buffer, BYTES_MAX).is_ok(), is_right, "{kind:?} {flags:04b}");
        }
    }
    for (version, connect) in
        [(Version::V3_1_1, "100d00044d5154540402003c000163"), (Version::V5, "100e00044d5154540502003c00000163")]
    {
        let mut bytes = bytes(connect);
        assert!(read(&bytes, version).is_ok());
        bytes[0] |= 1;
        assert!(read(&bytes, version).is_err());
    }
}

proptest! {
    /// In another order of properties, perhaps.
    #[test]
    fn another_codec_reads_what_is_written_and_is_read_in_turn((version, packet, sender) in packet()) {
        let mut out = BytesMut::new();
        encode(&packet, version, &mut out).unwrap();
        let theirs = by_another_codec(&out, version);
        let is_refused = theirs.is_none() && is_disputed(&packet);
        prop_assert!(theirs.is_some() || is_refused, "{packet:?} as {out:02x?}");
        let Some(theirs) = theirs else { return Ok(()) };
        prop_assert_eq!(theirs.len(), out.len());
        // It writes a failure in the SUBACK of MQTT 3 as 3, which is no code.
        if matches!(&packet, Packet::SubAck(ack) if version != Version::V5 && ack.reasons.iter().any(|r| r.is_error())) {
            return Ok(());
        }
        let read = read_of(&theirs, version, sender);
        prop_assert_eq!(read.map(|read| read.kind()), Ok(packet.kind()));
    }

    #[test]
    fn a_third_codec_reads_what_is_written_and_writes_the_same((version, packet, _) in packet()) {
        if version == Version::V3_1 && packet.kind() == PacketType::Connect {
            return Ok(());
        }
        let mut out = BytesMut::new();
        encode(&packet, version, &mut out).unwrap();
        let theirs = by_a_third_codec(&out, version);
        let is_refused = theirs.is_none() && (is_disputed(&packet) || is_lost_on_the_third(&packet));
        prop_assert!(is_refused || theirs.as_deref() == Some(&out), "{packet:?} as {out:02x?}, and {theirs:02x?}");
    }

    #[test]
    fn what_is_written_is_read_again((version, packet, sender) in packet()) {
        let mut out = BytesMut::new();
        encode(&packet, version, &mut out).unwrap();
        prop_assert_eq!(read_of(&out, version, sender), Ok(packet));
    }

    #[test]
    fn what_is_read_is_written_again_and_nothing_panics(
        first in any::<u8>(),
        body in vec(any::<u8>(), 0..40),
        version in version(),
    ) {
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend(&body);
        let mut buffer = BytesMut::from(&bytes[..]);
        let Ok(Some(frame)) = split(&mut buffer, BYTES_MAX) else { return Ok(()) };
        for sender in [Sender::Client, Sender::Server] {
            let Ok(packet) = decode(frame.clone(), version, sender) else { continue };
            let mut out = BytesMut::new();
            encode(&packet, version, &mut out).unwrap();
            prop_assert_eq!(read_of(&out, version, sender), Ok(packet));
        }
    }

    #[test]
    fn a_packet_that_is_changed_anywhere_is_read_or_refused((version, packet, sender) in packet(), at in any::<usize>(), to in any::<u8>()) {
        let mut out = BytesMut::new();
        encode(&packet, version, &mut out).unwrap();
        let at = at % out.len();
        out[at] = to;
        if let Ok(Some(frame)) = split(&mut out, BYTES_MAX) {
            let _ = decode(frame, version, sender);
        }
    }
}
