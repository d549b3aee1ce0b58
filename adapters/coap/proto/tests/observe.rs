//! Observations, as transcripts of hours and days.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use expect_test::expect;
use proptest::prelude::*;
use script::{check, check_within};
use tidegate_coap_proto::*;

/// Of peers that need show nothing.
fn proven() -> Limits {
    Limits { amplification_max: None, ..Limits::default() }
}

//= RFC7641 3.1, 3.4, 4.1, 4.2, 4.4
#[test]
fn who_registers_is_told_so_and_then_of_what_comes() {
    check_within(
        proven(),
        "> a con 0001 t=4a get /temperature observe=0
         ! observe 1 2.05 payload=18.5
         ! notify 1 2.05 payload=19.2
         ! notify 1 2.05 payload=19.7
         + 1s
         ! notify 1 2.05 payload=20.0
         > b con 0001 t=4a get /temperature observe=0
         ! observe 2 2.05
         ! notify 1 2.05 payload=20.1
         ! notify 2 2.05 payload=20.1
         ! held",
        &expect![[r#"
            > a con 0001 t=4a get /temperature observe=0
            ? 1 a get /temperature Observe=0
            ! observe 1 2.05 payload=18.5
            < a ack 0001 2.05 t=4a Observe=9437184 "18.5"
            ! notify 1 2.05 payload=19.2
            < a non 5b1d 2.05 t=4a Observe=9437185 "19.2"
            ! notify 1 2.05 payload=19.7
            < a non 5b1e 2.05 t=4a Observe=9437186 "19.7"
            + 1s
            ! notify 1 2.05 payload=20.0
            < a non 5b1f 2.05 t=4a Observe=9453568 "20.0"
            > b con 0001 t=4a get /temperature observe=0
            ? 2 b get /temperature Observe=0
            ! observe 2 2.05
            < b ack 0001 2.05 t=4a Observe=9453568
            ! notify 1 2.05 payload=20.1
            < a non 5b20 2.05 t=4a Observe=9453569 "20.1"
            ! notify 2 2.05 payload=20.1
            < b non e877 2.05 t=4a Observe=9453569 "20.1"
            ! held
              Held { peers: 2, requests: 0, exchanges: 2, observations: 2, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 3.6, 4.1
#[test]
fn an_observation_ends_with_a_get_of_its_own_token_and_no_other() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > a con 0002 t=02 get /x observe=0
         ! observe 2 2.05
         > b con 0002 t=01 get /x observe=1
         ! respond 3 2.05
         > a con 0003 t=03 get /x observe=1
         ! respond 4 2.05
         > a con 0004 t=01 get /x observe=1
         ! respond 5 2.05
         ! notify 1 2.05 payload=late
         ! notify 2 2.05 payload=on
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0002 t=02 get /x observe=0
            ? 2 a get /x Observe=0
            ! observe 2 2.05
            < a ack 0002 2.05 t=02 Observe=9437184
            > b con 0002 t=01 get /x observe=1
            ? 3 b get /x Observe=1
            ! respond 3 2.05
            < b ack 0002 2.05 t=01
            > a con 0003 t=03 get /x observe=1
            ? 4 a get /x Observe=1
            ! respond 4 2.05
            < a ack 0003 2.05 t=03
            > a con 0004 t=01 get /x observe=1
            ? ended 1 Deregistered
            ? 5 a get /x Observe=1
            ! respond 5 2.05
            < a ack 0004 2.05 t=01
            ! notify 1 2.05 payload=late
              no
            ! notify 2 2.05 payload=on
            < a non 5b1d 2.05 t=02 Observe=9437185 "on"
            ! held
              Held { peers: 2, requests: 0, exchanges: 5, observations: 1, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 3.3.1, 4.1
#[test]
fn who_registers_again_with_the_same_token_has_one_observation() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > a con 0001 t=01 get /x observe=0
         > a con 0002 t=01 get /x observe=0
         ! observe 2 2.05
         ! notify 1 2.05 payload=old
         ! notify 2 2.05 payload=new
         > a con 0003 t=01 get /x observe=0
         ! respond 3 4.03
         ! notify 2 2.05 payload=late
         > a con 0004 t=01 get /x observe=0
         ! observe 4 4.04
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0001 t=01 get /x observe=0
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0002 t=01 get /x observe=0
            ? 2 a get /x Observe=0
            ! observe 2 2.05
            ? ended 1 Replaced
            < a ack 0002 2.05 t=01 Observe=9437185
            ! notify 1 2.05 payload=old
              no
            ! notify 2 2.05 payload=new
            < a non 5b1d 2.05 t=01 Observe=9437186 "new"
            > a con 0003 t=01 get /x observe=0
            ? 3 a get /x Observe=0
            ! respond 3 4.03
            ? ended 2 Replaced
            < a ack 0003 4.03 t=01
            ! notify 2 2.05 payload=late
              no
            > a con 0004 t=01 get /x observe=0
            ? 4 a get /x Observe=0
            ! observe 4 4.04
              no
            < a ack 0004 4.04 t=01
            ! held
              Held { peers: 1, requests: 0, exchanges: 4, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 3.6, 4.5
#[test]
fn a_reset_of_any_notification_ends_the_observation_of_that_one() {
    check_within(
        Limits { ping_period: Duration::from_secs(60), ..proven() },
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > a con 0002 t=02 get /x observe=0
         ! observe 2 2.05
         ! notify 1 2.05 payload=one
         ! notify 2 2.05 payload=two
         ! notify 1 2.05 payload=one
         > b rst 5b1d
         > a rst 5b1d
         ! notify 1 2.05 payload=late
         + 61s
         ! notify 2 2.05 payload=two
         > a rst 5b20
         ! notify 2 2.05 payload=late
         + 100s
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0002 t=02 get /x observe=0
            ? 2 a get /x Observe=0
            ! observe 2 2.05
            < a ack 0002 2.05 t=02 Observe=9437184
            ! notify 1 2.05 payload=one
            < a non 5b1d 2.05 t=01 Observe=9437185 "one"
            ! notify 2 2.05 payload=two
            < a non 5b1e 2.05 t=02 Observe=9437185 "two"
            ! notify 1 2.05 payload=one
            < a non 5b1f 2.05 t=01 Observe=9437186 "one"
            > b rst 5b1d
            > a rst 5b1d
            ? ended 1 Reset
            ! notify 1 2.05 payload=late
              no
            + 61s
              60.0 s ? refresh 2
            ! notify 2 2.05 payload=two
            < a con 5b20 2.05 t=02 Observe=10436608 "two"
            > a rst 5b20
            ? ended 2 Reset
            ! notify 2 2.05 payload=late
              no
            + 100s
            ! held
              Held { peers: 1, requests: 0, exchanges: 2, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 4.5, 4.5.2
#[test]
fn one_is_in_flight_and_only_the_newest_waits() {
    check_within(
        Limits { ping_period: Duration::from_secs(60), ..proven() },
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         + 61s
         ! notify 1 2.05 payload=1
         ! notify 1 2.05 payload=2
         ! notify 1 2.05 payload=3
         > a ack 5b1d
         ! notify 1 2.05 payload=4
         + 61s
         ! notify 1 2.05 payload=5
         + 1s
         ! notify 1 2.05 payload=6
         + 3s
         > a ack 5b20
         + 10s
         > a ack 5b21
         + 100s
         ! counts",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            + 61s
              60.0 s ? refresh 1
            ! notify 1 2.05 payload=1
            < a con 5b1d 2.05 t=01 Observe=10436608 "1"
            ! notify 1 2.05 payload=2
            ! notify 1 2.05 payload=3
            > a ack 5b1d
            < a non 5b1e 2.05 t=01 Observe=10436609 "3"
            ! notify 1 2.05 payload=4
            < a non 5b1f 2.05 t=01 Observe=10436610 "4"
            + 61s
              121.0 s ? refresh 1
            ! notify 1 2.05 payload=5
            < a con 5b20 2.05 t=01 Observe=11436032 "5"
            + 1s
            ! notify 1 2.05 payload=6
            + 3s
              124.4 s < a con 5b21 2.05 t=01 Observe=11475451 "6"
            > a ack 5b20
            + 10s
              129.2 s < a con 5b21 2.05 t=01 Observe=11475451 "6"
            > a ack 5b21
            + 100s
              196.0 s ? refresh 1
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, retransmits: 2, unanswered: 0, overtaken: 1, unproven: 0, evicted: 0 }
        "#]],
    );
}

//= RFC7641 4.5
#[test]
fn twelve_hours_find_out_who_is_still_there() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > b con 0001 t=01 get /x observe=0
         ! observe 2 2.05
         > c con 0001 t=01 get /x observe=0
         ! observe 3 2.05
         + 12h
         ! notify 1 2.05 payload=twelve
         ! notify 2 2.05 payload=twelve
         ! notify 3 2.05 payload=twelve
         + 1s
         > a ack 5b1d
         > b rst e877
         ! notify 1 2.05 payload=then
         + 100s
         ! notify 3 2.05 payload=gone
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > b con 0001 t=01 get /x observe=0
            ? 2 b get /x Observe=0
            ! observe 2 2.05
            < b ack 0001 2.05 t=01 Observe=9437184
            > c con 0001 t=01 get /x observe=0
            ? 3 c get /x Observe=0
            ! observe 3 2.05
            < c ack 0001 2.05 t=01 Observe=9437184
            + 12h
              43200.0 s ? refresh 1
              43200.0 s ? refresh 2
              43200.0 s ? refresh 3
            ! notify 1 2.05 payload=twelve
            < a con 5b1d 2.05 t=01 Observe=12582912 "twelve"
            ! notify 2 2.05 payload=twelve
            < b con e877 2.05 t=01 Observe=12582912 "twelve"
            ! notify 3 2.05 payload=twelve
            < c con 192c 2.05 t=01 Observe=12582912 "twelve"
            + 1s
            > a ack 5b1d
            > b rst e877
            ? ended 2 Reset
            ! notify 1 2.05 payload=then
            < a non 5b1e 2.05 t=01 Observe=12599296 "then"
            + 100s
              43202.2 s < c con 192c 2.05 t=01 Observe=12582912 "twelve"
              43206.5 s < c con 192c 2.05 t=01 Observe=12582912 "twelve"
              43215.3 s < c con 192c 2.05 t=01 Observe=12582912 "twelve"
              43232.7 s < c con 192c 2.05 t=01 Observe=12582912 "twelve"
              43267.6 s ? ended 3 Unanswered
            ! notify 3 2.05 payload=gone
              no
            ! held
              Held { peers: 1, requests: 0, exchanges: 0, observations: 1, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 4.5
#[test]
fn twenty_four_hours_take_two_acknowledgements_whatever_else_is_said() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         + 6h
         ! notify 1 2.05 payload=six
         + 6h
         ! notify 1 2.05 payload=twelve
         + 1s
         > a ack 5b1e
         + 11h
         ! notify 1 2.05 payload=day
         + 1h
         ! notify 1 2.05 payload=day
         > a ack 5b20
         + 11h
         ! held
         + 1h",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            + 6h
            ! notify 1 2.05 payload=six
            < a non 5b1d 2.05 t=01 Observe=11010048 "six"
            + 6h
              43200.0 s ? refresh 1
            ! notify 1 2.05 payload=twelve
            < a con 5b1e 2.05 t=01 Observe=12582912 "twelve"
            + 1s
            > a ack 5b1e
            + 11h
            ! notify 1 2.05 payload=day
            < a non 5b1f 2.05 t=01 Observe=7094272 "day"
            + 1h
              86401.0 s ? refresh 1
            ! notify 1 2.05 payload=day
            < a con 5b20 2.05 t=01 Observe=15745024 "day"
            > a ack 5b20
            + 11h
            ! held
              Held { peers: 1, requests: 0, exchanges: 0, observations: 1, bodies_bytes: 0, snapshots_bytes: 0 }
            + 1h
              129601.0 s ? refresh 1
        "#]],
    );
}

//= RFC7641 4.2
#[test]
fn a_last_word_ends_it_and_is_sent_until_it_is_heard() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         ! notify 1 2.05 payload=x
         ! notify 1 4.03 payload=withdrawn
         ! notify 1 2.05 payload=late
         + 3s
         > a ack 5b1e
         + 300s
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            ! notify 1 2.05 payload=x
            < a non 5b1d 2.05 t=01 Observe=9437185 "x"
            ! notify 1 4.03 payload=withdrawn
            < a con 5b1e 4.03 t=01 "withdrawn"
            ! notify 1 2.05 payload=late
              no
            + 3s
              2.8 s < a con 5b1e 4.03 t=01 "withdrawn"
            > a ack 5b1e
            + 300s
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 4.2
#[test]
fn a_server_that_goes_away_says_so_once_and_at_once() {
    check_within(
        Limits { ping_period: Duration::from_secs(60), ..proven() },
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         + 60s
         ! notify 1 2.05 payload=x
         ! dismiss 1 5.03 age=1
         ! dismiss 1 5.03 age=1
         + 10s
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            + 60s
              60.0 s ? refresh 1
            ! notify 1 2.05 payload=x
            < a con 5b1d 2.05 t=01 Observe=10420224 "x"
            ! dismiss 1 5.03 age=1
            < a non 5b1e 5.03 t=01 Max-Age=1
            ! dismiss 1 5.03 age=1
              no
            + 10s
            ! held
              Held { peers: 1, requests: 0, exchanges: 1, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

#[test]
fn who_is_forgotten_is_told_nothing() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > a con 0002 t=02 get /x
         ! forget a
         ! notify 1 2.05 payload=late
         ! respond 2 2.05
         + 13h
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0002 t=02 get /x
            ? 2 a get /x
            ! forget a
            ! notify 1 2.05 payload=late
              no
            ! respond 2 2.05
              no
            + 13h
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 4.1
#[test]
fn where_there_is_no_room_the_answer_does_not_say_that_there_is() {
    check_within(
        Limits { observations_per_peer_max: 1, ..proven() },
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > a con 0002 t=02 get /x observe=0
         ! observe 2 2.05
         > a con 0003 t=03 post /x observe=0
         ! observe 3 2.04",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0002 t=02 get /x observe=0
            ? 2 a get /x Observe=0
            ! observe 2 2.05
              no
            < a ack 0002 2.05 t=02
            > a con 0003 t=03 post /x observe=0
            ? 3 a post /x Observe=0
            ! observe 3 2.04
              no
            < a ack 0003 2.04 t=03
        "#]],
    );
}

//= RFC7252 11.3
//= RFC9175 2.4
#[test]
fn who_has_shown_nothing_has_to_acknowledge_the_first_notification() {
    check(
        "> a con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 1 2.05
         ! notify 1 2.05 payload=first
         ! notify 1 2.05 payload=second
         > a ack 5b1d
         ! notify 1 2.05 payload=third
         > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 2 2.05
         ! notify 2 2.05 payload=first
         + 100s
         ! notify 2 2.05 payload=second
         ! counts",
        &expect![[r#"
            > a con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 1 a get /a/path/that/pays/for/it Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            ! notify 1 2.05 payload=first
            < a con 5b1d 2.05 t=01 Observe=9437185 "first"
            ! notify 1 2.05 payload=second
            > a ack 5b1d
            < a non 5b1e 2.05 t=01 Observe=9437186 "second"
            ! notify 1 2.05 payload=third
            < a non 5b1f 2.05 t=01 Observe=9437187 "third"
            > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 2 b get /a/path/that/pays/for/it Observe=0
            ! observe 2 2.05
            < b ack 0001 2.05 t=01 Observe=9437184
            ! notify 2 2.05 payload=first
            < b con 192c 2.05 t=01 Observe=9437185 "first"
            + 100s
              2.6 s < b con 192c 2.05 t=01 Observe=9437185 "first"
              7.9 s < b con 192c 2.05 t=01 Observe=9437185 "first"
              18.5 s < b con 192c 2.05 t=01 Observe=9437185 "first"
              39.7 s < b con 192c 2.05 t=01 Observe=9437185 "first"
              82.1 s ? ended 2 Unanswered
            ! notify 2 2.05 payload=second
              no
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, retransmits: 4, unanswered: 1, overtaken: 0, unproven: 0, evicted: 0 }
        "#]],
    );
}

//= RFC7252 4.3, 11.3
#[test]
fn who_may_not_be_sent_it_again_is_pinged_and_then_may() {
    check(
        "> a con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 1 2.05
         ! notify 1 2.05 payload=x*50
         + 3s
         > a rst 5b1f
         + 1s
         > a rst 5b1e
         + 1s
         > a ack 5b1d
         ! notify 1 2.05 payload=y*500
         ! counts",
        &expect![[r#"
            > a con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 1 a get /a/path/that/pays/for/it Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            ! notify 1 2.05 payload=x*50
            < a con 5b1d 2.05 t=01 Observe=9437185 "xxxx".. 50 bytes
            + 3s
              2.8 s < a ping 5b1e
            > a rst 5b1f
            + 1s
            > a rst 5b1e
            < a con 5b1d 2.05 t=01 Observe=9437185 "xxxx".. 50 bytes
            + 1s
            > a ack 5b1d
            ! notify 1 2.05 payload=y*500
            < a non 5b1f 2.05 t=01 Observe=9519104 "yyyy".. 500 bytes
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, retransmits: 1, unanswered: 0, overtaken: 0, unproven: 1, evicted: 0 }
        "#]],
    );
}

fn get(id: u16, observe: u32) -> Bytes {
    let options = Options::NONE.with_uint(OptionNumber::OBSERVE, observe).with(OptionNumber::URI_PATH, b"x");
    let request = Request { method: Code::GET, options, payload: Bytes::new() };
    let token = Token::new(b"t").unwrap();
    let mut out = BytesMut::new();
    encode(&Message::Request { id: MessageId(id), is_confirmable: true, token, request }, &mut out);
    out.freeze()
}

/// The Observe option of what is sent, and how many bytes it has.
fn said(endpoint: &mut Endpoint<u8>) -> Option<(u32, usize)> {
    std::iter::from_fn(|| endpoint.poll_output()).find_map(|output| {
        let Output::Send { datagram, .. } = output else { return None };
        let Ok(Message::Response { response, .. }) = decode(&datagram) else { return None };
        let bytes = response.options.values(OptionNumber::OBSERVE).next()?.len();
        Some((response.options.uint(OptionNumber::OBSERVE)?, bytes))
    })
}

fn register(endpoint: &mut Endpoint<u8>, id: u16, now: Instant) -> (Observer<u8>, (u32, usize)) {
    endpoint.handle_datagram(7, &get(id, 0), now);
    let ticket = std::iter::from_fn(|| endpoint.poll_output()).find_map(|output| match output {
        Output::Request { ticket, .. } => Some(ticket),
        Output::Send { .. } | Output::Begin { .. } | Output::Refresh(_) | Output::Ended(..) => None,
    });
    let observer = endpoint.observe(ticket.unwrap(), Response::of(Code::CONTENT), now).unwrap();
    (observer, said(endpoint).unwrap())
}

/// RFC 7641 3.4, as a client applies it.
fn is_newer(new: (u32, Duration), old: (u32, Duration)) -> bool {
    let ((v2, t2), (v1, t1)) = (new, old);
    (v1 < v2 && v2 - v1 < 1 << 23) || (v1 > v2 && v1 - v2 > 1 << 23) || t2 > t1 + Duration::from_secs(128)
}

proptest! {
    /// However long it takes from one to the next, and though the server starts anew between them.
    //= RFC7641 3.4, 4.4
    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
    fn each_number_is_newer_than_the_one_before(
        wall in 0_u64..4_000_000_000,
        steps in proptest::collection::vec((0_u64..3, 0_u64..2_000_000_000, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let begun = Instant::now();
        let wall = Duration::from_secs(wall);
        let endpoint = |age: Duration| Endpoint::new(proven(), [7; 16], wall + age, begun + age);
        let mut age = Duration::ZERO;
        let mut server = endpoint(age);
        let (mut observer, mut last) = { let (observer, said) = register(&mut server, 0, begun); (observer, (said.0, age)) };
        for (id, (kind, span, restarts, registers)) in (1_u16..).zip(steps) {
            // Nothing, microseconds, or seconds and minutes.
            age += Duration::from_nanos(match kind { 0 => 0, 1 => span / 1_000, _ => span * 300 });
            if restarts {
                // Nobody starts within what a notification takes.
                age += Duration::from_millis(1);
                server = endpoint(age);
            }
            let (number, bytes) = if restarts || registers {
                let (new, said) = register(&mut server, id, begun + age);
                observer = new;
                said
            } else {
                prop_assert!(server.notify(&observer, Response::of(Code::CONTENT), begun + age));
                said(&mut server).unwrap()
            };
            prop_assert!(bytes <= 3);
            prop_assert!(is_newer((number, age), last), "{number} at {age:?} after {last:?}");
            last = (number, age);
        }
    }
}
