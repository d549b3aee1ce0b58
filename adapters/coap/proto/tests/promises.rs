//! What an endpoint promises whatever happens: devices on a bad network are served once, and strangers cost next to nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod message;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use message::message;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_coap_proto::*;

#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
fn any_instant() -> Instant {
    Instant::now()
}

fn endpoint(limits: Limits, now: Instant) -> Endpoint<u32> {
    Endpoint::new(limits, *b"a seed of tests!", Duration::from_secs(1_700_000_000), now)
}

fn bytes_of(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out.freeze()
}

fn post(id: u16, payload: &[u8]) -> Bytes {
    let options = Options::NONE.with(OptionNumber::URI_PATH, b"x").with(OptionNumber::URI_QUERY, b"auth=0123456789");
    let request = Request { method: Code::POST, options, payload: Bytes::copy_from_slice(payload) };
    let token = Token::new(&id.to_be_bytes()).unwrap();
    bytes_of(&Message::Request { id: MessageId(id), is_confirmable: true, token, request })
}

/// Draws numbers, so that a run can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // A step of an xorshift generator.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What a device has under way.
struct Try {
    datagram: Bytes,
    attempts: u32,
    timeout: Duration,
    at: Instant,
}

/// A device that posts one message after the other, as RFC 7252 4.2 says, and what it was told.
struct Device {
    posted: u16,
    current: Option<Try>,
    answered: BTreeSet<u16>,
    given_up: u64,
}

/// Devices, a server and what is behind it, with a network between that loses, doubles and delays.
struct Network {
    dice: Dice,
    now: Instant,
    loss_percent: u64,
    flying: BTreeMap<(Instant, u64), (u32, bool, Bytes)>,
    sent: u64,
    server: Endpoint<u32>,
    devices: Vec<Device>,
    working: BTreeMap<(Instant, u64), Ticket<u32>>,
    published: BTreeMap<(u32, u16), u32>,
}

