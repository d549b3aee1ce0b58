//! The cases of Eclipse Mosquitto's broker tests, byte by byte: against the session alone, with a broker that lets everyone
//! in and knows any topic, and against a real adapter, with a login and topics below a channel.
//!
//! The cases are no part of this repository: they are looked for in the folder `mqtt-wire` of `TIDEGATE_VECTORS`, or
//! beside the checkout, and without them nothing is tested and that is said.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "the figures are for people, and so is what was skipped")]

mod adapter;
mod cases;
mod session;

use std::fmt::Write as _;

use cases::{Case, Server, Verdict, load, play};

/// Plays all cases; how many came out exactly, leniently and not at all, and what was said in those.
fn play_all<'a>(cases: &[Case], mut server: impl FnMut(&Case) -> Box<dyn Server + 'a>) -> ([usize; 3], String) {
    let (mut counts, mut failures) = ([0; 3], String::new());
    for case in cases {
        let (verdict, log) = play(case, &mut *server(case));
        counts[verdict as usize] += 1;
        if verdict == Verdict::Fail {
            writeln!(failures, "{}\n{log}", case.name).unwrap();
        }
    }
    eprintln!("{} exact, {} lenient, {} failed", counts[0], counts[1], counts[2]);
    (counts, failures)
}

#[test]
fn the_session_alone_does_every_case() {
    let cases = load();
    let retained = session::Shelf::default();
    let (counts, failures) = play_all(&cases, |case| Box::new(session::Broker::new(case, &retained)));
    assert_eq!(counts[2], 0, "{failures}");
    assert!(cases.is_empty() || cases.len() == 1_826, "{}", cases.len());
}

/// What cannot be: seven content types that are none (`text`), which no channel admits; and a message for a client that
/// takes 20 bytes, with a topic that is longer here.
const NOT_WITH_A_CHANNEL: usize = 8;

#[test]
fn a_real_adapter_does_every_case_that_can_be_with_a_channel() {
    let cases = load();
    if cases.is_empty() {
        return;
    }
    let adapter = adapter::start();
    let (counts, failures) = play_all(&cases, |case| Box::new(adapter::Connection::new(case, &adapter)));
    assert!(counts[2] <= NOT_WITH_A_CHANNEL, "{failures}");
}
