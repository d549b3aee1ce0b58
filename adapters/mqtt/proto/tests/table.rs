//! What a session does with each packet in each state, both versions: one table.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use expect_test::expect_file;
use tidegate_mqtt_proto::*;

const VERSIONS: [(Version, &str); 3] = [(Version::V3_1, "3.1"), (Version::V3_1_1, "3.1.1"), (Version::V5, "5")];

fn text(text: &str) -> Text {
    Text::try_from(text).unwrap()
}

fn connect(version: Version) -> Packet {
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::NONE,
        client_id: text("c"),
        will: None,
        user_name: None,
        password: None,
    }))
}

fn acknowledgement(reason: Reason) -> Acknowledgement {
    Acknowledgement { id: PacketId::new(1).unwrap(), reason, properties: Properties::NONE }
}

fn publish(qos: QoS) -> Packet {
    let id = PacketId::new(1).unwrap();
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup: false },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup: false },
    };
    let (properties, payload) = (Properties::NONE, Bytes::from_static(b"x"));
    Packet::Publish(Publish { delivery, retain: false, topic: text("a"), properties, payload })
}

/// Each packet, with the name of the row.
fn packets(version: Version) -> Vec<(&'static str, Packet)> {
    let id = PacketId::new(1).unwrap();
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    };
    let done = || acknowledgement(Reason::Success);
    let properties = Properties::NONE;
    let mut all = vec![
        ("CONNECT", connect(version)),
        ("PUBLISH 0", publish(QoS::AtMostOnce)),
        ("PUBLISH 1", publish(QoS::AtLeastOnce)),
        ("PUBLISH 2", publish(QoS::ExactlyOnce)),
        ("PUBACK", Packet::PubAck(done())),
        ("PUBREC", Packet::PubRec(done())),
        ("PUBREL", Packet::PubRel(done())),
        ("PUBCOMP", Packet::PubComp(done())),
        (
            "SUBSCRIBE",
            Packet::Subscribe(Subscribe { id, properties: properties.clone(), filters: vec![(text("a"), options)] }),
        ),
        (
            "UNSUBSCRIBE",
            Packet::Unsubscribe(Unsubscribe { id, properties: properties.clone(), filters: vec![text("a")] }),
        ),
        ("PINGREQ", Packet::PingReq),
        ("DISCONNECT", Packet::Disconnect(Disconnect { reason: Reason::Success, properties: properties.clone() })),
        (
            "CONNACK",
            Packet::ConnAck(ConnAck {
                session_present: false,
                reason: Reason::Success,
                properties: properties.clone(),
            }),
        ),
        ("SUBACK", Packet::SubAck(SubAck { id, properties: properties.clone(), reasons: vec![Reason::Success] })),
        ("UNSUBACK", Packet::UnsubAck(UnsubAck { id, properties: properties.clone(), reasons: vec![Reason::Success] })),
        ("PINGRESP", Packet::PingResp),
    ];
    if version == Version::V5 {
        all.push(("PUBREC, refused", Packet::PubRec(acknowledgement(Reason::QuotaExceeded))));
        all.push(("AUTH", Packet::Auth(Auth { reason: Reason::Success, properties })));
    }
    all
}

