//! Who is forgotten where there is no room for all.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate_coap_proto::*;

#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
fn any_instant() -> Instant {
    Instant::now()
}

fn datagram(request: Request) -> Bytes {
    let token = Token::new(b"t").unwrap();
    let mut out = BytesMut::new();
    encode(&Message::Request { id: MessageId(1), is_confirmable: true, token, request }, &mut out);
    out.freeze()
}

fn post() -> Bytes {
    let options = Options::NONE.with(OptionNumber::URI_PATH, b"a-path-that-is-long-enough");
    datagram(Request { method: Code::POST, options, payload: Bytes::from_static(b"x") })
}

/// Plays time up to then.
fn pass(server: &mut Endpoint<u32>, until: Instant) {
    while let Some(at) = server.poll_timeout().filter(|at| *at <= until) {
        server.handle_timeout(at);
        while server.poll_output().is_some() {}
    }
}

/// Of more devices than it can know, an endpoint knows those again that came last: copies are theirs.
//= RFC7252 4.5
#[test]
fn where_there_is_no_room_those_are_forgotten_whose_copies_came_long_ago() {
    const PEERS_MAX: u32 = 1_000;
    let every = Duration::from_millis(50);
    // MAX_TRANSMIT_SPAN: nobody sends a copy later.
    let copies_after = u32::try_from(Duration::from_secs(45).as_millis() / every.as_millis()).unwrap();
    assert!(copies_after < PEERS_MAX);
    let now = any_instant();
    let limits = Limits { peers_max: usize::try_from(PEERS_MAX).unwrap(), ..Limits::default() };
    let mut server = Endpoint::new(limits, [7; 16], Duration::from_secs(1_000_000), now);
    let mut tickets = std::collections::VecDeque::new();
    for peer in 0..5 * PEERS_MAX {
        let now = now + every * peer;
        pass(&mut server, now);
        server.handle_datagram(peer, &post(), now);
        let Some(Output::Request { ticket, .. }) = server.poll_output() else { unreachable!("peer {peer} is asked") };
        // Some are on their way at any time.
        tickets.push_back(ticket);
        if tickets.len() > 10 {
            assert!(server.respond(tickets.pop_front().unwrap(), Response::of(Code::CHANGED), now));
            while server.poll_output().is_some() {}
        }
        if let Some(before) = peer.checked_sub(copies_after) {
            server.handle_datagram(before, &post(), now);
            let output = server.poll_output();
            assert!(matches!(output, Some(Output::Send { .. })), "the copy of {before} is asked: {output:?}");
        }
    }
    assert_eq!(server.counts().overload, 0);
    assert!(server.counts().evicted > u64::from(3 * PEERS_MAX));
}

/// A first block, which is let in.
fn begin(server: &mut Endpoint<u32>, peer: u32, now: Instant) -> Option<Code> {
    let options =
        Options::NONE.with(OptionNumber::URI_PATH, b"a-path-that-is-long-enough").with_uint(OptionNumber::BLOCK1, 8);
    let payload = Bytes::from_static(&[b'x'; 16]);
    server.handle_datagram(peer, &datagram(Request { method: Code::POST, options, payload }), now);
    let mut output = server.poll_output()?;
    if let Output::Begin { ticket, .. } = output {
        server.admit(ticket, 1_000, now);
        output = server.poll_output()?;
    }
    let Output::Send { datagram, .. } = output else { unreachable!("{output:?}") };
    match decode(&datagram).unwrap() {
        Message::Response { response, .. } => Some(response.code),
        other @ (Message::Ping(_) | Message::Acknowledgement(_) | Message::Reset(_) | Message::Request { .. }) => {
            unreachable!("{other:?}")
        }
    }
}

/// Who begins bodies at addresses that may be anybody's cannot keep others out with them, but keeps them while there is room.
#[test]
fn who_sends_a_body_and_has_not_shown_where_it_is_makes_room() {
    let now = any_instant();
    let limits = Limits { peers_max: 1_000, ..Limits::default() };
    let mut server = Endpoint::new(limits, [7; 16], Duration::from_secs(1_000_000), now);
    for peer in 0..3_000 {
        assert_eq!(begin(&mut server, peer, now + Duration::from_millis(peer.into())), Some(Code::CONTINUE), "{peer}");
    }
    assert_eq!((server.held().peers, server.held().bodies_bytes), (1_000, 16_000));
    assert_eq!((server.counts().overload, server.counts().evicted), (0, 2_000));
    let now = now + Duration::from_secs(4);
    server.handle_datagram(9_000, &post(), now);
    assert!(matches!(server.poll_output(), Some(Output::Request { .. })));
    // To those below, who are what they say they are, it is as it was.
    let limits = Limits { amplification_max: None, ..limits };
    let mut server = Endpoint::new(limits, [7; 16], Duration::from_secs(1_000_000), now);
    for peer in 0..1_000 {
        assert_eq!(begin(&mut server, peer, now), Some(Code::CONTINUE), "{peer}");
    }
    assert_eq!(begin(&mut server, 1_000, now), Some(Code::SERVICE_UNAVAILABLE));
}

fn observe(server: &mut Endpoint<u32>, peer: u32, now: Instant) {
    let options =
        Options::NONE.with(OptionNumber::URI_PATH, b"a-path-that-is-long-enough").with_uint(OptionNumber::OBSERVE, 0);
    server.handle_datagram(peer, &datagram(Request { method: Code::GET, options, payload: Bytes::new() }), now);
    let Some(Output::Request { ticket, .. }) = server.poll_output() else { unreachable!("peer {peer} is asked") };
    assert!(server.observe(ticket, Response::of(Code::CONTENT), now).is_some());
    while server.poll_output().is_some() {}
}

/// One that is not refused.
fn publish(server: &mut Endpoint<u32>, peer: u32, now: Instant) {
    server.handle_datagram(peer, &post(), now);
    let output = server.poll_output();
    let Some(Output::Request { ticket, .. }) = output else { unreachable!("peer {peer} is asked: {output:?}") };
    assert!(server.respond(ticket, Response::of(Code::CHANGED), now));
    while server.poll_output().is_some() {}
}

/// However many of those that came first observe, so that nothing of them is to be forgotten: who came after them makes room.
#[test]
fn who_observes_keeps_nobody_out_whose_place_another_can_take() {
    const OBSERVERS: u32 = 500;
    let now = any_instant();
    let limits = Limits { peers_max: 1_000, ..Limits::default() };
    let mut server = Endpoint::new(limits, [7; 16], Duration::from_secs(1_000_000), now);
    for peer in 0..OBSERVERS {
        observe(&mut server, peer, now + Duration::from_millis(peer.into()));
    }
    for peer in OBSERVERS..5_000 {
        publish(&mut server, peer, now + Duration::from_millis(peer.into()));
    }
    assert_eq!(server.held().observations, 500);
    assert_eq!((server.counts().overload, server.counts().evicted), (0, 4_000));
}

/// Also where those came while the others were being looked at.
#[test]
fn who_came_a_moment_ago_makes_room_where_nobody_else_can() {
    const OBSERVERS: u32 = 900;
    let now = any_instant();
    let limits = Limits { peers_max: 1_000, ..Limits::default() };
    let mut server = Endpoint::new(limits, [7; 16], Duration::from_secs(1_000_000), now);
    for peer in 0..OBSERVERS {
        observe(&mut server, peer, now);
    }
    // A burst of more than there is room for: all of them came just now.
    for peer in OBSERVERS..5_000 {
        publish(&mut server, peer, now + Duration::from_millis(1));
    }
    assert_eq!((server.held().observations, server.counts().overload), (900, 0));
}
