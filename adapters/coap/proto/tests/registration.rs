//! How an observation begins, and what becomes of it when the answer to its request is not welcome or comes too late.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use expect_test::expect;
use script::{check, check_within, played};
use tidegate_coap_proto::*;

/// Of peers that need show nothing.
fn proven() -> Limits {
    Limits { amplification_max: None, ..Limits::default() }
}

//= RFC7641 2, 4.5
#[test]
fn a_reset_of_the_answer_ends_the_observation_in_whatever_message_that_came() {
    check_within(
        proven(),
        "> a non 0001 t=4a get /x observe=0
         ! observe 1 2.05 payload=first
         > a rst 99ec
         > a con 0002 t=4b get /x observe=0
         + 1s
         ! observe 2 2.05 payload=late
         > a rst 99ed
         ! notify 1 2.05 payload=more
         ! notify 2 2.05 payload=more
         ! held",
        &expect![[r#"
            > a non 0001 t=4a get /x observe=0
            ? 1 a get /x Observe=0
            ! observe 1 2.05 payload=first
            < a non 99ec 2.05 t=4a Observe=9437184 "first"
            > a rst 99ec
            ? ended 1 Reset
            > a con 0002 t=4b get /x observe=0
            ? 2 a get /x Observe=0
            + 1s
              1.0 s < a ack 0002
            ! observe 2 2.05 payload=late
            < a con 99ed 2.05 t=4b Observe=9453568 "late"
            > a rst 99ed
            ? ended 2 Reset
            ! notify 1 2.05 payload=more
              no
            ! notify 2 2.05 payload=more
              no
            ! held
              Held { peers: 1, requests: 0, exchanges: 2, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 4.5
#[test]
fn an_answer_that_nobody_acknowledges_ends_the_observation() {
    check_within(
        proven(),
        "> a con 0001 t=4a get /x observe=0
         + 1s
         ! observe 1 2.05 payload=late
         + 100s
         ! held",
        &expect![[r#"
            > a con 0001 t=4a get /x observe=0
            ? 1 a get /x Observe=0
            + 1s
              1.0 s < a ack 0001
            ! observe 1 2.05 payload=late
            < a con 99ec 2.05 t=4a Observe=9453568 "late"
            + 100s
              3.3 s < a con 99ec 2.05 t=4a Observe=9453568 "late"
              7.8 s < a con 99ec 2.05 t=4a Observe=9453568 "late"
              16.9 s < a con 99ec 2.05 t=4a Observe=9453568 "late"
              35.1 s < a con 99ec 2.05 t=4a Observe=9453568 "late"
              71.5 s ? ended 1 Unanswered
            ! held
              Held { peers: 1, requests: 0, exchanges: 1, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 3.6
#[test]
fn who_does_not_want_it_any_more_before_it_is_answered_does_not_get_it() {
    check_within(
        proven(),
        "> a con 0001 t=4a get /x observe=0
         > a con 0002 t=4b get /x observe=0
         + 1s
         > a con 0003 t=4a get /x observe=1
         ! respond 3 2.05 payload=now
         ! observe 1 2.05 payload=late
         ! observe 2 2.05 payload=other
         ! held",
        &expect![[r#"
            > a con 0001 t=4a get /x observe=0
            ? 1 a get /x Observe=0
            > a con 0002 t=4b get /x observe=0
            ? 2 a get /x Observe=0
            + 1s
              1.0 s < a ack 0001
              1.0 s < a ack 0002
            > a con 0003 t=4a get /x observe=1
            ? 3 a get /x Observe=1
            ! respond 3 2.05 payload=now
            < a ack 0003 2.05 t=4a "now"
            ! observe 1 2.05 payload=late
              no
            < a con 99ec 2.05 t=4a "late"
            ! observe 2 2.05 payload=other
            ! held
              Held { peers: 1, requests: 0, exchanges: 3, observations: 1, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7641 3.3.1
#[test]
fn a_registration_says_which_one_it_takes_the_place_of() {
    check(
        "> a con 0001 t=4a get /x?auth=k observe=0
         ! renewed 1
         ! observe 1 2.05
         > a con 0002 t=4a get /x?auth=k observe=0
         ! renewed 2
         > a con 0003 t=4b get /x?auth=k observe=0
         ! renewed 3
         > a con 0004 t=4a get /y?auth=k observe=0
         ! renewed 4
         > a con 0005 t=4a get /x?auth=k
         ! renewed 5
         > b con 0001 t=4a get /x?auth=k observe=0
         ! renewed 6",
        &expect![[r#"
            > a con 0001 t=4a get /x?auth=k observe=0
            ? 1 a get /x Observe=0 Uri-Query=auth=k
            ! renewed 1
              None
            ! observe 1 2.05
            < a ack 0001 2.05 t=4a Observe=9437184
            > a con 0002 t=4a get /x?auth=k observe=0
            ? 2 a get /x Observe=0 Uri-Query=auth=k
            ! renewed 2
              Some(1)
            > a con 0003 t=4b get /x?auth=k observe=0
            ? 3 a get /x Observe=0 Uri-Query=auth=k
            ! renewed 3
              None
            > a con 0004 t=4a get /y?auth=k observe=0
            ? 4 a get /y Observe=0 Uri-Query=auth=k
            ! renewed 4
              None
            > a con 0005 t=4a get /x?auth=k
            ? 5 a get /x Uri-Query=auth=k
            ! renewed 5
              None
            > b con 0001 t=4a get /x?auth=k observe=0
            ? 6 b get /x Observe=0 Uri-Query=auth=k
            ! renewed 6
              None
        "#]],
    );
}

//= RFC7641 4.2
#[test]
fn each_of_many_observations_is_told_its_last_word() {
    let limits = proven();
    let count = limits.observations_per_peer_max;
    let registered: String = (1..=count)
        .map(|number| format!("> a con {number:04x} t={number:02x} get /x observe=0\n! observe {number} 2.05\n"))
        .collect();
    let ended: String = (1..=count).map(|number| format!("! notify {number} 4.03\n")).collect();
    let said = played(limits, &format!("{registered}{ended}+ 1s"), |message| {
        let Message::Response { id, carried: Carried::Confirmable, .. } = message else { return None };
        Some(Message::Acknowledgement(*id))
    });
    let last_words = said.lines().filter(|line| line.starts_with("< a con ") && line.contains(" 4.03 ")).count();
    assert_eq!(last_words, count, "{said}");
}
