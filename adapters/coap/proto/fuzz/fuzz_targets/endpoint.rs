//! Whatever peers and others say, in whatever order, an endpoint says what can be read, sends nobody who has shown nothing more
//! than it pays for, and forgets everything in the end.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate_coap_proto::{
    Carried, Code, Endpoint, Held, Limits, Message, MessageId, Observer, OptionNumber, Output, Response, Ticket, decode,
};

const PEERS: usize = 3;
const UNACKNOWLEDGED_MAX: usize = 3;

/// An endpoint with what a driver has around it.
struct Stage {
    server: Endpoint<usize>,
    now: Instant,
    tickets: Vec<Ticket<usize>>,
    observers: Vec<Observer<usize>>,
    /// Bytes from each peer, and to it.
    bytes: [(usize, usize); PEERS],
    /// What was sent to each peer that it may acknowledge.
    awaited: [Vec<MessageId>; PEERS],
    is_shown: [bool; PEERS],
    /// Notifications to each peer that nothing was acknowledged since.
    notified: [usize; PEERS],
}

impl Stage {
    fn poll(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { peer, datagram } => {
                    let message = decode(&datagram).expect("what an endpoint says can be read");
                    self.bytes[peer].1 += datagram.len();
                    let (from, to) = self.bytes[peer];
                    assert!(self.is_shown[peer] || to <= 3 * from, "{to} bytes for {from}");
                    match message {
                        Message::Ping(id) | Message::Response { id, carried: Carried::Confirmable, .. } => {
                            self.awaited[peer].push(id);
                        }
                        Message::Response { carried: Carried::NonConfirmable, response, .. }
                            if response.options.first(OptionNumber::OBSERVE).is_some() =>
                        {
                            self.notified[peer] += 1;
                        }
                        _ => {}
                    }
                }
                Output::Request { ticket, .. } | Output::Begin { ticket, .. } => self.tickets.push(ticket),
                Output::Refresh(observer) => assert!(self.observers.contains(&observer)),
                Output::Ended(observer, _) => {
                    let at = self.observers.iter().position(|known| *known == observer).expect("it was there");
                    self.observers.swap_remove(at);
                }
            }
        }
    }

    fn hear(&mut self, peer: usize, datagram: &[u8]) {
        self.bytes[peer].0 += datagram.len();
        let datagram = Bytes::copy_from_slice(datagram);
        match decode(&datagram) {
            Ok(Message::Acknowledgement(id) | Message::Reset(id) | Message::Response { id, .. })
                if self.awaited[peer].contains(&id) =>
            {
                self.is_shown[peer] = true;
                self.notified[peer] = 0;
            }
            _ => {}
        }
        self.server.handle_datagram(peer, &datagram, self.now);
    }

    fn response(byte: u8, bytes: u8) -> Response {
        let code = [Code::CONTENT, Code::CHANGED, Code::UNAUTHORIZED, Code::SERVICE_UNAVAILABLE][usize::from(byte % 4)];
        Response { payload: Bytes::from(vec![b'r'; usize::from(bytes) * 16]), ..Response::of(code) }
    }

    fn answer(&mut self, how: u8, what: u8) {
        if self.tickets.is_empty() {
            return;
        }
        let ticket = self.tickets.remove(0);
        match how % 4 {
            0 => self.observers.extend(self.server.observe(ticket, Self::response(what, what), self.now)),
            1 => drop(self.server.admit(ticket, 200, self.now)),
            _ => drop(self.server.respond(ticket, Self::response(how / 4, what), self.now)),
        }
    }

    fn wait(&mut self, span: Duration, tells: bool) {
        let end = self.now + span;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.server.handle_timeout(at);
            assert!(self.server.poll_timeout().is_none_or(|next| next > at), "it is due for ever");
            self.poll();
            if tells {
                self.observers.clone().iter().for_each(|observer| {
                    self.server.notify(observer, Response::of(Code::CONTENT), at);
                });
                self.poll();
            }
        }
        self.now = end;
    }
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        peers_max: 2,
        requests_max: 4,
        exchanges_max: 6,
        observations_max: 3,
        bodies_bytes_max: 256,
        snapshots_bytes_max: 5_000,
        notifications_unacknowledged_max: UNACKNOWLEDGED_MAX,
        observations_unproven_max: 2,
        ping_period: Duration::from_secs(3_600),
        ..Limits::default()
    };
    let now = Instant::now();
    let mut stage = Stage {
        server: Endpoint::new(limits, [7; 16], Duration::from_secs(1_700_000_000), now),
        now,
        tickets: Vec::new(),
        observers: Vec::new(),
        bytes: [(0, 0); PEERS],
        awaited: [const { Vec::new() }; PEERS],
        is_shown: [false; PEERS],
        notified: [0; PEERS],
    };
    let mut rest = bytes;
    while let [what, argument, tail @ ..] = rest {
        rest = tail;
        let peer = usize::from(argument % 3);
        match what % 8 {
            0..=2 => {
                let (datagram, tail) = rest.split_at(rest.len().min(usize::from(*what / 8)));
                rest = tail;
                stage.hear(peer, datagram);
            }
            3 => {
                // The answer to a registration looks like a notification.
                let notified = stage.notified;
                stage.answer(what / 8, *argument);
                stage.poll();
                stage.notified = notified;
            }
            4 => {
                if let Some(at) = usize::from(*argument).checked_rem(stage.observers.len()) {
                    let observer = stage.observers[at].clone();
                    stage.server.notify(&observer, Stage::response(what / 8, *argument), stage.now);
                }
            }
            5 => {
                if let Some(id) = stage.awaited[peer].last() {
                    let [high, low] = id.0.to_be_bytes();
                    // An acknowledgement or a reset.
                    stage.hear(peer, &[if what / 8 == 0 { 0x60 } else { 0x70 }, 0, high, low]);
                }
            }
            6 => stage.wait(Duration::from_millis(u64::from(*argument) << (what / 8 % 16)), false),
            _ => stage.server.forget(&peer),
        }
        if what % 8 == 7 {
            stage.observers.retain(|observer| *observer.peer() != peer);
            stage.notified[peer] = 0;
        }
        stage.poll();
        assert!(stage.notified.iter().all(|count| *count <= 2 * UNACKNOWLEDGED_MAX), "{:?}", stage.notified);
        let held = stage.server.held();
        assert!(held.peers <= 2 && held.exchanges <= 6 && held.observations <= 3, "{held:?}");
        assert!(held.bodies_bytes <= 256 && held.snapshots_bytes <= 5_000, "{held:?}");
    }
    stage.wait(Duration::from_secs(10_000), true);
    assert_eq!(stage.server.held(), Held::default());
    assert_eq!(stage.server.poll_timeout(), None);
});
