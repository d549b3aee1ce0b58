//! Observations, as transcripts of hours and days.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use std::time::Duration;

use expect_test::expect;
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
            < a non 99ec 2.05 t=4a Observe=9437185 "19.2"
            ! notify 1 2.05 payload=19.7
            < a non 99ed 2.05 t=4a Observe=9437186 "19.7"
            + 1s
            ! notify 1 2.05 payload=20.0
            < a non 99ee 2.05 t=4a Observe=9453568 "20.0"
            > b con 0001 t=4a get /temperature observe=0
            ? 2 b get /temperature Observe=0
            ! observe 2 2.05
            < b ack 0001 2.05 t=4a Observe=9453568
            ! notify 1 2.05 payload=20.1
            < a non 99ef 2.05 t=4a Observe=9453569 "20.1"
            ! notify 2 2.05 payload=20.1
            < b non 6541 2.05 t=4a Observe=9453569 "20.1"
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
            < a non 99ec 2.05 t=02 Observe=9437185 "on"
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
            < a non 99ec 2.05 t=01 Observe=9437186 "new"
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
         > b rst 99ec
         > a rst 99ec
         ! notify 1 2.05 payload=late
         + 61s
         ! notify 2 2.05 payload=two
         > a rst 99ef
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
            < a non 99ec 2.05 t=01 Observe=9437185 "one"
            ! notify 2 2.05 payload=two
            < a non 99ed 2.05 t=02 Observe=9437185 "two"
            ! notify 1 2.05 payload=one
            < a non 99ee 2.05 t=01 Observe=9437186 "one"
            > b rst 99ec
            > a rst 99ec
            ? ended 1 Reset
            ! notify 1 2.05 payload=late
              no
            + 61s
              60.0 s ? refresh 2
            ! notify 2 2.05 payload=two
            < a con 99ef 2.05 t=02 Observe=10436608 "two"
            > a rst 99ef
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
         > a ack 99ec
         ! notify 1 2.05 payload=4
         + 61s
         ! notify 1 2.05 payload=5
         + 1s
         ! notify 1 2.05 payload=6
         + 3s
         > a ack 99ef
         + 10s
         > a ack 99f0
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
            < a con 99ec 2.05 t=01 Observe=10436608 "1"
            ! notify 1 2.05 payload=2
            ! notify 1 2.05 payload=3
            > a ack 99ec
            < a non 99ed 2.05 t=01 Observe=10436609 "3"
            ! notify 1 2.05 payload=4
            < a non 99ee 2.05 t=01 Observe=10436610 "4"
            + 61s
              121.0 s ? refresh 1
            ! notify 1 2.05 payload=5
            < a con 99ef 2.05 t=01 Observe=11436032 "5"
            + 1s
            ! notify 1 2.05 payload=6
            + 3s
              124.8 s < a con 99f0 2.05 t=01 Observe=11482351 "6"
            > a ack 99ef
            + 10s
              130.5 s < a con 99f0 2.05 t=01 Observe=11482351 "6"
            > a ack 99f0
            + 100s
              196.0 s ? refresh 1
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, limited: 0, retransmits: 2, unanswered: 0, overtaken: 1, unproven: 0, evicted: 0 }
        "#]],
    );
}

