//! Which of several keys a client has: a Thing whose key is being replaced has two for a while, and a handshake names the
//! Thing alone.
//!
//! What went back and forth is kept until the client's last flight is here. Its Finished is encrypted under keys that
//! follow from the shared key and from that; so each key is tried on it, before the handshake goes on with the one that fits.

use std::collections::BTreeMap;

use aes::Aes128;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::tls_prf::{P_SHA256, Secret};
use bytes::Bytes;
use ccm::Ccm;
use ccm::aead::{AeadInOut as _, KeyInit as _};
use ccm::consts::{U8, U12};

use super::record::{
    CLIENT_HELLO, CLIENT_KEY_EXCHANGE, Fragment, HANDSHAKE, HELLO_VERIFY_REQUEST, MESSAGE_HEADER_BYTES, records,
};

/// Bytes that are kept of one handshake, of one message, and messages: with shared keys a whole one has a few hundred bytes in
/// seven messages.
const BYTES_MAX: usize = 4_096;
const MESSAGE_BYTES_MAX: usize = 2_048;
const MESSAGES_MAX: usize = 16;
const MASTER_SECRET_BYTES: usize = 48;
const KEY_BYTES: usize = 16;
const IV_BYTES: usize = 4;
const EXPLICIT_NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 8;
const RANDOM_BYTES: usize = 32;

/// What went back and forth.
#[derive(Debug, Default)]
pub(super) struct Flights {
    from_client: Vec<Bytes>,
    from_server: Vec<Bytes>,
    bytes: usize,
    /// Whether some of the message is here that says who the client is.
    is_said: bool,
}

/// What a look for the key has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The client's Finished is not here yet.
    Early,
    /// The one at this place fits.
    Fits(usize),
    /// None fits.
    Foreign,
}

/// A handshake message, as far as it is here.
struct Message {
    kind: u8,
    body: Vec<u8>,
    is_here: Vec<bool>,
}

type Messages = BTreeMap<u16, Message>;

impl Flights {
    /// Keeps a datagram of the client, while there is room; who the client says it is, when it has said so.
    pub(super) fn receive(&mut self, datagram: Bytes) -> Option<Vec<u8>> {
        let fragments = records(&datagram).flat_map(|record| record.fragments());
        let tells_more = fragments.into_iter().any(|fragment| fragment.kind == CLIENT_KEY_EXCHANGE);
        if !self.has_room_for(&datagram) {
            return None;
        }
        self.from_client.push(datagram);
        self.is_said |= tells_more;
        // Whoever it is, it may have to be found out with what comes after it.
        if self.is_said { self.identity() } else { None }
    }

    /// Keeps one of the server.
    pub(super) fn send(&mut self, datagram: Bytes) {
        if self.has_room_for(&datagram) {
            self.from_server.push(datagram);
        }
    }

    fn has_room_for(&mut self, datagram: &[u8]) -> bool {
        self.bytes += datagram.len();
        self.bytes <= BYTES_MAX
    }

    //= RFC4279 2
    fn identity(&self) -> Option<Vec<u8>> {
        let messages = messages(&self.from_client);
        let exchange = messages.into_values().find(|message| message.kind == CLIENT_KEY_EXCHANGE)?;
        let body = exchange.whole()?;
        let (length, rest) = body.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*length))).map(<[u8]>::to_vec)
    }

    /// Which of these keys the client has.
    pub(super) fn try_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Trial {
        let finished = self.from_client.iter().flat_map(|datagram| records(datagram));
        let finished = finished.into_iter().find(|record| record.epoch == 1 && record.content_type == HANDSHAKE);
        let Some((finished, exchanged)) = finished.zip(self.exchanged()) else { return Trial::Early };
        let fits = |key| opens(key, &exchanged, &finished.sequence, finished.fragment).is_some();
        keys.into_iter().position(fits).map_or(Trial::Foreign, Trial::Fits)
    }

    /// What the keys of the session follow from, beside the shared one.
    fn exchanged(&self) -> Option<Exchanged> {
        let (client, server) = (messages(&self.from_client), messages(&self.from_server));
        let (hello_at, hello) = client.iter().rfind(|(_, message)| message.kind == CLIENT_HELLO)?;
        let (exchange_at, exchange) = client.iter().find(|(_, message)| message.kind == CLIENT_KEY_EXCHANGE)?;
        let mut transcript = hello.as_hashed(*hello_at)?;
        let of_server = || server.iter().filter(|(_, message)| message.kind != HELLO_VERIFY_REQUEST);
        for (at, message) in of_server() {
            transcript.extend(message.as_hashed(*at)?);
        }
        transcript.extend(exchange.as_hashed(*exchange_at)?);
        let random = |message: &Message| Some(message.whole()?.get(2..2 + RANDOM_BYTES)?.to_vec());
        let (_, server_hello) = of_server().next()?;
        let randoms = [random(server_hello)?, random(hello)?].concat();
        Some(Exchanged { session_hash: digest(&SHA256, &transcript).as_ref().to_vec(), randoms })
    }
}

