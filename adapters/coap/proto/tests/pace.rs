//! How fast observers are told, and what is sent to one that is not there: simulations of a stream of messages.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate_coap_proto::*;

#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
fn any_instant() -> Instant {
    Instant::now()
}

fn register() -> Bytes {
    let options = Options::NONE.with_uint(OptionNumber::OBSERVE, 0).with(OptionNumber::URI_PATH, b"a-long-enough-path");
    let request = Request { method: Code::GET, options, payload: Bytes::new() };
    let token = Token::new(b"t").unwrap();
    let mut out = BytesMut::new();
    encode(&Message::Request { id: MessageId(1), is_confirmable: true, token, request }, &mut out);
    out.freeze()
}

/// An observer behind a network.
#[derive(Clone, Copy)]
struct Network {
    /// There and back.
    round_trip: Duration,
    /// Every how many datagrams one is lost, each way; never, where that is 0.
    loses_each: u64,
    /// How long the observer is there.
    until: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// Messages that arrived.
    told: BTreeSet<u32>,
    /// The newest of them by the number that it was told with, as a client keeps it.
    newest: Option<u32>,
    /// Datagrams that were sent after the observer was gone.
    to_nobody: u64,
    confirmable: u64,
    ended: Option<Duration>,
}

struct Run {
    network: Network,
    begun: Instant,
    server: Endpoint<u8>,
    datagrams: u64,
    /// Acknowledgements on their way.
    back: BTreeMap<(Instant, u64), MessageId>,
    /// With which number the newest was told, and when.
    newest: (u32, Instant),
    /// The id of what was sent last, which may be sent again.
    last: Option<MessageId>,
    /// When an id was used last.
    ids: BTreeMap<MessageId, Instant>,
    outcome: Outcome,
}

/// RFC 7641 3.4, as a client applies it.
fn is_newer((v2, t2): (u32, Instant), (v1, t1): (u32, Instant)) -> bool {
    (v1 < v2 && v2 - v1 < 1 << 23) || (v1 > v2 && v1 - v2 > 1 << 23) || t2 > t1 + Duration::from_secs(128)
}

impl Run {
    fn is_lost(&mut self) -> bool {
        self.datagrams += 1;
        self.network.loses_each > 0 && self.datagrams.is_multiple_of(self.network.loses_each)
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { datagram, .. } => self.carry(&decode(&datagram).unwrap(), now),
                Output::Ended(_, why) => {
                    assert_eq!(why, Ending::Unanswered);
                    self.outcome.ended = Some(now - self.begun);
                }
                Output::Request { .. } | Output::Begin { .. } | Output::Refresh(_) => unreachable!("{output:?}"),
            }
        }
    }

    /// A datagram goes to the observer, which acknowledges it where that is wanted.
    fn carry(&mut self, message: &Message, now: Instant) {
        let Message::Response { id, carried, response, .. } = message else { unreachable!("{message:?}") };
        if *carried == Carried::Confirmable {
            self.outcome.confirmable += 1;
        }
        //= RFC7252 4.4
        if *carried != Carried::Piggybacked && self.last.replace(*id) != Some(*id) {
            let before = self.ids.insert(*id, now);
            assert!(before.is_none_or(|before| now - before >= Limits::default().exchange_lifetime), "{id:?} again");
        }
        if now - self.begun >= self.network.until {
            self.outcome.to_nobody += 1;
        } else if !self.is_lost() {
            let number = u32::from_be_bytes(response.payload[..].try_into().unwrap());
            self.outcome.told.insert(number);
            let order = response.options.uint(OptionNumber::OBSERVE).unwrap();
            if self.outcome.newest.is_none() || is_newer((order, now), self.newest) {
                self.newest = (order, now);
                self.outcome.newest = Some(number);
            }
            if *carried == Carried::Confirmable && !self.is_lost() {
                self.back.insert((now + self.network.round_trip, self.datagrams), *id);
            }
        }
    }
}

/// Tells an observer a message every so often, as long as it lasts and the network lets it.
fn told(limits: Limits, network: Network, every: Duration, messages: u32) -> Outcome {
    let begun = any_instant();
    let server = Endpoint::new(limits, *b"a seed of tests!", Duration::from_secs(1_000_000), begun);
    let outcome = Outcome::default();
    let (back, newest, ids) = (BTreeMap::new(), (0, begun), BTreeMap::new());
    let mut run = Run { network, begun, server, datagrams: 0, back, newest, last: None, ids, outcome };
    run.server.handle_datagram(1, &register(), begun);
    let Some(Output::Request { ticket, .. }) = run.server.poll_output() else { unreachable!("it is asked") };
    let zero = Response { payload: Bytes::from_static(&[0; 4]), ..Response::of(Code::CONTENT) };
    let observer = run.server.observe(ticket, zero, begun).unwrap();
    run.server.poll_output();
    let mut next = 1;
    let mut now = begun;
    let end = begun + every * messages + Duration::from_secs(200);
    loop {
        let message_at = (next <= messages).then(|| begun + every * next);
        let back_at = run.back.first_key_value().map(|((at, _), _)| *at);
        let timeout = run.server.poll_timeout().filter(|at| *at <= end);
        let Some(at) = [message_at, back_at, timeout].into_iter().flatten().min() else { return run.outcome };
        now = now.max(at);
        if timeout.is_some_and(|at| at <= now) {
            run.server.handle_timeout(now);
        } else if back_at.is_some_and(|at| at <= now) {
            let Some((_, MessageId(id))) = run.back.pop_first() else { unreachable!("it was there") };
            let [high, low] = id.to_be_bytes();
            run.server.handle_datagram(1, &Bytes::copy_from_slice(&[0x60, 0, high, low]), now);
        } else {
            let payload = Bytes::copy_from_slice(&next.to_be_bytes());
            run.server.notify(&observer, Response { payload, ..Response::of(Code::CONTENT) }, now);
            next += 1;
        }
        run.drain(now);
    }
}

