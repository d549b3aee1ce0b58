//! A confirmed publish over HTTP against the same load published by the AMQP client alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conformance::{Adapter, KEY_1};
use futures_util::future::try_join_all;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use rabbitmq_rig::Rabbit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long each load runs.
const LOAD: Duration = Duration::from_secs(5);
pub(crate) const PAYLOAD: &[u8] = br#"[{"n":"urn:dev:sensor:voltage","u":"V","v":120.1}]"#;

pub(crate) struct Rate {
    pub(crate) per_second: f64,
    cpu_us: f64,
    /// What the load generator took of the cores, where it is another process than what is measured.
    load_us: f64,
}

/// User and system time of a process, in seconds.
pub(crate) fn cpu(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("a name")?.1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

async fn device(address: SocketAddr, until: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST /channels/lab.telemetry/messages/a HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\nContent-Length: {}\r\n\r\n",
        PAYLOAD.len()
    );
    let request = [head.as_bytes(), PAYLOAD].concat();
    let (mut count, mut answer) = (0, vec![0; 1_024]);
    while Instant::now() < until {
        stream.write_all(&request).await?;
        let mut filled = 0;
        while !answer[..filled].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut answer[filled..]).await?;
            ensure!(read > 0, "the adapter closed the connection");
            filled += read;
        }
        ensure!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer[..filled]));
        count += 1;
    }
    Ok(count)
}

async fn over_http(adapter: &Adapter, connections: usize) -> Result<Rate> {
    let (address, process) = (adapter.http(), adapter.pid().to_string());
    let (before, own_before, begun) = (cpu(&process)?, cpu("self")?, Instant::now());
    // All devices on one thread: what they cost is taken from the same two cores.
    let load = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let devices = (0..connections).map(|_| tokio::spawn(device(address, begun + LOAD)));
            let counts: Result<Vec<u64>> = try_join_all(devices).await?.into_iter().collect();
            anyhow::Ok(counts?.iter().sum::<u64>() as f64)
        })
    });
    let count = load.await??;
    let (cpu, own) = (cpu(&process)? - before, cpu("self")? - own_before);
    let per_second = count / begun.elapsed().as_secs_f64();
    Ok(Rate { per_second, cpu_us: cpu * 1e6 / count, load_us: own * 1e6 / count })
}

/// What the adapter says of each message: the same load is as many bytes too.
pub(crate) fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    headers.insert("x-channel".into(), text("lab.telemetry"));
    headers.insert("x-subtopic".into(), text("a"));
    headers.insert("x-thing".into(), text("lab.dev1"));
    headers.insert("x-protocol".into(), text("http"));
    headers.insert("x-received-at".into(), AMQPValue::LongLongInt(1_700_000_000_000_000_000));
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/senml+json".into())
        .with_message_id("019ac6d2-5c0a-7d3e-9c0e-5d1f0c7a7d11".into())
        .with_timestamp(1_700_000_000)
        .with_type("message".into())
        .with_app_id("tidegate".into())
        .with_headers(headers)
}

/// Publishes in batches, each confirmed before the next.
async fn batches(channel: Channel, size: usize, until: Instant) -> Result<u64> {
    let (mut count, properties) = (0, properties());
    while Instant::now() < until {
        let sent = (0..size).map(|_| {
            let (options, key) = (BasicPublishOptions::default(), "channels.lab.telemetry.a".into());
            channel.basic_publish("messages".into(), key, options, PAYLOAD, properties.clone())
        });
        for confirm in try_join_all(sent).await? {
            ensure!(confirm.await?.is_ack(), "not confirmed");
            count += 1;
        }
    }
    Ok(count)
}

pub(crate) async fn bare(url: &str, in_flight: usize) -> Result<Rate> {
    let mut channels = Vec::new();
    for _ in 0..in_flight.min(2) {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.push((connection, channel));
    }
    let (before, begun) = (cpu("self")?, Instant::now());
    let size = in_flight / channels.len();
    let writers = channels.iter().map(|(_, channel)| tokio::spawn(batches(channel.clone(), size, begun + LOAD)));
    let counts: Result<Vec<u64>> = try_join_all(writers).await?.into_iter().collect();
    let count = counts?.iter().sum::<u64>() as f64;
    let cpu = cpu("self")? - before;
    Ok(Rate { per_second: count / begun.elapsed().as_secs_f64(), cpu_us: cpu * 1e6 / count, load_us: 0.0 })
}

/// A RabbitMQ with a durable queue that takes everything.
pub(crate) struct Sink {
    _rabbit: Rabbit,
    pub(crate) url: String,
    connection: Connection,
    pub(crate) channel: Channel,
}

impl Sink {
    pub(crate) async fn new() -> Result<Self> {
        let rabbit = Rabbit::start()?;
        let url = rabbit.url()?;
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString("messages.unrouted".into()));
        channel.exchange_declare("messages".into(), ExchangeKind::Topic, exchange, arguments).await?;
        channel.queue_declare("sink".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind("sink".into(), "messages".into(), "channels.#".into(), options, arguments).await?;
        Ok(Self { _rabbit: rabbit, url, connection, channel })
    }

    /// A channel whose messages are confirmed.
    pub(crate) async fn confirming(&self) -> Result<Channel> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }
}

pub(crate) async fn run() -> Result<()> {
    let sink = Sink::new().await?;
    let (url, channel) = (&sink.url, &sink.channel);
    let adapter = Adapter::start(url, &["--log-level", "warn,adapter=info"])?;

    println!("\nConfirmed publish to a durable queue, {LOAD:?} each ({} bytes)", PAYLOAD.len());
    println!(
        "{:>12} {:>10} {:>10} {:>8} {:>16} {:>16} {:>16}",
        "connections", "HTTP /s", "bare /s", "ratio", "adapter µs/msg", "bare µs/msg", "devices µs/msg"
    );
    for connections in [1, 16, 64] {
        let bare = bare(url, connections).await?;
        channel.queue_purge("sink".into(), lapin::options::QueuePurgeOptions::default()).await?;
        let http = over_http(&adapter, connections).await?;
        channel.queue_purge("sink".into(), lapin::options::QueuePurgeOptions::default()).await?;
        println!(
            "{connections:>12} {:>10.0} {:>10.0} {:>8.2} {:>16.1} {:>16.1} {:>16.1}",
            http.per_second,
            bare.per_second,
            http.per_second / bare.per_second,
            http.cpu_us,
            bare.cpu_us,
            http.load_us
        );
    }
    Ok(())
}