impl Network {
    fn put(&mut self, device: u32, to_server: bool, datagram: &Bytes) {
        // Lost, there once, or there twice.
        let copies = if self.dice.below(100) < self.loss_percent { 0 } else { 1 + u64::from(self.dice.below(20) == 0) };
        for _ in 0..copies {
            self.sent += 1;
            let delay = Duration::from_millis(1 + self.dice.below(400));
            self.flying.insert((self.now + delay, self.sent), (device, to_server, datagram.clone()));
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { peer, datagram } => self.put(peer, false, &datagram),
                Output::Request { ticket, request } => {
                    let id = u16::from_be_bytes([request.payload[0], request.payload[1]]);
                    *self.published.entry((*ticket.peer(), id)).or_default() += 1;
                    // Mostly at once, sometimes when the device has long begun to ask again.
                    let slow = self.dice.below(4) == 0;
                    let delay = Duration::from_millis(self.dice.below(if slow { 20_000 } else { 20 }));
                    self.sent += 1;
                    self.working.insert((self.now + delay, self.sent), ticket);
                }
                Output::Begin { .. } | Output::Refresh(_) | Output::Ended(..) => unreachable!("nobody asked for it"),
            }
        }
    }

    /// A datagram reaches a device.
    fn hear(&mut self, device: u32, datagram: &Bytes) {
        let message = decode(datagram).expect("what an endpoint says can be read");
        let this = &mut self.devices[device as usize];
        match message {
            Message::Acknowledgement(id) => {
                // The answer was promised (RFC 7252 5.2.2), and is waited for as long as copies of it may come.
                if let Some(current) = this.current.as_mut().filter(|_| id.0 == this.posted) {
                    (current.attempts, current.at) = (4, self.now + Duration::from_secs(93));
                }
            }
            Message::Response { id, carried, token, response } => {
                assert_eq!(response.code, Code::CHANGED);
                let of = u16::from_be_bytes(token.as_bytes().try_into().unwrap());
                this.answered.insert(of);
                if of == this.posted {
                    this.current = None;
                }
                if carried == Carried::Confirmable {
                    self.put(device, true, &bytes_of(&Message::Acknowledgement(id)));
                }
            }
            Message::Ping(_) | Message::Reset(_) | Message::Request { .. } => unreachable!("{message:?}"),
        }
    }

    /// A device goes on; when it has something to do, if it waits.
    fn step(&mut self, device: u32, posts: u16) -> Option<Instant> {
        let this = &mut self.devices[device as usize];
        if let Some(current) = &mut this.current {
            if self.now < current.at {
                return Some(current.at);
            }
            current.attempts += 1;
            if current.attempts <= 4 {
                current.timeout *= 2;
                current.at = self.now + current.timeout;
                let (datagram, at) = (current.datagram.clone(), current.at);
                self.put(device, true, &datagram);
                return Some(at);
            }
            this.current = None;
            this.given_up += 1;
        }
        if this.posted >= posts {
            return None;
        }
        this.posted += 1;
        let timeout = Duration::from_millis(2_000 + self.dice.below(1_000));
        let datagram = post(this.posted, &this.posted.to_be_bytes());
        let at = self.now + timeout;
        this.current = Some(Try { datagram: datagram.clone(), attempts: 0, timeout, at });
        self.put(device, true, &datagram);
        Some(at)
    }

    fn run(&mut self, posts: u16) {
        // Until nothing moves any more.
        for _ in 0..2_000_000 {
            let devices = u32::try_from(self.devices.len()).unwrap();
            let waiting: Vec<_> = (0..devices).map(|device| self.step(device, posts)).collect();
            let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
            let working = self.working.first_key_value().map(|((at, _), _)| *at);
            let due = waiting.into_iter().flatten().chain(flying).chain(working).chain(self.server.poll_timeout());
            let Some(now) = due.min() else { return };
            self.now = self.now.max(now);
            while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (device, to_server, datagram) = entry.remove();
                if to_server {
                    self.server.handle_datagram(device, &datagram, self.now);
                } else {
                    self.hear(device, &datagram);
                }
                self.drain();
            }
            while let Some(entry) = self.working.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let ticket = entry.remove();
                self.server.respond(ticket, Response::of(Code::CHANGED), self.now);
                self.drain();
            }
            self.server.handle_timeout(self.now);
            self.drain();
        }
        unreachable!("it never comes to rest");
    }
}

//= RFC7252 4.2, 4.5, 5.2.2
#[test]
fn under_loss_each_message_is_published_once_and_its_device_is_told() {
    for (seed, loss_percent) in [(1, 0), (2, 10), (3, 30), (4, 50)] {
        let now = any_instant();
        let device = || Device { posted: 0, current: None, answered: BTreeSet::new(), given_up: 0 };
        let mut network = Network {
            dice: Dice(seed),
            now,
            loss_percent,
            flying: BTreeMap::new(),
            sent: 0,
            server: endpoint(Limits::default(), now),
            devices: (0..20).map(|_| device()).collect(),
            working: BTreeMap::new(),
            published: BTreeMap::new(),
        };
        network.run(100);
        let twice: Vec<_> = network.published.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{loss_percent} %: {twice:?}");
        let told: usize = network.devices.iter().map(|device| device.answered.len()).sum();
        let given_up: u64 = network.devices.iter().map(|device| device.given_up).sum();
        for (device, state) in (0..).zip(&network.devices) {
            let untrue = state.answered.iter().find(|id| !network.published.contains_key(&(device, **id)));
            assert_eq!(untrue, None, "told, and not published");
        }
        // Five copies each way, of which some are lost.
        let told_min = [2_000, 1_990, 1_850, 1_200][usize::try_from(seed - 1).unwrap()];
        eprintln!("{loss_percent} %: {told} of 2000 told, {given_up} given up, {:?}", network.server.counts());
        assert!(told >= told_min, "{loss_percent} %: {told} told, {given_up} given up");
        assert_eq!(network.server.held(), Held::default(), "nothing is left");
    }
}

