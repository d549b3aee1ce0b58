//! CoAP beside libcoap's server: the same clients in the same run, the server on one core and the clients on another.
//!
//! libcoap's server asks nobody for a key and hands nothing on, so it stands beside the adapter with the broker in process.
//! What each does in a second says little where there are two cores, of which the clients may be the slower one; so it is
//! divided by the time of the processor that the server took, too.

mod dtls;
mod servers;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conformance::coap::{ACK, CON, CONTENT_FORMAT, Datagram, GET, OBSERVE, PUT};
use futures_util::future::try_join_all;
use tokio::net::UdpSocket;
use tokio::time::{timeout, timeout_at};

use crate::beside::{head, idle, row};
use crate::publish::{PAYLOAD, cpu};
use servers::{Kind, Server};

/// How long a load runs at a time.
const LOAD: Duration = Duration::from_secs(1);
/// How often: both servers in turn, since a machine that others use too is not as fast now as it was a moment ago.
const ROUNDS: usize = 5;
/// Sockets, and requests of each that are not answered yet.
const SOCKETS: (usize, usize) = (16, 8);
/// Handshakes at once.
const HANDSHAKES: usize = 16;
/// Those who observe one topic.
const OBSERVERS: usize = 1_000;
/// How long an answer may take: on loopback nothing is lost.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a message and its answer may be on their way where a server is told more than it can take.
const ROUND_MAX: Duration = Duration::from_millis(100);
/// SenML in JSON.
const SENML: u8 = 110;

/// Bytes of the head of a message, and of the tokens that are used here.
const HEAD_BYTES: usize = 4;
const TOKEN_BYTES: usize = 2;

/// A request, all of it but its name.
struct Request(Vec<u8>);

impl Request {
    fn new(message: &Datagram) -> Self {
        Self(Datagram { token: vec![0; TOKEN_BYTES], ..message.clone() }.bytes())
    }

    fn get(target: &str) -> Self {
        Self::new(&Datagram::new(CON, GET, 0, &[]).to(target))
    }

    fn observe(target: &str) -> Self {
        Self::new(&Datagram::new(CON, GET, 0, &[]).to(target).with(OBSERVE, []))
    }

    fn put(target: &str) -> Self {
        Self::new(&Datagram::new(CON, PUT, 0, &[]).to(target).with(CONTENT_FORMAT, [SENML]).carrying(PAYLOAD))
    }

    /// It under this name, by which its token goes too.
    fn named(&mut self, name: u16) -> &[u8] {
        let name = name.to_be_bytes();
        self.0[2..HEAD_BYTES].copy_from_slice(&name);
        self.0[HEAD_BYTES..HEAD_BYTES + TOKEN_BYTES].copy_from_slice(&name);
        &self.0
    }
}

/// Whether the message is a response in an acknowledgement that says that all is well.
fn is_good(message: &[u8]) -> bool {
    matches!(message, [first, code, ..] if *first >> 4 == 4 | ACK && *code >> 5 == 2)
}

/// A client with a port of its own.
struct Client {
    socket: UdpSocket,
    room: [u8; 2_048],
    last: u16,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(address).await?;
        Ok(Self { socket, room: [0; 2_048], last: 0 })
    }

    async fn send(&mut self, request: &mut Request) -> Result<()> {
        self.last = self.last.wrapping_add(1);
        self.socket.send(request.named(self.last)).await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<&[u8]> {
        let count = timeout(ANSWER_MAX, self.socket.recv(&mut self.room)).await.context("nothing comes")??;
        Ok(&self.room[..count])
    }

    async fn answer(&mut self) -> Result<()> {
        let message = self.receive().await?;
        ensure!(is_good(message), "{:?}", Datagram::parse(message));
        Ok(())
    }

    async fn observe(address: SocketAddr, target: &str) -> Result<Self> {
        let mut client = Self::connect(address).await?;
        client.send(&mut Request::observe(target)).await?;
        client.answer().await?;
        Ok(client)
    }

    /// The next message of what it observes, acknowledged where it is to be.
    async fn told(&mut self) -> Result<()> {
        let [first, code, high, low, ..] = *self.receive().await? else { anyhow::bail!("no message") };
        ensure!(code >> 5 == 2, "{code}");
        if first >> 4 & 3 == CON {
            self.socket.send(&[0x40 | ACK << 4, 0, high, low]).await?;
        }
        Ok(())
    }
}

/// What was done, in how many seconds, and in how many of the server's time of a processor.
#[derive(Clone, Copy, Default)]
struct Done {
    count: f64,
    wall: f64,
    spent: f64,
}

impl Done {
    /// What `load` counts.
    async fn by(server: &Server, load: impl Future<Output = Result<usize>>) -> Result<Self> {
        let process = server.pid().to_string();
        let (before, begun) = (cpu(&process)?, Instant::now());
        let count = load.await? as f64;
        Ok(Self { count, wall: begun.elapsed().as_secs_f64(), spent: cpu(&process)? - before })
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.wall += other.wall;
        self.spent += other.spent;
    }

