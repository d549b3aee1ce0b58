//! What strangers cannot do over CoAP, whatever addresses they say that they are at: raw datagrams to a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use conformance::coap::{BLOCK1, CON, CONTENT_FORMAT, Client, Datagram, GET, NON, OBSERVE, POST, uint};
use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, until};

const PATH: &str = "channels/lab.telemetry/messages";
const OBSERVATIONS: &str = "tidegate_coap_observations";
const JSON: u32 = 50;

/// One that has an address of its own, and only asks.
struct Stranger {
    socket: UdpSocket,
    /// What it says, and the codes of what it is to be told.
    said: Vec<(Datagram, &'static str)>,
    sent: usize,
    got: usize,
}

impl Stranger {
    fn saying(number: u32, adapter: &Adapter) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::from_bits(0x7f01_0000 + number), 0)).unwrap();
        socket.connect(adapter.coap()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let said = said(number);
        let sent = said.iter().map(|(message, _)| socket.send(&message.bytes()).unwrap()).sum();
        Self { socket, said, sent, got: 0 }
    }

    /// Each of its messages is answered, in whatever order.
    fn is_told(&mut self) {
        let mut awaited: Vec<_> = self.said.iter().map(|(message, code)| (message.token.clone(), *code)).collect();
        while !awaited.is_empty() {
            let told = self.hear();
            let at = awaited.iter().position(|(token, _)| *token == told.token).unwrap();
            assert_eq!(told.code(), awaited.swap_remove(at).1, "{told:?}");
        }
    }

    fn observes(&self) -> bool {
        self.said[0].0.option(OBSERVE).is_some() && self.said[0].1 == "2.05"
    }

    fn hear(&mut self) -> Datagram {
        let mut buffer = [0; 2_048];
        let count = self.socket.recv(&mut buffer).unwrap();
        self.got += count;
        assert!(self.got <= 3 * self.sent, "{} bytes for {}", self.got, self.sent);
        Datagram::parse(&buffer[..count]).unwrap()
    }

    /// What has come by now.
    fn hear_all(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut buffer = [0; 2_048];
        while let Ok(count) = self.socket.recv(&mut buffer) {
            self.got += count;
        }
    }
}

fn request(kind: u8, code: u8, id: u16, target: &str) -> Datagram {
    Datagram::new(kind, code, id, &id.to_be_bytes()).to(target)
}

/// What a stranger says, and the codes of what it is told. Half of them have stolen a key.
fn said(number: u32) -> Vec<(Datagram, &'static str)> {
    let guessed = format!("{PATH}/taken?auth=key-{number:06}-0123456789");
    let stolen = |key: &str| format!("{PATH}/taken?auth={key}");
    match number % 4 {
        0 => vec![(request(CON, POST, 1, &guessed).carrying([b' '; 200]), "4.01")],
        1 => {
            let first = request(CON, POST, 1, &stolen(KEY_1)).with(CONTENT_FORMAT, uint(JSON)).with(BLOCK1, uint(0x0a));
            let block = first.carrying([b' '; 64]);
            vec![(block, "2.31"), (request(NON, POST, 2, &guessed).carrying("1"), "4.01")]
        }
        2 => {
            let register = request(CON, GET, 1, &guessed).with(OBSERVE, []);
            let body = request(CON, POST, 3, &guessed).with(BLOCK1, uint(0x0a)).carrying([b' '; 64]);
            vec![(register, "4.01"), (request(NON, GET, 2, ".well-known/core"), "2.05"), (body, "4.01")]
        }
        _ => vec![(request(CON, GET, 1, &stolen(KEY_2)).with(OBSERVE, []), "2.05")],
    }
}

/// A device that publishes, and one that observes it.
struct Devices {
    publisher: Client,
    observer: Client,
    token: Vec<u8>,
    published: u32,
}

impl Devices {
    fn new(adapter: &Adapter) -> Self {
        let mut observer = Client::connect(adapter.coap());
        let (answer, token) = observer.observe(&format!("{PATH}/real?auth={KEY_2}")).unwrap();
        assert!(answer.option(OBSERVE).is_some(), "{answer:?}");
        Self { publisher: Client::connect(adapter.coap()), observer, token, published: 0 }
    }

    /// One message, from the one to the other.
    fn are_served(&mut self) {
        self.published += 1;
        let payload = self.published.to_string();
        let request = self.publisher.message(CON, POST).to(&format!("{PATH}/real?auth={KEY_1}"));
        let request = request.with(CONTENT_FORMAT, uint(JSON)).carrying(&payload);
        assert_eq!(self.publisher.ask(&request).unwrap().code(), "2.04");
        assert_eq!(self.observer.told(&self.token).unwrap().text(), payload);
    }
}

/// An address is only a claim, and nobody has to have the same one twice.
//= RFC7252 11.3
//= RFC9175 2.4
#[test]
fn a_hundred_thousand_strangers_cost_what_is_said_and_devices_are_served_meanwhile() {
    const STRANGERS: u32 = 100_000;
    /// So many are there at once.
    const CROWD: u32 = 50;
    /// What the README of the face says.
    const PEER_BYTES_MAX: u64 = 1_536;
    const OBSERVATION_BYTES_MAX: u64 = 3_072;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut devices = Devices::new(&adapter);
    let mut before = 0;
    let mut last = vec![];
    for crowd in 0..STRANGERS / CROWD {
        if crowd == 10 {
            before = adapter.resident_kib().unwrap();
        }
        last = (0..CROWD).map(|number| Stranger::saying(crowd * CROWD + number, &adapter)).collect();
        last.iter_mut().for_each(Stranger::is_told);
        if crowd % 10 == 0 {
            devices.are_served();
        }
    }
    let held = adapter.resident_kib().unwrap() - before;
    let (observations, peers) = (adapter.metric(OBSERVATIONS).unwrap(), adapter.metric("tidegate_coap_peers").unwrap());
    eprintln!("{held} KiB for {observations} observations of {peers} peers");
    let bytes_max = peers * PEER_BYTES_MAX + observations * OBSERVATION_BYTES_MAX;
    assert!(held * 1_024 <= bytes_max, "{held} KiB for {observations} observations of {peers} peers");
    // Whoever registered at an address that is not its own: what is published goes there no more than it paid for.
    assert_eq!(adapter.publish(&format!("{PATH}/taken"), KEY_1, "application/json", &[b' '; 900]).unwrap(), 202);
    last.retain(Stranger::observes);
    assert!(!last.is_empty());
    let answered: Vec<usize> = last.iter().map(|stranger| stranger.got).collect();
    until("those that are still there are told what they may be", || {
        last.iter_mut().for_each(Stranger::hear_all);
        last.iter().zip(&answered).all(|(stranger, before)| stranger.got > *before)
    });
    (0..100).for_each(|_| devices.are_served());
    for stranger in &mut last {
        stranger.hear_all();
        assert!(stranger.got <= 3 * stranger.sent, "{} bytes for {}", stranger.got, stranger.sent);
    }
}
