//! What strangers cannot do over DTLS, whether they have read the standard or not: raw datagrams to a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conformance::coap::{CON, CONTENT_FORMAT, Datagram, POST};
use conformance::libcoap::{Libcoap, Observing, WITH_DTLS};
use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, Xorshift, until, until_within};

const PATH: &str = "channels/lab.telemetry/messages";
const HALF_OPEN: &str = "tidegate_coap_dtls_half_open";
const SESSIONS: &str = "tidegate_coap_dtls_sessions";
const RECEIVED: &str = r#"tidegate_coap_datagrams_total{direction="received"}"#;
/// What the README of the face says: `--coaps-half-open-max`, and what each handshake takes at most, in bytes.
const HALF_OPEN_MAX: u64 = 20_000;
const HALF_OPEN_BYTES_MAX: u64 = 8_000;
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// Types of handshake messages.
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// Bytes of the heads of a record and of a handshake message.
const RECORD_HEAD_BYTES: usize = 13;
const HEAD_BYTES: usize = RECORD_HEAD_BYTES + 12;

/// A ClientHello: the first, or the one that brings its cookie back.
//= RFC6347 4.2.1
fn hello(random: [u8; 32], cookie: &[u8]) -> Vec<u8> {
    // No session to go on with; the suite; no compression; the extended master secret.
    let cookie_bytes = [u8::try_from(cookie.len()).unwrap()];
    let rest: &[u8] = &[0, 2, 0xc0, 0xa8, 1, 0, 0, 4, 0, 23, 0, 0];
    let body = [&[0xfe, 0xfd], &random[..], &[0], &cookie_bytes, cookie, rest].concat();
    let length = u8::try_from(body.len()).unwrap();
    let sequence = u8::from(!cookie.is_empty());
    let message = [1, 0, 0, length, 0, sequence, 0, 0, 0, 0, 0, length];
    let record = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, sequence, 0, length + 12];
    [&record[..], &message, &body].concat()
}

/// One that has an address of its own and begins a handshake that it never ends.
struct Stranger {
    socket: UdpSocket,
    random: [u8; 32],
    sent: usize,
    got: usize,
}

impl Stranger {
    /// Neighbors of 256 are in one part of the network.
    fn at(address: u32, adapter: &Adapter) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::from_bits(0x7f01_0000 + address), 0)).unwrap();
        socket.connect(adapter.coaps()).unwrap();
        Self { socket, random: [0; 32], sent: 0, got: 0 }
    }

    fn begin(&mut self, number: u32) {
        self.random[..4].copy_from_slice(&number.to_be_bytes());
        self.say(&hello(self.random, &[]));
    }

    fn say(&mut self, datagram: &[u8]) {
        self.sent += self.socket.send(datagram).unwrap();
    }

    /// The next datagram that begins with a handshake message of this type.
    fn hear(&mut self, kind: u8) -> Vec<u8> {
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut room = [0; 2_048];
        loop {
            let count = self.socket.recv(&mut room).unwrap();
            self.got += count;
            if room[0] == 22 && room[RECORD_HEAD_BYTES] == kind {
                return room[..count].to_vec();
            }
        }
    }

    /// It gets its cookie, and that is all it gets, and less than it sent.
    fn cookie(&mut self) -> Vec<u8> {
        let told = self.hear(HELLO_VERIFY_REQUEST);
        let length = usize::from(told[HEAD_BYTES + 2]);
        told[HEAD_BYTES + 3..][..length].to_vec()
    }

    fn is_there(&mut self) {
        let cookie = self.cookie();
        self.say(&hello(self.random, &cookie));
    }

    /// What has come by now is heard.
    fn hear_all(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut room = [0; 2_048];
        while let Ok(count) = self.socket.recv(&mut room) {
            self.got += count;
        }
    }

    fn got_no_more_than_it_sent(&self) {
        assert!(self.got <= self.sent, "{} bytes for {}", self.got, self.sent);
    }
}

/// A device that observes over DTLS, and one that makes a session for each message.
struct Devices {
    publisher: Libcoap,
    observing: Observing,
    uri: String,
    published: usize,
}

impl Devices {
    fn new(adapter: &Adapter) -> Self {
        let uri = format!("coaps://{}/{PATH}/real", adapter.coaps());
        let observing = Libcoap::with_key(WITH_DTLS[0], "lab.dev2", KEY_2).observe(&["-w", "-s", "600"], &uri);
        until("it observes", || adapter.metric("tidegate_coap_observations").unwrap() == 1);
        Self { publisher: Libcoap::with_key(WITH_DTLS[0], "lab.dev1", KEY_1), observing, uri, published: 0 }
    }

    /// One message, from the one to the other.
    fn are_served(&mut self) {
        self.published += 1;
        let payload = self.published.to_string();
        assert_eq!(self.publisher.said(&["-m", "post", "-t", "50", "-e", &payload], &self.uri), "");
        assert_eq!(self.observing.line(), payload);
    }
}

/// So many are there at once.
const CROWD: u32 = 50;

