//! What the standards promise a client beyond the usual: packets that fit it, silence where it wants it, messages to their end.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use std::num::NonZeroU16;
use std::time::Instant;

use expect_test::expect;
use script::{check, text};
use tidegate_mqtt_proto::*;

//= MQTT5 3.2.2-19, 3.2.2-20, 3.4.2-2, 3.4.2-3, 3.5.2-2, 3.5.2-3, 3.6.2-2, 3.6.2-3, 3.7.2-2, 3.7.2-3
//= MQTT5 3.9.2-1, 3.9.2-2, 3.11.2-1, 3.11.2-2, 3.14.2-3, 3.14.2-4
#[test]
fn words_for_people_are_left_out_where_the_packet_would_be_too_large_with_them() {
    check(
        "> connect 5 c1 clean bytes=16
         ! accept
         > publish qos=1 id=1 topic=a
         ! settle 1 87
         > publish qos=2 id=2 topic=a
         ! settle 2 87
         > publish qos=2 id=3 topic=a
         ! settle 3
         > pubrel 3
         > pubrec 9
         > subscribe 4 a:1
         ! subscribed 4 x87
         > unsubscribe 5 a
         ! unsubscribed 5
         ! end 8b",
        &expect![[r#"
            > connect 5 c1 clean bytes=16
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=1 id=1 topic=a
            ? 1 publish a
            ! settle 1 87
            < puback 1 87
            > publish qos=2 id=2 topic=a
            ? 2 publish a
            ! settle 2 87
            < pubrec 2 87
            > publish qos=2 id=3 topic=a
            ? 3 publish a
            ! settle 3
            < pubrec 3 00
            > pubrel 3
            < pubcomp 3 00
            > pubrec 9
            < pubrel 9 92
            > subscribe 4 a:1
            ? 4 subscribe a
            ! subscribed 4 x87
            < suback 4 87
            > unsubscribe 5 a
            ? 5 unsubscribe a
            ! unsubscribed 5
            < unsuback 5 11
            ! end 8b
            < disconnect 8b [ReasonString("so it is")]
            < closed
        "#]],
    );
    check(
        "> connect 5 c1 clean bytes=15
         ! accept",
        &expect![[r#"
            > connect 5 c1 clean bytes=15
            ? login c1
            ! accept
            < closed
        "#]],
    );
}

//= MQTT5 3.1.2-29
#[test]
fn who_wants_no_words_gets_none() {
    check(
        "> connect 5 c1 clean quiet
         ! accept
         > publish qos=1 id=1 topic=a
         ! settle 1 87
         > subscribe 2 a:1
         ! subscribed 2 x87
         ! end 8b",
        &expect![[r#"
            > connect 5 c1 clean quiet
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=1 id=1 topic=a
            ? 1 publish a
            ! settle 1 87
            < puback 1 87
            > subscribe 2 a:1
            ? 2 subscribe a
            ! subscribed 2 x87
            < suback 2 87
            ! end 8b
            < disconnect 8b
            < closed
        "#]],
    );
}

//= MQTT5 4.3.3-7, 4.8.2-4
#[test]
fn what_was_sent_once_does_not_expire_any_more() {
    check(
        "> connect 5 c1 expiry=300 receive=2
         ! accept
         > subscribe 1 a:2
         ! subscribed 1 2
         ! deliver a qos=2 expiry=10
         ! deliver a qos=1 expiry=10
         ! deliver a qos=1 payload=waits expiry=10
         ! tick 20
         ! cut
         > connect 5 c1 expiry=300
         ! accept resume
         > puback 2
         > pubrec 1
         > pubcomp 1",
        &expect![[r#"
            > connect 5 c1 expiry=300 receive=2
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:2
            ? 1 subscribe a
            ! subscribed 1 2
            < suback 1 02 [ReasonString("so it is")]
            ! deliver a qos=2 expiry=10
            < publish 2 1 "a" x [MessageExpiryInterval(10)]
            ! deliver a qos=1 expiry=10
            < publish 1 2 "a" x [MessageExpiryInterval(10)]
            ! deliver a qos=1 payload=waits expiry=10
            ! tick 20
            ! cut
              left: 3 waiting, for Some(300s)
            > connect 5 c1 expiry=300
            ? login c1
            ! accept resume
            < connack 00 present [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            < publish 2 1 dup "a" x [MessageExpiryInterval(0)]
            < publish 1 2 dup "a" x [MessageExpiryInterval(0)]
              Dropped { full: 0, too_large: 0, expired: 1 }
            > puback 2
            > pubrec 1
            < pubrel 1 00
            > pubcomp 1
        "#]],
    );
}

//= MQTT5 4.4.0-2, 4.8.2-6
#[test]
fn what_a_client_refuses_is_not_sent_again() {
    check(
        "> connect 5 c1 expiry=300
         ! accept
         > subscribe 1 a:2
         ! subscribed 1 2
         ! deliver a qos=2
         ! deliver a qos=1
         > pubrec 1 reason=97
         > puback 2 reason=97
         ! cut
         > connect 5 c1 expiry=300
         ! accept resume",
        &expect![[r#"
            > connect 5 c1 expiry=300
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:2
            ? 1 subscribe a
            ! subscribed 1 2
            < suback 1 02 [ReasonString("so it is")]
            ! deliver a qos=2
            < publish 2 1 "a" x
            ! deliver a qos=1
            < publish 1 2 "a" x
            > pubrec 1 reason=97
            > puback 2 reason=97
            ! cut
              left: 0 waiting, for Some(300s)
            > connect 5 c1 expiry=300
            ? login c1
            ! accept resume
            < connack 00 present [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
        "#]],
    );
}

//= MQTT5 3.10.4-3
//= MQTT3 3.10.4-3
#[test]
fn what_has_begun_is_completed_when_its_subscription_is_gone() {
    check(
        "> connect 4 c1 clean
         ! accept
         > subscribe 1 a:2
         ! subscribed 1 2
         ! deliver a qos=2
         > unsubscribe 2 a
         ! unsubscribed 2
         ! deliver a qos=2
         > pubrec 1
         > pubcomp 1",
        &expect![[r#"
            > connect 4 c1 clean
            ? login c1
            ! accept
            < connack 00
            > subscribe 1 a:2
            ? 1 subscribe a
            ! subscribed 1 2
            < suback 1 02
            ! deliver a qos=2
            < publish 2 1 "a" x
            > unsubscribe 2 a
            ? 2 unsubscribe a
            ! unsubscribed 2
            < unsuback 2 00
            ! deliver a qos=2
            > pubrec 1
            < pubrel 1 00
            > pubcomp 1
        "#]],
    );
}

//= MQTT5 3.8.3-3
#[test]
fn a_client_does_not_hear_itself_where_it_does_not_want_to() {
    check(
        "> connect 5 c1 clean
         ! accept
         > subscribe 1 a:1,nl b:1
         ! subscribed 1 1 1
         ! deliver a qos=1 own
         ! deliver b qos=1 own
         ! deliver a qos=1 payload=other",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:1,nl b:1
            ? 1 subscribe a b
            ! subscribed 1 1 1
            < suback 1 01 01 [ReasonString("so it is")]
            ! deliver a qos=1 own
            ! deliver b qos=1 own
            < publish 1 1 "b" x
            ! deliver a qos=1 payload=other
            < publish 1 2 "a" other
        "#]],
    );
}

#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
fn connected(limits: Limits, keep_alive: u16) -> (Session, ConnAck) {
    let now = Instant::now();
    let mut session = Session::new(limits, now);
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive,
        properties: Properties::NONE,
        client_id: text("c"),
        will: None,
        user_name: None,
        password: None,
    };
    session.handle_packet(Packet::Connect(Box::new(connect)), now);
    assert!(matches!(session.poll_output(), Some(Output::Login(_))));
    session.accept(Accepted::default(), now);
    let Some(Output::Send(Packet::ConnAck(ack))) = session.poll_output() else { panic!("no CONNACK") };
    (session, ack)
}

//= MQTT5 3.1.2-21, 3.2.2-21
#[test]
fn a_keep_alive_that_is_too_long_is_shortened_and_that_is_said() {
    let limits = Limits { keep_alive_max: NonZeroU16::new(60), ..Limits::default() };
    for (asked, told) in [(0, Some(60)), (61, Some(60)), (60, None), (5, None)] {
        let (session, ack) = connected(limits, asked);
        let said = ack
            .properties
            .find(|property| if let Property::ServerKeepAlive(span) = property { Some(span) } else { None });
        assert_eq!(said, told, "{asked}");
        let span = session.poll_timeout().unwrap();
        let (other, _) = connected(Limits::default(), told.unwrap_or(asked));
        assert!(other.poll_timeout().unwrap() >= span);
    }
}

//= MQTT5 3.2.2-14
#[test]
fn who_retains_where_nothing_is_retained_is_told_so() {
    let (mut session, ack) = connected(Limits { retains: false, ..Limits::default() }, 0);
    assert!(ack.properties.iter().any(|property| property == Property::RetainAvailable(false)));
    let publish = Publish {
        delivery: Delivery::AtMostOnce,
        retain: true,
        topic: text("a"),
        properties: Properties::NONE,
        payload: bytes::Bytes::new(),
    };
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    session.handle_packet(Packet::Publish(publish), Instant::now());
    let Some(Output::Send(Packet::Disconnect(end))) = session.poll_output() else { panic!("no DISCONNECT") };
    assert_eq!(end.reason, Reason::RetainNotSupported);
}
