//! Sessions with clients of the same cryptography, in a network that the tests are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, DtlsCertificate, PskResolver};
use tidegate_model::{
    CertificateName, Generation, GrantTable, GrantTableBuilder, KeyEntry, KeyHash, TableContents, ThingEntry, ThingId,
};

use super::*;
use certificates::Authorities;

mod certificates;

const WALL: Timestamp = Timestamp::from_secs(1_800_000_000);
const LIMITS: DtlsLimits = DtlsLimits {
    sessions_max: 8,
    half_open_max: 4,
    handshakes_per_second_max: NonZeroU32::new(2_000).unwrap(),
    idle_max: Duration::from_hours(25),
    unopened_max: 100,
};

struct Key(&'static [u8]);

impl PskResolver for Key {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.to_vec())
    }
}

/// A Thing, its keys, and its certificate's name.
type Registered<'a> = (&'a str, &'a [&'a [u8]], Option<CertificateName>);

/// A grant table that can be replaced.
struct Registrar {
    table: Mutex<GrantTable>,
    passed: Mutex<Duration>,
}

impl Registrar {
    fn of(things: &[Registered<'_>]) -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(Self::table(1, things)), passed: Mutex::default() })
    }

    fn table(generation: u64, things: &[Registered<'_>]) -> GrantTable {
        let key = |key: &&[u8]| KeyEntry {
            hash: KeyHash::of(key),
            shared: Some(SharedKey::new(key)),
            not_before: None,
            not_after: None,
        };
        let things = things.iter().map(|(id, keys, certificate)| ThingEntry {
            id: ThingId::parse(id).unwrap(),
            aliases: vec![],
            keys: keys.iter().map(key).collect(),
            certificate: certificate.clone(),
            grants: vec![],
        });
        let contents = TableContents { channels: vec![], things: things.collect() };
        GrantTableBuilder::table_of(&contents, Generation(generation), generation).unwrap()
    }

    fn replace(&self, table: GrantTable) {
        *self.table.lock().unwrap() = table;
    }

    /// Lets time pass.
    fn pass(&self, span: Duration) {
        *self.passed.lock().unwrap() += span;
    }
}

impl Authority for Registrar {
    fn now(&self) -> Timestamp {
        WALL.saturating_add(*self.passed.lock().unwrap())
    }

    fn shared_keys(&self, claimed: &str) -> Vec<(SharedKey, Principal)> {
        let table = self.table.lock().unwrap();
        table.shared_keys(claimed, self.now()).map(|(key, principal)| (key.clone(), principal)).collect()
    }

    fn identify(&self, certificate: &CertificateNames) -> Option<Principal> {
        self.table.lock().unwrap().identify(certificate, self.now()).ok()
    }

    fn stands(&self, principal: &Principal) -> bool {
        self.table.lock().unwrap().refresh(principal, self.now()).is_ok()
    }
}

/// A client, and what it has come to.
struct Client {
    dtls: Dtls,
    is_connected: bool,
    is_closed: bool,
    has_failed: bool,
    received: Vec<Vec<u8>>,
}

impl Client {
    fn new(mut dtls: Dtls, now: Instant) -> Self {
        dtls.set_active(true);
        dtls.handle_timeout(now).unwrap();
        Self { dtls, is_connected: false, is_closed: false, has_failed: false, received: vec![] }
    }

    fn of_key(identity: &str, key: &'static [u8], datagram_bytes_max: usize, now: Instant) -> Self {
        let config = Config::builder()
            .with_psk_client(identity.as_bytes().to_vec(), Arc::new(Key(key)))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .mtu(datagram_bytes_max);
        Self::new(Dtls::new_12_psk(Arc::new(config.build().unwrap()), now), now)
    }

    fn of_certificate(certificate: DtlsCertificate, now: Instant) -> Self {
        let config = Config::builder().dtls13_cipher_suites(&[]).max_queue_tx(500).build().unwrap();
        Self::new(Dtls::new_12(Arc::new(config), certificate, now), now)
    }

    fn receive(&mut self, datagram: &[u8], now: Instant) {
        let taken = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(datagram));
        self.has_failed |= taken.is_err();
    }

    /// What it sends.
    fn pump(&mut self) -> Vec<Vec<u8>> {
        let (mut sent, mut room) = (vec![], vec![0; 4_096]);
        while !self.has_failed {
            match self.dtls.poll_output(&mut room) {
                dimpl::Output::Packet(datagram) => sent.push(datagram.to_vec()),
                dimpl::Output::ApplicationData(datagram) => self.received.push(datagram.to_vec()),
                dimpl::Output::Connected => self.is_connected = true,
                dimpl::Output::CloseNotify => self.is_closed = true,
                dimpl::Output::Timeout(_) => break,
                dimpl::Output::BufferTooSmall { .. }
                | dimpl::Output::PeerCert(_)
                | dimpl::Output::KeyingMaterial(..)
                | _ => {}
            }
        }
        sent
    }
}

/// A server, its clients by their addresses, and the network between them, in which time passes as it is told to.
struct Net {
    sessions: Sessions,
    clients: BTreeMap<Peer, Client>,
    now: Instant,
    received: Vec<(Peer, Vec<u8>)>,
    ended: Vec<Peer>,
    /// Bytes in and out.
    traffic: (usize, usize),
}

fn at(port: u16) -> Peer {
    Peer { address: SocketAddr::from(([192, 0, 2, 1], port)), local: None, session: 0 }
}

impl Net {
    fn new(limits: DtlsLimits, authority: &Arc<Registrar>, identity: Option<Identity>) -> Self {
        let identity = Arc::new(ArcSwapOption::from_pointee(identity));
        #[expect(clippy::disallowed_methods, reason = "any instant is good to begin with")]
        let now = Instant::now();
        Self {
            sessions: Sessions::new(limits, Arc::clone(authority) as Arc<dyn Authority>, identity, now),
            clients: BTreeMap::new(),
            now,
            received: vec![],
            ended: vec![],
            traffic: (0, 0),
        }
    }