//= RFC7641 4.5.1, 4.5.2
#[test]
fn of_many_that_nobody_acknowledges_one_is_to_be_and_a_few_follow_it() {
    check_within(
        Limits { notifications_unacknowledged_max: 2, ..proven() },
        "> a con 0001 t=01 get /x observe=0
         ! observe 1 2.05
         > a con 0002 t=02 get /x observe=0
         ! observe 2 2.05
         ! notify 1 2.05 payload=1
         ! notify 2 2.05 payload=2
         ! notify 1 2.05 payload=3
         ! notify 1 2.05 payload=4
         ! notify 2 2.05 payload=5
         ! notify 1 2.05 payload=6
         ! notify 2 2.05 payload=7
         ! notify 2 2.05 payload=8
         > a ack 99ee
         ! notify 1 2.05 payload=9
         > a ack 99f2
         ! notify 2 2.05 payload=10
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
            ! notify 1 2.05 payload=1
            < a non 99ec 2.05 t=01 Observe=9437185 "1"
            ! notify 2 2.05 payload=2
            < a non 99ed 2.05 t=02 Observe=9437185 "2"
            ! notify 1 2.05 payload=3
            < a con 99ee 2.05 t=01 Observe=9437186 "3"
            ! notify 1 2.05 payload=4
            < a non 99ef 2.05 t=01 Observe=9437187 "4"
            ! notify 2 2.05 payload=5
            < a non 99f0 2.05 t=02 Observe=9437186 "5"
            ! notify 1 2.05 payload=6
            ! notify 2 2.05 payload=7
            ! notify 2 2.05 payload=8
            > a ack 99ee
            < a non 99f1 2.05 t=01 Observe=9437188 "6"
            < a con 99f2 2.05 t=02 Observe=9437187 "8"
            ! notify 1 2.05 payload=9
            < a non 99f3 2.05 t=01 Observe=9437189 "9"
            > a ack 99f2
            ! notify 2 2.05 payload=10
            < a non 99f4 2.05 t=02 Observe=9437188 "10"
            ! held
              Held { peers: 1, requests: 0, exchanges: 2, observations: 2, bodies_bytes: 0, snapshots_bytes: 0 }
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
         > a ack 99ec
         > b rst 6541
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
            < a con 99ec 2.05 t=01 Observe=12582912 "twelve"
            ! notify 2 2.05 payload=twelve
            < b con 6541 2.05 t=01 Observe=12582912 "twelve"
            ! notify 3 2.05 payload=twelve
            < c con 528c 2.05 t=01 Observe=12582912 "twelve"
            + 1s
            > a ack 99ec
            > b rst 6541
            ? ended 2 Reset
            ! notify 1 2.05 payload=then
            < a non 99ed 2.05 t=01 Observe=12599296 "then"
            + 100s
              43202.4 s < c con 528c 2.05 t=01 Observe=12582912 "twelve"
              43207.2 s < c con 528c 2.05 t=01 Observe=12582912 "twelve"
              43216.8 s < c con 528c 2.05 t=01 Observe=12582912 "twelve"
              43236.1 s < c con 528c 2.05 t=01 Observe=12582912 "twelve"
              43274.6 s ? ended 3 Unanswered
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
         > a ack 99ed
         + 11h
         ! notify 1 2.05 payload=day
         + 1h
         ! notify 1 2.05 payload=day
         > a ack 99ef
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
            < a non 99ec 2.05 t=01 Observe=11010048 "six"
            + 6h
              43200.0 s ? refresh 1
            ! notify 1 2.05 payload=twelve
            < a con 99ed 2.05 t=01 Observe=12582912 "twelve"
            + 1s
            > a ack 99ed
            + 11h
            ! notify 1 2.05 payload=day
            < a non 99ee 2.05 t=01 Observe=7094272 "day"
            + 1h
              86401.0 s ? refresh 1
            ! notify 1 2.05 payload=day
            < a con 99ef 2.05 t=01 Observe=15745024 "day"
            > a ack 99ef
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
         > a ack 99ed
         + 300s
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            ! notify 1 2.05 payload=x
            < a non 99ec 2.05 t=01 Observe=9437185 "x"
            ! notify 1 4.03 payload=withdrawn
            < a con 99ed 4.03 t=01 "withdrawn"
            ! notify 1 2.05 payload=late
              no
            + 3s
              2.3 s < a con 99ed 4.03 t=01 "withdrawn"
            > a ack 99ed
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
            < a con 99ec 2.05 t=01 Observe=10420224 "x"
            ! dismiss 1 5.03 age=1
            < a non 99ed 5.03 t=01 Max-Age=1
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

//= RFC9175 2.3, 2.4
#[test]
fn where_many_observe_that_have_shown_nothing_the_next_has_to() {
    check_within(
        Limits { observations_unproven_max: 1, ..Limits::default() },
        "> a con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 1 2.05
         > a con 0002 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 2 2.05
         > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 3 2.05
         > c con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 4 4.03
         > b con 0002 t=02 get /a/path/that/pays/for/it observe=0 echo
         ! observe 5 2.05
         ! notify 3 2.05 payload=x
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 1 a get /a/path/that/pays/for/it Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            > a con 0002 t=01 get /a/path/that/pays/for/it observe=0
            ? 2 a get /a/path/that/pays/for/it Observe=0
            ! observe 2 2.05
            ? ended 1 Replaced
            < a ack 0002 2.05 t=01 Observe=9437185
            > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 3 b get /a/path/that/pays/for/it Observe=0
            ! observe 3 2.05
              no
            < b ack 0001 4.01 t=01 Echo=2665bee13c2b75c9
            > c con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 4 c get /a/path/that/pays/for/it Observe=0
            ! observe 4 4.03
              no
            < c ack 0001 4.03 t=01
            > b con 0002 t=02 get /a/path/that/pays/for/it observe=0 echo
            ? 5 b get /a/path/that/pays/for/it Observe=0
            ! observe 5 2.05
            < b ack 0002 2.05 t=02 Observe=9437184
            ! notify 3 2.05 payload=x
            < b non 6543 2.05 t=02 Observe=9437185 "x"
            ! held
              Held { peers: 2, requests: 0, exchanges: 3, observations: 2, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

#[test]
fn who_shows_where_it_is_or_goes_makes_room_for_others_that_have_not() {
    check_within(
        Limits { observations_unproven_max: 1, ..Limits::default() },
        "> a con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 1 2.05
         ! notify 1 2.05 payload=x
         > a ack 99ec
         > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 2 2.05
         ! forget b
         > c con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 3 2.05
         > d con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 4 2.05
         > c con 0002 t=01 get /a/path/that/pays/for/it observe=1
         ! respond 5 2.05
         > d con 0001 t=01 get /a/path/that/pays/for/it observe=0
         ! observe 6 2.05",
        &expect![[r#"
            > a con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 1 a get /a/path/that/pays/for/it Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            ! notify 1 2.05 payload=x
            < a con 99ec 2.05 t=01 Observe=9437185 "x"
            > a ack 99ec
            > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 2 b get /a/path/that/pays/for/it Observe=0
            ! observe 2 2.05
            < b ack 0001 2.05 t=01 Observe=9437184
            ! forget b
            > c con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 3 c get /a/path/that/pays/for/it Observe=0
            ! observe 3 2.05
            < c ack 0001 2.05 t=01 Observe=9437184
            > d con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 4 d get /a/path/that/pays/for/it Observe=0
            ! observe 4 2.05
              no
            < d ack 0001 4.01 t=01 Echo=d09145b52a5b2bf9
            > c con 0002 t=01 get /a/path/that/pays/for/it observe=1
            ? ended 3 Deregistered
            ? 5 c get /a/path/that/pays/for/it Observe=1
            ! respond 5 2.05
            < c ack 0002 2.05 t=01
            > d con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 6 d get /a/path/that/pays/for/it Observe=0
            ! observe 6 2.05
            < d ack 0001 2.05 t=01 Observe=9437184
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
         > a ack 99ec
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
            < a con 99ec 2.05 t=01 Observe=9437185 "first"
            ! notify 1 2.05 payload=second
            > a ack 99ec
            < a non 99ed 2.05 t=01 Observe=9437186 "second"
            ! notify 1 2.05 payload=third
            < a non 99ee 2.05 t=01 Observe=9437187 "third"
            > b con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 2 b get /a/path/that/pays/for/it Observe=0
            ! observe 2 2.05
            < b ack 0001 2.05 t=01 Observe=9437184
            ! notify 2 2.05 payload=first
            < b con 6541 2.05 t=01 Observe=9437185 "first"
            + 100s
              2.8 s < b con 6541 2.05 t=01 Observe=9437185 "first"
              8.5 s < b con 6541 2.05 t=01 Observe=9437185 "first"
              19.8 s < b con 6541 2.05 t=01 Observe=9437185 "first"
              42.4 s < b con 6541 2.05 t=01 Observe=9437185 "first"
              87.6 s ? ended 2 Unanswered
            ! notify 2 2.05 payload=second
              no
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, limited: 0, retransmits: 4, unanswered: 1, overtaken: 0, unproven: 0, evicted: 0 }
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
         > a rst 99ee
         + 1s
         > a rst 99ed
         + 1s
         > a ack 99ec
         ! notify 1 2.05 payload=y*500
         ! counts",
        &expect![[r#"
            > a con 0001 t=01 get /a/path/that/pays/for/it observe=0
            ? 1 a get /a/path/that/pays/for/it Observe=0
            ! observe 1 2.05
            < a ack 0001 2.05 t=01 Observe=9437184
            ! notify 1 2.05 payload=x*50
            < a con 99ec 2.05 t=01 Observe=9437185 "xxxx".. 50 bytes
            + 3s
              2.3 s < a ping 99ed
            > a rst 99ee
            + 1s
            > a rst 99ed
            < a con 99ec 2.05 t=01 Observe=9437185 "xxxx".. 50 bytes
            + 1s
            > a ack 99ec
            ! notify 1 2.05 payload=y*500
            < a non 99ee 2.05 t=01 Observe=9519104 "yyyy".. 500 bytes
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, limited: 0, retransmits: 1, unanswered: 0, overtaken: 0, unproven: 1, evicted: 0 }
        "#]],
    );
}
