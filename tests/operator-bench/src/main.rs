//! What a fleet costs: the operator's memory and cold start, how soon a change is acknowledged, how soon a device that
//! loses a right is cut off, and what is asked of the API server.
//!
//! Owns the load and the tables; measures the real programs on a real API server. `THINGS=100000` measures one size.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and prints")]

mod fleet;
mod revocation;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use kube::Client;
use operator_tests::{Ground, Operator, ground};
use serde_json::{Value, json};

/// Changes that are timed.
const CHANGES: usize = 200;
/// Statuses that the operator may write in a second, so that a fleet that is new is done soon.
const WRITES_PER_SECOND: &str = "1000";

fn main() -> Result<()> {
    // Only a second call fails, and then it is in force already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sizes: Vec<usize> = match std::env::var("THINGS") {
        Ok(given) => vec![given.parse().context("THINGS: a number is needed")?],
        Err(_) => vec![1_000, 10_000],
    };
    let runtime = tokio::runtime::Runtime::new()?;
    for things in sizes {
        measure(things, &runtime)?;
    }
    Ok(())
}

fn measure(things: usize, runtime: &tokio::runtime::Runtime) -> Result<()> {
    println!("\n{things} Things, three connections each, on {} Channels", fleet::CHANNELS);
    let ground = ground()?;
    let client = runtime.block_on(ground.cluster.client())?;
    let begun = Instant::now();
    runtime.block_on(fleet::create(&client, things))?;
    row("created, one by one, 32 at once", &seconds(begun.elapsed()));

    // The authority is made by the first operator ever; what is measured is the start of one that finds it.
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    drop(start(&ground, port)?);
    let begun = Instant::now();
    let operator = start(&ground, port)?;
    row("operator: start to ready", &seconds(begun.elapsed()));
    let adapter = ground.adapter_at(port, &[])?;
    row("operator's start to an adapter with the whole table", &seconds(begun.elapsed()));
    row("operator: memory then, peak", &memory(operator.pid())?);
    row("adapter: memory, peak", &memory(adapter.pid())?);
    row("API server: memory, peak", &memory(ground.cluster.api_server_pid()?)?);

    let begun = Instant::now();
    settle(&operator, things)?;
    row("until every status is written (the lease of the one before must end first)", &seconds(begun.elapsed()));
    row("operator: memory with every status, peak", &memory(operator.pid())?);

    let mut spans = runtime.block_on(changes(&client, things))?;
    row("a change to its status, all adapters have it: p50 / p99", &percentiles(&mut spans));
    drop(adapter);
    revocation::run(&ground, &client, runtime, port)?;
    for (who, asked) in requests(&ground)? {
        row(&format!("asked of the API server by {who}"), &asked);
    }
    Ok(())
}

fn start(ground: &Ground, port: u16) -> Result<Operator> {
    ground.operator_with(port, &["--writes-per-second", WRITES_PER_SECOND])
}

fn row(what: &str, figure: &str) {
    println!("  {what:<78} {figure}");
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}

/// The 50th and the 99th of a hundred, and the longest.
fn percentiles(spans: &mut [Duration]) -> String {
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() * percent / 100).min(spans.len() - 1)].as_millis();
    format!("{} ms / {} ms, longest {} ms of {}", at(50), at(99), at(100), spans.len())
}

/// What a process holds, and the most that it held.
fn memory(pid: u32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mebibytes = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.split_whitespace().next().context("no figure")?.parse::<u64>()? / 1_024)
    };
    Ok(format!("{} MiB, {} MiB", mebibytes("VmRSS:")?, mebibytes("VmHWM:")?))
}

/// Waits until nothing more is written.
fn settle(operator: &Operator, things: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60 + things as u64 / 20);
    let written = || operator.metric("tidegate_operator_status_writes_total");
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = written()?;
        if now == before && now > 0 {
            return Ok(());
        }
        before = now;
        ensure!(Instant::now() < deadline, "statuses are still being written: {now}");
    }
}

/// Changes Things one by one, and waits for each until its status says that every adapter has it.
async fn changes(client: &Client, things: usize) -> Result<Vec<Duration>> {
    let api = fleet::things(client);
    let mut spans = Vec::new();
    for number in 0..CHANGES {
        let name = fleet::name(number * things / CHANGES);
        let permissions = json!(["Publish"]);
        let connections = json!([{"channel": fleet::channel(number), "permissions": permissions}]);
        let begun = Instant::now();
        let changed = fleet::merge(&api, &name, &json!({"spec": {"connections": connections}})).await?;
        let generation = changed.metadata.generation;
        let is_said = move |object: &Value| {
            let conditions = object["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|condition| {
                condition["type"] == "Programmed"
                    && condition["status"] == "True"
                    && condition["observedGeneration"].as_i64() == generation
            })
        };
        fleet::until(&api, &name, is_said).await?;
        spans.push(begun.elapsed());
    }
    Ok(spans)
}

/// How often who listed and watched, by the API server's own account.
fn requests(ground: &Ground) -> Result<BTreeMap<&'static str, String>> {
    let log = std::fs::read_to_string(ground.cluster.audit_log()?)?;
    let mut counted: BTreeMap<&'static str, BTreeMap<String, u64>> = BTreeMap::new();
    counted.entry("adapters").or_default();
    for entry in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let who = match entry["user"]["username"].as_str() {
            Some("system:serviceaccount:tidegate:tidegate-operator") => "two operators, one after the other",
            Some("system:serviceaccount:tidegate:adapter") => "adapters",
            Some(_) | None => continue,
        };
        let verb = entry["verb"].as_str().unwrap_or_default().to_owned();
        let counts = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        if entry["stage"] == counts {
            *counted.entry(who).or_default().entry(verb).or_default() += 1;
        }
    }
    let said = |verbs: BTreeMap<String, u64>| {
        let said: Vec<String> = verbs.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
        if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
    };
    Ok(counted.into_iter().map(|(who, verbs)| (who, said(verbs))).collect())
}

/// Runs a piece of work for each number, some at once.
async fn each<F: Future<Output = Result<()>>>(count: usize, work: impl Fn(usize) -> F) -> Result<()> {
    /// At once.
    const AT_ONCE: usize = 32;
    let mut running = futures_util::stream::iter((0..count).map(work)).buffer_unordered(AT_ONCE);
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}