    /// A client that begins at an address; the one that was there before is gone.
    fn begin(&mut self, port: u16, identity: &str, key: &'static [u8]) {
        self.clients.insert(at(port), Client::of_key(identity, key, 1_152, self.now));
    }

    fn client(&mut self, port: u16) -> &mut Client {
        self.clients.get_mut(&at(port)).unwrap()
    }

    fn give(&mut self, address: Peer, datagram: &[u8]) {
        self.traffic.0 += datagram.len();
        self.sessions.handle_datagram(address, datagram, self.now);
    }

    /// Carries everything to and fro until nobody says anything more; what `passes` refuses is lost.
    fn settle_if(&mut self, passes: &mut dyn FnMut(&[u8]) -> bool) {
        loop {
            let mut is_quiet = true;
            let said: Vec<_> = self.clients.iter_mut().map(|(address, client)| (*address, client.pump())).collect();
            for (address, datagram) in said.into_iter().flat_map(|(at, said)| said.into_iter().map(move |s| (at, s))) {
                is_quiet = false;
                if passes(&datagram) {
                    self.give(address, &datagram);
                }
            }
            is_quiet &= !self.carry_back_if(passes);
            if is_quiet {
                return;
            }
        }
    }

    /// Carries what the server says; whether it said something.
    fn carry_back_if(&mut self, passes: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut said_something = false;
        while let Some(output) = self.sessions.poll_output() {
            said_something = true;
            match output {
                Output::Send { address, datagram } => {
                    self.traffic.1 += datagram.len();
                    if let Some(client) = self.clients.get_mut(&address).filter(|_| passes(&datagram)) {
                        client.receive(&datagram, self.now);
                    }
                }
                Output::Received { peer, datagram } => self.received.push((peer, datagram.to_vec())),
                Output::Ended(peer) => self.ended.push(peer),
            }
        }
        said_something
    }

    fn carry_back(&mut self) {
        self.carry_back_if(&mut |_| true);
    }

    fn settle(&mut self) {
        self.settle_if(&mut |_| true);
    }

    /// The same, but only so many datagrams arrive: with four, a handshake with a key has come to the server's flight.
    fn settle_first(&mut self, count: usize) {
        let mut passed = 0;
        self.settle_if(&mut |_| {
            passed += 1;
            passed <= count
        });
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        let now = self.now;
        self.sessions.handle_timeout(now);
        for client in self.clients.values_mut().filter(|client| !client.has_failed) {
            client.has_failed |= client.dtls.handle_timeout(now).is_err();
        }
    }

    fn say(&mut self, port: u16, words: &[u8]) {
        self.client(port).dtls.send_application_data(words).unwrap();
        self.settle();
    }

