//! A server's side of CoAP without I/O: datagrams and the answers of others go in, datagrams and questions come out.
//!
//! The caller polls [`Endpoint::poll_output`] until nothing is left after each call, and calls
//! [`Endpoint::handle_timeout`] at [`Endpoint::poll_timeout`]. A request is a question with a [`Ticket`]; it is answered
//! whenever that is possible, in whatever order. Whether the answer goes in the acknowledgement or in a message of its own,
//! what is sent again and what a copy is told is decided here.
//!
//! Nothing is kept of a peer that only ever was refused.

mod answer;
mod body;
mod confirm;
mod exchange;
mod ids;
mod observe;
mod peer;
mod trust;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::code::Code;
use crate::decode::decode;
use crate::encode::encode;
use crate::error::Rejection;
use crate::limits::Limits;
use crate::message::{Carried, Message, MessageId, Request, Response, Token};
use crate::option::{Block, OptionNumber, Options};
use crate::rate::{Rates, Turn};
use crate::secret::{Keyed, Secret, fingerprint};

use peer::Peer;

/// Peers that are seen to at once when time has passed.
const DUE_MAX: usize = 1_024;
/// Peers that are looked at to find one that can be forgotten.
const EVICTION_TRIES: usize = 64;
/// The same, when another comes while there is room: so that those who stay are passed over by the time that there is none.
const EVICTION_TRIES_AHEAD: usize = 4;

/// What names a peer: for UDP its address with that which it spoke to, for DTLS the association. Ordered, so that what is due
/// at the same time comes in an order that can be told; hashed, so that it is found at once.
pub trait Address: Clone + Ord + Hash {}

impl<A: Clone + Ord + Hash> Address for A {}

/// Names a request until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket<A> {
    peer: A,
    serial: u64,
}

impl<A> Ticket<A> {
    /// Who asks.
    pub const fn peer(&self) -> &A {
        &self.peer
    }
}

/// Names an observation. Two devices that use the same token never meet in it, nor do two observations one after the other.
//= RFC7641 4.1
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observer<A> {
    peer: A,
    token: Token,
    serial: u64,
}

impl<A> Observer<A> {
    /// Who observes.
    pub const fn peer(&self) -> &A {
        &self.peer
    }

    /// What it knows its observation by.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }
}

/// Why an observation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client does not want it any more.
    Deregistered,
    /// The client registered again with the same token; that stands for itself.
    Replaced,
    /// The client answered a notification with a reset.
    Reset,
    /// The client acknowledged none of the copies of a notification.
    Unanswered,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<A> {
    /// Send this; if that fails, it is lost like any datagram.
    Send {
        /// To whom.
        peer: A,
        /// What.
        datagram: Bytes,
    },
    /// Answer this: [`Endpoint::respond`] or, for a GET that registers, [`Endpoint::observe`]. Its payload is whole.
    Request {
        /// Names it.
        ticket: Ticket<A>,
        /// What is asked.
        request: Request,
    },
    /// Decide whether a body is let in of which the first block is here: [`Endpoint::admit`], or [`Endpoint::respond`] to
    /// refuse. Nothing is kept of it before that. When it is whole, it comes as a request.
    Begin {
        /// Names the first block.
        ticket: Ticket<A>,
        /// What is asked, without a payload.
        request: Request,
    },
    /// Say what holds now by [`Endpoint::notify`], news or not: it goes out as one that is to be acknowledged.
    Refresh(Observer<A>),
    /// An observation is over; there is nothing to be done about it.
    Ended(Observer<A>, Ending),
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams that were no message.
    pub malformed: u64,
    /// Copies of requests.
    pub copies: u64,
    /// Requests that there was no room for.
    pub overload: u64,
    /// Requests of a part of the network that had sent too many.
    pub limited: u64,
    /// Confirmable messages that were sent again.
    pub retransmits: u64,
    /// Confirmable messages that nobody acknowledged.
    pub unanswered: u64,
    /// Values of observations that a newer one took the place of.
    pub overtaken: u64,
    /// Datagrams that were not sent, since the peer has not shown yet that it is where it says it is.
    pub unproven: u64,
    /// Peers that were forgotten to make room.
    pub evicted: u64,
}

