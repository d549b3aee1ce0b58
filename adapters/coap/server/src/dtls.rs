//! DTLS 1.2 in front of an endpoint (RFC 6347, RFC 7252 section 9): sans-IO, with the cryptography of `dimpl`.
//!
//! Each address has at most one session and one handshake. A handshake takes the place of the session only when it has
//! ended: who sends from a foreign address, or plays back what was heard, ends nobody's session. Sessions are numbered, and
//! a [`Peer`] carries the number, so that nothing of one session is taken for another's.
//!
//! Must not know what is carried.

mod half_open;
mod handshake;
mod identity;
mod metrics;
mod prefix;
mod record;
mod trial;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dimpl::Dtls;
use tidegate_bridge::Bridge;
use tidegate_model::{CertificateNames, Principal, SharedKey, Timestamp};

pub use identity::{Identity, IdentityError};
pub(crate) use metrics::SessionMetrics;

use crate::line::Peer;
use half_open::{HalfOpen, RECORD_BYTES};
use handshake::{Around, HANDSHAKE_FAILURE, Handshake, SharedKeys, Step};
use prefix::PrefixRate;
use record::{ALERT, CLIENT_HELLO, HANDSHAKE, Hello, Record, records};

/// Bytes of a datagram of a handshake, and its records; longer ones are passed over.
const HANDSHAKE_DATAGRAM_BYTES_MAX: usize = 4_096;
const HANDSHAKE_RECORDS_MAX: usize = 6;
/// Bytes of a datagram of a session, likewise: more comes in blocks, and the room for it stays the session's.
const SESSION_DATAGRAM_BYTES_MAX: usize = 2_048;
/// Bytes of an encrypted fragment at least: the nonce's explicit part and a tag of 8 bytes.
//= RFC6655 3
const SEALED_BYTES_MIN: usize = 16;
/// Records that are sent in one session, which then ends: each is encrypted under a nonce drawn from 2^64, none of which
/// must come twice.
const SENT_MAX: u32 = 1 << 22;
/// Bytes of room for what `dimpl` hands out: it counts on room for whatever certificate a client can show.
const ROOM_BYTES: usize = identity::WAITING_MAX * HANDSHAKE_DATAGRAM_BYTES_MAX;
/// How exactly it is known when a session was used last.
const USED_STEP: Duration = Duration::from_secs(60);
/// How long a session whose right was withdrawn is there for the last words.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);
/// How often, at most, every session is asked whether it still has its right.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// How long a handshake whose client is known to be there does not give way to a new one of the same address: anybody could
/// send the beginning of one.
const HELD_FOR: Duration = Duration::from_secs(3);
/// Handshakes that may begin for each that may go on.
const BEGUN_FOR_EACH: NonZeroU32 = NonZeroU32::new(10).expect("it is not 0");
/// Sessions that are ended, and handshakes that are looked at, before something else has its turn.
const DUE_MAX: usize = 1_024;

/// Bounds on the sessions of one socket.
#[derive(Clone, Copy, Debug)]
pub struct DtlsLimits {
    /// Sessions; beyond that the one that was used least lately ends.
    pub sessions_max: usize,
    /// Handshakes that have not ended; beyond that the oldest one is given up: of those whose client has not shown that it is
    /// where it says it is while they are more than half, else of the others. All of them together take less than 8 kB
    /// each.
    pub half_open_max: usize,
    /// Handshakes that go on in a second in one part of the network, a /24 of IPv4 or a /56 of IPv6: those whose clients have
    /// shown that they are there. Ten times as many may begin, whoever claims to.
    pub handshakes_per_second_max: NonZeroU32,
    /// How long a session may be silent.
    pub idle_max: Duration,
    /// Records of one session that could not be opened; beyond that it ends, since each is a guess.
    pub unopened_max: u32,
}

impl Default for DtlsLimits {
    fn default() -> Self {
        Self {
            sessions_max: 50_000,
            half_open_max: 20_000,
            handshakes_per_second_max: NonZeroU32::new(1_000).expect("it is not 0"),
            // A day is the longest that a session with an observation is silent.
            idle_max: Duration::from_hours(25),
            // A tag of 8 bytes is guessed in one of 2^44 sessions then: so many records may be tried in each.
            unopened_max: 1 << 20,
        }
    }
}