    /// Who the newest session with an address is with.
    fn known(&mut self, peer: &Peer) -> Option<String> {
        self.sessions.principal(peer, self.now).map(|principal| principal.thing().to_string())
    }
}

const OLD: &[u8] = b"the key before this one";
const NEW: &[u8] = b"the key that is the newest";

#[test]
fn a_client_with_its_key_is_known_and_talks() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    assert!(net.client(1).is_connected);
    net.say(1, b"hello");
    let peer = net.received[0].0;
    assert_eq!(net.received[0].1, b"hello");
    assert_eq!(net.known(&peer).as_deref(), Some("lab.dev1"));
    net.sessions.send(&peer, b"hello yourself", net.now);
    net.settle();
    assert_eq!(net.client(1).received, [b"hello yourself"]);
    assert_eq!(net.known(&Peer { session: peer.session + 1, ..peer }), None, "another session");
    net.client(1).dtls.close().unwrap();
    net.settle();
    assert_eq!((net.ended.as_slice(), net.sessions.held()), ([peer].as_slice(), (0, 0)));
    assert!(net.sessions.slots.is_empty());
}

#[test]
fn each_key_of_a_thing_is_as_good_and_no_other() {
    let registrar = Registrar::of(&[("lab.dev1", &[NEW, OLD], None), ("lab.dev2", &[b"another's"], None)]);
    let mut net = Net::new(LIMITS, &registrar, None);
    let mut is_let_in = |identity: &str, key, datagram_bytes_max| {
        net.clients.insert(at(1), Client::of_key(identity, key, datagram_bytes_max, net.now));
        net.settle();
        net.client(1).is_connected
    };
    assert!(is_let_in("lab.dev1", NEW, 1_152));
    assert!(is_let_in("lab.dev1", OLD, 1_152));
    // Each message, and each part of one, in a datagram of its own.
    assert!(is_let_in("lab.dev1", NEW, 64));
    assert!(is_let_in("lab.dev1", OLD, 64));
    assert!(!is_let_in("lab.dev1", b"another's", 1_152));
    assert!(!is_let_in("lab.dev1", b"nobody's at all", 64));
    assert!(!is_let_in("lab.dev2", NEW, 1_152));
    assert!(!is_let_in("lab.nobody", NEW, 1_152));
    assert!(net.client(1).has_failed, "it is told so");
}

/// The client's last flight, record by record from behind: nothing of it has to come again.
#[test]
fn what_comes_in_another_order_is_as_good() {
    for keys in [&[NEW][..], &[OLD, NEW]] {
        let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", keys, None)]), None);
        net.begin(1, "lab.dev1", NEW);
        let (mut passed, mut flight) = (0, Vec::new());
        net.settle_if(&mut |datagram| {
            passed += 1;
            if passed == 5 {
                flight = datagram.to_vec();
            }
            passed < 5
        });
        let mut parts = Vec::new();
        while !flight.is_empty() {
            let bytes = 13 + usize::from(u16::from_be_bytes([flight[11], flight[12]]));
            parts.push(flight.drain(..bytes).collect::<Vec<u8>>());
        }
        assert_eq!(parts.len(), 3);
        parts.iter().rev().for_each(|part| net.give(at(1), part));
        net.settle();
        assert!(net.client(1).is_connected);
    }
}

#[test]
fn a_handshake_ends_whatever_is_lost_on_the_way() {
    let registrar = Registrar::of(&[("lab.dev1", &[NEW, OLD], None)]);
    for seed in 0..200_u64 {
        let mut net = Net::new(LIMITS, &registrar, None);
        net.begin(1, "lab.dev1", OLD);
        // For a while one in four is lost.
        let mut dice = Dice(seed);
        let mut passes = |_: &[u8]| dice.below(4) > 0;
        for second in 0..28 {
            net.settle_if(&mut |datagram| second > 8 || passes(datagram));
            net.pass(Duration::from_secs(1));
        }
        assert!(net.client(1).is_connected, "seed {seed}");
        net.say(1, b"hello");
        assert_eq!(net.received.len(), 1, "seed {seed}");
    }
}

