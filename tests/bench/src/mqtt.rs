//! MQTT beside Mosquitto, and beside the AMQP client alone: the same clients in the same run.
//!
//! Mosquitto keeps what it is given in memory and confirms nothing to anybody, so it stands beside the adapter with the
//! broker in process; the AMQP client stands beside the adapter on RabbitMQ, both until a durable queue has each message.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use conformance::mqtt::{Login, packet, text};
use conformance::{Adapter, MANIFESTS};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::beside::{Publisher, WINDOW, bare, connect_rate, head, idle, row};
use crate::publish::PAYLOAD;

const TOPIC: &str = "channels/lab.telemetry/messages/a";
/// Messages of one publisher.
const MESSAGES: usize = 20_000;
/// Subscribers, and messages to each.
const FAN_OUT: (usize, usize) = (1_000, 50);

/// A Mosquitto on loopback, ended with this.
struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    /// Where Debian has it, if it is there.
    fn start() -> Result<Option<Self>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = tempfile::TempDir::with_prefix("tidegate-mosquitto-")?;
        let config = folder.path().join("mosquitto.conf");
        let lines = "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n";
        std::fs::write(&config, format!("listener {port} 127.0.0.1\n{lines}user root\n"))?;
        let started =
            Command::new("mosquitto").arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = started else { return Ok(None) };
        let mosquitto = Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), _folder: folder };
        conformance::until("Mosquitto is up", || std::net::TcpStream::connect(mosquitto.address).is_ok());
        Ok(Some(mosquitto))
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of MQTT 3.1.1 that counts what it gets.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Publisher for Client {
    async fn connect(address: SocketAddr, id: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Login { thing, key, .. } = Login::stored_3("").publisher();
        let body = [text("MQTT"), vec![4, 0xc2, 0, 0], text(id), text(thing), text(key)].concat();
        stream.write_all(&packet(0x10, &body)).await?;
        let mut client = Self { stream, input: Vec::new() };
        let answer = client.packets(1).await?;
        ensure!(answer == [0x20], "not let in");
        Ok(client)
    }

    async fn publish(&mut self, count: usize) -> Result<()> {
        self.stream.write_all(&window(1, count)).await?;
        self.packets(count).await.map(drop)
    }
}

impl Client {
    async fn subscribe(&mut self, qos: u8) -> Result<()> {
        self.stream.write_all(&packet(0x82, &[&[0, 1], &*text(TOPIC), &[qos]].concat())).await?;
        ensure!(self.packets(1).await? == [0x90], "not subscribed");
        Ok(())
    }

    /// The first bytes of the next so many packets.
    async fn packets(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut firsts = Vec::with_capacity(count);
        let mut at = 0;
        loop {
            while firsts.len() < count
                && let Some(length) = whole(&self.input[at..])
            {
                firsts.push(self.input[at]);
                at += length;
            }
            if firsts.len() == count {
                self.input.drain(..at);
                return Ok(firsts);
            }
            self.input.drain(..at);
            at = 0;
            ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the server closed the connection");
        }
    }
}

/// Bytes of the packet that these begin with, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0, 0);
    for (index, byte) in bytes.iter().enumerate().skip(1) {
        length |= usize::from(byte & 127) << shift;
        shift += 7;
        if *byte < 128 {
            let all = index + 1 + length;
            return (bytes.len() >= all).then_some(all);
        }
    }
    None
}

fn publish(qos: u8, id: u16) -> Vec<u8> {
    let name = if qos == 0 { vec![] } else { id.to_be_bytes().to_vec() };
    packet(0x30 | qos << 1, &[text(TOPIC), name, PAYLOAD.to_vec()].concat())
}

/// So many messages.
fn window(qos: u8, count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| publish(qos, u16::try_from(number + 1).unwrap_or(1))).collect()
}

/// Comes, and says goodbye.
async fn visit(address: SocketAddr, number: usize) -> Result<()> {
    let mut client = Client::connect(address, &format!("c{number}")).await?;
    Ok(client.stream.write_all(&[0xe0, 0]).await?)
}

