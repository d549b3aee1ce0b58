//! How many requests are taken from one part of the network.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate_coap_proto::*;

#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
fn any_instant() -> Instant {
    Instant::now()
}

fn post(id: u16, is_confirmable: bool) -> Bytes {
    let options = Options::NONE.with(OptionNumber::URI_PATH, b"x").with(OptionNumber::URI_QUERY, b"auth=0123456789");
    let request = Request { method: Code::POST, options, payload: Bytes::new() };
    let token = Token::new(&id.to_be_bytes()).unwrap();
    let mut out = BytesMut::new();
    encode(&Message::Request { id: MessageId(id), is_confirmable, token, request }, &mut out);
    out.freeze()
}

/// A server that takes four a second from a site, and accepts what it takes.
struct Stage {
    server: Endpoint<IpAddr>,
    begun: Instant,
    age: Duration,
}

impl Stage {
    fn new() -> Self {
        let begun = any_instant();
        let limits = Limits { requests_per_second_max: NonZeroU32::new(4), ..Limits::default() };
        let endpoint = Endpoint::new(limits, [7; 16], Duration::from_secs(1_000_000), begun);
        let server = endpoint.by_prefix(|address| prefix_of(*address));
        Self { server, begun, age: Duration::ZERO }
    }

    /// What is said to a datagram, in a few words.
    fn said(&mut self, peer: &str, datagram: &Bytes) -> String {
        let now = self.begun + self.age;
        self.server.handle_datagram(peer.parse().unwrap(), datagram, now);
        let mut said = String::new();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Request { ticket, .. } => {
                    self.server.respond(ticket, Response::of(Code::CHANGED), now);
                }
                Output::Send { datagram, .. } => match decode(&datagram).unwrap() {
                    Message::Response { response, .. } => {
                        let age = response.options.uint(OptionNumber::MAX_AGE);
                        said = format!("{:?}{}", response.code, age.map_or(String::new(), |age| format!(" {age} s")));
                    }
                    Message::Reset(id) => said = format!("reset {id:?}"),
                    other @ (Message::Ping(_) | Message::Acknowledgement(_) | Message::Request { .. }) => {
                        unreachable!("{other:?}")
                    }
                },
                Output::Begin { .. } | Output::Refresh(_) | Output::Ended(..) => unreachable!("{output:?}"),
            }
        }
        said
    }
}

//= RFC8516 3
#[test]
fn a_site_that_sends_too_much_is_told_when_to_come_again_and_others_are_served() {
    let mut stage = Stage::new();
    for id in 0..4 {
        assert_eq!(stage.said("192.0.2.1", &post(id, true)), "2.04");
    }
    assert_eq!(stage.said("192.0.2.1", &post(4, true)), "4.29 1 s");
    // It is for all of the site, whatever it asks; who awaits nothing is told nothing.
    assert_eq!(stage.said("192.0.2.200", &post(5, true)), "4.29 1 s");
    assert_eq!(stage.said("192.0.2.3", &post(6, false)), "");
    assert_eq!(stage.said("192.0.3.1", &post(7, true)), "2.04");
    assert_eq!(stage.said("2001:db8::1", &post(8, false)), "2.04");
    // What was taken is answered however often it comes, and so is a ping.
    for id in 0..4 {
        assert_eq!(stage.said("192.0.2.1", &post(id, true)), "2.04");
    }
    assert_eq!(stage.said("192.0.2.1", &Bytes::from_static(&[0x40, 0, 0, 9])), "reset 0009");
    assert_eq!(stage.server.counts().limited, 3);
    assert_eq!(stage.server.held().exchanges, 6, "nothing is kept of what is not taken");
    stage.age += Duration::from_secs(1);
    assert_eq!(stage.said("192.0.2.1", &post(4, true)), "2.04");
}

/// What is told goes where the datagrams say that they come from, so that there is a bound on it too.
//= RFC7252 11.3
#[test]
fn refusals_are_no_more_than_what_is_taken() {
    let mut stage = Stage::new();
    let mut told = std::collections::BTreeMap::new();
    for id in 0..1_000 {
        stage.age = Duration::from_millis(u64::from(id) * 10);
        *told.entry(stage.said("192.0.2.1", &post(id, true))).or_insert(0) += 1;
    }
    let counts: Vec<_> = told.values().copied().collect();
    assert_eq!((told.keys().map(String::as_str).collect::<Vec<_>>(), counts[0]), (vec!["", "2.04", "4.29 1 s"], 914));
    assert_eq!(counts[1..], [43, 43]);
}