/// Strangers that begin, of whom those that are there go on; the last of them.
fn come(adapter: &Adapter, numbers: std::ops::Range<u32>, are_there: bool) -> Vec<Stranger> {
    let mut crowd = vec![];
    for first in numbers.step_by(CROWD as usize) {
        crowd = (first..first + CROWD).map(|number| Stranger::at(number, adapter)).collect();
        (first..).zip(&mut crowd).for_each(|(number, stranger)| stranger.begin(number));
        if are_there {
            crowd.iter_mut().for_each(Stranger::is_there);
            crowd.iter_mut().for_each(|stranger| drop(stranger.hear(SERVER_HELLO)));
        } else {
            crowd.iter_mut().for_each(|stranger| drop(stranger.cookie()));
            crowd.iter().for_each(Stranger::got_no_more_than_it_sent);
        }
    }
    crowd
}

/// Says that it is over when it goes, a panic or not.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An address is only a claim until a cookie came back from there, and it costs nothing to be there and to say nothing more.
//= RFC6347 4.2.1
#[test]
fn handshakes_that_never_end_cost_what_is_said_and_devices_are_served_meanwhile() {
    const UNPROVEN: std::ops::Range<u32> = 1_000..51_000;
    const PROVEN: std::ops::Range<u32> = 51_000..71_000;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut devices = Devices::new(&adapter);
    devices.are_served();
    // What all share is there after the first ones.
    come(&adapter, 0..UNPROVEN.start, true);
    let (before, had) = (adapter.resident_kib().unwrap(), adapter.metric(HALF_OPEN).unwrap());
    let is_within = |what: &str| {
        let (after, half_open) = (adapter.resident_kib().unwrap(), adapter.metric(HALF_OPEN).unwrap());
        let held = after.saturating_sub(before);
        eprintln!("{what}: {held} KiB for {half_open} half-open handshakes, of which {had} were there before");
        assert!(half_open > HALF_OPEN_MAX / 2 && half_open <= HALF_OPEN_MAX, "{half_open}");
        assert!(held * 1_024 <= half_open * HALF_OPEN_BYTES_MAX, "{held} KiB for {half_open}");
    };
    let is_over = AtomicBool::new(false);
    let mut last = vec![];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                devices.are_served();
            }
        });
        let _over = Over(&is_over);
        last = come(&adapter, UNPROVEN, false);
        is_within("nobody is there");
        come(&adapter, PROVEN, true);
        is_within("those that are there are silent");
    });
    eprintln!("{} messages meanwhile", devices.published);
    until_within(HANDSHAKE_MAX + DEADLINE, "they are forgotten", || adapter.metric(HALF_OPEN).unwrap() == 0);
    for stranger in &mut last {
        stranger.hear_all();
        stranger.got_no_more_than_it_sent();
    }
    devices.are_served();
    // The publishers have taken their leave; who observes has not.
    until("one session is left", || adapter.metric(SESSIONS).unwrap() == 1);
}

/// A fragment of a handshake message whose turn comes later.
//= RFC6347 4.2.3
fn early(sequence: u8) -> Vec<u8> {
    const BYTES: u16 = 4_000;
    let [high, low] = BYTES.to_be_bytes();
    let [record_high, record_low] = (BYTES + 12).to_be_bytes();
    let record = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, sequence, record_high, record_low];
    let message = [11, 0, high, low, 0, sequence, 0, 0, 0, 0, high, low];
    [&record[..], &message, &[0; BYTES as usize]].concat()
}

/// What comes before its turn is kept, and not for ever more of it.
#[test]
fn a_handshake_keeps_no_more_than_is_said_of_what_comes_before_its_turn() {
    const STRANGERS: u32 = 500;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    come(&adapter, 0..500, true);
    let lines = adapter.log().lines().count();
    let (before, had) = (adapter.resident_kib().unwrap(), adapter.metric(HALF_OPEN).unwrap());
    let mut received = adapter.metric(RECEIVED).unwrap();
    for first in (500..500 + STRANGERS).step_by(CROWD as usize) {
        let mut crowd: Vec<_> = (first..first + CROWD).map(|number| Stranger::at(number, &adapter)).collect();
        for (number, stranger) in (first..).zip(&mut crowd) {
            stranger.begin(number);
            stranger.is_there();
            drop(stranger.hear(SERVER_HELLO));
            (4..32).for_each(|sequence| stranger.say(&early(sequence)));
        }
        received += u64::from(CROWD) * 30;
        until("they have arrived", || adapter.metric(RECEIVED).unwrap() >= received);
    }
    let held = adapter.resident_kib().unwrap().saturating_sub(before);
    let half_open = adapter.metric(HALF_OPEN).unwrap() - had;
    eprintln!("{held} KiB for {half_open} half-open handshakes");
    assert!(held * 1_024 <= u64::from(STRANGERS) * HALF_OPEN_BYTES_MAX, "{held} KiB for {half_open}");
    assert_eq!(adapter.log().lines().count(), lines, "{}", adapter.log());
}

