//! The numbers of notifications: each newer than the one before, as a client sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tidegate_coap_proto::*;

/// Of peers that need show nothing.
fn proven() -> Limits {
    Limits { amplification_max: None, ..Limits::default() }
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
