//! A client of WebSocket that says what it is told to, right or wrong, and reads frames as they come.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::DEADLINE;

/// First bytes of whole messages of text and of bytes, and of control frames.
pub const TEXT: u8 = 0x81;
/// Of bytes.
pub const BINARY: u8 = 0x82;
/// A close frame.
pub const CLOSE: u8 = 0x88;
/// A ping.
pub const PING: u8 = 0x89;
/// A pong.
pub const PONG: u8 = 0x8a;

/// What a client masks by; any key is as good for a test.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// A frame as a client sends it.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.push(0x80 | short),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its first byte: FIN and opcode.
    pub first: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code and the reason of a close frame.
    #[must_use]
    pub fn close(&self) -> Option<(u16, String)> {
        let (code, reason) = self.payload.split_first_chunk::<2>().filter(|_| self.first == CLOSE)?;
        Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
    }

    /// What it carries, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// An open socket.
pub struct Socket {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A request for a socket, without its end; of version 13 where the headers say no other.
#[must_use]
pub fn handshake(path: &str, headers: &str) -> String {
    let mut more: String = headers.lines().map(|line| format!("{}\r\n", line.trim())).collect();
    if !headers.contains("Sec-WebSocket-Version") {
        more.push_str("Sec-WebSocket-Version: 13\r\n");
    }
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\n{more}Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
}

impl Socket {
    /// Asks for a socket with more headers, a line each; nothing where the answer is no 101. Also returns the whole head of
    /// the answer, and the body of a refusal.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn ask(address: SocketAddr, path: &str, headers: &str) -> Result<(Option<Self>, String)> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(format!("{}\r\n", handshake(path, headers)).as_bytes())?;
        let mut input = Vec::new();
        let head = loop {
            if let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break input.drain(..end + 4).collect::<Vec<u8>>();
            }
            read_more(&mut stream, &mut input)?;
        };
        let mut answer = String::from_utf8_lossy(&head).into_owned();
        if answer.starts_with("HTTP/1.1 101 ") {
            return Ok((Some(Self { stream, input }), answer));
        }
        let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0").parse()?;
        while input.len() < length {
            read_more(&mut stream, &mut input)?;
        }
        answer.push_str(&String::from_utf8_lossy(&input));
        Ok((None, answer))
    }

    /// Opens one with this key.
    ///
    /// # Errors
    /// When it is refused; says how.
    pub fn open(address: SocketAddr, path: &str, key: &str) -> Result<Self> {
        Self::open_with(address, path, key, "")
    }

    /// The same, offering a subprotocol.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_speaking(address: SocketAddr, path: &str, key: &str, protocol: &str) -> Result<Self> {
        Self::open_with(address, path, key, &format!("Sec-WebSocket-Protocol: {protocol}"))
    }

    fn open_with(address: SocketAddr, path: &str, key: &str, header: &str) -> Result<Self> {
        let (socket, answer) = Self::ask(address, path, &format!("Authorization: {key}\n{header}"))?;
        socket.context(answer)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn say(&mut self, first: u8, payload: impl AsRef<[u8]>) -> Result<()> {
        self.write(&frame(first, payload.as_ref()))
    }

    /// The next frame, whatever it is.
    ///
    /// # Errors
    /// When the connection ends or breaks before, or none comes within the deadline.
    pub fn read(&mut self) -> Result<Frame> {
        loop {
            if let Some((frame, bytes)) = parse(&self.input) {
                self.input.drain(..bytes);
                return Ok(frame);
            }
            read_more(&mut self.stream, &mut self.input)?;
        }
    }

    /// The next frame that is no ping.
    ///
    /// # Errors
    /// As [`Socket::read`].
    pub fn message(&mut self) -> Result<Frame> {
        loop {
            let frame = self.read()?;
            if frame.first != PING {
                return Ok(frame);
            }
        }
    }

    /// Reads until the server closes, and answers it; its code and reason.
    ///
    /// # Errors
    /// When the connection ends without a close frame.
    pub fn closed(&mut self) -> Result<(u16, String)> {
        loop {
            let frame = self.read()?;
            if frame.first != CLOSE {
                continue;
            }
            let close = frame.close().context("a close frame without a code")?;
            // A server that failed the connection reads no more.
            let _ = self.say(CLOSE, &frame.payload);
            let mut rest = [0; 512];
            while matches!(self.stream.read(&mut rest), Ok(1..)) {}
            return Ok(close);
        }
    }

    /// Closes, and reads until the server has answered and ended the connection; its code.
    ///
    /// # Errors
    /// When it ends it without an answer.
    pub fn close(mut self) -> Result<u16> {
        self.say(CLOSE, 1000_u16.to_be_bytes())?;
        Ok(self.closed()?.0)
    }

    /// The connection below.
    #[must_use]
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 16_384];
    let count = stream.read(&mut buffer)?;
    if count == 0 {
        bail!("the server ended the connection");
    }
    input.extend_from_slice(&buffer[..count]);
    Ok(())
}

/// The frame that these bytes begin with, if it is whole, and how long it is.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (length, at) = match head[1] {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(at..at + length)?.to_vec();
    Some((Frame { first: head[0], payload }, at + length))
}

/// Waits until the connection is ended without a close frame.
///
/// # Errors
/// When there is one.
pub fn ends_without_a_word(mut socket: Socket) -> Result<()> {
    while let Ok(frame) = socket.read() {
        ensure!(frame.first != CLOSE, "it was closed: {frame:?}");
    }
    Ok(())
}