//= RFC7252 11.3
//= RFC9175 2.4
#[test]
fn a_hundred_thousand_strangers_leave_nothing_behind_and_a_device_is_served_meanwhile() {
    let now = any_instant();
    let mut server = endpoint(Limits::default(), now);
    server.handle_datagram(0, &post(1, b"device"), now);
    let Some(Output::Request { ticket, .. }) = server.poll_output() else { unreachable!("asked") };
    assert!(server.respond(ticket, Response::of(Code::CHANGED), now));
    let mut told = VecDeque::new();
    for peer in 1..=100_000 {
        server.handle_datagram(peer, &post(1, b"stranger"), now);
        while let Some(output) = server.poll_output() {
            match output {
                Output::Request { ticket, .. } => {
                    server.respond(ticket, Response::refusal(Code::UNAUTHORIZED, "no such key"), now);
                }
                Output::Send { datagram, .. } => told.push_back(datagram.len()),
                Output::Begin { .. } | Output::Refresh(_) | Output::Ended(..) => unreachable!("nobody asked for it"),
            }
        }
    }
    assert_eq!(server.held(), Held { peers: 1, exchanges: 1, ..Held::default() });
    // The first device asks again: it is known.
    server.handle_datagram(0, &post(1, b"device"), now);
    let Some(Output::Send { peer: 0, datagram }) = server.poll_output() else { unreachable!("told again") };
    assert!(matches!(decode(&datagram), Ok(Message::Response { response, .. }) if response.code == Code::CHANGED));
    assert_eq!((server.poll_output(), server.counts().copies), (None, 1));
}

#[test]
fn what_nobody_answers_is_bounded() {
    let now = any_instant();
    let limits = Limits { requests_max: 1_000, ..Limits::default() };
    let mut server = endpoint(limits, now);
    for peer in 0..10_000 {
        server.handle_datagram(peer, &post(1, b"x"), now);
    }
    assert_eq!(server.held(), Held { peers: 1_000, requests: 1_000, exchanges: 1_000, ..Held::default() });
    assert_eq!(server.counts().overload, 9_000);
    server.handle_timeout(now + Duration::from_secs(247));
    assert_eq!(server.held(), Held::default());
}

