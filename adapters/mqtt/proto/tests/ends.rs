//! How sessions begin and end, as transcripts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use expect_test::expect;
use script::check;

//= MQTT5 3.1.2-7, 3.1.2-22, 3.2.2-22
//= MQTT3 3.1.2-8, 3.1.2-24
#[test]
fn silence_ends_the_connection_and_leaves_the_will() {
    check(
        "> connect 5 c1 clean alive=60 will=w
         ! accept
         ! tick 89
         > ping
         ! tick 89
         ! tick 1
         ! cut",
        &expect![[r#"
            > connect 5 c1 clean alive=60 will=w
            ? login c1
            ! accept
            < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
            ! tick 89
            > ping
            < PingResp
            ! tick 89
            ! tick 1
            < disconnect 8d
            < closed
            ! cut
              left: 0 waiting, for Some(0ns) will=w
        "#]],
    );
    check(
        "! tick 9\n! tick 1",
        &expect![[r#"
        ! tick 9
        ! tick 1
        < closed
    "#]],
    );
}

//= MQTT5 3.1.2-10, 3.14.4-3
//= MQTT3 3.1.2-10, 3.1.2-12, 3.14.4-3
#[test]
fn a_goodbye_takes_the_will_along_unless_it_says_otherwise() {
    for (script, expected) in [
        (
            "> connect 5 c1 expiry=300 will=w\n! accept\n> disconnect\n! cut",
            expect![[r#"
                > connect 5 c1 expiry=300 will=w
                ? login c1
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                > disconnect
                < closed
                ! cut
                  left: 0 waiting, for Some(300s)
            "#]],
        ),
        (
            "> connect 5 c1 expiry=300 will=w\n! accept\n> disconnect reason=04 expiry=0\n! cut",
            expect![[r#"
                > connect 5 c1 expiry=300 will=w
                ? login c1
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                > disconnect reason=04 expiry=0
                < closed
                ! cut
                  left: 0 waiting, for Some(0ns) will=w
            "#]],
        ),
        (
            "> connect 5 c1 will=w\n! accept\n> disconnect expiry=9\n! cut",
            expect![[r#"
                > connect 5 c1 will=w
                ? login c1
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                > disconnect expiry=9
                < disconnect 82 [ReasonString("a session that was to end with its connection")]
                < closed
                ! cut
                  left: 0 waiting, for Some(0ns) will=w
            "#]],
        ),
        (
            "> connect 3.1.1 c1 will=w\n! accept\n! cut",
            expect![[r#"
            > connect 3.1.1 c1 will=w
            ? login c1
            ! accept
            < connack 00
            ! cut
              left: 0 waiting, for Some(604800s) will=w
        "#]],
        ),
    ] {
        check(script, &expected);
    }
}

//= MQTT5 3.1.2-1, 3.1.2-2, 3.1.3-5, 3.1.3-8, 3.1.4-6, 3.2.0-2, 3.2.2-6, 3.2.2-7, 3.2.2-13, 4.12.0-1
//= MQTT3 3.1.3-5, 3.1.3-8, 3.1.3-9, 3.1.4-5, 3.2.2-4, 3.2.2-5, 3.2.2-6
#[test]
fn who_is_not_let_in_is_told_why() {
    for (script, expected) in [
        (
            "> connect 5 c1\n! refuse 86",
            expect![[r#"
            > connect 5 c1
            ? login c1
            ! refuse 86
            < connack 86 [ReasonString("so it is")]
            < closed
        "#]],
        ),
        (
            "> connect 5 c1 quiet\n! refuse 87",
            expect![[r#"
            > connect 5 c1 quiet
            ? login c1
            ! refuse 87
            < connack 87
            < closed
        "#]],
        ),
        (
            "> connect 3.1.1 c1\n! refuse 86",
            expect![[r#"
            > connect 3.1.1 c1
            ? login c1
            ! refuse 86
            < connack 04
            < closed
        "#]],
        ),
        (
            "> connect 3.1.1 -",
            expect![[r#"
            > connect 3.1.1 -
            < connack 02
            < closed
        "#]],
        ),
        (
            "> connect 3.1 -",
            expect![[r#"
            > connect 3.1 -
            < connack 02
            < closed
        "#]],
        ),
        (
            "> connect 3.1 a-name-of-more-than-23-characters",
            expect![[r#"
            > connect 3.1 a-name-of-more-than-23-characters
            < connack 02
            < closed
        "#]],
        ),
        (
            "> connect 5 - clean\n! accept id=given",
            expect![[r#"
                > connect 5 - clean
                ? login 
                ! accept id=given
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3), AssignedClientIdentifier("given")]
            "#]],
        ),
    ] {
        check(script, &expected);
    }
}

//= MQTT5 3.1.0-1, 3.1.0-2, 4.13.1-1
//= MQTT3 3.1.0-1, 3.1.0-2, 4.8.0-1
#[test]
fn what_may_not_be_said_ends_the_connection_and_what_comes_early_waits() {
    for (script, expected) in [
        (
            "> connect 5 c1 method=SCRAM",
            expect![[r#"
            > connect 5 c1 method=SCRAM
            < connack 8c
            < closed
        "#]],
        ),
        (
            "> ping",
            expect![[r#"
            > ping
            < closed
        "#]],
        ),
        (
            "> connect 5 c1\n! accept\n> connect 5 c1",
            expect![[r#"
                > connect 5 c1
                ? login c1
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                > connect 5 c1
                < disconnect 82 [ReasonString("a second CONNECT")]
                < closed
            "#]],
        ),
        (
            "> connect 5 c1\n> ping\n> publish qos=1 id=1 topic=a\n! accept",
            expect![[r#"
                > connect 5 c1
                ? login c1
                > ping
                > publish qos=1 id=1 topic=a
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                < PingResp
                ? 1 publish a
            "#]],
        ),
        (
            "> connect 5 c1\n> publish qos=1 id=1 topic=a\n! refuse 87",
            expect![[r#"
            > connect 5 c1
            ? login c1
            > publish qos=1 id=1 topic=a
            ! refuse 87
            < connack 87 [ReasonString("so it is")]
            < closed
        "#]],
        ),
        (
            "> connect 5 c1\n! accept\n> auth",
            expect![[r#"
                > connect 5 c1
                ? login c1
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                > auth
                < disconnect 82 [ReasonString("no extended authentication was begun")]
                < closed
            "#]],
        ),
    ] {
        check(script, &expected);
    }
}

//= MQTT5 3.14.0-1, 3.14.4-1, 3.14.4-2, 4.13.2-1
//= MQTT3 4.8.0-2
#[test]
fn an_end_of_ours_is_told_where_the_version_can() {
    for (script, expected) in [
        (
            "> connect 5 c1\n! accept\n! end 8b",
            expect![[r#"
                > connect 5 c1
                ? login c1
                ! accept
                < connack 00 [TopicAliasMaximum(10), MaximumPacketSize(1048576), ReceiveMaximum(3)]
                ! end 8b
                < disconnect 8b [ReasonString("so it is")]
                < closed
            "#]],
        ),
        (
            "> connect 3.1.1 c1\n! accept\n! end 8b",
            expect![[r#"
            > connect 3.1.1 c1
            ? login c1
            ! accept
            < connack 00
            ! end 8b
            < closed
        "#]],
        ),
    ] {
        check(script, &expected);
    }
}
