//! WebSocket beside a server of npm's `ws`, and beside the AMQP client alone: the same clients in the same run.
//!
//! The server of `ws` asks nobody for a key, keeps no queue for anybody and hands each frame to all other sockets, so it
//! stands beside the adapter with the broker in process.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use conformance::device::node;
use conformance::{Adapter, KEY_1, MANIFESTS};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::beside::{Publisher, WINDOW, bare, connect_rate, head, idle, row};
use crate::publish::PAYLOAD;

/// Messages of one publisher.
const MESSAGES: usize = 100_000;
/// Subscribers, and messages to each.
const FAN_OUT: (usize, usize) = (1_000, 200);
/// How long one question may take.
const QUESTION_MAX: Duration = Duration::from_secs(120);
/// What is read at once, at least, in bytes.
const READ_BYTES: usize = 4_096;
/// The first bytes of frames of text and of the end.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// A client has to have a mask, and this one serves as well as another.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The server of npm's `ws`, ended with this.
struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    /// On loopback, if there is Node.
    fn start() -> Result<Option<Self>> {
        let version = Command::new("node").arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            return Ok(None);
        }
        let mut script = node(concat!(env!("CARGO_MANIFEST_DIR"), "/ws-peer.js"));
        let child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut peer = Self { child, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut port = String::new();
        BufReader::new(peer.child.stdout.take().context("a pipe")?).read_line(&mut port)?;
        peer.address.set_port(port.trim().parse().context("the server of ws does not start")?);
        Ok(Some(peer))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How frames are spoken.
#[derive(Clone, Copy)]
enum Speech {
    /// A frame is a payload.
    Plain,
    /// A frame is an envelope: `tidegate.v1`.
    Answered,
}

impl Speech {
    /// Frames that are published, so many.
    fn window(self, count: usize) -> Vec<u8> {
        let payload = String::from_utf8_lossy(PAYLOAD);
        let frame = |id| match self {
            Self::Plain => frame(TEXT, PAYLOAD),
            Self::Answered => {
                let escaped = payload.replace('"', "\\\"");
                frame(TEXT, format!(r#"{{"type":"publish","id":{id},"payload":"{escaped}"}}"#).as_bytes())
            }
        };
        (0..count).flat_map(frame).collect()
    }

    /// How a message begins that arrives.
    const fn message(self) -> &'static [u8] {
        match self {
            Self::Plain => PAYLOAD,
            Self::Answered => br#"{"type":"message","#,
        }
    }
}

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut bytes = match u8::try_from(length) {
        Ok(length @ ..126) => vec![first, 0x80 | length],
        Ok(_) | Err(_) => [&[first, 0xfe], length.to_be_bytes().as_slice()].concat(),
    };
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Bytes before the payload of the frame that these begin with, and to its end, if all of it is there.
fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        // Nothing is said here that is so long.
        127 => return None,
        length => (2, usize::from(length)),
    };
    (bytes.len() >= head + length).then_some((head, head + length))
}

/// A client that counts what it gets.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr, speech: Speech) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let protocol = match speech {
            Speech::Plain => "",
            Speech::Answered => "Sec-WebSocket-Protocol: tidegate.v1\r\n",
        };
        let request = format!(
            "GET /ws/channels/lab.telemetry/messages/a HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut client = Self { stream, input: Vec::new() };
        client.switch().await?;
        if matches!(speech, Speech::Answered) {
            client.frames(1, br#"{"type":"ready","#).await?;
        }
        Ok(client)
    }

    /// Reads the answer to the handshake.
    async fn switch(&mut self) -> Result<()> {
        loop {
            self.read().await?;
            if let Some(end) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                ensure!(self.input.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&self.input));
                self.input.drain(..end + 4);
                return Ok(());
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.input.reserve(READ_BYTES);
        ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the server closed the connection");
        Ok(())
    }

    /// Reads so many messages, each of which begins so.
    async fn frames(&mut self, count: usize, begins: &[u8]) -> Result<()> {
        let mut seen = 0;
        loop {
            let mut at = 0;
            while seen < count
                && let Some((head, end)) = whole(&self.input[at..])
            {
                let payload = &self.input[at + head..at + end];
                match self.input[at] & 0x0f {
                    1 | 2 => {
                        ensure!(payload.starts_with(begins), "{}", String::from_utf8_lossy(payload));
                        seen += 1;
                    }
                    // A ping, whose answer nobody waits for as long as something is sent.
                    9 => {}
                    _ => bail!("the server ends it: {}", String::from_utf8_lossy(payload)),
                }
                at += end;
            }
            self.input.drain(..at);
            if seen == count {
                return Ok(());
            }
            self.read().await?;
        }
    }
}

