//! A client of CoAP over DTLS 1.2 with a shared key that does what a small device does and no more: what it offers beyond that,
//! servers would answer. Nothing is lost where it is used, so it sends nothing again.

use std::net::{Ipv4Addr, SocketAddr};

use aes::Aes128;
use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use aws_lc_rs::tls_prf::{P_SHA256, Secret};
use ccm::Ccm;
use ccm::aead::{AeadInOut as _, KeyInit as _};
use ccm::consts::{U8, U12};
use conformance::KEY_1;
use conformance::coap::Datagram;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{ANSWER_MAX, is_good};

const IDENTITY: &[u8] = b"lab.dev1";

/// Types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Types of handshake messages.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const SERVER_HELLO_DONE: u8 = 14;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const FINISHED: u8 = 20;

const RECORD_HEAD_BYTES: usize = 13;
const MESSAGE_HEAD_BYTES: usize = 12;
const VERSION: [u8; 2] = [0xfe, 0xfd];
const KEY_BYTES: usize = 16;
const IV_BYTES: usize = 4;
const NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 8;
const DATAGRAM_BYTES_MAX: usize = 2_048;

type Cipher = Ccm<Aes128, U8, U12>;

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// A handshake message in one fragment.
fn message(kind: u8, sequence: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = length(body);
    [&[kind, 0, high, low, 0, sequence, 0, 0, 0, 0, high, low], body].concat()
}

/// Epoch and sequence.
fn place(epoch: u8, sequence: u8) -> [u8; NONCE_BYTES] {
    [0, epoch, 0, 0, 0, 0, 0, sequence]
}

fn record(kind: u8, place: [u8; NONCE_BYTES], fragment: &[u8]) -> Vec<u8> {
    [&[kind], &VERSION[..], &place, &length(fragment), fragment].concat()
}

/// The records of a datagram: type, epoch with sequence, and fragment.
fn records(mut datagram: &[u8]) -> impl Iterator<Item = (u8, [u8; NONCE_BYTES], &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = datagram.split_first_chunk::<RECORD_HEAD_BYTES>()?;
        let [kind, _, _, place @ .., l0, l1] = *head;
        let (fragment, rest) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
        datagram = rest;
        Some((kind, place, fragment))
    })
}

fn hello(random: &[u8], cookie: &[u8]) -> Vec<u8> {
    let cookie_bytes = [u8::try_from(cookie.len()).unwrap_or(u8::MAX)];
    // One suite, no compression, the extended master secret.
    let rest = [0, 2, 0xc0, 0xa8, 1, 0, 0, 4, 0, 23, 0, 0];
    let body = [&VERSION[..], random, &[0], &cookie_bytes, cookie, &rest].concat();
    message(CLIENT_HELLO, u8::from(!cookie.is_empty()), &body)
}

/// One direction of a session.
struct Direction {
    cipher: Cipher,
    iv: [u8; IV_BYTES],
}

impl Direction {
    fn new(key: &[u8], iv: &[u8]) -> Result<Self> {
        Ok(Self { cipher: Cipher::new_from_slice(key).context("a key")?, iv: iv.try_into()? })
    }

    fn nonce(&self, explicit: [u8; NONCE_BYTES]) -> Result<[u8; IV_BYTES + NONCE_BYTES]> {
        Ok([&self.iv[..], &explicit].concat().as_slice().try_into()?)
    }

    //= RFC6655 3
    fn seal(&self, kind: u8, place: [u8; NONCE_BYTES], plain: &[u8]) -> Result<Vec<u8>> {
        let additional = [&place[..], &[kind], &VERSION, &length(plain)].concat();
        let (mut sealed, nonce) = (plain.to_vec(), self.nonce(place)?);
        let tag = self.cipher.encrypt_inout_detached(&nonce.into(), &additional, sealed.as_mut_slice().into());
        let tag = tag.ok().context("sealing")?;
        Ok(record(kind, place, &[&place[..], &sealed, &tag].concat()))
    }

    fn open(&self, kind: u8, place: [u8; NONCE_BYTES], fragment: &[u8]) -> Result<Vec<u8>> {
        let (explicit, sealed) = fragment.split_first_chunk::<NONCE_BYTES>().context("no nonce")?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>().context("no tag")?;
        let additional = [&place[..], &[kind], &VERSION, &length(sealed)].concat();
        let (mut plain, nonce) = (sealed.to_vec(), self.nonce(*explicit)?);
        let opened =
            self.cipher.decrypt_inout_detached(&nonce.into(), &additional, plain.as_mut_slice().into(), &(*tag).into());
        opened.ok().context("opening")?;
        Ok(plain)
    }
}

/// Both directions, and what shows that the client has the key.
struct Keys {
    from_client: Direction,
    from_server: Direction,
    finished: Vec<u8>,
}