/// What a client sent through here, as it was.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A port whose datagrams go on to `server` and back; what came there, and the socket that `server` sees.
fn tap(server: SocketAddr) -> (SocketAddr, Heard, UdpSocket) {
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    back.connect(server).unwrap();
    let (address, heard) = (front.local_addr().unwrap(), Heard::default());
    let (stray, to, from) = (back.try_clone().unwrap(), back.try_clone().unwrap(), front.try_clone().unwrap());
    let client = Arc::new(Mutex::new(None));
    let (known, record) = (Arc::clone(&client), Arc::clone(&heard));
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        while let Ok((count, peer)) = from.recv_from(&mut room) {
            *known.lock().unwrap() = Some(peer);
            record.lock().unwrap().push(room[..count].to_vec());
            // The server may be gone by then.
            let _ = to.send(&room[..count]);
        }
    });
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        while let Ok(count) = back.recv(&mut room) {
            if let Some(client) = *client.lock().unwrap() {
                // So may the client.
                let _ = front.send_to(&room[..count], client);
            }
        }
    });
    (address, heard, stray)
}

/// OpenSSL's own program, which says what it is told to over a session of DTLS.
struct Speaking {
    child: Child,
    said: u16,
}

impl Drop for Speaking {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Speaking {
    fn start(address: SocketAddr) -> Self {
        let key: String = KEY_1.bytes().map(|byte| format!("{byte:02x}")).collect();
        let child = Command::new("openssl")
            .args(["s_client", "-dtls1_2", "-quiet", "-nbio", "-psk_identity", "lab.dev1", "-psk", &key])
            .args(["-cipher", "PSK-AES128-CCM8:@SECLEVEL=0", "-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, said: 0 }
    }

    /// It publishes, in the session that it began with.
    fn is_served(&mut self) {
        self.said += 1;
        let post = Datagram::new(CON, POST, self.said, &[1]).to(&format!("{PATH}/a"));
        let post = post.with(CONTENT_FORMAT, [50]).carrying("[1]").bytes();
        self.child.stdin.as_mut().unwrap().write_all(&post).unwrap();
        let mut answer = [0; 64];
        let count = self.child.stdout.as_mut().unwrap().read(&mut answer).unwrap();
        let answer = Datagram::parse(&answer[..count]).unwrap();
        assert_eq!((answer.id, answer.code()), (self.said, "2.04".to_owned()));
    }
}

/// Something like what was heard.
fn garbled(random: &mut Xorshift, heard: &[Vec<u8>]) -> Vec<u8> {
    let mut any = || random.below(heard.len());
    let (one, other) = (&heard[any()], &heard[any()]);
    match random.below(6) {
        0 => one[..=random.below(one.len())].to_vec(),
        1 => [one.as_slice(), other].concat(),
        2 => random.mutated(&[one.as_slice(), other].concat()),
        3 => one.clone(),
        _ => random.mutated(one),
    }
}

#[test]
fn a_hundred_thousand_garbled_datagrams_change_nothing_for_a_session_beside_them() {
    const BATCHES: u32 = 200;
    /// Before it is seen whether they have arrived; the kernel holds as many.
    const BATCH: usize = 500;
    const SOURCES: u32 = 8;
    /// What an allocator keeps here and there.
    const NOISE_BYTES: u64 = 4 * 1_024 * 1_024;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (address, heard, stray) = tap(adapter.coaps());
    let mut speaking = Speaking::start(address);
    speaking.is_served();
    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() >= 4, "two hellos, a key and a message: {}", heard.len());
    let lines = adapter.log().lines().count();
    let mut random = Xorshift::default();
    let (mut sent, mut before) = (adapter.metric(RECEIVED).unwrap(), 0);
    for batch in 0..BATCHES {
        let mut sources: Vec<_> = (0..SOURCES).map(|number| Stranger::at(number * 256 + batch, &adapter)).collect();
        for (number, source) in (0..).zip(&mut sources) {
            // What follows is of the middle of a handshake, or of its beginning.
            source.begin(batch * SOURCES + number);
            if number % 4 > 0 {
                source.is_there();
                drop(source.hear(SERVER_HELLO));
                sent += 1;
            }
        }
        sent += u64::from(SOURCES);
        for _ in 0..BATCH {
            let datagram = garbled(&mut random, &heard);
            let from = random.below(sources.len() + 4);
            match sources.get_mut(from) {
                Some(source) => source.say(&datagram),
                None => drop(stray.send(&datagram).unwrap()),
            }
            sent += 1;
        }
        until("they have arrived", || adapter.metric(RECEIVED).unwrap() >= sent);
        if batch % 20 == 19 {
            speaking.is_served();
            sent += 1;
        }
        if batch == 40 {
            before = adapter.resident_kib().unwrap();
        }
    }
    let (held, half_open) =
        (adapter.resident_kib().unwrap().saturating_sub(before), adapter.metric(HALF_OPEN).unwrap());
    eprintln!("{held} KiB more with {half_open} half-open handshakes");
    assert!(held * 1_024 <= half_open * HALF_OPEN_BYTES_MAX + NOISE_BYTES, "{held} KiB for {half_open}");
    speaking.is_served();
    assert_eq!(adapter.metric(SESSIONS).unwrap(), 1);
    assert_eq!(adapter.log().lines().count(), lines, "{}", adapter.log());
}
