//! Sessions, as transcripts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use expect_test::expect;
use script::check;

//= MQTT5 2.2.1-5, 3.3.4-1, 4.3.2-4, 4.3.2-5, 4.3.3-8, 4.3.3-11
//= MQTT3 2.3.1-6, 3.3.4-1, 4.3.2-2
#[test]
fn a_message_is_acknowledged_when_it_is_settled_and_not_before() {
    check(
        "> connect 5 c1 clean
         ! accept
         > publish qos=1 id=7 topic=a
         > ping
         ! settle 1
         > publish topic=a
         ! settle 2",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=1 id=7 topic=a
            ? 1 publish a
            > ping
            < PingResp
            ! settle 1
            < puback 7 00
            > publish topic=a
            ? 2 publish a
            ! settle 2
        "#]],
    );
}

//= MQTT5 4.6.0-2, 4.6.0-3
#[test]
fn answers_come_in_the_order_of_the_messages() {
    check(
        "> connect 5 c1 clean
         ! accept
         > publish qos=1 id=1 topic=a
         > publish qos=2 id=2 topic=a
         > publish qos=1 id=3 topic=a
         ! settle 3
         ! settle 2
         ! settle 1",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=1 id=1 topic=a
            ? 1 publish a
            > publish qos=2 id=2 topic=a
            ? 2 publish a
            > publish qos=1 id=3 topic=a
            ? 3 publish a
            ! settle 3
            ! settle 2
            ! settle 1
            < puback 1 00
            < pubrec 2 00
            < puback 3 00
        "#]],
    );
}