/// How much there is, for bounds and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Peers that something is known of.
    pub peers: usize,
    /// Requests that are not answered yet.
    pub requests: usize,
    /// Requests that are remembered.
    pub exchanges: usize,
    /// Observations.
    pub observations: usize,
    /// Bytes of bodies of which blocks are here.
    pub bodies_bytes: usize,
    /// Bytes of bodies that are being fetched.
    pub snapshots_bytes: usize,
}

/// What all peers share.
#[derive(Debug)]
struct Shared<A> {
    limits: Limits,
    secret: Secret,
    output: VecDeque<Output<A>>,
    begun: Instant,
    /// Since the epoch, when it was begun.
    wall: Duration,
    last_serial: u64,
    /// Grows so that no peer that is not known is told two things under one id.
    ids: u16,
    held: Held,
    /// Observations of peers that have not shown where they are.
    unproven: usize,
    counts: Counts,
}

impl<A> Shared<A> {
    fn serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    const fn advance_ids(&mut self, count: u64) {
        let [low, high, ..] = count.to_le_bytes();
        self.ids = self.ids.wrapping_add(u16::from_le_bytes([low, high]));
    }
}

impl<A: Address> Shared<A> {
    /// An id for what is said to a peer of which nothing is known: of its own, and another each time.
    //= RFC7252 4.4
    fn fresh_id(&mut self, address: &A) -> MessageId {
        self.advance_ids(1);
        let [low, high, ..] = self.secret.sign("id", address).to_le_bytes();
        MessageId(u16::from_le_bytes([low, high]).wrapping_add(self.ids))
    }
}

/// One peer's part of it, while something is done with that.
struct Scope<'a, A> {
    address: &'a A,
    now: Instant,
    shared: &'a mut Shared<A>,
}

impl<A: Address> Scope<'_, A> {
    fn put(&mut self, output: Output<A>) {
        self.shared.output.push_back(output);
    }

    fn send(&mut self, datagram: Bytes) {
        self.put(Output::Send { peer: self.address.clone(), datagram });
    }
}

/// What of a request is not what it asks.
#[derive(Clone, Copy, Debug)]
struct Head {
    id: MessageId,
    token: Token,
    is_confirmable: bool,
    /// Of its datagram.
    bytes: usize,
    fingerprint: u64,
}

/// A server's side, for any number of peers.
#[derive(Debug)]
pub struct Endpoint<A> {
    peers: HashMap<A, Peer, Keyed>,
    timers: BTreeSet<(Instant, A)>,
    /// Up to where those were looked at that may have to make room: they had not to.
    looked_at: Option<(Instant, A)>,
    rates: Option<Rates<A>>,
    shared: Shared<A>,
}

impl<A: Address> Endpoint<A> {
    /// With nobody known. `seed` is to be drawn afresh and kept to oneself: Echo options are signed with it. `wall` is the
    /// time since the epoch at `now`: sequence numbers of observations are made of it, so that they grow over restarts and
    /// moves as far as clocks agree.
    #[must_use]
    pub fn new(limits: Limits, seed: [u8; 16], wall: Duration, now: Instant) -> Self {
        let shared = Shared {
            limits,
            secret: Secret::new(seed),
            output: VecDeque::new(),
            begun: now,
            wall,
            last_serial: 0,
            ids: 0,
            held: Held::default(),
            unproven: 0,
            counts: Counts::default(),
        };
        let rates = limits.requests_per_second_max.map(|per_second| Rates::new(per_second, now));
        Self { peers: HashMap::with_hasher(Keyed(seed)), timers: BTreeSet::new(), looked_at: None, rates, shared }
    }