const ALWAYS: Duration = Duration::MAX;

fn near(millis: u64) -> Network {
    Network { round_trip: Duration::from_millis(millis), loses_each: 0, until: ALWAYS }
}

/// The first has to be acknowledged, which shows where the observer is; from then on nothing waits.
//= RFC7641 4.5.1
#[test]
fn who_is_there_misses_nothing_and_is_asked_now_and_then() {
    let unacknowledged_max = u64::try_from(Limits::default().notifications_unacknowledged_max).unwrap();
    for (round_trip, every, messages) in [(1, 10, 10_000), (200, 100, 10_000), (1_900, 25, 1_000)] {
        let outcome = told(Limits::default(), near(round_trip), Duration::from_millis(every), messages);
        // Those that come before the first is acknowledged.
        let waited = u32::try_from(round_trip.div_ceil(every)).unwrap();
        assert!(
            outcome.told.len() >= usize::try_from(messages - waited).unwrap(),
            "{round_trip} {every} {}",
            outcome.told.len()
        );
        assert_eq!((outcome.ended, outcome.newest), (None, Some(messages)));
        let probes = u64::from(messages) / (unacknowledged_max + round_trip / every);
        assert!(outcome.confirmable.abs_diff(1 + probes) <= 1 + probes / 10, "{outcome:?}");
    }
}

/// Faster than it can be found out that it arrives: then only the newest is of interest.
//= RFC7641 4.5.1, 4.5.2
#[test]
fn who_is_told_faster_than_it_acknowledges_has_the_newest_in_the_end() {
    let outcome = told(Limits::default(), near(1_000), Duration::from_millis(1), 20_000);
    assert_eq!((outcome.ended, outcome.newest), (None, Some(20_000)));
    assert!(outcome.told.len() < 5_000, "{}", outcome.told.len());
}

/// More than there are ids that the observer would not take for copies.
//= RFC7252 4.4
#[test]
fn who_is_told_more_than_there_are_ids_for_has_the_newest_in_the_end() {
    let outcome = told(Limits::default(), near(20), Duration::from_millis(1), 400_000);
    assert_eq!((outcome.ended, outcome.newest), (None, Some(400_000)));
    // Two turns of them and the first, but for a part.
    assert!((2 * 60_000..=2 * 65_536 + 1).contains(&outcome.told.len()), "{}", outcome.told.len());
}

/// However much there is to be told, so much is sent to nobody.
//= RFC7641 4.5, 4.5.1
#[test]
fn what_is_sent_to_one_that_is_gone_is_bounded() {
    let limits = Limits::default();
    let window = u128::try_from(limits.notifications_unacknowledged_max).unwrap();
    for every in
        [Duration::from_micros(100), Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)]
    {
        let until = every * 50;
        let network = Network { until, ..near(1) };
        let messages = u32::try_from(Duration::from_secs(600).as_micros() / every.as_micros()).unwrap().min(1_000_000);
        let outcome = told(limits, network, every, messages);
        // Behind the one that is to be acknowledged, those that come until it would be sent again.
        let patience = limits.ack_timeout + limits.ack_jitter_max;
        let following = window.min(patience.as_micros() / every.as_micros());
        let bound = window + following + u128::from(limits.retransmits_max) + 1;
        assert!(u128::from(outcome.to_nobody) <= bound, "{every:?}: {} of {bound}", outcome.to_nobody);
        let ended = outcome.ended.expect("it is found out") - until;
        // As long as RFC 7252 4.8.2 says, once one is to be acknowledged.
        let asked_after = every * u32::try_from(limits.notifications_unacknowledged_max).unwrap();
        assert!(ended <= asked_after + Duration::from_secs(93), "{every:?}: {ended:?}");
    }
}

/// One of ten is lost each way, and nobody takes the observer for one that is gone.
#[test]
fn who_loses_some_is_told_the_others_for_hours() {
    let network = Network { loses_each: 10, ..near(50) };
    let outcome = told(Limits::default(), network, Duration::from_millis(500), 20_000);
    assert_eq!(outcome.ended, None);
    assert!(outcome.told.len() > 17_000, "{}", outcome.told.len());
}

/// A bound of nothing has each acknowledged.
#[test]
fn where_none_may_be_unacknowledged_each_is_to_be() {
    let limits = Limits { notifications_unacknowledged_max: 0, ..Limits::default() };
    let outcome = told(limits, near(10), Duration::from_millis(100), 100);
    assert_eq!((outcome.told.len(), outcome.confirmable, outcome.ended), (100, 100, None));
}