impl Keys {
    /// Of what was said up to the key exchange, and the randoms of the server and of the client.
    //= RFC4279 2
    //= RFC7627 4
    fn new(transcript: &[u8], randoms: &[u8]) -> Result<Self> {
        let (key, bytes) = (KEY_1.as_bytes(), length(KEY_1.as_bytes()));
        let premaster = [&bytes[..], &vec![0; key.len()], &bytes, key].concat();
        let hash = digest(&SHA256, transcript);
        let premaster = Secret::new(&P_SHA256, &premaster)?;
        let master = premaster.derive(b"extended master secret", hash.as_ref(), 48)?;
        let finished = Secret::new(&P_SHA256, master.as_ref())?.derive(b"client finished", hash.as_ref(), 12)?;
        let block = master.derive(b"key expansion", randoms, 2 * (KEY_BYTES + IV_BYTES))?;
        let (keys, ivs) = block.as_ref().split_at(2 * KEY_BYTES);
        Ok(Self {
            from_client: Direction::new(&keys[..KEY_BYTES], &ivs[..IV_BYTES])?,
            from_server: Direction::new(&keys[KEY_BYTES..], &ivs[IV_BYTES..])?,
            finished: finished.as_ref().to_vec(),
        })
    }
}

async fn receive<'a>(socket: &UdpSocket, room: &'a mut [u8]) -> Result<&'a [u8]> {
    let count = timeout(ANSWER_MAX, socket.recv(room)).await.context("nothing comes")??;
    Ok(&room[..count])
}

/// The handshake messages of a datagram that are not encrypted. What is, is of who had this port before.
fn handshake(datagram: &[u8]) -> Vec<u8> {
    let messages = records(datagram).filter(|(kind, place, _)| *kind == HANDSHAKE && place[1] == 0);
    messages.flat_map(|(_, _, fragment)| fragment.to_vec()).collect()
}

/// The type of the last of these messages.
fn last(mut messages: &[u8]) -> Option<u8> {
    let mut last = None;
    while let [kind, _, high, low, ..] = messages {
        last = Some(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        messages = messages.get(MESSAGE_HEAD_BYTES + length..).unwrap_or_default();
    }
    last
}

/// The messages of the next datagram that begins with one of this type.
async fn plain(socket: &UdpSocket, room: &mut [u8], wanted: u8) -> Result<Vec<u8>> {
    loop {
        let messages = handshake(receive(socket, room).await?);
        if messages.first() == Some(&wanted) {
            return Ok(messages);
        }
    }
}

/// A client with a port and a session of its own.
pub(super) struct Client {
    socket: UdpSocket,
    keys: Keys,
    sequence: u8,
}

impl Client {
    /// Makes a handshake.
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(address).await?;
        let (mut room, mut random) = ([0; DATAGRAM_BYTES_MAX], [0; 32]);
        rand::fill(&mut random)?;
        socket.send(&record(HANDSHAKE, place(0, 0), &hello(&random, &[]))).await?;
        let asked = plain(&socket, &mut room, HELLO_VERIFY_REQUEST).await?;
        // Behind its length, behind a version.
        let cookie = asked.get(MESSAGE_HEAD_BYTES + 3..).context("no cookie")?;
        let mut transcript = hello(&random, cookie);
        socket.send(&record(HANDSHAKE, place(0, 1), &transcript)).await?;
        let mut flight = plain(&socket, &mut room, SERVER_HELLO).await?;
        let server_random =
            flight.get(MESSAGE_HEAD_BYTES + 2..).and_then(|rest| rest.get(..32)).context("no random")?.to_vec();
        while last(&flight) != Some(SERVER_HELLO_DONE) {
            flight.extend(handshake(receive(&socket, &mut room).await?));
        }
        transcript.extend(&flight);
        let exchange = message(CLIENT_KEY_EXCHANGE, 2, &[&length(IDENTITY)[..], IDENTITY].concat());
        transcript.extend(&exchange);
        let keys = Keys::new(&transcript, &[&server_random[..], &random].concat())?;
        let finished = keys.from_client.seal(HANDSHAKE, place(1, 0), &message(FINISHED, 3, &keys.finished))?;
        let exchange = record(HANDSHAKE, place(0, 2), &exchange);
        let change = record(CHANGE_CIPHER_SPEC, place(0, 3), &[1]);
        socket.send(&[exchange, change, finished].concat()).await?;
        let mut client = Self { socket, keys, sequence: 1 };
        let finished = client.next(HANDSHAKE).await.context("the end of the handshake")?;
        ensure!(finished.first() == Some(&FINISHED), "not the end of the handshake");
        Ok(client)
    }

    /// Asks, and waits for a good answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.say(APPLICATION_DATA, request).await?;
        let answer = self.next(APPLICATION_DATA).await?;
        ensure!(is_good(&answer), "{:?}", Datagram::parse(&answer));
        Ok(())
    }

    /// Takes its leave.
    pub(super) async fn leave(mut self) -> Result<()> {
        self.say(ALERT, &[1, 0]).await
    }

    async fn say(&mut self, kind: u8, plain: &[u8]) -> Result<()> {
        self.socket.send(&self.keys.from_client.seal(kind, place(1, self.sequence), plain)?).await?;
        self.sequence += 1;
        Ok(())
    }

    /// What comes next of this type in the session.
    async fn next(&mut self, wanted: u8) -> Result<Vec<u8>> {
        let mut room = [0; DATAGRAM_BYTES_MAX];
        loop {
            for (kind, place, fragment) in records(receive(&self.socket, &mut room).await?) {
                ensure!(kind != ALERT, "the server ends it");
                if kind == wanted && place[1] == 1 {
                    return self.keys.from_server.open(kind, place, fragment);
                }
            }
        }
    }
}
