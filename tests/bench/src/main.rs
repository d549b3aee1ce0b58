//! Side-by-side measurements, as ratios within one run: wall time on a shared machine says little by itself.
//!
//! Owns the load and the tables; measures a real adapter process on a real RabbitMQ.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and prints")]

mod beside;
mod coap;
mod decision;
mod mqtt;
mod publish;
mod ws;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    // Only a second call fails, and then it is in force already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let parts = ["decision", "publish", "mqtt", "ws", "coap"];
    if let Some(unknown) = chosen.iter().find(|part| !parts.contains(&part.as_str())) {
        bail!("{unknown}: no such part; there are {}", parts.join(", "));
    }
    let wanted = |part: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == part);
    if wanted("decision") {
        decision::run()?;
    }
    if wanted("publish") {
        tokio::runtime::Runtime::new()?.block_on(publish::run())?;
    }
    // All clients on one thread: what they cost is taken from the same cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if wanted("mqtt") {
        runtime.block_on(mqtt::run())?;
    }
    if wanted("ws") {
        runtime.block_on(ws::run())?;
    }
    // The last, since it keeps to one core from then on.
    if wanted("coap") {
        runtime.block_on(coap::run())?;
    }
    Ok(())
}
