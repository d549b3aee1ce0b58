//! Bodies in blocks, and what is said to who has not shown where it is, as transcripts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod script;

use expect_test::expect;
use script::{check, check_within};
use tidegate_coap_proto::*;

/// Of peers that need show nothing.
fn proven() -> Limits {
    Limits { amplification_max: None, ..Limits::default() }
}

//= RFC7959 2.3, 2.5, 3.2
#[test]
fn a_body_is_let_in_by_its_first_block_and_asked_when_it_is_whole() {
    check(
        "> a con 0001 t=01 post /x?auth=k block1=0/m/16 size1=40 format=110 payload=a*16
         ! admit 1 1000
         > a con 0001 t=01 post /x?auth=k block1=0/m/16 size1=40 format=110 payload=a*16
         > a con 0002 t=02 post /x?auth=k block1=1/m/16 format=110 payload=b*16
         > a con 0003 t=03 post /x?auth=k block1=1/m/16 format=110 payload=b*16
         > a con 0004 t=04 post /x?auth=k block1=2/-/16 format=110 payload=c*8
         ! respond 2 2.04
         > a con 0004 t=04 post /x?auth=k block1=2/-/16 format=110 payload=c*8
         ! held",
        &expect![[r#"
            > a con 0001 t=01 post /x?auth=k block1=0/m/16 size1=40 format=110 payload=a*16
            ? 1 a begins post /x Content-Format=110 Uri-Query=auth=k Size1=40
            ! admit 1 1000
            < a ack 0001 2.31 t=01 Block1=0/m/16
            > a con 0001 t=01 post /x?auth=k block1=0/m/16 size1=40 format=110 payload=a*16
            < a ack 0001 2.31 t=01 Block1=0/m/16
            > a con 0002 t=02 post /x?auth=k block1=1/m/16 format=110 payload=b*16
            < a ack 0002 2.31 t=02 Block1=1/m/16
            > a con 0003 t=03 post /x?auth=k block1=1/m/16 format=110 payload=b*16
            < a ack 0003 2.31 t=03 Block1=1/m/16
            > a con 0004 t=04 post /x?auth=k block1=2/-/16 format=110 payload=c*8
            ? 2 a post /x Content-Format=110 Uri-Query=auth=k "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbcccccccc"
            ! respond 2 2.04
            < a ack 0004 2.04 t=04 Block1=2/-/16
            > a con 0004 t=04 post /x?auth=k block1=2/-/16 format=110 payload=c*8
            < a ack 0004 2.04 t=04 Block1=2/-/16
            ! held
              Held { peers: 1, requests: 0, exchanges: 4, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7959 2.9.2
#[test]
fn a_gap_is_told_and_a_fresh_start_helps() {
    check(
        "> a con 0001 post /x/and/something/that/pays block1=1/m/64 payload=b*64
         > a con 0002 post /x/and/something/that/pays block1=0/m/64 payload=a*64
         ! admit 1 1000
         > a con 0003 post /x/and/something/that/pays block1=2/m/64 payload=c*64
         > a con 0004 post /x/and/something/that/pays block1=1/-/64 payload=b
         > a con 0005 post /x/and/something/that/pays block1=0/m/64 payload=a*64
         ! admit 2 1000
         > a con 0006 post /x/and/something/that/pays block1=2/m/32 payload=b*32
         > a con 0007 post /x/and/something/that/pays block1=3/-/32 payload=c
         ! respond 3 2.04
         ! held",
        &expect![[r#"
            > a con 0001 post /x/and/something/that/pays block1=1/m/64 payload=b*64
            < a ack 0001 4.08 Block1=1/m/64 "a block is missing before this one"
            > a con 0002 post /x/and/something/that/pays block1=0/m/64 payload=a*64
            ? 1 a begins post /x/and/something/that/pays
            ! admit 1 1000
            < a ack 0002 2.31 Block1=0/m/64
            > a con 0003 post /x/and/something/that/pays block1=2/m/64 payload=c*64
            < a ack 0003 4.08 Block1=2/m/64 "a block is missing before this one"
            > a con 0004 post /x/and/something/that/pays block1=1/-/64 payload=b
            < a ack 0004 4.08 Block1=1/-/64 "a block is missing before this one"
            > a con 0005 post /x/and/something/that/pays block1=0/m/64 payload=a*64
            ? 2 a begins post /x/and/something/that/pays
            ! admit 2 1000
            < a ack 0005 2.31 Block1=0/m/64
            > a con 0006 post /x/and/something/that/pays block1=2/m/32 payload=b*32
            < a ack 0006 2.31 Block1=2/m/32
            > a con 0007 post /x/and/something/that/pays block1=3/-/32 payload=c
            ? 3 a post /x/and/something/that/pays "aaaa".. 97 bytes
            ! respond 3 2.04
            < a ack 0007 2.04 Block1=3/-/32
            ! held
              Held { peers: 1, requests: 0, exchanges: 6, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7959 2.9.3
#[test]
fn what_is_too_large_is_refused_as_soon_as_that_is_known() {
    let limits = Limits { body_bytes_max: 64, ..proven() };
    check_within(
        limits,
        "> a con 0001 post /x block1=0/m/32 size1=65 payload=a*32
         > a con 0002 post /x block1=0/m/32 size1=64 payload=a*32
         ! admit 1 40
         > a con 0003 post /x block1=0/m/32 payload=a*32
         ! admit 2 1000
         > a con 0004 post /x block1=1/m/32 payload=a*32
         > a con 0005 post /x block1=2/-/32 payload=a
         > a con 0006 post /x block1=0/m/32 payload=a*32
         ! respond 3 4.03
         > a con 0007 post /x block1=1/m/32 payload=a*32
         > a con 0008 post /x block1=0/-/32 payload=whole
         ! respond 4 2.04
         ! held",
        &expect![[r#"
            > a con 0001 post /x block1=0/m/32 size1=65 payload=a*32
            < a ack 0001 4.13 Block1=0/m/32 Size1=64 "a body of too many bytes"
            > a con 0002 post /x block1=0/m/32 size1=64 payload=a*32
            ? 1 a begins post /x Size1=64
            ! admit 1 40
            < a ack 0002 4.13 Block1=0/m/32 Size1=40 "a body of too many bytes"
            > a con 0003 post /x block1=0/m/32 payload=a*32
            ? 2 a begins post /x
            ! admit 2 1000
            < a ack 0003 2.31 Block1=0/m/32
            > a con 0004 post /x block1=1/m/32 payload=a*32
            < a ack 0004 2.31 Block1=1/m/32
            > a con 0005 post /x block1=2/-/32 payload=a
            < a ack 0005 4.13 Block1=2/-/32 Size1=64 "a body of too many bytes"
            > a con 0006 post /x block1=0/m/32 payload=a*32
            ? 3 a begins post /x
            ! respond 3 4.03
            < a ack 0006 4.03 Block1=0/m/32
            > a con 0007 post /x block1=1/m/32 payload=a*32
            < a ack 0007 4.08 Block1=1/m/32 "a block is missing before this one"
            > a con 0008 post /x block1=0/-/32 payload=whole
            ? 4 a post /x "whole"
            ! respond 4 2.04
            < a ack 0008 2.04 Block1=0/-/32
            ! held
              Held { peers: 1, requests: 0, exchanges: 6, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7959 2.5
//= RFC9175 3.3, 3.4
#[test]
fn bodies_are_told_apart_by_peer_options_and_tag_and_bounded() {
    let limits = Limits { bodies_per_peer_max: 2, bodies_bytes_max: 64, ..proven() };
    check_within(
        limits,
        "> a con 0001 post /x tag=1 block1=0/m/16 payload=a*16
         ! admit 1 100
         > a con 0002 post /x tag=2 block1=0/m/16 payload=b*16
         ! admit 2 100
         > b con 0001 post /x tag=1 block1=1/-/16 payload=z
         > a con 0003 post /x tag=1 block1=1/-/16 payload=a
         > a con 0004 post /x tag=2 block1=1/-/16 payload=b
         > a con 0005 post /x tag=3 block1=0/m/16 payload=c*16
         ! admit 5 100
         > a con 0006 post /x tag=4 block1=0/m/16 payload=d*16
         ! admit 6 100
         > a con 0007 post /x tag=5 block1=0/m/16 payload=e*16
         ! admit 7 100
         > a con 0008 post /x tag=3 block1=1/-/16 payload=c
         > b con 0009 post /x block1=0/m/64 payload=f*64
         ! admit 8 100
         ! held
         + 248s
         ! held",
        &expect![[r#"
            > a con 0001 post /x tag=1 block1=0/m/16 payload=a*16
            ? 1 a begins post /x Request-Tag=31
            ! admit 1 100
            < a ack 0001 2.31 Block1=0/m/16
            > a con 0002 post /x tag=2 block1=0/m/16 payload=b*16
            ? 2 a begins post /x Request-Tag=32
            ! admit 2 100
            < a ack 0002 2.31 Block1=0/m/16
            > b con 0001 post /x tag=1 block1=1/-/16 payload=z
            < b ack 0001 4.08 Block1=1/-/16 "a block is missing before this one"
            > a con 0003 post /x tag=1 block1=1/-/16 payload=a
            ? 3 a post /x Request-Tag=31 "aaaaaaaaaaaaaaaaa"
            > a con 0004 post /x tag=2 block1=1/-/16 payload=b
            ? 4 a post /x Request-Tag=32 "bbbbbbbbbbbbbbbbb"
            > a con 0005 post /x tag=3 block1=0/m/16 payload=c*16
            ? 5 a begins post /x Request-Tag=33
            ! admit 5 100
            < a ack 0005 2.31 Block1=0/m/16
            > a con 0006 post /x tag=4 block1=0/m/16 payload=d*16
            ? 6 a begins post /x Request-Tag=34
            ! admit 6 100
            < a ack 0006 2.31 Block1=0/m/16
            > a con 0007 post /x tag=5 block1=0/m/16 payload=e*16
            ? 7 a begins post /x Request-Tag=35
            ! admit 7 100
            < a ack 0007 2.31 Block1=0/m/16
            > a con 0008 post /x tag=3 block1=1/-/16 payload=c
            < a ack 0008 4.08 Block1=1/-/16 "a block is missing before this one"
            > b con 0009 post /x block1=0/m/64 payload=f*64
            ? 8 b begins post /x
            ! admit 8 100
            < b ack 0009 5.03 Max-Age=5 Block1=0/m/64 "no room for a body"
            ! held
              Held { peers: 2, requests: 2, exchanges: 9, observations: 0, bodies_bytes: 32, snapshots_bytes: 0 }
            + 248s
              1.0 s < a ack 0003
              1.0 s < a ack 0004
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7252 5.10.6.1
//= RFC7959 2.2, 2.4, 2.6, 3.1
#[test]
fn a_large_answer_is_fetched_in_blocks_of_one_snapshot() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x
         ! respond 1 2.05 format=110 payload=a*2000
         > a con 0002 t=02 get /x block2=1/-/1024
         > a con 0003 t=03 get /x block2=1/m/64
         > a con 0004 t=04 get /x block2=31/-/64
         > a con 0005 t=05 get /x block2=32/-/64
         > a con 0006 t=06 get /y block2=0/-/128
         ! respond 2 2.05 payload=b*300
         > a con 0007 t=07 get /y block2=1/-/64
         > a con 0008 t=08 get /z block2=1/m/64
         ! respond 3 2.05 payload=c*100
         > a con 0009 t=09 get /z block2=0/-/64
         ! respond 4 2.05 payload=c*10
         ! held
         + 248s
         ! held",
        &expect![[r#"
            > a con 0001 t=01 get /x
            ? 1 a get /x
            ! respond 1 2.05 format=110 payload=a*2000
            < a ack 0001 2.05 t=01 ETag=059e135d0f10c3ec Content-Format=110 Block2=0/m/1024 Size2=2000 "aaaa".. 1024 bytes
            > a con 0002 t=02 get /x block2=1/-/1024
            < a ack 0002 2.05 t=02 ETag=059e135d0f10c3ec Content-Format=110 Block2=1/-/1024 "aaaa".. 976 bytes
            > a con 0003 t=03 get /x block2=1/m/64
            < a ack 0003 2.05 t=03 ETag=059e135d0f10c3ec Content-Format=110 Block2=1/m/64 "aaaa".. 64 bytes
            > a con 0004 t=04 get /x block2=31/-/64
            < a ack 0004 2.05 t=04 ETag=059e135d0f10c3ec Content-Format=110 Block2=31/-/64 "aaaaaaaaaaaaaaaa"
            > a con 0005 t=05 get /x block2=32/-/64
            < a ack 0005 4.00 t=05 "no such block"
            > a con 0006 t=06 get /y block2=0/-/128
            ? 2 a get /y Block2=0/-/128
            ! respond 2 2.05 payload=b*300
            < a ack 0006 2.05 t=06 ETag=7b80559e171c1ba2 Block2=0/m/128 Size2=300 "bbbb".. 128 bytes
            > a con 0007 t=07 get /y block2=1/-/64
            < a ack 0007 2.05 t=07 ETag=7b80559e171c1ba2 Block2=1/m/64 "bbbb".. 64 bytes
            > a con 0008 t=08 get /z block2=1/m/64
            ? 3 a get /z Block2=1/m/64
            ! respond 3 2.05 payload=c*100
            < a ack 0008 2.05 t=08 ETag=cd5c352f8ed162c9 Block2=1/-/64 "cccccccccccccccccccccccccccccccccccc"
            > a con 0009 t=09 get /z block2=0/-/64
            ? 4 a get /z Block2=0/-/64
            ! respond 4 2.05 payload=c*10
            < a ack 0009 2.05 t=09 ETag=040b840dc34729b9 Block2=0/-/64 Size2=10 "cccccccccc"
            ! held
              Held { peers: 1, requests: 0, exchanges: 6, observations: 0, bodies_bytes: 0, snapshots_bytes: 2300 }
            + 248s
            ! held
              Held { peers: 0, requests: 0, exchanges: 0, observations: 0, bodies_bytes: 0, snapshots_bytes: 0 }
        "#]],
    );
}

//= RFC7252 5.10.6.2
#[test]
fn who_has_it_is_not_told_again() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x etag=mine
         ! respond 1 2.05 etag=mine format=50 payload=a*2000
         > a con 0002 t=02 get /x etag=other
         ! respond 2 2.05 etag=mine payload=a
         > a con 0003 t=03 get /x etag=mine observe=0
         ! observe 3 2.05 etag=mine payload=a",
        &expect![[r#"
            > a con 0001 t=01 get /x etag=mine
            ? 1 a get /x ETag=6d696e65
            ! respond 1 2.05 etag=mine format=50 payload=a*2000
            < a ack 0001 2.03 t=01 ETag=6d696e65
            > a con 0002 t=02 get /x etag=other
            ? 2 a get /x ETag=6f74686572
            ! respond 2 2.05 etag=mine payload=a
            < a ack 0002 2.05 t=02 ETag=6d696e65 "a"
            > a con 0003 t=03 get /x etag=mine observe=0
            ? 3 a get /x ETag=6d696e65 Observe=0
            ! observe 3 2.05 etag=mine payload=a
            < a ack 0003 2.03 t=03 ETag=6d696e65 Observe=9437184
        "#]],
    );
}

//= RFC7959 2.6, 3.4
#[test]
fn a_large_notification_says_its_first_block_and_the_others_are_fetched() {
    check_within(
        proven(),
        "> a con 0001 t=01 get /x observe=0 block2=0/-/32
         ! observe 1 2.05 payload=a*40
         > a con 0002 t=02 get /x block2=1/-/32
         ! notify 1 2.05 payload=b*50
         > a con 0003 t=03 get /x block2=1/-/32",
        &expect![[r#"
            > a con 0001 t=01 get /x observe=0 block2=0/-/32
            ? 1 a get /x Observe=0 Block2=0/-/32
            ! observe 1 2.05 payload=a*40
            < a ack 0001 2.05 t=01 ETag=1beea9bcc1f29dc4 Observe=9437184 Block2=0/m/32 Size2=40 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            > a con 0002 t=02 get /x block2=1/-/32
            < a ack 0002 2.05 t=02 ETag=1beea9bcc1f29dc4 Block2=1/-/32 "aaaaaaaa"
            ! notify 1 2.05 payload=b*50
            < a non 99ec 2.05 t=01 ETag=9e1b94398cda74a6 Observe=9437185 Block2=0/m/32 Size2=50 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
            > a con 0003 t=03 get /x block2=1/-/32
            < a ack 0003 2.05 t=03 ETag=9e1b94398cda74a6 Block2=1/-/32 "bbbbbbbbbbbbbbbbbb"
        "#]],
    );
}

//= RFC7252 11.3
//= RFC9175 2.2.1, 2.3, 2.4
#[test]
fn who_has_not_shown_where_it_is_gets_no_more_than_it_pays_for() {
    check(
        "> a con 0001 t=01 get /path/that/pays/for/some/of/it
         ! respond 1 2.05 payload=a*500
         > a con 0002 t=02 get /path/that/pays/for/some/of/it block2=1/-/32
         > b con 0001 t=01 get /x
         ! respond 2 2.05 payload=b*500
         > b con 0002 t=02 get /x echo
         ! respond 3 2.05 payload=b*500
         > c con 0001 t=01 get /x echo
         ! respond 4 2.05 payload=c*500
         > b con 0003 t=03 get /x
         ! respond 5 2.05 payload=b*500
         > d con 0001 post /x
         ! respond 6 2.04 payload=d*500
         ! counts",
        &expect![[r#"
            > a con 0001 t=01 get /path/that/pays/for/some/of/it
            ? 1 a get /path/that/pays/for/some/of/it
            ! respond 1 2.05 payload=a*500
            < a ack 0001 2.05 t=01 ETag=3081481a92605c45 Block2=0/m/64 Size2=500 "aaaa".. 64 bytes
            > a con 0002 t=02 get /path/that/pays/for/some/of/it block2=1/-/32
            < a ack 0002 2.05 t=02 ETag=3081481a92605c45 Block2=1/m/32 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            > b con 0001 t=01 get /x
            ? 2 b get /x
            ! respond 2 2.05 payload=b*500
            < b ack 0001 4.01 t=01 Echo=2665bee13c2b75c9
            > b con 0002 t=02 get /x echo
            ? 3 b get /x
            ! respond 3 2.05 payload=b*500
            < b ack 0002 2.05 t=02 "bbbb".. 500 bytes
            > c con 0001 t=01 get /x echo
            ? 4 c get /x
            ! respond 4 2.05 payload=c*500
            < c ack 0001 2.05 t=01 ETag=5008a9417ff39c13 Block2=0/m/16 Size2=500 "cccccccccccccccc"
            > b con 0003 t=03 get /x
            ? 5 b get /x
            ! respond 5 2.05 payload=b*500
            < b ack 0003 2.05 t=03 "bbbb".. 500 bytes
            > d con 0001 post /x
            ? 6 d post /x
            ! respond 6 2.04 payload=d*500
            < d ack 0001 2.04
            ! counts
              Counts { malformed: 0, copies: 0, overload: 0, limited: 0, retransmits: 0, unanswered: 0, overtaken: 0, unproven: 1, evicted: 0 }
        "#]],
    );
}

//= RFC9175 2.3
#[test]
fn an_echo_is_good_for_a_while() {
    check(
        "> b con 0001 get /x
         ! respond 1 2.05 payload=b*500
         + 100s
         > b con 0002 get /x echo
         ! respond 2 2.05 payload=b*50
         > c con 0001 get /x
         ! respond 3 2.05 payload=b*500
         + 300s
         > c con 0002 get /x echo
         ! respond 4 2.05 payload=b*500",
        &expect![[r#"
            > b con 0001 get /x
            ? 1 b get /x
            ! respond 1 2.05 payload=b*500
            < b ack 0001 4.01 Echo=2665bee13c2b75c9
            + 100s
            > b con 0002 get /x echo
            ? 2 b get /x
            ! respond 2 2.05 payload=b*50
            < b ack 0002 2.05 "bbbb".. 50 bytes
            > c con 0001 get /x
            ? 3 c get /x
            ! respond 3 2.05 payload=b*500
            < c ack 0001 4.01 Echo=8b46da543d39245e
            + 300s
            > c con 0002 get /x echo
            ? 4 c get /x
            ! respond 4 2.05 payload=b*500
            < c ack 0002 2.05 ETag=2d1de16e0461f1df Block2=0/m/16 Size2=500 "bbbbbbbbbbbbbbbb"
        "#]],
    );
}