struct Exchanged {
    session_hash: Vec<u8>,
    /// The server's, then the client's.
    randoms: Vec<u8>,
}

impl Message {
    fn take(&mut self, fragment: &Fragment<'_>) {
        if fragment.kind == self.kind && fragment.length == self.body.len() {
            let span = fragment.offset..fragment.offset + fragment.bytes.len();
            self.body[span.clone()].copy_from_slice(fragment.bytes);
            self.is_here[span].fill(true);
        }
    }

    fn whole(&self) -> Option<&[u8]> {
        self.is_here.iter().all(|is_here| *is_here).then_some(&self.body)
    }

    /// As it is hashed: as if it had come in one piece.
    //= RFC6347 4.2.6
    fn as_hashed(&self, sequence: u16) -> Option<Vec<u8>> {
        let body = self.whole()?;
        let [_, l0, l1, l2] = u32::try_from(body.len()).ok()?.to_be_bytes();
        let [s0, s1] = sequence.to_be_bytes();
        let header: [u8; MESSAGE_HEADER_BYTES] = [self.kind, l0, l1, l2, s0, s1, 0, 0, 0, l0, l1, l2];
        Some([&header, body].concat())
    }
}

fn messages(datagrams: &[Bytes]) -> Messages {
    let mut messages = Messages::new();
    let fragments = datagrams.iter().flat_map(|datagram| records(datagram)).flat_map(|record| record.fragments());
    for fragment in fragments.filter(|fragment| fragment.length <= MESSAGE_BYTES_MAX) {
        if messages.len() >= MESSAGES_MAX && !messages.contains_key(&fragment.sequence) {
            continue;
        }
        let message = messages.entry(fragment.sequence).or_insert_with(|| Message {
            kind: fragment.kind,
            body: vec![0; fragment.length],
            is_here: vec![false; fragment.length],
        });
        message.take(&fragment);
    }
    messages
}

/// Whether the record opens under what follows from the key.
//= RFC4279 2
//= RFC7627 4
//= RFC6655 3
fn opens(key: &[u8], exchanged: &Exchanged, sequence: &[u8; 8], fragment: &[u8]) -> Option<()> {
    let length = u16::try_from(key.len()).ok()?.to_be_bytes();
    let premaster = [&length[..], &vec![0; key.len()], &length[..], key].concat();
    let premaster = Secret::new(&P_SHA256, &premaster).ok()?;
    let master = premaster.derive(b"extended master secret", &exchanged.session_hash, MASTER_SECRET_BYTES).ok()?;
    let block = 2 * (KEY_BYTES + IV_BYTES);
    let block = master.derive(b"key expansion", &exchanged.randoms, block).ok()?;
    let block = block.as_ref();
    let (write_key, write_iv) = (&block[..KEY_BYTES], &block[2 * KEY_BYTES..][..IV_BYTES]);
    let (explicit, sealed) = fragment.split_at_checked(EXPLICIT_NONCE_BYTES)?;
    let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
    let nonce: [u8; IV_BYTES + EXPLICIT_NONCE_BYTES] = [write_iv, explicit].concat().try_into().ok()?;
    let plain_length = u16::try_from(sealed.len()).ok()?.to_be_bytes();
    let additional = [&sequence[..], &[HANDSHAKE, 0xFE, 0xFD], &plain_length].concat();
    let cipher = Ccm::<Aes128, U8, U12>::new_from_slice(write_key).ok()?;
    let tag = <[u8; TAG_BYTES]>::try_from(tag).ok()?;
    let mut plain = sealed.to_vec();
    cipher.decrypt_inout_detached(&nonce.into(), &additional, plain.as_mut_slice().into(), &tag.into()).ok()
}