/// Who knows who is who.
pub(crate) trait Authority: Send + Sync {
    fn now(&self) -> Timestamp;
    fn shared_keys(&self, claimed: &str) -> Vec<(SharedKey, Principal)>;
    fn identify(&self, certificate: &CertificateNames) -> Option<Principal>;
    fn stands(&self, principal: &Principal) -> bool;
}

impl Authority for Bridge {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn shared_keys(&self, claimed: &str) -> Vec<(SharedKey, Principal)> {
        Self::shared_keys(self, claimed)
    }

    fn identify(&self, certificate: &CertificateNames) -> Option<Principal> {
        Self::identify(self, certificate).ok()
    }

    fn stands(&self, principal: &Principal) -> bool {
        self.refresh(principal).is_ok()
    }
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send this to the address.
    Send { address: Peer, datagram: Bytes },
    /// This came in a session.
    Received { peer: Peer, datagram: Bytes },
    /// A session is over.
    Ended(Peer),
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// Handshakes that were given up for others.
    pub(crate) evicted: u64,
    /// Handshakes that were not begun, since there were too many.
    pub(crate) refused: u64,
    /// Datagrams that nobody could make anything of.
    pub(crate) dropped: u64,
    /// Sessions that were ended here: idle, evicted, or without a right.
    pub(crate) ended: u64,
}

struct Session {
    dtls: Dtls,
    principal: Option<Principal>,
    /// What the client's certificate says, which may be somebody's later.
    certificate: Option<Box<CertificateNames>>,
    number: u64,
    /// The client's, in the handshake.
    random: [u8; 32],
    /// Whether the client has sent something in it: then it has seen the end of the handshake.
    is_confirmed: bool,
    unopened: u32,
    sent: u32,
    used: Instant,
    is_ending: bool,
}

impl Session {
    /// It is in use.
    fn touch(&mut self, address: Peer, sessions: &mut BTreeMap<(Instant, u64), Peer>, now: Instant) {
        if now.saturating_duration_since(self.used) >= USED_STEP {
            sessions.remove(&(self.used, self.number));
            self.used = now;
            sessions.insert((now, self.number), address);
        }
    }
}

/// What there is with one address.
#[derive(Default)]
struct Slot {
    session: Option<Box<Session>>,
    handshake: Option<Box<Handshake>>,
}

/// All sessions of one socket.
pub(crate) struct Sessions {
    limits: DtlsLimits,
    authority: Arc<dyn Authority>,
    identity: Arc<ArcSwapOption<Identity>>,
    keys: SharedKeys,
    slots: HashMap<Peer, Slot>,
    /// Of handshakes that begin, and of those that go on.
    begins: PrefixRate,
    goes_on: PrefixRate,
    /// Of sessions and handshakes alike.
    numbered: u64,
    half_open: HalfOpen,
    /// When a handshake is to be looked at.
    timers: BTreeSet<(Instant, Peer)>,
    /// By when they were used last.
    sessions: BTreeMap<(Instant, u64), Peer>,
    /// Sessions that are over then.
    ending: BTreeSet<(Instant, Peer)>,
    /// When the sessions were asked last, and when they are to be.
    swept_at: Option<Instant>,
    sweep_at: Option<Instant>,
    counts: Counts,
    outputs: VecDeque<Output>,
    room: Vec<u8>,
}