    /// Bounds how fast requests come by what `prefix` says of an address, as [`crate::prefix_of`] does, and not by peer.
    #[must_use]
    pub fn by_prefix(mut self, prefix: fn(&A) -> u64) -> Self {
        if let Some(rates) = &mut self.rates {
            rates.by_prefix(prefix);
        }
        self
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.shared.counts
    }

    /// How much there is.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { peers: self.peers.len(), ..self.shared.held }
    }

    /// What the caller is to do next.
    pub fn poll_output(&mut self) -> Option<Output<A>> {
        self.shared.output.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Time has passed. Where very many are due, some are left: then [`Endpoint::poll_timeout`] is not later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..DUE_MAX {
            if self.poll_timeout().is_none_or(|at| now < at) {
                return;
            }
            let Some((_, address)) = self.timers.pop_first() else { return };
            self.with(&address, now, |peer, scope| {
                peer.scheduled = None;
                peer.handle_timeout(scope);
            });
        }
    }

    /// A datagram came, in a buffer that is not much larger: parts of it stay there until the request is answered. Multicast
    /// is the caller's: what was sent to a group does not belong here.
    pub fn handle_datagram(&mut self, address: A, datagram: &Bytes, now: Instant) {
        match decode(datagram) {
            Err(error) => {
                self.shared.counts.malformed += 1;
                match error.rejection {
                    Rejection::Reset(id) => self.reset(address, id),
                    Rejection::Silence => {}
                }
            }
            //= RFC7252 4.2, 4.3
            Ok(Message::Ping(id)) => self.reset(address, id),
            Ok(Message::Request { id, is_confirmable, token, request }) => {
                let fingerprint = fingerprint(datagram);
                let head = Head { id, token, is_confirmable, bytes: datagram.len(), fingerprint };
                self.handle_request(&address, head, request, now);
            }
            Ok(Message::Acknowledgement(id) | Message::Response { id, carried: Carried::Piggybacked, .. }) => {
                self.with(&address, now, |peer, scope| peer.handle_acknowledgement(id, scope));
            }
            Ok(Message::Reset(id)) => {
                self.with(&address, now, |peer, scope| peer.handle_reset(id, scope));
            }
            // Nothing was asked.
            //= RFC7252 4.2
            Ok(Message::Response { id, carried: Carried::Confirmable, .. }) => self.reset(address, id),
            Ok(Message::Response { carried: Carried::NonConfirmable, .. }) => {}
        }
    }

    /// Answers a request, or refuses one or a body. Whether it was still waited for.
    pub fn respond(&mut self, ticket: Ticket<A>, response: Response, now: Instant) -> bool {
        let Ticket { peer, serial } = ticket;
        self.with(&peer, now, |peer, scope| peer.respond(serial, response, scope)).unwrap_or(false)
    }

    /// Answers a GET that registers, so that notifications can follow. Nothing where it was answered without that: it does not
    /// register, the response is a refusal, or there is no room.
    pub fn observe(&mut self, ticket: Ticket<A>, response: Response, now: Instant) -> Option<Observer<A>> {
        let Ticket { peer, serial } = ticket;
        let (token, serial) = self.with(&peer, now, |peer, scope| peer.observe(serial, response, scope))??;
        Some(Observer { peer, token, serial })
    }

    /// The observation of the same, by the same client, that a GET which registers is going to take the place of.
    #[must_use]
    pub fn renewed(&self, ticket: &Ticket<A>) -> Option<Observer<A>> {
        let Ticket { peer, serial } = ticket;
        let renewed = self.peers.get(peer)?.renewed(*serial, &self.shared)?;
        Some(Observer { peer: peer.clone(), token: renewed.token, serial: renewed.serial })
    }

    /// Lets a body in, of at most so many bytes. Whether it was still waited for.
    pub fn admit(&mut self, ticket: Ticket<A>, body_bytes_max: usize, now: Instant) -> bool {
        let Ticket { peer, serial } = ticket;
        self.with(&peer, now, |peer, scope| peer.admit(serial, body_bytes_max, scope)).unwrap_or(false)
    }

    /// Tells an observer what holds now, or by a response that is none of success that there is nothing more to come, which
    /// ends the observation. Whether there still was one.
    pub fn notify(&mut self, observer: &Observer<A>, response: Response, now: Instant) -> bool {
        let serial = observer.serial;
        self.with(&observer.peer, now, |peer, scope| peer.notify(serial, response, scope)).unwrap_or(false)
    }

    /// Ends an observation with a last word that is sent once and at once, as a server does that goes away. Whether there still
    /// was one.
    pub fn dismiss(&mut self, observer: &Observer<A>, response: Response, now: Instant) -> bool {
        let serial = observer.serial;
        self.with(&observer.peer, now, |peer, scope| peer.dismiss(serial, response, scope)).unwrap_or(false)
    }

    /// Forgets a peer: the layer below has ended its association. Its observations are over without a word.
    pub fn forget(&mut self, peer: &A) {
        if let Some(mut gone) = self.peers.remove(peer) {
            gone.release(&mut self.shared);
            // What it is told when it comes back is not taken for what it was told now.
            self.shared.advance_ids(gone.ids.given());
            if let Some(at) = gone.scheduled {
                self.timers.remove(&(at, peer.clone()));
            }
        }
    }

    /// Does something with a peer that is known, and sees to what becomes of it then.
    fn with<T>(&mut self, address: &A, now: Instant, f: impl FnOnce(&mut Peer, &mut Scope<'_, A>) -> T) -> Option<T> {
        let peer = self.peers.get_mut(address)?;
        let outcome = f(peer, &mut Scope { address, now, shared: &mut self.shared });
        peer.count_unproven(&mut self.shared);
        if peer.is_forgettable() {
            self.forget(address);
            return Some(outcome);
        }
        // A call that comes too early does no harm, and to put it off at each request would be dear.
        if let Some(next) = peer.next_deadline().filter(|next| peer.scheduled.is_none_or(|at| *next < at)) {
            if let Some(at) = peer.scheduled.replace(next) {
                self.timers.remove(&(at, address.clone()));
            }
            self.timers.insert((next, address.clone()));
        }
        Some(outcome)
    }

    fn reset(&mut self, peer: A, id: MessageId) {
        self.shared.output.push_back(Output::Send { peer, datagram: bytes_of(&Message::Reset(id)) });
    }

    fn handle_request(&mut self, address: &A, head: Head, request: Request, now: Instant) {
        let mut known = None;
        if let Some(peer) = self.peers.get_mut(address) {
            if peer.handle_copy(&head, &mut Scope { address, now, shared: &mut self.shared }) {
                return;
            }
            known = Some(peer.requests());
        }
        //= RFC8516 3
        match self.rates.as_mut().map_or(Turn::Now, |rates| rates.turn(address, &self.shared.secret, now)) {
            Turn::Now => {}
            turn @ (Turn::Later(_) | Turn::Never) => {
                self.shared.counts.limited += 1;
                if let Turn::Later(seconds) = turn
                    && head.is_confirmable
                {
                    let options = Options::NONE.with_uint(OptionNumber::MAX_AGE, seconds);
                    let response = Response::refusal(Code::TOO_MANY_REQUESTS, "more requests in a second than may be");
                    let response = Response { options, ..response };
                    self.refuse(address, head, &request, response, now);
                }
                return;
            }
        }
        match verdict(&request, head.is_confirmable) {
            Ok(()) => {}
            Err(Refusal::Reset) => return self.reset(address.clone(), head.id),
            Err(Refusal::Respond(response)) => return self.refuse(address, head, &request, response, now),
        }
        if !self.has_room(address, known) {
            self.shared.counts.overload += 1;
            let response = Response::refusal(Code::SERVICE_UNAVAILABLE, "there is no room for more at the moment");
            let retry_after = self.shared.limits.retry_after_seconds;
            let options = response.options.with_uint(OptionNumber::MAX_AGE, retry_after);
            return self.refuse(address, head, &request, Response { options, ..response }, now);
        }
        if known.is_none() {
            let first_id = self.shared.fresh_id(address);
            self.peers.insert(address.clone(), Peer::new(first_id));
        }
        self.with(address, now, |peer, scope| peer.handle_request(head, request, scope));
    }

    /// Whether another request can be taken up, and remembered. Of a peer that is known, so many are asked by now.
    fn has_room(&mut self, address: &A, known: Option<usize>) -> bool {
        let limits = self.shared.limits;
        if self.shared.held.requests >= limits.requests_max || known.unwrap_or(0) >= limits.requests_per_peer_max {
            return false;
        }
        if known.is_none() {
            if self.peers.len() >= limits.peers_max / 2 {
                self.look_ahead();
            }
            if self.peers.len() >= limits.peers_max && !self.evict(address) {
                return false;
            }
        }
        if self.shared.held.exchanges < limits.exchanges_max {
            return true;
        }
        // A peer makes room for itself before another has to.
        let shared = &mut self.shared;
        self.peers.get_mut(address).is_some_and(|peer| peer.forget_oldest(shared)) || self.evict(address)
    }

    /// Forgets the peer whose copies are least likely to come, of the others that nothing else is known of; or else one that
    /// has not shown where it is, with the bodies that it has begun.
    fn evict(&mut self, for_peer: &A) -> bool {
        let mut second_best = self.first_idle(for_peer);
        for _ in 0..EVICTION_TRIES {
            let Some((at, address)) = self.next_to_look_at() else {
                // Those that were passed over may have come to rest.
                if self.looked_at.take().is_none() {
                    break;
                }
                continue;
            };
            let factor = self.shared.limits.amplification_max;
            let Some(peer) = self.peers.get_mut(&address).filter(|peer| address != *for_peer && peer.is_at_rest())
            else {
                self.looked_at = Some((at, address));
                continue;
            };
            if !peer.is_idle() {
                if !peer.trust.is_shown(factor) {
                    second_best = second_best.or_else(|| Some(address.clone()));
                }
                self.looked_at = Some((at, address));
                continue;
            }
            // It may be set for what is over by now: then it has been here for a short while only.
            let Some(due) = peer.next_deadline().filter(|due| *due > at) else {
                return self.forget_for_room(&address);
            };
            peer.scheduled = Some(due);
            self.timers.remove(&(at, address.clone()));
            self.timers.insert((due, address.clone()));
            second_best = Some(address);
        }
        second_best.is_some_and(|address| self.forget_for_room(&address))
    }

    /// Passes over those that are not to be forgotten.
    fn look_ahead(&mut self) {
        for _ in 0..EVICTION_TRIES_AHEAD {
            let Some((at, address)) = self.next_to_look_at() else { return };
            if self.peers.get(&address).is_some_and(Peer::is_idle) {
                return;
            }
            self.looked_at = Some((at, address));
        }
    }

    /// One of the first that could be forgotten, which may have come after they were looked at.
    fn first_idle(&self, for_peer: &A) -> Option<A> {
        let mut first = self.timers.iter().take(EVICTION_TRIES_AHEAD).map(|(_, address)| address);
        let is_idle = |address: &&A| *address != for_peer && self.peers.get(*address).is_some_and(Peer::is_idle);
        first.find(is_idle).cloned()
    }

    /// The peer behind those that were looked at, and when it is due.
    fn next_to_look_at(&self) -> Option<(Instant, A)> {
        let next = match &self.looked_at {
            None => self.timers.first(),
            Some(before) => self.timers.range((Bound::Excluded(before), Bound::Unbounded)).next(),
        };
        next.cloned()
    }

    fn forget_for_room(&mut self, address: &A) -> bool {
        self.forget(address);
        self.shared.counts.evicted += 1;
        true
    }

    /// Refuses a request and remembers nothing: the same will be said to its copies. Words for people are left out where they
    /// would be more than the peer may be sent.
    fn refuse(&mut self, address: &A, head: Head, request: &Request, mut response: Response, now: Instant) {
        let is_quiet = is_quiet(&request.options, response.code);
        let bytes = |response: &Response| {
            let marker = usize::from(!response.payload.is_empty());
            4 + head.token.as_bytes().len() + response.options.as_bytes().len() + marker + response.payload.len()
        };
        let bytes_max = self.shared.limits.amplification_max.map_or(usize::MAX, |factor| factor * head.bytes);
        if bytes(&response) > bytes_max {
            response.payload = Bytes::new();
        }
        if bytes(&response) > bytes_max {
            response = Response::of(response.code);
        }
        let message = match (head.is_confirmable, is_quiet) {
            (true, true) => Message::Acknowledgement(head.id),
            (true, false) => {
                Message::Response { id: head.id, carried: Carried::Piggybacked, token: head.token, response }
            }
            (false, true) => return,
            (false, false) => {
                let id = match self.peers.get_mut(address) {
                    Some(peer) => peer.ids.next(now),
                    None => self.shared.fresh_id(address),
                };
                Message::Response { id, carried: Carried::NonConfirmable, token: head.token, response }
            }
        };
        self.shared.output.push_back(Output::Send { peer: address.clone(), datagram: bytes_of(&message) });
    }
}