    /// By unit.
    fn rates(self) -> [(&'static str, f64); 2] {
        [("/s", self.count / self.wall), ("/CPU s", self.count / self.spent)]
    }
}

/// Requests that are answered while the load runs.
async fn ask(address: SocketAddr, request: impl Fn() -> Request) -> Result<usize> {
    let begun = Instant::now();
    let clients = (0..SOCKETS.0).map(|_| async {
        let (mut client, mut request) = (Client::connect(address).await?, request());
        for _ in 0..SOCKETS.1 {
            client.send(&mut request).await?;
        }
        let mut count = 0;
        while begun.elapsed() < LOAD {
            client.answer().await?;
            client.send(&mut request).await?;
            count += 1;
        }
        for _ in 0..SOCKETS.1 {
            client.answer().await?;
        }
        anyhow::Ok(count + SOCKETS.1)
    });
    Ok(try_join_all(clients).await?.into_iter().sum())
}

/// Handshakes that come to their end while the load runs.
async fn shake(address: SocketAddr) -> Result<usize> {
    let begun = Instant::now();
    let clients = (0..HANDSHAKES).map(|_| async {
        let mut count = 0;
        while begun.elapsed() < LOAD {
            dtls::Client::connect(address).await?.leave().await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    Ok(try_join_all(clients).await?.into_iter().sum())
}

/// Messages that are delivered while the load runs, to many who observe; the next is published when the first of them has one.
async fn fan_out(server: &Server) -> Result<Done> {
    let target = server.written();
    let mut observers = Vec::with_capacity(OBSERVERS);
    for _ in 0..OBSERVERS {
        observers.push(Client::observe(server.plain, &target).await?);
    }
    let mut first = Client::observe(server.plain, &target).await?;
    let (mut publisher, mut request) = (Client::connect(server.plain).await?, Request::put(&target));
    let until = Instant::now() + LOAD;
    let publish = async {
        while Instant::now() < until {
            publisher.send(&mut request).await?;
            // What is lost among the acknowledgements of so many is made up for by the next.
            let answered = async { tokio::try_join!(publisher.answer(), first.told()) };
            if let Ok(answered) = timeout(ROUND_MAX, answered).await {
                answered?;
            }
        }
        anyhow::Ok(())
    };
    let observe = observers.iter_mut().map(|client| async move {
        let mut count = 0;
        while let Ok(told) = timeout_at(until.into(), client.told()).await {
            told?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    let load = async {
        let ((), counts) = tokio::try_join!(publish, try_join_all(observe))?;
        Ok(counts.into_iter().sum())
    };
    Done::by(server, load).await
}

/// A question about rates.
#[derive(Clone, Copy)]
enum Question {
    Put,
    Get,
    Resources,
    Handshakes,
    FanOut,
}

impl Question {
    const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Resources, Self::Handshakes, Self::FanOut];

    const fn text(self) -> &'static str {
        match self {
            Self::Put => "PUT, confirmable",
            Self::Get => "GET of what was written",
            Self::Resources => "GET /.well-known/core",
            Self::Handshakes => "handshakes, shared key",
            Self::FanOut => "one to a thousand",
        }
    }

    async fn ask(self, server: &Server) -> Result<Done> {
        let address = server.plain;
        match self {
            Self::Put => Done::by(server, ask(address, || Request::put(&server.written()))).await,
            Self::Get => Done::by(server, ask(address, || Request::get(&server.written()))).await,
            Self::Resources => Done::by(server, ask(address, || Request::get(".well-known/core"))).await,
            Self::Handshakes => Done::by(server, shake(server.dtls)).await,
            Self::FanOut => fan_out(server).await,
        }
    }

    /// What each server has done after all rounds. Each round is with servers that have done nothing yet but to be written to.
    async fn answers(self, kinds: &[Kind]) -> Result<Vec<Done>> {
        let mut answers = vec![Done::default(); kinds.len()];
        for _ in 0..ROUNDS {
            for (kind, answer) in kinds.iter().zip(&mut answers) {
                let server = Server::start(*kind)?;
                write(&server).await?;
                answer.add(self.ask(&server).await.context(self.text())?);
            }
        }
        Ok(answers)
    }
}

/// Writes what is read later.
async fn write(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.plain).await?;
    client.send(&mut Request::put(&server.written())).await?;
    client.answer().await
}

/// KiB that a session of DTLS takes, an observer, and one in a session, each of a server that has done nothing yet.
async fn weights(kind: Kind) -> Result<[f64; 3]> {
    let session = {
        let server = Server::start(kind)?;
        idle(server.pid(), async |_| dtls::Client::connect(server.dtls).await).await.context("session")?
    };
    let observer = {
        let server = Server::start(kind)?;
        idle(server.pid(), async |_| Client::observe(server.plain, &server.written()).await)
            .await
            .context("observer")?
    };
    let server = Server::start(kind)?;
    let observe = async |_| {
        let mut client = dtls::Client::connect(server.dtls).await?;
        client.ask(Request::observe(&server.written()).named(1)).await?;
        anyhow::Ok(client)
    };
    Ok([session, observer, idle(server.pid(), observe).await.context("observer over DTLS")?])
}

pub(crate) async fn run() -> Result<()> {
    head("CoAP, broker in process, beside libcoap's server", "adapter", "libcoap");
    let has_peer = servers::is_installed();
    let kinds: &[Kind] = if has_peer { &[Kind::Adapter, Kind::Libcoap] } else { &[Kind::Adapter] };
    for question in Question::ALL {
        let answers = question.answers(kinds).await?;
        let peer = answers.get(1).map(|peer| peer.rates());
        for (which, (unit, ours)) in answers[0].rates().into_iter().enumerate() {
            row(question.text(), unit, ours, peer.map(|peer| peer[which].1));
        }
    }
    let ours = weights(Kind::Adapter).await?;
    let peer = if has_peer { Some(weights(Kind::Libcoap).await?) } else { None };
    let questions = ["an idle session of DTLS", "an observer", "an observer over DTLS"];
    for (number, what) in questions.into_iter().enumerate() {
        row(what, "KiB", ours[number], peer.map(|peer| peer[number]));
    }
    if !has_peer {
        println!("libcoap is not installed (`apt-get install libcoap3-bin`): nothing stands beside the adapter");
    }
    Ok(())
}