/// Random numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    /// The datagram, or something near it.
    fn mutate(&mut self, datagram: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut mutant = datagram.to_vec();
        for _ in 0..self.below(3) {
            let at = self.below(mutant.len().max(1));
            // What headers say is what most depends on.
            let head = self.below(mutant.len().clamp(1, 40));
            match self.below(7) {
                0 => mutant.truncate(at),
                1 if !mutant.is_empty() => mutant[at] ^= 1 << self.below(8),
                2 | 3 if !mutant.is_empty() => mutant[head] = [0, 1, 2, 11, 16, 20, 22, 254, 255][self.below(9)],
                4 => mutant.extend_from_slice(datagram),
                5 if !others.is_empty() => mutant.extend_from_slice(&others[self.below(others.len())]),
                6 if mutant.len() > 25 => {
                    let tail = mutant.split_off(at);
                    mutant.splice(0..0, tail);
                }
                _ => {}
            }
        }
        mutant
    }
}

/// What a client sends is changed on its way, in so many ways as the environment says; somebody else is served all the while.
#[test]
fn no_datagram_ends_more_than_its_own_session() {
    let seeds = std::env::var("SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    let authorities = Authorities::new();
    let name = CertificateName::subject("CN=pump-7").unwrap();
    let registrar = Registrar::of(&[("lab.dev1", &[NEW, OLD], Some(name)), ("lab.dev2", &[b"another's"], None)]);
    let limits = DtlsLimits { handshakes_per_second_max: NonZeroU32::MAX, ..LIMITS };
    let mut net = Net::new(limits, &registrar, Some(authorities.identity(true)));
    net.begin(2, "lab.dev2", b"another's");
    net.settle();
    let certificate = Authorities::issued(&authorities.ca, "pump-7", 2_040);
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let client = match dice.below(3) {
            0 => Client::of_certificate(certificate.clone(), net.now),
            1 => Client::of_key("lab.dev1", OLD, 300, net.now),
            _ => Client::of_key("lab.dev1", NEW, 1_152, net.now),
        };
        net.clients.insert(at(1), client);
        let mut said = Vec::new();
        for _ in 0..6 {
            let datagrams = net.client(1).pump();
            for datagram in datagrams {
                let mutant = dice.mutate(&datagram, &said);
                said.push(datagram.clone());
                let way = [&mutant, &datagram][dice.below(2)].clone();
                net.give(at(1), &way);
                net.give(at(1), &mutant);
            }
            let speaks = net.client(1).is_connected && !net.client(1).has_failed;
            if speaks {
                // It may be over by then.
                let _ = net.client(1).dtls.send_application_data(b"hello");
            }
            net.carry_back();
            net.pass(Duration::from_millis(700));
        }
        net.clients.remove(&at(1));
        net.say(2, b"still here");
        assert_eq!(net.received.last().unwrap().1, b"still here", "seed {seed}");
        assert!(net.sessions.held().1 <= LIMITS.half_open_max && net.sessions.held().0 <= LIMITS.sessions_max);
        net.received.clear();
        net.ended.clear();
    }
}

#[test]
fn a_new_handshake_takes_the_place_of_a_session_only_when_it_has_ended() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    net.say(1, b"one");
    let first = net.received[0].0;
    // Somebody who claims to be there, and cannot hear what is answered.
    let hello = Client::of_key("lab.dev1", NEW, 1_152, net.now).pump();
    net.give(at(1), &hello[0]);
    net.say(1, b"two");
    assert_eq!(net.received.last().unwrap(), &(first, b"two".to_vec()));
    assert_eq!((net.sessions.held(), net.ended.len()), ((1, 1), 0));
    // The device has begun anew, while that is still there.
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    assert!(net.client(1).is_connected);
    assert_eq!(net.ended, [first]);
    net.say(1, b"three");
    assert_ne!(net.received.last().unwrap().0.session, first.session);
    net.sessions.send(&first, b"for who was there before", net.now);
    net.settle();
    assert!(net.client(1).received.is_empty());
}

#[test]
fn a_hello_of_somebody_else_stops_no_handshake_and_one_that_begins_anew_is_not_kept_waiting_long() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    net.begin(1, "lab.dev1", NEW);
    net.settle_first(4);
    let hello = Client::of_key("lab.dev1", NEW, 1_152, net.now).pump();
    net.give(at(1), &hello[0]);
    for _ in 0..8 {
        net.settle();
        net.pass(Duration::from_secs(1));
    }
    assert!(net.client(1).is_connected);
    net.begin(2, "lab.dev1", NEW);
    net.settle_first(4);
    net.begin(2, "lab.dev1", NEW);
    for _ in 0..15 {
        net.settle();
        net.pass(Duration::from_secs(1));
    }
    assert!(net.client(2).is_connected);
}