/// What is said to a request that is not even asked.
enum Refusal {
    Reset,
    Respond(Response),
}

/// The critical options that are understood here and by whom it is asked.
const UNDERSTOOD: [OptionNumber; 7] = [
    OptionNumber::URI_HOST,
    OptionNumber::URI_PORT,
    OptionNumber::URI_PATH,
    OptionNumber::URI_QUERY,
    OptionNumber::ACCEPT,
    OptionNumber::BLOCK1,
    OptionNumber::BLOCK2,
];

/// Whether all of its critical options are understood, and legal.
//= RFC7252 5.4.1, 5.4.3, 5.4.5, 5.7.2, 5.10.2
//= RFC7959 2.2
fn verdict(request: &Request, is_confirmable: bool) -> Result<(), Refusal> {
    let mut before = None;
    for (number, value) in request.options.iter().filter(|(number, _)| number.is_critical()) {
        if matches!(number, OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME) {
            return Err(Refusal::Respond(Response::refusal(Code::PROXYING_NOT_SUPPORTED, "no proxy")));
        }
        let is_again = before.replace(number) == Some(number) && !number.is_repeatable();
        if is_again || !UNDERSTOOD.contains(&number) || !number.admits(value.len()) {
            return Err(if is_confirmable { Refusal::Respond(bad_option(number)) } else { Refusal::Reset });
        }
        let is_block = matches!(number, OptionNumber::BLOCK1 | OptionNumber::BLOCK2);
        if is_block && Block::of(value).is_none() {
            return Err(Refusal::Respond(Response::refusal(Code::BAD_REQUEST, "a block of the reserved size")));
        }
    }
    Ok(())
}

fn bad_option(number: OptionNumber) -> Response {
    Response { payload: Bytes::from(format!("option {number:?}")), ..Response::of(Code::BAD_OPTION) }
}

/// Whether the client does not want to be told this. One that has more blocks to send has to hear whether they may come.
//= RFC7959 2.5
//= RFC7967 2.1
fn is_quiet(options: &Options, code: Code) -> bool {
    options.no_response().has(code.class()) && options.block1().is_none_or(|block| !block.more)
}

fn bytes_of(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out.freeze()
}