impl Sessions {
    pub(crate) fn new(
        limits: DtlsLimits,
        authority: Arc<dyn Authority>,
        identity: Arc<ArcSwapOption<Identity>>,
        begun: Instant,
    ) -> Self {
        let per_second = limits.handshakes_per_second_max;
        Self {
            limits,
            authority,
            identity,
            keys: SharedKeys::new(),
            slots: HashMap::new(),
            begins: PrefixRate::new(per_second.saturating_mul(BEGUN_FOR_EACH), begun),
            goes_on: PrefixRate::new(per_second, begun),
            numbered: 0,
            half_open: HalfOpen::new(limits.half_open_max),
            timers: BTreeSet::new(),
            sessions: BTreeMap::new(),
            ending: BTreeSet::new(),
            swept_at: None,
            sweep_at: None,
            counts: Counts::default(),
            outputs: VecDeque::new(),
            room: vec![0; ROOM_BYTES],
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Sessions, and handshakes that have not ended.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.sessions.len(), self.half_open.len())
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Who a session is with, by what was shown in its handshake. A certificate may be somebody's by now whose it was not yet.
    pub(crate) fn principal(&mut self, peer: &Peer, now: Instant) -> Option<Principal> {
        let session = session_of(&mut self.slots, &peer.address_alone())?;
        if session.number != peer.session {
            return None;
        }
        if let (None, Some(certificate)) = (&session.principal, &session.certificate) {
            let principal = self.authority.identify(certificate)?;
            session.principal = Some(principal.clone());
            self.sweep_by(principal.not_after(), now);
            return Some(principal);
        }
        session.principal.clone()
    }

    /// Takes a datagram from the address.
    //= RFC6347 4.1.2.7
    pub(crate) fn handle_datagram(&mut self, address: Peer, datagram: &[u8], now: Instant) {
        let Some(first) = records(datagram).next() else {
            self.counts.dropped += 1;
            return;
        };
        let hello = Hello::of(&first);
        if let Some(hello) = &hello
            && self.is_new(&address, hello, now)
            && !self.begin(address, hello, now)
        {
            return;
        }
        let Some(slot) = self.slots.get_mut(&address) else {
            self.counts.dropped += 1;
            return;
        };
        let is_of_handshake = hello.is_some() || first.epoch == 0 || first.content_type == HANDSHAKE;
        let session = slot.session.as_ref();
        let is_own = slot.handshake.as_mut().is_some_and(|handshake| {
            let is_own = hello.is_none_or(|hello| hello.random == handshake.random);
            handshake.is_contested |= !is_own;
            is_own
        });
        if is_own && (is_of_handshake || session.is_none()) {
            let is_proven = slot.handshake.as_ref().is_some_and(|handshake| handshake.is_proven);
            // Whoever comes with its cookie for the first time takes its turn.
            let goes_on = is_proven || hello.is_none_or(|hello| hello.is_first) || {
                let goes_on = self.goes_on.admits(address.address.ip(), now);
                self.counts.refused += u64::from(!goes_on);
                goes_on
            };
            if goes_on && is_bearable(datagram, is_proven) {
                return self.advance(address, Some(datagram), now);
            }
        } else if session.is_some_and(|session| is_for(session, &first, hello.is_some()))
            && datagram.len() <= SESSION_DATAGRAM_BYTES_MAX
        {
            return self.open(address, datagram, now);
        }
        self.counts.dropped += 1;
    }

    /// Whether the hello begins a handshake that is not known.
    fn is_new(&self, address: &Peer, hello: &Hello, now: Instant) -> bool {
        let slot = self.slots.get(address);
        let known = slot.is_some_and(|slot| match (&slot.handshake, &slot.session) {
            (Some(handshake), _) => {
                let is_held = handshake.is_proven && now < handshake.begun + HELD_FOR;
                handshake.random == hello.random || is_held
            }
            (None, Some(session)) => session.random == hello.random,
            (None, None) => false,
        });
        hello.is_first && !known
    }

    /// Makes room for a handshake and begins it; whether there is one.
    fn begin(&mut self, address: Peer, hello: &Hello, now: Instant) -> bool {
        if !self.begins.admits(address.address.ip(), now) {
            self.counts.refused += 1;
            return false;
        }
        let number = self.numbered + 1;
        let Some(handshake) = Handshake::begin(hello, number, &self.keys, self.identity.load_full(), now) else {
            // Shorter than what came.
            let datagram = Bytes::copy_from_slice(&record::alert(HANDSHAKE_FAILURE));
            self.outputs.push_back(Output::Send { address, datagram });
            self.counts.failed += 1;
            return false;
        };
        self.numbered = number;
        self.counts.begun += 1;
        // The same client has begun anew.
        self.give_up(address);
        while let Some(oldest) = self.half_open.gives_way() {
            self.give_up(oldest);
            self.counts.evicted += 1;
        }
        self.half_open.insert(&handshake, address);
        self.timers.insert((now + identity::HANDSHAKE_MAX, address));
        self.slots.entry(address).or_default().handshake = Some(Box::new(handshake));
        true
    }

    /// Forgets the handshake with an address.
    fn give_up(&mut self, address: Peer) -> Option<Box<Handshake>> {
        let Entry::Occupied(mut slot) = self.slots.entry(address) else { return None };
        let handshake = slot.get_mut().handshake.take()?;
        if slot.get().session.is_none() {
            slot.remove();
        }
        self.half_open.remove(&handshake);
        self.timers.remove(&(handshake.again_at, address));
        Some(handshake)
    }

    /// Goes on with the handshake with an address: with what it sent, or since it is time.
    fn advance(&mut self, address: Peer, datagram: Option<&[u8]>, now: Instant) {
        let Self { slots, outputs, keys, authority, room, half_open, .. } = self;
        let Some(handshake) = slots.get_mut(&address).and_then(|slot| slot.handshake.as_mut()) else { return };
        let was_due = handshake.again_at;
        let mut send = |datagram| outputs.push_back(Output::Send { address, datagram });
        let mut around = Around { keys, authority: &**authority, now, room, send: &mut send };
        let step = match datagram {
            Some(datagram) => handshake.receive(datagram, &mut around),
            None => handshake.handle_timeout(&mut around),
        };
        half_open.hold(handshake, datagram.map_or(0, waiting_bytes));
        if handshake.is_answered && !handshake.is_proven {
            half_open.prove(handshake, address);
        }
        match step {
            Step::Goes { again_at } => {
                handshake.again_at = again_at;
                self.timers.remove(&(was_due, address));
                self.timers.insert((again_at, address));
                while let Some(oldest) = self.half_open.is_too_much() {
                    self.give_up(oldest);
                    self.counts.evicted += 1;
                }
            }
            Step::Done => {
                let Some(handshake) = self.give_up(address) else { return };
                self.establish(address, *handshake, now);
            }
            Step::Failed { alert } => {
                let is_there = handshake.is_proven;
                self.counts.failed += 1;
                self.give_up(address);
                if is_there {
                    let datagram = Bytes::copy_from_slice(&record::alert(alert));
                    self.outputs.push_back(Output::Send { address, datagram });
                }
            }
        }
    }

    /// A handshake has ended well: what was before it with this address ends.
    fn establish(&mut self, address: Peer, handshake: Handshake, now: Instant) {
        self.remove(address);
        while self.sessions.len() >= self.limits.sessions_max.max(1) {
            let Some((_, oldest)) = self.sessions.first_key_value() else { break };
            self.close(*oldest, now);
        }
        let (number, random) = (handshake.number, handshake.random);
        let (dtls, proven, certificate) = handshake.into_session();
        let principal = proven.or_else(|| self.authority.identify(certificate.as_ref()?));
        self.counts.done += 1;
        // It may have lost its right since it was asked for it.
        let is_ending = principal.as_ref().is_some_and(|principal| !self.authority.stands(principal));
        if is_ending {
            self.ending.insert((now + LAST_WORDS_MAX, Peer { session: number, ..address }));
        }
        self.sweep_by(principal.as_ref().and_then(Principal::not_after), now);
        let session = Session {
            dtls,
            principal,
            certificate: certificate.map(Box::new),
            number,
            random,
            is_confirmed: false,
            unopened: 0,
            sent: 0,
            used: now,
            is_ending,
        };
        self.sessions.insert((now, number), address);
        self.slots.entry(address).or_default().session = Some(Box::new(session));
        self.pump(address, now);
    }

    /// Opens what came in a session.
    fn open(&mut self, address: Peer, datagram: &[u8], now: Instant) {
        let Some(session) = session_of(&mut self.slots, &address) else { return };
        // The clock first, as it is asked for.
        let taken = session.dtls.handle_timeout(now).and_then(|()| session.dtls.handle_packet(datagram));
        if let Err(error) = taken {
            tracing::debug!(%error, "a session of DTLS ended");
            self.remove(address);
            return;
        }
        if self.pump(address, now) {
            return;
        }
        let Some(session) = session_of(&mut self.slots, &address) else { return };
        session.unopened = session.unopened.saturating_add(guesses(datagram));
        self.counts.dropped += 1;
        if session.unopened > self.limits.unopened_max {
            self.close(address, now);
        }
    }

    /// Hands on what a session has, and sends what it is to send; whether there was something.
    fn pump(&mut self, address: Peer, now: Instant) -> bool {
        let Self { slots, outputs, room, sessions, .. } = self;
        let Some(session) = session_of(slots, &address) else { return false };
        let peer = Peer { session: session.number, ..address };
        let mut had_something = false;
        loop {
            let needed = match session.dtls.poll_output(room) {
                dimpl::Output::Packet(datagram) => {
                    had_something = true;
                    outputs.push_back(Output::Send { address, datagram: Bytes::copy_from_slice(datagram) });
                    continue;
                }
                dimpl::Output::ApplicationData(datagram) => {
                    had_something = true;
                    session.is_confirmed = true;
                    session.touch(address, sessions, now);
                    outputs.push_back(Output::Received { peer, datagram: Bytes::copy_from_slice(datagram) });
                    continue;
                }
                dimpl::Output::CloseNotify => {
                    self.remove(address);
                    return true;
                }
                dimpl::Output::BufferTooSmall { needed } => needed,
                dimpl::Output::Timeout(_) => return had_something,
                dimpl::Output::Connected | dimpl::Output::PeerCert(_) | dimpl::Output::KeyingMaterial(..) | _ => {
                    continue;
                }
            };
            room.resize(needed, 0);
        }
    }

    /// Sends something in a session that is still there.
    pub(crate) fn send(&mut self, peer: &Peer, datagram: &[u8], now: Instant) {
        let address = peer.address_alone();
        let session = session_of(&mut self.slots, &address);
        let Some(session) = session.filter(|session| session.number == peer.session) else { return };
        if let Err(error) = session.dtls.send_application_data(datagram) {
            tracing::debug!(%error, "a session of DTLS ended");
            self.remove(address);
            return;
        }
        session.touch(address, &mut self.sessions, now);
        session.sent += 1;
        let is_used_up = session.sent >= SENT_MAX;
        self.pump(address, now);
        if is_used_up {
            self.close(address, now);
        }
    }

    /// Forgets the session with an address.
    fn remove(&mut self, address: Peer) {
        let Entry::Occupied(mut slot) = self.slots.entry(address) else { return };
        let Some(session) = slot.get_mut().session.take() else { return };
        if slot.get().handshake.is_none() {
            slot.remove();
        }
        self.sessions.remove(&(session.used, session.number));
        self.outputs.push_back(Output::Ended(Peer { session: session.number, ..address }));
    }

    /// Ends the session with an address, and says so.
    fn close(&mut self, address: Peer, now: Instant) {
        if let Some(session) = session_of(&mut self.slots, &address) {
            // The last word may not be said any more, and that is as good.
            let _ = session.dtls.handle_timeout(now).and_then(|()| session.dtls.close());
            self.counts.ended += 1;
            self.pump(address, now);
            self.remove(address);
        }
    }

    /// Ends every session.
    pub(crate) fn close_all(&mut self, now: Instant) {
        let addresses: Vec<Peer> = self.sessions.values().copied().collect();
        addresses.into_iter().for_each(|address| self.close(address, now));
    }

    /// There are other grants: the sessions of those who have lost their right end soon, when they have had time to be told
    /// why.
    pub(crate) fn handle_grants(&mut self, now: Instant) {
        let next = self.swept_at.map_or(now, |at| now.max(at + SWEEP_EVERY));
        self.sweep_at = Some(self.sweep_at.map_or(next, |at| at.min(next)));
    }

    /// A right ends then by itself.
    fn sweep_by(&mut self, not_after: Option<Timestamp>, now: Instant) {
        // An instant later, when it has ended.
        let left = not_after.map(|end| end.saturating_since(self.authority.now()) + Duration::from_millis(1));
        self.sweep_at = left.map(|left| now + left).into_iter().chain(self.sweep_at).min();
    }

    fn sweep(&mut self, now: Instant) {
        (self.swept_at, self.sweep_at) = (Some(now), None);
        let mut next_end = None;
        for address in self.sessions.values() {
            let session = session_of(&mut self.slots, address);
            let Some(session) = session.filter(|session| !session.is_ending) else { continue };
            let Some(principal) = &session.principal else { continue };
            if self.authority.stands(principal) {
                next_end = next_end.into_iter().chain(principal.not_after()).min();
            } else {
                session.is_ending = true;
                self.ending.insert((now + LAST_WORDS_MAX, Peer { session: session.number, ..*address }));
            }
        }
        self.sweep_by(next_end, now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let ending = self.ending.first().map(|(at, _)| *at);
        let idle = self.sessions.first_key_value().map(|((used, _), _)| *used + self.limits.idle_max);
        timer.into_iter().chain(ending).chain(idle).chain(self.sweep_at).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
        for _ in 0..DUE_MAX {
            let Some((at, peer)) = self.ending.first().copied().filter(|(at, _)| *at <= now) else { break };
            self.ending.remove(&(at, peer));
            let address = peer.address_alone();
            let session = self.slots.get(&address).and_then(|slot| slot.session.as_ref());
            if session.is_some_and(|session| session.number == peer.session) {
                self.close(address, now);
            }
        }
        for _ in 0..DUE_MAX {
            let Some((_, address)) = self.timers.first().filter(|(at, _)| *at <= now) else { break };
            self.advance(*address, None, now);
        }
        for _ in 0..DUE_MAX {
            let idle = self.sessions.first_key_value().filter(|((used, _), _)| *used + self.limits.idle_max <= now);
            let Some((_, address)) = idle else { break };
            self.close(*address, now);
        }
    }
}

/// The session with an address.
fn session_of<'a>(slots: &'a mut HashMap<Peer, Slot>, address: &Peer) -> Option<&'a mut Box<Session>> {
    slots.get_mut(address)?.session.as_mut()
}