impl Publisher for Client {
    async fn connect(address: SocketAddr, _: &str) -> Result<Self> {
        Self::open(address, Speech::Answered).await
    }

    async fn publish(&mut self, count: usize) -> Result<()> {
        self.stream.write_all(&Speech::Answered.window(count)).await?;
        self.frames(count, br#"{"type":"accepted","#).await
    }
}

/// Comes, and says goodbye.
async fn visit(address: SocketAddr) -> Result<()> {
    let mut client = Client::open(address, Speech::Plain).await?;
    Ok(client.stream.write_all(&frame(CLOSE, &1_000_u16.to_be_bytes())).await?)
}

/// Messages in a second from one publisher to one subscriber; so many at once, so that no queue is full.
async fn through(address: SocketAddr, speech: Speech) -> Result<f64> {
    let mut subscriber = Client::open(address, speech).await?;
    let mut publisher = Client::open(address, speech).await?;
    let frames = speech.window(WINDOW);
    let (rounds, begun) = (MESSAGES / WINDOW, Instant::now());
    for _ in 0..rounds {
        let send = async {
            publisher.stream.write_all(&frames).await?;
            match speech {
                Speech::Plain => Ok(()),
                Speech::Answered => publisher.frames(WINDOW, br#"{"type":"accepted","#).await,
            }
        };
        tokio::try_join!(send, subscriber.frames(WINDOW, speech.message()))?;
    }
    Ok((rounds * WINDOW) as f64 / begun.elapsed().as_secs_f64())
}

/// Messages delivered in a second, each to a thousand subscribers.
async fn fan_out(address: SocketAddr) -> Result<f64> {
    let mut subscribers = Vec::with_capacity(FAN_OUT.0);
    for _ in 0..FAN_OUT.0 {
        subscribers.push(Client::open(address, Speech::Plain).await?);
    }
    let mut publisher = Client::open(address, Speech::Answered).await?;
    let begun = Instant::now();
    let receive = try_join_all(subscribers.iter_mut().map(|client| client.frames(FAN_OUT.1, PAYLOAD)));
    let send = async {
        for _ in 0..FAN_OUT.1 {
            publisher.publish(1).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok((FAN_OUT.0 * FAN_OUT.1) as f64 / begun.elapsed().as_secs_f64())
}

/// What a server does in a second, by question.
async fn rates(address: SocketAddr) -> Result<[f64; 4]> {
    let connects = connect_rate(async |_| visit(address).await);
    Ok([
        timeout(QUESTION_MAX, connects).await?.context("connects")?,
        timeout(QUESTION_MAX, through(address, Speech::Plain)).await?.context("plain")?,
        timeout(QUESTION_MAX, through(address, Speech::Answered)).await?.context("answered")?,
        timeout(QUESTION_MAX, fan_out(address)).await?.context("fan-out")?,
    ])
}

/// What an idle socket takes of a server that has done nothing yet.
async fn weight(address: SocketAddr, pid: u32) -> Result<f64> {
    let idle = idle(pid, async |_| Client::open(address, Speech::Plain).await);
    timeout(QUESTION_MAX, idle).await?.context("idle")
}

fn adapter() -> Result<Adapter> {
    Adapter::start("memory:", &["--log-level", "warn,adapter=info"])
}

pub(crate) async fn run() -> Result<()> {
    head("WebSocket, broker in process, beside npm's ws", "adapter", "ws");
    let busy = adapter()?;
    let ours = rates(busy.http()).await?;
    drop(busy);
    let peer = match Peer::start()? {
        Some(peer) => Some(rates(peer.address).await?),
        None => None,
    };
    let questions = ["handshakes", "plain, one to one", "tidegate.v1, one to one", "one to a thousand, plain"];
    for (number, what) in questions.into_iter().enumerate() {
        row(what, "/s", ours[number], peer.map(|peer| peer[number]));
    }
    let fresh = adapter()?;
    let ours = weight(fresh.http(), fresh.pid()).await?;
    drop(fresh);
    let peer = match Peer::start()? {
        Some(peer) => Some(weight(peer.address, peer.child.id()).await?),
        None => None,
    };
    row("an idle connection", "KiB", ours, peer);
    if peer.is_none() {
        println!("Node is not installed: nothing stands beside the adapter");
    }
    // Nothing comes back to a publisher that may not subscribe.
    let publishes = MANIFESTS.replacen("{channel: telemetry}", "{channel: telemetry, permissions: [Publish]}", 1);
    timeout(QUESTION_MAX, bare::<Client>("WebSocket, tidegate.v1", Adapter::http, &publishes)).await?
}