/// All that the session says, a word for each.
fn said(session: &mut Session) -> String {
    let mut words = vec![];
    while let Some(output) = session.poll_output() {
        words.push(match output {
            Output::Send(packet) => {
                let kind = format!("{:?}", packet.kind()).to_uppercase();
                let reason = match &packet {
                    Packet::ConnAck(ack) => Some(ack.reason),
                    Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                        Some(ack.reason)
                    }
                    Packet::Disconnect(end) => Some(end.reason),
                    Packet::Connect(_)
                    | Packet::Publish(_)
                    | Packet::Subscribe(_)
                    | Packet::SubAck(_)
                    | Packet::Unsubscribe(_)
                    | Packet::UnsubAck(_)
                    | Packet::PingReq
                    | Packet::PingResp
                    | Packet::Auth(_) => None,
                };
                reason.map_or(kind.clone(), |reason| format!("{kind} {reason:?}"))
            }
            Output::Login(_) => "asks: login".to_owned(),
            Output::Publish(..) => "asks: publish".to_owned(),
            Output::Subscribe(..) => "asks: subscribe".to_owned(),
            Output::Unsubscribe(..) => "asks: unsubscribe".to_owned(),
            Output::Close => "close".to_owned(),
        });
    }
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// Subscribes to `a` and has a message of it delivered.
fn deliver(session: &mut Session, qos: QoS, now: Instant) {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    };
    let id = PacketId::new(9).unwrap();
    let subscribe = Subscribe { id, properties: Properties::NONE, filters: vec![(text("a"), options)] };
    session.handle_packet(Packet::Subscribe(subscribe), now);
    let Some(Output::Subscribe(ticket, _)) = session.poll_output() else { unreachable!("it was asked for") };
    session.subscribed(ticket, vec![Ok(QoS::ExactlyOnce)], None);
    let message = Message {
        topic: text("a"),
        payload: Bytes::from_static(b"x"),
        qos,
        retain: false,
        properties: Properties::NONE,
        expires: None,
    };
    session.deliver(message, &[text("a")], false, now);
    said(session);
}

/// A session in each state that makes a difference to a packet of the name 1.
fn states(version: Version, now: Instant) -> Vec<(&'static str, Session)> {
    let silent = || Session::new(Limits::default(), now);
    let asked = || {
        let mut session = silent();
        session.handle_packet(connect(version), now);
        said(&mut session);
        session
    };
    let open = || {
        let mut session = asked();
        session.accept(Accepted::default(), now);
        said(&mut session);
        session
    };
    let delivering = |qos: QoS| {
        let mut session = open();
        deliver(&mut session, qos, now);
        session
    };
    let releasing = || {
        let mut session = delivering(QoS::ExactlyOnce);
        session.handle_packet(Packet::PubRec(acknowledgement(Reason::Success)), now);
        said(&mut session);
        session
    };
    let under_way = || {
        let mut session = open();
        session.handle_packet(publish(QoS::ExactlyOnce), now);
        said(&mut session);
        session
    };
    let received = || {
        let mut session = open();
        session.handle_packet(publish(QoS::ExactlyOnce), now);
        let Some(Output::Publish(ticket, _)) = session.poll_output() else { unreachable!("it was asked for") };
        session.settle(ticket, Ok(()), None);
        said(&mut session);
        session
    };
    let over = || {
        let mut session = open();
        session.end(Reason::ServerShuttingDown, None);
        said(&mut session);
        session
    };
    vec![
        ("silent", silent()),
        ("asked", asked()),
        ("open", open()),
        ("PUBLISH 1 sent", delivering(QoS::AtLeastOnce)),
        ("PUBLISH 2 sent", delivering(QoS::ExactlyOnce)),
        ("PUBREL sent", releasing()),
        ("PUBLISH 2 under way", under_way()),
        ("PUBREC sent", received()),
        ("over", over()),
    ]
}

//= MQTT5 3.12.4-1
//= MQTT3 3.12.4-1
#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
fn each_packet_in_each_state() {
    let now = Instant::now();
    let mut table = String::new();
    for (version, name) in VERSIONS {
        for (row, packet) in packets(version) {
            for (state, mut session) in states(version, now) {
                // By way of bytes, as it would come.
                let (mut bytes, spoken) = (BytesMut::new(), session.version());
                encode(&packet, version, &mut bytes).unwrap();
                let frame = split(&mut bytes, 1 << 20).unwrap().unwrap();
                match decode(frame, spoken, Sender::Client) {
                    Ok(packet) => session.handle_packet(packet, now),
                    Err(error) => session.handle_malformed(error),
                }
                writeln!(table, "{name} | {row} | {state} | {}", said(&mut session)).unwrap();
            }
        }
    }
    expect_file!["table.txt"].assert_eq(&table);
}