/// Whether a datagram may be given to a handshake. While nobody knows whether its client is there, it may have a hello alone.
fn is_bearable(datagram: &[u8], is_proven: bool) -> bool {
    let is_hello = |record: Record<'_>| {
        let mut fragments = record.fragments().peekable();
        fragments.peek().is_some() && fragments.all(|fragment| fragment.kind == CLIENT_HELLO)
    };
    datagram.len() <= HANDSHAKE_DATAGRAM_BYTES_MAX
        && records(datagram).count() <= HANDSHAKE_RECORDS_MAX
        && (is_proven || records(datagram).all(is_hello))
}

/// Bytes that may have to wait in a handshake when this has come: none of a hello that is whole.
fn waiting_bytes(datagram: &[u8]) -> usize {
    let whole = |record: Record<'_>| record.fragments().all(|f| f.kind == CLIENT_HELLO && f.bytes.len() == f.length);
    let count = records(datagram).count();
    if count == 1 && records(datagram).all(whole) { 0 } else { count * RECORD_BYTES }
}

/// Guesses at a tag: as many as the datagram has encrypted records that are long enough for one.
fn guesses(datagram: &[u8]) -> u32 {
    let is_one = |record: &Record<'_>| record.epoch > 0 && record.fragment.len() >= SEALED_BYTES_MIN;
    u32::try_from(records(datagram).filter(is_one).count()).unwrap_or(u32::MAX)
}

/// Whether a record may be of a session: what is not encrypted may only be a copy of the end of its handshake.
fn is_for(session: &Session, record: &Record<'_>, is_hello: bool) -> bool {
    record.epoch == 1 || (!session.is_confirmed && !is_hello && record.content_type != ALERT)
}

#[cfg(test)]
mod tests;