/// Messages in a second from one publisher to one subscriber, both with this QoS; so many at once, so that no queue is full.
async fn through(address: SocketAddr, qos: u8) -> Result<f64> {
    let mut subscriber = Client::connect(address, "subscriber").await?;
    subscriber.subscribe(qos).await?;
    let mut publisher = Client::connect(address, "publisher").await?;
    let messages = window(qos, WINDOW);
    let (mut acknowledged, rounds, begun) = (0_u16, MESSAGES / WINDOW, Instant::now());
    for _ in 0..rounds {
        let send = async {
            publisher.stream.write_all(&messages).await?;
            publisher.packets(if qos > 0 { WINDOW } else { 0 }).await
        };
        tokio::try_join!(send, subscriber.packets(WINDOW))?;
        if qos > 0 {
            let mut acknowledgements = Vec::with_capacity(4 * WINDOW);
            for _ in 0..WINDOW {
                acknowledged = if acknowledged == u16::MAX { 1 } else { acknowledged + 1 };
                acknowledgements.extend([&[0x40, 2], acknowledged.to_be_bytes().as_slice()].concat());
            }
            subscriber.stream.write_all(&acknowledgements).await?;
        }
    }
    Ok((rounds * WINDOW) as f64 / begun.elapsed().as_secs_f64())
}

/// Messages of QoS 0 delivered in a second, each to a thousand subscribers.
async fn fan_out(address: SocketAddr) -> Result<f64> {
    let mut subscribers = Vec::with_capacity(FAN_OUT.0);
    for number in 0..FAN_OUT.0 {
        let mut client = Client::connect(address, &format!("s{number}")).await?;
        client.subscribe(0).await?;
        subscribers.push(client);
    }
    let mut publisher = Client::connect(address, "publisher").await?;
    let begun = Instant::now();
    let receive = try_join_all(subscribers.iter_mut().map(|client| client.packets(FAN_OUT.1)));
    let send = async {
        for id in 0..FAN_OUT.1 {
            publisher.stream.write_all(&publish(1, u16::try_from(id + 1)?)).await?;
            publisher.packets(1).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok((FAN_OUT.0 * FAN_OUT.1) as f64 / begun.elapsed().as_secs_f64())
}

/// Asks both the same questions, one after the other.
async fn beside_mosquitto(ours: (SocketAddr, u32), peer: Option<(SocketAddr, u32)>) -> Result<()> {
    head("MQTT, broker in process, beside Mosquitto", "adapter", "mosquitto");
    let mut answers = Vec::new();
    for (address, pid) in std::iter::once(ours).chain(peer) {
        answers.push([
            connect_rate(async |number| visit(address, number).await).await.context("connect_rate")?,
            through(address, 0).await.context("through0")?,
            through(address, 1).await.context("through1")?,
            fan_out(address).await.context("fan_out")?,
            idle(pid, async |number| Client::connect(address, &format!("i{number}")).await).await.context("idle")?,
        ]);
    }
    let questions = [
        ("connects", "/s"),
        ("QoS 0, one to one", "/s"),
        ("QoS 1, one to one", "/s"),
        ("one to a thousand, QoS 0", "/s"),
        ("an idle connection", "KiB"),
    ];
    for (number, (what, unit)) in questions.into_iter().enumerate() {
        row(what, unit, answers[0][number], answers.get(1).map(|peer| peer[number]));
    }
    Ok(())
}

pub(crate) async fn run() -> Result<()> {
    let mosquitto = Mosquitto::start()?;
    if mosquitto.is_none() {
        println!("\nMosquitto is not installed (`apt-get install mosquitto`): nothing stands beside the adapter");
    }
    let adapter = Adapter::start("memory:", &["--log-level", "warn,adapter=info"])?;
    let peer = mosquitto.as_ref().map(|peer| (peer.address, peer.child.id()));
    beside_mosquitto((adapter.mqtt(), adapter.pid()), peer).await?;
    drop((adapter, mosquitto));
    bare::<Client>("MQTT, QoS 1", Adapter::mqtt, MANIFESTS).await
}