#[test]
fn who_comes_back_from_another_address_is_known_there() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    let moved = net.clients.remove(&at(1)).unwrap();
    net.clients.insert(at(2), moved);
    net.say(2, b"from elsewhere");
    assert!(net.received.is_empty() && !net.client(2).has_failed, "passed over in silence");
    net.begin(2, "lab.dev1", NEW);
    net.settle();
    net.say(2, b"hello");
    assert_eq!(net.received.len(), 1);
}

#[test]
fn what_is_no_record_of_a_session_harms_none() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    net.say(1, b"one");
    let out = net.traffic.1;
    for _ in 0..50 {
        net.give(at(1), &[0]);
    }
    // An alert and the end of a handshake that nobody has made.
    net.give(at(1), &record::alert(40));
    net.give(at(1), &[20, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1]);
    net.give(at(1), &[23, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1]);
    net.settle();
    assert_eq!(net.traffic.1, out, "not answered");
    net.say(1, b"two");
    assert_eq!((net.received.len(), net.ended.len()), (2, 0));
}

#[test]
fn a_session_bears_some_guesses_and_no_more() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    let guess = |number: u8| {
        let mut guess = vec![23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, number, 0, 24];
        guess.extend([number; 24]);
        guess
    };
    // Each record is one, however many come at once.
    let guesses: Vec<Vec<u8>> = (0..u8::try_from(LIMITS.unopened_max).unwrap()).map(guess).collect();
    for datagram in guesses.chunks(10) {
        net.give(at(1), &datagram.concat());
    }
    net.say(1, b"hello");
    assert_eq!((net.received.len(), net.ended.len()), (1, 0));
    net.give(at(1), &guess(200));
    net.settle();
    assert_eq!((net.ended.len(), net.client(1).is_closed), (1, true));
}

#[test]
fn nobody_gets_more_than_it_sent_before_it_is_known_to_be_there() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    let hello = Client::of_key("lab.dev1", NEW, 1_152, net.now).pump();
    for second in 0..40 {
        if second % 8 == 0 {
            net.give(at(1), &hello[0]);
        }
        net.settle();
        net.pass(Duration::from_secs(1));
    }
    let (bytes_in, bytes_out) = net.traffic;
    assert!(bytes_out > 0 && bytes_out <= bytes_in, "{bytes_out} bytes for {bytes_in}");
    net.pass(Duration::from_secs(30));
    assert_eq!(net.sessions.held(), (0, 0), "it is forgotten");
    assert!(net.sessions.slots.is_empty() && net.sessions.timers.is_empty());
}

#[test]
fn handshakes_of_those_who_are_not_there_make_room_first() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    // This one has shown that it is there, and waits.
    net.begin(1, "lab.dev1", NEW);
    net.settle_first(4);
    assert_eq!(net.sessions.held(), (0, 1));
    let hellos: Vec<_> = (0..1_000).map(|_| Client::of_key("lab.dev1", NEW, 1_152, net.now).pump()).collect();
    for (port, hello) in (1_000..).zip(&hellos) {
        net.give(at(port), &hello[0]);
        assert!(net.sessions.held().1 <= LIMITS.half_open_max);
        assert_eq!(net.sessions.slots.len(), net.sessions.half_open.len());
        net.settle();
    }
    for _ in 0..5 {
        net.pass(Duration::from_secs(1));
        net.settle();
    }
    assert!(net.client(1).is_connected);
    assert_eq!(net.sessions.counts().evicted, 997);
}

#[test]
fn handshakes_that_do_not_go_on_keep_nobody_out() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    for port in 10..30 {
        net.begin(port, "lab.dev1", NEW);
        net.settle_first(4);
    }
    assert_eq!((net.sessions.held().1, net.sessions.half_open.held()[0].0), (LIMITS.half_open_max, 0));
    net.begin(1, "lab.dev1", NEW);
    net.settle();
    assert!(net.client(1).is_connected);
}