/// What may happen next.
#[derive(Clone, Debug)]
enum Event {
    Message(u32, Message),
    Garbage(u32, Vec<u8>),
    /// What came last from a peer, again.
    Again(u32),
    /// An acknowledgement or a reset of what was sent last to a peer.
    Acknowledge(u32),
    Reset(u32),
    /// An answer to one of the questions.
    Answer(usize, u8, usize),
    Notify(usize, u8, usize),
    Wait(u64),
    Forget(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 0_u32..3;
    // Few ids and tokens, so that they meet; options that mean something to a server.
    let known = [
        (OptionNumber::OBSERVE, vec![]),
        (OptionNumber::OBSERVE, vec![1]),
        (OptionNumber::URI_PATH, b"x".to_vec()),
        (OptionNumber::BLOCK1, vec![0x08]),
        (OptionNumber::BLOCK1, vec![0x10]),
        (OptionNumber::BLOCK1, vec![0x18]),
        (OptionNumber::BLOCK2, vec![0x01]),
        (OptionNumber::BLOCK2, vec![0x10]),
        (OptionNumber::NO_RESPONSE, vec![26]),
        (OptionNumber::SIZE1, vec![40]),
        (OptionNumber::ETAG, vec![1]),
        (OptionNumber::ECHO, vec![1; 8]),
    ];
    let options =
        vec(proptest::sample::select(known.to_vec()), 0..4).prop_map(|some| some.into_iter().collect::<Options>());
    let parts = (0_u16..4, any::<bool>(), 0_u8..3, 1_u8..5, options, proptest::sample::select(vec![0, 5, 16]));
    let request = parts.prop_map(|(id, is_confirmable, token, method, options, bytes)| Message::Request {
        id: MessageId(id),
        is_confirmable,
        token: Token::new(&[token]).unwrap(),
        request: Request { method: Code::new(0, method), options, payload: Bytes::from(vec![b'p'; bytes]) },
    });
    prop_oneof![
        8 => (peer.clone(), request).prop_map(|(peer, message)| Event::Message(peer, message)),
        1 => (peer.clone(), message()).prop_map(|(peer, message)| Event::Message(peer, message)),
        1 => (peer.clone(), vec(any::<u8>(), 0..20)).prop_map(|(peer, bytes)| Event::Garbage(peer, bytes)),
        2 => peer.clone().prop_map(Event::Again),
        3 => peer.clone().prop_map(Event::Acknowledge),
        1 => peer.clone().prop_map(Event::Reset),
        6 => (any::<usize>(), any::<u8>(), 0_usize..3_000).prop_map(|(at, how, bytes)| Event::Answer(at, how, bytes)),
        4 => (any::<usize>(), any::<u8>(), 0_usize..3_000).prop_map(|(at, how, bytes)| Event::Notify(at, how, bytes)),
        3 => (0_u64..100_000).prop_map(Event::Wait),
        1 => Just(Event::Wait(90_000_000)),
        1 => peer.prop_map(Event::Forget),
    ]
}

/// An endpoint with all that is known of what it does.
struct Stage {
    server: Endpoint<u32>,
    limits: Limits,
    now: Instant,
    tickets: Vec<(Ticket<u32>, bool)>,
    observers: Vec<Observer<u32>>,
    last_in: BTreeMap<u32, Bytes>,
    last_out: BTreeMap<u32, MessageId>,
    bytes: BTreeMap<u32, (usize, usize)>,
    /// Peers that have answered what only they could have got.
    shown: BTreeSet<u32>,
}

impl Stage {
    fn datagram(&mut self, peer: u32, datagram: Bytes) {
        self.bytes.entry(peer).or_default().0 += datagram.len();
        self.server.handle_datagram(peer, &datagram, self.now);
        self.last_in.insert(peer, datagram);
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Message(peer, message) => self.datagram(peer, bytes_of(&message)),
            Event::Garbage(peer, bytes) => self.datagram(peer, Bytes::from(bytes)),
            Event::Again(peer) => {
                if let Some(datagram) = self.last_in.get(&peer).cloned() {
                    self.datagram(peer, datagram);
                }
            }
            Event::Acknowledge(peer) => {
                if let Some(id) = self.last_out.get(&peer).copied() {
                    self.shown.insert(peer);
                    self.datagram(peer, bytes_of(&Message::Acknowledgement(id)));
                }
            }
            Event::Reset(peer) => {
                if let Some(id) = self.last_out.get(&peer).copied() {
                    self.shown.insert(peer);
                    self.datagram(peer, bytes_of(&Message::Reset(id)));
                }
            }
            Event::Answer(at, how, bytes) => self.answer(at, how, bytes),
            Event::Notify(at, how, bytes) => {
                if let Some(at) = at.checked_rem(self.observers.len()) {
                    let code = if how % 8 == 0 { Code::FORBIDDEN } else { Code::CONTENT };
                    let response = Response { payload: Bytes::from(vec![b'n'; bytes]), ..Response::of(code) };
                    let observer = self.observers[at].clone();
                    self.server.notify(&observer, response, self.now);
                }
            }
            Event::Wait(millis) => {
                let end = self.now + Duration::from_millis(millis);
                while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
                    self.now = at;
                    self.server.handle_timeout(at);
                    assert!(self.server.poll_timeout().is_none_or(|next| next > at), "it is due for ever");
                    self.drain();
                }
                self.now = end;
            }
            Event::Forget(peer) => self.server.forget(&peer),
        }
        self.drain();
        let held = self.server.held();
        assert!(held.bodies_bytes <= self.limits.bodies_bytes_max, "{held:?}");
        assert!(held.snapshots_bytes <= self.limits.snapshots_bytes_max, "{held:?}");
        assert!(held.observations <= self.limits.observations_max, "{held:?}");
        assert!(held.exchanges <= self.limits.exchanges_max, "{held:?}");
        assert!(held.peers <= self.limits.peers_max, "{held:?}");
    }

    fn answer(&mut self, at: usize, how: u8, bytes: usize) {
        let Some(at) = at.checked_rem(self.tickets.len()) else { return };
        let (ticket, begins) = self.tickets.swap_remove(at);
        let code = [Code::CONTENT, Code::CHANGED, Code::FORBIDDEN, Code::SERVICE_UNAVAILABLE][usize::from(how % 4)];
        let response = Response { payload: Bytes::from(vec![b'r'; bytes]), ..Response::of(code) };
        if begins && how < 200 {
            self.server.admit(ticket, 48, self.now);
        } else if how < 128 {
            self.observers.extend(self.server.observe(ticket, response, self.now));
        } else {
            self.server.respond(ticket, response, self.now);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { peer, datagram } => {
                    let message = decode(&datagram).expect("what an endpoint says can be read");
                    let total = self.bytes.entry(peer).or_default();
                    total.1 += datagram.len();
                    assert!(self.shown.contains(&peer) || total.1 <= 3 * total.0, "{total:?} of {peer}");
                    let is_ping = matches!(message, Message::Ping(_));
                    if is_ping || matches!(message, Message::Response { carried: Carried::Confirmable, .. }) {
                        self.last_out.insert(peer, message.id());
                    }
                }
                Output::Request { ticket, .. } => self.tickets.push((ticket, false)),
                Output::Begin { ticket, request } => {
                    assert!(request.payload.is_empty());
                    self.tickets.push((ticket, true));
                }
                Output::Refresh(observer) => assert!(self.observers.contains(&observer)),
                Output::Ended(observer, _) => {
                    let at = self.observers.iter().position(|known| *known == observer).expect("it was there");
                    self.observers.swap_remove(at);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_bounds_hold_and_nothing_is_left(events in vec(event(), 0..60)) {
        let limits = Limits {
            peers_max: 2,
            exchanges_max: 6,
            observations_max: 3,
            observations_per_peer_max: 2,
            bodies_bytes_max: 64,
            notifications_unacknowledged_max: 3,
            observations_unproven_max: 2,
            snapshots_bytes_max: 5_000,
            ping_period: Duration::from_secs(3_600),
            ..Limits::default()
        };
        let now = any_instant();
        let mut stage = Stage {
            server: endpoint(limits, now),
            limits,
            now,
            tickets: Vec::new(),
            observers: Vec::new(),
            last_in: BTreeMap::new(),
            last_out: BTreeMap::new(),
            bytes: BTreeMap::new(),
            shown: BTreeSet::new(),
        };
        for event in events {
            stage.play(event);
        }
        // Everybody falls silent. Who is asked for news gives it, and nobody acknowledges it.
        let everything_over = Duration::from_secs(3_600 + 1_000);
        let end = stage.now + everything_over;
        while let Some(at) = stage.server.poll_timeout().filter(|at| *at <= end) {
            stage.now = at;
            stage.server.handle_timeout(at);
            let observers = stage.observers.clone();
            stage.drain();
            for observer in observers {
                stage.server.notify(&observer, Response::of(Code::CONTENT), at);
            }
            stage.drain();
        }
        prop_assert_eq!(stage.server.held(), Held::default());
        prop_assert_eq!(stage.server.poll_timeout(), None);
    }
}
