//! What stands beside what: the rows of the tables, and the questions that are asked over more than one protocol.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conformance::Adapter;
use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, QueuePurgeOptions};
use tempfile::TempDir;

use crate::publish::{PAYLOAD, Sink, cpu, properties};

/// Connections that are made one after the other by each of so many.
const CONNECTS: (usize, usize) = (16, 250);
/// Connections that say nothing.
const IDLE: usize = 10_000;
/// Those before them, which bring in what all share.
const IDLE_BEFORE: usize = 100;
/// Messages on their way to be acknowledged.
pub(crate) const WINDOW: usize = 32;
/// Rounds of a single publisher that waits for each answer.
const ROUNDS: usize = 2_000;
/// How long publishers publish through RabbitMQ.
const LOAD: Duration = Duration::from_secs(5);

/// A client whose messages are acknowledged.
pub(crate) trait Publisher: Sized {
    /// Connects, with a name that no other has.
    async fn connect(address: SocketAddr, name: &str) -> Result<Self>;

    /// Sends so many messages at once, and waits until each is acknowledged.
    async fn publish(&mut self, count: usize) -> Result<()>;
}

pub(crate) fn head(what: &str, ours: &str, peer: &str) {
    println!("\n{what}");
    println!("{:>34} {:>8} {ours:>12} {peer:>12} {:>8}", "", "", "ratio");
}

pub(crate) fn row(what: &str, unit: &str, ours: f64, peer: Option<f64>) {
    let (peer, ratio) = match peer {
        Some(peer) => (format!("{peer:.1}"), format!("{:.2}", ours / peer)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    println!("{what:>34} {unit:>8} {ours:>12.1} {peer:>12} {ratio:>8}");
}

/// Connections made in a second, by clients with these numbers that come and go.
pub(crate) async fn connect_rate(visit: impl AsyncFn(usize) -> Result<()>) -> Result<f64> {
    let (visit, begun) = (&visit, Instant::now());
    let clients = (0..CONNECTS.0).map(|number| async move {
        for _ in 0..CONNECTS.1 {
            visit(number).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(clients).await?;
    Ok((CONNECTS.0 * CONNECTS.1) as f64 / begun.elapsed().as_secs_f64())
}

fn resident_kib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
}

/// KiB that a connection takes of this process that is let in and says nothing.
pub(crate) async fn idle<Client>(pid: u32, connect: impl AsyncFn(usize) -> Result<Client>) -> Result<f64> {
    let mut clients = Vec::with_capacity(IDLE_BEFORE + IDLE);
    for number in 0..IDLE_BEFORE {
        clients.push(connect(number).await?);
    }
    let before = resident_kib(pid)?;
    for number in IDLE_BEFORE..IDLE_BEFORE + IDLE {
        clients.push(connect(number).await?);
    }
    let after = resident_kib(pid)?;
    drop(clients);
    Ok((after - before) / IDLE as f64)
}

/// Messages in a second until a durable queue has them, over so many connections.
async fn confirmed<P: Publisher>(address: SocketAddr, connections: usize) -> Result<f64> {
    let begun = Instant::now();
    let publishers = (0..connections).map(|number| async move {
        let mut client = P::connect(address, &format!("p{number}")).await?;
        let mut count = 0;
        while begun.elapsed() < LOAD {
            client.publish(WINDOW).await?;
            count += WINDOW;
        }
        anyhow::Ok(count)
    });
    let count: usize = try_join_all(publishers).await?.into_iter().sum();
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

fn median(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2].as_secs_f64() * 1e6
}

/// The median time of one message, in µs, from a publisher that waits for each acknowledgement.
async fn latency<P: Publisher>(address: SocketAddr) -> Result<f64> {
    let mut client = P::connect(address, "single").await?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        client.publish(1).await?;
        rounds.push(begun.elapsed());
    }
    Ok(median(rounds))
}

async fn bare_latency(sink: &Sink) -> Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let channel = sink.confirming().await?;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let (options, key) = (BasicPublishOptions::default(), "channels.lab.telemetry.a".into());
        let sent = channel.basic_publish("messages".into(), key, options, PAYLOAD, properties()).await?;
        ensure!(sent.await?.is_ack(), "not confirmed");
        rounds.push(begun.elapsed());
    }
    Ok(median(rounds))
}

/// Publishes through RabbitMQ, with these manifests, beside the AMQP client alone.
pub(crate) async fn bare<P: Publisher>(
    what: &str,
    face: impl Fn(&Adapter) -> SocketAddr,
    manifests: &str,
) -> Result<()> {
    let sink = Sink::new().await?;
    let folder = TempDir::with_prefix("tidegate-bench-")?;
    std::fs::write(folder.path().join("all.yaml"), manifests)?;
    let place = folder.path().display().to_string();
    let arguments = ["--broker", &sink.url, "--manifests", &place, "--log-level", "warn,adapter=info"];
    let adapter = Adapter::start_with(&arguments)?;
    let (address, process) = (face(&adapter), adapter.pid().to_string());
    head(&format!("{what}, until a durable queue of RabbitMQ has it, beside the AMQP client alone"), "adapter", "bare");
    let bare = crate::publish::bare(&sink.url, 2 * WINDOW).await?.per_second;
    sink.channel.queue_purge("sink".into(), QueuePurgeOptions::default()).await?;
    let before = cpu(&process)?;
    let rate = confirmed::<P>(address, 2).await?;
    let cpu_us = (cpu(&process)? - before) * 1e6 / (rate * LOAD.as_secs_f64());
    row("two connections, 64 in flight", "/s", rate, Some(bare));
    sink.channel.queue_purge("sink".into(), QueuePurgeOptions::default()).await?;
    row("one at a time, median", "µs", latency::<P>(address).await?, Some(bare_latency(&sink).await?));
    println!("{:>34} {:>8} {cpu_us:>12.1}", "the adapter's CPU for a message", "µs");
    Ok(())
}
