//! CoAP datagram by datagram, as a client that says what no library would.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::DEADLINE;

/// The types of messages: to be acknowledged.
pub const CON: u8 = 0;
/// Not to be.
pub const NON: u8 = 1;
/// An acknowledgement.
pub const ACK: u8 = 2;
/// A reset.
pub const RST: u8 = 3;

/// Codes, as they are sent: a GET.
pub const GET: u8 = 0x01;
/// A POST.
pub const POST: u8 = 0x02;
/// A PUT.
pub const PUT: u8 = 0x03;
/// A DELETE.
pub const DELETE: u8 = 0x04;
/// A FETCH.
pub const FETCH: u8 = 0x05;

/// Numbers of options.
pub const ETAG: u16 = 4;
/// Of Observe.
pub const OBSERVE: u16 = 6;
/// Of Uri-Path.
pub const URI_PATH: u16 = 11;
/// Of Content-Format.
pub const CONTENT_FORMAT: u16 = 12;
/// Of Max-Age.
pub const MAX_AGE: u16 = 14;
/// Of Uri-Query.
pub const URI_QUERY: u16 = 15;
/// Of Accept.
pub const ACCEPT: u16 = 17;
/// Of Block2.
pub const BLOCK2: u16 = 23;
/// Of Block1.
pub const BLOCK1: u16 = 27;
/// Of Size2.
pub const SIZE2: u16 = 28;
/// Of Proxy-Uri.
pub const PROXY_URI: u16 = 35;
/// Of Size1.
pub const SIZE1: u16 = 60;
/// Of Echo.
pub const ECHO: u16 = 252;
/// Of No-Response.
pub const NO_RESPONSE: u16 = 258;

/// Bytes of the longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// One of the types.
    pub kind: u8,
    /// Class and detail.
    pub code: u8,
    /// Its name to those who exchange it.
    pub id: u16,
    /// The name of what was asked.
    pub token: Vec<u8>,
    /// In their order.
    pub options: Vec<(u16, Vec<u8>)>,
    /// What follows the marker.
    pub payload: Vec<u8>,
}

/// A number as options hold them.
#[must_use]
pub fn uint(number: u32) -> Vec<u8> {
    number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// A path and a query of a URL without anything encoded: each level and each argument is an option.
#[must_use]
pub fn options(target: &str) -> Vec<(u16, Vec<u8>)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let of = |number, text: &str, separator| -> Vec<(u16, Vec<u8>)> {
        let parts = text.split(separator).filter(|part| !part.is_empty());
        parts.map(|part| (number, part.as_bytes().to_vec())).collect()
    };
    [of(URI_PATH, path, '/'), of(URI_QUERY, query, '&')].concat()
}

/// The nibble that says a number, and the bytes that it takes beside.
fn extended(number: u16) -> (u8, Vec<u8>) {
    match number {
        0..=12 => (u8::try_from(number).unwrap(), vec![]),
        13..=268 => (13, vec![u8::try_from(number - 13).unwrap()]),
        269.. => (14, (number - 269).to_be_bytes().to_vec()),
    }
}

/// The number that a nibble and what follows it say.
fn shortened(nibble: u8, rest: &mut &[u8]) -> Result<u16> {
    let bytes = match nibble {
        0..=12 => return Ok(nibble.into()),
        13 => 1,
        14 => 2,
        _ => anyhow::bail!("an option with a reserved nibble"),
    };
    let (number, left) = rest.split_at_checked(bytes).context("an option that is cut off")?;
    *rest = left;
    Ok(match *number {
        [byte] => u16::from(byte) + 13,
        [high, low] => u16::from_be_bytes([high, low]).checked_add(269).context("a number that is too large")?,
        _ => unreachable!("one or two"),
    })
}

impl Datagram {
    /// A message without options or payload.
    #[must_use]
    pub fn new(kind: u8, code: u8, id: u16, token: &[u8]) -> Self {
        Self { kind, code, id, token: token.to_vec(), options: vec![], payload: vec![] }
    }

    /// With the options of this path and query.
    #[must_use]
    pub fn to(mut self, target: &str) -> Self {
        self.options.extend(options(target));
        self
    }

    /// With one more option.
    #[must_use]
    pub fn with(mut self, number: u16, value: impl AsRef<[u8]>) -> Self {
        self.options.push((number, value.as_ref().to_vec()));
        self
    }

    /// With this payload.
    #[must_use]
    pub fn carrying(self, payload: impl AsRef<[u8]>) -> Self {
        Self { payload: payload.as_ref().to_vec(), ..self }
    }

    /// As it is sent; options in the order of their numbers.
    ///
    /// # Panics
    /// When it says more than it can.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x40 | self.kind << 4 | u8::try_from(self.token.len()).unwrap(), self.code];
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(&self.token);
        let mut options = self.options.clone();
        options.sort_by_key(|(number, _)| *number);
        let mut last = 0;
        for (number, value) in options {
            let (delta, more) = extended(number - last);
            let (length, longer) = extended(u16::try_from(value.len()).unwrap());
            bytes.push(delta << 4 | length);
            bytes.extend([more, longer, value].concat());
            last = number;
        }
        if !self.payload.is_empty() {
            bytes.push(0xff);
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// What these bytes say.
    ///
    /// # Errors
    /// When they are no message.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (head, mut rest) = bytes.split_first_chunk::<4>().context("no header")?;
        ensure!(head[0] >> 6 == 1, "of another version");
        let (token, left) = rest.split_at_checked(usize::from(head[0] & 15)).context("no token")?;
        rest = left;
        let id = u16::from_be_bytes([head[2], head[3]]);
        let mut message = Self::new(head[0] >> 4 & 3, head[1], id, token);
        let mut number = 0_u16;
        while let Some((first, left)) = rest.split_first() {
            rest = left;
            if *first == 0xff {
                ensure!(!rest.is_empty(), "a marker and no payload");
                message.payload = rest.to_vec();
                break;
            }
            number = number.checked_add(shortened(first >> 4, &mut rest)?).context("a number that is too large")?;
            let length = shortened(first & 15, &mut rest)?;
            let (value, left) = rest.split_at_checked(length.into()).context("an option that is cut off")?;
            rest = left;
            message.options.push((number, value.to_vec()));
        }
        Ok(message)
    }

