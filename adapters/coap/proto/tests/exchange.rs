//! Messages and exchanges, as transcripts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use expect_test::expect;
use script::{check, check_within};
use tidegate_coap_proto::Limits;

//= RFC7252 5.2.1
#[test]
fn an_answer_in_time_comes_in_the_acknowledgement() {
    check(
        "> a con 7d34 t=2001 post /x payload=hi
         ! respond 1 2.04
         > a con 7d35 get /x
         ! respond 2 2.05 format=110 payload=[]",
        &expect![[r#"
            > a con 7d34 t=2001 post /x payload=hi
            ? 1 a post /x "hi"
            ! respond 1 2.04
            < a ack 7d34 2.04 t=2001
            > a con 7d35 get /x
            ? 2 a get /x
            ! respond 2 2.05 format=110 payload=[]
            < a ack 7d35 2.05 Content-Format=110 "[]"
        "#]],
    );
}

//= RFC7252 4.2, 4.5, 5.2.2
#[test]
fn a_slow_answer_comes_in_a_message_of_its_own_and_each_copy_of_the_request_is_acknowledged() {
    check(
        "> a con 7d34 t=20 post /x payload=hi
         + 500ms
         > a con 7d34 t=20 post /x payload=hi
         + 2s
         > a con 7d34 t=20 post /x payload=hi
         + 12s
         > a con 7d34 t=20 post /x payload=hi
         + 6s
         ! respond 1 2.04
         > a con 7d34 t=20 post /x payload=hi
         + 4s
         > a ack 99ec
         > a con 7d34 t=20 post /x payload=hi
         + 247s
         ! counts",
        &expect![[r#"
            > a con 7d34 t=20 post /x payload=hi
            ? 1 a post /x "hi"
            + 500ms
            > a con 7d34 t=20 post /x payload=hi
            + 2s
              1.0 s < a ack 7d34
            > a con 7d34 t=20 post /x payload=hi
            < a ack 7d34
            + 12s
            > a con 7d34 t=20 post /x payload=hi
            < a ack 7d34
            + 6s
            ! respond 1 2.04
            < a con 99ec 2.04 t=20
            > a con 7d34 t=20 post /x payload=hi
            < a ack 7d34
            + 4s
              22.8 s < a con 99ec 2.04 t=20
            > a ack 99ec
            > a con 7d34 t=20 post /x payload=hi
            < a ack 7d34
            + 247s
            ! counts
              Counts { malformed: 0, copies: 5, overload: 0, limited: 0, retransmits: 1, unanswered: 0, overtaken: 0, unproven: 0, evicted: 0 }
        "#]],
    );
}

//= RFC7252 4.2
#[test]
fn what_nobody_acknowledges_is_sent_five_times_and_given_up() {
    check(
        "> a con 0001 post /a/path/that/pays/for/it
         + 1s
         ! respond 1 2.04
         + 100s
         ! counts
         + 200s
         ! held",
        &expect![[r#"
            > a con 0001 post /a/path/that/pays/for/it
            ? 1 a post /a/path/that/pays/for/it
            + 1s
              1.0 s < a ack 0001
            ! respond 1 2.04
            < a con 99ec 2.04
            + 100s
              3.3 s < a con 99ec 2.04
              7.8 s < a con 99ec 2.04
              16.9 s < a con 99ec 2.04
              35.1 s < a con 99ec 2.04
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, limited: 0, retransmits: 4, unanswered: 1, overtaken: 0, unproven: 0, evicted: 0 }
            + 200s
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7252 4.2
#[test]
fn a_reset_ends_what_is_sent_again() {
    check(
        "> a con 0001 post /x
         + 1s
         ! respond 1 2.04
         > b rst 99ec
         > a rst 99ec
         + 100s",
        &expect![[r#"
            > a con 0001 post /x
            ? 1 a post /x
            + 1s
              1.0 s < a ack 0001
            ! respond 1 2.04
            < a con 99ec 2.04
            > b rst 99ec
            > a rst 99ec
            + 100s
        "#]],
    );
}

//= RFC7252 4.5
#[test]
fn a_copy_is_told_what_the_first_was_told_and_asks_nothing() {
    check(
        "> a con 0001 t=01 post /x payload=hi
         ! respond 1 2.04
         + 100s
         > a con 0001 t=01 post /x payload=hi
         > b con 0001 t=01 post /x payload=hi
         > a non 0002 post /x
         ! respond 3 2.04
         > a non 0002 post /x
         + 146s
         > a con 0001 t=01 post /x payload=hi
         > a non 0002 post /x
         + 2s
         > a con 0001 t=01 post /x payload=hi",
        &expect![[r#"
            > a con 0001 t=01 post /x payload=hi
            ? 1 a post /x "hi"
            ! respond 1 2.04
            < a ack 0001 2.04 t=01
            + 100s
            > a con 0001 t=01 post /x payload=hi
            < a ack 0001 2.04 t=01
            > b con 0001 t=01 post /x payload=hi
            ? 2 b post /x "hi"
            > a non 0002 post /x
            ? 3 a post /x
            ! respond 3 2.04
            < a non 99ec 2.04
            > a non 0002 post /x
            + 146s
              101.0 s < b ack 0001
            > a con 0001 t=01 post /x payload=hi
            < a ack 0001 2.04 t=01
            > a non 0002 post /x
            ? 4 a post /x
            + 2s
            > a con 0001 t=01 post /x payload=hi
            ? 5 a post /x "hi"
        "#]],
    );
}

//= RFC7252 4.4, 4.5
#[test]
fn a_device_that_counts_from_the_start_again_is_heard() {
    check(
        "> a con 0001 t=01 post /x payload=before
         ! respond 1 2.04
         > a con 0001 t=01 post /x payload=after
         ! respond 2 2.04
         > a con 0001 t=01 post /x payload=before",
        &expect![[r#"
            > a con 0001 t=01 post /x payload=before
            ? 1 a post /x "before"
            ! respond 1 2.04
            < a ack 0001 2.04 t=01
            > a con 0001 t=01 post /x payload=after
            ? 2 a post /x "after"
            ! respond 2 2.04
            < a ack 0001 2.04 t=01
            > a con 0001 t=01 post /x payload=before
            < a ack 0001 2.04 t=01
        "#]],
    );
}

//= RFC7252 4.5
#[test]
fn a_large_answer_is_not_kept_and_a_refusal_neither() {
    check(
        "> a con 0001 t=01 get /x?a=12345678901234567890123456789012345678901234567890
         ! respond 1 2.05 payload=x*150
         > a con 0001 t=01 get /x?a=12345678901234567890123456789012345678901234567890
         ! respond 2 2.05 payload=x*150
         > b con 0001 post /x
         ! respond 3 4.03
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x?a=12345678901234567890123456789012345678901234567890
            ? 1 a get /x Uri-Query=a=12345678901234567890123456789012345678901234567890
            ! respond 1 2.05 payload=x*150
            < a ack 0001 2.05 t=01 "xxxx".. 150 bytes
            > a con 0001 t=01 get /x?a=12345678901234567890123456789012345678901234567890
            ? 2 a get /x Uri-Query=a=12345678901234567890123456789012345678901234567890
            ! respond 2 2.05 payload=x*150
            < a ack 0001 2.05 t=01 "xxxx".. 150 bytes
            > b con 0001 post /x
            ? 3 b post /x
            ! respond 3 4.03
            < b ack 0001 4.03
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7252 5.2.3
#[test]
fn what_needs_no_acknowledgement_is_answered_in_kind() {
    check(
        "> a non 0001 t=aabbccdd11223344 get /x
         + 10s
         ! respond 1 2.05 payload=hi",
        &expect![[r#"
            > a non 0001 t=aabbccdd11223344 get /x
            ? 1 a get /x
            + 10s
            ! respond 1 2.05 payload=hi
            < a non 99ec 2.05 t=aabbccdd11223344 "hi"
        "#]],
    );
}

//= RFC7252 3, 4.2, 4.3
//= RFC8974 2.2.2
#[test]
fn what_is_no_request_is_reset_or_left_alone() {
    check(
        "> a ping 13a0
         > a hex 00
         > a hex 49010001 010203040506070809
         > a hex 4001000aff
         > a hex 60010001
         > a ack 0001
         > a rst 0001
         > a response 0005
         ! counts
         ! held",
        &expect![[r#"
            > a ping 13a0
            < a rst 13a0
            > a hex 00
            > a hex 49010001 010203040506070809
            < a rst 0001
            > a hex 4001000aff
            < a rst 000a
            > a hex 60010001
            > a ack 0001
            > a rst 0001
            > a response 0005
            < a rst 0005
            ! counts
              Counts { malformed: 4, copies: 0, overload: 0, limited: 0, retransmits: 0, unanswered: 0, overtaken: 0, unproven: 0, evicted: 0 }
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7252 5.4.1, 5.4.3, 5.4.5, 5.5.2, 5.7.2, 5.10.2
//= RFC7959 2.2
#[test]
fn an_option_that_is_not_understood_is_refused_where_it_is_critical() {
    check(
        "> a con 0001 t=01 post /x/yyyyyyyyyyyyyyy option=9
         > a non 0002 t=01 post /x option=9
         > a con 0003 t=01 post /x/yyyyyyyyyyyyyyy option=65001
         > a con 0004 t=01 post /x option=65000
         ! respond 1 2.04
         > a con 0005 t=01 post /x option=35
         > a non 0006 t=01 post /x option=39
         > a con 0007 t=01 post /x option=17 option=17
         > a con 0008 t=01 get /x option=1
         > a hex 40010009 b178 c107
         > a con 000a post /x block1=0/-/64 payload=x*65",
        &expect![[r#"
            > a con 0001 t=01 post /x/yyyyyyyyyyyyyyy option=9
            < a ack 0001 4.02 t=01 "option OSCORE"
            > a non 0002 t=01 post /x option=9
            < a rst 0002
            > a con 0003 t=01 post /x/yyyyyyyyyyyyyyy option=65001
            < a ack 0003 4.02 t=01 "option 65001"
            > a con 0004 t=01 post /x option=65000
            ? 1 a post /x 65000=78
            ! respond 1 2.04
            < a ack 0004 2.04 t=01
            > a con 0005 t=01 post /x option=35
            < a ack 0005 5.05 t=01 "no proxy"
            > a non 0006 t=01 post /x option=39
            < a non 99ec 5.05 t=01 "no proxy"
            > a con 0007 t=01 post /x option=17 option=17
            < a ack 0007 4.02 t=01 "option Accept"
            > a con 0008 t=01 get /x option=1
            < a ack 0008 4.02 t=01 "option If-Match"
            > a hex 40010009 b178 c107
            < a ack 0009 4.00
            > a con 000a post /x block1=0/-/64 payload=x*65
            < a ack 000a 4.00 Block1=0/-/64 "a block of another size than it says"
        "#]],
    );
}

//= RFC7967 2, 2.1
#[test]
fn who_wants_no_response_gets_none() {
    check(
        "> a con 0001 post /x quiet=26
         ! respond 1 2.04
         > a con 0001 post /x quiet=26
         > a non 0002 post /x quiet=2
         ! respond 2 2.04
         > a non 0003 post /x quiet=2
         ! respond 3 4.03
         > a con 0004 post /x quiet=2
         + 2s
         ! respond 4 2.04
         + 10s",
        &expect![[r#"
            > a con 0001 post /x quiet=26
            ? 1 a post /x No-Response=26
            ! respond 1 2.04
            < a ack 0001
            > a con 0001 post /x quiet=26
            < a ack 0001
            > a non 0002 post /x quiet=2
            ? 2 a post /x No-Response=2
            ! respond 2 2.04
            > a non 0003 post /x quiet=2
            ? 3 a post /x No-Response=2
            ! respond 3 4.03
            < a non 99ec 4.03
            > a con 0004 post /x quiet=2
            ? 4 a post /x No-Response=2
            + 2s
              1.0 s < a ack 0004
            ! respond 4 2.04
            + 10s
        "#]],
    );
}

//= RFC7959 2.5
//= RFC7967 2.1
#[test]
fn who_wants_no_response_still_hears_that_more_blocks_may_come() {
    check(
        "> a con 0001 post /x quiet=26 block1=0/m/16 payload=a*16
         ! admit 1 100
         > a con 0002 post /x quiet=26 block1=2/-/16 payload=late
         > a con 0003 post /x quiet=26 block1=0/m/16 payload=a*16
         ! admit 2 100
         > a con 0004 post /x quiet=26 block1=1/-/16 payload=end
         ! respond 3 2.04",
        &expect![[r#"
            > a con 0001 post /x quiet=26 block1=0/m/16 payload=a*16
            ? 1 a begins post /x No-Response=26
            ! admit 1 100
            < a ack 0001 2.31 Block1=0/m/16
            > a con 0002 post /x quiet=26 block1=2/-/16 payload=late
            < a ack 0002
            > a con 0003 post /x quiet=26 block1=0/m/16 payload=a*16
            ? 2 a begins post /x No-Response=26
            ! admit 2 100
            < a ack 0003 2.31 Block1=0/m/16
            > a con 0004 post /x quiet=26 block1=1/-/16 payload=end
            ? 3 a post /x No-Response=26 "aaaaaaaaaaaaaaaaend"
            ! respond 3 2.04
            < a ack 0004
        "#]],
    );
}

#[test]
fn what_there_is_no_room_for_is_put_off() {
    let limits = Limits { requests_per_peer_max: 1, exchanges_per_peer_max: 2, peers_max: 2, ..Limits::default() };
    check_within(
        limits,
        "> a con 0001 post /x
         > a con 0002 post /x
         ! respond 1 2.04
         > b con 0001 post /x
         > c con 0001 post /x
         > c non 0002 post /x
         ! held
         ! respond 3 2.04
         ! respond 2 2.04
         ! held
         > c con 0003 post /x
         ! respond 4 2.04
         > c con 0004 post /x
         ! respond 5 2.04
         > c con 0001 post /x
         ! counts",
        &expect![[r#"
            > a con 0001 post /x
            ? 1 a post /x
            > a con 0002 post /x
            < a ack 0002 5.03 Max-Age=5
            ! respond 1 2.04
            < a ack 0001 2.04
            > b con 0001 post /x
            ? 2 b post /x
            > c con 0001 post /x
            ? 3 c post /x
            > c non 0002 post /x
            < c non 528c 5.03 Max-Age=5
            ! held
              Held { peers: 2, requests: 2, exchanges: 2, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
            ! respond 3 2.04
            < c ack 0001 2.04
            ! respond 2 2.04
            < b ack 0001 2.04
            ! held
              Held { peers: 2, requests: 0, exchanges: 2, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
            > c con 0003 post /x
            ? 4 c post /x
            ! respond 4 2.04
            < c ack 0003 2.04
            > c con 0004 post /x
            ? 5 c post /x
            ! respond 5 2.04
            < c ack 0004 2.04
            > c con 0001 post /x
            ? 6 c post /x
            ! counts
              Counts { malformed: 0, copies: 0, overload: 2, limited: 0, retransmits: 0, unanswered: 0, overtaken: 0, unproven: 0, evicted: 1 }
        "#]],
    );
}

//= RFC7252 4.7
#[test]
fn one_message_waits_for_its_acknowledgement_at_a_time() {
    check(
        "> a con 0001 t=01 post /x
         > a con 0002 t=02 post /x
         > b con 0001 t=03 post /x
         + 1s
         ! respond 2 2.04
         ! respond 1 2.04
         ! respond 3 2.04
         > a ack 99ec
         + 1s",
        &expect![[r#"
            > a con 0001 t=01 post /x
            ? 1 a post /x
            > a con 0002 t=02 post /x
            ? 2 a post /x
            > b con 0001 t=03 post /x
            ? 3 b post /x
            + 1s
              1.0 s < a ack 0001
              1.0 s < a ack 0002
              1.0 s < b ack 0001
            ! respond 2 2.04
            < a con 99ec 2.04 t=02
            ! respond 1 2.04
            ! respond 3 2.04
            < b con 6541 2.04 t=03
            > a ack 99ec
            < a con 99ed 2.04 t=01
            + 1s
        "#]],
    );
}