//= MQTT5 4.3.3-10, 4.3.3-12, 4.3.3-13
//= MQTT3 4.3.3-2
#[test]
fn a_message_of_qos_2_is_published_once_however_often_it_is_sent() {
    check(
        "> connect 5 c1 expiry=300
         ! accept
         > publish qos=2 id=7 topic=a
         > publish qos=2 id=7 dup topic=a
         ! settle 1
         > publish qos=2 id=7 dup topic=a
         ! cut
         > connect 5 c1 expiry=300
         ! accept resume
         > publish qos=2 id=7 dup topic=a
         > pubrel 7
         > pubrel 7
         > publish qos=2 id=7 topic=a",
        &expect![[r#"
            > connect 5 c1 expiry=300
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=2 id=7 topic=a
            ? 1 publish a
            > publish qos=2 id=7 dup topic=a
            ! settle 1
            < pubrec 7 00
            > publish qos=2 id=7 dup topic=a
            < pubrec 7 00
            ! cut
              left: 0 waiting, for Some(300s)
            > connect 5 c1 expiry=300
            ? login c1
            ! accept resume
            < connack 00 present [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=2 id=7 dup topic=a
            < pubrec 7 00
            > pubrel 7
            < pubcomp 7 00
            > pubrel 7
            < pubcomp 7 92
            > publish qos=2 id=7 topic=a
            ? 2 publish a
        "#]],
    );
}

//= MQTT5 4.3.3-9
//= MQTT3 3.3.5-2
#[test]
fn what_is_refused_is_told_by_its_reason_or_by_the_end_of_the_connection() {
    check(
        "> connect 5 c1 clean
         ! accept
         > publish qos=1 id=1 topic=a
         ! settle 1 87
         > publish qos=2 id=2 topic=a
         ! settle 2 97
         > publish qos=2 id=2 topic=a
         ! settle 3
         > publish qos=1 id=3 topic=a
         ! settle 4 95",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=1 id=1 topic=a
            ? 1 publish a
            ! settle 1 87
            < puback 1 87 [ReasonString("so it is")]
            > publish qos=2 id=2 topic=a
            ? 2 publish a
            ! settle 2 97
            < pubrec 2 97 [ReasonString("so it is")]
            > publish qos=2 id=2 topic=a
            ? 3 publish a
            ! settle 3
            < pubrec 2 00
            > publish qos=1 id=3 topic=a
            ? 4 publish a
            ! settle 4 95
            < disconnect 95 [ReasonString("so it is")]
            < closed
        "#]],
    );
    check(
        "> connect 3.1.1 c1 clean will=w
         ! accept
         > publish qos=1 id=1 topic=a
         ! settle 1 87
         ! cut",
        &expect![[r#"
            > connect 3.1.1 c1 clean will=w
            ? login c1
            ! accept
            < connack 00
            > publish qos=1 id=1 topic=a
            ? 1 publish a
            ! settle 1 87
            < closed
            ! cut
              left: 0 waiting, for Some(0ns) will=w
        "#]],
    );
}

//= MQTT5 2.2.1-4, 3.3.1-1, 3.3.1-3, 4.3.1-1, 4.3.2-1, 4.3.2-2, 4.3.2-3, 4.3.3-1, 4.3.3-2, 4.3.3-3, 4.3.3-4, 4.3.3-5
//= MQTT5 4.3.3-6, 4.4.0-1, 4.6.0-1, 4.6.0-5, 4.6.0-6
//= MQTT3 2.3.1-4, 3.3.1-1, 3.3.1-3, 4.3.1-1, 4.3.2-1, 4.3.3-1, 4.4.0-1, 4.6.0-1, 4.6.0-5, 4.6.0-6
#[test]
fn a_resumed_session_sends_first_what_was_on_its_way_and_uses_no_name_twice() {
    check(
        "> connect 5 c1 expiry=300 receive=2
         ! accept
         > subscribe 1 a:2
         ! subscribed 1 2
         ! deliver a qos=1 payload=m1
         ! deliver a qos=2 payload=m2
         ! deliver a qos=1 payload=m3
         > pubrec 2
         ! cut
         > connect 5 c1 expiry=300 receive=2
         ! accept resume
         ! deliver a qos=1 payload=m4
         > puback 1
         > pubcomp 2
         > puback 3
         > puback 4",
        &expect![[r#"
            > connect 5 c1 expiry=300 receive=2
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:2
            ? 1 subscribe a
            ! subscribed 1 2
            < suback 1 02 [ReasonString("so it is")]
            ! deliver a qos=1 payload=m1
            < publish 1 1 "a" m1
            ! deliver a qos=2 payload=m2
            < publish 2 2 "a" m2
            ! deliver a qos=1 payload=m3
            > pubrec 2
            < pubrel 2 00
            ! cut
              left: 3 waiting, for Some(300s)
            > connect 5 c1 expiry=300 receive=2
            ? login c1
            ! accept resume
            < connack 00 present [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            < publish 1 1 dup "a" m1
            < pubrel 2 00
            ! deliver a qos=1 payload=m4
            > puback 1
            < publish 1 3 "a" m3
            > pubcomp 2
            < publish 1 4 "a" m4
            > puback 3
            > puback 4
        "#]],
    );
}

//= MQTT5 3.3.4-9, 3.3.4-10, 4.9.0-1, 4.9.0-2, 4.9.0-3
#[test]
fn a_smaller_window_after_the_resumption_is_kept_too() {
    check(
        "> connect 5 c1 expiry=300
         ! accept
         > subscribe 1 a:1
         ! subscribed 1 1
         ! deliver a qos=1 payload=m1
         ! deliver a qos=1 payload=m2
         ! deliver a qos=1 payload=m3
         ! cut
         > connect 5 c1 expiry=300 receive=1
         ! accept resume
         > puback 1
         > puback 2
         > puback 3",
        &expect![[r#"
            > connect 5 c1 expiry=300
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:1
            ? 1 subscribe a
            ! subscribed 1 1
            < suback 1 01 [ReasonString("so it is")]
            ! deliver a qos=1 payload=m1
            < publish 1 1 "a" m1
            ! deliver a qos=1 payload=m2
            < publish 1 2 "a" m2
            ! deliver a qos=1 payload=m3
            < publish 1 3 "a" m3
            ! cut
              left: 3 waiting, for Some(300s)
            > connect 5 c1 expiry=300 receive=1
            ? login c1
            ! accept resume
            < connack 00 present [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            < publish 1 1 dup "a" m1
            > puback 1
            < publish 1 2 dup "a" m2
            > puback 2
            < publish 1 3 dup "a" m3
            > puback 3
        "#]],
    );
}

//= MQTT5 3.3.1-12, 3.3.1-13, 3.3.4-2, 3.3.4-3, 3.3.4-4, 3.8.4-8, 4.8.2-3
//= MQTT3 3.3.1-9, 3.3.5-1, 3.8.4-6
#[test]
fn overlapping_filters_make_one_copy_at_the_highest_qos_with_every_identifier() {
    check(
        "> connect 5 c1 clean
         ! accept
         > subscribe 1 a/+:0 ident=5
         ! subscribed 1 0
         > subscribe 2 a/b:1,rap ident=6
         ! subscribed 2 1
         > subscribe 3 #:2,nl
         ! subscribed 3 2
         ! deliver a/b qos=2 retain for=a/+,a/b,# type=json
         ! deliver a/b qos=2 own for=a/+,a/b,#
         ! deliver c qos=2 own for=#
         ! retained a/b qos=1 for=a/+
         ! revoke a/b
         ! deliver a/b qos=2 for=a/b",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a/+:0 ident=5
            ? 1 subscribe a/+
            ! subscribed 1 0
            < suback 1 00 [ReasonString("so it is")]
            > subscribe 2 a/b:1,rap ident=6
            ? 2 subscribe a/b
            ! subscribed 2 1
            < suback 2 01 [ReasonString("so it is")]
            > subscribe 3 #:2,nl
            ? 3 subscribe #
            ! subscribed 3 2
            < suback 3 02 [ReasonString("so it is")]
            ! deliver a/b qos=2 retain for=a/+,a/b,# type=json
            < publish 2 1 retain "a/b" x [ContentType("json"), SubscriptionIdentifier(5), SubscriptionIdentifier(6)]
            ! deliver a/b qos=2 own for=a/+,a/b,#
            < publish 1 2 "a/b" x [SubscriptionIdentifier(5), SubscriptionIdentifier(6)]
            ! deliver c qos=2 own for=#
            ! retained a/b qos=1 for=a/+
            < publish 0 retain "a/b" x [SubscriptionIdentifier(5)]
            ! revoke a/b
            ! deliver a/b qos=2 for=a/b
        "#]],
    );
}

//= MQTT5 2.2.1-6, 3.8.4-1, 3.8.4-2, 3.8.4-3, 3.8.4-5, 3.8.4-6, 3.8.4-7, 3.9.3-1, 3.10.4-1, 3.10.4-2, 3.10.4-4
//= MQTT5 3.10.4-5, 3.10.4-6, 3.11.3-1
//= MQTT3 2.3.1-7, 3.8.4-1, 3.8.4-2, 3.8.4-4, 3.8.4-5, 3.9.3-1, 3.10.4-1, 3.10.4-2, 3.10.4-4, 3.10.4-5, 3.10.4-6
#[test]
fn a_subscription_is_known_again_and_ends() {
    check(
        "> connect 5 c1 clean
         ! accept
         > subscribe 1 a:1 b:0 c:2
         ! subscribed 1 1 x87 1
         > subscribe 2 a:0
         ! subscribed 2 0
         > unsubscribe 3 a b
         ! unsubscribed 3
         ! deliver a qos=1",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:1 b:0 c:2
            ? 1 subscribe a b c
            ! subscribed 1 1 x87 1
            < suback 1 01 87 01 [ReasonString("so it is")]
            > subscribe 2 a:0
            ? 2 subscribe a(again)
            ! subscribed 2 0
            < suback 2 00 [ReasonString("so it is")]
            > unsubscribe 3 a b
            ? 3 unsubscribe a b
            ! unsubscribed 3
            < unsuback 3 00 11
            ! deliver a qos=1
        "#]],
    );
    check(
        "> connect 3.1.1 c1 clean
         ! accept
         > subscribe 1 a:1 b:0
         ! subscribed 1 1 x87
         > unsubscribe 3 a b
         ! unsubscribed 2",
        &expect![[r#"
            > connect 3.1.1 c1 clean
            ? login c1
            ! accept
            < connack 00
            > subscribe 1 a:1 b:0
            ? 1 subscribe a b
            ! subscribed 1 1 x87
            < suback 1 01 87
            > unsubscribe 3 a b
            ? 2 unsubscribe a b
            ! unsubscribed 2
            < unsuback 3 00 11
        "#]],
    );
}

//= MQTT5 3.1.2-26, 3.1.2-27, 3.3.2-7, 3.3.2-9, 3.3.2-11, 3.3.2-12
#[test]
fn aliases_are_set_and_used_both_ways() {
    check(
        "> connect 5 c1 clean aliases=1
         ! accept
         > publish topic=long/topic alias=1
         > publish alias=1
         > subscribe 1 #:0
         ! subscribed 3 0
         ! deliver one for=#
         ! deliver one for=#
         ! deliver two for=#
         ! deliver one for=#
         > publish alias=2",
        &expect![[r#"
            > connect 5 c1 clean aliases=1
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish topic=long/topic alias=1
            ? 1 publish long/topic
            > publish alias=1
            ? 2 publish long/topic
            > subscribe 1 #:0
            ? 3 subscribe #
            ! subscribed 3 0
            < suback 1 00 [ReasonString("so it is")]
            ! deliver one for=#
            < publish 0 "one" x [TopicAlias(1)]
            ! deliver one for=#
            < publish 0 "" x [TopicAlias(1)]
            ! deliver two for=#
            < publish 0 "two" x
            ! deliver one for=#
            < publish 0 "" x [TopicAlias(1)]
            > publish alias=2
            < disconnect 82 [ReasonString("a topic alias that was not set")]
            < closed
        "#]],
    );
    check(
        "> connect 5 c1 clean
         ! accept
         > publish topic=a alias=17",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish topic=a alias=17
            < disconnect 94 [ReasonString("beyond the maximum")]
            < closed
        "#]],
    );
}

//= MQTT5 3.1.2-24, 3.1.2-25, 3.3.2-5, 3.3.2-6
#[test]
fn what_a_client_does_not_take_is_left_out_and_counted() {
    check(
        "> connect 5 c1 clean bytes=20 receive=1 aliases=5
         ! accept
         > subscribe 1 #:1
         ! subscribed 1 1
         ! deliver a qos=1 payload=short for=#
         ! deliver a qos=1 payload=much-longer-than-that for=#
         ! deliver b qos=0 payload=much-longer-than-that for=#
         ! deliver b qos=0 payload=short for=#
         ! deliver a qos=1 payload=2 for=# expiry=10
         ! tick 11
         > puback 1
         ! deliver a qos=1 payload=3 for=# expiry=10",
        &expect![[r#"
            > connect 5 c1 clean bytes=20 receive=1 aliases=5
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 #:1
            ? 1 subscribe #
            ! subscribed 1 1
            < suback 1 01 [ReasonString("so it is")]
            ! deliver a qos=1 payload=short for=#
            < publish 1 1 "a" short [TopicAlias(1)]
            ! deliver a qos=1 payload=much-longer-than-that for=#
            ! deliver b qos=0 payload=much-longer-than-that for=#
              Dropped { full: 0, too_large: 1, expired: 0 }
            ! deliver b qos=0 payload=short for=#
            < publish 0 "b" short [TopicAlias(2)]
            ! deliver a qos=1 payload=2 for=# expiry=10
            ! tick 11
            > puback 1
              Dropped { full: 0, too_large: 2, expired: 1 }
            ! deliver a qos=1 payload=3 for=# expiry=10
            < publish 1 4 "" 3 [MessageExpiryInterval(10), TopicAlias(1)]
        "#]],
    );
}

#[test]
fn a_slow_client_keeps_what_fits_and_the_rest_is_counted() {
    check(
        "> connect 5 c1 clean receive=1
         ! accept
         > subscribe 1 a:1
         ! subscribed 1 1
         ! deliver a qos=1 payload=1
         ! deliver a qos=1 payload=2
         ! deliver a qos=1 payload=3
         ! deliver a qos=1 payload=4
         ! deliver a qos=1 payload=5
         ! deliver a qos=1 payload=6
         > puback 1
         ! cut",
        &expect![[r#"
            > connect 5 c1 clean receive=1
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > subscribe 1 a:1
            ? 1 subscribe a
            ! subscribed 1 1
            < suback 1 01 [ReasonString("so it is")]
            ! deliver a qos=1 payload=1
            < publish 1 1 "a" 1
            ! deliver a qos=1 payload=2
            ! deliver a qos=1 payload=3
            ! deliver a qos=1 payload=4
            ! deliver a qos=1 payload=5
            ! deliver a qos=1 payload=6
              Dropped { full: 1, too_large: 0, expired: 0 }
            > puback 1
            < publish 1 2 "a" 2
            ! cut
              left: 4 waiting, for Some(0ns)
        "#]],
    );
}

//= MQTT5 3.3.4-7
#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    check(
        "> connect 5 c1 clean
         ! accept
         > publish qos=1 id=1 topic=a
         > publish qos=1 id=2 topic=a
         > publish qos=2 id=3 topic=a
         > publish qos=1 id=4 topic=a",
        &expect![[r#"
            > connect 5 c1 clean
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            > publish qos=1 id=1 topic=a
            ? 1 publish a
            > publish qos=1 id=2 topic=a
            ? 2 publish a
            > publish qos=2 id=3 topic=a
            ? 3 publish a
            > publish qos=1 id=4 topic=a
            < disconnect 93
            < closed
        "#]],
    );
}