#[test]
fn what_waits_in_handshakes_is_bounded() {
    const BYTES_MAX: usize = 256 * 1_024;
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    // Parts of messages that never become whole: empty ones in one datagram, and one that is long.
    let part = |kind, number, bytes: usize| {
        let length = u16::try_from(bytes).unwrap().to_be_bytes();
        let record = u16::try_from(bytes + 12).unwrap().to_be_bytes();
        let mut part = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, number, record[0], record[1]];
        part.extend([kind, 0, 16, 0, 0, number, 0, 0, 1, 0, length[0], length[1]]);
        part.extend(vec![number; bytes]);
        part
    };
    for (kind, is_proven) in [(16, true), (1, false)] {
        for port in 10..30 {
            net.begin(port, "lab.dev1", NEW);
            net.settle_first(if is_proven { 4 } else { 1 });
            for number in 3..9 {
                let parts: Vec<u8> = (0..6).flat_map(|_| part(kind, number, 0)).collect();
                net.give(at(port), &parts);
                net.give(at(port), &part(kind, number + 10, 1_024));
                let held = net.sessions.half_open.held();
                assert!(held.iter().all(|(_, bytes)| *bytes <= BYTES_MAX), "{held:?}");
            }
            net.clients.remove(&at(port));
            net.settle();
        }
        let held: usize = net.sessions.half_open.held().iter().map(|(_, bytes)| bytes).sum();
        let waiting = net.sessions.slots.values().flat_map(|slot| &slot.handshake).map(|h| h.waiting_bytes);
        assert_eq!(held, waiting.sum::<usize>());
        assert!(held > 0 && net.sessions.counts().evicted > 0);
        net.begin(1, "lab.dev1", NEW);
        net.settle();
        assert!(net.client(1).is_connected);
        net.clients.clear();
    }
    net.pass(Duration::from_secs(31));
    assert_eq!(net.sessions.half_open.held(), [(0, 0), (0, 0)]);
}

#[test]
fn a_part_of_the_network_begins_so_many_handshakes_in_a_second() {
    let limits = DtlsLimits { handshakes_per_second_max: NonZeroU32::new(3).unwrap(), half_open_max: 100, ..LIMITS };
    let mut net = Net::new(limits, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    for port in 1..=5 {
        net.begin(port, "lab.dev1", NEW);
    }
    net.settle();
    let connected = |net: &Net| net.clients.values().filter(|client| client.is_connected).count();
    assert_eq!((connected(&net), net.sessions.counts().refused), (3, 2));
    net.pass(Duration::from_secs(2));
    net.settle();
    assert_eq!(connected(&net), 5);
}

#[test]
fn the_session_that_is_used_least_lately_makes_room_and_a_silent_one_ends() {
    let mut net = Net::new(LIMITS, &Registrar::of(&[("lab.dev1", &[NEW], None)]), None);
    for port in 1..=8 {
        net.begin(port, "lab.dev1", NEW);
        net.settle();
        net.pass(Duration::from_secs(120));
    }
    net.say(1, b"still here");
    net.begin(9, "lab.dev1", NEW);
    net.settle();
    assert_eq!(net.sessions.held(), (8, 0));
    assert_eq!(net.ended.iter().map(|peer| peer.address.port()).collect::<Vec<_>>(), [2]);
    assert!(net.client(2).is_closed, "it is told so");
    net.pass(Duration::from_hours(24));
    net.say(1, b"still here");
    net.pass(Duration::from_hours(2));
    net.settle();
    assert_eq!(net.sessions.held(), (1, 0));
    net.pass(Duration::from_hours(24));
    assert!(net.sessions.slots.is_empty());
}

#[test]
fn who_loses_its_right_loses_its_session_after_a_last_word() {
    let registrar = Registrar::of(&[("lab.dev1", &[NEW, OLD], None), ("lab.dev2", &[b"another's"], None)]);
    let mut net = Net::new(LIMITS, &registrar, None);
    net.begin(1, "lab.dev1", OLD);
    net.begin(2, "lab.dev2", b"another's");
    net.settle();
    net.say(1, b"hello");
    let peer = net.received[0].0;
    registrar.replace(Registrar::table(2, &[("lab.dev1", &[NEW], None), ("lab.dev2", &[b"another's"], None)]));
    net.sessions.handle_grants(net.now);
    net.pass(Duration::ZERO);
    net.sessions.send(&peer, b"you may not any more", net.now);
    net.settle();
    assert_eq!((net.client(1).received.len(), net.client(1).is_closed), (1, false));
    net.pass(Duration::from_secs(1));
    net.settle();
    assert_eq!(net.ended, [peer]);
    assert!(net.client(1).is_closed && !net.client(2).is_closed);
}