    /// The value of an option, if there is one.
    #[must_use]
    pub fn option(&self, number: u16) -> Option<&[u8]> {
        self.options.iter().find(|(of, _)| *of == number).map(|(_, value)| value.as_slice())
    }

    /// The same as a number.
    #[must_use]
    pub fn number(&self, number: u16) -> Option<u32> {
        self.option(number).map(|value| value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Its code as people write it.
    #[must_use]
    pub fn code(&self) -> String {
        format!("{}.{:02}", self.code >> 5, self.code & 31)
    }

    /// What it carries, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// A client with a port of its own.
pub struct Client {
    socket: UdpSocket,
    last: u16,
}

impl Client {
    /// One that speaks to this address, and hears nobody else.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let own = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, last: 0 }
    }

    /// Where it is.
    ///
    /// # Panics
    /// When the socket is gone.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A message with a name, and a token where it asks for something, that it has not used yet.
    pub fn message(&mut self, kind: u8, code: u8) -> Datagram {
        self.last = self.last.wrapping_add(1);
        let token = if code == 0 { vec![] } else { self.last.to_be_bytes().to_vec() };
        Datagram::new(kind, code, self.last, &token)
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the server's port is closed.
    pub fn say(&self, bytes: &[u8]) {
        self.socket.send(bytes).unwrap();
    }

    /// The next message, which is not acknowledged.
    ///
    /// # Errors
    /// When none comes within the deadline, or what comes is none.
    pub fn read(&self) -> Result<Datagram> {
        self.read_within(DEADLINE)?.with_context(|| format!("no message within {DEADLINE:?}"))
    }

    /// The next message, if there is one so soon.
    ///
    /// # Errors
    /// When what comes is none.
    pub fn read_within(&self, span: Duration) -> Result<Option<Datagram>> {
        self.socket.set_read_timeout(Some(span))?;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        match self.socket.recv(&mut buffer) {
            Ok(count) => Datagram::parse(&buffer[..count]).map(Some),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Acknowledges a message that is to be.
    pub fn acknowledge(&self, message: &Datagram) {
        if message.kind == CON {
            self.say(&Datagram::new(ACK, 0, message.id, &[]).bytes());
        }
    }

    /// Says that it does not know what a message is of.
    pub fn reset(&self, message: &Datagram) {
        self.say(&Datagram::new(RST, 0, message.id, &[]).bytes());
    }

    /// The next message with this token, acknowledged; copies of others are too.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn told(&self, token: &[u8]) -> Result<Datagram> {
        loop {
            let message = self.read()?;
            self.acknowledge(&message);
            if message.code != 0 && message.token == token {
                return Ok(message);
            }
        }
    }

    /// Asks, and returns the response, or the reset, or the empty acknowledgement where no response is wanted. A response
    /// that comes for itself is acknowledged.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn ask(&self, request: &Datagram) -> Result<Datagram> {
        self.say(&request.bytes());
        let deadline = Instant::now() + DEADLINE;
        loop {
            let message = self.read()?;
            self.acknowledge(&message);
            let is_of_it = message.id == request.id && matches!(message.kind, ACK | RST);
            let is_last = is_of_it && request.option(NO_RESPONSE).is_some() || message.kind == RST;
            if (is_of_it && is_last) || (message.code != 0 && message.token == request.token) {
                return Ok(message);
            }
            ensure!(Instant::now() < deadline, "no response to {request:?}");
        }
    }

    /// The same where datagrams may be lost: it is said again until there is a response, which is returned.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn ask_again(&self, request: &Datagram, again: Duration) -> Result<Datagram> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            self.say(&request.bytes());
            while let Some(message) = self.read_within(again)? {
                self.acknowledge(&message);
                if message.code != 0 && message.token == request.token {
                    return Ok(message);
                }
            }
        }
        anyhow::bail!("no response to {request:?}")
    }

    /// Observes, and returns the first answer and the token.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn observe(&mut self, target: &str) -> Result<(Datagram, Vec<u8>)> {
        let request = self.message(CON, GET).to(target).with(OBSERVE, []);
        Ok((self.ask(&request)?, request.token))
    }

    /// The whole body of what is asked for by a GET, block by block, and its first block.
    ///
    /// # Errors
    /// As [`Client::read`], or when blocks do not fit.
    pub fn fetch(&mut self, target: &str) -> Result<(Datagram, Vec<u8>)> {
        let request = self.message(CON, GET).to(target);
        let first = self.ask(&request)?;
        let mut body = first.payload.clone();
        let mut last = first.clone();
        while last.number(BLOCK2).is_some_and(|block| block & 8 != 0) {
            let block = last.number(BLOCK2).context("a block")?;
            let bytes = 16_u32 << (block & 7);
            let next = u32::try_from(body.len())? / bytes;
            let request = self.message(CON, GET).to(target).with(BLOCK2, uint(next << 4 | block & 7));
            last = self.ask(&request)?;
            ensure!(last.option(ETAG) == first.option(ETAG), "another body: {last:?}");
            body.extend(&last.payload);
        }
        Ok((first, body))
    }
}
